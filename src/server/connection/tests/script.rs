//! What a client sends, what is answered, and what happens when: generated, and shrunk when it fails.

use proptest::{collection::vec, option, prelude::*};

/// One client, from its first byte to its last.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) transport: Transport,
    pub(super) requests: Vec<Request>,
    pub(super) tail: Tail,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Unix,
    /// A Unix socket with hardly any buffer, so that writing stops in the middle of things.
    Narrow,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) version: Version,
    /// Without a body alone.
    pub(super) head: bool,
    pub(super) body: Option<Upload>,
    pub(super) expects: Expects,
    pub(super) closes: bool,
    pub(super) upgrade: Upgrade,
    /// Empty lines before it, which a server ignores (RFC 9112, section 2.2).
    pub(super) empty_lines: usize,
    pub(super) reads: Reads,
    pub(super) answer: Answer,
    /// The handler waits for a tick before it answers.
    pub(super) waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http11,
    Http10,
    Http10KeepAlive,
}

#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) len: usize,
    pub(super) filling: Filling,
    /// The sizes of its chunks, over and over; a length otherwise.
    pub(super) chunks: Option<Vec<usize>>,
    pub(super) extensions: bool,
    pub(super) trailers: bool,
}

/// What a body is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filling {
    Noise,
    Requests,
    /// The end of a chunked body, and then requests.
    Chunks,
}

/// `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Nothing,
    /// And does not wait for it.
    Impatiently,
    /// And waits for it, or for the response.
    Patiently,
}

/// What the client asks for, and the service refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    None,
    H2c,
    WebSocket,
}

/// What the handler does with the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    All,
    Half,
    DropsAtOnce,
    /// Another task drops it a little later.
    DropsElsewhere,
    /// Another task keeps it until a tick.
    Keeps,
    /// Another task reads it all after a tick.
    Later,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Fixed(usize),
    /// Of no known length, a tick before each piece.
    Slow(Vec<usize>),
    /// Of no known length, at once.
    Pieces(Vec<usize>),
    NoContent,
    NotModified,
    /// With `Connection: close`.
    Closing(usize),
}

/// What comes after the requests.
#[derive(Clone, Debug)]
pub(super) enum Tail {
    /// The connection stays open if HTTP says so.
    Nothing,
    /// As nothing, but then the service stops, and one more request is on its way when the connection is about to be closed.
    Stop,
    HalfClose,
    /// What is no HTTP.
    Garbage,
    /// What a client of HTTP/2 begins with; or after one more handoff, when all is answered.
    Preface {
        patient: bool,
    },
    /// Half a head, and then the end.
    PartialHeaders,
    /// A WebSocket, accepted: what follows belongs to it.
    Upgrade {
        len: usize,
        filling: Filling,
        patient: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Write(usize),
    Read(usize),
    HandOver,
    /// Lets one of those go on who wait.
    Tick,
    Yield(u8),
    /// Lets everybody do what they can.
    Settle,
}

impl Request {
    /// An upload of one byte that is answered with nothing.
    pub(super) fn upload(reads: Reads) -> Self {
        let body = Upload { len: 1, filling: Filling::Noise, chunks: None, extensions: false, trailers: false };
        Self {
            version: Version::Http11,
            head: false,
            body: Some(body),
            expects: Expects::Nothing,
            closes: false,
            upgrade: Upgrade::None,
            empty_lines: 0,
            reads,
            answer: Answer::Fixed(0),
            waits: false,
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match (&self.body, self.head) {
            (Some(_), _) => "POST",
            (None, true) => "HEAD",
            (None, false) => "GET",
        }
    }

    /// What generation alone cannot see to.
    fn made_sound(mut self) -> Self {
        self.head &= self.body.is_none();
        if self.version != Version::Http11 {
            self.upgrade = Upgrade::None;
            self.expects = Expects::Nothing;
            if let Some(body) = &mut self.body {
                body.chunks = None;
            }
        }
        if self.body.is_none() {
            self.expects = Expects::Nothing;
        }
        if let (Some(body), Reads::Later) = (&mut self.body, self.reads) {
            // hyper keeps them back until the next request when the response was complete before them.
            body.trailers = false;
        }
        self
    }
}

impl Filling {
    /// The body number `number`.
    pub(super) fn bytes(self, number: usize, len: usize) -> Vec<u8> {
        let request = format!("GET /smuggled/{number} HTTP/1.1\r\nhost: x\r\n\r\n");
        let pattern = match self {
            Self::Noise => {
                let mut state = u32::try_from(number).unwrap() | 1;
                let noise = std::iter::repeat_with(move || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                });
                return noise.take(len).collect();
            }
            Self::Requests => request,
            Self::Chunks => format!("\r\n0\r\n\r\n{request}"),
        };
        pattern.into_bytes().into_iter().cycle().take(len).collect()
    }
}

pub(super) fn script(transports: &'static [Transport]) -> impl Strategy<Value = Script> {
    let requests = vec(request(), 1..6);
    (proptest::sample::select(transports), requests, tail(), steps()).prop_map(
        |(transport, mut requests, tail, steps)| {
            spare_hyper(&mut requests, &tail);
            Script { transport, requests, tail, steps }
        },
    )
}

/// hyper 1.12 loses what it has still to write when a body that was not read before the answer ends meanwhile, and then it closes after
/// an upgrade that was refused, as it would hand out the stream instead, or finds no request but something else.
fn spare_hyper(requests: &mut [Request], tail: &Tail) {
    let refused = requests.iter().position(|request| request.upgrade != Upgrade::None).unwrap_or(requests.len());
    let is_malformed = matches!(tail, Tail::Garbage | Tail::Preface { .. } | Tail::PartialHeaders);
    let first = refused.min(requests.len() - usize::from(is_malformed));
    requests[first..].iter_mut().for_each(|request| request.reads = Reads::All);
}

fn request() -> impl Strategy<Value = Request> {
    let version =
        prop_oneof![12 => Just(Version::Http11), 1 => Just(Version::Http10), 2 => Just(Version::Http10KeepAlive)];
    let expects =
        prop_oneof![3 => Just(Expects::Nothing), 1 => Just(Expects::Impatiently), 1 => Just(Expects::Patiently)];
    let upgrade = prop_oneof![8 => Just(Upgrade::None), 1 => Just(Upgrade::H2c), 1 => Just(Upgrade::WebSocket)];
    let rarely = |weight: f64| proptest::bool::weighted(weight);
    let empty_lines = prop_oneof![6 => Just(0_usize), 1 => 1..3_usize];
    (
        (version, rarely(0.1), option::of(upload()), expects, rarely(0.04)),
        (upgrade, empty_lines, reads(), answer(), rarely(0.3)),
    )
        .prop_map(|((version, head, body, expects, closes), (upgrade, empty_lines, reads, answer, waits))| {
            Request { version, head, body, expects, closes, upgrade, empty_lines, reads, answer, waits }.made_sound()
        })
}

fn upload() -> impl Strategy<Value = Upload> {
    let chunks = option::of(vec(prop_oneof![4 => 1..40_usize, 1 => 1..5000_usize], 1..4));
    (length(), filling(), chunks, any::<bool>(), any::<bool>())
        .prop_map(|(len, filling, chunks, extensions, trailers)| Upload { len, filling, chunks, extensions, trailers })
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..100_usize, 3 => 0..2000_usize, 1 => 0..60_000_usize]
}

fn filling() -> impl Strategy<Value = Filling> {
    prop_oneof![Just(Filling::Requests), Just(Filling::Chunks), Just(Filling::Noise)]
}

fn reads() -> impl Strategy<Value = Reads> {
    prop_oneof![
        6 => Just(Reads::All),
        1 => Just(Reads::Half),
        2 => Just(Reads::DropsAtOnce),
        2 => Just(Reads::DropsElsewhere),
        2 => Just(Reads::Keeps),
        2 => Just(Reads::Later),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let pieces = || vec(prop_oneof![4 => 1..50_usize, 1 => 1..20_000_usize], 0..4);
    prop_oneof![
        6 => length().prop_map(Answer::Fixed),
        2 => pieces().prop_map(Answer::Slow),
        2 => pieces().prop_map(Answer::Pieces),
        1 => Just(Answer::NoContent),
        1 => Just(Answer::NotModified),
        1 => length().prop_map(Answer::Closing),
    ]
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        6 => Just(Tail::Nothing),
        2 => Just(Tail::Stop),
        1 => Just(Tail::HalfClose),
        1 => Just(Tail::Garbage),
        1 => any::<bool>().prop_map(|patient| Tail::Preface { patient }),
        1 => Just(Tail::PartialHeaders),
        2 => (length(), filling(), any::<bool>())
            .prop_map(|(len, filling, patient)| Tail::Upgrade { len, filling, patient }),
    ]
}

/// Often with a handoff after the first few bytes, which may be those of either HTTP.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let first = option::weighted(0.2, 1..4_usize);
    (first, vec(step(), 0..40)).prop_map(|(first, steps)| {
        let first = first.map(|first| [Step::Write(first), Step::Settle, Step::HandOver]);
        first.into_iter().flatten().chain(steps).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop_oneof![2 => 1..8_usize, 4 => 1..200_usize, 2 => 1..70_000_usize];
    prop_oneof![
        6 => some().prop_map(Step::Write),
        2 => some().prop_map(Step::Read),
        3 => Just(Step::HandOver),
        3 => Just(Step::Tick),
        2 => (1..6_u8).prop_map(Step::Yield),
        4 => Just(Step::Settle),
    ]
}
