//! What the requests are answered with.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::{any, get, post},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Bytes;
use tokio::{sync::Semaphore, time::sleep};

use super::super::super::service::HttpService;

/// A header that comes back, and in the trailers once more.
pub(super) const MARK: &str = "mark";

/// A router, and what its handlers wait for.
#[derive(Clone)]
pub(super) struct Handler {
    router: Router,
    pub(super) waits: Arc<Semaphore>,
}

impl Handler {
    pub(super) fn new() -> Self {
        let waits = Arc::new(Semaphore::new(0));
        let router = Router::new()
            .route("/", any(async || "hello"))
            .route("/size/{size}", get(async |Path(size): Path<usize>| Bytes::from(filling(size))))
            .route("/echo", post(async |request: Request<Body>| Response::new(request.into_body())))
            .route("/length", post(length))
            .route("/early", post(async || "early"))
            .route("/slow/{millis}", any(slow))
            .route("/kept", post(kept))
            .route("/wait", any(wait))
            .route("/headers", any(headers))
            .route("/trailers/{size}", any(trailers))
            .layer(from_fn(mark))
            .with_state(Arc::clone(&waits));
        Self { router, waits }
    }

    /// So many requests that wait go on.
    pub(super) fn go_on(&self, requests: usize) {
        self.waits.add_permits(requests);
    }
}

impl HttpService for Handler {
    type Body = Body;
    type Tower = Router;

    fn tower(&self) -> Router {
        self.router.clone()
    }
}

/// Bytes that differ at each place.
pub(super) fn filling(size: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_be_bytes).take(size).collect()
}

/// Answers with the mark of the request, which the library puts into the table of its header compression.
async fn mark(request: Request<Body>, next: Next) -> Response {
    let mark = request.headers().get(MARK).cloned();
    let mut response = next.run(request).await;
    response.headers_mut().extend(mark.map(|mark| (HeaderName::from_static(MARK), mark)));
    response
}

async fn length(request: Request<Body>) -> String {
    request.into_body().collect().await.map_or_else(|_| "broken".into(), |body| body.to_bytes().len().to_string())
}

async fn slow(Path(millis): Path<u64>) -> String {
    sleep(Duration::from_millis(millis)).await;
    format!("{millis}")
}

/// Answers, and reads the body elsewhere when it may go on.
async fn kept(State(waits): State<Arc<Semaphore>>, request: Request<Body>) -> &'static str {
    tokio::spawn(async move {
        let body = request.into_body();
        waits.acquire().await.unwrap().forget();
        drop(body);
    });
    "kept"
}

async fn wait(State(waits): State<Arc<Semaphore>>, request: Request<Body>) -> &'static str {
    waits.acquire().await.unwrap().forget();
    let _ = request.into_body().collect().await;
    "waited"
}

/// Those that the client has made up.
async fn headers(headers: HeaderMap) -> String {
    let own = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-"));
    own.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
}

async fn trailers(Path(size): Path<usize>, headers: HeaderMap) -> Response {
    let mut trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), size.to_string().parse().unwrap())]);
    let mark = headers.get(MARK).map(|mark| format!("end of {}", mark.to_str().unwrap()).parse().unwrap());
    trailers.extend(mark.map(|mark| (HeaderName::from_static(MARK), mark)));
    let frames = [Frame::data(Bytes::from(filling(size))), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, std::convert::Infallible>);
    Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
}
