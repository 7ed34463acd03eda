//! Pushes of one layer to one repository take turns: who comes second finds the layer there (source: moby
//! `daemon/internal/distribution/push_v2.go`, `v2PushDescriptor.Key`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError, Weak},
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use wharf_spec::DiffId;

/// A repository, registry included, and a layer.
type Key = (String, DiffId);

/// What all pushes share.
#[derive(Default)]
pub(in crate::images) struct Turns {
    taken: StdMutex<HashMap<Key, Weak<Mutex<()>>>>,
}

impl Turns {
    /// Waits for the push that has the turn; it is over when what is given is dropped.
    pub(super) async fn take(&self, repository: String, layer: DiffId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.retain(|_, turn| turn.strong_count() > 0);
            let turn = taken.get(&(repository.clone(), layer)).and_then(Weak::upgrade).unwrap_or_default();
            taken.insert((repository, layer), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use wharf_spec::Digest;

    #[tokio::test]
    async fn one_layer_of_one_repository_has_one_turn() {
        let turns = Turns::default();
        let [one, two] = [1, 2].map(|byte| DiffId(Digest::from_bytes([byte; 32])));
        let first = turns.take("a".into(), one).await;
        assert!(turns.take("a".into(), one).now_or_never().is_none());
        assert!(turns.take("a".into(), two).now_or_never().is_some());
        assert!(turns.take("b".into(), one).now_or_never().is_some());
        drop(first);
        assert!(turns.take("a".into(), one).now_or_never().is_some());
    }
}
