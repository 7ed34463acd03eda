//! What is built from: a directory, an archive or a Dockerfile on standard input, an address (source: docker/cli
//! `cli/command/image/build/context.go`).

use super::transfer::Tree;
use crate::{
    client::{Call, Query},
    commands::container::cp::{progress::Counter, stream},
    error::{Error, Result},
    opts::keyvalue::go_error,
};
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    fs, io,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};
use tokio::io::AsyncReadExt;
use wharf_archive::{Compression, Filter, Keep, PackOptions, Reader};
use wharf_dockerfile::Patterns;

/// Name of the file when none is given.
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";
/// No Dockerfile that is read here is larger.
const MAX_FILE: u64 = 16 << 20;
/// What is looked at to see whether standard input is an archive: a block of tar.
const HEAD: usize = 512;

/// What is built from.
pub(super) struct Context {
    source: Source,
    /// The Dockerfile's name in it, or empty.
    name: String,
    /// As the user knows it.
    shown: String,
    /// Its content, where this machine has it.
    file: Option<Vec<u8>>,
}

enum Source {
    /// The daemon fetches it.
    Remote(String),
    /// An archive on standard input, of which this was read.
    Archive(Vec<u8>),
    /// A Dockerfile alone.
    Lone(Vec<u8>),
    Directory(Directory),
}

struct Directory {
    path: PathBuf,
    root: OwnedFd,
    ignored: Patterns,
    ignore_text: Option<Vec<u8>>,
    /// A Dockerfile that is not in the directory.
    outside: Option<Vec<u8>>,
}

/// The directory of a context that has a name (`--build-context`).
///
/// # Errors
/// When there is none.
pub(super) fn named(argument: &str) -> Result<Tree> {
    let failed = |error: io::Error| {
        Error::text(format!("ERROR: failed to get build context path {argument}: {}", go_error(&error)))
    };
    let path = fs::canonicalize(argument).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let ignore_text = read(&path.join(IGNORE)).ok();
    let ignored = patterns(ignore_text.as_deref())?;
    Directory { path, root, ignored, ignore_text, outside: None }.tree()
}

fn patterns(text: Option<&[u8]>) -> Result<Patterns> {
    let Some(text) = text else { return Ok(Patterns::default()) };
    let patterns = Patterns::read(&String::from_utf8_lossy(text));
    patterns.map_err(|why| Error::text(format!("ERROR: failed to read {IGNORE}: {why}")))
}

impl Context {
    /// Finds out what the words of the command line mean.
    ///
    /// # Errors
    /// When there is no such directory or file.
    pub(super) fn find(argument: &str, file: &str) -> Result<Self> {
        match argument {
            "-" if file == "-" => Err(Error::text(
                "ERROR: invalid argument: can't use stdin for both build context and dockerfile",
            )),
            "-" => Self::stdin(file),
            _ if Path::new(argument).is_dir() => Self::directory(argument, file),
            _ if is_remote(argument) => {
                if file == "-" {
                    return Err(Error::text(
                        "ERROR: Dockerfile from stdin is not supported with a remote context",
                    ));
                }
                let shown = if file.is_empty() { DOCKERFILE } else { file }.to_owned();
                Ok(Self { source: Source::Remote(argument.into()), name: file.into(), shown, file: None })
            }
            _ => Err(Error::text(format!("ERROR: unable to prepare context: path {argument:?} not found"))),
        }
    }

    fn stdin(file: &str) -> Result<Self> {
        let mut head = Vec::new();
        io::stdin().take(HEAD as u64).read_to_end(&mut head)?;
        if is_archive(&head) {
            let shown = if file.is_empty() { DOCKERFILE } else { file }.to_owned();
            return Ok(Self { source: Source::Archive(head), name: file.into(), shown, file: None });
        }
        io::stdin().take(MAX_FILE).read_to_end(&mut head)?;
        Ok(Self {
            source: Source::Lone(head.clone()),
            name: DOCKERFILE.into(),
            shown: DOCKERFILE.into(),
            file: Some(head),
        })
    }

    fn directory(argument: &str, file: &str) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::text(format!("ERROR: unable to prepare context: {argument}: {}", go_error(&error)))
        };
        let path = fs::canonicalize(argument).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let dockerfile = Dockerfile::find(&path, file)?;
        let own = dockerfile.path.as_ref().and_then(|path| {
            let mut name = path.file_name()?.to_owned();
            name.push(IGNORE);
            read(&path.with_file_name(name)).ok()
        });
        let has_own = own.is_some();
        let mut ignore_text = own.or_else(|| read(&path.join(IGNORE)).ok());
        let ignored = patterns(ignore_text.as_deref())?;
        let file = Some(dockerfile.content.clone());
        // One that is to be ignored travels as one from elsewhere does. One with patterns of its own too, because the
        // daemon knows the other ones only.
        let inside = dockerfile.inside.filter(|name| !has_own && !ignored.excludes(name));
        let (name, outside) = match inside {
            Some(name) => (name, None),
            None => (format!(".dockerfile.{:x}", unique()), Some(dockerfile.content)),
        };
        if has_own && let Some(text) = &mut ignore_text {
            text.extend_from_slice(format!("\n{IGNORE}").as_bytes());
        }
        let source = Source::Directory(Directory { path, root, ignored, ignore_text, outside });
        Ok(Self { source, name, shown: dockerfile.shown, file })
    }

    /// The Dockerfile's name, as the user knows it.
    pub(super) fn dockerfile_name(&self) -> String {
        self.shown.clone()
    }

    /// The Dockerfile's text, where this machine has it.
    pub(super) fn dockerfile_text(&self) -> Option<String> {
        self.file.as_ref().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// Patterns of what is not sent.
    pub(super) fn ignored(&self) -> Option<&Patterns> {
        match &self.source {
            Source::Directory(directory) => Some(&directory.ignored),
            _ => None,
        }
    }

    /// With what the daemon must know of it.
    pub(super) fn parameters(&self, query: Query) -> Query {
        let remote = match &self.source {
            Source::Remote(address) => address,
            _ => "",
        };
        query.with_text("remote", remote).with_text("dockerfile", &self.name)
    }

    /// The directory, if it is one that a daemon may keep, and its Dockerfile.
    pub(super) fn tree(&self) -> Result<Option<(Tree, Vec<u8>)>> {
        let (Source::Directory(directory), Some(text)) = (&self.source, &self.file) else { return Ok(None) };
        Ok(Some((directory.tree()?, text.clone())))
    }

    /// A request that sends it, its bytes counted.
    pub(super) fn send(self, call: Call, counter: &Counter) -> Call {
        let options = PackOptions { owner: Some((0, 0)), ..PackOptions::default() };
        match self.source {
            Source::Remote(_) => call,
            Source::Archive(head) => {
                let whole = AsyncReadExt::chain(io::Cursor::new(head), tokio::io::stdin());
                call.tar(crate::commands::image::load::stream(Box::new(whole)))
            }
            Source::Lone(content) => call.tar(stream::archive(options, counter.clone(), move |packer| {
                packer.content(DOCKERFILE.as_bytes(), 0o600, &content)
            })),
            Source::Directory(directory) => {
                let (options, name) =
                    (PackOptions { filter: Some(directory.filter()), ..options }, self.name);
                call.tar(stream::archive(options, counter.clone(), move |packer| {
                    packer.children(directory.root.as_fd(), b"")?;
                    let Some(content) = directory.outside else { return Ok(()) };
                    // Both are taken out again by the daemon, for the second says so.
                    packer.content(name.as_bytes(), 0o600, &content)?;
                    let mut ignore = directory.ignore_text.unwrap_or_else(|| IGNORE.into());
                    ignore.extend_from_slice(format!("\n{name}\n").as_bytes());
                    packer.content(IGNORE.as_bytes(), 0o600, &ignore)
                }))
            }
        }
    }
}

impl Directory {
    /// Exactly what is not ignored: the Dockerfile travels otherwise.
    fn tree(&self) -> Result<Tree> {
        let ignored = self.ignored.clone();
        let filter = Filter::new(move |name| match std::str::from_utf8(name) {
            Ok(name) if !ignored.excludes(name) => Keep::Yes,
            Ok(_) if ignored.has_exceptions() => Keep::Below,
            Ok(_) => Keep::No,
            Err(_) => Keep::Yes,
        });
        Ok(Tree { path: self.path.clone(), root: self.root.try_clone()?, filter })
    }

    /// What is sent; `.dockerignore` is, whatever it says.
    fn filter(&self) -> Filter {
        let (ignored, is_replaced) = (self.ignored.clone(), self.outside.is_some());
        Filter::new(move |name| match std::str::from_utf8(name) {
            Ok(IGNORE) if is_replaced => Keep::No,
            Ok(name) if name != IGNORE && ignored.excludes(name) => {
                if ignored.has_exceptions() {
                    Keep::Below
                } else {
                    Keep::No
                }
            }
            _ => Keep::Yes,
        })
    }
}

/// The Dockerfile of a directory.
struct Dockerfile {
    path: Option<PathBuf>,
    /// Its name in the directory.
    inside: Option<String>,
    shown: String,
    content: Vec<u8>,
}

impl Dockerfile {
    fn find(context: &Path, file: &str) -> Result<Self> {
        if file == "-" {
            let mut content = Vec::new();
            io::stdin().take(MAX_FILE).read_to_end(&mut content)?;
            return Ok(Self { path: None, inside: None, shown: DOCKERFILE.into(), content });
        }
        let lower = context.join(DOCKERFILE.to_lowercase());
        let path = match file {
            "" if !context.join(DOCKERFILE).exists() && lower.exists() => lower,
            "" => context.join(DOCKERFILE),
            file => PathBuf::from(file),
        };
        let shown = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let failed = |error: io::Error| {
            Error::text(format!(
                "ERROR: failed to build: failed to solve: failed to read dockerfile: open {shown}: {}",
                go_error(&error)
            ))
        };
        let path = fs::canonicalize(&path).map_err(failed)?;
        let content = read(&path).map_err(failed)?;
        let inside = path.strip_prefix(context).ok().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { path: Some(path), inside, shown, content })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

/// Distinguishes this build's files from those of others.
fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos()) ^ (u128::from(std::process::id()) << 64)
}

fn is_archive(head: &[u8]) -> bool {
    let is_tar =
        head.get(257..262) == Some(b"ustar") || matches!(Reader::new(head).next_entry(), Ok(Some(_)));
    is_tar || Compression::detect(head) != Compression::None
}

/// Addresses that the daemon fetches (source: moby `builder/remotecontext/urlutil`).
pub(super) fn is_remote(text: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://", "github.com/"]
        .iter()
        .any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The names that are sent of a directory.
    async fn sent(context: Context) -> Vec<String> {
        let Source::Directory(directory) = context.source else { panic!("no directory") };
        let options = PackOptions { filter: Some(directory.filter()), ..PackOptions::default() };
        let mut packer = wharf_archive::Packer::new(Vec::new(), options);
        packer.children(directory.root.as_fd(), b"").unwrap();
        let archive = packer.finish().unwrap();
        let mut reader = Reader::new(archive.as_slice());
        let mut names = Vec::new();
        while let Some(header) = reader.next_entry().unwrap() {
            names.push(String::from_utf8(header.name).unwrap());
        }
        names
    }

    #[tokio::test]
    async fn what_is_ignored_stays_here_and_the_dockerfile_goes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!a/keep\n"),
            ("a/keep", "x"),
            ("a/drop", "x"),
            ("b/drop", "x"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        let at = dir.path().to_str().unwrap();
        let context = Context::find(at, "").unwrap();
        assert_eq!(context.dockerfile_text().as_deref(), Some("FROM scratch"));
        assert!(context.name.starts_with(".dockerfile."), "{}", context.name);
        assert_eq!(sent(context).await, ["a/keep"]);
        fs::write(dir.path().join(".dockerignore"), "a\n").unwrap();
        let context = Context::find(at, "").unwrap();
        assert_eq!(context.name, "Dockerfile");
        assert_eq!(sent(context).await, [".dockerignore", "Dockerfile", "b/", "b/drop"]);
        fs::write(dir.path().join("b/Other.dockerignore"), "b\n").unwrap();
        fs::write(dir.path().join("b/Other"), "FROM scratch\n").unwrap();
        let context = Context::find(at, &format!("{at}/b/Other")).unwrap();
        assert_eq!(context.dockerfile_name(), "Other");
        assert_eq!(sent(context).await, ["Dockerfile", "a/", "a/drop", "a/keep"]);
    }

    #[test]
    fn what_is_missing_is_said_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = |argument: &str, file: &str| match Context::find(argument, file) {
            Ok(_) => panic!("{argument} was found"),
            Err(error) => error.to_string(),
        };
        assert_eq!(error("nosuch", ""), "ERROR: unable to prepare context: path \"nosuch\" not found");
        assert_eq!(
            error(dir.path().to_str().unwrap(), ""),
            "ERROR: failed to build: failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory"
        );
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]) && !is_archive(b"FROM scratch\n"));
    }
}
