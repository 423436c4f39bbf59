//! A service manager: a notify socket that notes what it receives, keeps the descriptors, and answers barriers.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{fd::OwnedFd, linux::net::SocketAddrExt, unix::net::UnixDatagram},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use tempfile::TempDir;

use super::wait::{find, find_async};

/// How often it looks whether it is to read.
const LOOK: Duration = Duration::from_millis(10);

/// One datagram.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Manager {
    address: String,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    dir: Option<TempDir>,
}

#[derive(Debug)]
struct Shared {
    socket: UnixDatagram,
    /// Held while it reads, so that what was sent before a look is seen by it.
    heard: Mutex<Vec<Message>>,
    is_deaf: AtomicBool,
    holds_barriers: AtomicBool,
    /// It has noticed that it is to be deaf.
    is_quiet: AtomicBool,
    has_ended: AtomicBool,
}

impl Manager {
    /// At a path.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let address = path.to_str().unwrap().to_owned();
        let mut manager = Self::on(UnixDatagram::bind(path).unwrap(), address);
        manager.dir = Some(dir);
        manager
    }

    /// At an abstract name.
    pub(crate) fn start_abstract() -> Self {
        let name = format!("axum-activation-test-{}-{:?}", std::process::id(), thread::current().id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        Self::on(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    pub(crate) fn on(socket: UnixDatagram, address: String) -> Self {
        let shared = Arc::new(Shared {
            socket,
            heard: Mutex::default(),
            is_deaf: AtomicBool::default(),
            holds_barriers: AtomicBool::default(),
            is_quiet: AtomicBool::default(),
            has_ended: AtomicBool::default(),
        });
        let listening = Arc::clone(&shared);
        let thread = thread::spawn(move || listening.listen());
        Self { address, shared, thread: Some(thread), dir: None }
    }

    /// What `NOTIFY_SOCKET` would be.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on it reads barriers and does not answer them.
    pub(crate) fn hold_barriers(&self) {
        self.shared.holds_barriers.store(true, SeqCst);
    }

    /// Answers them, those that came before too.
    pub(crate) fn answer_barriers(&self) {
        self.shared.holds_barriers.store(false, SeqCst);
        self.heard(|heard| {
            heard.iter_mut().filter(|message| message.says("BARRIER=1")).for_each(|message| message.fds.clear());
        });
    }

    /// From now on it leaves messages in its queue.
    pub(crate) fn turn_deaf(&self) {
        self.shared.is_deaf.store(true, SeqCst);
        self.wait("it reads no more", |_| self.shared.is_quiet.load(SeqCst));
    }

    pub(crate) fn listen_again(&self) {
        self.shared.is_quiet.store(false, SeqCst);
        self.shared.is_deaf.store(false, SeqCst);
    }

    /// The text of every message so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.heard(|heard| heard.iter().map(|message| message.text.clone()).collect())
    }

    /// The value of each such line so far.
    pub(crate) fn values(&self, key: &str) -> Vec<String> {
        self.heard(|heard| heard.iter().flat_map(|message| message.values(key)).collect())
    }

    /// The last `STATUS=` so far.
    pub(crate) fn status(&self) -> String {
        self.values("STATUS").pop().unwrap_or_default()
    }

    /// Looks at every message so far.
    pub(crate) fn heard<T>(&self, look: impl FnOnce(&mut Vec<Message>) -> T) -> T {
        let mut heard = self.shared.heard.lock().unwrap();
        self.shared.read(&mut heard);
        look(&mut heard)
    }

    /// Returns when it is so; blocks.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        find(|| format!("{what}; it has received {:?}", self.texts()), || so(self).then_some(()));
    }

    /// Returns when it is so; for a runtime with one thread.
    #[track_caller]
    pub(crate) fn wait_async(&self, what: &str, so: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        find_async(move || format!("{what}; it has received {:?}", self.texts()), move || so(self).then_some(()))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, SeqCst);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "it received nonsense");
    }
}

impl Shared {
    fn listen(&self) {
        let timeout = Timespec::try_from(LOOK).expect("a short time");
        while !self.has_ended.load(SeqCst) {
            let is_deaf = self.is_deaf.load(SeqCst);
            self.is_quiet.store(is_deaf, SeqCst);
            if is_deaf {
                thread::park_timeout(LOOK);
            } else if poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
            {
                self.read(&mut self.heard.lock().unwrap());
            }
        }
    }

    /// Reads what is in the queue.
    fn read(&self, heard: &mut Vec<Message>) {
        while !self.is_deaf.load(SeqCst) {
            let Some(mut message) = receive(&self.socket) else { break };
            if message.text.lines().any(|line| line == "BARRIER=1") {
                assert_eq!((message.text.as_str(), message.fds.len()), ("BARRIER=1\n", 1), "it must be alone");
                if !self.holds_barriers.load(SeqCst) {
                    message.fds.clear();
                }
            }
            heard.push(message);
        }
    }
}

impl Message {
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = String> + use<> {
        let lines: Vec<_> = self.text.lines().map(str::to_owned).collect();
        let start = format!("{key}=");
        lines.into_iter().filter_map(move |line| line.strip_prefix(&start).map(str::to_owned))
    }

    pub(crate) fn says(&self, line: &str) -> bool {
        self.text.lines().any(|said| said == line)
    }
}

fn receive(socket: &UnixDatagram) -> Option<Message> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).ok()?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let text = std::str::from_utf8(&bytes[..received.bytes]).expect("UTF-8").to_owned();
    Some(Message { text, fds })
}
