//! Contexts that clients send in parts: the last one of a directory is kept, and what has changed since is sent.
//!
//! A client calls a context by an id that it made up by chance. Here it is known by the digest of the id, which says
//! nothing of it: who does not know the id cannot name what another client sent.

use super::{
    Inner,
    caches::{self, Kind},
    failed,
};
use crate::{
    Error, Result,
    blocking::blocking,
    images::{ByteStream, StreamReader},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use wharf_build::{Context, Contexts, Kept, Named, Update, remove_kept};

/// Together they take no more, in bytes.
const MAX_BYTES: u64 = 10 << 30;
/// They are kept no longer after they were used.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// Names of files to be removed are no longer together.
const MAX_HEAD: u32 = 256 << 20;
/// An id is 256 bits in hexadecimal.
const ID_LENGTH: usize = 64;
/// What was in memory when the machine went down is lost: nothing is synced.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// For [`crate::Builds::update_context`].
#[derive(Debug, Clone, Default)]
pub struct UpdateContext {
    /// What it is called from now on.
    pub id: String,
    /// What it was called, or empty for a new one.
    pub from: String,
}

/// Where a build gets files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A context that was sent before.
    Kept(String),
    /// `docker-image://name`, or where to fetch it.
    Address(String),
}

/// What comes before the archive: four bytes that are its length, and this as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    removed: Vec<String>,
}

impl super::Builds {
    /// Takes a context of a client, or what has changed in it.
    ///
    /// # Errors
    /// [`Error::NoSuchContext`] where the one that is changed is not kept any more, or is built from now.
    pub async fn update_context(&self, update: UpdateContext, body: ByteStream) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let reader = StreamReader::new(body);
        let home = inner.contexts();
        blocking(move || reader.exhausted_by(|reader| inner.update_context(&update, reader))).await?;
        let inner = Arc::clone(&self.0);
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(move || inner.tidy_contexts(&home)));
        Ok(())
    }
}

impl Inner {
    /// `<data-root>/builder/contexts`
    pub(super) fn contexts(&self) -> PathBuf {
        self.home().join("contexts")
    }

    fn context(&self, id: &str) -> Result<PathBuf> {
        let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(Error::Invalid("invalid id of a build context".into()));
        }
        Ok(self.contexts().join(wharf_store::sha256(id.as_bytes()).hex()))
    }

    fn update_context(&self, update: &UpdateContext, reader: &mut impl Read) -> Result<()> {
        let to = self.context(&update.id)?;
        if update.id == update.from {
            return Kept::open(&to).map_err(Error::Build)?.map(drop).ok_or(Error::NoSuchContext);
        }
        let from = (!update.from.is_empty()).then(|| self.context(&update.from)).transpose()?;
        let head = read_head(reader)?;
        let scratch = self.scratch();
        let update = Update {
            from: from.as_deref(),
            removed: &head.removed,
            archive: reader,
            scratch: &scratch,
            to: &to,
        };
        match update.apply().map_err(Error::Build)? {
            true => Ok(()),
            false => Err(Error::NoSuchContext),
        }
    }

    /// What a build is made from, but for what the client sends with the request. `fetched` are contexts that were
    /// fetched.
    pub(super) fn open_contexts(
        &self,
        sources: &BTreeMap<String, ContextSource>,
        mut fetched: BTreeMap<String, Context>,
    ) -> Result<Contexts> {
        let mut contexts = Contexts::default();
        for (name, source) in sources {
            let named = match source {
                ContextSource::Kept(id) => {
                    let kept = Kept::open(&self.context(id)?).map_err(Error::Build)?;
                    let kept = kept.ok_or(Error::NoSuchContext)?;
                    Named::Context(Context::of_kept(kept).map_err(Error::Build)?)
                }
                ContextSource::Address(address) => match address.strip_prefix("docker-image://") {
                    Some(image) => Named::Image(image.to_owned()),
                    None => Named::Context(fetched.remove(name).ok_or(Error::NoSuchContext)?),
                },
            };
            match named {
                Named::Context(context) if name.is_empty() => contexts.main = Some(context),
                named => drop(contexts.named.insert(name.clone(), named)),
            }
        }
        Ok(contexts)
    }

    /// Contexts of before the machine started are none.
    pub(super) fn forget_contexts_of_earlier_boots(&self) -> Result<()> {
        let mark = self.home().join("contexts.boot");
        let boot = std::fs::read(BOOT_ID).map_err(failed("read", Path::new(BOOT_ID)))?;
        if std::fs::read(&mark).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        super::empty(&self.contexts())?;
        std::fs::write(&mark, boot).map_err(failed("write", &mark))
    }

    /// Removes contexts that are too old, and the oldest ones where they are too many.
    pub(super) fn tidy_contexts(&self, home: &Path) {
        let tidied = caches::all(home, Kind::Context).and_then(|mut all| {
            all.sort_by_key(|context| std::cmp::Reverse(context.used));
            let (mut sum, now) = (0, SystemTime::now());
            for context in all {
                sum += context.size;
                let age = now.duration_since(context.used).unwrap_or_default();
                if sum > MAX_BYTES || age > MAX_AGE {
                    remove_kept(&context.path, &self.scratch()).map_err(Error::Build)?;
                }
            }
            Ok(())
        });
        if let Err(error) = tidied {
            tracing::warn!(%error, "contexts of earlier builds stay");
        }
    }
}

fn read_head(reader: &mut impl Read) -> Result<Head> {
    let wrong =
        |error: io::Error| Error::Invalid(format!("the changes of a build context cannot be read: {error}"));
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(wrong)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_HEAD {
        return Err(Error::Invalid("too many changes of a build context".into()));
    }
    let mut text = Vec::new();
    let read = reader.by_ref().take(length.into()).read_to_end(&mut text).map_err(wrong)?;
    if u32::try_from(read) != Ok(length) {
        return Err(wrong(std::io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&text).map_err(|error| wrong(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_bounded() {
        let head = |length: u32, text: &str| {
            read_head(&mut [&length.to_be_bytes()[..], text.as_bytes()].concat().as_slice())
        };
        assert_eq!(head(17, "{\"removed\":[\"a\"]}rest").unwrap().removed, ["a"]);
        assert!(head(u32::MAX, "").unwrap_err().to_string().contains("too many"));
        assert!(head(3, "{}").is_err() && head(2, "x").is_err());
    }
}
