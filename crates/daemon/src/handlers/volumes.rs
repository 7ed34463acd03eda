//! Volumes (source: moby `daemon/server/router/volume`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use http::StatusCode;
use wharf_api::{Version, volume::CreateRequest};
use wharf_engine::volumes::Force;

/// `GET /volumes`
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let filters = call.form.filters();
    let filters = filters.map_err(|e| Error::invalid(format!("error reading volume filters: {e}")))?;
    reply::ok(&call.app.engine.volumes.list(&filters).await?)
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.volumes.inspect(call.var("name")).await?)
}

/// `POST /volumes/create`
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let mut request: CreateRequest = call.json().await?;
    if call.version < Version(1, 42) {
        request.cluster_volume_spec = None;
    }
    if request.cluster_volume_spec.is_some() {
        return super::swarm::not_a_manager(call).await;
    }
    reply::json(StatusCode::CREATED, &call.app.engine.volumes.create(request).await?)
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let force = if call.form.bool("force") { Force::Yes } else { Force::No };
    call.app.engine.volumes.remove(call.var("name"), force).await?;
    Ok(reply::no_content())
}

/// `POST /volumes/prune`: before 1.42 volumes with a name were pruned too
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let mut filters = call.form.filters()?;
    if call.version < Version(1, 42) {
        filters.add("all", "true");
    }
    reply::ok(&call.app.engine.volumes.prune(&filters).await?)
}
