//! HTTP as Docker speaks it: connections, routes, requests, answers, hijacked streams.

pub(crate) mod adapter;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod conn;
pub(crate) mod dispatch;
pub(crate) mod form;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;
