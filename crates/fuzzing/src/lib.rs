//! What is done with bytes that nobody vouches for, as fuzzers call it.
//!
//! Role: one function per parser of hostile bytes, which panics when a promise is broken. The targets in `fuzz/`
//! call them with what libFuzzer makes up; the tests here call them with seeded mutations of the same seeds, so
//! that every run of the tests tries some.
//!
//! Entry point: [`TARGETS`]. Files: `fuzz/seeds/<target>/`.
#![forbid(unsafe_code)]

mod images;
mod layers;
mod mutate;

pub use images::{manifest, reference};
pub use layers::{archive, bolt, extract, layer, tarsplit};
pub use mutate::{Mutator, Shape};

use std::{fs, io, path::Path};

/// A parser, and what it is fed with.
pub struct Target {
    /// Of its file in `fuzz/fuzz_targets` and its directory in `fuzz/seeds`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// How its input is put together.
    pub shape: Shape,
    /// Mutations tried by the tests.
    pub rounds: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "archive", run: archive, shape: Shape::Tar, rounds: 20_000 },
    Target { name: "extract", run: extract, shape: Shape::Tar, rounds: 1_500 },
    Target { name: "layer", run: layer, shape: Shape::Tar, rounds: 600 },
    Target { name: "tarsplit", run: tarsplit, shape: Shape::Text, rounds: 5_000 },
    Target { name: "bolt", run: bolt, shape: Shape::Text, rounds: 2_000 },
    Target { name: "manifest", run: manifest, shape: Shape::Text, rounds: 20_000 },
    Target { name: "reference", run: reference, shape: Shape::Text, rounds: 50_000 },
];

/// The seeds of a target, in the order of their names.
///
/// # Errors
/// When they cannot be read.
pub fn seeds(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_some(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let seeds = seeds(name).unwrap();
        assert!(!seeds.is_empty());
        seeds.iter().for_each(|seed| (target.run)(seed));
        let mut mutator = Mutator::new(seeds, target.shape);
        for _ in 0..target.rounds {
            (target.run)(&mutator.next_input());
        }
    }

    #[test]
    fn archives() {
        try_some("archive");
    }

    #[test]
    fn extractions() {
        try_some("extract");
    }

    #[test]
    fn layers() {
        try_some("layer");
    }

    #[test]
    fn records_of_layers() {
        try_some("tarsplit");
    }

    #[test]
    fn databases() {
        try_some("bolt");
    }

    #[test]
    fn manifests() {
        try_some("manifest");
    }

    #[test]
    fn references() {
        try_some("reference");
    }

    #[test]
    fn each_target_has_its_program() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
        let mut programs: Vec<String> = fs::read_dir(fuzz)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        programs.sort();
        let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        assert_eq!(programs, names);
    }
}
