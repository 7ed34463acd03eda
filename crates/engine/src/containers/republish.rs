//! Published ports of a container that exists: `PublishAdd` and `PublishRemove` of an update. Docker cannot change them.

use super::{Container, Containers};
use crate::{Error, Result};
use std::sync::Arc;
use wharf_api::container::{HostConfig, PortBinding, PortMap, UpdateRequest};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PortChange {
    add: PortMap,
    remove: PortMap,
}

impl PortChange {
    pub(super) fn of(request: &UpdateRequest) -> Self {
        let mut remove = request.publish_remove.clone().unwrap_or_default();
        // One that names no place on the host means all of them.
        for named in remove.values_mut().flatten() {
            if named.contains(&PortBinding::default()) {
                named.clear();
            }
        }
        Self { add: request.publish_add.clone().unwrap_or_default(), remove }
    }

    pub(super) fn is_none(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Writes it into the settings, from which the next start takes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a port that is not published, or a container that has no ports of its own.
    pub(super) fn write(&self, host: &mut HostConfig) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        if host.network_mode.container().is_some() || host.network_mode.is_host() {
            return Err(Error::Invalid(
                "conflicting options: port publishing and the container type network mode".into(),
            ));
        }
        let bindings = host.port_bindings.get_or_insert_default();
        for (port, named) in &self.remove {
            let known = bindings.get_mut(port).and_then(Option::as_mut).filter(|known| !known.is_empty());
            let missing = || Error::Invalid(format!("port {port} is not published there"));
            let known = known.ok_or_else(missing)?;
            match named.as_deref() {
                None | Some([]) => known.clear(),
                Some(named) => named.iter().try_for_each(|one| take(known, one).ok_or_else(missing))?,
            }
        }
        bindings.retain(|_, known| known.as_ref().is_none_or(|known| !known.is_empty()));
        for (port, added) in &self.add {
            let mut added = added.clone().unwrap_or_default();
            if added.is_empty() {
                added.push(PortBinding::default());
            }
            bindings.entry(port.clone()).or_default().get_or_insert_default().extend(added);
        }
        Ok(())
    }
}

/// Takes out the binding that is meant: the same one, else one whose host port was left to the daemon.
fn take(known: &mut Vec<PortBinding>, meant: &PortBinding) -> Option<()> {
    let is_at = |one: &PortBinding| meant.host_ip.is_empty() || one.host_ip == meant.host_ip;
    let has_port = |one: &PortBinding| meant.host_port.is_empty() || one.host_port == meant.host_port;
    let exact = known.iter().position(|one| is_at(one) && has_port(one));
    let open = || known.iter().position(|one| one.host_port.is_empty() || one.host_port.contains('-'));
    exact.or_else(open).map(|position| drop(known.remove(position)))
}

impl Containers {
    /// Changes what a running container publishes; one that does not run has it from its next start on.
    ///
    /// # Errors
    /// For a port that is taken, or not published.
    pub(super) async fn republish(&self, container: &Arc<Container>, change: &PortChange) -> Result<()> {
        if change.is_none() || !container.is_running() {
            return Ok(());
        }
        self.parts().networks.republish(container, &change.remove, &change.add).await?;
        container.save().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(host_ip: &str, host_port: &str) -> PortBinding {
        PortBinding { host_ip: host_ip.into(), host_port: host_port.into() }
    }

    fn map(port: &str, bindings: &[PortBinding]) -> PortMap {
        [(port.parse().unwrap(), Some(bindings.to_vec()))].into()
    }

    #[test]
    fn settings_follow() {
        let mut host = HostConfig {
            port_bindings: Some(map(
                "80/tcp",
                &[binding("", "8080"), binding("127.0.0.1", ""), binding("", "9090")],
            )),
            ..HostConfig::default()
        };
        let change = |remove, add| PortChange { remove, add };
        let none = PortMap::new();
        change(map("80/tcp", &[binding("", "9090")]), map("53/udp", &[])).write(&mut host).unwrap();
        assert_eq!(
            host.port_bindings.as_ref().unwrap()[&"53/udp".parse().unwrap()],
            Some(vec![binding("", "")])
        );
        change(map("80/tcp", &[binding("127.0.0.1", "32768")]), none.clone()).write(&mut host).unwrap();
        let left = &host.port_bindings.as_ref().unwrap()[&"80/tcp".parse().unwrap()];
        assert_eq!(*left, Some(vec![binding("", "8080")]));
        let error = change(map("80/tcp", &[binding("", "1")]), none.clone()).write(&mut host).unwrap_err();
        assert_eq!(error.to_string(), "port 80/tcp is not published there");
        change(map("80/tcp", &[]), none.clone()).write(&mut host).unwrap();
        assert!(!host.port_bindings.as_ref().unwrap().contains_key(&"80/tcp".parse().unwrap()));
        assert!(change(map("80/tcp", &[]), none).write(&mut host).is_err());
    }
}
