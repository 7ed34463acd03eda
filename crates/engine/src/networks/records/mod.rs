//! The records of networks, in the form of Docker's `local-kv.db` (source: moby `daemon/libnetwork/datastore`,
//! `daemon/libnetwork/internal/kvstore/boltdb`): a key is a path, a value an 8-byte counter and JSON.
//!
//! | key | record |
//! |---|---|
//! | `network/<network>` | a network |
//! | `bridge/<network>` | what the bridge driver knows of it |
//! | `endpoint_count/<network>` | how many endpoints it has; Docker 20.10 overlooks networks without |
//! | `endpoint/<network>/<endpoint>` | a running container's attachment |
//! | `bridge-endpoint/<endpoint>` | what the bridge driver knows of it |
//! | `macvlan/network/<network>`, `macvlan/endpoint/<endpoint>` | the same of the macvlan driver |
//! | `sandbox/<sandbox>` | a running container's namespace and its endpoints |
//!
//! Everything else is left as it is, and so is what belongs to a network of a driver that is not built.

pub(super) mod endpoint;
pub(super) mod network;

use super::spec;
use endpoint::Live;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use wharf_api::network::Network;
use wharf_spec::{NetworkId, to_go_json};
use wharf_store::bolt::{Bucket, Entry};

/// What all keys begin with.
const ROOT: &str = "docker/network/v1.0/";
/// Bytes of the counter before the JSON.
const COUNTER: usize = 8;

/// Networks by id.
pub(super) type NetworkMap = BTreeMap<NetworkId, Network>;

/// Drivers whose records are written here.
pub(super) fn is_built(driver: &str) -> bool {
    matches!(driver, "bridge" | "macvlan" | "host" | "null")
}

/// The networks in a bucket. What cannot be read is logged and left out; its record stays.
pub(super) fn networks(records: &Bucket) -> NetworkMap {
    let mut networks = NetworkMap::new();
    for (key, value) in records.values() {
        let ["network", id] = parts(key)[..] else { continue };
        match network::decode(json_of(value)) {
            Ok((record, network)) if record.as_str() == id => drop(networks.insert(record, network)),
            Ok(_) => tracing::error!(key, "a network is left out: its record has another id"),
            Err(network::Unusable::InDeletion) => {}
            Err(error) => tracing::error!(key, %error, "a network is left out"),
        }
    }
    networks
}

/// The bucket as it is to be, from what it was, the networks and what runs in them now.
pub(super) fn updated(old: &Bucket, networks: &NetworkMap, live: &[Live]) -> Bucket {
    let earlier = self::networks(old);
    let gone: BTreeSet<&str> =
        earlier.keys().filter(|id| !networks.contains_key(*id)).map(NetworkId::as_str).collect();
    let ours = |id: &str| networks.get(id).is_some_and(|network| is_built(&network.driver));
    let mut new = Bucket { sequence: old.sequence, entries: BTreeMap::new() };
    for (key, entry) in &old.entries {
        let text = std::str::from_utf8(key).unwrap_or_default();
        let parts = parts(text);
        let json = match entry {
            Entry::Value(value) => json_of(value),
            Entry::Bucket(_) => &[][..],
        };
        let rewritten = match parts[..] {
            ["endpoint", network, _] => ours(network),
            ["bridge-endpoint", _] | ["macvlan", "endpoint", _] => true,
            ["sandbox", _] => endpoint::networks_of_sandbox(json).all(|id| ours(&id)),
            _ => false,
        };
        if !rewritten && !parts.iter().any(|part| gone.contains(part)) {
            new.entries.insert(key.clone(), entry.clone());
        }
    }
    let mut writer = Writer { next: 1 + last_counter(old), old, new };
    for (id, network) in networks.iter().filter(|(_, network)| is_built(&network.driver)) {
        writer.network(id, network, earlier.get(id), live);
    }
    for live in live {
        let network = networks.get(&live.network);
        if let Some(network) = network.filter(|network| is_built(&network.driver)) {
            writer.endpoint(live, network);
        }
    }
    for (sandbox, record) in endpoint::sandboxes(live) {
        writer.put(&["sandbox", &sandbox], &record);
    }
    writer.new
}

/// A driver's record of a network, from the earlier one.
type Encode = fn(Option<Value>, &Network, &wharf_network::BridgeSpec) -> Value;

struct Writer<'a> {
    next: u64,
    old: &'a Bucket,
    new: Bucket,
}

impl Writer<'_> {
    /// A network's own records: those that say what they should are left, with whatever else is in them.
    fn network(&mut self, id: &NetworkId, network: &Network, earlier: Option<&Network>, live: &[Live]) {
        let same = earlier == Some(&network::persistent(network));
        if !same {
            let base = self.json(&["network", id.as_str()]);
            self.put(&["network", id.as_str()], &network::encode(base, network));
        }
        let (at, encode): (_, Encode) = match network.driver.as_str() {
            "macvlan" => (&["macvlan", "network", id.as_str()][..], network::encode_macvlan),
            _ => (&["bridge", id.as_str()][..], network::encode_bridge),
        };
        let is_there = self.new.entries.contains_key(key(at).as_bytes());
        if spec::is_wired(&network.driver)
            && !(same && is_there)
            && let Ok(bridge) = spec::bridge(id, network)
        {
            let base = self.json(at);
            self.put(at, &encode(base, network, &bridge));
        }
        let count = live.iter().filter(|live| live.network == *id).count();
        self.put(&["endpoint_count", id.as_str()], &json!({ "Count": count }));
    }

    fn endpoint(&mut self, live: &Live, network: &Network) {
        let (of, id) = (live.network.as_str(), live.id.as_str());
        self.put(&["endpoint", of, id], &live.record(network));
        let (at, record) = match network.driver.as_str() {
            "macvlan" => (&["macvlan", "endpoint", id][..], live.macvlan_record()),
            _ => (&["bridge-endpoint", id][..], live.bridge_record()),
        };
        if let Some(record) = record {
            self.put(at, &record);
        }
    }

    /// The record of a key as it was.
    fn json(&self, parts: &[&str]) -> Option<Value> {
        match self.old.entries.get(key(parts).as_bytes()) {
            Some(Entry::Value(value)) => serde_json::from_slice(json_of(value)).ok(),
            _ => None,
        }
    }

    /// Writes a record; one that is the same keeps its counter.
    fn put(&mut self, parts: &[&str], record: &Value) {
        let key = key(parts).into_bytes();
        let json = to_go_json(record);
        let same = match self.old.entries.get(&key) {
            Some(Entry::Value(old)) if json_of(old) == json => Some(old.clone()),
            _ => None,
        };
        let value = same.unwrap_or_else(|| {
            let counter = self.next;
            self.next += 1;
            [&counter.to_le_bytes()[..], &json].concat()
        });
        self.new.entries.insert(key, Entry::Value(value));
    }
}

fn key(parts: &[&str]) -> String {
    format!("{ROOT}{}/", parts.join("/"))
}

/// The parts of a key; none for a key of another form.
fn parts(key: &str) -> Vec<&str> {
    let path = key.strip_prefix(ROOT).and_then(|path| path.strip_suffix('/'));
    path.map(|path| path.split('/').collect()).unwrap_or_default()
}

fn json_of(value: &[u8]) -> &[u8] {
    value.get(COUNTER..).unwrap_or_default()
}

fn last_counter(records: &Bucket) -> u64 {
    let counters = records.values().filter_map(|(_, value)| {
        let counter = value.get(..COUNTER)?.try_into().ok()?;
        Some(u64::from_le_bytes(counter))
    });
    // A counter at its end would only make Docker's own counting start again.
    counters.max().unwrap_or(0).min(u64::MAX / 2)
}

#[cfg(test)]
mod tests;
