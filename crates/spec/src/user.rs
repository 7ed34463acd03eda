//! Who a process runs as: `--user` against a container's `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of Docker and runc (source: moby `vendor/github.com/moby/sys/user/user.go`), with two
//! differences on the safe side: files and lines have limits, so that a hostile image costs no memory
//! (CVE-2026-47262), and an entry whose id is no number is skipped where moby takes it for root.
//! Ids are 0 to 2147483647; anything else is refused and never wraps around to root (CVE-2024-40635).

use std::io::{BufRead, ErrorKind};

/// Longest line of a passwd file (bytes).
pub const MAX_PASSWD_LINE: usize = 64 << 10;
/// Longest line of a group file (bytes): its member list may be long.
pub const MAX_GROUP_LINE: usize = 1 << 20;
/// How much of either file is read (bytes); a longer one is refused.
pub const MAX_FILE: usize = 64 << 20;
/// How many supplementary groups a user can have (source: `limits.h`, NGROUPS_MAX).
pub const MAX_GROUPS: usize = 65536;

const MAX_ID: u32 = i32::MAX as u32;

/// Why a user or group cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that is not in the passwd file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// A name that is not in the group file.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is no id.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    /// A line or the whole file is longer than the limits.
    #[error("unable to find user: {file} file is too long")]
    TooLong {
        /// `passwd` or `group`.
        file: &'static str,
    },
    /// More groups than a process can have.
    #[error("user is a member of more than 65536 groups")]
    TooManyGroups,
    /// The file cannot be read.
    #[error("read {file} file: {source}")]
    Read {
        /// `passwd` or `group`.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups of the group file, in its order.
    pub additional_gids: Vec<u32>,
    /// Home directory of the passwd file; `/` when it has none.
    pub home: String,
}

/// Resolves a user as Docker takes it: empty (root), `user`, `uid`, `user:group`, `uid:gid`, `:group`.
/// A number is always an id, never a name. A file that is not there is `None`.
///
/// # Errors
/// When a name is not found, a number is out of range, or a file is too long or unreadable.
pub fn resolve(
    spec: &str,
    passwd: Option<&mut dyn BufRead>,
    group: Option<&mut dyn BufRead>,
) -> Result<User, UserError> {
    let (user_arg, group_arg) = match spec.split_once(':') {
        // What follows a second colon is ignored, as moby's parseLine does.
        Some((user, group)) => (user, group.split(':').next().unwrap_or("")),
        None => (spec, ""),
    };
    let (user_id, group_id) = (parse_id(user_arg)?, parse_id(group_arg)?);
    let mut user = User { uid: 0, gid: 0, additional_gids: Vec::new(), home: "/".into() };
    let found = match passwd {
        Some(passwd) => find_user(passwd, user_arg, user_id)?,
        None => None,
    };
    let name = match (found, user_id) {
        (Some(entry), _) => {
            (user.uid, user.gid) = (entry.uid, entry.gid);
            if !entry.home.is_empty() {
                user.home = entry.home;
            }
            Some(entry.name)
        }
        (None, Some(uid)) => {
            user.uid = uid;
            None
        }
        (None, None) if user_arg.is_empty() => None,
        (None, None) => return Err(UserError::NoUser(user_arg.into())),
    };
    if !group_arg.is_empty() {
        user.gid = match (find_group(group, group_arg, group_id)?, group_id) {
            (Some(gid), _) | (None, Some(gid)) => gid,
            (None, None) => return Err(UserError::NoGroup(group_arg.into())),
        };
    } else if let (Some(name), Some(group)) = (name, group) {
        user.additional_gids = groups_of(group, &name)?;
    }
    Ok(user)
}

/// Resolves `--group-add`: names through the group file, numbers as they are.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_groups(wanted: &[String], group: Option<&mut dyn BufRead>) -> Result<Vec<u32>, UserError> {
    let mut gids = wanted.iter().map(|w| parse_id(w)).collect::<Result<Vec<_>, _>>()?;
    if let Some(group) = group
        && gids.contains(&None)
    {
        lines(group, GROUP, |line| {
            let Some(entry) = parse_group(line) else { return Ok(true) };
            for (name, gid) in wanted.iter().zip(&mut gids) {
                if gid.is_none() && name == entry.name {
                    *gid = Some(entry.gid);
                }
            }
            Ok(gids.contains(&None))
        })?;
    }
    let resolve = |(gid, name): (Option<u32>, &String)| gid.ok_or_else(|| UserError::NoGroup(name.clone()));
    gids.into_iter().zip(wanted).map(resolve).collect()
}

/// A number is an id, within the range; what is no number is `None`. As Go's `strconv.Atoi`: a sign is
/// allowed, blanks are not.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(id) if (0..=i64::from(MAX_ID)).contains(&id) => {
            Ok(Some(u32::try_from(id).map_err(|_| UserError::Range)?))
        }
        _ => Err(UserError::Range),
    }
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// The first matching entry: by id if there is one, by name if not, root for an empty argument.
fn find_user(file: &mut dyn BufRead, arg: &str, id: Option<u32>) -> Result<Option<Entry>, UserError> {
    let mut found = None;
    lines(file, PASSWD, |line| {
        let Some(entry) = parse_user(line) else { return Ok(true) };
        let matches = match id {
            Some(id) => entry.uid == id,
            None if arg.is_empty() => entry.uid == 0,
            None => entry.name == arg,
        };
        if matches {
            found = Some(entry);
        }
        Ok(!matches)
    })?;
    Ok(found)
}

/// `name:password:uid:gid:gecos:home:shell` (source: passwd(5)).
fn parse_user(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = parse_id(fields.nth(1)?).ok()??;
    let gid = parse_id(fields.next()?).ok()??;
    let home = fields.nth(1).unwrap_or("");
    Some(Entry { name: name.into(), uid, gid, home: home.into() })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member` (source: group(5)).
fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = parse_id(fields.nth(1)?).ok()??;
    Some(Group { name, gid, members: fields.next().unwrap_or("") })
}

fn find_group(file: Option<&mut dyn BufRead>, arg: &str, id: Option<u32>) -> Result<Option<u32>, UserError> {
    // A number needs no look into the file.
    let (None, Some(file)) = (id, file) else { return Ok(id) };
    let mut found = None;
    lines(file, GROUP, |line| {
        found = parse_group(line).filter(|g| g.name == arg).map(|g| g.gid);
        Ok(found.is_none())
    })?;
    Ok(found)
}

fn groups_of(file: &mut dyn BufRead, user: &str) -> Result<Vec<u32>, UserError> {
    let mut gids = Vec::new();
    lines(file, GROUP, |line| {
        if let Some(group) = parse_group(line).filter(|g| g.members.split(',').any(|m| m == user)) {
            if gids.len() == MAX_GROUPS {
                return Err(UserError::TooManyGroups);
            }
            gids.push(group.gid);
        }
        Ok(true)
    })?;
    Ok(gids)
}

struct File {
    name: &'static str,
    max_line: usize,
    comments: bool,
}

const PASSWD: File = File { name: "passwd", max_line: MAX_PASSWD_LINE, comments: false };
const GROUP: File = File { name: "group", max_line: MAX_GROUP_LINE, comments: true };

/// Hands over each line, trimmed, empty ones and comments left out, until `line` returns false. A line that
/// is not UTF-8 names nobody we could be asked for and is left out too.
fn lines(
    input: &mut dyn BufRead,
    file: File,
    mut line: impl FnMut(&str) -> Result<bool, UserError>,
) -> Result<(), UserError> {
    let (mut buffer, mut total) = (Vec::new(), 0);
    loop {
        buffer.clear();
        let more = read_line(input, &mut buffer, &file)?;
        total += buffer.len();
        if total > MAX_FILE {
            return Err(UserError::TooLong { file: file.name });
        }
        let text = std::str::from_utf8(&buffer).map(str::trim).unwrap_or("");
        let skip = text.is_empty() || (file.comments && text.starts_with('#'));
        if !skip && !line(text)? || !more {
            return Ok(());
        }
    }
}

/// Reads up to and with the next newline. False at the end of the file. Never takes more than the file's
/// longest line.
fn read_line(input: &mut dyn BufRead, buffer: &mut Vec<u8>, file: &File) -> Result<bool, UserError> {
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(UserError::Read { file: file.name, source }),
        };
        if available.is_empty() {
            return Ok(false);
        }
        let (part, ends) = match available.iter().position(|&b| b == b'\n') {
            Some(at) => (&available[..=at], true),
            None => (available, false),
        };
        if buffer.len() + part.len() > file.max_line {
            return Err(UserError::TooLong { file: file.name });
        }
        buffer.extend_from_slice(part);
        let used = part.len();
        input.consume(used);
        if ends {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        daemon:x:1:1::/:/sbin/nologin\n\
        bob:x:1000:1001:Bob:/home/bob:/bin/sh\n\
        1234:x:7:7::/seven:/bin/sh\n\
        bad:x:abc:0::/bad:/bin/sh\n\
        nohome:x:8:8\n\
        bob:x:2000:2000::/second:/bin/sh";
    const GROUP: &str = "# comment\n  root:x:0:\n\
        wheel:x:10:root,bob\n\
        audio:x:63:bob\n\
        staff:x:50:\n\
        bad:x:-1:bob\n";

    fn user(spec: &str) -> Result<User, UserError> {
        resolve(spec, Some(&mut PASSWD.as_bytes()), Some(&mut GROUP.as_bytes()))
    }

    #[test]
    fn specs_resolve_as_dockers() {
        let cases: [(&str, u32, u32, &[u32], &str); 16] = [
            ("", 0, 0, &[10], "/root"),
            ("root", 0, 0, &[10], "/root"),
            ("0", 0, 0, &[10], "/root"),
            ("+0", 0, 0, &[10], "/root"),
            ("0:", 0, 0, &[10], "/root"),
            (":0", 0, 0, &[], "/root"),
            (":50", 0, 50, &[], "/root"),
            (":staff", 0, 50, &[], "/root"),
            ("bob", 1000, 1001, &[10, 63], "/home/bob"),
            ("1000", 1000, 1001, &[10, 63], "/home/bob"),
            ("1000:", 1000, 1001, &[10, 63], "/home/bob"),
            ("bob:staff", 1000, 50, &[], "/home/bob"),
            ("bob:99", 1000, 99, &[], "/home/bob"),
            ("4000:4001", 4000, 4001, &[], "/"),
            ("4000", 4000, 0, &[], "/"),
            ("nohome", 8, 8, &[], "/"),
        ];
        for (spec, uid, gid, groups, home) in cases {
            let got = user(spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
            assert_eq!((got.uid, got.gid, got.home.as_str()), (uid, gid, home), "{spec}");
            assert_eq!(got.additional_gids, groups, "{spec}");
        }
        // A number is an id even where a user is named so.
        assert_eq!(user("1234").unwrap().uid, 1234);
        assert_eq!(user("2147483647").unwrap().uid, 2_147_483_647);
    }

    #[test]
    fn nobody_becomes_root_by_accident() {
        for spec in
            ["4294967296", "2147483648", "-1", "4294967295", "0:4294967296", "99999999999999999999", "+-0"]
        {
            assert!(user(spec).is_err(), "{spec}");
        }
        let refused = [
            (" 0", "unable to find user  0: no matching entries in passwd file"),
            ("root\0", "unable to find user root\0: no matching entries in passwd file"),
            ("alice", "unable to find user alice: no matching entries in passwd file"),
            ("bob:nogroup", "unable to find group nogroup: no matching entries in group file"),
            ("bad", "unable to find user bad: no matching entries in passwd file"),
            ("-1", "uids and gids must be in range 0-2147483647"),
        ];
        for (spec, text) in refused {
            assert_eq!(user(spec).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn images_without_files_have_numbers_only() {
        let none = |spec| resolve(spec, None, None);
        assert_eq!(none("").unwrap(), User { uid: 0, gid: 0, additional_gids: vec![], home: "/".into() });
        assert_eq!(none("5:6").unwrap().gid, 6);
        assert!(none("root").is_err());
        assert!(none("5:staff").is_err());
    }

    #[test]
    fn group_add_takes_names_and_numbers() {
        let add = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|s| (*s).to_owned()).collect();
            resolve_groups(&names, Some(&mut GROUP.as_bytes()))
        };
        assert_eq!(add(&["audio", "77", "wheel"]).unwrap(), [63, 77, 10]);
        assert_eq!(add(&[]).unwrap(), [0u32; 0]);
        assert!(add(&["nosuch"]).is_err());
        assert!(add(&["4294967296"]).is_err());
    }

    /// Endless input in constant memory.
    struct Endless(&'static [u8]);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for (to, from) in buffer.iter_mut().zip(self.0.iter().cycle()) {
                *to = *from;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn hostile_files_are_refused_in_bounded_memory() {
        let endless = |bytes| BufReader::with_capacity(4096, Endless(bytes));
        let long_line = resolve("bob", Some(&mut endless(b"x")), None);
        assert!(matches!(long_line, Err(UserError::TooLong { file: "passwd" })));
        let long_file = resolve("bob", Some(&mut endless(b"abcdefg\n")), None);
        assert!(matches!(long_file, Err(UserError::TooLong { file: "passwd" })));
        let groups = resolve("root", Some(&mut PASSWD.as_bytes()), Some(&mut endless(b"g:x:1:root\n")));
        assert!(matches!(groups, Err(UserError::TooManyGroups | UserError::TooLong { .. })));
        let binary = resolve("bob", Some(&mut &b"\xff\xfe\nbob:x:3:4::/b:\n"[..]), None);
        assert_eq!(binary.unwrap().uid, 3);
    }
}
