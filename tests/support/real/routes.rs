//! What the service of the tests answers to such clients.
//!
//! Each answer differs from every other one: it begins with the number of the call, and what follows depends on that.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    process,
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path as UrlPath, State},
    http::StatusCode,
    routing::{get, post},
};

use super::{super::wait::some_turns, events, grpc, websocket};

/// What h2load posts, as every request of it has the same body.
pub(crate) const POSTED: usize = 15_000;
/// What h2load gets at once, in the load of large answers.
pub(crate) const LARGE: usize = 300_000;

/// Notes every call that comes to a handler, whatever becomes of its process: its number and the process id, two little-endian
/// u64, at the end of a file that all processes append to.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<File>);

impl Witness {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file for what is processed");
        Self(Arc::new(file))
    }

    pub(crate) fn note(&self, id: u64) {
        let entry = [id.to_le_bytes(), u64::from(process::id()).to_le_bytes()].concat();
        (&*self.0).write_all(&entry).expect("a file takes a few bytes");
    }
}

pub(crate) fn routes(witness: &Witness) -> Router {
    Router::new()
        .route("/real/get", get("hello"))
        .route("/real/posted", post(posted))
        .route("/real/large", get(async || message(0, LARGE)))
        .route("/real/exchange/{id}/{answer}", post(exchange))
        .layer(DefaultBodyLimit::disable())
        .with_state(witness.clone())
        .merge(grpc::routes(witness))
        .merge(websocket::routes(witness))
        .merge(events::routes())
}

/// The bytes that belong to that number: the number, big-endian, and a sequence that begins elsewhere for each number.
pub(crate) fn message(id: u64, length: usize) -> Vec<u8> {
    const PERIOD: [u8; 251] = period();
    let begin = usize::try_from(id % 251).expect("less than 251");
    let sequence = PERIOD.repeat(length / 251 + 2);
    let mut message = [&id.to_be_bytes(), &sequence[begin..begin + length]].concat();
    message.truncate(length);
    message
}

const fn period() -> [u8; 251] {
    let (mut period, mut at) = ([0; 251], 0);
    while at < 251 {
        period[at as usize] = at;
        at += 1;
    }
    period
}

/// The number that a message begins with.
pub(crate) fn id_of(message: &[u8]) -> u64 {
    message.first_chunk().map_or(0, |id| u64::from_be_bytes(*id))
}

/// Echoes what h2load posts, and nothing else.
async fn posted(body: Bytes) -> Result<Bytes, StatusCode> {
    some_turns().await;
    if body == message(0, POSTED) { Ok(body) } else { Err(StatusCode::BAD_REQUEST) }
}

/// Takes the message of that number, of any length, and answers with one of the next number.
async fn exchange(
    State(witness): State<Witness>,
    UrlPath((id, answer)): UrlPath<(u64, usize)>,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    witness.note(id);
    some_turns().await;
    if body == message(id, body.len()) { Ok(message(id + 1, answer)) } else { Err(StatusCode::BAD_REQUEST) }
}
