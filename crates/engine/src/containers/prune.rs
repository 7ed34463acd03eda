//! `POST /containers/prune`

use super::{Containers, RemoveOptions};
use crate::{Error, Filters, Result, events::EventKind};
use wharf_api::{
    container::PruneReport,
    time::{Time, parse_relative},
};

impl Containers {
    /// Removes containers that do not run.
    ///
    /// # Errors
    /// For filters that are not known and times that are none.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["label", "label!", "until"])?;
        let until = until(filters)?;
        let mut report = PruneReport::default();
        for container in self.all() {
            let wanted = container.with(|state| {
                let labels = state.record.config.labels.clone().unwrap_or_default();
                !state.status.facts().running
                    && until.is_none_or(|until| state.record.created <= until)
                    && filters.match_label_pair(&labels)
            });
            if !wanted {
                continue;
            }
            let sizes = self.sizes(&container).await.unwrap_or_default();
            match self.remove(container.id.as_str(), RemoveOptions::default()).await {
                Ok(()) => {
                    report.space_reclaimed += u64::try_from(sizes.rw).unwrap_or(0);
                    report.containers_deleted.get_or_insert_default().push(container.id.to_string());
                }
                Err(error) => tracing::warn!(container = %container.id, %error, "not pruned"),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())].into();
        self.parts().events.emit(EventKind::Container, "prune", "", reclaimed);
        Ok(report)
    }
}

/// The `until` filter, at most one (source: moby `daemon/prune.go`, getUntilFromPruneFilters).
pub(crate) fn until(filters: &Filters) -> Result<Option<Time>> {
    let mut values = filters.get("until");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(parse_relative(value, Time::now())?)),
        _ => Err(Error::Invalid("more than one until filter specified".into())),
    }
}
