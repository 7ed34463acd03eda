//! Dockerfiles: parser, shell lexer and expansion, `.dockerignore` matcher.
//!
//! Role: pure functions on text, used by `build`, by the CLI (contexts) and by the engine (`commit --change`).
//! Nothing of it is built yet; `docs/api-compat.md` says so for `/build`.
#![forbid(unsafe_code)]
