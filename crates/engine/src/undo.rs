//! A stack of steps back, for work that can fail half-way.

use std::{future::Future, pin::Pin};

type Step = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What takes back the steps done so far. On success it is disarmed with [`Undo::commit`], on failure
/// [`Undo::run`] takes back the last step first. A stack dropped with steps in it (a cancelled request)
/// runs them in the background.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(&'static str, Step)>,
}

impl Undo {
    /// Remembers how a step that just succeeded is taken back. Errors are the step's to log.
    pub(crate) fn push(&mut self, name: &'static str, step: impl Future<Output = ()> + Send + 'static) {
        self.steps.push((name, Box::pin(step)));
    }

    /// Everything went well: nothing is taken back.
    pub(crate) fn commit(mut self) {
        self.steps.clear();
    }

    /// Takes everything back, the last step first.
    pub(crate) async fn run(mut self) {
        run(std::mem::take(&mut self.steps)).await;
    }
}

async fn run(mut steps: Vec<(&'static str, Step)>) {
    while let Some((name, step)) = steps.pop() {
        tracing::debug!(step = name, "undo");
        step.await;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        let steps = std::mem::take(&mut self.steps);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(run(steps))),
            Err(_) => tracing::warn!("undo steps lost: the runtime is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn recorder() -> (Arc<Mutex<Vec<u32>>>, impl Fn(u32) -> Step) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let step = move |n| -> Step {
            let sink = Arc::clone(&sink);
            Box::pin(async move { sink.lock().unwrap().push(n) })
        };
        (log, step)
    }

    #[tokio::test]
    async fn steps_are_taken_back_last_first_and_not_after_commit() {
        let (log, step) = recorder();
        let mut undo = Undo::default();
        undo.push("one", step(1));
        undo.push("two", step(2));
        undo.run().await;
        assert_eq!(*log.lock().unwrap(), [2, 1]);

        let mut undo = Undo::default();
        undo.push("three", step(3));
        undo.commit();
        tokio::task::yield_now().await;
        assert_eq!(*log.lock().unwrap(), [2, 1]);
    }

    #[tokio::test]
    async fn a_dropped_stack_is_taken_back_in_the_background() {
        let (log, step) = recorder();
        let mut undo = Undo::default();
        undo.push("one", step(1));
        drop(undo);
        while log.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*log.lock().unwrap(), [1]);
    }
}
