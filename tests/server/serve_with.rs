//! Settings of one name: its limits, and that it goes on while the others drain.

use std::{net::TcpStream, time::Duration};

use axum::{Router, extract::Request, routing::get};
use axum_activation::{Drain, ListenAddr, Server, readiness::readiness, server::ServeOptions};
use tokio::task::JoinHandle;

use super::running::{Gate, Running, addr_of, tcp_set, wait_until_refused};
use crate::support::http::Client;

/// Readiness, the phase of the drain, and how many connections its route has had.
fn admin() -> Router {
    let phase = |drain: Drain| async move { format!("{:?}", drain.phase()) };
    Router::new().route("/ready", readiness()).route("/phase", get(phase))
}

/// A server with a request in flight at "http", and "admin" with `options`; `limit` is that of its drain.
async fn draining(
    options: ServeOptions,
    limit: Duration,
) -> (Gate, Client, ListenAddr, JoinHandle<Result<axum_activation::DrainReport, axum_activation::Error>>) {
    let (set, gate) = (tcp_set(&["http", "admin"]), Gate::new());
    let (addr, admin_addr) = (addr_of(&set, "http"), addr_of(&set, "admin"));
    let server = Server::new(set).serve("http", gate.app()).serve_with("admin", admin(), options).drain_timeout(limit);
    let running = Running::start(server.lame_duck(Duration::ZERO));
    let mut client = Client::connect(&addr).unwrap();
    client.ask("/wait").unwrap();
    gate.arrival().await;
    let ended = running.stop();
    wait_until_refused(&addr);
    (gate, client, admin_addr, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_until_done_serves_while_the_others_drain() {
    let (gate, mut client, admin, ended) = draining(ServeOptions::new().until_done(), Duration::from_secs(60)).await;

    let mut scraper = Client::connect(&admin).unwrap();
    for _ in 0..2 {
        let ready = scraper.get("/ready").unwrap();
        assert_eq!(ready.status, 503, "{ready:?}");
        assert!(!ready.says_close(), "{ready:?}");
    }
    assert_eq!(Client::connect(&admin).unwrap().get("/phase").unwrap().text(), "Draining");
    assert!(!ended.is_finished());

    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    let report = ended.await.unwrap().unwrap();
    assert!(report.is_clean() && scraper.is_closed(), "{report}");
    let ListenAddr::Tcp(admin) = admin else { panic!("{admin} is not TCP") };
    assert!(TcpStream::connect(admin).is_err(), "nothing accepts any more");
    assert!(report.listeners.iter().any(|listener| listener.name == "admin" && listener.requests == 3), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_a_name_ends_with_the_others() {
    let (gate, mut client, admin, ended) = draining(ServeOptions::new(), Duration::from_secs(60)).await;
    wait_until_refused(&admin);
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    assert!(ended.await.unwrap().unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_until_done_is_aborted_at_the_deadline_of_all() {
    let options = ServeOptions::new().until_done();
    let (_gate, mut client, admin, ended) = draining(options, Duration::from_millis(300)).await;
    let mut scraper = Client::connect(&admin).unwrap();
    assert_eq!(scraper.get("/ready").unwrap().status, 503);
    let report = ended.await.unwrap().unwrap();
    assert!(client.is_closed() && scraper.is_closed());
    let counted = report.listeners.iter().map(|listener| (listener.aborted, listener.idle_closed));
    assert_eq!((counted.collect::<Vec<_>>(), report.stuck), (vec![(1, 0), (0, 1)], 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_nothing_else_ends_in_order() {
    let set = tcp_set(&["admin"]);
    let addr = addr_of(&set, "admin");
    let options = ServeOptions::new().until_done();
    let running = Running::start(Server::new(set).serve_with("admin", admin(), options));
    let mut client = Client::connect(&addr).unwrap();
    assert_eq!(client.get("/phase").unwrap().text(), "Running");
    let report = running.end().await;
    assert!(report.is_clean() && client.is_closed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_own_limits() {
    let set = tcp_set(&["http", "admin"]);
    let (http, admin) = (addr_of(&set, "http"), addr_of(&set, "admin"));
    let app = || Router::new().fallback(|_: Request| async { "hello" });
    let server = Server::new(set).max_connections(1).serve("http", app());
    let running = Running::start(server.serve_with("admin", app(), ServeOptions::new().max_connections(None)));
    let mut clients = [&http, &admin, &admin].map(|addr| Client::connect(addr).unwrap());
    assert!(
        clients.iter_mut().all(|client| client.get("/").unwrap().text() == "hello"),
        "the limit is that of http alone"
    );
    let mut waiting = Client::connect(&http).unwrap();
    waiting.ask("/").unwrap();
    let [first, ..] = clients;
    drop(first);
    assert_eq!(waiting.answer().unwrap().text(), "hello");
    assert!(running.end().await.is_clean());
}

#[tokio::test]
async fn a_name_that_lets_no_connection_in_is_refused() {
    let options = ServeOptions::new().max_connections(0);
    let error = Server::new(tcp_set(&["http"])).serve_with("http", Router::new(), options).run().await.unwrap_err();
    assert!(error.to_string().contains("max_connections(0)"), "{error}");
}
