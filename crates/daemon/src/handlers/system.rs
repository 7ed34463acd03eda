//! The daemon itself (source: moby `daemon/server/router/system`).

use crate::{
    error::{Error, Result},
    http::{
        body::Body,
        call::Call,
        reply::{self, Reply},
    },
};
use http::{HeaderValue, Method, StatusCode, header};
use wharf_api::{
    Version,
    auth::{AuthConfig, AuthResponse},
    gojson,
    system::Info,
};

/// `GET /_ping` and `HEAD /_ping`
pub(crate) async fn ping(call: Call) -> Result<Reply> {
    let body = if call.parts.method == Method::HEAD { Body::empty() } else { Body::full("OK") };
    let mut answer = reply::with_type(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    if call.parts.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(answer)
}

/// `OPTIONS` of anything
pub(crate) async fn options(_: Call) -> Result<Reply> {
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /version`
pub(crate) async fn version(call: Call) -> Result<Reply> {
    let mut answer = call.app.engine.system.version();
    answer.api_version = Version::MAX.to_string();
    answer.min_api_version = call.app.min_version.to_string();
    // `docker version` shows what the engine's component says, not the keys beside it.
    if let Some(engine) = answer.components.first_mut() {
        let known = [
            ("ApiVersion", &answer.api_version),
            ("MinAPIVersion", &answer.min_api_version),
            ("GitCommit", &answer.git_commit),
            ("GoVersion", &answer.go_version),
            ("BuildTime", &answer.build_time),
        ];
        engine.details.extend(known.map(|(key, value)| (key.to_owned(), value.clone())));
    }
    reply::ok(&answer)
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Result<Reply> {
    let mut info = call.app.engine.system.info().await?;
    adapt_info(&mut info, call.version);
    reply::ok(&info)
}

/// What older versions have, and do not have.
fn adapt_info(info: &mut Info, version: Version) {
    if version < Version(1, 44) {
        info.runtimes.values_mut().for_each(|runtime| runtime.status.clear());
    }
    if version < Version(1, 46) {
        info.containerd = None;
    }
    if version < Version(1, 47)
        && let Some(registries) = &mut info.registry_config
    {
        registries.allow_nondistributable_artifacts_cidrs = Some(());
        registries.allow_nondistributable_artifacts_hostnames = Some(());
    }
    if version < Version(1, 49) {
        info.firewall_backend = None;
        for commit in [&mut info.containerd_commit, &mut info.runc_commit, &mut info.init_commit] {
            commit.expected = Some(commit.id.clone());
        }
    }
    if version < Version(1, 50) {
        info.discovered_devices.clear();
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
}

/// `POST /auth`: its body is read as the header `X-Registry-Auth` is (source: moby `api/pkg/authconfig`).
pub(crate) async fn auth(mut call: Call) -> Result<Reply> {
    let body = call.bytes().await?;
    let fail = |why: String| Error::invalid(format!("invalid X-Registry-Auth header: {why}"));
    match gojson::decode::<AuthConfig>(&body) {
        Ok((_, rest)) if gojson::more(rest) => Err(fail("multiple JSON documents not allowed".into())),
        Ok((auth, _)) => {
            let identity_token = call.app.engine.images.login(auth).await?;
            reply::ok(&AuthResponse { identity_token, status: "Login Succeeded".into() })
        }
        Err(e) => Err(fail(format!("invalid JSON: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_every_age() {
        let at = |minor| {
            let mut info = Info { registry_config: Some(Default::default()), ..Default::default() };
            adapt_info(&mut info, Version(1, minor));
            serde_json::to_value(info).unwrap()
        };
        assert_eq!(at(46)["RegistryConfig"]["AllowNondistributableArtifactsCIDRs"], serde_json::Value::Null);
        assert!(
            at(46)["RegistryConfig"]
                .as_object()
                .unwrap()
                .contains_key("AllowNondistributableArtifactsHostnames")
        );
        assert_eq!(at(48)["RuncCommit"]["Expected"], "");
        assert_eq!(at(49)["BridgeNfIptables"], false);
        assert!(at(50).get("BridgeNfIptables").is_none());
    }
}
