//! What a client sends to be built from (source: moby `daemon/builder/remotecontext`).

use crate::{
    Error, Kept, Result, Scratch,
    checksum::Known,
    copy::{self, Destination, Manner},
    error::refuse,
    select,
};
use rustix::fs::AtFlags;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::fd::AsFd,
    path::{Component, Path, PathBuf},
};
use wharf_archive::{Decompressor, Options, Owner};
use wharf_dockerfile::{Dockerfile, Patterns};
use wharf_spec::ImageRef;
use wharf_sys::path::Root;

/// The name of the file when the request says none.
const DEFAULT: &str = "Dockerfile";
/// No Dockerfile is larger.
const MAX_DOCKERFILE: u64 = 64 << 20;

/// A directory of files to build from. It goes with this, unless it is kept.
#[derive(Debug)]
pub struct Context {
    home: Home,
    root: Root,
    known: Known,
}

#[derive(Debug)]
enum Home {
    Own(Scratch),
    Kept(Kept),
}

/// All that a build is made from.
#[derive(Debug, Default)]
pub struct Contexts {
    /// What `COPY` copies from; a file that is alone has none.
    pub main: Option<Context>,
    /// Others by their names.
    pub named: BTreeMap<String, Named>,
}

/// What a name of the request stands for, before stages and images.
#[derive(Debug)]
pub enum Named {
    /// Files.
    Context(Context),
    /// An image.
    Image(String),
}

impl Contexts {
    /// What a name stands for. `busybox` is the same as `docker.io/library/busybox:latest`.
    pub(crate) fn named(&self, name: &str) -> Option<&Named> {
        let whole = |name: &str| name.parse::<ImageRef>().ok().map(|name| name.or_latest());
        let is_meant = |given: &str| given == name || (whole(name).is_some() && whole(given) == whole(name));
        self.named.iter().find(|(given, _)| is_meant(given)).map(|(_, named)| named)
    }
}

impl Context {
    /// Unpacks an archive, compressed or not, into a directory made below `parent`.
    ///
    /// # Errors
    /// When it is none, or the disk fails.
    pub fn unpack(archive: impl Read + Send, parent: &Path) -> Result<Self> {
        let context = Self::empty(parent)?;
        let directory = File::open(context.path()).map_err(Error::io("open", context.path().display()))?;
        // As moby's: a context belongs to who builds.
        let options = Options { owner: Owner::Fixed { uid: 0, gid: 0 }, ..Options::default() };
        wharf_archive::unpack(Decompressor::new(archive)?, directory.as_fd(), options)?;
        Ok(context)
    }

    /// One without files.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn empty(parent: &Path) -> Result<Self> {
        let scratch = Scratch::new(parent)?;
        let root = Root::open(scratch.path())?;
        Ok(Self { home: Home::Own(scratch), root, known: Known::default() })
    }

    /// One that is kept for later builds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_kept(kept: Kept) -> Result<Self> {
        let (root, known) = (Root::open(&kept.files())?, kept.known());
        Ok(Self { home: Home::Kept(kept), root, known })
    }

    /// A directory of another one, such as a checkout. What git keeps of its own stays behind.
    ///
    /// # Errors
    /// When there is no such directory in it.
    pub fn of_directory(whole: &Path, directory: &str, parent: &Path) -> Result<Self> {
        let context = Self::empty(parent)?;
        let manner = Manner {
            owner: Some((0, 0)),
            excluded: Patterns::new(&[".git".to_owned()]).map_err(Error::Refused)?,
            ..Manner::default()
        };
        let to = Destination { root: &context.root, path: "/".into() };
        copy::copy(&Root::open(whole)?, &select::cleaned(directory), &to, &manner)?;
        Ok(context)
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        match &self.home {
            Home::Own(scratch) => scratch.path().to_owned(),
            Home::Kept(kept) => kept.files(),
        }
    }

    /// Digests of its files.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// Its files.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The text of its Dockerfile, `Dockerfile` or `dockerfile` where no name is given. It is taken out of the context
    /// if its `.dockerignore` says so, and so is that.
    ///
    /// # Errors
    /// `Cannot locate specified Dockerfile: ...`; when it is empty or outside of the context.
    pub fn dockerfile(&self, name: &str) -> Result<String> {
        let name = if name.is_empty() { DEFAULT } else { name };
        if escapes(Path::new(name)) {
            return refuse(format!("forbidden path outside the build context: {name} ()"));
        }
        let (name, text) = match self.read(name) {
            Ok(text) => (name.to_owned(), text),
            Err(_) if name == DEFAULT => {
                let name = name.to_lowercase();
                let text = self.read(&name).map_err(|_| missing(DEFAULT))?;
                (name, text)
            }
            Err(_) => return Err(missing(name)),
        };
        if text.is_empty() {
            return Err(Error::Invalid(format!("the Dockerfile ({name}) cannot be empty")));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        self.forget_ignored(&name)?;
        Ok(text)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.root.read_limited(Path::new(name), MAX_DOCKERFILE)?)
    }

    /// The client sends these two though they are to be ignored, because they are needed.
    fn forget_ignored(&self, dockerfile: &str) -> Result<()> {
        let Ok(text) = self.read(".dockerignore") else { return Ok(()) };
        let ignored = Patterns::read(&String::from_utf8_lossy(&text));
        let ignored = ignored.map_err(|why| Error::Refused(format!("error reading .dockerignore: {why}")))?;
        for name in [".dockerignore", dockerfile].into_iter().filter(|name| ignored.excludes(name)) {
            let (parent, last) = self.root.parent_of(Path::new(name))?;
            // It may be ignored already.
            let _ = rustix::fs::unlinkat(&parent, last, AtFlags::empty());
        }
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let (Home::Kept(kept), Some(known)) = (&self.home, self.known.to_bytes()) {
            // Without it the next build reads the files again.
            let _ = kept.remember(&known);
        }
    }
}

/// Reads a Dockerfile of this name.
///
/// # Errors
/// In Docker's words: the name is told where the parser gives up.
pub fn parse(text: &str, name: &str) -> Result<Dockerfile> {
    Dockerfile::parse(text).map_err(|error| match error.of_parser() {
        Some(source) => {
            let name = if name.is_empty() { DEFAULT } else { name }.to_owned();
            Error::Syntax { name, source: source.clone() }
        }
        None => error.into(),
    })
}

fn missing(name: &str) -> Error {
    Error::Refused(format!("Cannot locate specified Dockerfile: {name}"))
}

/// Whether a path goes above where it begins.
pub(crate) fn escapes(path: &Path) -> bool {
    let mut depth = 0_i64;
    path.components().any(|component| {
        match component {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth < 0
    })
}
