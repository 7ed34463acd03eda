//! What the builder needs of an engine.

use crate::Result;
use std::path::{Path, PathBuf};
use wharf_spec::{ImageId, Platform, RunConfig};
use wharf_sys::path::Root;

/// Where a build says how far it is. An error means that nobody listens any more.
pub trait Output: Send + Sync {
    /// The same for what belongs to this stage.
    fn of_stage(&self, name: &str) -> Box<dyn Output>;

    /// Text for the client.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`].
    fn text(&mut self, text: &str) -> Result<()>;

    /// What a command writes to its error output.
    ///
    /// # Errors
    /// As [`Self::text`].
    fn error_text(&mut self, text: &str) -> Result<()>;

    /// An image came out.
    ///
    /// # Errors
    /// As [`Self::text`].
    fn image(&mut self, id: &ImageId) -> Result<()>;
}

/// An image that a stage begins with.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// `None`: nothing, `scratch`.
    pub id: Option<ImageId>,
    /// Its config.
    pub config: RunConfig,
    /// Its architecture and so on.
    pub platform: Platform,
}

/// The image of a step.
#[derive(Debug, Clone)]
pub struct Commit<'s> {
    /// What it is made from.
    pub parent: Option<ImageId>,
    /// `MAINTAINER`.
    pub author: &'s str,
    /// What it runs.
    pub config: &'s RunConfig,
    /// What made it: its command stands in the history.
    pub container_config: &'s RunConfig,
    /// Of the base.
    pub platform: &'s Platform,
    /// The container that it was made in, or empty.
    pub container: &'s str,
    /// When it is said to be made, in seconds since 1970; no file of the step is later. `None`: now.
    pub epoch: Option<i64>,
}

/// A command to run.
#[derive(Debug, Clone)]
pub struct Run<'s> {
    /// The image it runs on; `None`: no files at all.
    pub image: Option<ImageId>,
    /// What runs.
    pub config: &'s RunConfig,
    /// `none`, `host`, or empty for that of the request.
    pub network: &'s str,
    /// What is mounted meanwhile.
    pub binds: &'s [Bind],
}

/// A mount while a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Of the host's.
    Path {
        /// A file or directory.
        source: PathBuf,
        /// Where it is seen.
        target: String,
        /// Nothing can be written.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Where it is seen.
        target: String,
        /// In bytes; 0 is no limit.
        size: u64,
    },
}

/// A file that was fetched.
#[derive(Debug, Clone, Default)]
pub struct Download {
    /// What its server calls it, if it says so.
    pub name: Option<String>,
    /// `Last-Modified`, in seconds since the epoch.
    pub modified: Option<i64>,
}

/// A repository's files, in a directory.
#[derive(Debug, Clone, Default)]
pub struct Checkout {
    /// What was checked out.
    pub commit: String,
    /// The directory of it that is meant, or empty.
    pub directory: String,
}

impl Bind {
    /// Where it is seen.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Path { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// Images, layers and containers. Stages that run at once share it.
pub trait Worker {
    /// The image of this name, fetched if it is missing or `pull` says so.
    ///
    /// # Errors
    /// When there is none.
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        out: &mut dyn Output,
    ) -> Result<Base>;

    /// The image that the same step on the same parent came to earlier.
    ///
    /// # Errors
    /// When images cannot be read.
    fn cached(&self, parent: Option<ImageId>, container_config: &RunConfig) -> Result<Option<ImageId>>;

    /// The configs of the containers that made images from this parent.
    ///
    /// # Errors
    /// When images cannot be read.
    fn earlier(&self, parent: Option<ImageId>) -> Result<Vec<RunConfig>>;

    /// Ends commands that run, now and from now on: the build has failed.
    fn abandon(&self);

    /// Makes the image of a step that changes no file.
    ///
    /// # Errors
    /// When the disk fails.
    fn commit_config(&self, commit: &Commit<'_>) -> Result<ImageId>;

    /// Makes the image of a step that changes files: `change` gets the root of the parent's files.
    ///
    /// # Errors
    /// Those of the change, and when the disk fails; nothing is left then.
    fn commit_files(
        &self,
        commit: &Commit<'_>,
        change: &mut dyn FnMut(&Root) -> Result<()>,
    ) -> Result<ImageId>;

    /// The id of a container that need not be made, because nothing runs in it.
    fn container_id(&self) -> String;

    /// Makes a container; gives its id and what is doubtful about it.
    ///
    /// # Errors
    /// As those of `docker create`.
    fn create(&self, run: &Run<'_>) -> Result<(String, Vec<String>)>;

    /// Runs a container to its end; gives its exit status.
    ///
    /// # Errors
    /// When it cannot be started, and [`crate::Error::Cancelled`].
    fn run(&self, container: &str, out: &mut dyn Output) -> Result<i64>;

    /// Makes the image of what a container changed; places where something was mounted meanwhile are no change.
    ///
    /// # Errors
    /// When the disk fails.
    fn commit_container(
        &self,
        container: &str,
        mount_points: &[String],
        commit: &Commit<'_>,
    ) -> Result<ImageId>;

    /// Removes a container with its anonymous volumes.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, container: &str) -> Result<()>;

    /// Leaves a container to whoever wants to look at it.
    fn release(&self, container: &str);

    /// Lets `work` read an image's files.
    ///
    /// # Errors
    /// Those of the work, and when the image cannot be mounted.
    fn with_image(&self, image: ImageId, work: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()>;

    /// Fetches a file.
    ///
    /// # Errors
    /// When it cannot be had.
    fn download(&self, url: &str, to: &Path) -> Result<Download>;

    /// Whether an address is a git repository's.
    fn is_repository(&self, address: &str) -> bool;

    /// Checks a repository out into an empty directory, its `.git` beside the files.
    ///
    /// # Errors
    /// When it cannot be had.
    fn checkout(&self, address: &str, to: &Path) -> Result<Checkout>;

    /// The directory of the cache mount of this name, made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    fn cache(&self, id: &str) -> Result<PathBuf>;

    /// What the client lets commands see under this name.
    fn secret(&self, id: &str) -> Option<Vec<u8>>;

    /// A directory for what is needed for a while.
    fn scratch(&self) -> &Path;

    /// As [`Self::scratch`], in memory: for secrets.
    fn volatile(&self) -> &Path;
}
