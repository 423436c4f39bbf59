//! What the service gives the server may panic, and the server serves on.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{Notifier, Server, server::IncomingConnection};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tower::service_fn;

use super::running::{Gate, Running, addr_of, tcp_set};
use crate::support::{http::Client, manager::Manager};

#[tokio::test(flavor = "multi_thread")]
async fn a_make_service_that_panics_costs_its_own_connection() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let connections = AtomicU32::new(0);
    let make = service_fn(move |_: IncomingConnection<'_>| {
        let number = connections.fetch_add(1, SeqCst);
        assert_ne!(number, 0, "as planned, before there is a future");
        async move {
            assert_ne!(number, 1, "as planned, in the future");
            Ok::<_, Infallible>(Router::new().route("/", get(async || "hello")))
        }
    });
    let running = Running::start(Server::new(set).serve("http", make));
    for _ in 0..2 {
        assert!(Client::connect(&addr).unwrap().is_closed());
    }
    let mut client = Client::connect(&addr).unwrap();
    assert_eq!(client.get("/").unwrap().text(), "hello");
    drop(client);
    let report = running.end().await;
    assert_eq!((report.listeners[0].errors, report.listeners[0].finished), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_is_to_stop_the_server_and_panics_has_stopped_it_in_order() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let gate = Gate::new();
    let (panic, panics) = oneshot::channel::<()>();
    let stop = async { panics.await.expect("the test has dropped its end, as planned") };
    let running =
        tokio::spawn(Server::new(set).serve("http", gate.app()).without_signals().with_graceful_shutdown(stop).run());
    let mut client = Client::connect(&addr).unwrap();
    client.ask("/wait").unwrap();
    gate.arrival().await;
    drop(panic);
    crate::running::wait_until_refused(&addr);
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    drop(client);
    let report = running.await.unwrap().unwrap();
    assert!(report.is_clean() && report.listeners[0].requests == 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_panics_while_it_gets_ready_is_not_ready() {
    let server = Server::new(tcp_set(&["http"])).serve("http", Router::new()).without_signals();
    let ready_when = ready(()).map(|()| -> Result<(), Infallible> { panic!("as planned") });
    let error = server.ready_when(ready_when).run().await.unwrap_err();
    assert!(error.to_string().contains("the service cannot start: it panicked: as planned"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_panics_is_a_bad_answer_and_is_asked_again() {
    let manager = Manager::start();
    let panics = Arc::new(AtomicBool::new(true));
    let check = {
        let panics = Arc::clone(&panics);
        move || {
            assert!(!panics.load(SeqCst), "as planned");
            ready(Ok::<_, Infallible>(()))
        }
    };
    let notifier = Notifier::to(manager.address()).unwrap().with_watchdog(Duration::from_millis(400));
    let server = Server::new(tcp_set(&["http"])).serve("http", Router::new()).with_notifier(notifier);
    let running = Running::start(server.health_check(check));
    manager.wait("its status says so", |manager| manager.status().ends_with("; not well: it panicked: as planned"));
    panics.store(false, SeqCst);
    let before = manager.values("WATCHDOG").len();
    manager.wait("it is fed", |manager| manager.values("WATCHDOG").len() > before + 2);
    running.end().await;
}
