//! How many transfers go on at a time.

use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for transfers. Its size can change; transfers under way keep the places they have then.
pub(super) struct Pool(RwLock<Arc<Semaphore>>);

impl Pool {
    /// A pool of so many at a time; 0 for no limit, as moby takes it.
    pub(super) fn new(at_once: usize) -> Self {
        Self(RwLock::new(places(at_once)))
    }

    /// Another size, for those who ask from now on.
    pub(super) fn resize(&self, at_once: usize) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = places(at_once);
    }

    /// A place; `waiting` is called when there is none at once.
    pub(super) async fn place(&self, waiting: impl FnOnce()) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return place;
        }
        waiting();
        places.acquire_owned().await.expect("a pool is never closed")
    }
}

fn places(at_once: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(if at_once == 0 { Semaphore::MAX_PERMITS } else { at_once }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn places_are_waited_for() {
        let pool = Pool::new(1);
        let mut waited = 0;
        let first = pool.place(|| waited += 1).await;
        drop(first);
        assert_eq!(waited, 0);
        let _first = pool.place(|| {}).await;
        let second = tokio::time::timeout(Duration::ZERO, pool.place(|| waited += 1)).await;
        assert!(second.is_err());
        assert_eq!(waited, 1);
        pool.resize(0);
        let _many = [pool.place(|| waited += 1).await, pool.place(|| waited += 1).await];
        assert_eq!(waited, 1);
    }
}
