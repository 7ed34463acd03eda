//! Mount points of containers: what requests say about them, and the volumes and paths they become.

mod ownership;
mod parse;
mod register;

pub(super) use ownership::{Owners, id_maps, is_mapped, keeps_container_ids, wants_chown};
pub(super) use parse::{BindSource, check_spec, check_target};
pub(super) use register::Registered;
