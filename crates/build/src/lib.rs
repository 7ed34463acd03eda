//! The builder: from a parsed Dockerfile to layers.
//!
//! Role: a graph of stages, content-addressed cache keys, and the trait `Worker`, which the engine implements so
//! that this crate stays below it. Nothing of it is built yet; `POST /build` answers 501.
#![forbid(unsafe_code)]
