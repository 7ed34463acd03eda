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
//! Entry points: [`Dockerfile::parse`] for a file with its stages, [`apply_changes`] for changes of a config,
//! [`Patterns`] for `.dockerignore`, and [`lint::lint`] for what is doubtful in a file.
//!
//! Source: moby/buildkit `frontend/dockerfile/{parser,instructions,shell}`; moby
//! `daemon/builder/dockerfile/{builder,dispatchers}.go`.
#![forbid(unsafe_code)]

mod apply;
mod change;
mod error;
mod file;
#[cfg(test)]
mod file_tests;
mod flags;
mod go;
mod heredoc;
mod ignore;
mod instruction;
mod lexer;
mod lines;
pub mod lint;
mod mount;
mod ports;
mod statement;
mod suggest;
#[cfg(test)]
mod tests;
mod words;

pub use apply::{apply_changes, shell_of};
pub use change::{Change, CommandLine, KeyValue};
pub use error::{Error, Result};
pub use file::{Dockerfile, Stage, Step, parse_trigger};
pub use go::quote;
pub use heredoc::Heredoc;
pub use ignore::{Patterns, glob};
pub use instruction::{Argument, Copy, Instruction, Run, Source};
pub use lexer::{Lexer, Variables};
pub use lines::{Line, Lines, lines};
pub use mount::{Mount, MountKind, Sharing};
pub use statement::{Arguments, Statement};
