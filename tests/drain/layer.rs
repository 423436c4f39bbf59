//! What a service has that is served with plain `axum::serve`: `DrainLayer`, `stop_on`, `drive`, readiness.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, Response, StatusCode, Version, header},
    routing::get,
};
use axum_activation::{
    ActivatedListener, ActivatedListeners, Drain, DrainReport, ListenAddr, Server,
    layer::DrainLayer,
    readiness::{readiness, readiness_of},
};
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{advance, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{
    http::Client,
    wait::{LIMIT, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_sends_one_more_request_which_is_answered_as_the_last() {
    let served = Served::start(hello(), LIMIT);
    let mut client = served.connect();
    assert!(!client.get("/").unwrap().says_close());
    served.drain.start();
    let answer = client.get("/").unwrap();
    assert_eq!((answer.status, answer.text(), answer.says_close()), (200, "hello", true));
    client.assert_closed();
    let (served, report) = served.end().await;
    assert!(matches!(served, Some(Ok(()))) && report.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let served = Served::start(hello(), LIMIT);
    let mut client = served.connect();
    client.get("/").unwrap();
    served.drain.start();
    let (served, report) = served.end().await;
    client.assert_closed();
    assert!(served.is_some() && report.is_clean());
}

/// What `docs/guide/drain.md` says is weaker than under `Server`: should hyper learn to wait, this says so.
#[tokio::test(flavor = "multi_thread")]
async fn when_its_time_is_over_a_head_that_came_in_part_is_lost_unless_it_is_the_first() {
    let served = Served::start(hello(), LIMIT);
    let (mut used, mut fresh, mut unread) = (served.connect(), served.connect(), served.connect());
    used.get("/").unwrap();
    for client in [&mut used, &mut fresh] {
        client.send("GET / HTTP/1.1\r\n").unwrap();
    }
    eventually("all is read", || used.is_read() && fresh.is_read());
    served.drain.start();
    let Served { grace_ended, driving, .. } = served;
    grace_ended.send(()).unwrap();
    used.assert_closed();
    fresh.send("host: test\r\n\r\n").unwrap();
    assert!(fresh.answer().unwrap().says_close());
    unread.assert_closed();
    driving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_retry_lose_nothing() {
    for _ in 0..10 {
        let served = Served::start(hello(), LIMIT);
        let requests: &AtomicUsize = Box::leak(Box::default());
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let client = served.connect();
                thread::spawn(|| ask_until_the_last(client, requests))
            })
            .collect();
        eventually("the clients are at work", || requests.load(Ordering::Relaxed) >= 100);
        served.drain.start();
        for client in clients {
            client.join().unwrap().unwrap();
        }
        let (_, report) = served.end().await;
        assert!(report.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accept_queue_is_served_and_then_connects_are_refused() {
    let (listener, addr) = listen();
    // They wait in the queue when the server starts.
    let clients: Vec<_> = (0..8).map(|_| Client::connect(addr).unwrap()).collect();
    let drain = Drain::new();
    drain.start();
    let served = Served::on(listener, addr, drain.clone(), hello().layer(DrainLayer::new(&drain)), LIMIT);
    for mut client in clients {
        assert!(client.get("/").unwrap().says_close());
    }
    assert_eq!(Client::connect(served.addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(served.end().await.1.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_being_streamed_is_finished() {
    let (pieces, queue) = mpsc::channel(1);
    let served = Served::start(streaming(queue), LIMIT);
    let mut client = served.connect();
    client.ask("/").unwrap();
    client.headers().unwrap();
    pieces.send("one").await.unwrap();
    assert_eq!(client.chunk().unwrap().as_deref(), Some("one"));
    assert_eq!(served.layer.in_flight(), 1);

    served.drain.start();
    let ending = tokio::spawn(served.end());
    pieces.send("two").await.unwrap();
    assert_eq!(client.chunk().unwrap().as_deref(), Some("two"));
    assert!(!ending.is_finished());
    drop(pieces);
    assert_eq!(client.chunk().unwrap(), None);
    client.assert_closed();
    assert!(ending.await.unwrap().1.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_what_is_left_is_counted() {
    let (_pieces, queue) = mpsc::channel(1);
    let served = Served::start(streaming(queue), Duration::from_millis(20));
    let mut client = served.connect();
    client.ask("/").unwrap();
    client.headers().unwrap();
    served.drain.start();
    let (served, report) = served.end().await;
    assert!(served.is_none() && !report.is_clean());
    assert_eq!(report.stuck, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_in_flight_until_its_body_or_its_future_is_dropped() {
    let layer = DrainLayer::new(&Drain::new());
    let response = layer.layer(service_fn(answer)).oneshot(request(Version::HTTP_11)).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "fine");
    assert_eq!(layer.in_flight(), 0);

    let future = layer.layer(service_fn(answer)).call(request(Version::HTTP_11));
    assert_eq!(layer.in_flight(), 1);
    drop(future);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_too_late_is_refused_with_the_time_to_come_back() {
    let drain = Drain::new();
    let layer = DrainLayer::new(&drain).refuse_after(Duration::from_secs(5)).retry_after(Duration::from_millis(2500));
    let ask = || async { layer.layer(service_fn(answer)).oneshot(request(Version::HTTP_11)).await.unwrap() };
    advance(Duration::from_secs(9)).await;
    assert_eq!(ask().await.status(), 200);
    drain.start();
    advance(Duration::from_secs(4)).await;
    assert_eq!(ask().await.status(), 200);
    advance(Duration::from_secs(1)).await;
    let refused = ask().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&refused.headers()["retry-after"], &refused.headers()["connection"]),
        (&"3".parse().unwrap(), &"close".parse().unwrap())
    );
    assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_late_request_may_be_sent_away_for_any_time() {
    for (time, seconds) in [(Duration::ZERO, "0"), (Duration::MAX, "18446744073709551615")] {
        let drain = Drain::new();
        let layer = DrainLayer::new(&drain).refuse_after(Duration::ZERO).retry_after(time);
        drain.start();
        let refused = layer.layer(service_fn(answer)).oneshot(request(Version::HTTP_11)).await.unwrap();
        assert_eq!(refused.headers()["retry-after"], seconds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_http_1_responses_that_do_not_upgrade_say_close() {
    let drain = Drain::new();
    drain.start();
    let layer = DrainLayer::new(&drain);
    for (version, expected) in
        [(Version::HTTP_10, Some("close")), (Version::HTTP_11, Some("close")), (Version::HTTP_2, None)]
    {
        let response = layer.layer(service_fn(answer)).oneshot(request(version)).await.unwrap();
        assert_eq!(response.headers().get("connection").map(|value| value.to_str().unwrap()), expected, "{version:?}");
    }
    let upgrade = layer.layer(service_fn(switch)).oneshot(request(Version::HTTP_11)).await.unwrap();
    assert_eq!(upgrade.headers()["connection"], "upgrade");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_other_bodies_and_errors_keeps_them() {
    let service = service_fn(|request: Request<Full<&'static [u8]>>| async move {
        assert!(request.extensions().get::<Drain>().is_some());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if body.is_empty() { Err("nothing was asked") } else { Ok(Response::new(Full::new(body))) }
    });
    let service = DrainLayer::new(&Drain::new()).layer(service);
    let refused = service.clone().oneshot(Request::default()).await;
    assert_eq!(refused.unwrap_err(), "nothing was asked");
    let answer = service.oneshot(Request::new(Full::new(b"echo"))).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_turns_as_soon_as_draining_begins() {
    let drain = Drain::new();
    let app = Router::new().route("/ready", readiness()).layer(DrainLayer::new(&drain));
    let app = app.route("/outside", readiness_of(&drain));
    let served = Served::start_with(drain.clone(), app, LIMIT);
    for path in ["/ready", "/outside"] {
        let answer = served.connect().get(path).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ready\n"));
        assert!(
            answer.headers.contains("cache-control: no-store") && answer.headers.contains("content-type: text/plain")
        );
    }
    let mut clients: Vec<_> = ["/ready", "/outside"].map(|path| (path, served.connect(), served.connect())).into();
    drain.start();
    for (path, get, head) in &mut clients {
        let answer = get.get(path).unwrap();
        assert_eq!((answer.status, answer.text()), (503, "draining\n"));
        head.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        assert_eq!(head.headers().unwrap().0, 503);
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_tells_new_connections_that_it_is_not_ready() {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
    let addr = bound(activated.iter().next().expect("one socket").addr().expect("its address"));
    let server = Server::new(activated).serve("http", Router::new().route("/", readiness()));
    let server = server.without_signals().without_handoff_signals().lame_duck(LIMIT).drain_timeout(2 * LIMIT);
    let drain = server.drain();
    let running = tokio::spawn(server.run());
    assert_eq!(Client::connect(addr).unwrap().get("/").unwrap().status, 200);
    drain.start();
    let answer = Client::connect(addr).unwrap().get("/").unwrap();
    assert_eq!((answer.status, answer.says_close()), (503, true));
    drain.abort();
    assert_eq!(running.await.unwrap().unwrap().listeners[0].requests, 2);
}

/// An app behind a `DrainLayer` under plain `axum::serve`, on a socket of its own.
#[derive(Debug)]
struct Served {
    addr: SocketAddr,
    drain: Drain,
    layer: DrainLayer,
    /// Idle connections are closed when it is sent.
    grace_ended: oneshot::Sender<()>,
    driving: JoinHandle<(Option<io::Result<()>>, DrainReport)>,
}

impl Served {
    fn start(app: Router, limit: Duration) -> Self {
        let drain = Drain::new();
        Self::start_with(drain.clone(), app.layer(DrainLayer::new(&drain)), limit)
    }

    fn start_with(drain: Drain, app: Router, limit: Duration) -> Self {
        let (listener, addr) = listen();
        Self::on(listener, addr, drain, app, limit)
    }

    fn on(listener: ActivatedListener, addr: SocketAddr, drain: Drain, app: Router, limit: Duration) -> Self {
        let (grace_ended, over) = oneshot::channel();
        let over = async {
            let _ = over.await;
        };
        let serving = axum::serve(listener.stop_on(&drain), app).with_graceful_shutdown(over);
        let driving = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run_server(serving, limit).await }
        });
        Self { addr, layer: DrainLayer::new(&drain), drain, grace_ended, driving }
    }

    fn connect(&self) -> Client {
        Client::connect(self.addr).expect("it listens")
    }

    /// Closes what is idle and waits for the rest.
    async fn end(self) -> (Option<io::Result<()>>, DrainReport) {
        let _ = self.grace_ended.send(());
        timeout(LIMIT, self.driving).await.expect("it ends").expect("it does not panic")
    }
}

fn listen() -> (ActivatedListener, SocketAddr) {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().expect("a free port");
    let listener = activated.one("http").expect("it is there");
    let addr = bound(&listener.local_addrs()[0]);
    (listener, addr)
}

fn bound(addr: &ListenAddr) -> SocketAddr {
    match addr {
        ListenAddr::Tcp(addr) => *addr,
        other => panic!("{other} is no TCP address"),
    }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// Answers once, with what comes through the queue.
fn streaming(queue: mpsc::Receiver<&'static str>) -> Router {
    let body = Body::from_stream(stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|piece| (Ok::<_, Infallible>(piece), queue))
    }));
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let take = |State(body): State<std::sync::Arc<std::sync::Mutex<Option<Body>>>>| async move {
        body.lock().expect("no handler panics").take().expect("asked once")
    };
    Router::new().route("/", get(take)).with_state(body)
}

async fn answer(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new("fine".into()))
}

async fn switch(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(header::CONNECTION, "upgrade");
    Ok(response.body(Body::empty()).expect("a response"))
}

fn request(version: Version) -> Request<Body> {
    Request::builder().version(version).body(Body::empty()).expect("a request")
}

/// Asks again and again until an answer says that it is the last one, and then waits for the end.
fn ask_until_the_last(mut client: Client, requests: &AtomicUsize) -> io::Result<()> {
    while !client.get("/")?.says_close() {
        requests.fetch_add(1, Ordering::Relaxed);
    }
    match client.rest()? {
        rest if rest.is_empty() => Ok(()),
        rest => Err(io::Error::other(format!("the server sent more: {rest:?}"))),
    }
}
