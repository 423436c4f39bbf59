//! What everybody has sees nothing of a drain: curl, wrk and Python's `http.client`, while one process takes over from
//! another again and again.
//!
//! Needs Debian's packages curl, wrk and python3.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
};

use crate::support::{
    generation::{Chronicle, Generation},
    needs,
    process::Process,
};

/// At least so many drains of a generation that has served the client.
const DRAINS: usize = 20;

/// A thread of its own for each connection, which sends again nothing.
const PYTHON: &str = r#"
import http.client, random, sys, threading

stopped = threading.Event()
lost, answered = [], [0] * 32

def ask(client):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    while not stopped.is_set():
        stopped.wait(random.random() / 10)
        body = f"{client} {answered[client]}".encode()
        try:
            connection.request("POST", "/1", body)
            response = connection.getresponse()
            if (response.status, response.read()) != (200, body):
                lost.append("the answer to something else")
            answered[client] += 1
        except Exception as error:
            lost.append(repr(error))
            connection.close()

clients = [threading.Thread(target=ask, args=(client,)) for client in range(len(answered))]
for client in clients: client.start()
sys.stdin.read()
stopped.set()
for client in clients: client.join()
print("answered:", sum(answered), "lost:", len(lost), *set(lost))
"#;

#[test]
fn curl_fetches_one_url_after_the_other_on_connections_that_it_keeps() {
    needs::program("curl", "curl");
    let drained = drain_around(|addr, enough| run_curls(&["--http1.1"; 4], addr, 100, enough));
    drained.assert_clean();
}

/// One URL a connection: curl 7.88 keeps a connection that it was asked to leave by the first step of a GOAWAY between two
/// requests, and then fails with exit code 16, having sent nothing.
#[test]
fn curl_fetches_a_url_over_http2() {
    needs::program("curl", "curl");
    let several = ["--http2-prior-knowledge"; 8];
    let drained = drain_around(|addr, enough| run_curls(&several, addr, 1, enough));
    drained.assert_clean();
}

#[test]
fn wrk_has_no_socket_errors() {
    needs::program("wrk", "wrk");
    let drained = drain_around(|addr, _| {
        let wrk = start("wrk", &["-t2", "-c64", "-d4s", &format!("http://{addr}/1")]);
        let summary = wrk.finish();
        println!("{summary}");
        assert!(summary.contains(" requests in "), "{summary}");
        assert!(!summary.contains("Socket errors") && !summary.contains("Non-2xx"), "{summary}");
    });
    // At its end wrk leaves in the middle of requests, which are errors to the server.
    assert!(drained.epitaphs.iter().all(|epitaph| epitaph.connections("aborted") == 0), "{drained:?}");
}

#[test]
fn a_python_loop_that_never_looks_at_its_connection_loses_nothing() {
    needs::program("python3", "python3");
    let drained = drain_around(|addr, enough| {
        let python = start("python3", &["-c", PYTHON, &addr.port().to_string()]);
        // Closed when there were enough drains.
        let _ = enough.recv();
        let summary = python.finish();
        println!("{summary}");
        assert!(summary.contains(" lost: 0"), "{summary}");
    });
    drained.assert_clean();
}

/// Runs curls side by side, each one after the other, until there were enough drains.
fn run_curls(side_by_side: &[&str], addr: SocketAddr, urls: usize, enough: &Receiver<()>) {
    while enough.try_recv() == Err(TryRecvError::Empty) {
        thread::scope(|scope| {
            side_by_side.iter().for_each(|protocol| drop(scope.spawn(move || run_curl(protocol, addr, urls))));
        });
    }
}

/// It tries again where a connection that it kept turns out to be closed, but says so.
fn run_curl(protocol: &str, addr: SocketAddr, urls: usize) {
    let expected: String = (1..=urls).map(|id| id.to_string()).collect();
    let url = format!("http://{addr}/[1-{urls}]");
    let output = Command::new("curl").args([protocol, "-sSv", "--fail", "--max-time", "60", &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    let complains = |line: &&str| ["reset", "retry", "died", "failure"].iter().any(|bad| line.contains(bad));
    let complaint = said.lines().find(complains);
    assert!(output.status.success() && complaint.is_none(), "{} {complaint:?}\n{said}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

/// Drains one generation after the other until `client` ends, whose channel is closed when there were enough.
fn drain_around(client: impl FnOnce(SocketAddr, &Receiver<()>) + Send) -> Chronicle {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let (enough, is_enough) = channel();
    let mut enough = Some(enough);
    let mut chronicle = Chronicle::default();
    let busy =
        |chronicle: &Chronicle| chronicle.epitaphs.iter().filter(|epitaph| !epitaph.processed.is_empty()).count();
    thread::scope(|scope| {
        let mut serving = Generation::start(&socket);
        let client = scope.spawn(move || client(addr, &is_enough));
        while !client.is_finished() {
            let next = Generation::start(&socket);
            chronicle.add(std::mem::replace(&mut serving, next).drain());
            if busy(&chronicle) == DRAINS {
                enough = None;
            }
        }
        drop(enough);
    });
    let requests = chronicle.times().values().sum::<u32>();
    println!("{} drains, {} of them busy, {requests} requests", chronicle.epitaphs.len(), busy(&chronicle));
    assert!(busy(&chronicle) >= DRAINS, "the client ended too soon");
    chronicle
}

/// Starts a program that runs until its input ends, or by itself.
fn start(program: &str, args: &[&str]) -> Process {
    let mut command = Command::new(program);
    Process::start(command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()))
}
