//! What all pulls share: how many layers come at once, and who brings a layer that several want.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use wharf_spec::ChainId;

/// The bounded pool of downloads.
pub(in crate::images) struct Downloads {
    permits: Arc<Semaphore>,
    under_way: Mutex<HashMap<ChainId, Weak<AsyncMutex<()>>>>,
}

impl Downloads {
    /// A pool of so many at a time, at least one.
    pub(in crate::images) fn new(at_once: usize) -> Self {
        // moby takes 0 and less for "no limit".
        let permits = if at_once == 0 { Semaphore::MAX_PERMITS } else { at_once };
        Self { permits: Arc::new(Semaphore::new(permits)), under_way: Mutex::default() }
    }

    /// Who holds its lock brings the layer; others wait and then find it. The lock of a layer is held while
    /// waiting for the layers below it, never for others, so that pulls cannot wait for each other in circles.
    pub(super) fn turn(&self, layer: ChainId) -> Arc<AsyncMutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = under_way.get(&layer).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        under_way.insert(layer, Arc::downgrade(&turn));
        turn
    }

    /// A place in the pool; `waiting` is called when there is none at once.
    pub(super) async fn place(&self, waiting: impl FnOnce()) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        waiting();
        Arc::clone(&self.permits).acquire_owned().await.expect("the pool is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::Digest;

    #[tokio::test]
    async fn places_and_turns_are_waited_for() {
        let downloads = Downloads::new(1);
        let mut waited = 0;
        let first = downloads.place(|| waited += 1).await;
        drop(first);
        assert_eq!(waited, 0);
        let _first = downloads.place(|| {}).await;
        let second = tokio::time::timeout(std::time::Duration::ZERO, downloads.place(|| waited += 1)).await;
        assert!(second.is_err());
        assert_eq!(waited, 1);

        let [one, two] = [1, 2].map(|n| ChainId(Digest::from_bytes([n; 32])));
        let held = downloads.turn(one).lock_owned().await;
        assert!(downloads.turn(one).try_lock_owned().is_err());
        assert!(downloads.turn(two).try_lock_owned().is_ok());
        drop(held);
        assert!(downloads.turn(one).try_lock_owned().is_ok());
        downloads.turn(one);
        assert_eq!(downloads.under_way.lock().unwrap().len(), 1);
    }
}
