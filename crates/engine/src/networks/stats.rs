//! Traffic of a container's interfaces, for `GET /containers/{id}/stats`.

use super::Networks;
use crate::{Error, Result};
use std::collections::BTreeMap;
use wharf_api::container::NetworkStats;

impl Networks {
    /// Traffic of a container's interfaces, by name, without its loopback. Blocks.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn stats(&self, pid: i32) -> Result<BTreeMap<String, NetworkStats>> {
        // A process's net/dev is that of its network namespace: nobody needs to enter it (proc_pid_net(5)).
        let path = std::path::PathBuf::from(format!("/proc/{pid}/net/dev"));
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Io { step: "read", path, source })?;
        Ok(text.lines().filter_map(interface).filter(|(name, _)| name != "lo").collect())
    }
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop ...`
fn interface(line: &str) -> Option<(String, NetworkStats)> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = numbers[..]
    else {
        return None;
    };
    let stats = NetworkStats {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..NetworkStats::default()
    };
    Some((name.trim().to_owned(), stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let (name, stats) = interface("  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!((name.as_str(), stats.rx_bytes, stats.rx_dropped), ("eth0", 1, 4));
        assert_eq!((stats.tx_bytes, stats.tx_dropped), (9, 12));
        assert!(interface("Inter-|   Receive").is_none());
        assert!(interface(" face |bytes: packets").is_none());
    }
}
