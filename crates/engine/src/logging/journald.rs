//! `journald` (source: moby `daemon/logger/journald/journald.go`; systemd, "Native Journal Protocol").

use super::{Message, Options, Origin, unknown, wire::Wire};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use wharf_logs::Stream;

const SOCKET: &str = "/run/systemd/journal/socket";

const ERROR: &str = "3";
const INFO: &str = "6";

/// The machine's journal.
#[derive(Debug, Clone)]
pub(crate) struct Journald {
    /// Tells the messages of this run of the driver from others'.
    epoch: String,
    ordinal: Arc<AtomicU64>,
}

impl Journald {
    pub(super) fn parse(options: &Options) -> Result<Self, String> {
        if let Some(key) = unknown(options, &[]) {
            return Err(format!("unknown log opt '{key}' for journald log driver"));
        }
        let epoch = wharf_spec::ContainerId::from_random(crate::random::bytes32()).to_string();
        Ok(Self { epoch, ordinal: Arc::default() })
    }

    pub(super) async fn connect(&self) -> io::Result<Wire> {
        Wire::unix_packets(Path::new(SOCKET))
            .map_err(|_| io::Error::other("journald is not enabled on this host"))
    }

    pub(super) fn encode(&self, origin: &Origin, message: &Message) -> io::Result<Vec<Vec<u8>>> {
        let mut packet = Vec::with_capacity(512 + message.line.len());
        let mut put = |key: &str, value: &[u8]| field(&mut packet, key, value);
        put("PRIORITY", if message.stream == Stream::Stderr { ERROR } else { INFO }.as_bytes());
        put("MESSAGE", &message.line);
        put("CONTAINER_ID", origin.id.get(..12).unwrap_or(&origin.id).as_bytes());
        put("CONTAINER_ID_FULL", origin.id.as_bytes());
        put("CONTAINER_NAME", origin.name.as_bytes());
        put("CONTAINER_TAG", origin.tag.as_bytes());
        put("IMAGE_NAME", origin.image.as_bytes());
        put("SYSLOG_IDENTIFIER", origin.tag.as_bytes());
        put("SYSLOG_TIMESTAMP", message.time.to_string().as_bytes());
        put("CONTAINER_LOG_EPOCH", self.epoch.as_bytes());
        let ordinal = self.ordinal.fetch_add(1, Ordering::Relaxed) + 1;
        put("CONTAINER_LOG_ORDINAL", ordinal.to_string().as_bytes());
        if let Some(partial) = &message.partial {
            put("CONTAINER_PARTIAL_ID", partial.id.as_bytes());
            put("CONTAINER_PARTIAL_ORDINAL", partial.ordinal.to_string().as_bytes());
            put("CONTAINER_PARTIAL_LAST", partial.last.to_string().as_bytes());
            if !partial.last {
                put("CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        for (key, value) in &origin.attributes {
            put(&field_name(key), value.as_bytes());
        }
        Ok(vec![packet])
    }
}

/// A field: in one line if its value is, else with its length.
fn field(packet: &mut Vec<u8>, key: &str, value: &[u8]) {
    if key.is_empty() {
        return;
    }
    packet.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        packet.push(b'\n');
        packet.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        packet.push(b'=');
    }
    packet.extend_from_slice(value);
    packet.push(b'\n');
}

/// Capitals, digits and underscores, none of these at the start.
fn field_name(key: &str) -> String {
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    name.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_logs::Partial;

    #[test]
    fn fields_are_dockers() {
        let journald = Journald::parse(&Options::new()).unwrap();
        let origin = Origin {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image: "busybox".into(),
            tag: "0123456789ab".into(),
            attributes: vec![("com.x".into(), "two\nlines".into())],
            ..Origin::default()
        };
        let partial = Partial { last: false, id: "p".into(), ordinal: 2 };
        let message = Message {
            stream: Stream::Stderr,
            time: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            line: b"text".to_vec(),
            partial: Some(partial),
        };
        let packet = journald.encode(&origin, &message).unwrap().concat();
        let text = String::from_utf8_lossy(&packet);
        for line in [
            "PRIORITY=3",
            "MESSAGE=text",
            "CONTAINER_ID=0123456789ab",
            "CONTAINER_ID_FULL=0123456789abcdef",
            "CONTAINER_NAME=web",
            "CONTAINER_TAG=0123456789ab",
            "IMAGE_NAME=busybox",
            "SYSLOG_IDENTIFIER=0123456789ab",
            "SYSLOG_TIMESTAMP=2026-01-02T03:04:05.678901Z",
            "CONTAINER_LOG_ORDINAL=1",
            "CONTAINER_PARTIAL_ID=p",
            "CONTAINER_PARTIAL_ORDINAL=2",
            "CONTAINER_PARTIAL_LAST=false",
            "CONTAINER_PARTIAL_MESSAGE=true",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let several = b"COM_X\n\x09\0\0\0\0\0\0\0two\nlines\n";
        assert!(packet.windows(several.len()).any(|part| part == several));
        assert_eq!(field_name("__a.b-C9"), "A_B_C9");
        let refused = Journald::parse(&[("x".to_owned(), String::new())].into()).unwrap_err();
        assert_eq!(refused, "unknown log opt 'x' for journald log driver");
    }

    #[tokio::test]
    async fn large_fields_travel_in_a_file() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let journald = Journald::parse(&Options::new()).unwrap();
        let origin = Origin { attributes: vec![("big".into(), "x".repeat(1 << 20))], ..Origin::default() };
        let message = Message {
            stream: Stream::Stdout,
            time: jiff::Timestamp::UNIX_EPOCH,
            line: b"text".to_vec(),
            partial: None,
        };
        let mut wire = Wire::unix_packets(&path).unwrap();
        wire.write(&[message], |message| journald.encode(&origin, message)).await.unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 16];
        let mut buffers = [std::io::IoSliceMut::new(&mut bytes)];
        recvmsg(&receiver, &mut buffers, &mut control, RecvFlags::empty()).unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else { panic!() };
        let file = std::fs::File::from(fds.next().unwrap());
        use std::os::unix::fs::FileExt;
        let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content.len() > 1 << 20 && content.starts_with(b"PRIORITY=6\nMESSAGE=text\n"));
    }
}
