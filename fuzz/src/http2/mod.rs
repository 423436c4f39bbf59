//! A client and a library of HTTP/2 that are simple and strict: each counts its windows, keeps its tables of header compression, and panics at
//! what RFC 9113 calls an error of the connection.
//!
//! A response is the text of the request: its header fields and its body. So the client knows each byte that it must get.

mod client;
mod frames;
mod library;
mod table;

pub use self::{client::Client, library::Library};
