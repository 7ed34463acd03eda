//! `--device host[:container][:rwm]` and `--device-cgroup-rule` (source: docker/cli
//! `cli/command/container/opts.go`).

use std::path::Path;
use wharf_api::container::DeviceMapping;

/// Whether it is the name of a CDI device, `vendor.com/class=name`, and no path.
pub(crate) fn is_cdi(device: &str) -> bool {
    let Some((kind, name)) = device.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.ends_with(|c: char| c.is_ascii_alphanumeric())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let name_fits =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b));
    word(vendor) && word(class) && name_fits(name)
}

/// Reads one `--device`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(device: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = device.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(format!("bad format for path: {device}")),
    };
    if host.is_empty() {
        return Err(format!("bad format for path: {device}"));
    }
    if !is_mode(mode) {
        return Err(format!("bad mode specified: {mode}"));
    }
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    let clean = |path: &str| super::volume::clean(Path::new(path));
    let cleaned_host = if host == container { clean(host) } else { host.to_owned() };
    Ok(DeviceMapping {
        path_on_host: cleaned_host,
        path_in_container: clean(container),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `r`, `w` and `m`, each at most once.
fn is_mode(mode: &str) -> bool {
    let times = |c: char| mode.matches(c).count();
    !mode.is_empty() && mode.chars().all(|c| "rwm".contains(c)) && "rwm".chars().all(|c| times(c) <= 1)
}

/// Whether the text is a rule such as `c 1:3 rwm`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_rule(rule: &str) -> Result<(), String> {
    let number = |s: &str| s == "*" || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let fits = match rule.split(' ').collect::<Vec<_>>().as_slice() {
        [kind, device, access] => {
            matches!(*kind, "a" | "b" | "c")
                && device.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("invalid device cgroup format '{rule}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_docker_does() {
        let shown = |text: &str| match parse(text) {
            Ok(d) => format!("{} {} {}", d.path_on_host, d.path_in_container, d.cgroup_permissions),
            Err(error) => error,
        };
        assert_eq!(shown("/dev/fuse"), "/dev/fuse /dev/fuse rwm");
        assert_eq!(shown("/dev/fuse:r"), "/dev/fuse /dev/fuse r");
        assert_eq!(shown("/dev/a:/dev/b"), "/dev/a /dev/b rwm");
        assert_eq!(shown("/dev/a:/dev/b:rw"), "/dev/a /dev/b rw");
        assert_eq!(shown("/dev/a:/dev/b:x"), "bad mode specified: x");
        assert_eq!(shown("/dev/a:b"), "b is not an absolute path");
        assert_eq!(shown("a"), "a is not an absolute path");
        assert_eq!(shown(""), "bad format for path: ");
        assert_eq!(shown("a:b:c:d"), "bad format for path: a:b:c:d");
        assert!(is_cdi("vendor.com/class=name") && !is_cdi("/dev/x") && !is_cdi("/dev/x=y"));
    }

    #[test]
    fn rules_are_checked() {
        for good in ["c 1:3 rwm", "a *:* m", "b 8:* r"] {
            assert_eq!(check_rule(good), Ok(()), "{good}");
        }
        for bad in ["x 1:3 r", "c 1 r", "c 1:3", "c 1:3 rwmr", "c a:3 r", "c  1:3 r"] {
            assert!(check_rule(bad).is_err(), "{bad}");
        }
    }
}
