//! SHA-256: of bytes, of streams while they pass, of stacks of layers.

use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use wharf_spec::{ChainId, DiffId, Digest};

/// The digest of bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    into_digest(ring::digest::digest(&SHA256, bytes))
}

/// The id of a stack (source: OCI image-spec, config.md, "Layer ChainID").
pub fn chain_id(parent: Option<ChainId>, layer: DiffId) -> ChainId {
    match parent {
        None => ChainId(layer.0),
        Some(parent) => ChainId(sha256(format!("{parent} {layer}").as_bytes())),
    }
}

/// The ids of each stack from the bottom up: the last one is the image's.
pub fn chain_ids(layers: &[DiffId]) -> Vec<ChainId> {
    let mut all: Vec<ChainId> = Vec::with_capacity(layers.len());
    for layer in layers {
        all.push(chain_id(all.last().copied(), *layer));
    }
    all
}

/// Digests what is read through it.
pub struct Hashing<R> {
    source: R,
    context: Context,
    bytes: u64,
}

impl<R> Hashing<R> {
    /// Nothing read yet.
    pub fn new(source: R) -> Self {
        Self { source, context: Context::new(&SHA256), bytes: 0 }
    }

    /// Digest and number of the bytes read.
    pub fn finish(self) -> (Digest, u64) {
        (into_digest(self.context.finish()), self.bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.context.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

pub(crate) fn into_digest(digest: ring::digest::Digest) -> Digest {
    Digest::from_bytes(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_dockers() {
        // fixtures/layers:v1 by docker.io 20.10: two layers and the directory in layerdb.
        let layers: Vec<DiffId> = [
            "sha256:ce06480e9de86e9ffa36c21e3013045f19064528aaf01107c83c795cd9d02f5d",
            "sha256:9ebe094c29c79df3d6d9c6852769fc8bebd0772a392a41ad8ffa812611fbb0a8",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        let chains = chain_ids(&layers);
        assert_eq!(chains[0].0, layers[0].0);
        assert_eq!(chains[1].to_string(), CHAIN);
    }

    const CHAIN: &str = "sha256:b7128c144619e5dbd7a94e41d925476956cbac65cca0dc52db2acaa819a067b2";
}
