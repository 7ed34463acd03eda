//! Containers (source: moby `daemon/server/router/container`).

use super::{create_compat, logs};
use crate::{
    error::{Error, Result},
    http::{
        body::Body,
        call::Call,
        reply::{self, Reply},
        stream::{self, MULTIPLEXED, RAW, Session},
        websocket::{self, Opcode},
    },
};
use bytes::Bytes;
use futures_util::stream::StreamExt;
use http::{HeaderValue, StatusCode, header};
use std::io;
use wharf_api::{
    IdResponse, Version,
    container::{
        Config, CreateRequest, InspectResponse, StatsResponse, Summary, UpdateRequest, WaitExitError,
        WaitResponse,
    },
    gojson,
};
use wharf_engine::containers::{
    AttachOptions, Attached, CommitOptions, CreateOptions, ListOptions, RemoveOptions, Sizes, StatsMode,
    StopOptions, WaitCondition, Waited,
};
use wharf_engine::images::repository_and_tag;
use wharf_spec::Platform;

/// `GET /containers/json`
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let options = ListOptions {
        filters: call.form.filters()?,
        limit: call.form.int("limit")?.unwrap_or_default(),
        all: call.form.bool("all"),
        size: call.form.bool("size"),
    };
    let mut containers = call.app.engine.containers.list(options).await?;
    containers.iter_mut().for_each(|container| adapt_summary(container, call.version));
    reply::ok(&containers)
}

fn adapt_summary(container: &mut Summary, version: Version) {
    if version < Version(1, 46) {
        container.host_config.annotations.clear();
    }
    if version < Version(1, 48) {
        container.image_manifest_descriptor = None;
    }
    if version < Version(1, 52) {
        container.health = None;
    }
}

/// `POST /containers/create`
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    call.check_for_json()?;
    let body = call.bytes().await?;
    let (mut request, rest) = CreateRequest::from_json(&body)?;
    if gojson::more(rest) {
        return Err(Error::invalid("unexpected content after JSON"));
    }
    if request.config == Config::default() {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let platform = match call.form.get("platform") {
        text if text.is_empty() || call.version < Version(1, 41) => None,
        text => Some(text.parse::<Platform>().map_err(|e| Error::invalid(e.to_string()))?),
    };
    let warnings = create_compat::adapt(&mut request, call.version)?;
    let name = Some(call.form.get("name").to_owned()).filter(|name| !name.is_empty());
    let options = CreateOptions { name, platform, request, ..CreateOptions::default() };
    let mut response = Box::pin(call.app.engine.containers.create(options)).await?;
    response.warnings.extend(warnings);
    reply::json(StatusCode::CREATED, &response)
}

/// `POST /commit`
pub(crate) async fn commit(mut call: Call) -> Result<Reply> {
    let given: Option<serde_json::Map<String, serde_json::Value>> = call.json().await?;
    // In moby the config is a pointer that the first known key fills.
    let config = match given.filter(|keys| !keys.is_empty()) {
        None => None,
        Some(keys) => {
            let json = serde_json::to_vec(&keys).map_err(Error::Encode)?;
            Some(gojson::from_slice::<Config>(&json).map_err(wharf_api::Error::Json)?)
        }
    };
    let reference = repository_and_tag(call.form.get("repo"), call.form.get("tag"))?;
    let options = CommitOptions {
        pause: call.form.bool_or("pause", true),
        reference,
        author: call.form.get("author").to_owned(),
        comment: call.form.get("comment").to_owned(),
        config,
        changes: call.form.all("changes").map(str::to_owned).collect(),
    };
    let id = call.app.engine.containers.commit(call.form.get("container"), options).await?;
    reply::json(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

/// `GET /containers/{id}/json`
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let size = if call.form.bool("size") { Sizes::Measured } else { Sizes::Unknown };
    let mut container = call.app.engine.containers.inspect(call.var("name"), size).await?;
    adapt_inspect(&mut container, call.version);
    reply::ok(&container)
}

fn adapt_inspect(container: &mut InspectResponse, version: Version) {
    if version < Version(1, 45) {
        let names: [String; 2] = [container.id.chars().take(12).collect(), container.config.hostname.clone()];
        for (network, endpoint) in &mut container.network_settings.networks {
            if wharf_api::container::NetworkMode::from(network.as_str()).is_user_defined() {
                let aliases = endpoint.aliases.get_or_insert_default();
                for name in &names {
                    if !aliases.contains(name) {
                        aliases.push(name.clone());
                    }
                }
            }
        }
    }
    if version < Version(1, 48) {
        container.image_manifest_descriptor = None;
    }
    if version >= Version(1, 52) {
        container.config.mac_address.clear();
        return;
    }
    let settings = &mut container.network_settings;
    if let Some(bridge) = settings.networks.get("bridge").cloned() {
        settings.endpoint_id = Some(bridge.endpoint_id);
        settings.gateway = Some(bridge.gateway);
        settings.global_ipv6_address = Some(bridge.global_ipv6_address);
        settings.global_ipv6_prefix_len = Some(bridge.global_ipv6_prefix_len);
        settings.ip_address = Some(bridge.ip_address);
        settings.ip_prefix_len = Some(bridge.ip_prefix_len);
        settings.ipv6_gateway = Some(bridge.ipv6_gateway);
        settings.mac_address = Some(bridge.mac_address);
    }
}

/// `POST /containers/{id}/start`
pub(crate) async fn start(call: Call) -> Result<Reply> {
    // Docker took a HostConfig here once; what is too short to be one is let through.
    let length = call.header(header::CONTENT_LENGTH.as_str()).parse::<u64>();
    let is_long = length.is_ok_and(|n| n > 7) || call.headers().contains_key(header::TRANSFER_ENCODING);
    if is_long {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !call.form.get("checkpoint").is_empty() {
        return Err(call.not_built());
    }
    call.app.engine.containers.start(call.var("name")).await?;
    Ok(reply::no_content())
}

fn stop_options(call: &Call) -> Result<StopOptions> {
    let signal = call.form.get("signal");
    let signal = (call.version >= Version(1, 42) && !signal.is_empty()).then(|| signal.to_owned());
    Ok(StopOptions { signal, timeout: call.form.int("t")? })
}

/// `POST /containers/{id}/stop`
pub(crate) async fn stop(call: Call) -> Result<Reply> {
    call.app.engine.containers.stop(call.var("name"), stop_options(&call)?).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/restart`
pub(crate) async fn restart(call: Call) -> Result<Reply> {
    call.app.engine.containers.restart(call.var("name"), stop_options(&call)?).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/kill`
pub(crate) async fn kill(call: Call) -> Result<Reply> {
    call.app.engine.containers.kill(call.var("name"), call.form.get("signal")).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/pause`
pub(crate) async fn pause(call: Call) -> Result<Reply> {
    call.app.engine.containers.pause(call.var("name")).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/unpause`
pub(crate) async fn unpause(call: Call) -> Result<Reply> {
    call.app.engine.containers.unpause(call.var("name")).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/rename`
pub(crate) async fn rename(call: Call) -> Result<Reply> {
    call.app.engine.containers.rename(call.var("name"), call.form.get("name")).await?;
    Ok(reply::no_content())
}

/// `POST /containers/{id}/resize`
pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let size = call.form.terminal_size()?;
    call.app.engine.containers.resize(call.var("name"), size).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /containers/{id}/update`
pub(crate) async fn update(mut call: Call) -> Result<Reply> {
    let mut request: UpdateRequest = call.json().await?;
    if call.version < Version(1, 40) {
        request.pids_limit = None;
    }
    if call.version < Version(1, 55) {
        request.blkio_weight_device = None;
        request.blkio_device_read_bps = None;
        request.blkio_device_write_bps = None;
        request.blkio_device_read_iops = None;
        request.blkio_device_write_iops = None;
    }
    // Here no limit is a change, unlike no value.
    request.pids_limit = request.pids_limit.map(|limit| limit.max(0));
    reply::ok(&call.app.engine.containers.update(call.var("name"), request).await?)
}

/// `DELETE /containers/{id}`
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let options = RemoveOptions {
        force: call.form.bool("force"),
        volumes: call.form.bool("v"),
        link: call.form.bool("link"),
    };
    call.app.engine.containers.remove(call.var("name"), options).await?;
    Ok(reply::no_content())
}

/// `POST /containers/prune`
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.containers.prune(&call.form.filters()?).await?)
}

/// `GET /containers/{id}/top`
pub(crate) async fn top(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.containers.top(call.var("name"), call.form.get("ps_args")).await?)
}

/// `GET /containers/{id}/changes`
pub(crate) async fn changes(call: Call) -> Result<Reply> {
    let changes = call.app.engine.containers.changes(call.var("name")).await?;
    // A container that changed nothing has null, not an empty list.
    reply::ok(&Some(changes).filter(|list| !list.is_empty()))
}

/// `GET /containers/{id}/export`
pub(crate) async fn export(call: Call) -> Result<Reply> {
    let tar = call.app.engine.containers.export(call.var("name")).await?;
    Ok(reply::stream("application/octet-stream", tar))
}

/// `GET /containers/{id}/stats`
pub(crate) async fn stats(call: Call) -> Result<Reply> {
    let one_shot = call.version >= Version(1, 41) && call.form.bool("one-shot");
    let mode = match (call.form.bool_or("stream", true), one_shot) {
        (true, _) => StatsMode::Stream,
        (false, true) => StatsMode::OneShot,
        (false, false) => StatsMode::Twice,
    };
    let readings = call.app.engine.containers.stats(call.var("name"), mode).await?;
    let stopping = call.app.stopping.clone().cancelled_owned();
    let lines = readings.map(|reading| stats_line(&reading.map_err(io::Error::other)?)).take_until(stopping);
    Ok(reply::stream("application/json", lines))
}

fn stats_line(reading: &StatsResponse) -> io::Result<Bytes> {
    Ok(gojson::to_vec(reading)?.into())
}

/// `POST /containers/{id}/wait`: the head is sent at once since 1.30, the body when the container ends
pub(crate) async fn wait(call: Call) -> Result<Reply> {
    let condition: WaitCondition = match call.form.get("condition") {
        _ if call.version < Version(1, 30) => WaitCondition::NotRunning,
        text => text.parse()?,
    };
    let wait = call.app.engine.containers.wait(call.var("name"), condition)?;
    if call.version < Version(1, 30) {
        return reply::ok(&wait_response(wait.done().await?));
    }
    let silent = condition == WaitCondition::Removed && call.version < Version(1, 34);
    let stopped = call.app.stopped.clone();
    let body = futures_util::stream::once(async move {
        let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let waited =
            stopped.run_until_cancelled(wait.done()).await.ok_or_else(gone)?.map_err(io::Error::other)?;
        if silent && !waited.error.is_empty() {
            // Such clients know no error here: an answer without body is one to them.
            return Ok(Bytes::new());
        }
        Ok(gojson::to_vec(&wait_response(waited))?.into())
    });
    Ok(reply::with_type(StatusCode::OK, "application/json", Body::stream(body)))
}

fn wait_response(waited: Waited) -> WaitResponse {
    let error = Some(waited.error).filter(|text| !text.is_empty()).map(|message| WaitExitError { message });
    WaitResponse { status_code: waited.code.into(), error }
}

/// `POST /containers/{id}/attach`: errors are in plain text, of the type that a stream would have
pub(crate) async fn attach(call: Call) -> Result<Reply> {
    let form = &call.form;
    let options = AttachOptions {
        logs: form.bool("logs"),
        stream: form.bool("stream"),
        stdin: form.bool("stdin"),
        stdout: form.bool("stdout"),
        stderr: form.bool("stderr"),
        detach_keys: Some(form.get("detachKeys").to_owned()).filter(|keys| !keys.is_empty()),
    };
    match call.app.engine.containers.attach(call.var("name"), options).await {
        Ok(attached) => {
            let multiplexed = !attached.tty && call.version >= Version(1, 42);
            stream::take_over(
                call.into_line(),
                if multiplexed { MULTIPLEXED } else { RAW },
                session(attached),
            )
        }
        Err(error) => {
            let error = Error::from(error);
            let mut answer = reply::with_type(error.status(), RAW, Body::full(format!("{error}\r\n")));
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(answer)
        }
    }
}

/// `GET /containers/{id}/attach/ws`: before 1.42 every stream is attached, whatever the client asks for
pub(crate) async fn attach_websocket(call: Call) -> Result<Reply> {
    let form = &call.form;
    let every = call.version < Version(1, 42);
    let options = AttachOptions {
        logs: form.bool("logs"),
        stream: form.bool("stream"),
        stdin: every || form.bool("stdin"),
        stdout: every || form.bool("stdout"),
        stderr: every || form.bool("stderr"),
        detach_keys: Some(form.get("detachKeys").to_owned()).filter(|keys| !keys.is_empty()),
    };
    let attached = call.app.engine.containers.attach(call.var("name"), options).await?;
    let opcode = if call.version < Version(1, 28) { Opcode::Text } else { Opcode::Binary };
    let form = websocket::Form { opcode, multiplexed: !attached.tty };
    let headers = call.headers().clone();
    websocket::take_over(call.into_line(), &headers, form, session(attached))
}

fn session(attached: Attached) -> Session {
    let before = match attached.logs {
        Some(logs) => logs::chunks(logs).boxed(),
        None => futures_util::stream::empty().boxed(),
    };
    Session { before, stream: attached.stream, settled: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::network::EndpointSettings;

    #[test]
    fn old_clients_see_the_bridge_twice() {
        let at = |minor| {
            let mut container = InspectResponse { id: "0123456789abcdef".into(), ..Default::default() };
            container.config.hostname = "h".into();
            let endpoint = EndpointSettings { ip_address: "172.17.0.2".into(), ..Default::default() };
            container.network_settings.networks.insert("bridge".into(), endpoint.clone());
            container.network_settings.networks.insert("mine".into(), endpoint);
            adapt_inspect(&mut container, Version(1, minor));
            container
        };
        let old = at(44);
        assert_eq!(old.network_settings.ip_address.as_deref(), Some("172.17.0.2"));
        assert_eq!(old.network_settings.networks["mine"].aliases.as_deref().unwrap(), ["0123456789ab", "h"]);
        assert_eq!(old.network_settings.networks["bridge"].aliases, None);
        let new = at(52);
        assert_eq!(new.network_settings.ip_address, None);
        assert_eq!(new.network_settings.networks["mine"].aliases, None);
    }

    #[test]
    fn waits_tell_errors_apart() {
        let waited = Waited { code: 1, error: "no".into() };
        let text = serde_json::to_string(&wait_response(waited)).unwrap();
        assert_eq!(text, r#"{"Error":{"Message":"no"},"StatusCode":1}"#);
    }
}
