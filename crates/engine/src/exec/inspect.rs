//! `GET /exec/{id}/json`

use super::{Execs, Progress};
use crate::Result;
use wharf_api::container::{ExecInspect, ExecProcessConfig};

impl Execs {
    /// What is known of an exec.
    ///
    /// # Errors
    /// `No such exec instance: ...`.
    pub fn inspect(&self, id: &str) -> Result<ExecInspect> {
        let exec = self.get(id)?;
        self.container(&exec)?;
        let (running, exit_code, pid) = match *exec.progress.borrow() {
            Progress::Created => (false, None, 0),
            Progress::Running { pid } => (true, None, pid),
            Progress::Ended { code, .. } => (false, Some(i64::from(code)), 0),
        };
        let request = &exec.request;
        let (entrypoint, arguments) = exec.command.split_first().map_or_else(
            || (String::new(), Vec::new()),
            |(program, arguments)| (program.clone(), arguments.to_vec()),
        );
        Ok(ExecInspect {
            id: exec.id.to_string(),
            running,
            exit_code,
            process_config: ExecProcessConfig {
                tty: request.tty,
                entrypoint,
                arguments: Some(arguments),
                privileged: Some(request.privileged),
                user: exec.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: exec.container.to_string(),
            detach_keys: base64(&exec.detach_keys_shown()),
            pid: pid.into(),
        })
    }
}

impl super::Exec {
    /// Only keys that were asked for are shown.
    fn detach_keys_shown(&self) -> Vec<u8> {
        if self.request.detach_keys.is_empty() { Vec::new() } else { self.detach_keys.clone() }
    }
}

/// Go writes bytes as base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = if place <= group.len() {
                char::from(ALPHABET[(n >> (18 - 6 * place) & 63) as usize])
            } else {
                '='
            };
            text.push(digit);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[16, 17], "EBE=")]
        {
            assert_eq!(base64(bytes), text);
        }
    }
}
