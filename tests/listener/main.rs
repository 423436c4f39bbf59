//! What an `ActivatedListener` does with sockets, connections, paths and errors.
#![cfg_attr(not(feature = "server"), allow(dead_code, unused_imports, reason = "some tests need a feature"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod exhaustion;
mod fairness;
mod listen;
mod nonblocking;
mod one_connection;
mod peers;
mod stream;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls-ring")]
mod tls;
mod unix_path;
mod unix_race;
#[cfg(feature = "vsock")]
mod vsock;

use self::support::subprocess;

#[test]
fn subprocess() {
    subprocess::run(&[
        #[cfg(feature = "server")]
        ("drain_without_descriptors", exhaustion::drain_without_descriptors),
        ("run_out_of_descriptors", exhaustion::run_out_of_descriptors),
        ("serve_one_connection", one_connection::serve_one_connection),
        ("bind_with_a_strict_umask", unix_path::bind_with_a_strict_umask),
        ("leave_the_directory", unix_path::leave_the_directory),
        ("take_and_log", unix_path::take_and_log),
        ("race_for_a_path", unix_race::race_for_a_path),
    ]);
}
