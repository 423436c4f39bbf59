//! A gRPC service whose messages are plain bytes, by tonic and without generated code.
//!
//! | method | what it answers |
//! | --- | --- |
//! | `Unary` | the message |
//! | `Client` | all messages in one |
//! | `Server` | as many messages as the request says, each of its length: those of the numbers after its own |
//! | `Both` | each message, as it comes |

use std::pin::Pin;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use bytes::{Buf, BufMut, Bytes};
use futures_util::{
    StreamExt,
    stream::{self, Stream},
};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::Grpc,
};
use tower::service_fn;

use super::{
    super::wait::some_turns,
    routes::{Witness, id_of, message},
};

/// Messages are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

pub(crate) fn routes(witness: &Witness) -> Router {
    Router::new()
        .route("/real.Echo/Unary", post(unary))
        .route("/real.Echo/Client", post(client))
        .route("/real.Echo/Server", post(server))
        .route("/real.Echo/Both", post(both))
        .with_state(witness.clone())
}

/// A request for `Server`: its number, how many messages, and their length.
pub(crate) fn request_for(id: u64, count: u64, length: u64) -> Bytes {
    [id.to_be_bytes(), count.to_be_bytes(), length.to_be_bytes()].concat().into()
}

async fn unary(State(witness): State<Witness>, request: Request) -> Response {
    let answer = service_fn(move |request: tonic::Request<Bytes>| {
        let witness = witness.clone();
        async move {
            let message = request.into_inner();
            witness.note(id_of(&message));
            some_turns().await;
            Ok::<_, Status>(tonic::Response::new(message))
        }
    });
    Grpc::new(Raw).unary(answer, request).await.map(Body::new)
}

async fn client(State(witness): State<Witness>, request: Request) -> Response {
    let answer = service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
        let witness = witness.clone();
        async move {
            let (mut messages, mut all) = (request.into_inner(), Vec::new());
            while let Some(message) = messages.message().await? {
                if all.is_empty() {
                    witness.note(id_of(&message));
                }
                all.extend_from_slice(&message);
            }
            Ok::<_, Status>(tonic::Response::new(Bytes::from(all)))
        }
    });
    Grpc::new(Raw).client_streaming(answer, request).await.map(Body::new)
}

async fn server(State(witness): State<Witness>, request: Request) -> Response {
    let answer = service_fn(move |request: tonic::Request<Bytes>| {
        let witness = witness.clone();
        async move {
            let mut asked = request.into_inner();
            let (id, count, length) = (asked.get_u64(), asked.get_u64(), asked.get_u64());
            witness.note(id);
            let length = usize::try_from(length).expect("it fits into memory");
            let messages = stream::iter((1..=count).map(move |more| Ok(message(id + more, length).into())));
            Ok::<_, Status>(tonic::Response::new(Box::pin(messages) as Messages))
        }
    });
    Grpc::new(Raw).server_streaming(answer, request).await.map(Body::new)
}

async fn both(State(witness): State<Witness>, request: Request) -> Response {
    let answer = service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
        let witness = witness.clone();
        async move {
            let mut is_first = true;
            let messages = request.into_inner().inspect(move |message| {
                if let (true, Ok(message)) = (std::mem::take(&mut is_first), message) {
                    witness.note(id_of(message));
                }
            });
            Ok::<_, Status>(tonic::Response::new(Box::pin(messages) as Messages))
        }
    });
    Grpc::new(Raw).streaming(answer, request).await.map(Body::new)
}
