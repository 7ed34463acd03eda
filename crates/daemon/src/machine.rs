//! Whether the machine is going down: asked once, when the daemon is told to stop.

use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the accounting of init programs is (source: utmp(5)).
const UTMP: &str = "/run/utmp";
/// `RUN_LVL` of utmp(5): such a record has the runlevel where others have a process id.
const RUN_LVL: i16 = 1;
/// Bytes of a record.
const RECORD: usize = 384;

/// What systemd says, or another init program has noted as its runlevel.
pub(crate) async fn goes_down() -> bool {
    if systemd_stops().await {
        return true;
    }
    let utmp = tokio::fs::read(UTMP).await.unwrap_or_default();
    matches!(runlevel(&utmp), Some('0' | '6'))
}

/// systemd is `stopping` from the moment that a job for shutdown.target is queued (source: systemctl(1),
/// is-system-running). Where it is not the init program it says `offline`.
async fn systemd_stops() -> bool {
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, systemctl.output()).await {
        Ok(Ok(said)) => said.stdout.trim_ascii() == b"stopping",
        Ok(Err(error)) => {
            tracing::debug!(%error, "no systemctl to ask whether the machine goes down");
            false
        }
        Err(_) => {
            tracing::warn!("systemctl does not say whether the machine goes down");
            false
        }
    }
}

/// The runlevel of the last record that has one.
fn runlevel(utmp: &[u8]) -> Option<char> {
    utmp.chunks_exact(RECORD).filter_map(runlevel_of).next_back()
}

fn runlevel_of(record: &[u8]) -> Option<char> {
    let kind = i16::from_ne_bytes(record[..2].try_into().ok()?);
    let pid = i32::from_ne_bytes(record[4..8].try_into().ok()?);
    // The one before is in the byte above.
    let [now, ..] = pid.to_le_bytes();
    (kind == RUN_LVL).then_some(char::from(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: i16, pid: i32) -> Vec<u8> {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend([0, 0]);
        record.extend(pid.to_ne_bytes());
        record.resize(RECORD, 7);
        record
    }

    #[test]
    fn runlevels_are_found() {
        let level = |now: u8, before: u8| i32::from(now) + 256 * i32::from(before);
        let file = [record(2, 0), record(1, level(b'2', b'N')), record(7, 1234)].concat();
        assert_eq!(runlevel(&file), Some('2'));
        let file = [file, record(1, level(b'6', b'2'))].concat();
        assert_eq!(runlevel(&file), Some('6'));
        assert_eq!(runlevel(&file[..300]), None);
        assert_eq!(runlevel(&[]), None);
    }
}
