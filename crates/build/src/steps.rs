//! Steps of one build that are done now or were: what two stages do alike on the same image is done once.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};
use wharf_spec::{ImageId, RunConfig};

/// Steps by what they are; true is done.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    known: Mutex<HashMap<String, bool>>,
    ended: Condvar,
}

/// A step that is done now. Dropped without [`Claim::done`], it failed.
pub(crate) struct Claim<'s> {
    steps: &'s Steps,
    key: String,
}

impl Steps {
    /// Waits until nobody else does this step; `None` if another stage has done it.
    pub(crate) fn claim(&self, parent: Option<ImageId>, made_by: &RunConfig) -> Option<Claim<'_>> {
        let parent = parent.map(|id| id.to_string()).unwrap_or_default();
        let key = format!("{parent} {}", String::from_utf8_lossy(&wharf_spec::to_go_json(made_by)));
        let mut known = self.lock();
        loop {
            match known.get(&key) {
                None => break,
                Some(true) => return None,
                Some(false) => known = self.ended.wait(known).unwrap_or_else(PoisonError::into_inner),
            }
        }
        known.insert(key.clone(), false);
        Some(Claim { steps: self, key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// The step has an image now.
    pub(crate) fn done(self) {
        self.steps.lock().insert(self.key.clone(), true);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut known = self.steps.lock();
        if known.get(&self.key) == Some(&false) {
            known.remove(&self.key);
        }
        drop(known);
        self.steps.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_by_one_alone() {
        let (steps, config) = (Steps::default(), RunConfig::default());
        let other = RunConfig { user: "x".into(), ..RunConfig::default() };
        drop(steps.claim(None, &config).unwrap());
        let claim = steps.claim(None, &config).unwrap();
        assert!(steps.claim(None, &other).is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| steps.claim(None, &config).is_none());
            claim.done();
            assert!(waiting.join().unwrap(), "it was done meanwhile");
        });
    }
}
