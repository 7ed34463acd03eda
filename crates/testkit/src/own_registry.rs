//! A registry of our own, for what Debian's does not do: it breaks connections and answers where it is told to,
//! redirects, takes tokens of a server that it is itself, and searches. Everything is in memory, and every request
//! is noted.

mod broken;
mod images;

pub use broken::Fault;

use crate::NetNs;
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use broken::{Broken, Sent};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// A request as the registry saw it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What came of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first byte of a `Range`.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range").strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
    }
}

/// What the registry does besides its work.
#[derive(Debug, Clone, Default)]
pub struct RegistryFaults {
    /// The next upload breaks after so many bytes, which are kept.
    pub cut_upload: Option<usize>,
    /// What came of a broken upload is forgotten instead.
    pub forget_cut: bool,
    /// Uploads wait as long as this is set.
    pub hold_uploads: bool,
    /// The next uploads' tokens are not taken.
    pub refuse_uploads: usize,
    /// Blobs are elsewhere: the address of another registry.
    pub redirect_blobs: Option<String>,
    /// Manifests are of the first kind.
    pub schema1: bool,
    /// Name and password that the token server wants; without there are no tokens.
    pub user: Option<(String, String)>,
    /// What the token server takes instead, and gives to those who log in.
    pub identity: Option<String>,
    /// Repositories to be found: name, stars, official.
    pub found: Vec<(String, i64, bool)>,
    /// The status of searches, instead of results.
    pub search_status: Option<u16>,
}

#[derive(Default)]
struct State {
    faults: RegistryFaults,
    seen: Vec<Request>,
    fired: usize,
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    tokens: HashMap<String, String>,
    next: usize,
    broken: Broken,
}

/// A running registry. Its threads end with the test's process.
#[derive(Clone)]
pub struct OwnRegistry {
    address: String,
    state: Arc<Mutex<State>>,
    /// Told of every change of what it does.
    released: Arc<Condvar>,
}

impl std::fmt::Debug for OwnRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnRegistry").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An answer: status, headers, body.
type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl OwnRegistry {
    /// Starts one at this address of a namespace; port 0 is any.
    ///
    /// # Errors
    /// When nobody may listen there.
    pub fn start(net: &NetNs, address: &str) -> Result<Self> {
        let listener = net.within(|| TcpListener::bind(address).context(address.to_owned()))?;
        let address = listener.local_addr()?.to_string();
        let registry = Self { address, state: Arc::default(), released: Arc::default() };
        let serving = registry.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let registry = serving.clone();
                // A connection that breaks is the business of the other side.
                thread::spawn(move || registry.serve(&stream));
            }
        });
        Ok(registry)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port/repository`.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// The requests for a digest or tag.
    pub fn asked(&self, what: &str) -> Vec<Request> {
        self.state().seen.iter().filter(|request| request.path().ends_with(what)).cloned().collect()
    }

    /// Changes what it does.
    pub fn faults(&self, change: impl FnOnce(&mut RegistryFaults)) {
        change(&mut self.state().faults);
        self.released.notify_all();
    }

    /// How many faults happened.
    pub fn fired(&self) -> usize {
        self.state().fired
    }

    /// The requests with this method whose target contains this.
    pub fn seen(&self, method: &str, part: &str) -> Vec<Request> {
        let state = self.state();
        state.seen.iter().filter(|r| r.method == method && r.target.contains(part)).cloned().collect()
    }

    /// Takes the blobs over from another one.
    pub fn take_blobs(&self, other: &Self) {
        let blobs = other.state().blobs.clone();
        self.state().blobs.extend(blobs);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut writer = stream.try_clone().ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        // Who speaks TLS is told off in plain HTTP, as Go's server does.
        if reader.fill_buf().ok()?.first() == Some(&0x16) {
            return writer.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").ok();
        }
        loop {
            let mut request = read_head(&mut reader)?;
            let limit = self.limit(&request);
            let is_whole = read_body(&mut reader, &mut request, limit)?;
            self.state().seen.push(request.clone());
            if !is_whole {
                self.keep_part(&request);
                return stream.shutdown(Shutdown::Both).ok();
            }
            if request.method == "PATCH" {
                self.wait_while_held();
            }
            let reply = self.answer(&request);
            if self.send(stream, &request, reply).ok()? == Sent::Ended {
                return Some(());
            }
        }
    }

    fn wait_while_held(&self) {
        let state = self.state();
        drop(self.released.wait_while(state, |state| state.faults.hold_uploads));
    }

    /// After how many bytes of the body the connection breaks.
    fn limit(&self, request: &Request) -> Option<usize> {
        let mut state = self.state();
        let limit = (request.method == "PATCH").then(|| state.faults.cut_upload.take()).flatten();
        state.fired += usize::from(limit.is_some());
        limit
    }

    fn keep_part(&self, request: &Request) {
        let id = request.path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut state = self.state();
        if state.faults.forget_cut {
            state.uploads.remove(&id);
        } else if let Some(upload) = state.uploads.get_mut(&id) {
            upload.extend_from_slice(&request.body);
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        match path.as_str() {
            "/token" => return self.token(request),
            "/v1/_ping" => return (200, vec![], b"true".to_vec()),
            "/v1/search" => return self.search(),
            _ => {}
        }
        if let Some(refusal) = self.refuse(request) {
            return refusal;
        }
        let Some((repository, kind, rest)) = split(&path) else { return (200, vec![], b"{}".to_vec()) };
        match (request.method.as_str(), kind) {
            ("POST", "uploads") => self.begin(request, repository),
            (_, "uploads") => self.upload(request, repository, rest),
            ("GET", "tags") => self.tags(repository),
            (_, "blobs") => self.blob(rest),
            ("PUT", "manifests") => self.take_manifest(request, repository, rest),
            ("GET" | "HEAD", "manifests") => self.manifest(repository, rest),
            _ => problem(404, "UNSUPPORTED"),
        }
    }

    /// The answer to who may not: without a token for the repository, or with one that is refused.
    fn refuse(&self, request: &Request) -> Option<Reply> {
        let mut state = self.state();
        state.faults.user.as_ref()?;
        let token = request.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let scope = state.tokens.get(token).cloned();
        let wanted = split(request.path()).map(|(repository, ..)| {
            let actions =
                if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
            (format!("repository:{repository}:"), actions)
        });
        let mut allowed = scope.as_ref().is_some_and(|scope| match &wanted {
            Some((name, actions)) => scope.split(' ').any(|s| {
                s.strip_prefix(name.as_str()).is_some_and(|has| actions.split(',').all(|a| has.contains(a)))
            }),
            None => true,
        });
        if allowed && request.method == "PATCH" && state.faults.refuse_uploads > 0 {
            state.faults.refuse_uploads -= 1;
            state.fired += 1;
            state.tokens.remove(token);
            allowed = false;
        }
        if allowed {
            return None;
        }
        let scope = wanted.map(|(name, actions)| format!(",scope=\"{name}{actions}\"")).unwrap_or_default();
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"{scope}", self.address);
        let (status, mut headers, body) = problem(401, "UNAUTHORIZED");
        headers.push(("WWW-Authenticate", realm));
        Some((status, headers, body))
    }

    fn token(&self, request: &Request) -> Reply {
        let mut state = self.state();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let form = Request { target: format!("/?{body}"), ..Request::default() };
        let by_identity = form.parameter("refresh_token").is_some()
            && form.parameter("refresh_token") == state.faults.identity;
        let by_name = state.faults.user.as_ref().is_some_and(|(name, password)| {
            request.header("authorization")
                == format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
        });
        if !by_identity && !by_name {
            return problem(401, "UNAUTHORIZED");
        }
        let asked = request.target.split_once('?').map_or("", |(_, query)| query);
        let mut scopes: Vec<String> = asked
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .map(|scope| scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
            .collect();
        scopes.extend(form.parameter("scope").map(|s| s.replace("%20", " ").replace('+', " ")));
        state.next += 1;
        let token = format!("token-{}", state.next);
        state.tokens.insert(token.clone(), scopes.join(" "));
        let mut answer = json!({"token": token, "access_token": token, "expires_in": 300});
        if request.target.contains("offline_token=true")
            && let Some(identity) = &state.faults.identity
        {
            answer["refresh_token"] = json!(identity);
        }
        (200, vec![("Content-Type", "application/json".into())], answer.to_string().into_bytes())
    }

    fn search(&self) -> Reply {
        let faults = self.state().faults.clone();
        if let Some(status) = faults.search_status {
            return (status, vec![], b"no".to_vec());
        }
        let results: Vec<_> = (faults.found.iter())
            .map(|(name, stars, official)| json!({"name": name, "star_count": stars, "is_official": official, "is_automated": true, "description": format!("All about {name}\nand more")}))
            .collect();
        (200, vec![], json!({"num_results": results.len(), "results": results}).to_string().into_bytes())
    }

    fn begin(&self, request: &Request, repository: &str) -> Reply {
        let mut state = self.state();
        if let Some(mounted) = request.parameter("mount")
            && state.blobs.contains_key(&mounted)
        {
            return (201, vec![("Location", format!("/v2/{repository}/blobs/{mounted}"))], vec![]);
        }
        state.next += 1;
        let id = format!("upload-{}", state.next);
        state.uploads.insert(id.clone(), Vec::new());
        (202, vec![("Location", format!("/v2/{repository}/blobs/uploads/{id}"))], vec![])
    }

    fn upload(&self, request: &Request, repository: &str, id: &str) -> Reply {
        let mut state = self.state();
        let Some(upload) = state.uploads.get_mut(id) else { return problem(404, "BLOB_UPLOAD_UNKNOWN") };
        let from = request.header("content-range").split('-').next().and_then(|n| n.parse::<usize>().ok());
        if from.is_some_and(|from| from != upload.len()) {
            return problem(416, "BLOB_UPLOAD_INVALID");
        }
        match request.method.as_str() {
            "PATCH" | "PUT" => upload.extend_from_slice(&request.body),
            "DELETE" => {
                state.uploads.remove(id);
                return (204, vec![], vec![]);
            }
            _ => {}
        }
        if request.method != "PUT" {
            let status = if request.method == "PATCH" { 202 } else { 204 };
            let range = format!("0-{}", upload.len().saturating_sub(1));
            let location = format!("/v2/{repository}/blobs/uploads/{id}");
            return (status, vec![("Range", range), ("Location", location)], vec![]);
        }
        let bytes = state.uploads.remove(id).unwrap_or_default();
        let name = sha256(&bytes);
        if request.parameter("digest").as_deref() != Some(&name) {
            return problem(400, "DIGEST_INVALID");
        }
        state.blobs.insert(name, bytes);
        (201, vec![], vec![])
    }

    fn blob(&self, name: &str) -> Reply {
        let state = self.state();
        if let Some(elsewhere) = &state.faults.redirect_blobs {
            return (
                307,
                vec![("Location", format!("http://{elsewhere}/v2/elsewhere/blobs/{name}"))],
                vec![],
            );
        }
        match state.blobs.get(name) {
            Some(bytes) => (200, vec![], bytes.clone()),
            None => problem(404, "BLOB_UNKNOWN"),
        }
    }

    fn tags(&self, repository: &str) -> Reply {
        let state = self.state();
        let names =
            state.manifests.keys().filter_map(|name| name.strip_prefix(repository)?.strip_prefix('/'));
        let mut tags: Vec<&str> = names.filter(|name| !name.contains([':', '/'])).collect();
        tags.sort_unstable();
        let body = json!({"name": repository, "tags": tags}).to_string();
        (200, vec![("Content-Type", "application/json".into())], body.into_bytes())
    }

    fn take_manifest(&self, request: &Request, repository: &str, name: &str) -> Reply {
        let kind = request.header("content-type");
        for name in [name, &sha256(&request.body)] {
            self.put_manifest(repository, name, kind, &request.body);
        }
        (201, vec![("Docker-Content-Digest", sha256(&request.body))], vec![])
    }

    fn manifest(&self, repository: &str, name: &str) -> Reply {
        let state = self.state();
        if state.faults.schema1 {
            let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
            return (200, vec![("Content-Type", kind)], br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec());
        }
        match state.manifests.get(&format!("{repository}/{name}")) {
            Some((kind, bytes)) => {
                let digest = ("Docker-Content-Digest", sha256(bytes));
                (200, vec![("Content-Type", kind.clone()), digest], bytes.clone())
            }
            None => problem(404, "MANIFEST_UNKNOWN"),
        }
    }
}

/// Repository, kind and rest of a path below `/v2/`.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let path = path.strip_prefix("/v2/")?;
    for (part, kind) in [
        ("/blobs/uploads/", "uploads"),
        ("/blobs/", "blobs"),
        ("/manifests/", "manifests"),
        ("/tags/", "tags"),
    ] {
        if let Some((repository, rest)) = path.split_once(part) {
            return Some((repository, kind, rest));
        }
    }
    None
}

fn problem(status: u16, code: &str) -> Reply {
    let message = if code == "UNAUTHORIZED" {
        "authentication required".to_owned()
    } else {
        code.to_lowercase().replace('_', " ")
    };
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    (status, vec![("Content-Type", "application/json".into())], body.into_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::sha256(bytes))
}

fn read_head(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let mut request =
        Request { method: words.next()?.into(), target: words.next()?.into(), ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(request) };
        request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

/// Reads the body, up to a limit: whether it is whole.
fn read_body(reader: &mut impl BufRead, request: &mut Request, limit: Option<usize>) -> Option<bool> {
    let chunked = request.header("transfer-encoding") == "chunked";
    loop {
        let length = if chunked {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            usize::from_str_radix(line.trim_end(), 16).ok()?
        } else {
            request.header("content-length").parse().unwrap_or(0)
        };
        let left = limit.map_or(length, |limit| limit.saturating_sub(request.body.len()).min(length));
        reader.take(left as u64).read_to_end(&mut request.body).ok()?;
        if left < length {
            return Some(false);
        }
        if !chunked {
            return Some(true);
        }
        reader.read_line(&mut String::new()).ok()?;
        if length == 0 {
            return Some(true);
        }
    }
}
