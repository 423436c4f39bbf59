//! Clients in other languages, each a program of its own: it calls until its standard input ends, and says in lines what becomes of the calls.
//!
//! | line | says |
//! | --- | --- |
//! | `opened` | a connection was opened |
//! | `answered COUNT` | so many more calls have the right answer |
//! | `lost REASON` | a call has none |

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::{
    super::{needs, place::Place},
    calls::{Calls, Load},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/real");
/// Debian's packages of Go libraries.
const GO_PATH: &str = "/usr/share/gocode";

/// gRPC by C core. `first` is the number of its first call.
pub(crate) fn grpcio(place: &Place, addr: SocketAddr, first: u64) -> Load {
    // Debian's package is for Debian's own Python.
    let mut has = Command::new("/usr/bin/python3");
    let has = has.args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    assert!(has.is_ok_and(|status| status.success()), "this test needs python3-grpcio: apt-get install python3-grpcio");
    start("grpcio", place, addr, first, &["/usr/bin/python3".into(), Path::new(FOLDER).join("client.py")])
}

/// HTTP/2 by Node.
pub(crate) fn node(place: &Place, addr: SocketAddr, first: u64) -> Load {
    needs::program("node", "nodejs");
    start("Node", place, addr, first, &["node".into(), Path::new(FOLDER).join("client.mjs")])
}

/// HTTP/2 by Go 1.19's own net/http, which acknowledges a `SETTINGS_HEADER_TABLE_SIZE` and goes on as before.
pub(crate) fn go(place: &Place, addr: SocketAddr, first: u64) -> Load {
    start("Go", place, addr, first, &[go_program(), "net/http".into()])
}

/// HTTP/2 by golang.org/x/net, which does as it is asked.
pub(crate) fn go_x_net(place: &Place, addr: SocketAddr, first: u64) -> Load {
    start("Go with x/net", place, addr, first, &[go_program(), "x/net".into()])
}

fn start(name: &str, place: &Place, addr: SocketAddr, first: u64, command: &[PathBuf]) -> Load {
    needs::program("setpriv", "util-linux");
    let command = command.to_vec();
    Load::start(name, place, 1, move |_, calls| {
        let mut program = Command::new("setpriv");
        program.args(["--pdeathsig", "KILL"]).args(&command).args([addr.to_string(), first.to_string()]);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let input = child.stdin.take();
        calls.at_stop(move || drop(input));
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.lines().map_while(Result::ok).for_each(|line| note(calls, &line));
        let status = child.wait().expect("it is our child");
        if !(status.success() && calls.is_stopped()) {
            calls.note_lost(format!("the client itself has ended: {status}"));
        }
    })
}

fn note(calls: &Calls, line: &str) {
    match line.split_once(' ') {
        None if line == "opened" => calls.note_opened(),
        Some(("answered", count)) => calls.note_answered(count.parse().expect("a number")),
        Some(("lost", reason)) => calls.note_lost(reason),
        _ => panic!("unexpected line: {line}"),
    }
}

/// Builds the client in Go, once for this process.
fn go_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        needs::program("go", "golang-go");
        let x_net = Path::new(GO_PATH).join("src/golang.org/x/net/http2");
        assert!(x_net.exists(), "this test needs {}: apt-get install golang-golang-x-net-dev", x_net.display());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        fs::create_dir_all(&folder).expect("a folder for what Go builds");
        let program = folder.join(format!("client-{}", std::process::id()));
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&program).arg(Path::new(FOLDER).join("client.go"));
        build.env("GO111MODULE", "off").env("GOPATH", GO_PATH).env("GOCACHE", folder.join("cache"));
        let built = build.output().expect("go runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        program
    };
    PROGRAM.get_or_init(build).clone()
}
