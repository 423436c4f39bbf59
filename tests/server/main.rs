//! `Server`: what it serves, what it refuses, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod drain;
mod extractors;
mod fd_store;
mod hang_up;
mod notifier;
mod notify;
mod one_connection;
mod panics;
mod pid_one;
mod protocols;
mod refusals;
mod routes;
mod running;
mod serve_with;
mod several;
mod signals;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls-ring")]
mod tls;
mod unnamed;

use self::support::subprocess;

#[test]
fn subprocess() {
    subprocess::run(&[
        ("serve_until_signalled", signals::serve_until_signalled),
        ("serve_on_a_paused_clock", signals::serve_on_a_paused_clock),
        ("serve_without_signals", signals::serve_without_signals),
        ("serve_until_its_own_signal", signals::serve_until_its_own_signal),
        ("serve_several", several::serve_several),
        ("hand_over_both", several::hand_over_both),
        ("hand_over_alone_beside", several::hand_over_alone_beside),
        ("serve_by_axum_in_a_terminal", hang_up::serve_by_axum_in_a_terminal),
        ("serve_in_a_terminal", hang_up::serve_in_a_terminal),
        ("serve_in_a_terminal_that_closes", hang_up::serve_in_a_terminal_that_closes),
        ("serve_as_the_leader_of_a_terminal", hang_up::serve_as_the_leader_of_a_terminal),
        ("serve_with_notify", notify::serve_with_notify),
        ("serve_without_notify", notify::serve_without_notify),
        ("serve_one_connection", one_connection::serve_one_connection),
        ("serve_with_one_fallback", unnamed::serve_with_one_fallback),
        ("serve_by_axum", unnamed::serve_by_axum),
        ("serve_one_route", unnamed::serve_one_route),
        ("serve_routes", unnamed::serve_routes),
        ("serve_and_store", fd_store::service::serve),
        ("say_who_is_notified", notifier::say_who_is_notified),
        ("claim_in_vain", notifier::claim_in_vain),
        ("serve_as_pid_one", pid_one::serve),
        ("start_slowly_as_pid_one", pid_one::start_slowly),
    ]);
}
