//! Faults inside a daemon of a debug build (`wharf_sys::fault`), and what they may not leave.

use crate::{Daemon, until};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The faults of one daemon.
#[derive(Debug)]
pub struct Faults {
    dir: PathBuf,
}

/// A pass of a point: its name, and the how-manieth pass it is.
pub type Pass = (String, usize);

impl Faults {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.into() })
    }

    /// The points that some work passes: of each the first pass and the last.
    ///
    /// # Errors
    /// What the work fails with, or when it passes none: the daemon has no faults in it then.
    pub fn trace(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<Pass>> {
        self.order("trace")?;
        work()?;
        self.disarm()?;
        let passed = fs::read_to_string(self.dir.join("passed")).unwrap_or_default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        passed.lines().for_each(|name| *counts.entry(name).or_default() += 1);
        ensure!(!counts.is_empty(), "no point was passed: faults are in debug builds only");
        let ends = |(name, last): (&&str, &usize)| {
            let first = ((*name).to_owned(), 1);
            let last = ((*name).to_owned(), *last);
            if last.1 == 1 { vec![first] } else { vec![first, last] }
        };
        Ok(counts.iter().flat_map(ends).collect())
    }

    /// Lets a pass of a point fail (`enospc`) or kill the daemon (`kill`).
    ///
    /// # Errors
    /// When the order cannot be written.
    pub fn arm(&self, (name, pass): &Pass, what: &str) -> Result<()> {
        self.order(&format!("{name} {pass} {what}"))
    }

    /// Nothing strikes any more.
    ///
    /// # Errors
    /// When the order cannot be taken back.
    pub fn disarm(&self) -> Result<()> {
        Ok(fs::remove_file(self.dir.join("armed"))?)
    }

    /// Whether it struck since it was armed.
    pub fn fired(&self) -> bool {
        self.dir.join("fired").exists()
    }

    fn order(&self, order: &str) -> Result<()> {
        for name in ["fired", "passed"] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!(error),
                _ => {}
            }
        }
        fs::write(self.dir.join("new"), order)?;
        Ok(fs::rename(self.dir.join("new"), self.dir.join("armed"))?)
    }
}

/// How many files there are in each directory of a data-root that holds images, layers and containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory(BTreeMap<&'static str, usize>);

impl Inventory {
    /// Counts.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn of(daemon: &Daemon) -> Result<Self> {
        const DIRECTORIES: [&str; 11] = [
            "containers",
            "image/overlay2",
            "image/overlay2/imagedb/content/sha256",
            "image/overlay2/imagedb/metadata/sha256",
            "image/overlay2/layerdb/mounts",
            "image/overlay2/layerdb/sha256",
            "image/overlay2/layerdb/tmp",
            "overlay2",
            "overlay2/l",
            "tmp",
            "volumes",
        ];
        let count = |directory| -> Result<_> {
            let path = daemon.data_root().join(directory);
            let entries = if path.exists() { fs::read_dir(path)?.collect() } else { Vec::new() };
            let names =
                entries.into_iter().map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
            // The records of all volumes are one file.
            let counted = names.iter().filter(|name| !name.to_string_lossy().starts_with("metadata."));
            Ok((directory, counted.count()))
        };
        Ok(Self(DIRECTORIES.into_iter().map(count).collect::<Result<_>>()?))
    }
}

/// What clients see of images and containers.
fn visible(daemon: &Daemon) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for image in daemon.api().call("GET", "/images/json?all=1")?.json().as_array().into_iter().flatten() {
        // Its id may tell of the time: one without names is seen as well.
        all.push(format!("image {} {}", image["RepoTags"], image["RepoDigests"]));
    }
    let containers = daemon.api().call("GET", "/containers/json?all=1")?.json();
    all.extend(containers.as_array().into_iter().flatten().map(|one| one["Names"].to_string()));
    all.sort();
    Ok(all)
}

/// Some work that is struck at each of its points, one after the other.
pub struct Struck<'a> {
    /// The work. That it was done before is no failure of it.
    pub work: &'a dyn Fn(&Daemon) -> Result<()>,
    /// Takes back what it did, and fails if that was nothing.
    pub undo: &'a dyn Fn(&Daemon) -> Result<()>,
}

impl Struck<'_> {
    /// Lets each point fail, or kill the daemon. Then nothing half-made is visible, a second try works, and what
    /// was used comes back when the work is undone.
    ///
    /// # Errors
    /// With the point at which that is not so.
    pub fn survives(&self, daemon: &mut Daemon, what: &str) -> Result<()> {
        let faults = daemon.faults()?;
        // The first time some directories are made that stay.
        (self.work)(daemon)?;
        (self.undo)(daemon)?;
        let (before, empty) = (visible(daemon)?, Inventory::of(daemon)?);
        let passes = faults.trace(|| (self.work)(daemon))?;
        let after = visible(daemon)?;
        ensure!(before != after, "the work has no effect");
        (self.undo)(daemon)?;
        for pass in passes {
            let survived = self.survives_one(daemon, &faults, &pass, what, [&before, &after], &empty);
            survived.with_context(|| format!("{what} at {} pass {}\n{}", pass.0, pass.1, daemon.log()))?;
        }
        Ok(())
    }

    fn survives_one(
        &self,
        daemon: &mut Daemon,
        faults: &Faults,
        pass: &Pass,
        what: &str,
        whole: [&Vec<String>; 2],
        empty: &Inventory,
    ) -> Result<()> {
        faults.arm(pass, what)?;
        let outcome = (self.work)(daemon);
        ensure!(faults.fired(), "it did not strike");
        faults.disarm()?;
        if what == "kill" {
            daemon.wait_for_death()?;
            daemon.launch()?;
        }
        let now = visible(daemon)?;
        ensure!(whole.contains(&&now), "half-made: {now:?}, not one of {whole:?}");
        if what != "kill" {
            if let Err(error) = outcome {
                let text = format!("{error:#}");
                ensure!(text.contains("no space left on device"), "it says: {text}");
            }
            // What could not be removed is removed at start.
            daemon.terminate()?;
            daemon.launch()?;
        }
        (self.work)(daemon).context("the second try")?;
        (self.undo)(daemon).context("undoing it")?;
        until("the space to come back", || Ok((Inventory::of(daemon)? == *empty).then_some(())))
            .with_context(|| format!("{:?} instead of {empty:?}", Inventory::of(daemon)))
    }
}

impl Daemon {
    /// Asserts that nothing is wrong with the data-root of a daemon that ended.
    ///
    /// # Errors
    /// With what is.
    pub fn assert_whole(&self) -> Result<()> {
        let checked = self.check(&["--deep"])?;
        ensure!(checked.code == 0, "{}{}", checked.stdout, checked.stderr);
        Ok(())
    }
}
