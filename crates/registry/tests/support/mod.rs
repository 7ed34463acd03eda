//! A web server that does what a test says, and a real registry.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

/// A request as the server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// It is not closed then, but nothing comes any more.
    pub(crate) hang: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, hang: false }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn json(status: u16, text: &str) -> Self {
        Self::new(status, text).with("Content-Type", "application/json")
    }

    pub(crate) fn hang_after(self, bytes: usize) -> Self {
        Self { hang: true, ..self.cut_after(bytes) }
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A plain HTTP server on loopback. Its threads end with the test process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests whose path contains this.
    pub(crate) fn seen_at(&self, part: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|s| s.path().contains(part)).collect()
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Seen>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    // Whoever speaks TLS is told off in plain HTTP, as Go's server does.
    if reader.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&0x16)) {
        let _ = writer.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        return;
    }
    while let Some(seen) = read_request(&mut reader) {
        let reply = handler(&seen);
        let head_only = seen.method == "HEAD";
        log.lock().unwrap().push(seen);
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = if head_only { &[][..] } else { &reply.body[..reply.cut.unwrap_or(reply.body.len())] };
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).is_err()
            || reply.cut.is_some()
        {
            if reply.hang {
                // Until the client goes.
                let _ = reader.read_to_end(&mut Vec::new());
            }
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let mut seen =
        Seen { method: words.next()?.to_owned(), target: words.next()?.to_owned(), ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.to_owned(), value.to_owned()));
    }
    let length = seen.header("Content-Length").and_then(|l| l.parse().ok()).unwrap_or(0);
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

pub(crate) const REGISTRY: &str = "/usr/bin/docker-registry";

/// Debian's docker-registry on loopback with its own folder.
pub(crate) struct RealRegistry {
    child: Child,
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
}

impl RealRegistry {
    /// `None` when it is not installed. `auth` is an htpasswd file.
    pub(crate) fn start(htpasswd: Option<&str>) -> Option<Self> {
        if !std::path::Path::new(REGISTRY).exists() {
            eprintln!("not run: {REGISTRY} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {0}/data}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{free}'}}\n",
            folder.path().display()
        );
        if let Some(line) = htpasswd {
            std::fs::write(folder.path().join("htpasswd"), line).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd: {{realm: test, path: {}/htpasswd}}\n",
                folder.path().display()
            ));
        }
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let quiet = || Stdio::null();
        let child =
            Command::new(REGISTRY).arg("serve").arg(&path).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        let registry = Self { child, address: free.to_string(), folder };
        for _ in 0..500 {
            if TcpStream::connect(free).is_ok() {
                return Some(registry);
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{REGISTRY} does not listen");
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
