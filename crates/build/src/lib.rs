//! The builder: from a Dockerfile and a context to an image.
//!
//! Role: what a build does, step by step, in the order and the words of Docker's classic builder. It knows files and
//! configs; images, layers and containers are the [`Worker`]'s, which the engine implements, so that this crate stays
//! below it.
//!
//! Entry points: [`Context`] for what a client sends, [`build`] for the build itself. Everything here blocks.
//!
//! Files on disk: contexts and downloads, each in a directory of its own below the one that a caller names; they go
//! with their owner, but for contexts that are [`Kept`].
//!
//! Invariants: every path of a Dockerfile is resolved inside the context's or an image's root; what a step leaves
//! behind is the worker's to undo.
#![forbid(unsafe_code)]

mod args;
mod checksum;
mod classic;
mod context;
mod copy;
mod copying;
mod error;
mod explain;
mod graph;
mod kept;
mod mode;
mod mounts;
mod scratch;
mod select;
mod stage;
mod steps;
mod times;
mod worker;

pub use classic::{Request, Stages, build};
pub use context::{Context, Contexts, Named, parse};
pub use error::{Error, Result};
pub use kept::{Kept, Update, remove_kept};
pub use scratch::Scratch;
pub use times::no_later_than;
pub use worker::{Base, Bind, Checkout, Commit, Download, Output, Run, Worker};
