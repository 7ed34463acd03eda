//! As much of D-Bus as it takes to ask systemd for something: a connection, calls, and signals that come
//! meanwhile (source: D-Bus Specification, "Message Protocol" and "Authentication Protocol").

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long systemd may take for anything; runc waits as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer of systemd comes near it.
const LONGEST: usize = 1 << 20;

const LITTLE_ENDIAN: u8 = b'l';
const METHOD_CALL: u8 = 1;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `au`
    U32s(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

/// Puts values one after the other, each at a multiple of its size.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    /// `s` and `o`
    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// `g`
    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// Starts a structure or an entry of a dictionary.
    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    /// An array whose items start at multiples of `align`.
    pub(super) fn array(&mut self, align: usize, fill: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        fill(self);
        let bytes = length(self.0.len() - start);
        self.0[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    /// `v`
    pub(super) fn variant(&mut self, value: &Value) {
        match value {
            Value::Bool(yes) => {
                self.signature("b");
                self.u32(u32::from(*yes));
            }
            Value::U64(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::U32s(numbers) => {
                self.signature("au");
                self.array(4, |all| numbers.iter().for_each(|number| all.u32(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |all| all.0.extend(bytes));
            }
        }
    }

    pub(super) fn flag(&mut self, yes: bool) {
        self.u32(u32::from(yes));
    }
}

/// Messages are far below 4 GiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Takes values out of a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| malformed("a value reaches beyond its message"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let four = self.take(4)?;
        Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    }

    fn text(&mut self) -> io::Result<String> {
        let count = self.u32()? as usize;
        self.string(count)
    }

    fn signature(&mut self) -> io::Result<String> {
        let count = usize::from(self.byte()?);
        self.string(count)
    }

    fn string(&mut self, count: usize) -> io::Result<String> {
        let text = String::from_utf8_lossy(self.take(count)?).into_owned();
        self.byte().map(|_| text)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A method of systemd's manager and its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) member: &'static str,
    pub(super) signature: &'static str,
    pub(super) body: Writer,
}

impl Call {
    fn encode(self, serial: u32) -> Vec<u8> {
        let mut message = Writer(vec![LITTLE_ENDIAN, METHOD_CALL, 0, 1]);
        message.u32(length(self.body.0.len()));
        message.u32(serial);
        let fields = [
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", self.member),
            (6, "s", "org.freedesktop.systemd1"),
            (8, "g", self.signature),
        ];
        message.array(8, |all| {
            for (code, kind, value) in fields {
                all.structure();
                all.0.push(code);
                all.signature(kind);
                if kind == "g" { all.signature(value) } else { all.text(value) }
            }
        });
        message.align(8);
        message.0.extend(self.body.0);
        message.0
    }
}

/// What came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    kind: u8,
    reply_to: u32,
    member: String,
    error: String,
    /// Of the arguments those at the start that are text or `u`.
    arguments: Vec<String>,
}

impl Message {
    /// `header` are the fields from byte 12 on (with their length), `body` the arguments.
    fn decode(kind: u8, header: &[u8], body: &[u8]) -> io::Result<Message> {
        let mut message = Message { kind, ..Message::default() };
        let mut signature = String::new();
        // In the message the first of them stands at 16, a multiple of 8, as 0 is.
        let mut fields = Reader { bytes: header, at: 0 };
        while fields.at < header.len() {
            let code = fields.byte()?;
            match (code, fields.signature()?.as_str()) {
                (3, "s") => message.member = fields.text()?,
                (4, "s") => message.error = fields.text()?,
                (8, "g") => signature = fields.signature()?,
                (5, "u") => message.reply_to = fields.u32()?,
                (_, "s" | "o") => drop(fields.text()?),
                (_, "g") => drop(fields.signature()?),
                (_, "u") => drop(fields.u32()?),
                (_, other) => return Err(malformed(&format!("a header field of type {other:?}"))),
            }
            fields.align(8);
        }
        let mut values = Reader { bytes: body, at: 0 };
        for kind in signature.chars() {
            match kind {
                's' | 'o' => message.arguments.push(values.text()?),
                'u' => message.arguments.push(values.u32()?.to_string()),
                _ => break,
            }
        }
        Ok(message)
    }
}

/// Why a call did nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// systemd said no: the error's name and its text.
    Refused(String, String),
    /// The connection failed.
    Io(io::Error),
    /// The job ended in another way than `done`.
    Job(String),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> CallError {
        CallError::Io(error)
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Refused(_, text) => f.write_str(text),
            CallError::Io(error) => write!(f, "talking to systemd: {error}"),
            CallError::Job(result) => write!(f, "got `{result}`"),
        }
    }
}

/// A connection to systemd's own socket, which root may use without a bus between.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    pub(super) fn open(socket: &str) -> io::Result<Connection> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection { stream, serial: 0 };
        connection.authenticate()?;
        Ok(connection)
    }

    /// As the user whom the kernel names: the number in hexadecimal digits of its characters.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            return Err(malformed(&format!("not let in: {}", String::from_utf8_lossy(&line).trim_end())));
        }
        self.stream.write_all(b"BEGIN\r\n")
    }

    fn send(&mut self, call: Call) -> io::Result<u32> {
        self.serial += 1;
        let message = call.encode(self.serial);
        self.stream.write_all(&message)?;
        Ok(self.serial)
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut start = [0; 16];
        self.stream.read_exact(&mut start)?;
        if start[0] != LITTLE_ENDIAN {
            return Err(malformed("a message in another byte order"));
        }
        let mut numbers = Reader { bytes: &start, at: 4 };
        let (body, _serial, fields) = (numbers.u32()?, numbers.u32()?, numbers.u32()?);
        let (body, fields) = (body as usize, fields as usize);
        if body > LONGEST || fields > LONGEST {
            return Err(malformed("a message that is too long"));
        }
        let header = fields.next_multiple_of(8);
        let mut rest = vec![0; header + body];
        self.stream.read_exact(&mut rest)?;
        Message::decode(start[1], &rest[..fields], &rest[header..])
    }

    /// Calls, and waits for the answer.
    pub(super) fn call(&mut self, call: Call) -> Result<(), CallError> {
        let serial = self.send(call)?;
        loop {
            let message = self.receive()?;
            if message.kind != SIGNAL && message.reply_to == serial {
                return answer(message).map(drop);
            }
        }
    }

    /// Calls a method that starts a job, and waits for the job's end (`JobRemoved`).
    pub(super) fn run_job(&mut self, call: Call) -> Result<(), CallError> {
        let serial = self.send(call)?;
        let (mut job, mut ended) = (None, Vec::new());
        loop {
            let message = self.receive()?;
            if message.kind == SIGNAL && message.member == "JobRemoved" {
                // Number, path, unit and result.
                if let [_, path, _, result, ..] = &message.arguments[..] {
                    ended.push((path.clone(), result.clone()));
                }
            } else if message.kind != SIGNAL && message.reply_to == serial {
                job = answer(message)?.arguments.into_iter().next();
            }
            let result = ended.iter().find(|(path, _)| Some(path) == job.as_ref());
            match result {
                Some((_, result)) if result == "done" => return Ok(()),
                Some((_, result)) => return Err(CallError::Job(result.clone())),
                None => {}
            }
        }
    }
}

fn answer(mut message: Message) -> Result<Message, CallError> {
    match message.kind {
        ERROR => {
            let text = message.arguments.drain(..).next().unwrap_or_else(|| message.error.clone());
            Err(CallError::Refused(message.error, text))
        }
        _ => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let mut body = Writer::default();
        body.text("a.scope");
        let bytes = Call { member: "StopUnit", signature: "s", body }.encode(7);
        assert_eq!(bytes[..16], [b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0, 159, 0, 0, 0]);
        // The path is the first field: code, signature, length, text.
        assert_eq!(bytes[16..24], [1, 1, b'o', 0, 25, 0, 0, 0]);
        assert_eq!(&bytes[24..49], b"/org/freedesktop/systemd1");
        // The body starts at the next multiple of 8 and ends the message.
        assert_eq!(bytes.len(), (16usize + 159).next_multiple_of(8) + 12);
        assert_eq!(&bytes[bytes.len() - 12..], b"\x07\0\0\0a.scope\0");
    }

    #[test]
    fn values_stand_at_multiples_of_their_size() {
        let mut writer = Writer::default();
        writer.variant(&Value::U64(1));
        assert_eq!(writer.0, [1, b't', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.variant(&Value::U32s(vec![5]));
        assert_eq!(writer.0, [2, b'a', b'u', 0, 4, 0, 0, 0, 5, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.variant(&Value::Bytes(vec![3]));
        assert_eq!(writer.0, [2, b'a', b'y', 0, 1, 0, 0, 0, 3]);
        let mut writer = Writer::default();
        writer.variant(&Value::Bool(true));
        assert_eq!(writer.0, [1, b'b', 0, 0, 1, 0, 0, 0]);
    }

    /// A message as systemd would send it.
    fn sent(kind: u8, fields: &[(u8, &str, &str)], arguments: &[&str], signature: &str) -> Message {
        let mut header = Writer::default();
        for (code, kind, value) in fields {
            header.structure();
            header.0.push(*code);
            header.signature(kind);
            match *kind {
                "u" => header.u32(value.parse().unwrap()),
                _ => header.text(value),
            }
        }
        header.structure();
        header.0.push(8);
        header.signature("g");
        header.signature(signature);
        let mut body = Writer::default();
        for (argument, kind) in arguments.iter().zip(signature.chars()) {
            if kind == 'u' { body.u32(argument.parse().unwrap()) } else { body.text(argument) }
        }
        Message::decode(kind, &header.0, &body.0).unwrap()
    }

    #[test]
    fn signals_and_errors_are_understood() {
        let removed = sent(SIGNAL, &[(3, "s", "JobRemoved")], &["9", "/job/9", "a.scope", "done"], "uoss");
        assert_eq!(removed.member, "JobRemoved");
        assert_eq!(removed.arguments, ["9", "/job/9", "a.scope", "done"]);
        let name = "org.freedesktop.systemd1.UnitExists";
        let error = sent(ERROR, &[(4, "s", name), (5, "u", "3")], &["it is there"], "s");
        assert_eq!(error.reply_to, 3);
        match answer(error) {
            Err(CallError::Refused(got, text)) => {
                assert_eq!((got.as_str(), text.as_str()), (name, "it is there"))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cut_messages_are_refused() {
        let whole = [3, 1, b's', 0, 4, 0, 0, 0, b'n', b'a', b'm', b'e', 0];
        assert!(Message::decode(SIGNAL, &whole, &[]).is_ok());
        for end in 1..whole.len() {
            assert!(Message::decode(SIGNAL, &whole[..end], &[]).is_err(), "{end}");
        }
        assert!(Message::decode(SIGNAL, &[3, 1, b'v', 0, 0, 0, 0, 0], &[]).is_err());
    }

    #[test]
    fn a_job_is_waited_for_whatever_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let systemd = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut greeting = [0; 19];
            peer.read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"\0AUTH EXTERNAL 30\r\n");
            peer.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
            let mut begin = [0; 7];
            peer.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"BEGIN\r\n");
            let mut start = [0; 16];
            peer.read_exact(&mut start).unwrap();
            peer.write_all(&raw(
                SIGNAL,
                &[(3, "s", "JobRemoved")],
                &["8", "/job/8", "b.scope", "failed"],
                "uoss",
            ))
            .unwrap();
            peer.write_all(&raw(
                SIGNAL,
                &[(3, "s", "JobRemoved")],
                &["9", "/job/9", "a.scope", "canceled"],
                "uoss",
            ))
            .unwrap();
            peer.write_all(&raw(2, &[(5, "u", "1")], &["/job/9"], "o")).unwrap();
        });
        let mut connection = Connection::open(&path.to_string_lossy()).unwrap();
        let mut body = Writer::default();
        body.text("a.scope");
        let ended = connection.run_job(Call { member: "StopUnit", signature: "s", body });
        assert_eq!(ended.unwrap_err().to_string(), "got `canceled`");
        systemd.join().unwrap();
    }

    fn raw(kind: u8, fields: &[(u8, &str, &str)], arguments: &[&str], signature: &str) -> Vec<u8> {
        let mut body = Writer::default();
        for (argument, kind) in arguments.iter().zip(signature.chars()) {
            if kind == 'u' { body.u32(argument.parse().unwrap()) } else { body.text(argument) }
        }
        let mut message = Writer(vec![LITTLE_ENDIAN, kind, 0, 1]);
        message.u32(length(body.0.len()));
        message.u32(1);
        message.array(8, |all| {
            for (code, kind, value) in fields {
                all.structure();
                all.0.push(*code);
                all.signature(kind);
                if *kind == "u" { all.u32(value.parse().unwrap()) } else { all.text(value) }
            }
            all.structure();
            all.0.push(8);
            all.signature("g");
            all.signature(signature);
        });
        message.align(8);
        message.0.extend(body.0);
        message.0
    }
}
