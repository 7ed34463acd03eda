//! A registry that does what a test wants: it serves images, and breaks where it is told to.

use crate::{NetNs, sha256, until};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// This byte of the content is another one.
    Flip(usize),
    /// So many bytes at the end are missing, and the header says so too.
    Shorter(usize),
    /// So many bytes more than there are, and the header says so too.
    Longer(usize),
    /// After so many bytes nothing comes any more. The connection stays until the client ends it.
    Stall(usize),
    /// This status and no content.
    Status(u16),
    /// A `Range` is ignored: all of it comes again.
    NoRanges,
}

/// A request, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Without the host.
    pub path: String,
    /// The first byte of a `Range`.
    pub from: Option<usize>,
}

/// An HTTP server on a port of a namespace's loopback. Its threads end with the test's process.
#[derive(Debug, Clone)]
pub struct FaultyRegistry {
    address: String,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    contents: HashMap<String, Content>,
    /// By the digest or tag at the end of a path: what will go wrong, one after the other.
    faults: HashMap<String, VecDeque<Fault>>,
    fired: HashMap<String, usize>,
    asked: Vec<Asked>,
    /// Connections that stall now.
    stalled: usize,
}

#[derive(Debug, Clone)]
struct Content {
    kind: &'static str,
    bytes: Arc<Vec<u8>>,
}

impl FaultyRegistry {
    /// Starts one.
    ///
    /// # Errors
    /// When its port cannot be opened.
    pub fn start(net: &NetNs) -> Result<Self> {
        let listener = net.within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let address = listener.local_addr()?.to_string();
        let shared: Arc<Mutex<State>> = Arc::default();
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // Clients that go away are what tests are about.
                std::thread::spawn(move || serve(&stream, &state).ok());
            }
        });
        Ok(Self { address, shared })
    }

    /// `host:port/repository`.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Serves an image of these uncompressed layers; the digests of their blobs.
    ///
    /// # Errors
    /// Never; JSON can be written.
    pub fn put_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Result<Vec<String>> {
        self.put_platforms(repository, tag, &[("amd64", layers)])?;
        Ok(layers.iter().map(|layer| digest(layer)).collect())
    }

    /// Serves an index of an image for each architecture, or a plain image if there is only one.
    ///
    /// # Errors
    /// Never; JSON can be written.
    pub fn put_platforms(&self, repository: &str, tag: &str, images: &[(&str, &[Vec<u8>])]) -> Result<()> {
        let mut manifests = Vec::new();
        for (architecture, layers) in images {
            let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
            let config = serde_json::to_vec(&json!({
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["true"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }))?;
            let descriptors: Vec<Value> = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect();
            let manifest = serde_json::to_vec(&json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptor(OCI_CONFIG, &config),
                "layers": descriptors,
            }))?;
            for blob in layers.iter().chain([&config]) {
                self.put(
                    format!("/v2/{repository}/blobs/{}", digest(blob)),
                    "application/octet-stream",
                    blob,
                );
            }
            let mut entry = descriptor(OCI_MANIFEST, &manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            manifests.push((entry, manifest));
        }
        for (_, manifest) in &manifests {
            self.put_manifest(repository, &digest(manifest), OCI_MANIFEST, manifest);
        }
        if let [(_, manifest)] = &manifests[..] {
            self.put_manifest(repository, tag, OCI_MANIFEST, manifest);
        } else {
            let entries: Vec<&Value> = manifests.iter().map(|(entry, _)| entry).collect();
            let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
            self.put_manifest(repository, tag, OCI_INDEX, &serde_json::to_vec(&index)?);
        }
        Ok(())
    }

    /// Serves anything as a manifest.
    pub fn put_manifest(&self, repository: &str, reference: &str, kind: &'static str, bytes: &[u8]) {
        self.put(format!("/v2/{repository}/manifests/{reference}"), kind, bytes);
        let mut state = self.state();
        if !reference.starts_with("sha256:") {
            let path = format!("/v2/{repository}/tags/list");
            let old = state.contents.get(&path).map(|content| content.bytes.to_vec()).unwrap_or_default();
            let mut list: Value =
                serde_json::from_slice(&old).unwrap_or(json!({"name": repository, "tags": []}));
            if let Some(tags) = list["tags"].as_array_mut() {
                tags.push(json!(reference));
            }
            let bytes = Arc::new(list.to_string().into_bytes());
            state.contents.insert(path, Content { kind: "application/json", bytes });
        }
    }

    fn put(&self, path: String, kind: &'static str, bytes: &[u8]) {
        self.state().contents.insert(path, Content { kind, bytes: Arc::new(bytes.to_vec()) });
    }

    /// So many answers about this digest or tag go wrong, after those that will already.
    pub fn break_next(&self, what: &str, fault: Fault, times: usize) {
        self.state().faults.entry(what.to_owned()).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often something went wrong with this digest or tag.
    pub fn fired(&self, what: &str) -> usize {
        self.state().fired.get(what).copied().unwrap_or(0)
    }

    /// The requests for it.
    pub fn asked(&self, what: &str) -> Vec<Asked> {
        self.state().asked.iter().filter(|asked| asked.path.ends_with(what)).cloned().collect()
    }

    /// Waits until so many connections stall.
    ///
    /// # Errors
    /// When they do not within the usual patience.
    pub fn until_stalled(&self, connections: usize) -> Result<()> {
        until("stalled connections", || Ok((self.state().stalled == connections).then_some(())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

/// Requests of one connection.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    while let Some(asked) = read_request(&mut lines)? {
        let (content, fault) = find(state, &asked);
        let Some(content) = content else {
            missing(stream, &asked)?;
            continue;
        };
        if let Some(Fault::Stall(bytes)) = fault {
            send(stream, &asked, &content, Some(Fault::Cut(bytes)))?;
            lock(state).stalled += 1;
            // Until the client goes.
            let _ = lines.read_to_end(&mut Vec::new());
            lock(state).stalled -= 1;
            return Ok(());
        }
        send(stream, &asked, &content, fault)?;
        if matches!(fault, Some(Fault::Cut(_))) {
            return stream.shutdown(Shutdown::Both);
        }
    }
    Ok(())
}

/// `None` at the end, and for the greeting of TLS, which is answered in plain HTTP.
fn read_request(lines: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Asked>> {
    let start = lines.fill_buf()?;
    if !start.first().is_some_and(u8::is_ascii_uppercase) {
        if !start.is_empty() {
            lines.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        }
        return Ok(None);
    }
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut from = None;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().ok();
        }
        if line.trim().is_empty() {
            return Ok(Some(Asked { method, path, from }));
        }
    }
}

/// What is asked for, and what goes wrong with it.
fn find(state: &Mutex<State>, asked: &Asked) -> (Option<Content>, Option<Fault>) {
    let mut state = lock(state);
    state.asked.push(asked.clone());
    let content = state.contents.get(&asked.path).cloned();
    let what = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
    let faults = state.faults.get_mut(&what).filter(|_| asked.method == "GET");
    // Only what is a fault for this request fires.
    let fires = |fault: &Fault| *fault != Fault::NoRanges || asked.from.is_some();
    let fault = faults.filter(|faults| faults.front().is_some_and(fires)).and_then(VecDeque::pop_front);
    if fault.is_some() {
        *state.fired.entry(what).or_default() += 1;
    }
    (content, fault)
}

fn missing(mut stream: &TcpStream, asked: &Asked) -> std::io::Result<()> {
    let (status, body) = match asked.path.as_str() {
        "/v2/" => ("200 OK", "{}"),
        path if path.contains("/manifests/") => {
            ("404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
        }
        _ => {
            ("404 Not Found", r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#)
        }
    };
    let body = if asked.method == "HEAD" { "" } else { body };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(
    mut stream: &TcpStream,
    asked: &Asked,
    content: &Content,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    if let Some(Fault::Status(status)) = fault {
        return write!(stream, "HTTP/1.1 {status} Broken\r\nContent-Length: 0\r\n\r\n");
    }
    let mut bytes = content.bytes.to_vec();
    match fault {
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Shorter(by)) => bytes.truncate(bytes.len() - by),
        Some(Fault::Longer(by)) => bytes.resize(bytes.len() + by, 0),
        _ => {}
    }
    let total = bytes.len();
    let from = asked.from.filter(|_| fault != Some(Fault::NoRanges)).map(|from| from.min(total));
    let body = &bytes[from.unwrap_or(0)..];
    let (status, range) = match from {
        Some(from) => {
            ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1))
        }
        None => ("200 OK", String::new()),
    };
    let kind = content.kind;
    let content_digest = digest(&content.bytes);
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{range}Content-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Content-Digest: {content_digest}\r\n\r\n",
        body.len()
    )?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    let end = if let Some(Fault::Cut(bytes)) = fault { bytes.min(body.len()) } else { body.len() };
    stream.write_all(&body[..end])
}
