//! `--userns-remap`: whose subordinate ids the containers' users become (source: moby `daemon/daemon_unix.go`,
//! parseRemappedRoot and setupRemappedRoot, `daemon/internal/usergroup`).

use crate::{Error, Result};
use std::{
    fs::File,
    io::BufReader,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use wharf_spec::{
    idmap::{Range, SubIdError, free_range, map_of, sub_ids},
    plan::{IdMap, IdMaps},
};

/// The user that `default` means, made when missing.
const DEFAULT_USER: &str = "dockremap";
/// How many ids the default user gets.
const DEFAULT_COUNT: u32 = 65_536;

/// Containers run in user namespaces with these ids, unless they say `--userns=host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remap {
    /// The maps of every container.
    pub ids: Arc<IdMaps>,
    /// The host's user and group that are root in containers.
    pub root: (u32, u32),
}

/// What happens when the user that `default` means does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingUser {
    /// It is made, as Docker does.
    Make,
    /// It is an error.
    Refuse,
}

/// A line of passwd or group.
struct Entry {
    name: String,
    id: u32,
}

impl Remap {
    /// What a value of the option means: `default`, `user`, `uid`, `user:group`, `uid:gid`. `None` for nothing and
    /// for root, which cannot be remapped to itself. Blocks.
    ///
    /// # Errors
    /// In Docker's words, when there is no such user or group, or it has no subordinate ids.
    pub fn resolve(option: &str, missing: MissingUser) -> Result<Option<Self>> {
        if option.is_empty() {
            return Ok(None);
        }
        let user = remapped_user(option, missing)?;
        if user.name == "root" {
            tracing::warn!("User namespaces: root cannot be remapped with itself; user namespaces are OFF");
            return Ok(None);
        }
        tracing::info!(user = user.name, "User namespaces: ID ranges will be mapped to subuid/subgid ranges");
        let read =
            |file| ranges_of(&user, file).map_err(|e| refused(format!("error creating ID mappings: {e}")));
        let ids = IdMaps { uids: read("subuid")?, gids: read("subgid")? };
        let root = ids.root().map_err(|e| refused(format!("error creating ID mappings: {e}")))?;
        Ok(Some(Self { ids: Arc::new(ids), root }))
    }

    /// Where the containers of these ids live: `<data-root>/<uid>.<gid>`.
    pub fn data_root(&self, data_root: &Path) -> PathBuf {
        data_root.join(format!("{}.{}", self.root.0, self.root.1))
    }

    /// Makes that directory, and lets the containers' root pass through what is above it (source: moby
    /// `daemon/daemon_unix.go`, setupDaemonRoot). Blocks.
    ///
    /// # Errors
    /// When it cannot be made, or is where that root may not go.
    pub fn prepare_data_root(&self, data_root: &Path) -> Result<PathBuf> {
        let own = self.data_root(data_root);
        for dir in [data_root, &own] {
            crate::config::make_dir(dir, 0o710)?;
            let io = |step| move |source| Error::Io { step, path: dir.into(), source };
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o710)).map_err(io("chmod"))?;
            std::os::unix::fs::chown(dir, Some(0), Some(self.root.1)).map_err(io("chown"))?;
        }
        let closed = |dir: &&Path| **dir != *Path::new("/") && !self.may_enter(dir);
        match own.ancestors().skip(1).find(closed) {
            None => Ok(own),
            Some(_) => Err(refused(format!(
                "a subdirectory in your graphroot path ({}) restricts access to the remapped root uid/gid; please fix by allowing 'o+x' permissions on existing directories",
                own.display()
            ))),
        }
    }

    fn may_enter(&self, dir: &Path) -> bool {
        std::fs::metadata(dir).is_ok_and(|found| {
            let mode = found.mode();
            mode & 0o001 != 0
                || found.uid() == self.root.0 && mode & 0o100 != 0
                || found.gid() == self.root.1 && mode & 0o010 != 0
        })
    }
}

fn refused(text: String) -> Error {
    Error::Refused(text)
}

/// The user whose ids are taken; the group only has to exist.
fn remapped_user(option: &str, missing: MissingUser) -> Result<Entry> {
    let parts: Vec<&str> = option.split(':').collect();
    let (user_part, group_part) = match parts.as_slice() {
        [user] => (*user, None),
        [user, group] => (*user, Some(*group)),
        _ => {
            return Err(refused(format!("Invalid user/group specification in --userns-remap: {option:?}")));
        }
    };
    let user = match user_part.parse::<i32>() {
        Ok(uid) => find("passwd", user_part)
            .map_err(|why| refused(format!("Uid {uid} has no entry in /etc/passwd: {why}")))?,
        Err(_) => named_user(user_part, missing)?,
    };
    match (group_part, user_part.parse::<i32>()) {
        (None, Ok(_)) => find("group", user_part)
            .map_err(|why| refused(format!("Gid {user_part} has no entry in /etc/group: {why}")))?,
        (None, Err(_)) => find("group", &user.name)
            .map_err(|why| refused(format!("Error during gid lookup for {:?}: {why}", user.name)))?,
        (Some(group), _) => find("group", group).map_err(|why| match group.parse::<i32>() {
            Ok(gid) => refused(format!("Gid {gid} has no entry in /etc/passwd: {why}")),
            Err(_) => refused(format!("Error during groupname lookup for {group:?}: {why}")),
        })?,
    };
    Ok(user)
}

fn named_user(name: &str, missing: MissingUser) -> Result<Entry> {
    let is_default = name == "default";
    let wanted = if is_default { DEFAULT_USER } else { name };
    match find("passwd", wanted) {
        Ok(user) => Ok(user),
        Err(_) if is_default && missing == MissingUser::Make => add_user(DEFAULT_USER)
            .and_then(|()| find("passwd", DEFAULT_USER))
            .map_err(|why| refused(format!("Error during {DEFAULT_USER:?} user creation: {why}"))),
        Err(why) => Err(refused(format!("Error during uid lookup for {wanted:?}: {why}"))),
    }
}

/// By name or number: in the file, else wherever the system looks.
fn find(database: &'static str, key: &str) -> Result<Entry, String> {
    let text = std::fs::read(format!("/etc/{database}")).unwrap_or_default();
    match entry(&text, key) {
        Some(entry) => Ok(entry),
        None => ask_system(database, key),
    }
}

fn entry(text: &[u8], key: &str) -> Option<Entry> {
    let number: Option<u32> = key.parse().ok();
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let meant = number.map_or(name == key, |number| id == number);
        meant.then(|| Entry { name: name.to_owned(), id })
    })
}

fn ask_system(database: &'static str, key: &str) -> Result<Entry, String> {
    let output = Command::new("getent").args([database, key]).output();
    let output = output.map_err(|error| format!("unable to find getent command: {error}"))?;
    let found = entry(&output.stdout, key).filter(|_| output.status.success());
    found.ok_or_else(|| format!("getent unable to find entry {key:?} in {database} database"))
}

fn read(file: &'static str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Range>, SubIdError> {
    sub_ids(BufReader::new(File::open(Path::new("/etc").join(file))?), wanted)
}

fn ranges_of(user: &Entry, file: &'static str) -> Result<Vec<IdMap>, SubIdError> {
    let number = user.id.to_string();
    let ranges = read(file, |name| name == user.name || name == number)?;
    map_of(&ranges, file, &user.name)
}

/// Makes a system user with its group and ranges, with the distribution's commands (source: moby
/// `daemon/internal/usergroup/add_linux.go`).
fn add_user(name: &str) -> Result<(), String> {
    let adduser = ["--system", "--shell", "/bin/false", "--no-create-home", "--disabled-login"];
    let adduser = adduser.into_iter().chain(["--disabled-password", "--group", name]);
    match run("adduser", adduser) {
        Err(Failed::Missing) => match run("useradd", ["-r", "-s", "/bin/false", name].into_iter()) {
            Err(Failed::Missing) => Err("cannot add user; no useradd/adduser binary found".to_owned()),
            other => other.map_err(|failed| format!("failed to add user with error: {failed}")),
        },
        other => other.map_err(|failed| format!("failed to add user with error: {failed}")),
    }?;
    for (file, option) in [("subuid", "-v"), ("subgid", "-w")] {
        // Some distributions give ranges to every user.
        let own = read(file, |known| known == name).unwrap_or_default();
        if !own.is_empty() {
            continue;
        }
        let all = read(file, |_| true).unwrap_or_default();
        let (first, count) =
            free_range(&all, DEFAULT_COUNT).ok_or_else(|| format!("can't find available {file} range"))?;
        let range = format!("{first}-{}", first + count - 1);
        run("usermod", [option, range.as_str(), name].into_iter())
            .map_err(|failed| format!("unable to add {file} range to user: {name:?}; {failed}"))?;
    }
    Ok(())
}

enum Failed {
    Missing,
    Said(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such command"),
            Self::Said(text) => f.write_str(text),
        }
    }
}

fn run<'a>(program: &str, args: impl Iterator<Item = &'a str>) -> Result<(), Failed> {
    let output = match Command::new(program).args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Failed::Missing),
        Err(error) => return Err(Failed::Said(error.to_string())),
        Ok(output) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Failed::Said(format!("{}; output: {:?}", output.status, String::from_utf8_lossy(&said))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_name_and_number() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbroken\n7:x:8:8::/:\nme:x:1000:1000::/:\n";
        let find = |key| entry(text, key).map(|e| (e.name, e.id));
        assert_eq!(find("me"), Some(("me".into(), 1000)));
        assert_eq!(find("1000"), Some(("me".into(), 1000)));
        // A number is an id, never a name.
        assert!(find("7").is_none() && find("nobody").is_none());
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        let text = |option: &str| match Remap::resolve(option, MissingUser::Refuse) {
            Err(error) => error.to_string(),
            Ok(found) => format!("{found:?}"),
        };
        assert_eq!(text("a:b:c"), "Invalid user/group specification in --userns-remap: \"a:b:c\"");
        assert!(text("no-such-user").starts_with("Error during uid lookup for \"no-such-user\": "));
        assert!(text("1999999999").starts_with("Uid 1999999999 has no entry in /etc/passwd: "));
        assert!(
            text("root:no-such-group").starts_with("Error during groupname lookup for \"no-such-group\": ")
        );
        assert_eq!(text("root"), "None");
        assert_eq!(text(""), "None");
    }
}
