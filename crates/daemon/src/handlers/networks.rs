//! Networks (source: moby `daemon/server/router/network`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use http::StatusCode;
use wharf_api::{
    Version,
    network::{ConnectRequest, CreateRequest, DisconnectRequest},
};
use wharf_engine::networks::ListNetworks;

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let options = ListNetworks { filters: call.form.filters()?, containers: call.version < Version(1, 28) };
    reply::ok(&call.app.engine.networks.list(options).await?)
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let verbose = call.form.get("verbose");
    if !matches!(
        verbose,
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False"
    ) {
        return Err(Error::invalid(format!(
            "invalid value for verbose: {verbose}: strconv.ParseBool: parsing {verbose:?}: invalid syntax"
        )));
    }
    let mut network = call.app.engine.networks.inspect(call.var("id"), call.form.get("scope")).await?;
    if call.version < Version(1, 52) {
        network.status = None;
    } else {
        network.status.get_or_insert_default();
    }
    reply::ok(&network)
}

/// `POST /networks/create`
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let mut request: CreateRequest = call.json().await?;
    if call.version < Version(1, 48) {
        request.enable_ipv4 = None;
    }
    reply::json(StatusCode::CREATED, &call.app.engine.networks.create(request).await?)
}

/// `POST /networks/{id}/connect`
pub(crate) async fn connect(mut call: Call) -> Result<Reply> {
    let mut request: ConnectRequest = call.json().await?;
    if call.version < Version(1, 54)
        && let Some(endpoint) = &mut request.endpoint_config
    {
        endpoint.mac_address.clear();
    }
    call.app.engine.networks.connect(call.var("id"), request).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`
pub(crate) async fn disconnect(mut call: Call) -> Result<Reply> {
    let request: DisconnectRequest = call.json().await?;
    call.app.engine.networks.disconnect(call.var("id"), request).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    call.app.engine.networks.remove(call.var("id")).await?;
    Ok(reply::no_content())
}

/// `POST /networks/prune`
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.networks.prune(call.form.filters()?).await?)
}
