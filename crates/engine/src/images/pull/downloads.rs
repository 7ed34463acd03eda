//! What all pulls share: how many layers come at once, and the layers that are under way.

use super::{Failure, hold::Hold, report::Report};
use crate::{Error, images::pool::Pool};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use wharf_spec::ChainId;
use wharf_store::LayerRef;

/// Layers under way.
pub(in crate::images) struct Downloads {
    /// How many come at a time.
    pub(in crate::images) pool: Pool,
    under_way: Mutex<HashMap<ChainId, Weak<Coming>>>,
}

/// A layer under way, for all pulls that want it. When the last of them is gone it is given up (source: moby
/// `daemon/internal/distribution/xfer/transfer.go`).
pub(super) struct Coming {
    report: Report,
    outcome: watch::Receiver<Option<Outcome>>,
    /// For the pull that started it.
    failure: Arc<Mutex<Option<Failure>>>,
    _task: AbortOnDropHandle<()>,
}

/// How it ended.
#[derive(Clone)]
enum Outcome {
    Here(Hold<LayerRef>),
    Failed,
}

/// Who brings a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bringer {
    /// This pull: a failure is its own.
    Us,
    /// Another pull, with its own registry and user: where it fails, this one may do better.
    Another,
}

impl Downloads {
    /// With so many at a time; 0 for no limit.
    pub(in crate::images) fn new(at_once: usize) -> Self {
        Self { pool: Pool::new(at_once), under_way: Mutex::default() }
    }

    /// Joins those who wait for a layer, or starts to bring it. `start` gets where to report to, and gives `None`
    /// when a layer below failed: that one says why.
    pub(super) fn join<F>(&self, layer: ChainId, start: impl FnOnce(Report) -> F) -> (Arc<Coming>, Bringer)
    where
        F: Future<Output = Result<Option<Hold<LayerRef>>, Failure>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, coming| coming.strong_count() > 0);
        let coming = under_way.get(&layer).and_then(Weak::upgrade);
        if let Some(coming) = coming.filter(|coming| !coming.has_failed()) {
            return (coming, Bringer::Another);
        }
        let report = Report::shared();
        let coming = Arc::new(Coming::start(start(report.clone()), report));
        under_way.insert(layer, Arc::downgrade(&coming));
        (coming, Bringer::Us)
    }
}

impl Coming {
    fn start(
        work: impl Future<Output = Result<Option<Hold<LayerRef>>, Failure>> + Send + 'static,
        report: Report,
    ) -> Self {
        let (tell, outcome) = watch::channel(None);
        let failure: Arc<Mutex<Option<Failure>>> = Arc::default();
        let failed = Arc::clone(&failure);
        let task = tokio::spawn(async move {
            let ended = match work.await {
                Ok(Some(layer)) => Outcome::Here(layer),
                Ok(None) => Outcome::Failed,
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Outcome::Failed
                }
            };
            // Nobody may be left to hear it.
            let _ = tell.send(Some(ended));
        });
        Self { report, outcome, failure, _task: AbortOnDropHandle::new(task) }
    }

    /// Tells this client of it, too, from where it is.
    pub(super) fn watch(&self, client: &Report) {
        self.report.watch(client);
    }

    /// Waits until it is here; `None` when it failed.
    pub(super) async fn here(&self) -> Option<Hold<LayerRef>> {
        let mut outcome = self.outcome.clone();
        match &*outcome.wait_for(Option::is_some).await.ok()? {
            Some(Outcome::Here(layer)) => Some(layer.clone()),
            Some(Outcome::Failed) | None => None,
        }
    }

    /// Why it failed, to be told once. `None` when a layer below is to blame.
    pub(super) fn failure(&self) -> Option<Failure> {
        let panicked = self.outcome.borrow().is_none();
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.or_else(|| panicked.then_some(Failure::Engine(Error::Panicked)))
    }

    fn has_failed(&self) -> bool {
        let ended = self.outcome.borrow();
        // Without an outcome and whoever would tell it, it panicked.
        matches!(*ended, Some(Outcome::Failed)) || (ended.is_none() && self.outcome.has_changed().is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::oneshot;
    use wharf_spec::Digest;

    const LAYER: ChainId = ChainId(Digest::from_bytes([1; 32]));

    fn never(downloads: &Downloads, held: oneshot::Sender<()>) -> (Arc<Coming>, Bringer) {
        downloads.join(LAYER, |_| async move {
            let _held = held;
            pending().await
        })
    }

    #[tokio::test]
    async fn the_last_who_leaves_ends_it() {
        let downloads = Downloads::new(1);
        let (held, mut gone) = oneshot::channel();
        let (first, bringer) = never(&downloads, held);
        assert_eq!(bringer, Bringer::Us);
        let (second, bringer) = never(&downloads, oneshot::channel().0);
        assert_eq!(bringer, Bringer::Another);
        drop(first);
        tokio::task::yield_now().await;
        assert!(gone.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty));
        drop(second);
        assert!(gone.await.is_err(), "the work was dropped");
        assert_eq!(never(&downloads, oneshot::channel().0).1, Bringer::Us);
    }

    #[tokio::test]
    async fn a_failure_is_told_once_and_not_joined() {
        let downloads = Downloads::new(1);
        let fail = |_| async { Err(Failure::Engine(Error::Refused("no".into()))) };
        let (coming, _) = downloads.join(LAYER, fail);
        assert!(coming.here().await.is_none());
        assert!(coming.failure().is_some() && coming.failure().is_none());
        let (again, bringer) = downloads.join(LAYER, |_| async { Ok(None) });
        assert_eq!(bringer, Bringer::Us);
        assert!(again.here().await.is_none() && again.failure().is_none());
    }
}
