//! The service that hands over, or is restarted: this very program, started again.

use std::{
    env,
    future::ready,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server, drain::DrainReport};
use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid},
    time::{ClockId, clock_gettime},
};
use tokio::{
    net::TcpSocket,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The first argument of a server process.
const ROLE: &str = "handoff-as";

/// As `ListenOptions` has it.
const BACKLOG: u32 = 4096;

/// A process that says nothing for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with the number of the process.
pub(crate) const PID_PATH: &str = "/pid";

/// The ways to serve that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// `axum::serve` with graceful shutdown: each process binds the port again.
    Plain,
    /// `axum_activation::Server`, which hands over.
    Server,
}

/// The command line of a server process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    variant: Variant,
    address: SocketAddr,
    /// Worker threads of the runtime.
    workers: usize,
}

/// What a process says when it has handed over and every connection has gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    /// From the commit to the last acknowledgement.
    pub(crate) moving: Duration,
    /// CPU time of all its threads, from the request for a handoff on.
    pub(crate) cpu: Duration,
    /// Connections that the next process has.
    pub(crate) moved: u64,
    /// Connections that ended here, in whatever way.
    pub(crate) ended: u64,
}

/// The process that serves now, after any number of others; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Service {
    job: Job,
    pid: Pid,
    words: Receiver<Word>,
}

impl Job {
    /// On a port that is free now.
    pub(crate) fn new(variant: Variant, workers: usize) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { variant, address, workers })
    }

    /// The job of this process, if it is a server process.
    pub(crate) fn of_this_process() -> Option<Self> {
        let args: Vec<_> = env::args().skip(1).collect();
        let [role, variant, address, workers] = args.as_slice() else { return None };
        let variant = if variant == "plain" { Variant::Plain } else { Variant::Server };
        let (address, workers) = (address.parse().ok()?, workers.parse().ok()?);
        (role == ROLE).then_some(Self { variant, address, workers })
    }

    /// Serves until it is asked to end or has handed over.
    pub(crate) fn run(self) -> io::Result<()> {
        // The benchmark adopts all later processes, as it is their reaper.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let runtime = Builder::new_multi_thread().worker_threads(self.workers).enable_all().build()?;
        runtime.block_on(async move {
            let serving = async move {
                match self.variant {
                    Variant::Plain => serve_plainly(self.address).await,
                    Variant::Server => serve(self.address).await.map_err(io::Error::other),
                }
            };
            tokio::spawn(serving).await?
        })
    }

    fn to_args(self) -> [String; 4] {
        let Self { variant, address, workers } = self;
        let variant = if variant == Variant::Plain { "plain" } else { "server" };
        [ROLE.to_owned(), variant.to_owned(), address.to_string(), workers.to_string()]
    }
}

impl Service {
    /// Starts the first process, and returns at once.
    pub(crate) fn start(job: Job) -> io::Result<Self> {
        let mut program = Command::new(env::current_exe()?);
        let mut child = program.args(job.to_args()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let (sender, words) = channel();
        let words_of = |line: io::Result<String>| line.ok().as_deref().and_then(Word::of);
        thread::spawn(move || said.lines().filter_map(words_of).try_for_each(|word| sender.send(word)));
        let pid = Pid::from_child(&child);
        Ok(Self { job, pid, words })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.job.address
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it serves.
    pub(crate) fn await_start(&self) -> io::Result<()> {
        self.listen(|word| matches!(word, Word::Alone(_)))
    }

    /// Asks for a handoff, and returns at once.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::HUP)?)
    }

    /// Waits until the next process serves alone, and this one has ended.
    pub(crate) fn await_handed_over(&mut self) -> io::Result<Gone> {
        let (mut next, mut last) = (None, None);
        self.listen(|word| {
            match word {
                Word::Alone(pid) => next = Some(pid),
                Word::Gone(gone) => last = Some(gone),
            }
            next.is_some() && last.is_some()
        })?;
        reap(self.pid)?;
        self.pid = next.ok_or(io::ErrorKind::InvalidData)?;
        last.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Ends it in order, and starts it again: what a service manager does where nothing is handed over.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        reap(self.pid)?;
        *self = Self::start(self.job)?;
        self.await_start()
    }

    /// Takes words until `is_last` says so.
    fn listen(&self, mut is_last: impl FnMut(Word) -> bool) -> io::Result<()> {
        loop {
            let word = self.words.recv_timeout(PATIENCE);
            let word = word.map_err(|_| io::Error::other(format!("process {} does not go on", self.pid)))?;
            if is_last(word) {
                return Ok(());
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has been reaped where its restart has failed; no other process has had its number since.
        if rustix::process::test_kill_process(self.pid).is_ok() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = reap(self.pid);
        }
    }
}

/// What a server process says on its standard output.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// It serves, and no process before it does.
    Alone(Pid),
    /// It has handed over.
    Gone(Gone),
}

impl Word {
    fn of(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        match (kind, numbers.as_slice()) {
            ("alone", [pid]) => Some(Self::Alone(Pid::from_raw(i32::try_from(*pid).ok()?)?)),
            ("gone", &[moving, cpu, moved, ended]) => {
                let (moving, cpu) = (Duration::from_micros(moving), Duration::from_micros(cpu));
                Some(Self::Gone(Gone { moving, cpu, moved, ended }))
            }
            _ => None,
        }
    }

    /// One write, so that the processes that share the pipe do not mix their words.
    fn say(&self) -> io::Result<()> {
        let line = match self {
            Self::Alone(pid) => format!("alone {pid}\n"),
            Self::Gone(Gone { moving, cpu, moved, ended }) => {
                format!("gone {} {} {moved} {ended}\n", moving.as_micros(), cpu.as_micros())
            }
        };
        io::stdout().write_all(line.as_bytes())
    }
}

/// As each process is a child of this one, or its orphan, which comes to the same.
fn reap(pid: Pid) -> io::Result<()> {
    waitpid(Some(pid), WaitOptions::empty())?;
    Ok(())
}

/// Makes this process the parent of all orphans, so that none outlives it.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

async fn serve_plainly(address: SocketAddr) -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    Word::Alone(rustix::process::getpid()).say()?;
    let stopped = async move {
        terminated.recv().await;
    };
    axum::serve(listener, app()).with_graceful_shutdown(stopped).await
}

async fn serve(address: SocketAddr) -> Result<(), axum_activation::Error> {
    let activated = ActivatedListeners::builder().fallback("http", address).from_env()?;
    let began = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&began);
    let server = Server::new(activated).before_handoff(move || {
        noted.store(micros(cpu_time_so_far()), Relaxed);
        ready(Ok::<_, io::Error>(()))
    });
    let handoff = server.handoff();
    tokio::spawn(async move {
        handoff.predecessor_gone().await;
        Word::Alone(rustix::process::getpid()).say()
    });
    let report = server.serve("http", app()).run().await?;
    let cpu = cpu_time_so_far().saturating_sub(Duration::from_micros(began.load(Relaxed)));
    let _ = Word::Gone(Gone::of(&report, cpu)).say();
    Ok(())
}

impl Gone {
    fn of(report: &DrainReport, cpu: Duration) -> Self {
        let moved = report.listeners.iter().map(|listener| listener.moved).sum();
        let ended = report.listeners.iter().map(|it| it.finished + it.idle_closed + it.errors + it.aborted).sum();
        Self { moving: report.elapsed, cpu, moved, ended }
    }
}

fn app() -> Router {
    let pid = std::process::id().to_string();
    Router::new().route("/", get(|| async { "hello" })).route(PID_PATH, get(|| async { pid }))
}

/// Of all threads of this process.
fn cpu_time_so_far() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
