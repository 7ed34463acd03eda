//! The machine and its system.

use std::{fs, sync::OnceLock};
use wharf_spec::Platform;

/// What images run here, in Go's words.
pub(crate) fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "x86" => ("386", ""),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform {
        architecture: architecture.into(),
        os: "linux".into(),
        variant: variant.into(),
        ..Platform::default()
    }
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kernel's release.
pub(super) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The machine's architecture in the kernel's words.
pub(super) fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// All memory in bytes.
pub(crate) fn memory_total() -> u64 {
    static TOTAL: OnceLock<u64> = OnceLock::new();
    *TOTAL.get_or_init(|| {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let kib = line.and_then(|l| l.split_ascii_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    })
}

/// The distribution's name and version (source: os-release(5)).
pub(super) fn distribution() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    parse_os_release(&text.unwrap_or_default())
}

fn parse_os_release(text: &str) -> (String, String) {
    let get = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    (get("PRETTY_NAME").unwrap_or_else(|| "Linux".into()), get("VERSION_ID").unwrap_or_default())
}

/// Open descriptors of this process.
pub(super) fn open_descriptors() -> i64 {
    let count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The directory itself was open while we looked.
    i64::try_from(count.saturating_sub(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_a_name() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(parse_os_release(text), ("Debian GNU/Linux 12 (bookworm)".into(), "12".into()));
        assert_eq!(parse_os_release(""), ("Linux".into(), String::new()));
    }

    #[test]
    fn this_machine() {
        assert_eq!(host_platform().os, "linux");
        assert!(memory_total() > 0 && open_descriptors() > 0);
        assert!(!hostname().is_empty() && !kernel_release().is_empty());
    }
}
