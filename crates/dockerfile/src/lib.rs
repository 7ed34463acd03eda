//! Dockerfiles: lines, statements, words and their expansion, and the instructions that change an image's
//! config.
//!
//! Role: pure functions on text, used by the engine (`commit --change`, `import --change`), by `build` and by the
//! CLI. Three steps, one file each:
//!
//! 1. [`lines`]: directives, comments and continued lines of a file → logical lines;
//! 2. [`Statement`]: a line → its instruction's name, flags and arguments, by the grammar of that name;
//! 3. [`Change`]: a statement → a typed instruction, with Docker's rules and error texts;
//!    [`Change::apply`] is what it does to a config, variables expanded by [`Lexer`].
//!
//! Entry point for changes of a config: [`apply_changes`]. Still to come with the builder: the instructions that
//! make layers, heredocs and `.dockerignore`.
//!
//! Source: moby/buildkit `frontend/dockerfile/{parser,instructions,shell}`; moby
//! `daemon/builder/dockerfile/{builder,dispatchers}.go`.
#![forbid(unsafe_code)]

mod apply;
mod change;
mod error;
mod flags;
mod lexer;
mod lines;
mod ports;
mod statement;
mod suggest;
#[cfg(test)]
mod tests;
mod words;

pub use apply::apply_changes;
pub use change::{Change, CommandLine, KeyValue};
pub use error::{Error, Result};
pub use lexer::{Lexer, Variables};
pub use lines::{Line, Lines, lines};
pub use statement::{Arguments, Statement};
