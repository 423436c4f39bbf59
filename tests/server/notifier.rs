//! `Notifier`: what a service manager hears, in which order, and when it does not listen.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::net::UnixDatagram,
    time::Duration,
};

use axum_activation::notify::{Notifier, State};

use crate::support::{
    manager::Manager,
    subprocess::{ChildIo, Subprocess},
    wait::LIMIT,
};

const SHORT: Duration = Duration::from_millis(50);

/// More than any queue takes (`net.unix.max_dgram_qlen` is 10 or 512).
const MANY: u32 = 2000;

#[tokio::test]
async fn a_path_and_an_abstract_name_are_spoken_to() {
    for manager in [Manager::start(), Manager::start_abstract()] {
        let notifier = Notifier::to(manager.address()).unwrap();
        notifier.notify([State::Ready, State::Status("so\nfar".into())]);
        notifier.notify([State::MainPid(7)]);
        notifier.notify([State::Stopping, State::ExtendTimeout(SHORT)]);
        notifier.barrier(LIMIT).await.unwrap();
        let expected =
            ["READY=1\nSTATUS=so far\n", "MAINPID=7\n", "STOPPING=1\nEXTEND_TIMEOUT_USEC=50000\n", "BARRIER=1\n"];
        assert_eq!(manager.texts(), expected);
    }
}

#[tokio::test]
async fn without_a_manager_nothing_is_said_and_nothing_fails() {
    let notifier = Notifier::none();
    notifier.notify([State::Ready]);
    notifier.fd_store("name", File::open("/dev/null").unwrap().into());
    notifier.barrier(SHORT).await.unwrap();
    notifier.flush(SHORT).await.unwrap();
    assert!(!notifier.is_active());
}

#[test]
fn an_address_of_another_kind_is_an_error_that_names_it() {
    for address in ["vsock:2:1234", "notify.sock", ""] {
        let error = Notifier::to(address).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(&format!("{address:?}")) && text.contains("only an absolute path"), "{text}");
    }
}

#[tokio::test]
async fn a_full_queue_blocks_no_task_and_loses_no_change() {
    let manager = Manager::start();
    let notifier = Notifier::to(manager.address()).unwrap();
    manager.turn_deaf();
    for pid in 1..=MANY {
        notifier.notify([State::Status(format!("at {pid}"))]);
        notifier.notify([State::MainPid(pid)]);
        notifier.notify([State::Watchdog]);
    }
    assert!(manager.texts().is_empty(), "the manager has read nothing meanwhile");
    let flushing = notifier.flush(SHORT).await.unwrap_err();
    assert!(format!("{flushing:?}").contains("no answer within"), "{flushing:?}");

    manager.listen_again();
    notifier.barrier(LIMIT).await.unwrap();
    let pids: Vec<u32> = manager.values("MAINPID").iter().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids, (1..=MANY).collect::<Vec<_>>(), "all of them, in order");
    assert_eq!(manager.status(), format!("at {MANY}"));
    let repeated = (manager.values("STATUS").len(), manager.values("WATCHDOG").len());
    assert!(repeated.0 < 600 && repeated.1 < 600, "what repeats itself waits once: {repeated:?}");
}

#[tokio::test]
async fn a_barrier_comes_back_when_all_before_it_is_done_and_not_earlier() {
    let manager = Manager::start();
    let notifier = Notifier::to(manager.address()).unwrap();
    manager.turn_deaf();
    notifier.notify([State::Ready]);
    let error = notifier.barrier(SHORT).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains(manager.address()) && text.contains("no answer within 50ms"), "{text}");
    manager.listen_again();
    notifier.barrier(LIMIT).await.unwrap();
    assert_eq!(manager.texts()[0], "READY=1\n");
}

#[tokio::test]
async fn a_barrier_before_a_manager_that_is_not_there_is_an_error_and_not_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let notifier = Notifier::to(dir.path().join("missing")).unwrap();
    let error = notifier.barrier(LIMIT).await.unwrap_err();
    assert!(format!("{error:?}").contains("No such file"), "{error:?}");
}

#[tokio::test]
async fn each_descriptor_goes_in_a_message_of_its_own_under_its_name() {
    let manager = Manager::start();
    let notifier = Notifier::to(manager.address()).unwrap();
    let mut ours: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
    for (i, file) in ours.iter_mut().enumerate() {
        write!(file, "file {i}").unwrap();
        let copy = file.try_clone().unwrap().into();
        if i == 2 { notifier.fd_store_unpolled("idle", copy) } else { notifier.fd_store("http:1", copy) }
    }
    notifier.fd_store_remove("idle");
    notifier.barrier(LIMIT).await.unwrap();
    let stored = "FDSTORE=1\nFDNAME=http_1\n";
    let expected =
        [stored, stored, "FDSTORE=1\nFDNAME=idle\nFDPOLL=0\n", "FDSTOREREMOVE=1\nFDNAME=idle\n", "BARRIER=1\n"];
    assert_eq!(manager.texts(), expected);
    let theirs = manager.heard(|heard| heard.iter_mut().flat_map(|message| message.fds.drain(..)).collect::<Vec<_>>());
    for (i, fd) in theirs.into_iter().enumerate() {
        let (mut file, mut text) = (File::from(fd), String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("file {i}"));
    }
}

#[tokio::test]
async fn what_the_manager_has_is_closed_here() {
    let manager = Manager::start();
    let notifier = Notifier::to(manager.address()).unwrap();
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    notifier.fd_store("stream", writer.into());
    notifier.flush(LIMIT).await.unwrap();
    manager.wait_async("it has it", |manager| !manager.texts().is_empty()).await;
    manager.heard(Vec::clear);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "no other process has it");
}

#[tokio::test]
async fn who_takes_the_place_of_the_manager_is_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let notifier = Notifier::to(&path).unwrap();
    notifier.notify([State::Ready]);
    for status in ["first", "second"] {
        let manager = Manager::on(UnixDatagram::bind(&path).unwrap(), String::new());
        notifier.notify([State::Status(status.into())]);
        notifier.barrier(LIMIT).await.unwrap();
        assert_eq!(manager.texts()[0], format!("STATUS={status}\n"));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_waits_when_a_runtime_ends_is_sent_by_the_next() {
    let manager = Manager::start();
    let notifier = Notifier::to(manager.address()).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    manager.turn_deaf();
    runtime().block_on(async { (1..=MANY).for_each(|pid| notifier.notify([State::MainPid(pid)])) });
    manager.listen_again();
    runtime().block_on(async { notifier.barrier(LIMIT).await }).unwrap();
    assert_eq!(manager.values("MAINPID").len(), usize::try_from(MANY).unwrap());
}

#[tokio::test]
async fn the_environment_is_read_once_and_left_as_it_is() {
    let manager = Manager::start();
    let subprocess = Subprocess::new("say_who_is_notified").variable("NOTIFY_SOCKET", manager.address());
    let seen: (bool, Option<Duration>, Option<usize>, String) =
        subprocess.variable("WATCHDOG_USEC", "2000000").variable("FDSTORE", "7").report();
    assert_eq!(seen, (true, Some(Duration::from_secs(2)), Some(7), manager.address().to_owned()));
    assert_eq!(manager.texts(), ["READY=1\n", "STATUS=the same\n"]);
}

#[test]
fn a_socket_that_cannot_be_spoken_to_is_as_none() {
    let subprocess = Subprocess::new("say_who_is_notified").variable("NOTIFY_SOCKET", "vsock:2:1234");
    let seen: (bool, Option<Duration>, Option<usize>, String) =
        subprocess.variable("WATCHDOG_USEC", "2000000").report();
    assert_eq!(seen, (false, None, None, "vsock:2:1234".to_owned()));
}

#[test]
fn what_keeps_a_service_from_its_sockets_reaches_the_status() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (variable, value, fallback, says, errno) in [
        ("LISTEN_PID", "1", "127.0.0.1:0", "STATUS=failed: LISTEN_PID=1 names another process", None),
        ("LISTEN_PID", "one", "127.0.0.1:0", "STATUS=failed: LISTEN_PID=\"one\" ", None),
        ("A", "B", &*taken, "STATUS=failed: cannot listen on 127.0.0.1:", Some("ERRNO=98")),
        ("A", "B", "[::1]", "STATUS=failed: \"[::1]\" is no address: the port is missing, write [::1]:8080", None),
    ] {
        let manager = Manager::start();
        let subprocess = Subprocess::new("claim_in_vain").variable("NOTIFY_SOCKET", manager.address()).arg(fallback);
        let error: String = subprocess.variable(variable, value).variable("LISTEN_FDS", "1").report();
        let [said] = &manager.texts()[..] else { panic!("one message: {:?}", manager.texts()) };
        let mut lines = said.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with(says)), "{said}");
        assert_eq!(lines.next(), errno, "{said}");
        assert!(said.contains(&error), "{said}");
    }
}

pub(crate) fn claim_in_vain(io: &ChildIo) {
    let builder = axum_activation::ActivatedListeners::builder().fallback("http", io.arg().as_str());
    io.say(builder.from_env().unwrap_err().to_string());
}

pub(crate) fn say_who_is_notified(io: &ChildIo) {
    let notifier = Notifier::from_env();
    notifier.notify([State::Ready]);
    Notifier::from_env().notify([State::Status("the same".into())]);
    let address = std::env::var("NOTIFY_SOCKET").unwrap();
    io.say((notifier.is_active(), notifier.watchdog(), notifier.fd_store_max(), address));
}
