//! Drains that begin early, twice, or never.

use std::{future::pending, time::Duration};

use axum::routing::get;
use axum_activation::{
    ActivatedListeners, Server,
    drain::{Drain, Phase},
};
use tokio::sync::oneshot;

use super::service::routes;
use crate::support::{
    http::Client,
    running::{Running, connections},
    wait::eventually,
};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn drained_before_the_first_accept_it_serves_no_client_and_returns() {
    let drain = Drain::new();
    drain.start();
    let running = Running::start(routes(), |server| server.with_drain(drain.clone()));
    let report = running.report();
    assert_eq!((connections(&report), report.stuck, drain.phase()), ([0; 4], 0, Phase::Done));
    assert!(report.is_clean(), "{report}");
}

#[test]
fn drained_twice_is_drained_once() {
    let running = Running::start(routes(), |server| server.keep_alive_grace(SHORT));
    let mut client = running.connect();
    assert_eq!(client.get("/").unwrap().text(), "hello");
    running.start_drain();
    running.start_drain();
    assert!(client.get("/").unwrap().says_close());
    drop(client);
    let drain = running.drain.clone();
    let report = running.report();
    assert_eq!((connections(&report), report.listeners[0].requests), ([1, 0, 0, 0], 2));
    drain.start();
    assert_eq!(drain.phase(), Phase::Done);
}

#[test]
fn aborted_from_code_it_ends_at_once() {
    let running = Running::start_paused(routes(), |server| server);
    let mut clients = [running.connect(), running.connect()];
    clients[0].ask("/stuck").unwrap();
    running.wait(|now| now.in_flight == 1 && now.open == 2);
    running.drain.abort();
    let report = running.report();
    assert_eq!(report.elapsed, Duration::ZERO, "{report}");
    assert_eq!(connections(&report), [0, 1, 0, 1], "who was idle has lost nothing");
    clients.iter_mut().for_each(|client| assert_eq!(client.rest().unwrap(), b""));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_aborts_every_connection_and_closes_the_listener() {
    let (dropped, gone) = oneshot::channel::<()>();
    let dropped = std::sync::Arc::new(std::sync::Mutex::new(Some(dropped)));
    let handler = async move || {
        // Dropped with the handler's future.
        let _dropped = dropped.lock().unwrap().take();
        pending::<()>().await;
    };
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
    let addr = match activated.iter().next().unwrap().addr() {
        Some(axum_activation::ListenAddr::Tcp(addr)) => *addr,
        other => panic!("{other:?}"),
    };
    let server = Server::new(activated)
        .serve("http", routes().route("/held", get(handler)))
        .without_signals()
        .without_handoff_signals();
    let (drain, stats) = (server.drain(), server.stats());
    let serving = tokio::spawn(server.run());
    let clients = tokio::task::spawn_blocking(move || {
        let mut clients =
            [Client::connect(addr).unwrap(), Client::connect(addr).unwrap(), Client::connect(addr).unwrap()];
        clients[0].ask("/held").unwrap();
        assert_eq!(clients[1].get("/").unwrap().text(), "hello");
        eventually("all are open", || stats.read().iter().all(|now| now.in_flight == 1 && now.open == 3));
        clients
    });
    let clients = clients.await.unwrap();

    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(drain.phase(), Phase::Aborting);
    assert!(gone.await.is_err(), "the handler is dropped");
    let refused = tokio::task::spawn_blocking(move || {
        for mut client in clients {
            assert_eq!(client.rest().unwrap(), b"");
        }
        eventually("it listens no more", || Client::connect(addr).is_err());
    });
    refused.await.unwrap();
}
