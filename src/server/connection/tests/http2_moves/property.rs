//! Whatever a client does and whenever its connection moves: it gets what it gets on one that never moves.
//!
//! `HTTP2_MOVES=20000 cargo test --lib http2_moves::property` tries as many cases; `PROPTEST_RNG_SEED` has others.

use std::{
    cell::Cell,
    env,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use axum::http::{Request, Response};
use bytes::Bytes;
use h2::{
    RecvStream,
    client::{self, SendRequest},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::{
    runtime::Builder,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    handler::{MARK, filling},
    lines::Route,
    transport::{Changed, Changes},
};
use crate::server::limits::Http2Options;

const HANGS: &str = "it hangs";

/// A client, its server, and when the connection moves.
#[derive(Clone, Debug)]
struct Case {
    window: u32,
    connection_window: u32,
    table: Option<u32>,
    frame: u32,
    server: Option<(u32, u32)>,
    requests: Vec<Ask>,
    window_changes: Vec<(u64, u32)>,
    moves: Vec<u64>,
    changes: Changes,
}

/// A request, and when it is sent.
#[derive(Clone, Debug)]
struct Ask {
    at: u64,
    what: What,
    header: usize,
    cancelled_after: Option<u64>,
    /// What it reads of the answer stays in the windows until then.
    releases_after: u64,
}

#[derive(Clone, Debug)]
enum What {
    Get(usize),
    Trailers(usize),
    Slow(u64),
    Headers,
    Echo(Vec<usize>),
    Length(Vec<usize>),
    Early(Vec<usize>),
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

#[test]
fn a_client_sees_nothing_of_moves() {
    let cases = env::var("HTTP2_MOVES").map_or(200, |cases| cases.parse().expect("HTTP2_MOVES is a number"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let moves = Cell::new(0);
    let result = TestRunner::new(config).run(&case(), |case| {
        let still = match play(&case, &[]) {
            Ok((still, _)) => still,
            // Its stream is cut and paused so often that the client would get GOAWAY.
            Err(problem) if problem == HANGS => return Err(TestCaseError::reject(problem)),
            Err(problem) => return Err(TestCaseError::fail(format!("without moves: {problem}"))),
        };
        let (moved, count) = match play(&case, &case.moves) {
            Err(problem) if problem == HANGS && case.hangs_by_itself() => return Err(TestCaseError::reject(problem)),
            played => played.map_err(TestCaseError::fail)?,
        };
        moves.set(moves.get() + count);
        for (number, (still, moved)) in still.iter().zip(&moved).enumerate() {
            if let (Some(still), Some(moved)) = (still, moved) {
                prop_assert!(still == moved, "request {number}: {still:?} and {moved:?}");
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{cases} cases, {} moves", moves.get());
    assert!(moves.get() > cases as usize, "they have hardly moved: {}", moves.get());
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = prop_oneof![Just(65_535_u32), Just(1 << 20), 1_u32..100_000];
    let connection = prop_oneof![Just(65_535_u32), Just(1 << 20), 65_535_u32..200_000];
    let table = option::of(prop_oneof![Just(0_u32), Just(4096), Just(1 << 16), 0_u32..5000]);
    let frame = prop_oneof![Just(16_384_u32), 16_384_u32..100_000];
    let server = option::weighted(
        0.9,
        prop_oneof![
            Just((1 << 20, 1 << 20)),
            Just((30_000, 30_000)),
            Just((65_535, 65_535)),
            Just((90_000, 90_000)),
            (1_u32..200_000, 1_u32..200_000),
        ],
    );
    let client = (sizes, connection, table, frame, server);
    let scripts = (vec(ask(), 1..12), vec((0_u64..100, 1_u32..100_000), 0..3), vec(0_u64..160, 1..8));
    (client, scripts, changes()).prop_map(|(client, scripts, changes)| {
        let (window, connection_window, table, frame, server) = client;
        let (requests, window_changes, mut moves) = scripts;
        moves.sort_unstable();
        Case { window, connection_window, table, frame, server, requests, window_changes, moves, changes }
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let size = || prop_oneof![3 => 0_usize..2000, 1 => 0_usize..200_000];
    let chunks = || vec(prop_oneof![3 => 0_usize..2000, 1 => 0_usize..70_000], 0..4);
    let what = prop_oneof![
        3 => size().prop_map(What::Get),
        2 => size().prop_map(What::Trailers),
        1 => (0_u64..60).prop_map(What::Slow),
        2 => Just(What::Headers),
        3 => chunks().prop_map(What::Echo),
        2 => chunks().prop_map(What::Length),
        1 => chunks().prop_map(What::Early),
    ];
    let header = prop_oneof![4 => 0_usize..60, 1 => 0_usize..5000];
    let releases = prop_oneof![2 => Just(0), 1 => 0_u64..200];
    (0_u64..120, what, header, option::weighted(0.15, 0_u64..30), releases).prop_map(
        |(at, what, header, cancelled_after, releases_after)| Ask { at, what, header, cancelled_after, releases_after },
    )
}

fn changes() -> impl Strategy<Value = Changes> {
    let slice = prop_oneof![2 => Just(1 << 20), 1 => 200_usize..5000, 1 => 5000_usize..40_000];
    let pause = option::weighted(0.3, (1_u32..8, 1_u64..9));
    let split = option::weighted(0.3, 0_usize..100);
    let pads = || option::weighted(0.3, any::<u8>());
    (slice, pause, split, pads(), pads(), any::<bool>()).prop_map(
        |(slice, pause, split, pads_headers, pads_data, junk)| Changes {
            slice,
            pause,
            split,
            pads_headers,
            pads_data,
            junk,
        },
    )
}

impl Case {
    /// Whether the client waits for ever also without moves, if its requests come a little later.
    ///
    /// h2 0.4 says nothing to a server whose window has become negative as the client made its windows smaller
    /// (RFC 9113, section 6.9.2), though it has room again: what it released before was too little to say so. It depends
    /// on when an answer comes, and so on moves.
    fn hangs_by_itself(&self) -> bool {
        let later = |time| {
            let requests = self.requests.iter().cloned().map(|ask| Ask { at: ask.at + time, ..ask }).collect();
            Self { requests, ..self.clone() }
        };
        let waits = |case: Self| play(&case, &[]).is_err_and(|problem| problem == HANGS);
        !self.window_changes.is_empty() && (1..40).map(later).any(waits)
    }

    /// Padding of DATA takes windows that the client does not know of, so that only short bodies have it.
    fn changes(&self) -> Changes {
        let bodies: usize = self.requests.iter().map(|ask| ask.what.body().len()).sum();
        // The client may send before it has heard of a greater window.
        let window = self.server.map_or(65_535, |(stream, window)| stream.min(window).min(65_535));
        let has_room = bodies + self.requests.len() * 4 * 256 < window as usize / 2;
        Changes { pads_data: self.changes.pads_data.filter(|_| has_room), ..self.changes }
    }
}

impl What {
    fn body(&self) -> Vec<u8> {
        self.chunks().concat()
    }

    fn chunks(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Echo(sizes) | Self::Length(sizes) | Self::Early(sizes) => {
                sizes.iter().map(|size| filling(*size)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Get(size) => format!("/size/{size}"),
            Self::Trailers(size) => format!("/trailers/{size}"),
            Self::Slow(millis) => format!("/slow/{millis}"),
            Self::Headers => "/headers".into(),
            Self::Echo(_) => "/echo".into(),
            Self::Length(_) => "/length".into(),
            Self::Early(_) => "/early".into(),
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Echo(_) | Self::Length(_) | Self::Early(_) => "POST",
            _ => "GET",
        }
    }
}

/// What the requests are answered with, `None` for one that was cancelled; and how often the connection has moved.
fn play(case: &Case, moves: &[u64]) -> Result<(Vec<Option<Answer>>, usize), String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // With moves it may take longer, as requests are held. Half of the drain's limit is 15 s.
        let limit = Duration::from_secs(if moves.is_empty() { 5 } else { 14 });
        timeout(limit, run(case, moves)).await.unwrap_or_else(|_| Err(HANGS.into()))
    })
}

async fn run(case: &Case, moves: &[u64]) -> Result<(Vec<Option<Answer>>, usize), String> {
    let options = match case.server {
        Some((stream, window)) => Http2Options::new().initial_stream_window(stream).initial_connection_window(window),
        None => Http2Options::new().adaptive_window(),
    };
    let route = Route::new(options);
    let mut builder = client::Builder::new();
    builder.initial_window_size(case.window).initial_connection_window_size(case.connection_window);
    builder.max_frame_size(case.frame);
    case.table.into_iter().for_each(|table| _ = builder.header_table_size(table));
    let stream = Changed::new(route.connect(), case.changes());
    let (client, mut connection) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| error.to_string())?;
    let (windows, mut wanted) = mpsc::unbounded_channel();
    let driven = tokio::spawn(async move {
        poll_fn(|cx| {
            while let Poll::Ready(Some(window)) = wanted.poll_recv(cx) {
                let _ = connection.set_initial_window_size(window);
            }
            Pin::new(&mut connection).poll(cx)
        })
        .await
    });
    let mut tasks = JoinSet::new();
    for &(at, window) in &case.window_changes {
        let windows = windows.clone();
        tasks.spawn(async move {
            sleep(Duration::from_millis(at)).await;
            let _ = windows.send(window);
            (usize::MAX, Ok(None))
        });
    }
    for &at in moves {
        let route = route.clone();
        tasks.spawn(async move {
            sleep(Duration::from_millis(at)).await;
            route.hand_over();
            (usize::MAX, Ok(None))
        });
    }
    for (number, ask) in case.requests.iter().cloned().enumerate() {
        let client = client.clone();
        tasks.spawn(async move { (number, ask_once(client, ask).await) });
    }
    let mut answers = vec![None; case.requests.len()];
    while let Some(ended) = tasks.join_next().await {
        let (number, answer) = ended.map_err(|error| error.to_string())?;
        let answer = answer.map_err(|error| format!("request {number}: {error}, after {} moves", route.moves()))?;
        if number < answers.len() {
            answers[number] = answer;
        }
    }
    if !moves.is_empty() {
        let before = route.moves();
        route.hand_over();
        route.until(|route| route.moves() > before).await;
    }
    let last = Ask { at: 0, what: What::Headers, header: 3, cancelled_after: None, releases_after: 0 };
    let last = ask_once(client, last).await.map_err(|error| format!("the last request: {error}"))?;
    let last = last.ok_or("the last request was cancelled")?;
    if last.body != b"x-some: xxx\n" {
        return Err(format!("the last answer: {last:?}"));
    }
    driven.abort();
    Ok((answers, route.moves()))
}

async fn ask_once(client: SendRequest<Bytes>, ask: Ask) -> Result<Option<Answer>, h2::Error> {
    sleep(Duration::from_millis(ask.at)).await;
    let Some(after) = ask.cancelled_after else { return answer(client, ask).await.map(Some) };
    match timeout(Duration::from_millis(after), answer(client, ask)).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Ok(None),
    }
}

async fn answer(client: SendRequest<Bytes>, ask: Ask) -> Result<Answer, h2::Error> {
    let mut client = client.ready().await?;
    let request = Request::builder().method(ask.what.method()).uri(format!("http://x{}", ask.what.path()));
    let request = request.header(MARK, format!("{} {}", ask.at, ask.header));
    let request = request.header("x-some", "x".repeat(ask.header)).body(()).unwrap();
    let chunks = ask.what.chunks();
    let (response, mut sender) = client.send_request(request, chunks.is_empty())?;
    let is_early = matches!(ask.what, What::Early(_));
    let send = async {
        let count = chunks.len();
        for (number, chunk) in chunks.into_iter().enumerate() {
            let mut left = Bytes::from(chunk);
            loop {
                sender.reserve_capacity(left.len());
                let room =
                    if left.is_empty() { 0 } else { poll_fn(|cx| sender.poll_capacity(cx)).await.unwrap_or(Ok(0))? };
                if room == 0 && !left.is_empty() {
                    return Ok(());
                }
                let part = left.split_to(left.len().min(room));
                sender.send_data(part, number + 1 == count && left.is_empty())?;
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok::<_, h2::Error>(())
    };
    // The answer may be complete before the request is, and then the server resets the stream.
    let send = async { send.await.or_else(|error| if is_early && error.is_reset() { Ok(()) } else { Err(error) }) };
    let receive = async { received(response.await?, Duration::from_millis(ask.releases_after)).await };
    if is_early {
        // What is still to be sent is of no interest when the answer is there.
        tokio::select! {
            biased;
            answer = receive => answer,
            Err(error) = send => Err(error),
        }
    } else {
        tokio::try_join!(send, receive).map(|((), answer)| answer)
    }
}

/// Receives an answer, and lets the server send as much again after that time.
async fn received(response: Response<RecvStream>, releases_after: Duration) -> Result<Answer, h2::Error> {
    let status = response.status().as_u16();
    let headers = pairs(response.headers());
    let (mut stream, mut body) = (response.into_body(), Vec::new());
    let (release_at, mut unreleased) = (Instant::now() + releases_after, 0);
    loop {
        tokio::select! {
            biased;
            () = sleep_until(release_at), if unreleased > 0 => {
                stream.flow_control().release_capacity(std::mem::take(&mut unreleased))?;
            }
            chunk = stream.data() => {
                let Some(chunk) = chunk else { break };
                let chunk = chunk?;
                unreleased += chunk.len();
                body.extend_from_slice(&chunk);
            }
        }
    }
    let trailers = stream.trailers().await?.map(|trailers| pairs(&trailers)).unwrap_or_default();
    if unreleased > 0 {
        // The window of the connection is as small until the stream is dropped.
        sleep_until(release_at).await;
    }
    Ok(Answer { status, headers, body, trailers })
}

fn pairs(headers: &axum::http::HeaderMap) -> Vec<(String, String)> {
    let pairs = headers.iter().filter(|(name, _)| *name != "date");
    pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}
