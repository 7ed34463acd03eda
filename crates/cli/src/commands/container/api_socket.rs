//! `--use-api-socket`: the daemon's socket in the container, and the user's credentials beside it (source: docker/cli
//! `cli/command/container/create.go`).

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    error::{Error, Result},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use std::{collections::BTreeMap, io::Write};
use wharf_api::{
    container::CreateRequest,
    gojson,
    mount::{BindOptions, Mount},
};
use wharf_archive::{Header, Kind, Writer};
use wharf_registry::AuthConfig;

/// Docker has it fixed, since the daemon may see another path than the client.
const SOCKET: &str = "/var/run/docker.sock";
/// Where the credentials are in the container.
const FOLDER: &str = "/run/secrets/docker";

/// Adds the socket to a request. The `config.json` that belongs into the container, unless there is nothing for it
/// or the container has one of its own.
///
/// # Errors
/// When the user's credentials cannot be had.
pub(super) fn mount(cli: &Cli, request: &mut CreateRequest) -> Result<Option<Vec<u8>>> {
    request.host_config.get_or_insert_default().mounts.push(Mount {
        kind: "bind".into(),
        source: SOCKET.into(),
        target: SOCKET.into(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    });
    let env = request.config.env.get_or_insert_default();
    if env.iter().any(|variable| variable.starts_with("DOCKER_CONFIG=")) {
        return Ok(None);
    }
    let failed = |error: Error| Error::text(format!("resolving credentials failed: {error}"));
    let auths = cli.config().all_auths().map_err(failed)?;
    if auths.is_empty() {
        return Ok(None);
    }
    env.push(format!("DOCKER_CONFIG={FOLDER}"));
    let stored: BTreeMap<String, AuthConfig> =
        auths.into_iter().map(|(k, auth)| (k, encoded(auth))).collect();
    let config = serde_json::json!({ "auths": stored });
    gojson::to_vec(&config).map(Some).map_err(|e| Error::text(e.to_string()))
}

/// As the file has it: name and password together.
fn encoded(auth: AuthConfig) -> AuthConfig {
    let AuthConfig { username, password, identitytoken, registrytoken, .. } = auth;
    let both = format!("{username}:{password}");
    AuthConfig { auth: STANDARD.encode(both), identitytoken, registrytoken, ..AuthConfig::default() }
}

/// Puts `config.json` into the new container.
///
/// # Errors
/// When the daemon refuses.
pub(super) async fn put_config(cli: &Cli, id: &str, config: Vec<u8>) -> Result<()> {
    let failed =
        |e: wharf_archive::Error| Error::text(format!("writing config to tar file for config copy: {e}"));
    let header = Header {
        name: format!("{FOLDER}/config.json").into_bytes(),
        kind: Kind::Regular,
        size: config.len() as u64,
        mode: 0o600,
        ..Header::default()
    };
    let mut tar = Writer::new(Vec::new());
    tar.header(&header).map_err(failed)?;
    tar.write_all(&config).map_err(Error::io("writing config to tar file for config copy"))?;
    let bytes = Bytes::from(tar.finish().map_err(failed)?);
    let query = Query::new().with_text("path", "/").with_text("noOverwriteDirNonDir", "true");
    let call = Call::new(Method::PUT, &format!("/containers/{}/archive", encode(id)), query);
    let whole = stream::once(async move { Ok(bytes) });
    cli.client().await?.send(call.tar(whole)).await.map(drop)
}
