//! What a server tells the service manager, when, and when not.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io::Error as IoError,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Notifier, Server, server::IncomingConnection};
use rustix::process::Signal;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::yield_now,
    time::timeout,
};
use tower::service_fn;

use super::running::{Gate, Running, Waiting, addr_of, tcp_set};
use crate::support::{
    http::{Client, get as fetch},
    manager::Manager,
    running as drain_running, sockets,
    subprocess::{ChildIo, Subprocess},
    wait::{LIMIT, until},
};

/// Returns when a server without clients that leaves after that time has left: as long as any other is to have stayed.
async fn another_leaves(time: Duration) {
    let socket = sockets::tcp();
    let set = ActivatedListeners::builder().socket("http", socket.try_clone().unwrap()).build().unwrap();
    let server = Server::new(set).serve("http", Gate::new().app()).keep_alive_grace(Duration::ZERO);
    let running = server.idle_exit(time).without_signals().without_handoff_signals().run();
    assert!(timeout(LIMIT, running).await.expect("it leaves").unwrap().is_clean());
}

/// What the service says of itself.
type Health = Result<(), Infallible>;

/// A server that speaks to `manager`, and its gate.
fn server(manager: &Manager, set: ActivatedListeners) -> (Server, Gate) {
    let gate = Gate::new();
    let server = Server::new(set).serve("http", gate.app()).with_notifier(notifier(manager));
    (server.keep_alive_grace(Duration::ZERO), gate)
}

fn notifier(manager: &Manager) -> Notifier {
    Notifier::to(manager.address()).unwrap()
}

fn says(line: &'static str) -> impl Fn(&Manager) -> bool {
    move |manager| manager.heard(|heard| heard.iter().any(|message| message.says(line)))
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_comes_with_its_status_and_stopping_with_its_status_and_more_time() {
    let (manager, set) = (Manager::start(), tcp_set(&["http"]));
    let addr = addr_of(&set, "http");
    let (server, gate) = server(&manager, set);
    let running = Running::start(server.drain_timeout(Duration::from_secs(7)));
    manager.wait("it is ready", says("READY=1"));
    assert_eq!(manager.texts().last().unwrap(), "READY=1\nSTATUS=serving: 0 connections, 0 requests in flight\n");

    let mut client = Client::connect(&addr).unwrap();
    client.ask("/wait").unwrap();
    gate.arrival().await;
    let ended = running.stop();
    manager.wait("it stops", says("STOPPING=1"));
    manager.heard(|heard| {
        let stopping = heard.iter().find(|message| message.says("STOPPING=1")).unwrap();
        assert!(stopping.says("STATUS=draining: waiting for 1 request, 1 connection, 7s at most"), "{stopping:?}");
        assert_eq!(stopping.values("EXTEND_TIMEOUT_USEC").count(), 1, "{stopping:?}");
    });
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    drop(client);
    let report = ended.await.unwrap().unwrap();
    manager.wait("its last status", |manager| manager.status() == report.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_asked_for_again_and_again_while_it_drains_and_never_beyond_its_limit() {
    let manager = Manager::start();
    let (limit, margin) = (Duration::from_secs(4), Duration::from_secs(5));
    let configure = |server: Server| server.with_notifier(notifier(&manager)).drain_timeout(limit);
    let waiting = Waiting::start(configure).await;
    assert!(!waiting.running.end().await.is_clean());
    let asked = manager.values("EXTEND_TIMEOUT_USEC");
    let asked: Vec<_> = asked.iter().map(|usec| Duration::from_micros(usec.parse().unwrap())).collect();
    assert!(asked.len() > 2, "at the start and each second: {asked:?}");
    assert!(asked[0] > limit && asked[0] <= limit + margin, "{asked:?}");
    assert!(asked.is_sorted_by(|one, next| one > next), "less and less, as the limit stays: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_stats_are_reported_once_a_second() {
    let (manager, set) = (Manager::start(), tcp_set(&["http"]));
    let addr = addr_of(&set, "http");
    let (server, _gate) = server(&manager, set);
    let running = Running::start(server);
    manager.wait("it is ready", says("READY=1"));
    manager.heard(Vec::clear);
    let mut clients = Vec::new();
    let (connect, mut changes) = (|| Client::connect(&addr).unwrap(), 0);
    manager.wait("its stats, again and again", |manager| {
        changes += 1;
        clients.resize_with(changes % 7 + 1, connect);
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().text(), "hello"));
        manager.texts().len() >= 2
    });
    clients.resize_with(3, connect);
    manager.wait("its stats", |manager| manager.status() == "serving: 3 connections, 0 requests in flight");
    drop(clients);
    manager.wait("its stats", |manager| manager.status() == "serving: 0 connections, 0 requests in flight");
    let texts = manager.texts();
    assert!(texts.len() * 5 < changes, "{changes} changes: {texts:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_accepted_and_nothing_is_ready_before_the_service_is() {
    let (manager, set) = (Manager::start(), tcp_set(&["http"]));
    let addr = addr_of(&set, "http");
    let (server, _gate) = server(&manager, set);
    let (go, gone) = oneshot::channel::<()>();
    let server = server.ready_when(gone);
    let stats = server.stats();
    let running = Running::start(server);
    manager.wait("it starts", |manager| manager.status() == "starting: waiting until the service is ready");
    let mut early = Client::connect(&addr).unwrap();
    early.ask("/").unwrap();
    for _ in 0..1000 {
        yield_now().await;
    }
    assert!(stats.read().is_empty() && !says("READY=1")(&manager));
    go.send(()).unwrap();
    assert_eq!(early.answer().unwrap().text(), "hello", "it has waited in the queue");
    manager.wait("it is ready", says("READY=1"));
    drop(early);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_start_says_why_and_is_never_ready() {
    let manager = Manager::start();
    let (failing, _gate) = server(&manager, tcp_set(&["http"]));
    let failing = failing.ready_when(ready(Err::<(), _>(IoError::other("no database"))));
    let error = failing.without_signals().without_handoff_signals().run().await.unwrap_err();
    assert!(error.to_string().contains("the service cannot start: no database"), "{error}");

    let (slow, _gate) = server(&manager, tcp_set(&["http"]));
    let slow = slow.ready_when(pending::<Health>()).start_timeout(Duration::from_millis(1500));
    let error = slow.without_signals().without_handoff_signals().run().await.unwrap_err();
    assert!(error.to_string().contains("it is not ready after 1.5s"), "{error}");

    manager
        .wait("its last status", |manager| manager.status().starts_with("failed: the service cannot start: it is not"));
    assert!(!says("READY=1")(&manager) && !says("STOPPING=1")(&manager), "{:?}", manager.texts());
    let extended: Vec<u64> = manager.values("EXTEND_TIMEOUT_USEC").iter().map(|usec| usec.parse().unwrap()).collect();
    assert_eq!(extended.len(), 2, "at the start and after a second: {extended:?}");
    assert!(extended[0] > 1_000_000 && extended[0] <= 1_500_000 && extended[1] <= 500_000, "{extended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_it_starts_ends_it_at_once() {
    let manager = Manager::start();
    let (server, _gate) = server(&manager, tcp_set(&["http"]));
    let running = Running::start(server.ready_when(pending::<Health>()));
    manager.wait("it starts", |manager| manager.status().starts_with("starting"));
    let report = running.end().await;
    assert!(report.is_clean(), "{report}");
    manager.wait("it stops", says("STOPPING=1"));
    assert!(!says("READY=1")(&manager));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_before_it_starts_is_reported_too() {
    let manager = Manager::start();
    let error = Server::new(tcp_set(&["http"]))
        .with_notifier(notifier(&manager))
        .without_handoff_signals()
        .run()
        .await
        .unwrap_err();
    manager.wait("its last status", |manager| manager.status() == format!("failed: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_says_so_and_that_nothing_stops() {
    let manager = Manager::start();
    let (server, _gate) = server(&manager, tcp_set(&["http"]));
    let running = Running::start(server);
    manager.wait("it is ready", says("READY=1"));
    running.drop_it().await;
    manager.wait("its last status", |manager| manager.status() == "dropped, serves no more");
    assert!(!says("STOPPING=1")(&manager));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_at_half_its_time_as_long_as_the_service_is_well() {
    let (manager, set) = (Manager::start(), tcp_set(&["http"]));
    let (server, _gate) = server(&manager, set);
    let (is_well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let check = {
        let (is_well, asked) = (Arc::clone(&is_well), Arc::clone(&asked));
        move || {
            let (is_well, asked) = (Arc::clone(&is_well), Arc::clone(&asked));
            async move {
                asked.fetch_add(1, SeqCst);
                if is_well.load(SeqCst) { Ok(()) } else { Err("no database") }
            }
        }
    };
    let interval = Duration::from_millis(400);
    let server = server.with_notifier(notifier(&manager).with_watchdog(interval)).health_check(check);
    let running = Running::start(server);
    manager.wait("it is fed", |manager| manager.values("WATCHDOG").len() >= 6);
    // It is asked before each time, once it serves.
    assert!(asked.load(SeqCst) >= 4, "{:?}", manager.texts());

    is_well.store(false, SeqCst);
    manager.wait("its status says so", |manager| manager.status().ends_with("; not well: no database"));
    let before = (manager.values("WATCHDOG").len(), asked.load(SeqCst));
    manager.wait("it is asked more often", |_| asked.load(SeqCst) >= before.1 + 16);
    assert_eq!(manager.values("WATCHDOG").len(), before.0, "not fed");

    is_well.store(true, SeqCst);
    manager.wait("it is fed again", |manager| manager.values("WATCHDOG").len() > before.0 + 2);
    manager.wait("its status says so", |manager| !manager.status().contains("not well"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_does_not_answer_is_a_bad_answer() {
    let manager = Manager::start();
    let (server, _gate) = server(&manager, tcp_set(&["http"]));
    let server = server.with_notifier(notifier(&manager).with_watchdog(Duration::from_millis(400)));
    let running = Running::start(server.health_check(pending::<Health>));
    manager.wait("its status says so", |manager| manager.status().ends_with("; not well: no answer within 100ms"));
    // One may come before it is ready, and one comes with READY=1.
    assert!(manager.values("WATCHDOG").len() <= 2, "{:?}", manager.texts());
    running.end().await;
}

#[test]
fn a_runtime_that_is_stuck_feeds_no_watchdog() {
    let (manager, set) = (Manager::start(), tcp_set(&["http"]));
    let addr = addr_of(&set, "http");
    let interval = Duration::from_millis(200);
    let (stick, stuck) = std::sync::mpsc::channel::<()>();
    let stuck = Arc::new(std::sync::Mutex::new(Some(stuck)));
    let block = get(move || async move {
        let stuck = stuck.lock().unwrap().take().unwrap();
        // Holds the one thread of the runtime until the test lets go.
        let _ = stuck.recv();
        "free again"
    });
    let server = Server::new(set)
        .serve("http", Router::new().route("/block", block))
        .without_signals()
        .without_handoff_signals();
    let server = server.with_notifier(notifier(&manager).with_watchdog(interval));
    let drain = server.drain();
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.run())
    });
    manager.wait("it is fed", |manager| manager.values("WATCHDOG").len() >= 3);
    let mut client = Client::connect(&addr).unwrap();
    client.ask("/block").unwrap();
    let fed = |manager: &Manager| manager.values("WATCHDOG").len();
    // One whose runtime goes on is fed six times meanwhile.
    let well = Manager::start();
    let witness = drain_running::Running::start(Router::new(), |server| {
        server.with_notifier(notifier(&well).with_watchdog(interval))
    });
    let starved = |manager: &Manager| {
        let (before, more) = (fed(manager), fed(&well) + 6);
        well.wait("it is fed", |well| fed(well) >= more);
        fed(manager) == before
    };
    manager.wait("it is starved", starved);
    witness.end();
    let before = fed(&manager);
    drop(stick);
    assert_eq!(client.answer().unwrap().status, 200);
    manager.wait("it is fed again", |manager| fed(manager) > before + 1);
    drop(client);
    drain.start();
    serving.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_leaves_in_order_when_another_process_keeps_its_socket() {
    let manager = Manager::start();
    let socket = sockets::tcp();
    let set = ActivatedListeners::builder().socket("http", socket.try_clone().unwrap()).build().unwrap();
    let (server, gate) = server(&manager, set);
    let time = Duration::from_millis(200);
    let running = tokio::spawn(server.idle_exit(time).without_signals().without_handoff_signals().run());
    let mut client = Client::connect(&sockets::addr(&socket)).unwrap();
    client.ask("/wait").unwrap();
    gate.arrival().await;
    another_leaves(2 * time).await;
    assert!(!running.is_finished(), "a request waits");
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    another_leaves(2 * time).await;
    assert!(!running.is_finished(), "a connection without a request keeps it, too");

    drop(client);
    let report = timeout(LIMIT, running).await.expect("it leaves").unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
    manager.wait("it says so", says("STOPPING=1"));
    let _next = TcpStream::connect(socket.local_addr().unwrap()).expect("the socket still listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stays_when_no_other_process_has_its_socket() {
    let manager = Manager::start();
    let set = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
    let addr = addr_of(&set, "http");
    let (server, _gate) = server(&manager, set);
    let running = Running::start(server.idle_exit(Duration::from_millis(20)));
    manager.wait("it is ready", says("READY=1"));
    another_leaves(Duration::from_millis(200)).await;
    assert_eq!(fetch(&addr, "/").text(), "hello");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_accepted_as_an_idle_server_is_about_to_leave_keeps_it() {
    let manager = Manager::start();
    let socket = sockets::tcp();
    let set = ActivatedListeners::builder().socket("http", socket.try_clone().unwrap()).build().unwrap();
    let (accepted, may_serve) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let make = {
        let (accepted, may_serve) = (Arc::clone(&accepted), Arc::clone(&may_serve));
        service_fn(move |_: IncomingConnection| {
            let (accepted, may_serve) = (Arc::clone(&accepted), Arc::clone(&may_serve));
            async move {
                accepted.add_permits(1);
                may_serve.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Gate::new().app())
            }
        })
    };
    let time = Duration::from_millis(100);
    let server =
        Server::new(set).serve("http", make).with_notifier(notifier(&manager)).keep_alive_grace(Duration::ZERO);
    let running = tokio::spawn(server.idle_exit(time).without_signals().without_handoff_signals().run());
    let mut client = Client::connect(&sockets::addr(&socket)).unwrap();
    accepted.acquire().await.unwrap().forget();
    // It is accepted, and counted only when it has a service: until then the server has no connection.
    another_leaves(5 * time).await;
    assert!(!says("STOPPING=1")(&manager));
    may_serve.add_permits(1);
    let answer = client.get("/").unwrap();
    assert_eq!(answer.text(), "hello");
    assert!(!answer.headers.contains("\nconnection"), "{answer:?}");
    may_serve.add_permits(1);
    assert_eq!(Client::connect(&sockets::addr(&socket)).unwrap().get("/").unwrap().text(), "hello", "it accepts again");
    drop(client);
    let report = timeout(LIMIT, running).await.expect("it leaves").unwrap().unwrap();
    assert!(report.is_clean() && report.listeners[0].requests == 2, "{report}");
}

#[test]
fn no_client_is_lost_while_a_server_leaves_a_hundred_times_just_as_clients_come() {
    const EXITS: usize = 100;
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let has_left = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (present, mut all_gone) = mpsc::channel::<()>(1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..2_u64)
            .map(|client| {
                let (addr, has_left, present) = (&addr, &has_left, present.clone());
                scope.spawn(move || {
                    let _present = present;
                    let mut answered = 0_u64;
                    while !has_left.load(SeqCst) {
                        let answer = fetch(addr, "/");
                        assert_eq!(answer.text(), "hello", "request {answered} of client {client}");
                        assert!(!answer.says_close(), "who is served stays");
                        answered += 1;
                        // It leaves when no connection was there for 2 ms, or up to 3.
                        let pause = Duration::from_micros(1800 + (answered * 37 + client * 500) % 1400);
                        until(Instant::now() + pause);
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..EXITS {
            let set = ActivatedListeners::builder().socket("http", socket.try_clone().unwrap()).build().unwrap();
            let server = Server::new(set).serve("http", Gate::new().app()).keep_alive_grace(Duration::ZERO);
            let server = server.idle_exit(Duration::from_millis(2));
            assert!(runtime.block_on(server.without_signals().without_handoff_signals().run()).unwrap().is_clean());
        }
        has_left.store(true, SeqCst);
        // A client that came last waits for one more.
        let set = ActivatedListeners::builder().socket("http", socket.try_clone().unwrap()).build().unwrap();
        let last = Server::new(set).serve("http", Gate::new().app()).without_signals().without_handoff_signals();
        drop(present);
        let stop = async move { while all_gone.recv().await.is_some() {} };
        runtime.block_on(last.with_graceful_shutdown(stop).run()).unwrap();
        let answered: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(answered > 100, "{answered}");
    });
}

#[test]
fn the_manager_of_the_environment_is_notified_unless_one_call_turns_it_off() {
    for (subprocess, is_notified) in [("serve_with_notify", true), ("serve_without_notify", false)] {
        let manager = Manager::start();
        let subprocess = Subprocess::passed(subprocess, [("http", sockets::tcp().into())]);
        let subprocess = subprocess.variable("NOTIFY_SOCKET", manager.address()).variable("WATCHDOG_USEC", "200000");
        let mut child = subprocess.start();
        child.hear::<()>();
        if is_notified {
            manager.wait("it is ready and fed", |manager| says("READY=1")(manager) && says("WATCHDOG=1")(manager));
        }
        child.signal(Signal::TERM);
        child.finish();
        let lines = ["READY=1", "WATCHDOG=1", "STOPPING=1"];
        assert_eq!(lines.map(|line| says(line)(&manager)), [is_notified; 3], "{:?}", manager.texts());
    }
}

pub(crate) fn serve_with_notify(io: &ChildIo) {
    serve(io, |server| server);
}

pub(crate) fn serve_without_notify(io: &ChildIo) {
    serve(io, Server::without_notify);
}

#[tokio::main]
async fn serve(io: &ChildIo, configure: fn(Server) -> Server) {
    let set = ActivatedListeners::from_env().unwrap();
    let server = configure(Server::new(set).serve("http", Gate::new().app()));
    let (report, ()) = tokio::join! { biased; server.run(), async { io.say(()) } };
    report.unwrap();
}
