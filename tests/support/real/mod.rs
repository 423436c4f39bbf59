//! Clients of other makers under load, the service that they talk to, and what becomes of each call.
//!
//! Every client compares every byte of an answer, and never sends a call twice. Go's alone may: it sends again what the server
//! has refused by a GOAWAY, as RFC 9113 (section 6.8) allows.

pub(crate) mod calls;
pub(crate) mod events;
pub(crate) mod grpc;
pub(crate) mod h2load;
pub(crate) mod outcomes;
pub(crate) mod programs;
pub(crate) mod routes;
pub(crate) mod tonic;
pub(crate) mod websocket;
