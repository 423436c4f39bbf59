//! Pure parsers of what passes on a connection. Each follows one protocol over bytes, keeps a few numbers, and never
//! gathers a frame.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(in crate::server) mod http2;
pub(in crate::server) mod websocket;
