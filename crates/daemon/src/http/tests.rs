//! The daemon over real sockets: what a client sends and what it reads, byte for byte.

use super::{
    adapter::{self, Adapter},
    body::Body,
    conn::Connection,
    server::{self, Socket},
    stream::{Line, MULTIPLEXED, Session, frame, take_over},
};
use crate::{app::App, config::Settings, listen};
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A daemon on an engine of its own, without containers.
struct Daemon {
    dir: tempfile::TempDir,
    app: Arc<App>,
}

impl Daemon {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_root: dir.path().join("data"),
            exec_root: dir.path().join("exec"),
            bridge: "none".into(),
            iptables: false,
            ip_forward: false,
            ..Settings::default()
        };
        let engine = wharf_engine::Engine::open(settings.to_engine()).await.unwrap();
        let app = Arc::new(App::new(engine, &settings, "29.0.0"));
        let hosts = [format!("unix://{}", Self::socket(dir.path()))];
        for listener in listen::all(&hosts, "", None).await.unwrap() {
            tokio::spawn(server::accept(Arc::clone(&app), listener));
        }
        Self { dir, app }
    }

    fn socket(dir: &Path) -> String {
        dir.join("d.sock").to_string_lossy().into_owned()
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(Self::socket(self.dir.path())).await.unwrap()
    }

    /// Sends bytes and reads until the daemon closes.
    async fn exchange(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        client.read_to_end(&mut text).await.unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// A request on a connection of its own: status, content type, body.
    async fn request(&self, method: &str, path: &str, rest: &str) -> (u16, String, String) {
        let answer = self
            .exchange(&format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{rest}"))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
        let kind = head.lines().find_map(|l| l.strip_prefix("Content-Type: ")).unwrap_or_default();
        (status, kind.to_owned(), body.to_owned())
    }

    async fn stop(self) {
        self.app.stopping.cancel();
        self.app.engine.shutdown(wharf_engine::End::Daemon).await;
    }
}

const NO_BODY: &str = "\r\n";
const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \\\"docker swarm init\\\" or \\\"docker swarm join\\\" to connect this node to swarm and try again.";

/// Method, path, what follows the request line, status, message: as a real daemon answers.
#[rustfmt::skip]
const ERRORS: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "/v9.99/info", NO_BODY, 400, "client version 9.99 is too new. Maximum supported API version is 1.55"),
    ("GET", "/v1.24.x/info", NO_BODY, 404, "page not found"),
    ("GET", "/v1.47/nosuch", NO_BODY, 404, "page not found"),
    ("GET", "/nosuch", NO_BODY, 404, "page not found"),
    ("PUT", "/v1.47/version", NO_BODY, 404, "page not found"),
    ("HEAD", "/v1.47/info", NO_BODY, 404, ""),
    ("POST", "/v1.24/networks/prune", NO_BODY, 400, "POST /networks/prune requires minimum API version 1.25"),
    ("POST", "/v1.47/auth", "Content-Type: application/json\r\nContent-Length: 8\r\n\r\nnot json", 400,
     "invalid X-Registry-Auth header: invalid JSON: invalid character 'o' in literal null (expecting 'u')"),
    ("GET", "/v1.47/events?since=1&until=2&filters=%7Bbad", NO_BODY, 400, "invalid filter"),
    ("GET", "/v1.47/events?since=zzz&until=2", NO_BODY, 400,
     "invalid value for 'since': invalid timestamp \\\"zzz\\\": invalid seconds \\\"zzz\\\": invalid syntax"),
    ("GET", "/v1.47/events?since=3&until=2", NO_BODY, 400, "`since` time (3) cannot be after `until` time (2)"),
    ("GET", "/v1.47/info?x=%zz", NO_BODY, 400, "invalid URL escape \\\"%zz\\\""),
    ("GET", "/plugins/nope/json", NO_BODY, 404, "plugin \\\"nope\\\" not found"),
    ("GET", "/swarm", NO_BODY, 503, NOT_A_MANAGER),
    ("GET", "/nodes", NO_BODY, 503, NOT_A_MANAGER),
    ("GET", "/services", NO_BODY, 503, NOT_A_MANAGER),
    ("GET", "/tasks", NO_BODY, 503, NOT_A_MANAGER),
    ("GET", "/secrets", NO_BODY, 503, NOT_A_MANAGER),
    ("GET", "/configs", NO_BODY, 503, NOT_A_MANAGER),
    ("POST", "/v1.47/build?version=2", NO_BODY, 501, "not implemented in Wharf yet: BuildKit's builds (version=2)"),
    ("POST", "/v1.47/build?version=x", NO_BODY, 400, "invalid version \\\"x\\\""),
    ("POST", "/v1.47/build?squash=1", NO_BODY, 400, "squash is only supported with experimental mode"),
    ("POST", "/v1.47/build/cancel", NO_BODY, 400, "build ID not provided"),
    ("POST", "/containers/create", "Content-Type: application/json\r\nContent-Length: 0\r\n\r\n", 400, "invalid JSON: EOF"),
    ("POST", "/containers/create", "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{nope", 400,
     "invalid JSON: invalid character 'n' looking for beginning of object key string"),
    ("POST", "/containers/create", "Content-Type: text/plain\r\nContent-Length: 7\r\n\r\nImage=x", 400,
     "unsupported Content-Type header (text/plain): must be 'application/json'"),
    ("POST", "/containers/create", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 400,
     "config cannot be empty in order to create a container"),
    ("POST", "/volumes/create", "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{} {}", 400, "unexpected content after JSON"),
    ("POST", "/volumes/create", "Content-Length: 2\r\n\r\n{}", 400, "malformed Content-Type header (): mime: no media type"),
    ("GET", "/containers/nosuch/json", NO_BODY, 404, "No such container: nosuch"),
    ("GET", "/containers/json?limit=x", NO_BODY, 400, "strconv.Atoi: parsing \\\"x\\\": invalid syntax"),
    ("GET", "/containers/json?filters=%7Bbad", NO_BODY, 400, "invalid filter"),
    ("POST", "/containers/nosuch/start", NO_BODY, 404, "No such container: nosuch"),
    ("POST", "/containers/x/resize?h=x&w=80", NO_BODY, 400, "invalid resize height \\\"x\\\": invalid syntax"),
    ("POST", "/containers/x/wait?condition=nosuch", NO_BODY, 400, "invalid condition: \\\"nosuch\\\""),
    ("GET", "/containers/nosuch/logs", NO_BODY, 400, "must specify at least one of 'stdout' or 'stderr'"),
    ("GET", "/containers/nosuch/logs?stdout=1&since=zz", NO_BODY, 400,
     "invalid value for \\\"since\\\": invalid timestamp \\\"zz\\\": invalid seconds \\\"zz\\\": invalid syntax"),
    ("POST", "/exec/nosuch/start", "Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"Detach\":true}", 404,
     "No such exec instance: nosuch"),
    ("POST", "/containers/x/exec", "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"Cmd\":[]}", 400,
     "No exec command specified"),
    ("DELETE", "/images/%20", NO_BODY, 400, "image name cannot be blank"),
    ("GET", "/containers/x/checkpoints", NO_BODY, 501,
     "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."),
];

#[tokio::test]
async fn errors_are_those_of_a_real_daemon() {
    let daemon = Daemon::start().await;
    for (method, path, rest, status, message) in ERRORS {
        let (got_status, kind, body) = daemon.request(method, path, rest).await;
        assert_eq!(got_status, *status, "{method} {path}: {body}");
        assert_eq!(kind, "application/json", "{method} {path}");
        let want = if *method == "HEAD" { String::new() } else { format!("{{\"message\":\"{message}\"}}\n") };
        assert_eq!(body, want, "{method} {path}");
    }
    let (status, kind, body) = daemon.request("GET", "/v1.10/info", NO_BODY).await;
    assert_eq!((status, kind.as_str()), (400, "text/plain; charset=utf-8"));
    assert_eq!(
        body,
        "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn ping_has_dockers_headers() {
    let daemon = Daemon::start().await;
    let head = "Host: d\r\nConnection: close\r\n\r\n";
    for (request, ends) in
        [("GET /_ping", "\r\n\r\nOK"), ("HEAD /_ping", "\r\n\r\n"), ("GET /v1.24/_ping", "\r\n\r\nOK")]
    {
        let answer = daemon.exchange(&format!("{request} HTTP/1.1\r\n{head}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(ends), "{answer}");
        for line in [
            "Api-Version: 1.55",
            "Docker-Experimental: false",
            "Ostype: linux",
            "Server: Docker/29.0.0 (linux)",
            "Swarm: inactive",
            "Cache-Control: no-cache, no-store, must-revalidate",
            "Pragma: no-cache",
            "Content-Type: text/plain; charset=utf-8",
        ] {
            assert!(answer.contains(&format!("{line}\r\n")), "{line} is missing in {answer}");
        }
        assert!(answer.contains("Builder-Version: "), "{answer}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_connection_is_kept_and_ends_with_the_daemon() {
    let daemon = Daemon::start().await;
    let mut client = daemon.connect().await;
    for _ in 0..3 {
        client.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"OK") {
            assert_ne!(client.read_buf(&mut text).await.unwrap(), 0);
        }
    }
    daemon.app.stopping.cancel();
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0, "an idle connection is closed");
    daemon.stop().await;
}

#[tokio::test]
async fn events_end_where_they_are_told_to() {
    let daemon = Daemon::start().await;
    let old = daemon.request("GET", "/v1.47/events?since=1&until=2", NO_BODY).await;
    assert_eq!((old.0, old.1.as_str()), (200, "application/json"));
    let new = daemon.request("GET", "/v1.55/events?since=1&until=2", NO_BODY).await;
    assert_eq!((new.0, new.1.as_str()), (200, "application/jsonl"));
    daemon.stop().await;
}

#[tokio::test]
async fn errors_of_attach_are_plain() {
    let daemon = Daemon::start().await;
    let (status, kind, body) =
        daemon.request("POST", "/containers/nosuch/attach?stream=1&stdout=1", NO_BODY).await;
    assert_eq!((status, kind.as_str()), (404, "application/vnd.docker.raw-stream"));
    assert!(body.contains("No such container: nosuch\r\n"), "{body}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_answer() {
    let daemon = Daemon::start().await;
    let mut client = daemon.connect().await;
    let head = "PUT /nosuch HTTP/1.1\r\nHost: d\r\nContent-Length: 200000\r\n\r\n";
    for _ in 0..2 {
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"page not found\"}\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
        client.write_all(&[b'x'; 200_000]).await.unwrap();
    }
    client.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("OK"), "{rest}");
    daemon.stop().await;
}

/// Serves one connection whose requests are all taken over by an echo.
async fn echo_server(client: UnixStream) {
    let connection = Arc::new(Connection::default());
    let io = TokioIo::new(Adapter::new(Socket::Unix(client), Arc::clone(&connection)));
    let service = service_fn(move |request| echo(Arc::clone(&connection), request));
    http1::Builder::new().serve_connection(io, service).with_upgrades().await.unwrap();
}

async fn echo(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let (body, guard) = connection.begin(body);
    let sent = body.collect().await.unwrap().to_bytes();
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        let (mut from, mut to) = theirs.into_split();
        to.write_all(&frame(1, &sent)).await.unwrap();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.write_all(b"<end of input>").await.unwrap();
    });
    let asked = parts.headers.get_all(header::UPGRADE).iter().any(|v| v != adapter::MARKER);
    let line =
        Line { upgrade, asked, connection, sessions: TaskTracker::new(), stopped: CancellationToken::new() };
    Ok(take_over(line, MULTIPLEXED, Session::of_stream(ours, async {})).unwrap().map(|b| b.guarded(guard)))
}

/// What a client reads that sends `request`, then `input` after the answer's head, then no more.
async fn talk(request: &str, input: &str) -> (String, String) {
    let (mut client, server) = UnixStream::pair().unwrap();
    tokio::spawn(echo_server(server));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("\r\n\r\n") {
        assert_ne!(client.read_buf(&mut text).await.unwrap(), 0);
    }
    client.write_all(input.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    client.read_to_end(&mut text).await.unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn an_upgrade_is_a_101_of_dockers() {
    let request = "POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let (head, body) = talk(request, "hello").await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    let lower = head.to_lowercase();
    for line in
        ["content-type: application/vnd.docker.multiplexed-stream", "connection: upgrade", "upgrade: tcp"]
    {
        assert!(lower.contains(line), "{head}");
    }
    assert_eq!(body, "\u{1}\0\0\0\0\0\0\0hello<end of input>");
}

#[tokio::test]
async fn without_upgrade_the_answer_is_an_unframed_200() {
    let request = "POST /v1.41/exec/x/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let (head, body) = talk(request, &"x".repeat(300_000)).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let lower = head.to_lowercase();
    assert!(lower.contains("content-type: application/vnd.docker.raw-stream"), "{head}");
    for absent in ["content-length", "transfer-encoding", "upgrade"] {
        assert!(!lower.contains(absent), "{head}");
    }
    assert_eq!(body.len(), 8 + 2 + 300_000 + "<end of input>".len());
    assert!(body.starts_with("\u{1}\0\0\0\0\0\0\u{2}{}xxx") && body.ends_with("<end of input>"));
}

#[tokio::test]
async fn http_1_0_gets_the_output_as_a_body() {
    let (mut client, server) = UnixStream::pair().unwrap();
    tokio::spawn(echo_server(server));
    client.write_all(b"POST /containers/x/attach HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    while !text.windows(8).any(|w| w == [1, 0, 0, 0, 0, 0, 0, 0]) {
        assert_ne!(client.read_buf(&mut text).await.unwrap(), 0);
    }
    assert!(text.starts_with(b"HTTP/1.0 200 OK\r\n"), "{}", String::from_utf8_lossy(&text));
}
