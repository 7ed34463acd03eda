//! Plugins of the host that speak Docker's plugin protocol (source: moby `pkg/plugins`): found by name, made to say
//! what they are, and asked with JSON over HTTP.

mod address;
mod call;
mod discovery;

use crate::{Error, Result, blocking::blocking};
use address::Address;
use call::Patience;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The handle of the host's plugins: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Plugins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sockets: PathBuf,
    known: Mutex<BTreeMap<String, Arc<Plugin>>>,
}

/// A plugin that has said what it is.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    address: Address,
    implements: Vec<String>,
}

/// The answer to `/Plugin.Activate`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Manifest {
    implements: Option<Vec<String>>,
}

/// How long a plugin that does not listen is called again, the first call included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take, where nothing else is said.
const ANSWER: Duration = Duration::from_secs(60);

impl Plugins {
    /// Those with sockets in this directory, or with a file that says where they are.
    pub(crate) fn new(sockets: &Path) -> Self {
        Self(Arc::new(Inner { sockets: sockets.into(), known: Mutex::default() }))
    }

    /// The plugin of a name, which implements `subsystem` (`VolumeDriver`).
    ///
    /// # Errors
    /// `plugin "..." not found`; what it answers; that it does something else.
    pub(crate) async fn get(&self, name: &str, subsystem: &str) -> Result<Arc<Plugin>> {
        let known = self.known().get(name).cloned();
        let plugin = match known {
            Some(plugin) => plugin,
            None => self.activate(name).await?,
        };
        if !plugin.does(subsystem) {
            return Err(Error::Refused(format!(
                "Plugin does not implement the requested driver: plugin={name:?}, requested implementation={subsystem:?}"
            )));
        }
        Ok(plugin)
    }

    /// All plugins that implement `subsystem`. One that does not answer at once is left out.
    pub(crate) async fn all(&self, subsystem: &str) -> Vec<Arc<Plugin>> {
        let sockets = self.0.sockets.clone();
        let names = blocking(move || Ok(discovery::scan(&sockets))).await.unwrap_or_default();
        let mut found: BTreeMap<String, Arc<Plugin>> = self.known().clone();
        for name in names {
            if found.contains_key(&name) {
                continue;
            }
            match self.activate_within(&name, Patience { in_all: Duration::ZERO, answer: ANSWER }).await {
                Ok(plugin) => drop(found.insert(name, plugin)),
                Err(error) => tracing::debug!(plugin = name, %error, "plugin not activated"),
            }
        }
        found.into_values().filter(|plugin| plugin.does(subsystem)).collect()
    }

    /// Names of those that have been used and implement `subsystem`.
    pub(crate) fn names(&self, subsystem: &str) -> Vec<String> {
        self.known().values().filter(|plugin| plugin.does(subsystem)).map(|p| p.name.clone()).collect()
    }

    async fn activate(&self, name: &str) -> Result<Arc<Plugin>> {
        self.activate_within(name, Patience { in_all: PATIENCE, answer: ANSWER }).await
    }

    async fn activate_within(&self, name: &str, patience: Patience) -> Result<Arc<Plugin>> {
        let (wanted, sockets) = (name.to_owned(), self.0.sockets.clone());
        let address = blocking(move || discovery::find(&wanted, &sockets)).await?;
        let manifest: Manifest = call::call(&address, "Plugin.Activate", None, patience).await?;
        let implements = manifest.implements.unwrap_or_default();
        let plugin = Arc::new(Plugin { name: name.to_owned(), address, implements });
        self.known().insert(name.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Plugin>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugin {
    fn does(&self, subsystem: &str) -> bool {
        self.implements.iter().any(|word| word == subsystem)
    }

    /// Calls a method such as `VolumeDriver.Get`, once.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
        answer: Duration,
    ) -> Result<T> {
        self.call_within(method, request, Patience { in_all: Duration::ZERO, answer }).await
    }

    /// Calls a method such as `VolumeDriver.Mount`, again for half a minute while nobody listens.
    ///
    /// # Errors
    /// What could not be reached, read or was not in time; the plugin's own error.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
        answer: Duration,
    ) -> Result<T> {
        self.call_within(method, request, Patience { in_all: PATIENCE, answer }).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
        patience: Patience,
    ) -> Result<T> {
        let body = serde_json::to_vec(request);
        let body = body.map_err(|source| Error::Encode { what: "a request to a plugin", source })?;
        call::call(&self.address, method, Some(body), patience).await
    }
}
