//! A service that says to systemd what the test tells it to say.

use std::{
    collections::VecDeque,
    env, fs,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    thread,
    time::Duration,
};

use axum_activation::notify::{Notifier, State};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader as AsyncBufReader},
    net::UnixListener,
};

use crate::support::{subprocess::ChildIo, systemd::Systemd, wait::eventually};

const SOCKET: &str = "/run/obedient.sock";
const PROGRAM: &str = "/run/obedient";
const LIMIT: Duration = Duration::from_secs(10);

/// The test's end.
#[derive(Debug)]
pub(crate) struct Obedient<'a> {
    systemd: &'a Systemd,
    stream: BufReader<UnixStream>,
}

impl<'a> Obedient<'a> {
    /// The unit, with these lines in its service section.
    pub(crate) fn unit(lines: &str) -> [(&'static str, String); 1] {
        let exec =
            format!("ExecStart={PROGRAM} --exact subprocess --nocapture --test-threads=1\nEnvironment=SUBPROCESS=obey");
        [("obedient.service", format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\n{exec}\n{lines}\n"))]
    }

    /// Begins to start the service; it is not ready yet.
    pub(crate) fn start(systemd: &'a Systemd) -> Self {
        let program = systemd.path(PROGRAM);
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        systemd.run(&["systemctl", "start", "--no-block", "obedient.service"]);
        Self::connect(systemd)
    }

    /// Finds the service once more, after it was started again.
    pub(crate) fn connect(systemd: &'a Systemd) -> Self {
        let mut stream = None;
        eventually("the service listens", || {
            stream = UnixStream::connect(systemd.path(SOCKET)).ok();
            stream.is_some()
        });
        Self { systemd, stream: BufReader::new(stream.unwrap()) }
    }

    /// Has it do something; when it answers, systemd has done what the message says.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str) -> String {
        writeln!(self.stream.get_mut(), "{command}").unwrap();
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "{command}: it has ended, {}", self.systemd.log("obedient.service"));
        answer.trim_end().to_owned()
    }

    /// Has it do something that it does not survive.
    pub(crate) fn tell_last(mut self, command: &str) {
        writeln!(self.stream.get_mut(), "{command}").unwrap();
    }

    /// Ends it, which nothing else would.
    pub(crate) fn kill(self) {
        self.systemd.run(&["systemctl", "kill", "--signal=KILL", "obedient.service"]);
    }

    #[track_caller]
    pub(crate) fn property(&self, property: &str) -> String {
        self.systemd.property("obedient.service", property)
    }
}

/// The service's end: a command a line, each answered when systemd has done it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn obey(_: &ChildIo) {
    let _ = fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET).unwrap();
    let notifier = Notifier::from_env();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.split();
        let mut lines = AsyncBufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = act(&notifier, &line);
            notifier.barrier(LIMIT).await.unwrap();
            writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
    }
}

fn act(notifier: &Notifier, line: &str) -> String {
    let mut words: VecDeque<&str> = line.split(' ').collect();
    let command = words.pop_front().unwrap();
    let rest = words.make_contiguous().join(" ");
    let milliseconds = || Duration::from_millis(rest.parse().unwrap());
    let mut answer = "done".to_owned();
    match command {
        "ready" => notifier.notify([State::Ready]),
        "reloading" => notifier.notify([State::Reloading]),
        "stopping" => notifier.notify([State::Stopping]),
        "status" => notifier.notify([State::Status(rest)]),
        "extend" => notifier.notify([State::ExtendTimeout(milliseconds())]),
        "feed" => notifier.notify([State::Watchdog]),
        "trigger" => notifier.notify([State::WatchdogTrigger]),
        "store" => notifier.fd_store(&rest, file(&rest).into()),
        "store-unpolled" => notifier.fd_store_unpolled(&rest, file(&rest).into()),
        "remove" => notifier.fd_store_remove(&rest),
        "name-child-main" => {
            let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
            notifier.notify([State::MainPid(child.id())]);
            answer = child.id().to_string();
            thread::spawn(move || child.wait());
        }
        "watchdog" => answer = format!("{:?}", notifier.watchdog()),
        "stored" => answer = stored(),
        other => panic!("what is {other}?"),
    }
    answer
}

/// A file that knows its name.
fn file(name: &str) -> File {
    let path = format!("/run/stored-{name}");
    fs::write(&path, name).unwrap();
    File::open(path).unwrap()
}

/// The name and the content of each descriptor that was passed.
fn stored() -> String {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let read = |fd: usize| fs::read_to_string(format!("/proc/self/fd/{fd}")).unwrap();
    let names = names.split(':').filter(|name| !name.is_empty()).enumerate();
    names.map(|(i, name)| format!("{name}={}", read(3 + i))).collect::<Vec<_>>().join(" ")
}
