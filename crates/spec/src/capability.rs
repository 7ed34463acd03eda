//! Linux capabilities: names, bit numbers, and what Docker makes of `CapAdd` and `CapDrop`.
//!
//! A set is a `u64` mask as in [`crate::plan::Capabilities`]: bit n is capability n of
//! `linux/capability.h`. Source of the behaviour: moby `daemon/pkg/oci/caps`.

use crate::ErrorKind;

/// Every name, at the index that is its number (source: `linux/capability.h`, 5.9 and later).
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Every capability this build knows.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The 14 capabilities of a container that asked for nothing else (source: moby
/// `daemon/pkg/oci/caps/defaults.go`): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub const DOCKER_DEFAULT: u64 = 0xa804_25fb;

/// Docker's word for every capability in `CapAdd` and `CapDrop`.
const EVERYTHING: &str = "ALL";

/// What can be wrong with a capability's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No kernel has it. The name is in the form Docker prints: upper case, with `CAP_`.
    #[error("unknown capability: {0:?}")]
    Unknown(String),
}

impl CapabilityError {
    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_) => ErrorKind::InvalidArgument,
        }
    }
}

/// The number of a capability given by its full name, such as `CAP_CHOWN` (exactly so: the OCI form).
pub fn number(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).map(|index| index as u32)
}

/// The name of capability `number`, if this build knows it.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(number as usize).copied()
}

/// The names in a set, by number; bits beyond the known ones are left out.
pub fn names(set: u64) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, name)| *name).collect()
}

/// A set from full names, unknown ones apart: the OCI runtime ignores those with a warning (source: OCI
/// runtime-spec, config.md, "capabilities").
pub fn set_of<'a>(full_names: impl IntoIterator<Item = &'a str>) -> (u64, Vec<&'a str>) {
    let mut set = 0;
    let mut unknown = Vec::new();
    for full_name in full_names {
        match number(full_name) {
            Some(bit) => set |= 1 << bit,
            None => unknown.push(full_name),
        }
    }
    (set, unknown)
}

/// Docker's form of what a user wrote in `CapAdd` or `CapDrop`: upper case, `CAP_` in front, `ALL` as it is.
///
/// # Errors
/// [`CapabilityError::Unknown`] for the first name that is none.
pub fn normalize<S: AsRef<str>>(written: &[S]) -> Result<Vec<String>, CapabilityError> {
    written.iter().map(|one| normalize_one(one.as_ref())).collect()
}

fn normalize_one(written: &str) -> Result<String, CapabilityError> {
    let upper = written.to_uppercase();
    if upper == EVERYTHING {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    match number(&full) {
        Some(_) => Ok(full),
        None => Err(CapabilityError::Unknown(full)),
    }
}

/// Which capabilities a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it has without asking, [`DOCKER_DEFAULT`] as a rule.
    pub basics: u64,
    /// `CapAdd`, as written.
    pub add: &'a [String],
    /// `CapDrop`, as written.
    pub drop: &'a [String],
    /// `Privileged`: everything, `add` and `drop` are not looked at.
    pub privileged: bool,
}

/// What it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The set.
    pub set: u64,
    /// Asked for by name, but not available here. Docker refuses such a container; Wharf starts it without
    /// them and warns, so that a daemon with fewer privileges still runs what does not need them.
    pub unavailable: u64,
}

/// Applies a request (source: moby `TweakCapabilities`): privileged gets all that is `available`; `ALL` in
/// `add` is all available without `drop`; else `ALL` in `drop` leaves only `add`; else drops are taken from
/// the basics and then adds are put in, so that a name in both is added.
///
/// `available` is what can be given at all: the daemon's own bounding set.
///
/// # Errors
/// [`CapabilityError::Unknown`], unless privileged.
pub fn grant(request: Request<'_>, available: u64) -> Result<Granted, CapabilityError> {
    if request.privileged {
        return Ok(Granted { set: available & ALL, unavailable: 0 });
    }
    let add = Asked::parse(request.add)?;
    let drop = Asked::parse(request.drop)?;
    let wanted = if add.everything {
        available & ALL & !drop.named
    } else if drop.everything {
        add.named
    } else {
        request.basics & !drop.named | add.named
    };
    Ok(Granted { set: wanted & available, unavailable: add.named & !available })
}

/// One of the two lists, parsed.
struct Asked {
    everything: bool,
    named: u64,
}

impl Asked {
    fn parse(written: &[String]) -> Result<Self, CapabilityError> {
        let normal = normalize(written)?;
        let (named, _) = set_of(normal.iter().map(String::as_str));
        Ok(Self { everything: normal.iter().any(|one| one == EVERYTHING), named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(name: &str) -> u64 {
        1 << number(name).unwrap()
    }

    fn granted(add: &[&str], drop: &[&str]) -> u64 {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (add, drop) = (own(add), own(drop));
        let request = Request { basics: DOCKER_DEFAULT, add: &add, drop: &drop, privileged: false };
        grant(request, ALL).unwrap().set
    }

    #[test]
    fn names_stand_at_their_kernel_numbers() {
        for (name, value) in
            [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_MKNOD", 27), ("CAP_CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(number(name), Some(value));
            assert_eq!(super::name(value), Some(name));
        }
        assert_eq!(name(41), None);
        assert_eq!(ALL, 0x1ff_ffff_ffff);
    }

    #[test]
    fn docker_default_is_the_documented_fourteen() {
        let mut got = names(DOCKER_DEFAULT);
        got.sort_unstable();
        let want = "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD \
                    CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID \
                    CAP_SYS_CHROOT";
        assert_eq!(got, want.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn spelling_is_dockers() {
        assert_eq!(
            normalize(&["net_admin", "CAP_Sys_Time", "all"]).unwrap(),
            ["CAP_NET_ADMIN", "CAP_SYS_TIME", "ALL"]
        );
        for (written, message) in [
            ("bogus", "unknown capability: \"CAP_BOGUS\""),
            ("CAP_", "unknown capability: \"CAP_\""),
            ("", "unknown capability: \"CAP_\""),
            ("CAP_ALL", "unknown capability: \"CAP_ALL\""),
        ] {
            assert_eq!(normalize(&[written]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn adds_and_drops_combine_as_in_docker() {
        assert_eq!(granted(&[], &[]), DOCKER_DEFAULT);
        assert_eq!(
            granted(&["NET_ADMIN"], &["MKNOD"]),
            DOCKER_DEFAULT & !bit("CAP_MKNOD") | bit("CAP_NET_ADMIN")
        );
        assert_eq!(granted(&["ALL"], &["CHOWN"]), ALL & !bit("CAP_CHOWN"));
        assert_eq!(granted(&["CHOWN"], &["ALL"]), bit("CAP_CHOWN"));
        assert_eq!(granted(&[], &["ALL"]), 0);
        assert_eq!(
            granted(&["ALL"], &["ALL"]),
            ALL,
            "ALL in add is looked at first, ALL in drop names nothing"
        );
        assert_eq!(granted(&["CHOWN"], &["CHOWN"]), DOCKER_DEFAULT, "drops go first");
    }

    #[test]
    fn what_is_not_available_is_left_out_and_told() {
        let add = ["SYS_RESOURCE".to_owned()];
        let request = Request { basics: DOCKER_DEFAULT, add: &add, drop: &[], privileged: false };
        let here = ALL & !bit("CAP_SYS_RESOURCE");
        assert_eq!(
            grant(request, here).unwrap(),
            Granted { set: DOCKER_DEFAULT, unavailable: bit("CAP_SYS_RESOURCE") }
        );
        let privileged = Request { privileged: true, add: &["nonsense".to_owned()], ..request };
        assert_eq!(grant(privileged, here).unwrap(), Granted { set: here, unavailable: 0 });
    }

    #[test]
    fn oci_names_are_exact_and_unknown_ones_come_back() {
        assert_eq!(set_of(["CAP_KILL", "kill", "CAP_NEW"]), (1 << 5, vec!["kill", "CAP_NEW"]));
    }
}
