//! Faults inside a daemon of a debug build (`wharf_sys::fault`), and what they may not leave.

use crate::{Daemon, is_full, until};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The faults of one daemon.
#[derive(Debug)]
pub struct Faults {
    dir: PathBuf,
}

/// A pass of a point: its name, and the how-manieth pass it is.
pub type Pass = (String, usize);

/// A point that some work passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `<noun>.<step>`
    pub name: String,
    /// How often.
    pub passes: usize,
    /// It cannot fail, only the process can die there.
    pub only_dies: bool,
}

impl Point {
    /// Its passes; of many, unless everything is to be tried ([`is_full`]), the first and the last.
    pub fn struck(&self) -> Vec<Pass> {
        let all = 1..=self.passes;
        let wanted = all.filter(|pass| is_full() || *pass == 1 || *pass == self.passes);
        wanted.map(|pass| (self.name.clone(), pass)).collect()
    }
}

impl Faults {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.into() })
    }

    /// The points that some work passes.
    ///
    /// # Errors
    /// What the work fails with, or when it passes none: the daemon has no faults in it then.
    pub fn trace(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<Point>> {
        self.order("trace")?;
        work()?;
        self.disarm()?;
        let passed = fs::read_to_string(self.dir.join("passed")).unwrap_or_default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        passed.lines().for_each(|name| *counts.entry(name).or_default() += 1);
        ensure!(!counts.is_empty(), "no point was passed: faults are in debug builds only");
        let point = |(line, passes): (&str, usize)| {
            let (name, only_dies) = line.split_once(' ').map_or((line, false), |(name, _)| (name, true));
            Point { name: name.to_owned(), passes, only_dies }
        };
        Ok(counts.into_iter().map(point).collect())
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
        self.victim().is_some()
    }

    /// The process that it struck since it was armed, by the id that the process knows itself by.
    pub fn victim(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("fired")).ok()?.lines().next()?.parse().ok()
    }

    fn order(&self, order: &str) -> Result<()> {
        // Processes in a user namespace write them too.
        for name in ["fired", "passed", "count"] {
            fs::write(self.dir.join(name), "")?;
            fs::set_permissions(self.dir.join(name), fs::Permissions::from_mode(0o666))?;
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

impl Inventory {
    pub(crate) fn counts(self) -> impl Iterator<Item = (&'static str, usize)> {
        self.0.into_iter()
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
        let strikes = |point: &Point| what == "kill" || !point.only_dies;
        for pass in passes.iter().filter(|point| strikes(point)).flat_map(Point::struck) {
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
