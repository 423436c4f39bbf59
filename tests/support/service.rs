//! A service that hands over from process to process (`successive.rs`), from outside.

use std::{
    collections::HashMap,
    env, fs,
    io::Write,
    iter,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    thread,
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Signal, kill_process},
};
use tempfile::TempDir;

use super::{
    http::Client,
    process::{Process, as_pid},
    subprocess::Subprocess,
    successive::{FOLDER, PROCESSED, SETTINGS},
    wait::{eventually, find},
};
pub(crate) use super::{process::is_running, subprocess::Line};

/// All generations of a service; ended when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) addr: SocketAddr,
    folder: TempDir,
    first: Process<Line>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) generation: u64,
    pub(crate) pid: u32,
}

/// What was processed, by whom.
#[derive(Debug)]
pub(crate) struct Processed(Vec<(u64, u32)>);

impl Service {
    /// Starts the first generation, with settings for all of them, and returns when it serves.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_as(settings, |folder| Command::new(program_in(folder)))
    }

    /// As `start`, by the command that `make` makes for the folder of the service.
    pub(crate) fn start_as(settings: &str, make: impl FnOnce(&Path) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = fs::File::create(folder.path().join("log")).expect("a file in it");
        let command = make(folder.path());
        let words = iter::once(command.get_program()).chain(command.get_args());
        let mut subprocess = Subprocess::new("generation").command(words).log(log).lifeline();
        for (name, value) in command.get_envs() {
            subprocess = match value {
                Some(value) => subprocess.variable(name, value),
                None => subprocess.without(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            subprocess = subprocess.directory(directory);
        }
        let subprocess = subprocess.variable(FOLDER, folder.path()).variable(SETTINGS, settings);
        let first = subprocess.spawn(Line::parse);
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { addr, folder, first };
        service.addr = service.address("http");
        service.who();
        service
    }

    /// The address of the listener of that name, as the first generation has bound it.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let line = self.wait_for(|line| line.text.starts_with(&format!("listens {name} ")));
        line.word(2)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The program that is started at each handoff.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("program")
    }

    /// Asks who serves, on a connection of its own.
    #[track_caller]
    pub(crate) fn who(&self) -> Who {
        self.get("/who").parse().expect("a generation and a pid")
    }

    /// Asks for `path` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> String {
        let answer = self.connect().get(path).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_owned()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr).expect("it listens")
    }

    /// Plans what the next process does that comes to that step.
    pub(crate) fn plan(&self, step: &str, words: &str) {
        let draft = self.folder.path().join(format!("{step}.draft"));
        fs::write(&draft, words).expect("a plan");
        fs::rename(draft, self.folder.path().join(step)).expect("a plan");
    }

    /// Makes a gate, at which a process waits that comes to it.
    pub(crate) fn gate(&self, name: &str) {
        mkfifoat(CWD, self.folder.path().join(name), Mode::RWXU).expect("a FIFO");
    }

    /// Lets on who waits at the gate.
    pub(crate) fn open(&self, gate: &str) {
        let path = self.folder.path().join(gate);
        fs::OpenOptions::new().write(true).open(path).and_then(|mut gate| gate.write_all(b"x")).expect("a FIFO");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        kill_process(as_pid(pid), signal).expect("it runs");
    }

    /// SIGHUP to the process that serves; returns when the next one answers.
    #[track_caller]
    pub(crate) fn hand_over(&self) -> Who {
        let old = self.who();
        self.signal(old.pid, Signal::HUP);
        self.wait_until_after(old)
    }

    /// Returns when another process than `old` answers, which must be of the next generation.
    #[track_caller]
    pub(crate) fn wait_until_after(&self, old: Who) -> Who {
        let who =
            find(|| format!("another than {old:?}: {}", self.log()), || Some(self.who()).filter(|who| *who != old));
        assert_eq!(who.generation, old.generation + 1, "{}", self.log());
        who
    }

    /// Returns when the processes have logged such words.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        self.eventually(&format!("{words} in the log"), || {
            fs::read_to_string(self.folder.path().join("log")).unwrap_or_default().contains(words)
        });
    }

    /// Asks the service itself to hand over: the next process, or the reason why there is none.
    pub(crate) fn ask_to_hand_over(&self) -> Result<u32, String> {
        let mut client = self.connect();
        client.post("/handover", "").expect("it listens");
        let answer = client.answer().expect("an answer");
        match answer.text().split_once("over to ") {
            Some((_, pid)) => Ok(pid.parse().expect("a pid")),
            None => Err(answer.text().strip_prefix("failed true ").expect("a failed handoff").to_owned()),
        }
    }

    /// Returns when a process has said such a line.
    #[track_caller]
    pub(crate) fn wait_for(&self, is_it: impl Fn(&Line) -> bool) -> Line {
        self.wait_for_some(1, is_it).remove(0)
    }

    /// Returns when so many such lines were said: all of them.
    #[track_caller]
    pub(crate) fn wait_for_some(&self, count: usize, is_it: impl Fn(&Line) -> bool) -> Vec<Line> {
        let lines = self.first.wait_for(count, is_it);
        assert!(lines.len() >= count, "it was not said: {}", self.log());
        lines
    }

    /// Returns when that process has said a line that begins so: the rest of it.
    #[track_caller]
    pub(crate) fn wait_for_word(&self, pid: u32, begins: &str) -> String {
        let line = self.wait_for(|line| line.pid == pid && line.text.starts_with(begins));
        line.text[begins.len()..].trim().to_owned()
    }

    /// Returns when that process is no more, or a zombie at most.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, pid: u32) {
        self.eventually(&format!("the end of {pid}"), || !is_running(pid));
    }

    /// Returns when `holds` does.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        find(|| format!("{what}: {}", self.log()), || holds().then_some(()));
    }

    /// What was said so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.first.lines()
    }

    /// Every process that has said anything, in the order in which they began.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for line in self.lines() {
            if !pids.contains(&line.pid) {
                pids.push(line.pid);
            }
        }
        pids
    }

    /// Those of them that run.
    pub(crate) fn running(&self) -> Vec<u32> {
        self.pids().into_iter().filter(|pid| is_running(*pid) && self.is_own(*pid)).collect()
    }

    /// Whether that process is one of this service: after thousands of processes their numbers are those of others, and in a namespace of
    /// their own they always are.
    fn is_own(&self, pid: u32) -> bool {
        let folder = self.folder.path().as_os_str().as_bytes();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(folder.len()).any(|part| part == folder)
    }

    /// The last that was said and logged.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // h2 logs each frame.
        let logged: Vec<_> = log.lines().filter(|line| !line.contains(" h2::")).map(str::to_owned).collect();
        let said: Vec<_> = self.lines().iter().map(|line| format!("{} {}", line.pid, line.text)).collect();
        let last = |lines: &[String], count| lines[lines.len().saturating_sub(count)..].join("\n");
        format!("the processes said, at last:\n{}\nand logged:\n{}", last(&said, 30), last(&logged, 80))
    }

    /// Ends the process that serves with SIGTERM, waits until none is left, and returns what was processed.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Vec<Line>, Processed) {
        self.signal(self.who().pid, Signal::TERM);
        self.wait_for_all()
    }

    /// Waits until no process is left, and returns what was processed.
    #[track_caller]
    pub(crate) fn wait_for_all(&mut self) -> (Vec<Line>, Processed) {
        assert!(self.first.wait_for_all(), "not all have ended: {}", self.log());
        (self.lines(), self.processed())
    }

    pub(crate) fn processed(&self) -> Processed {
        Processed::read(&self.folder.path().join(PROCESSED))
    }
}

/// Who answers on that connection.
#[track_caller]
pub(crate) fn who(client: &mut Client) -> Who {
    client.get("/who").expect("an answer").text().parse().expect("a generation and a pid")
}

/// Fails unless the connection has moved there, or does: a request that comes first is answered where it was.
#[track_caller]
pub(crate) fn assert_moves(client: &mut Client, to: Who) {
    eventually(&format!("it is with {to:?}"), || {
        let now = who(client);
        assert!(now.generation <= to.generation, "it is with {now:?}, not {to:?}");
        now == to
    });
}

impl Drop for Service {
    fn drop(&mut self) {
        // They end when their standard input does; what cannot, as it was stopped, is killed.
        self.first.close_input();
        self.running().into_iter().for_each(|pid| {
            let _ = kill_process(as_pid(pid), Signal::KILL);
        });
        // A supervisor does not end with them, and is killed when `first` is dropped.
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (generation, pid) = text.split_once(' ').ok_or(text)?;
        let number = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
        Ok(Self {
            generation: number(generation)?,
            pid: u32::try_from(number(pid)?).map_err(|error| error.to_string())?,
        })
    }
}

impl Processed {
    /// What stands in the file of a witness.
    pub(crate) fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap_or_default();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let entry = |bytes: &[u8]| (number(&bytes[..8]), u32::try_from(number(&bytes[8..])).expect("a pid"));
        Self(bytes.chunks_exact(16).map(entry).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Fails unless every request up to `last` was processed, once.
    #[track_caller]
    pub(crate) fn assert_each_once(&self, last: u64) {
        let times = self.times();
        let wrong: Vec<_> = (1..=last).filter(|id| times.get(id) != Some(&1)).collect();
        assert!(wrong.is_empty(), "not processed exactly once: {wrong:?}");
        assert_eq!(times.len() as u64, last, "requests that no client sent");
    }

    /// Fails where a request was processed twice.
    #[track_caller]
    pub(crate) fn assert_none_twice(&self) {
        let twice: Vec<_> = self.times().into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(twice.is_empty(), "processed more than once: {twice:?}");
    }

    /// How many a process has processed.
    pub(crate) fn by(&self, pid: u32) -> usize {
        self.0.iter().filter(|(_, by)| *by == pid).count()
    }

    /// The numbers of the requests that a process has processed.
    pub(crate) fn ids_of(&self, pid: u32) -> Vec<u64> {
        self.0.iter().filter(|(_, by)| *by == pid).map(|(id, _)| *id).collect()
    }

    fn times(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for (id, _) in &self.0 {
            *times.entry(*id).or_default() += 1;
        }
        times
    }
}

/// Fails where a generation has aborted a connection or seen one end with an error, or has not ended in order.
#[track_caller]
pub(crate) fn assert_clean(lines: &[Line]) {
    let mut pids: Vec<_> = lines.iter().map(|line| line.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    for pid in pids {
        let report = lines.iter().find_map(|line| line.text.strip_prefix("ends ").filter(|_| line.pid == pid));
        let report = report.unwrap_or_else(|| panic!("{pid} has not ended in order: {lines:#?}"));
        assert!(report.contains(" 0 closed idle, 0 errors, 0 aborted"), "{report}");
    }
}

/// The test binary under a name of the service's own, so that a test can replace it.
pub(crate) fn program_in(folder: &Path) -> PathBuf {
    let path = folder.join("program");
    std::os::unix::fs::symlink(env::current_exe().expect("a test program has a path"), &path).expect("a link");
    path
}
