//! h2load, of Debian's package nghttp2-client. It never sends a request twice, and compares no body: the service compares what is
//! posted, and here the bytes of all answers are counted.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    super::{needs, place::Place},
    calls::{Calls, Load},
    routes::{LARGE, POSTED, message},
};

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Get,
    Post,
    GetLarge,
}

/// One run after the other, until it is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct H2load {
    pub(crate) asks: Asks,
    pub(crate) connections: usize,
    /// Requests that a connection has open at once.
    pub(crate) streams: usize,
    /// The windows of the client, of a stream and of a connection, have 2 to that bytes, less one: 16 or 30.
    pub(crate) window_bits: u8,
    /// Requests of a run.
    pub(crate) requests: usize,
}

impl H2load {
    pub(crate) fn start(self, place: &Place, addr: SocketAddr) -> Load {
        needs::program("h2load", "nghttp2-client");
        needs::program("setpriv", "util-linux");
        let Self { asks, connections, streams, window_bits, .. } = self;
        let name = format!("h2load {asks:?}, {connections} x {streams} streams, windows of 2^{window_bits}");
        Load::start(name, place, 1, move |_, calls| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            while !calls.is_stopped() {
                self.run(addr, &folder, calls);
            }
        })
    }

    fn run(self, addr: SocketAddr, folder: &TempDir, calls: &Calls) {
        let Self { asks, connections, streams, window_bits, requests } = self;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "h2load"]).stdin(Stdio::null());
        let numbers = [("-n", requests), ("-c", connections), ("-m", streams), ("-t", 1)];
        command.args(numbers.iter().flat_map(|(option, number)| [(*option).to_owned(), number.to_string()]));
        command.args(["-w", &window_bits.to_string(), "-W", &window_bits.to_string()]);
        if asks == Asks::Post {
            let body = folder.path().join("body");
            fs::write(&body, message(0, POSTED)).expect("it is our folder");
            command.arg("-d").arg(body);
        }
        command.arg(format!("http://{addr}/real/{}", asks.path()));
        (0..connections).for_each(|_| calls.note_opened());
        let output = command.output().expect("h2load runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answered = number_before(&text, " 2xx").min(number_before(&text, " succeeded"));
        calls.note_answered(answered);
        let lost = requests as u64 - answered;
        if lost > 0 {
            calls.note_lost(format!("{lost} of {requests}: {text}"));
        } else if answered_bytes(&text) != (requests * asks.length()) as u64 {
            calls.note_lost(format!("not so many bytes as all answers have: {text}"));
        }
    }
}

impl Asks {
    fn path(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "posted",
            Self::GetLarge => "large",
        }
    }

    /// Bytes of an answer.
    fn length(self) -> usize {
        match self {
            Self::Get => "hello".len(),
            Self::Post => POSTED,
            Self::GetLarge => LARGE,
        }
    }
}

/// The number that stands before those words.
fn number_before(text: &str, words: &str) -> u64 {
    let number = text.find(words).and_then(|end| text[..end].rsplit(|next: char| !next.is_ascii_digit()).next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The bytes of all DATA frames: `traffic: 1.43MB (1500000) total, .., 1.00MB (1050000) data`.
fn answered_bytes(text: &str) -> u64 {
    let traffic = text.lines().find(|line| line.starts_with("traffic: ")).unwrap_or_default();
    let data = traffic.rsplit('(').next().and_then(|data| data.split(')').next());
    data.and_then(|data| data.parse().ok()).unwrap_or(0)
}
