//! The guides: how to use the crate, one topic a page.
//!
//! | guide | says |
//! | --- | --- |
//! | [`start`] | how a service takes its sockets by name and serves a router for each |
//! | [`drain`] | how it stops: streams, WebSockets, background tasks, deadlines |
//! | [`handoff`] | how the next process takes over |
//! | [`systemd`] | which unit to choose: sockets, reload, fd store, watchdog, exit on idle |
//! | [`containers`] | Podman, Docker, supervisors: one container takes over from another |
//! | [`load_balancers`] | HAProxy, nginx, Kubernetes |
//! | [`testing`] | how to test a service, its drain and its units |
//! | [`migration`] | from `axum::serve`, listenfd, axum-server, tableflip, ecdysis |
//! | [`grpc`] | tonic |
//! | [`tls`] | TLS: certificates, reload, client certificates |
//! | [`resume`] | WebSockets and event streams that go on in the next process |
//! | [`several_listeners`] | public port, admin socket and metrics in one server |
//! | [`beside_another_server`] | UDP, other protocols, a second server |
//! | [`state`] | what a process knows, in the next one |
//! | [`development_loop`] | build and start again without a refused connection |
//! | [`log_rotation`] | SIGHUP that meant log rotation |
//! | [`rollback`] | how to go back |
//! | [`monitoring`] | which status, log lines and counts to expect |
//!
//! The same pages are files under `docs/guide/` of the repository, whose `docs/reference/` has every rule in full.

#![allow(clippy::doc_markdown, reason = "the pages name products and protocols")]
#![allow(clippy::needless_doctest_main, reason = "the pages show whole programs")]

// A page defines its links at its end, as files of the repository have them. Of two definitions the first one counts, so these come
// first and lead to the pages of rustdoc.
macro_rules! pages {
    ($($name:ident $file:literal)*) => {
        $(
            #[doc = include_str!("links.md")]
            #[doc = include_str!(concat!("../../docs/guide/", $file))]
            pub mod $name {}
        )*
    };
}

pages! {
    beside_another_server "beside-another-server.md"
    containers "containers.md"
    development_loop "development-loop.md"
    drain "drain.md"
    grpc "grpc.md"
    handoff "handoff.md"
    load_balancers "load-balancers.md"
    log_rotation "log-rotation.md"
    migration "migration.md"
    monitoring "monitoring.md"
    resume "resume.md"
    rollback "rollback.md"
    several_listeners "several-listeners.md"
    start "start.md"
    state "state.md"
    systemd "systemd.md"
    testing "testing.md"
    tls "tls.md"
}
