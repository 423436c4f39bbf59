//! The service: does with each request what the script says, and notes what it saw.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    convert::Infallible,
    future::Future,
    hash::{Hash, Hasher},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
    sync::Semaphore,
    task::yield_now,
};
use tokio_util::task::TaskTracker;

use super::{
    super::service::HttpService,
    script::{Answer, Reads, Script, Upgrade},
};

/// What `Filling` is given for the number of an answer's body.
pub(super) const ANSWERS: usize = 1000;

/// The service of one generation.
#[derive(Clone)]
pub(super) struct App {
    shared: Arc<Shared>,
    generation: usize,
}

struct Shared {
    script: Script,
    /// A request that waits takes one.
    ticks: Semaphore,
    log: Mutex<Log>,
    /// What goes on when the answer is given.
    tasks: TaskTracker,
}

/// What the service saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) calls: Vec<Call>,
    /// Paths that the client has not sent.
    pub(super) strangers: Vec<String>,
    /// What was read of the body of a request, and whether there were trailers.
    pub(super) read: Vec<(usize, Seen)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: usize,
    pub(super) generation: usize,
}

/// What was read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) len: usize,
    pub(super) hash: u64,
    pub(super) is_whole: bool,
    pub(super) trailers: bool,
}

/// A hash that says whether two bodies are the same.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl App {
    pub(super) fn new(script: Script) -> Self {
        let shared = Shared { script, ticks: Semaphore::new(0), log: Mutex::default(), tasks: TaskTracker::new() };
        Self { shared: Arc::new(shared), generation: 0 }
    }

    pub(super) fn of(&self, generation: usize) -> Self {
        Self { generation, ..self.clone() }
    }

    pub(super) fn tick(&self, times: usize) {
        self.shared.ticks.add_permits(times);
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().unwrap()
    }

    /// Waits for what went on after the answers.
    pub(super) async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn ticked(&self) {
        self.shared.ticks.acquire().await.unwrap().forget();
    }

    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let Some(number) = path.strip_prefix("/r/").and_then(|number| number.parse::<usize>().ok()) else {
            self.log().strangers.push(path);
            return Response::new(Body::empty());
        };
        self.log().calls.push(Call { number, generation: self.generation });
        let Some(plan) = self.shared.script.requests.get(number).cloned() else {
            return self.past_the_script(number, request);
        };
        if request.method().as_str() != plan.method() {
            self.log().strangers.push(format!("{} {path}", request.method()));
        }
        if plan.waits {
            self.ticked().await;
        }
        if plan.upgrade == Upgrade::WebSocket {
            // Refused, but a task still waits for it.
            tokio::spawn(hyper::upgrade::on(&mut request));
        }
        self.treat(number, plan.reads, request.into_body()).await;
        self.response(number, &plan.answer)
    }

    /// An accepted upgrade, or the request that is sent last of all.
    fn past_the_script(&self, number: usize, mut request: Request<Body>) -> Response<Body> {
        let response = Response::builder().header("x-number", number).header("x-generation", self.generation);
        if request.headers().contains_key("upgrade") {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    echo(TokioIo::new(upgraded)).await;
                }
            });
            let switching = response.status(StatusCode::SWITCHING_PROTOCOLS);
            return switching
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .body(Body::empty())
                .unwrap();
        }
        response.body(Body::empty()).unwrap()
    }

    async fn treat(&self, number: usize, reads: Reads, body: Body) {
        let this = self.clone();
        match reads {
            Reads::All => self.read(number, body, usize::MAX).await,
            Reads::Half => {
                let len = self.shared.script.requests[number].body.as_ref().map_or(0, |body| body.len);
                self.read(number, body, len / 2).await;
            }
            Reads::DropsAtOnce => drop(body),
            Reads::DropsElsewhere => drop(self.shared.tasks.spawn(async move {
                for _ in 0..number {
                    yield_now().await;
                }
                drop(body);
            })),
            Reads::Keeps => drop(self.shared.tasks.spawn(async move {
                this.ticked().await;
                drop(body);
            })),
            Reads::Later => drop(self.shared.tasks.spawn(async move {
                this.ticked().await;
                this.read(number, body, usize::MAX).await;
            })),
        }
    }

    /// Reads more than `enough`, if there is so much.
    async fn read(&self, number: usize, mut body: Body, enough: usize) {
        let (mut bytes, mut trailers, mut is_whole) = (Vec::new(), false, false);
        while bytes.len() <= enough {
            match body.frame().await {
                None => {
                    is_whole = true;
                    break;
                }
                Some(Ok(frame)) if frame.is_trailers() => trailers = true,
                Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().unwrap()),
                Some(Err(_)) => break,
            }
        }
        let seen = Seen { len: bytes.len(), hash: hash(&bytes), is_whole, trailers };
        self.log().read.push((number, seen));
    }

    fn response(&self, number: usize, answer: &Answer) -> Response<Body> {
        let response = Response::builder().header("x-number", number).header("x-generation", self.generation);
        let bytes = Bytes::from(expected_body(number, answer));
        let response = match answer {
            Answer::Fixed(_) => response.body(Body::from(bytes)),
            Answer::Closing(_) => response.header("connection", "close").body(Body::from(bytes)),
            Answer::NoContent => response.status(StatusCode::NO_CONTENT).body(Body::empty()),
            Answer::NotModified => response.status(StatusCode::NOT_MODIFIED).body(Body::empty()),
            Answer::Slow(sizes) => response.body(self.pieces(bytes, sizes, true)),
            Answer::Pieces(sizes) => response.body(self.pieces(bytes, sizes, false)),
        };
        response.unwrap()
    }

    fn pieces(&self, bytes: Bytes, sizes: &[usize], slowly: bool) -> Body {
        let state = (self.clone(), bytes, VecDeque::from(sizes.to_vec()));
        Body::new(StreamBody::new(stream::unfold(state, move |(app, mut bytes, mut sizes)| async move {
            if slowly {
                app.ticked().await;
            }
            let piece = bytes.split_to(sizes.pop_front()?);
            Some((Ok::<_, Infallible>(Frame::data(piece)), (app, bytes, sizes)))
        })))
    }
}

/// The body of the answer number `number`, as it is sent to a GET.
pub(super) fn expected_body(number: usize, answer: &Answer) -> Vec<u8> {
    let len = match answer {
        Answer::Fixed(len) | Answer::Closing(len) => *len,
        Answer::Slow(sizes) | Answer::Pieces(sizes) => sizes.iter().sum(),
        Answer::NoContent | Answer::NotModified => 0,
    };
    super::script::Filling::Noise.bytes(ANSWERS + number, len)
}

async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = split(stream);
    let _ = copy(&mut reader, &mut writer).await;
    let _ = writer.shutdown().await;
}

impl HttpService for App {
    type Body = Body;
    type Tower = Self;

    fn tower(&self) -> Self {
        self.clone()
    }
}

impl tower::Service<Request<Body>> for App {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}
