//! Which containers there are, by id, id prefix and name.

use super::{Container, create::parse_link};
use crate::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use wharf_spec::{ContainerId, ContainerName};

/// The table of containers: cheap to clone, shared by the handles. Names are reserved before their
/// container exists, so that two creates cannot both have one.
#[derive(Clone, Default)]
pub struct Index(Arc<RwLock<Tables>>);

#[derive(Default)]
struct Tables {
    containers: BTreeMap<ContainerId, Arc<Container>>,
    names: HashMap<ContainerName, ContainerId>,
}

impl Tables {
    fn named(&self, name: &str) -> Option<&Arc<Container>> {
        self.names.get(name).and_then(|id| self.containers.get(id))
    }

    /// The container that another one has a name for: `parent/alias`.
    fn linked(&self, path: &str) -> Option<&Arc<Container>> {
        let (parent, alias) = path.split_once('/')?;
        let host = self.named(parent)?.host_config();
        let links = host.links.iter().flatten().map(|link| parse_link(link));
        let (child, _) = links.into_iter().find(|(_, own)| *own == alias)?;
        let name = child.strip_prefix('/').unwrap_or(child);
        self.containers.get(child).or_else(|| self.named(name))
    }
}

impl Index {
    /// The container with this id, name (with or without a slash before it) or unambiguous id prefix, in this
    /// order (source: moby `daemon/container.go`, GetContainer).
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousPrefix`]; [`Error::Invalid`] for an empty one.
    pub fn get(&self, id_or_name: &str) -> Result<Arc<Container>> {
        if id_or_name.is_empty() {
            return Err(Error::Invalid("No container name or ID supplied".into()));
        }
        let tables = self.read();
        let missing = || Error::NoSuchContainer(id_or_name.into());
        if let Some(container) = tables.containers.get(id_or_name) {
            return Ok(Arc::clone(container));
        }
        let name = id_or_name.strip_prefix('/').unwrap_or(id_or_name);
        if let Some(container) = tables.named(name).or_else(|| tables.linked(name)) {
            return Ok(Arc::clone(container));
        }
        let mut with_prefix = tables
            .containers
            .range::<str, _>((Bound::Included(id_or_name), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(id_or_name));
        match (with_prefix.next(), with_prefix.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(Error::AmbiguousPrefix(id_or_name.into())),
            (None, _) => Err(missing()),
        }
    }

    /// All containers, in no order that means anything.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().containers.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().containers.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reserves a name for a container that is being made or renamed.
    ///
    /// # Errors
    /// [`Error::NameInUse`] when another one has it.
    pub(crate) fn reserve(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let mut tables = self.write();
        match tables.names.get(name) {
            Some(owner) if owner != id => {
                Err(Error::NameInUse { name: name.to_string(), owner: owner.clone() })
            }
            _ => {
                tables.names.insert(name.clone(), id.clone());
                Ok(())
            }
        }
    }

    /// Gives a name back, if it is this container's.
    pub(crate) fn release(&self, name: &ContainerName, id: &ContainerId) {
        let mut tables = self.write();
        if tables.names.get(name) == Some(id) {
            tables.names.remove(name);
        }
    }

    /// Adds a container. Its name must be reserved.
    pub(crate) fn add(&self, container: Arc<Container>) {
        self.write().containers.insert(container.id.clone(), container);
    }

    /// Takes a container out, with every name it has.
    pub(crate) fn take(&self, id: &ContainerId) -> Option<Arc<Container>> {
        let mut tables = self.write();
        tables.names.retain(|_, owner| owner != id);
        tables.containers.remove(id)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
