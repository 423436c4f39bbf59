//! What a set of sockets says of itself, and how its sockets are taken.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram as StdUnixDatagram, UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use axum_activation::{ActivatedListeners, ActivatedListenersBuilder, ListenAddr, SocketFamily, SocketKind};
use clap::Parser;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::tempdir;
use tokio::runtime::Builder;

use crate::support::{
    fd_table::FdTable,
    seen::failure,
    sockets,
    subprocess::{Child, ChildIo, Subprocess},
};

fn empty() -> ActivatedListeners {
    ActivatedListeners::builder().build().unwrap()
}

/// Reports each socket as it prints itself, and its kind.
pub(crate) fn describe(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let sockets: Vec<_> = set.iter().map(|socket| (socket.to_string(), format!("{:?}", socket.kind()))).collect();
    io.say(sockets);
}

#[test]
fn every_kind_comes_from_the_kernel_and_not_from_its_name() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("dgram.sock");
    let (tcp, udp) = (sockets::tcp(), sockets::udp());
    let (tcp_addr, udp_addr) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    let subprocess = Subprocess::passed(
        "describe",
        [
            ("file", tcp.into()),
            ("listener", sockets::regular_file().into()),
            ("http", udp.into()),
            ("tcp", StdUnixDatagram::bind(&path).unwrap().into()),
            ("", sockets::a_pipe()),
            ("x", sockets::device().into()),
            ("x", sockets::unix_connection().0.into()),
            ("x", sockets::sequential_packets()),
            ("x", sockets::netlink()),
        ],
    );
    let expected = [
        (format!("file: {tcp_addr} (passed)"), "Listener(Ipv4)"),
        ("listener: a regular file (passed)".to_owned(), "RegularFile"),
        (format!("http: {udp_addr} (passed)"), "Datagram(Ipv4)"),
        (format!("tcp: unix:{} (passed)", path.display()), "Datagram(Unix)"),
        (": a FIFO (passed)".to_owned(), "Fifo"),
        ("x: a file that is no socket (passed)".to_owned(), "OtherFile"),
        ("x: a connected Unix stream socket (passed)".to_owned(), "Connection(Unix)"),
        ("x: a Unix sequential-packet socket (passed)".to_owned(), "SeqPacket(Unix)"),
        ("x: a foreign-family socket of another type (passed)".to_owned(), "OtherSocket(Other)"),
    ];
    let expected = expected.map(|(text, kind)| (text, kind.to_owned()));
    assert_eq!(subprocess.report::<Vec<(String, String)>>(), expected);
}

/// What a subprocess saw that was passed one of two names.
#[derive(Debug, Serialize, Deserialize)]
struct FellBack {
    first: Vec<String>,
    second: Vec<String>,
    /// As after the second call, but of a third set.
    shared: bool,
}

pub(crate) fn fall_back(io: &ChildIo) {
    let names =
        |set: &ActivatedListeners| set.iter().map(|socket| format!("{}: {}", socket.name(), socket.is_passed()));
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").fallback("admin", "127.0.0.1:0");
    let first: Vec<_> = names(&builder.from_env().unwrap()).collect();
    let again = ActivatedListeners::builder().fallback("admin", "127.0.0.1:0").fallback("metrics", "127.0.0.1:0");
    let second: Vec<_> = names(&again.from_env().unwrap()).collect();
    let third: Vec<_> = names(&ActivatedListeners::from_env().unwrap()).collect();
    io.say(FellBack { shared: third == second, first, second });
}

#[test]
fn a_fallback_is_bound_only_where_a_name_is_missing() {
    let report: FellBack = Subprocess::passed("fall_back", [("http", sockets::tcp().into())]).report();
    assert_eq!(report.first, ["http: true", "admin: false"]);
    assert_eq!(report.second, ["http: true", "admin: false", "metrics: false"]);
    assert!(report.shared);
}

#[test]
fn without_an_environment_every_fallback_is_bound() {
    let report: FellBack = Subprocess::new("fall_back").report();
    assert_eq!(report.first, ["http: false", "admin: false"]);
}

/// Takes what has the name "http" and reports the descriptors that are open then, and after they were dropped.
pub(crate) fn claim_many(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let files = set.files("http").unwrap();
    let open: BTreeMap<_, _> = FdTable::now().0.into_iter().filter(|(fd, _)| (3..1000).contains(fd)).collect();
    assert!(open.values().all(|entry| entry.close_on_exec && entry.nonblocking));
    io.say((files.len(), open.len()));
    drop(files);
    io.say(FdTable::now().0.keys().filter(|fd| (3..1000).contains(*fd)).count());
}

#[test]
fn two_hundred_sockets_of_one_name_are_taken_at_once() {
    let subprocess = (0..200)
        .fold(Subprocess::new("claim_many").own_pid().count("200"), |subprocess, _| subprocess.fd(sockets::tcp()));
    let mut child = subprocess.names(["http"; 200].join(":")).start();
    assert_eq!(child.hear::<(usize, usize)>(), (200, 200));
    assert_eq!(child.hear::<usize>(), 0);
    child.finish();
}

#[test]
fn names_come_once_each_in_order_of_arrival() {
    let builder = ActivatedListeners::builder().socket("b", sockets::tcp()).socket("a", sockets::tcp());
    let set =
        builder.socket("b", sockets::tcp()).fallback("c", "127.0.0.1:0").fallback("a", "127.0.0.1:0").build().unwrap();
    assert_eq!(set.names(), ["b", "a", "c"]);
    let in_turn: Vec<_> = (&set).into_iter().map(|socket| socket.name().to_owned()).collect();
    assert_eq!(in_turn, ["b", "a", "b", "c"]);
}

#[test]
fn a_fallback_beside_a_socket_of_its_name_is_not_bound() {
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").socket("http", sockets::tcp());
    let set = builder.build().unwrap();
    assert_eq!(set.iter().map(|socket| socket.is_passed()).collect::<Vec<_>>(), [true]);
}

#[tokio::test]
async fn two_fallbacks_of_one_name_are_both_bound() {
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").fallback("http", "[::1]:0");
    let listener = builder.build().unwrap().one("http").unwrap();
    assert_eq!(listener.local_addrs().len(), 2);
}

#[test]
fn a_fallback_takes_every_type_of_address() {
    let dir = tempdir().unwrap();
    let (path, other) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let set = ActivatedListeners::builder()
        .fallback("text", "127.0.0.1:0")
        .fallback("string", String::from("127.0.0.1:0"))
        .fallback("addr", std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
        .fallback("listen addr", ListenAddr::Port(0))
        .fallback("path", path.as_path())
        .fallback("path buf", other.clone())
        .build()
        .unwrap();
    assert_eq!(set.iter().count(), 6);
    assert_eq!(set.iter().last().unwrap().addr(), Some(&ListenAddr::Unix(other)));
}

#[tokio::test]
async fn clones_share_one_set() {
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).build().unwrap();
    let clone = set.clone();
    let listener = clone.optional("http").unwrap().unwrap();
    assert!(set.optional("http").unwrap_err().is_already_taken());
    assert!(set.optional("admin").unwrap().is_none());
    assert_eq!(failure(set.one("http")).is, ["already_taken"]);
    let addr = &listener.local_addrs()[0];
    assert_eq!(format!("{set:?}"), format!("[\"http: {addr} (passed, taken)\"]"));
}

#[test]
fn a_set_prints_where_its_sockets_come_from() {
    let set = ActivatedListeners::builder().socket("files", sockets::a_pipe()).fallback("http", "127.0.0.1:0").build();
    let set = set.unwrap();
    let bound = set.iter().last().unwrap();
    assert_eq!(
        format!("{set:?}"),
        format!("[\"files: a FIFO (passed)\", \"http: {} (bound)\"]", bound.addr().unwrap())
    );
    assert_eq!(bound.kind(), SocketKind::Listener(SocketFamily::Ipv4));
    assert!(!bound.is_taken() && !bound.is_passed());
}

#[tokio::test]
async fn all_gives_a_listener_a_socket_in_order() {
    let sockets = [sockets::tcp(), sockets::tcp(), sockets::tcp()];
    let addrs = sockets.each_ref().map(sockets::addr);
    let set = sockets.into_iter().fold(ActivatedListeners::builder(), |set, socket| set.socket("http", socket));
    let all = set.build().unwrap().all("http").unwrap();
    assert_eq!(all.iter().map(|listener| listener.local_addrs().remove(0)).collect::<Vec<_>>(), addrs);
    assert!(all.iter().all(|listener| listener.name() == "http"));
}

#[tokio::test]
async fn udp_sockets_receive() {
    let socket = sockets::udp();
    let addr = socket.local_addr().unwrap();
    let set = ActivatedListeners::builder().socket("dns", socket).build().unwrap();
    let [receiver] = &set.udp("dns").unwrap()[..] else { panic!("there is one") };
    sockets::udp().send_to(b"hello", addr).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 5);
    assert_eq!(failure(set.udp("dns")).is, ["already_taken"]);
}

#[tokio::test]
async fn unix_datagram_sockets_receive() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("log.sock");
    let set = ActivatedListeners::builder().socket("log", StdUnixDatagram::bind(&path).unwrap()).build().unwrap();
    let [receiver] = &set.unix_datagram("log").unwrap()[..] else { panic!("there is one") };
    sockets::unix_datagram().send_to(b"hello", &path).unwrap();
    assert_eq!(receiver.recv(&mut [0; 16]).await.unwrap(), 5);
}

#[tokio::test]
async fn a_udp_socket_is_no_unix_datagram_socket() {
    let builder = ActivatedListeners::builder().socket("dns", sockets::udp()).socket("log", sockets::unix_datagram());
    let set = builder.build().unwrap();
    failure(set.unix_datagram("dns")).assert_says(&["as a Unix datagram socket, but it is an IPv4 datagram socket"]);
    failure(set.udp("log")).assert_says(&["as a UDP socket, but it is a Unix datagram socket"]);
}

#[test]
fn files_gives_everything_of_a_name_as_it_came() {
    let pipe = sockets::a_pipe();
    let number = std::os::fd::AsRawFd::as_raw_fd(&pipe);
    let set = ActivatedListeners::builder().socket("fifo", pipe).socket("fifo", sockets::tcp()).build().unwrap();
    let files: Vec<OwnedFd> = set.files("fifo").unwrap();
    assert_eq!((std::os::fd::AsRawFd::as_raw_fd(&files[0]), files.len()), (number, 2));
    assert_eq!(failure(set.files("fifo")).is, ["already_taken"]);
    assert_eq!(failure(empty().files("fifo")).is, ["unknown_name"]);
}

#[test]
fn an_error_is_an_io_error_of_a_fitting_kind() {
    use std::{error::Error as _, io};
    let occupied = sockets::tcp();
    let addr = occupied.local_addr().unwrap().to_string();
    let in_use = ActivatedListeners::builder().fallback("http", addr.as_str()).build().unwrap_err();
    assert_eq!(in_use.source().unwrap().to_string(), "Address already in use (os error 98)");
    assert_eq!(format!("{in_use:?}"), format!("{in_use}: Address already in use (os error 98)"));
    let in_use = io::Error::from(in_use);
    assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse);
    assert!(in_use.to_string().starts_with(&format!("cannot listen on {addr}")));

    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).build().unwrap();
    let unknown = set.files("admin").unwrap_err();
    assert!(unknown.source().is_none() && format!("{unknown:?}") == unknown.to_string());
    let kinds = [unknown, set.one("http").unwrap_err(), "x".parse::<ListenAddr>().unwrap_err()];
    let kinds = kinds.map(|error| io::Error::from(error).kind());
    assert_eq!(kinds, [io::ErrorKind::NotFound, io::ErrorKind::Unsupported, io::ErrorKind::InvalidInput]);
}

#[test]
fn an_address_is_an_argument_of_clap_and_a_field_of_serde() {
    #[derive(Debug, Parser)]
    struct Arguments {
        listen: ListenAddr,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Config {
        listen: ListenAddr,
    }
    let arguments = Arguments::try_parse_from(["app", "unix:/run/app.sock"]).unwrap();
    assert_eq!(arguments.listen, ListenAddr::from(Path::new("/run/app.sock")));
    let error = Arguments::try_parse_from(["app", "nonsense"]).unwrap_err().to_string();
    assert!(error.contains("the port is missing"), "{error}");

    let config = Config { listen: arguments.listen };
    let json = r#"{"listen":"unix:/run/app.sock"}"#;
    assert_eq!(serde_json::to_string(&config).unwrap(), json);
    assert_eq!(serde_json::from_str::<Config>(json).unwrap(), config);
}

/// Does `task` with a runtime that has ended: it takes no socket, and says so.
fn in_an_ended_runtime<T>(task: impl FnOnce() -> T) -> T {
    let handle = Builder::new_current_thread().enable_all().build().unwrap().handle().clone();
    let _entered = handle.enter();
    task()
}

#[test]
fn a_socket_that_the_runtime_does_not_take_stays_in_its_set() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let addr: ListenAddr = "127.0.0.1:0".parse().unwrap();
    let set = ActivatedListeners::builder()
        .fallback("http", addr.clone())
        .fallback("http", path.as_path())
        .socket("udp", sockets::udp())
        .socket("datagram", sockets::unix_datagram())
        .build()
        .unwrap();
    let bound = set.iter().find(|socket| socket.name() == "http").unwrap().addr().cloned().unwrap();
    let states = || set.iter().map(|socket| socket.to_string()).collect::<Vec<_>>();
    let before = states();
    in_an_ended_runtime(|| {
        let errors = [
            failure(set.one("http")),
            failure(set.all("http")),
            failure(set.listen(&bound)),
            failure(set.udp("udp")),
            failure(set.unix_datagram("datagram")),
        ];
        errors.iter().for_each(|error| error.assert_says(&["the socket named"]));
    });
    assert_eq!(states(), before);
    // In a runtime without I/O tokio panics.
    let without_io = Builder::new_current_thread().build().unwrap();
    let entered = without_io.enter();
    let takes: [fn(&ActivatedListeners); 3] =
        [|set| drop(set.one("http")), |set| drop(set.all("http")), |set| drop(set.udp("udp"))];
    for take in takes {
        catch_unwind(AssertUnwindSafe(|| take(&set))).unwrap_err();
    }
    drop(entered);
    assert_eq!(states(), before);

    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let listener = set.one("http").unwrap();
    assert_eq!(listener.local_addrs(), [bound, ListenAddr::Unix(path.clone())]);
    assert!(UnixStream::connect(&path).is_ok());
    assert_eq!((set.udp("udp").unwrap().len(), set.unix_datagram("datagram").unwrap().len()), (1, 1));
    drop((listener, set));
    assert!(!path.exists());
}

/// One thread waits for the process at a path, and another one asks for its sockets meanwhile.
#[cfg(feature = "handoff")]
pub(crate) fn claim_while_another_meets(io: &ChildIo) {
    let path = io.arg();
    claim_while_another(io, move || ActivatedListeners::builder().handoff_socket(path));
}

pub(crate) fn claim_while_another_looks_up(io: &ChildIo) {
    claim_while_another(io, || ActivatedListeners::builder().fallback("db", "slow.example:80"));
}

fn claim_while_another(io: &ChildIo, slow: impl FnOnce() -> ActivatedListenersBuilder + Send + 'static) {
    let _waiting = thread::spawn(|| slow().from_env());
    io.hear();
    let threads: Vec<_> = (0..4)
        .map(|_| thread::spawn(|| ActivatedListeners::builder().fallback("admin", "127.0.0.1:0").from_env().unwrap()))
        .collect();
    let sets: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    // One set, and one socket for all of them.
    let seen = sets.iter().map(|set| set.iter().map(|socket| socket.to_string()).collect::<Vec<_>>());
    io.say(seen.collect::<Vec<_>>());
}

#[track_caller]
fn assert_one_set(child: &mut Child) {
    child.tell("it waits");
    let seen: Vec<Vec<String>> = child.hear();
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    assert!(
        matches!(&seen[0][..], [http, admin] if http.starts_with("http: ") && admin.starts_with("admin: ")),
        "{seen:?}"
    );
}

#[cfg(feature = "handoff")]
#[test]
fn the_sockets_are_claimed_once_and_at_once_while_another_thread_waits_for_a_predecessor() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("handoff.sock");
    let silent = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    silent.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    silent.listen(1).unwrap();
    let subprocess = Subprocess::passed("claim_while_another_meets", [("http", sockets::tcp().into())]);
    let mut child = subprocess.arg(&path).start();
    let (_connection, _) = silent.accept().unwrap();
    assert_one_set(&mut child);
}

/// In a mount namespace with a name server that does not answer.
#[test]
fn the_sockets_are_claimed_once_and_at_once_while_another_thread_waits_for_dns() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for a mount namespace");
    let [.., high, low] = std::process::id().to_be_bytes();
    let server = Ipv4Addr::new(127, 53, high, low);
    let silent = UdpSocket::bind((server, 53)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let dir = tempdir().unwrap();
    let resolv = dir.path().join("resolv.conf");
    fs::write(&resolv, format!("nameserver {server}\noptions timeout:30 attempts:2\n")).unwrap();
    let mount = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", resolv.display());
    let words = ["unshare", "--mount", "sh", "-c", &mount, "sh"].map(OsString::from);
    let subprocess = Subprocess::passed("claim_while_another_looks_up", [("http", sockets::tcp().into())]);
    let mut child = subprocess.command(words.into_iter().chain([std::env::current_exe().unwrap().into()])).start();
    silent.recv(&mut [0; 512]).expect("a question comes");
    assert_one_set(&mut child);
}
