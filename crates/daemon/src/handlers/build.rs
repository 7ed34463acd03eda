//! The builder's endpoints.

use crate::{
    error::Result,
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use wharf_api::build_cache::PruneReport;

/// `POST /build/prune`: as long as there is no builder there is no cache, so that nothing is ever freed.
/// `docker system prune` needs the answer.
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    call.form.filters()?;
    reply::ok(&PruneReport::default())
}
