//! Managed plugins: there are none, and none can be installed yet.

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use wharf_spec::ErrorKind;

/// `GET /plugins`
pub(crate) async fn list(call: Call) -> Result<Reply> {
    call.form.filters()?.validate(&["enabled", "capability"])?;
    reply::ok::<[(); 0]>(&[])
}

/// Every verb on an installed plugin.
pub(crate) async fn missing(call: Call) -> Result<Reply> {
    Err(Error::new(ErrorKind::NotFound, format!("plugin {:?} not found", call.var("name"))))
}
