//! Mount points of containers: what requests say about them, and the volumes and paths they become.

mod parse;
mod register;

pub(super) use parse::{BindSource, check_spec, check_target};
pub(super) use register::Registered;
