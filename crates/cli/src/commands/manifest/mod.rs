//! `docker manifest`: what registries have, asked by ourselves.

pub(crate) mod inspect;
