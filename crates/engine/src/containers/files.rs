//! `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` of a container, and its `/dev/shm` where others share it.
//! Everything here blocks.

use super::Container;
use crate::{Error, Result, error::words, networks::Dns};
use rustix::mount::MountFlags;
use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use wharf_network::{
    Forwarding, RESOLVER,
    hosts::Hosts,
    resolv::{DEFAULT_PATH, Flavour, Generated, Overrides, RESOLVED_PATH, ResolvConf},
};

const EMBEDDED: Flavour = Flavour::Embedded { resolver: IpAddr::V4(RESOLVER) };

/// What the files say.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) hostname: String,
    pub(super) domainname: String,
    /// The container's own.
    pub(super) addresses: Vec<IpAddr>,
    /// `--add-host` and links.
    pub(super) extra: Vec<(String, IpAddr)>,
    /// The container has `::1`.
    pub(super) ipv6: bool,
    pub(super) dns: Dns,
    pub(super) resolver: Resolver,
}

/// Who answers the container's questions for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Resolver {
    /// The host's servers, as the host sees them.
    Host,
    /// The host's servers that can be reached from another network.
    #[default]
    Bridge,
    /// Ours, on 127.0.0.11.
    Embedded,
}

/// The target and name of each file.
pub(super) const FILES: [(&str, &str); 3] =
    [("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname"), ("/etc/hosts", "hosts")];

/// Writes the three files of a container that starts.
///
/// # Errors
/// When its directory cannot be written.
pub(super) fn write(dir: &Path, names: &Names) -> Result<()> {
    put(&dir.join("hostname"), format!("{}\n", names.hostname).as_bytes())?;
    put(&dir.join("hosts"), hosts(names).as_bytes())?;
    write_resolv_conf(dir, &resolv_conf(&names.dns, flavour(names)).text)
}

/// The host's network is shared with its `/etc/hosts` (source: moby `daemon/container_operations_unix.go`,
/// buildSandboxOptions, OptionOriginHostsPath).
fn hosts(names: &Names) -> String {
    if names.resolver == Resolver::Host {
        let mut text = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, address) in &names.extra {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        return text;
    }
    let hosts = Hosts {
        hostname: &names.hostname,
        domainname: &names.domainname,
        addresses: &names.addresses,
        extra: &names.extra,
        ipv6: names.ipv6,
    };
    hosts.generate()
}

/// Takes the line of a link's alias out of `/etc/hosts`; what else was written there stays.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn forget_host(dir: &Path, alias: &str) -> Result<()> {
    let path = dir.join("hosts");
    let text =
        fs::read_to_string(&path).map_err(|source| Error::Io { step: "read", path: path.clone(), source })?;
    let is_alias = |line: &&str| line.split_whitespace().nth(1) == Some(alias);
    let rest: String = text.lines().filter(|line| !is_alias(line)).map(|line| format!("{line}\n")).collect();
    put(&path, rest.as_bytes())
}

/// Gives a name another address in the `hosts` of a container that runs: the lines that begin with it (source: moby
/// `daemon/libnetwork/etchosts/etchosts.go`, Update).
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn update_hosts(dir: &Path, name: &str, address: IpAddr) -> Result<()> {
    let path = dir.join("hosts");
    let text =
        fs::read_to_string(&path).map_err(|source| Error::Io { step: "read", path: path.clone(), source })?;
    let changed = with_address(&text, name, address);
    if changed == text { Ok(()) } else { put(&path, changed.as_bytes()) }
}

fn with_address(hosts: &str, name: &str, address: IpAddr) -> String {
    let line = |line: &str| match line.split_once('\t') {
        Some((_, names)) if names.split([' ', '\t', '.']).next() == Some(name) => {
            format!("{address}\t{names}\n")
        }
        _ => format!("{line}\n"),
    };
    hosts.lines().map(line).collect()
}

/// A file that somebody edited since we wrote it stays as it is: its hash is kept beside it.
fn write_resolv_conf(dir: &Path, text: &str) -> Result<()> {
    let (path, hash_path) = (dir.join("resolv.conf"), dir.join("resolv.conf.hash"));
    let old = fs::read(&path).ok();
    let known = fs::read_to_string(&hash_path).ok();
    if let (Some(old), Some(known)) = (&old, known)
        && hash(old) != known.trim()
    {
        return Ok(());
    }
    if old.as_deref() != Some(text.as_bytes()) {
        put(&path, text.as_bytes())?;
        put(&hash_path, hash(text.as_bytes()).as_bytes())?;
    }
    Ok(())
}

fn flavour(names: &Names) -> Flavour {
    match names.resolver {
        Resolver::Host => Flavour::Host,
        Resolver::Bridge => Flavour::Bridge { ipv6: names.ipv6 },
        Resolver::Embedded => EMBEDDED,
    }
}

/// What the embedded DNS server does with what it does not know, for a container with these options.
pub(crate) fn forwarding(dns: &Dns) -> Forwarding {
    resolv_conf(dns, EMBEDDED).forwarding
}

/// Makes a container that runs ask the embedded DNS server from now on.
///
/// # Errors
/// When its directory cannot be written.
pub(crate) fn ask_embedded(container: &Container, dns: &Dns) -> Result<()> {
    write_resolv_conf(container.dir(), &resolv_conf(dns, EMBEDDED).text)
}

fn resolv_conf(dns: &Dns, flavour: Flavour) -> Generated {
    let (source, host) = host_resolv_conf();
    let overrides =
        Overrides { servers: dns.servers.clone(), search: dns.search.clone(), options: dns.options.clone() };
    host.generate(source, &overrides, flavour)
}

fn host_resolv_conf() -> (&'static str, ResolvConf) {
    let read = |path| ResolvConf::parse(&fs::read_to_string(path).unwrap_or_default());
    let default = read(DEFAULT_PATH);
    if default.is_stub() && Path::new(RESOLVED_PATH).exists() {
        return (RESOLVED_PATH, read(RESOLVED_PATH));
    }
    (DEFAULT_PATH, default)
}

fn hash(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes into the file that is there, since running containers may have it mounted.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let io = |source| Error::Io { step: "write", path: path.into(), source };
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    open.and_then(|mut file| file.write_all(bytes)).map_err(io)
}

/// Where the files of a container are: its own, for their targets.
pub(super) fn sources(dir: &Path) -> Vec<(&'static str, String)> {
    FILES.iter().map(|(target, name)| (*target, dir.join(name).to_string_lossy().into_owned())).collect()
}

/// Mounts the `/dev/shm` of a shareable container on the host, where others find it.
///
/// # Errors
/// When it cannot be mounted.
pub(super) fn mount_shm(engine: &crate::Config, container: &Container, size: i64) -> Result<PathBuf> {
    let mounts = container.dir().join("mounts");
    let path = mounts.join("shm");
    let io = |step| {
        let path = path.clone();
        move |source: std::io::Error| Error::Io { step, path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o710).create(&path).map_err(io("make directory"))?;
    engine.give_to_root(&mounts)?;
    wharf_sys::mount::detach_if_mounted(&path).map_err(|e| io("unmount shm")(std::io::Error::other(e)))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let data = std::ffi::CString::new(format!("mode=1777,size={size}")).expect("no zero byte");
    rustix::mount::mount("shm", &path, "tmpfs", flags, data.as_c_str())
        .map_err(|e| io("mounting shm tmpfs")(e.into()))?;
    engine.give_to_root(&path)?;
    Ok(path)
}

/// Takes [`mount_shm`] back. One that is not mounted is no error.
pub(super) fn unmount_shm(container: &Container) {
    let path = container.dir().join("mounts/shm");
    if path.exists()
        && let Err(error) = wharf_sys::mount::detach_if_mounted(&path)
    {
        tracing::warn!(container = %container.id, %error, "shm stays mounted");
    }
}

/// A missing path of the host is made as a directory for `-v`, but not for `--mount` (source: moby
/// `daemon/volume/mounts/mounts.go`, Setup).
///
/// # Errors
/// When a source of `--mount` is missing, or one of `-v` cannot be made.
pub(super) fn make_bind_sources(engine: &crate::Config, container: &Container) -> Result<()> {
    let points = container.with(|state| state.record.mount_points.clone());
    for point in points.values().filter(|p| p.kind == "bind") {
        let source = Path::new(&point.source);
        if source.exists() {
            continue;
        }
        if point.skip_mountpoint_creation {
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                point.source
            )));
        }
        let missing: Vec<_> = source.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(source).map_err(|error| {
            Error::Refused(format!(
                "error while creating mount source path '{}': {}",
                point.source,
                words(&error)
            ))
        })?;
        missing.into_iter().try_for_each(|made| engine.give_to_root(made))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_changes_in_its_lines_only() {
        let hosts = "127.0.0.1\tlocalhost\n172.17.0.2\tdb abc store\n172.17.0.4\tdb2 x\n# a note\n";
        let wanted = "127.0.0.1\tlocalhost\n172.17.0.9\tdb abc store\n172.17.0.4\tdb2 x\n# a note\n";
        let address = IpAddr::from([172, 17, 0, 9]);
        assert_eq!(with_address(hosts, "db", address), wanted);
        assert_eq!(with_address(hosts, "store", address), hosts);
    }

    #[test]
    fn edited_files_stay() {
        let dir = std::env::temp_dir().join(format!("wharf-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut names = Names { hostname: "h1".into(), domainname: "d".into(), ..Default::default() };
        names.addresses = vec!["10.0.0.2".parse().unwrap()];
        names.dns.servers = vec!["10.0.0.53".parse().unwrap()];
        write(&dir, &names).unwrap();
        assert_eq!(fs::read_to_string(dir.join("hostname")).unwrap(), "h1\n");
        assert!(fs::read_to_string(dir.join("hosts")).unwrap().contains("10.0.0.2\th1.d h1\n"));
        let resolv = fs::read_to_string(dir.join("resolv.conf")).unwrap();
        assert!(resolv.contains("nameserver 10.0.0.53"));
        names.dns.servers = vec!["10.0.0.54".parse().unwrap()];
        write(&dir, &names).unwrap();
        assert!(fs::read_to_string(dir.join("resolv.conf")).unwrap().contains("10.0.0.54"));
        fs::write(dir.join("resolv.conf"), "nameserver 1.2.3.4\n").unwrap();
        write(&dir, &names).unwrap();
        assert_eq!(fs::read_to_string(dir.join("resolv.conf")).unwrap(), "nameserver 1.2.3.4\n");
        assert_eq!(sources(&dir).len(), 3);
        fs::remove_dir_all(&dir).unwrap();
    }
}
