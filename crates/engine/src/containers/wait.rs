//! `POST /containers/{id}/wait`

use super::{
    Containers, WaitCondition, Waited,
    container::{Container, Progress},
};
use crate::{Error, Result};
use std::sync::Arc;
use tokio::sync::watch;

/// A wait that has begun: what happens from now on counts.
#[derive(Debug)]
pub struct Wait {
    condition: WaitCondition,
    receiver: watch::Receiver<Progress>,
    ends: u64,
}

impl Containers {
    /// Begins to wait; the answer comes from [`Wait::done`].
    ///
    /// # Errors
    /// `No such container: ...`.
    pub fn wait(&self, id_or_name: &str, condition: WaitCondition) -> Result<Wait> {
        Ok(Wait::new(&self.get(id_or_name)?, condition))
    }
}

impl Wait {
    pub(crate) fn new(container: &Arc<Container>, condition: WaitCondition) -> Self {
        let receiver = container.watch();
        let ends = receiver.borrow().ends;
        Self { condition, receiver, ends }
    }

    /// How the wait ends.
    ///
    /// # Errors
    /// [`Error::ShuttingDown`] when the engine is gone before.
    pub async fn done(mut self) -> Result<Waited> {
        let (condition, ends) = (self.condition, self.ends);
        let met = move |p: &Progress| match condition {
            // A container that its policy starts again has ended all the same.
            WaitCondition::NotRunning => !p.running || p.removed || p.ends > ends,
            WaitCondition::NextExit => p.removed || p.ends > ends,
            WaitCondition::Removed => p.removed,
        };
        let progress = self.receiver.wait_for(met).await.map_err(|_| Error::ShuttingDown)?;
        Ok(Waited { code: progress.code, error: progress.error.clone() })
    }
}
