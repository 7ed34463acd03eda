//! The mount of a local volume with options (source: moby `daemon/volume/local/local_unix.go`, moby/sys `mount`).
//! Everything here blocks.

use crate::{Error, Result, error::words};
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::{
    ffi::CString,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
};
use wharf_api::StringMap;

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalMount {
    kind: String,
    device: String,
    options: String,
}

/// Words of `o=`, sorted out.
#[derive(Debug, PartialEq)]
struct Words {
    flags: MountFlags,
    propagation: MountPropagationFlags,
    /// What the file system gets.
    data: String,
}

impl LocalMount {
    /// The mount that options ask for, if they ask for one.
    pub(super) fn of(options: Option<&StringMap>) -> Option<Self> {
        let options = options?;
        let get = |key: &str| options.get(key).cloned().unwrap_or_default();
        let wanted = Self { kind: get("type"), device: get("device"), options: get("o") };
        (!wanted.kind.is_empty() || !wanted.device.is_empty()).then_some(wanted)
    }

    /// Mounts it.
    ///
    /// # Errors
    /// `failed to mount local volume: mount ...`, without passwords.
    pub(super) fn mount(&self, target: &Path) -> Result<()> {
        if self.device.is_empty() {
            return Err(Error::Refused("missing device in volume options".into()));
        }
        let (device, options) = self.resolved(resolve)?;
        self.mount_resolved(&device, &sort_out(&options), target).map_err(|why| {
            let why = match password(&self.options) {
                Some(password) => why.replacen(&format!("password={password}"), "password=********", 1),
                None => why,
            };
            Error::Refused(format!("failed to mount local volume: {why}"))
        })
    }

    /// Device and options as the kernel takes them: it knows no names of hosts.
    fn resolved(&self, resolve: impl Fn(&str) -> Result<IpAddr, String>) -> Result<(String, String)> {
        let (mut device, mut options) = (self.device.clone(), self.options.clone());
        let resolve = |name: &str| {
            resolve(name).map_err(|why| {
                Error::Refused(format!("error resolving passed in network volume address: {why}"))
            })
        };
        if !matches!(self.kind.as_str(), "nfs" | "cifs") {
            return Ok((device, options));
        }
        let address = options.split(',').find_map(|word| word.strip_prefix("addr=")).map(str::to_owned);
        if let Some(name) = address.filter(|address| !address.is_empty()) {
            if name.parse::<std::net::Ipv4Addr>().is_err() {
                options = options.replacen(&format!("addr={name}"), &format!("addr={}", resolve(&name)?), 1);
            }
        } else if self.kind == "cifs"
            && let Some((before, rest)) = device.split_once("//")
        {
            let (host, share) = rest.split_once('/').unwrap_or((rest, ""));
            if !host.is_empty() && host.parse::<IpAddr>().is_err() {
                device = format!("{before}//{}/{share}", resolve(host)?);
            }
        }
        Ok((device, options))
    }

    fn mount_resolved(&self, device: &str, words: &Words, target: &Path) -> Result<(), String> {
        let Words { flags, propagation, data } = words;
        let failed = |what: &str, flags: u32, data: &str, errno: rustix::io::Errno| {
            let flags = if flags == 0 { String::new() } else { format!(", flags: {flags:#x}") };
            let data = if data.is_empty() { String::new() } else { format!(", data: {data}") };
            format!("{what}{}{flags}{data}: {}", target.display(), self::words(&errno.into()))
        };
        let text = CString::new(data.as_str()).map_err(|_| "mount options hold a zero byte".to_owned())?;
        rustix::mount::mount(device, target, self.kind.as_str(), *flags, text.as_c_str())
            .map_err(|errno| failed(&format!("mount {device}:"), flags.bits(), data, errno))?;
        let finished = self.finish(*flags, *propagation, target);
        finished.map_err(|(step, errno)| {
            // Half a mount is none.
            let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            failed(&format!("{step} "), flags.bits(), "", errno)
        })
    }

    /// A bind mount takes flags and propagation only when it is there.
    fn finish(
        &self,
        flags: MountFlags,
        propagation: MountPropagationFlags,
        target: &Path,
    ) -> Result<(), (&'static str, rustix::io::Errno)> {
        if !propagation.is_empty() {
            rustix::mount::mount_change(target, propagation).map_err(|errno| ("remount", errno))?;
        }
        let own = flags - MountFlags::BIND - MountFlags::from_bits_retain(REC);
        if flags.contains(MountFlags::BIND) && !own.is_empty() {
            rustix::mount::mount_remount(target, MountFlags::BIND | own, c"")
                .map_err(|errno| ("remount-ro", errno))?;
        }
        Ok(())
    }
}

/// `MS_REC`, which rustix has as a propagation flag only.
const REC: u32 = MountPropagationFlags::REC.bits();

fn resolve(name: &str) -> Result<IpAddr, String> {
    let mut found = (name, 0)
        .to_socket_addrs()
        .map_err(|_| format!("lookup {name}: no such host"))?
        .map(|address| address.ip());
    found.next().ok_or_else(|| format!("lookup {name}: no such host"))
}

fn password(options: &str) -> Option<&str> {
    options.split(',').find_map(|word| word.strip_prefix("password="))
}

/// Flags are flags, the rest is data (source: moby/sys `mount/flags_linux.go`). Unlike there, `defaults` is no data.
fn sort_out(options: &str) -> Words {
    let mut words = Words {
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        data: String::new(),
    };
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        if let Some((flag, set)) = flag(word) {
            words.flags.set(flag, set);
        } else if let Some(propagation) = propagation(word) {
            words.propagation |= propagation;
        } else {
            data.push(word);
        }
    }
    words.data = data.join(",");
    words
}

fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND | MountFlags::from_bits_retain(REC), true),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    use MountPropagationFlags as P;
    let kind = match word.strip_prefix('r').unwrap_or(word) {
        "private" => P::PRIVATE,
        "shared" => P::SHARED,
        "slave" => P::DOWNSTREAM,
        "unbindable" => P::UNBINDABLE,
        _ => return None,
    };
    let recursive = word.starts_with('r');
    Some(if recursive { kind | P::REC } else { kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, device: &str, options: &str) -> LocalMount {
        LocalMount { kind: kind.into(), device: device.into(), options: options.into() }
    }

    #[test]
    fn words_are_flags_or_data() {
        let words = sort_out("rbind,ro,nosuid,exec,rslave,size=1m,uid=5");
        let flags =
            MountFlags::BIND | MountFlags::from_bits_retain(REC) | MountFlags::RDONLY | MountFlags::NOSUID;
        assert_eq!((words.flags, words.data.as_str()), (flags, "size=1m,uid=5"));
        assert_eq!(words.propagation, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
        assert!(sort_out("noexec,exec,ro,rw").flags.is_empty());
    }

    #[test]
    fn hosts_are_looked_up() {
        let resolve = |name: &str| match name {
            "files" => Ok(IpAddr::from([10, 0, 0, 7])),
            other => Err(format!("lookup {other}: no such host")),
        };
        let of = |kind, device, options| {
            mount(kind, device, options).resolved(resolve).map_err(|error| error.to_string())
        };
        let pair = |device: &str, options: &str| Ok((device.to_owned(), options.to_owned()));
        assert_eq!(of("nfs", ":/x", "addr=files,rw"), pair(":/x", "addr=10.0.0.7,rw"));
        assert_eq!(of("nfs", ":/x", "addr=1.2.3.4"), pair(":/x", "addr=1.2.3.4"));
        assert_eq!(of("cifs", "//files/share/a", "user=u"), pair("//10.0.0.7/share/a", "user=u"));
        assert_eq!(of("tmpfs", "files", "addr=files"), pair("files", "addr=files"));
        assert_eq!(
            of("nfs", ":/x", "addr=nosuch"),
            Err("error resolving passed in network volume address: lookup nosuch: no such host".into())
        );
    }

    #[test]
    fn failures_are_dockers_and_keep_passwords() {
        let dir = tempfile::tempdir().unwrap();
        let told = |mount: LocalMount| mount.mount(dir.path()).unwrap_err().to_string();
        let at = dir.path().display();
        assert_eq!(
            told(mount("nosuchfs", "dev", "ro,password=secret,x")),
            format!(
                "failed to mount local volume: mount dev:{at}, flags: 0x1, data: password=********,x: no such device"
            )
        );
        assert_eq!(
            told(mount("none", "/no/such", "bind")),
            format!(
                "failed to mount local volume: mount /no/such:{at}, flags: 0x1000: no such file or directory"
            )
        );
        assert_eq!(told(mount("tmpfs", "", "")), "missing device in volume options");
    }
}
