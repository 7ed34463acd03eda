//! Drivers of volumes: `local`, which is this engine itself, and plugins with the subsystem `VolumeDriver` (source: moby
//! `daemon/volume/drivers`).

use super::Volumes;
use crate::{Error, Result, plugins::Plugin};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use wharf_api::{StringMap, time::Time};

/// The name of the engine's own driver.
pub(crate) const LOCAL: &str = "local";
/// What plugins call the subsystem.
const SUBSYSTEM: &str = "VolumeDriver";

/// Making and mounting may take long.
const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(60);

/// A volume as its plugin tells it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) mountpoint: String,
    pub(super) created_at: Option<Time>,
    pub(super) status: Option<BTreeMap<String, serde_json::Value>>,
}

/// A volume plugin.
#[derive(Debug, Clone)]
pub(super) struct Driver(Arc<Plugin>);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    opts: Option<&'a StringMap>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Use<'a> {
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

/// The parts of all answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    mountpoint: String,
    volume: Option<Told>,
    volumes: Option<Vec<Told>>,
    capabilities: Capabilities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    scope: String,
}

impl Volumes {
    /// The plugin of a driver's name; `None` for the engine's own.
    ///
    /// # Errors
    /// `error looking up volume plugin ...`
    pub(super) async fn driver(&self, name: &str) -> Result<Option<Driver>> {
        if matches!(name, "" | LOCAL) {
            return Ok(None);
        }
        let plugin = self.0.plugins.get(name, SUBSYSTEM).await;
        let plugin = plugin.map_err(|error| error.context(format!("error looking up volume plugin {name}")));
        plugin.map(|plugin| Some(Driver(plugin)))
    }

    /// All plugins that can be reached.
    pub(super) async fn drivers(&self) -> Vec<Driver> {
        self.0.plugins.all(SUBSYSTEM).await.into_iter().map(Driver).collect()
    }

    /// Names of all drivers that have been used.
    pub(crate) fn driver_names(&self) -> Vec<String> {
        let mut names = self.0.plugins.names(SUBSYSTEM);
        names.push(LOCAL.to_owned());
        names.sort();
        names
    }
}

impl Driver {
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Changes something: a plugin that is being started anew is waited for.
    async fn call(&self, method: &str, request: &impl Serialize, patience: Duration) -> Result<Answer> {
        self.0.call(&format!("{SUBSYSTEM}.{method}"), request, patience).await
    }

    /// Asks for something: nobody waits for a plugin that does not listen.
    async fn ask(&self, method: &str, request: &impl Serialize) -> Result<Answer> {
        self.0.ask(&format!("{SUBSYSTEM}.{method}"), request, SHORT).await
    }

    pub(super) async fn create(&self, name: &str, options: Option<&StringMap>) -> Result<()> {
        self.call("Create", &Create { name, opts: options }, LONG).await.map(drop)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        self.call("Remove", &Named { name }, SHORT).await.map(drop)
    }

    /// Where a volume is that is mounted; empty for one that is not.
    pub(super) async fn path(&self, name: &str) -> Result<String> {
        Ok(self.ask("Path", &Named { name }).await?.mountpoint)
    }

    /// Mounts it for a user, and says where.
    pub(super) async fn mount(&self, name: &str, id: &str) -> Result<String> {
        Ok(self.call("Mount", &Use { name, id }, LONG).await?.mountpoint)
    }

    pub(super) async fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.call("Unmount", &Use { name, id }, SHORT).await.map(drop)
    }

    pub(super) async fn list(&self) -> Result<Vec<Told>> {
        Ok(self.ask("List", &Nothing {}).await?.volumes.unwrap_or_default())
    }

    /// # Errors
    /// What the plugin says; one that says nothing has no such volume.
    pub(super) async fn get(&self, name: &str) -> Result<Told> {
        let told = self.ask("Get", &Named { name }).await?.volume;
        told.ok_or_else(|| Error::NotFound("no such volume".into()))
    }

    /// `local` or `global`; plugins need not say so.
    pub(super) async fn scope(&self) -> String {
        let answer = self.ask("Capabilities", &Nothing {}).await.unwrap_or_default();
        match answer.capabilities.scope.to_lowercase().as_str() {
            "global" => "global".into(),
            _ => "local".into(),
        }
    }
}
