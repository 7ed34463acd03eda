//! A token server for Debian's docker-registry, behind TLS (source: distribution `docs/spec/auth/token.md`,
//! `docs/spec/auth/jwt.md`).

use crate::NetNs;
use anyhow::{Context, Result, anyhow};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// The certificate of test registries at 192.0.2.1 and `registry.test`, its own root.
pub(crate) const CERTIFICATE: &str = include_str!("../data/registry.crt");
/// Its key.
pub(crate) const KEY: &str = include_str!("../data/registry.key");
/// Whom tokens are for.
pub(crate) const SERVICE: &str = "test";

/// A running token server. Its thread ends with the test's process.
#[derive(Debug)]
pub(crate) struct TokenServer {
    seen: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    /// Starts one that knows this user.
    pub(crate) fn start(net: &NetNs, address: &str, user: &str, password: &str) -> Result<Self> {
        let listener = net.within(|| TcpListener::bind(address).context(address.to_owned()))?;
        let config = Arc::new(tls()?);
        let signer = Arc::new(Signer::new()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, wanted) =
            (Arc::clone(&seen), format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(session) = rustls::ServerConnection::new(Arc::clone(&config)) else { return };
                let stream = BufReader::new(rustls::StreamOwned::new(session, stream));
                let (signer, log, wanted) = (Arc::clone(&signer), Arc::clone(&log), wanted.clone());
                thread::spawn(move || serve(stream, &signer, &log, &wanted));
            }
        });
        Ok(Self { seen })
    }

    /// What was asked for, path and query.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn tls() -> Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes())?;
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(chain, key)?)
}

/// Answers the requests of a connection.
fn serve(
    mut stream: impl BufRead + AsWriter,
    signer: &Signer,
    log: &Mutex<Vec<String>>,
    wanted: &str,
) -> Option<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let target = line.split_whitespace().nth(1)?.to_owned();
        let mut is_known = false;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok().filter(|n| *n > 0)?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            is_known |= name.eq_ignore_ascii_case("authorization") && value == wanted;
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
        let (status, body) = match is_known {
            true => (200, json!({"token": signer.token(&target).ok()?, "expires_in": 300})),
            false => (
                401,
                json!({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}),
            ),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.writer().write_all(format!("{head}{body}").as_bytes()).ok()?;
        stream.writer().flush().ok()?;
    }
}

/// The writing side of what is read with a buffer.
trait AsWriter {
    fn writer(&mut self) -> &mut dyn Write;
}

impl<S: Write> AsWriter for BufReader<S> {
    fn writer(&mut self) -> &mut dyn Write {
        self.get_mut()
    }
}

struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let der = PrivateKeyDer::from_pem_slice(KEY.as_bytes())?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &random)
            .map_err(|e| anyhow!("{e}"))?;
        Ok(Self { key, random })
    }

    /// A token for what the query asks.
    fn token(&self, target: &str) -> Result<String> {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?;
        let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&certificate)]});
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": "testkit", "sub": "user", "aud": SERVICE, "jti": "1",
            "exp": now + 300, "nbf": now - 60, "iat": now, "access": access(target),
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|e| anyhow!("{e}"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// `scope=repository:name:pull,push` as the registry wants it.
fn access(target: &str) -> Vec<Value> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let decoded = scopes.map(|s| s.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","));
    decoded
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<&str> = actions.split(',').collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect()
}
