//! Things whose end is work that blocks, in async code that may be dropped at any time.

use std::ops::Deref;
use tokio::runtime::Handle;

/// Drops what it holds on a thread that may block: an extracted layer takes its files with it.
pub(super) struct Hold<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Hold<T> {
    pub(super) fn new(held: T) -> Self {
        Self(Some(held))
    }

    /// What is held, by itself again; for code that may block.
    pub(super) fn release(mut self) -> T {
        self.0.take().expect("only this and drop take it, and both are the last")
    }
}

impl<T: Send + 'static> Deref for Hold<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("only release and drop take it, and both are the last")
    }
}

impl<T: Clone + Send + 'static> Clone for Hold<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Drop for Hold<T> {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            // Nobody waits for it.
            drop(runtime.spawn_blocking(move || drop(held)));
        }
    }
}
