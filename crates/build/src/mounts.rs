//! `RUN --mount` (source: buildkit `frontend/dockerfile/dockerfile2llb/convert_runmount.go`).

use crate::{
    Bind, Context, Error, Result, Scratch, Worker,
    checksum::of_bytes,
    copy::{self, Destination, Manner},
    error::refuse,
    select::{cleaned, select},
    stage::{Builder, Tree},
};
use rustix::fs::FlockOperation;
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};
use wharf_dockerfile::{Lexer, Mount, MountKind, Patterns, Sharing};
use wharf_sys::path::Root;

/// The mounts of a command.
pub(crate) struct Mounts<'b> {
    mounts: Vec<Wanted<'b>>,
    /// A script that is a document of the file.
    script: Option<wharf_dockerfile::Heredoc>,
}

struct Wanted<'b> {
    mount: Mount,
    /// As written: part of what makes the step what it is.
    text: String,
    /// Where `from` leads.
    tree: Option<Tree<'b>>,
}

/// What runs while everything is mounted: with the mounts and the variables of secrets.
type Body<'w, 'b, W, T> = &'w mut dyn FnMut(&mut Builder<'b, W>, &[Bind], &[String]) -> Result<T>;

/// What has been mounted so far, and what has to live as long.
#[derive(Default)]
struct Ready {
    binds: Vec<Bind>,
    environment: Vec<String>,
    scratches: Vec<Scratch>,
    locks: Vec<File>,
}

impl<'b> Mounts<'b> {
    pub(crate) fn read<W: Worker>(
        builder: &mut Builder<'b, W>,
        run: &wharf_dockerfile::Run,
        lexer: &Lexer<'_>,
    ) -> Result<Self> {
        let mut mounts = Vec::new();
        for text in &run.mounts {
            let mount = Mount::parse(text, lexer)?;
            if mount.target.is_empty() && !matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
                return refuse(format!("invalid mount {text:?}: target is required"));
            }
            if mount.kind == MountKind::Ssh && mount.required {
                return refuse("RUN --mount=type=ssh: no SSH agent is forwarded by this builder");
            }
            let tree = (!mount.from.is_empty()).then(|| builder.tree_of(&mount.from)).transpose()?;
            mounts.push(Wanted { mount, text: text.clone(), tree });
        }
        Ok(Self { mounts, script: run.script.clone() })
    }

    /// What is mounted, as part of the step: not what is in caches and secrets.
    ///
    /// # Errors
    /// When something of the context is missing.
    pub(crate) fn digest(&self, context: Option<&Context>) -> Result<Option<String>> {
        if self.mounts.is_empty() && self.script.is_none() {
            return Ok(None);
        }
        let mut parts: Vec<String> = self.script.iter().map(|document| document.content.clone()).collect();
        for wanted in &self.mounts {
            parts.push(wanted.text.clone());
            let context = match wanted.tree {
                Some(Tree::Image(image)) => {
                    parts.push(image.to_string());
                    continue;
                }
                Some(Tree::Context(context)) => context,
                None if wanted.mount.kind == MountKind::Bind => {
                    context.ok_or_else(|| Error::Refused("missing build context".into()))?
                }
                None => continue,
            };
            let source = cleaned(&wanted.mount.source);
            let found = select(context.root(), &source, &Patterns::default(), Some(context.known()))?;
            parts.extend(found.into_iter().map(|found| found.digest));
        }
        Ok(Some(of_bytes(&parts.iter().map(String::as_bytes).collect::<Vec<_>>())))
    }

    /// Does something while all is mounted.
    pub(crate) fn with<W: Worker, T>(
        &self,
        builder: &mut Builder<'b, W>,
        body: Body<'_, 'b, W, T>,
    ) -> Result<T> {
        let mut ready = Ready::default();
        if let Some(script) = &self.script {
            let scratch = Scratch::new(builder.worker.scratch())?;
            let source = scratch.path().join("script");
            write(&source, script.content.as_bytes(), 0o755)?;
            let target = format!("/dev/pipes/{}", script.name);
            ready.binds.push(Bind::Path { source, target, read_only: true });
            ready.scratches.push(scratch);
        }
        mount_all(&self.mounts, builder, &mut ready, body)
    }
}

/// Mounts one after the other: an image's is there for what is done inside.
fn mount_all<'b, W: Worker, T>(
    mounts: &[Wanted<'b>],
    builder: &mut Builder<'b, W>,
    ready: &mut Ready,
    body: Body<'_, 'b, W, T>,
) -> Result<T> {
    let Some((first, rest)) = mounts.split_first() else {
        return body(builder, &ready.binds, &ready.environment);
    };
    let image = match first.tree {
        Some(Tree::Image(image)) => image,
        other => {
            let context =
                if let Some(Tree::Context(named)) = other { Some(named) } else { builder.context() };
            ready.mount(&first.mount, context.map(Context::path).as_deref(), builder)?;
            return mount_all(rest, builder, ready, body);
        }
    };
    let worker = builder.worker;
    let mut done = None;
    worker.with_image(image, &mut |path| {
        let mounted = ready.mount(&first.mount, Some(path), builder);
        done = Some(mounted.and_then(|()| mount_all(rest, builder, ready, body)));
        Ok(())
    })?;
    done.unwrap_or_else(|| refuse("the image was not mounted"))
}

impl Ready {
    fn mount<W: Worker>(
        &mut self,
        mount: &Mount,
        root: Option<&Path>,
        builder: &Builder<'_, W>,
    ) -> Result<()> {
        match mount.kind {
            MountKind::Bind => self.bind(mount, root, builder),
            MountKind::Cache => self.cache(mount, root, builder.worker),
            MountKind::Tmpfs => {
                self.binds.push(Bind::Tmpfs { target: mount.target.clone(), size: mount.size });
                Ok(())
            }
            MountKind::Secret => self.secret(mount, builder.worker),
            // None is forwarded, and it need not be there.
            MountKind::Ssh => Ok(()),
        }
    }

    fn bind<W: Worker>(
        &mut self,
        mount: &Mount,
        root: Option<&Path>,
        builder: &Builder<'_, W>,
    ) -> Result<()> {
        let root = root.ok_or_else(|| Error::Refused("missing build context".into()))?;
        let mut source = inside(root, &mount.source)?;
        if !mount.read_only && builder.is_context(&mount.from) {
            // What is written is forgotten, and other steps do not see it.
            let own = Scratch::new(builder.worker.scratch())?;
            source = copied(root, &mount.source, own.path())?;
            self.scratches.push(own);
        }
        self.binds.push(Bind::Path { source, target: mount.target.clone(), read_only: mount.read_only });
        Ok(())
    }

    fn cache<W: Worker>(&mut self, mount: &Mount, root: Option<&Path>, worker: &W) -> Result<()> {
        let mut directory = worker.cache(&cache_name(mount))?;
        let lock = File::open(&directory).map_err(Error::io("open", directory.display()))?;
        let io = |errno: rustix::io::Errno| Error::io("lock", directory.display())(errno.into());
        match mount.sharing {
            // Nobody prunes it meanwhile.
            Sharing::Shared => rustix::fs::flock(&lock, FlockOperation::LockShared).map_err(io)?,
            Sharing::Locked => rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(io)?,
            Sharing::Private => {
                if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                    let own = Scratch::new(worker.scratch())?;
                    directory = own.path().to_owned();
                    self.scratches.push(own);
                }
            }
        }
        self.locks.push(lock);
        let data = directory.join("data");
        if !data.exists() {
            fill_once(&data, mount, root)?;
        }
        self.binds.push(Bind::Path {
            source: data,
            target: mount.target.clone(),
            read_only: mount.read_only,
        });
        Ok(())
    }

    fn secret<W: Worker>(&mut self, mount: &Mount, worker: &W) -> Result<()> {
        let target = cleaned(&mount.target);
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let names = [mount.id.clone(), base(&mount.source), base(&target)];
        let id = names.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        let Some(content) = worker.secret(&id) else {
            return if mount.required { refuse(format!("secret {id}: not found")) } else { Ok(()) };
        };
        if let Some(variable) = &mount.env {
            let name = if variable.is_empty() { &id } else { variable };
            self.environment.push(format!("{name}={}", String::from_utf8_lossy(&content)));
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let scratch = Scratch::new(worker.volatile())?;
        let source = scratch.path().join("secret");
        write(&source, &content, mount.mode.unwrap_or(0o400))?;
        own(&source, mount)?;
        let target =
            if mount.target.is_empty() { format!("/run/secrets/{id}") } else { mount.target.clone() };
        self.binds.push(Bind::Path { source, target, read_only: true });
        self.scratches.push(scratch);
        Ok(())
    }
}

/// What a cache is known by. As with BuildKit, those that begin otherwise are others.
fn cache_name(mount: &Mount) -> String {
    let id = if mount.id.is_empty() { cleaned(&mount.target) } else { mount.id.clone() };
    match (&*mount.from, mount.uid, mount.gid, mount.mode) {
        ("", None, None, None) => id,
        (from, uid, gid, mode) => format!("{id}\0{from}\0{}\0{uid:?} {gid:?} {mode:?}", mount.source),
    }
}

/// Steps that run at once share a cache, and only one of them begins it.
fn fill_once(data: &Path, mount: &Mount, root: Option<&Path>) -> Result<()> {
    let home = data.parent().and_then(Path::parent).unwrap_or(data);
    let turn = File::open(home).map_err(Error::io("open", home.display()))?;
    let io = |errno: rustix::io::Errno| Error::io("lock", home.display())(errno.into());
    rustix::fs::flock(&turn, FlockOperation::LockExclusive).map_err(io)?;
    if data.exists() { Ok(()) } else { fill(data, mount, root) }
}

/// A new cache: empty, or with what it is to begin with.
fn fill(data: &Path, mount: &Mount, root: Option<&Path>) -> Result<()> {
    let io = |error| Error::io("make", data.display())(error);
    let begun = data.with_file_name("begun");
    let _ = std::fs::remove_dir_all(&begun);
    std::fs::create_dir(&begun).map_err(io)?;
    if let (false, Some(root)) = (mount.from.is_empty(), root) {
        let to = Root::open(&begun)?;
        let to = Destination { root: &to, path: "/".into() };
        copy::copy(&Root::open(root)?, &cleaned(&mount.source), &to, &Manner::default())?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mount.mode.unwrap_or(0o755));
    std::fs::set_permissions(&begun, mode).map_err(io)?;
    own(&begun, mount)?;
    // Whole or not there.
    std::fs::rename(&begun, data).map_err(io)
}

fn own(path: &Path, mount: &Mount) -> Result<()> {
    let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(Error::io("chown", path.display()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let io = |error| Error::io("write", path.display())(error);
    std::fs::write(path, content).map_err(io)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(io)
}

/// Where a path inside a root really is: no link on it leads out.
fn inside(root: &Path, path: &str) -> Result<PathBuf> {
    let found = Root::open(root)?.resolve(Path::new(&format!("/{}", cleaned(path))));
    let found =
        found.map_err(|_| Error::Refused(format!("failed to compute cache key: {path:?}: not found")))?;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    std::fs::read_link(&link).map_err(Error::io("readlink", link))
}

fn copied(root: &Path, path: &str, to: &Path) -> Result<PathBuf> {
    let (from, target) = (Root::open(root)?, Root::open(to)?);
    let source = inside(root, path)?;
    let manner = Manner::default();
    if source.is_dir() {
        copy::copy(&from, &cleaned(path), &Destination { root: &target, path: "/".into() }, &manner)?;
        return Ok(to.to_owned());
    }
    copy::copy(&from, &cleaned(path), &Destination { root: &target, path: "/file".into() }, &manner)?;
    Ok(to.join("file"))
}
