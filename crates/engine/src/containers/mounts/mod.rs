//! Mount points of containers: what requests say about them, and the volumes and paths they become.

mod ownership;
mod parse;
mod propagation;
mod register;
mod tree;

pub(super) use ownership::{Owners, id_maps, is_mapped, keeps_container_ids, wants_chown};
pub(super) use parse::{BindSource, check_spec, check_target};
pub(super) use propagation::check_propagation;
pub(super) use register::{Registered, Sources};
pub(super) use tree::{is_tree, open_tree};
