//! No request is lost: clients that never send a request twice, while one process after the other is drained under load.
//!
//! `DRAINS=50 cargo test --test drain load::` for so many drains a load; 10 without.

mod clients;
mod http1;
mod http2;
mod load_balancers;
