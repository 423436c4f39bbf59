//! Handoffs under clients of other makers: none of them loses a call, and their connections move.
//!
//! `HANDOVERS=1000 cargo test --test handoff -- real:: --skip rendezvous` for so many handoffs a load; 5 without.
//!
//! Needs Debian's packages nghttp2-client, nodejs, golang-go, golang-golang-x-net-dev and python3-grpcio.

mod handoffs;
mod http2;
mod killed;
mod lasting;
