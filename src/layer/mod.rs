//! Tower layers, for services that are not served by [`Server`](crate::Server).

mod drain;

pub use self::drain::{DrainLayer, DrainService, ResponseBody, ResponseFuture};
