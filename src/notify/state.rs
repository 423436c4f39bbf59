//! The messages to a service manager, and how `sd_notify(3)` writes them.

use std::{fmt::Write as _, os::fd::OwnedFd, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

/// The longest status that is sent. systemd ignores a message of more than 4,096 bytes.
const LONGEST_STATUS: usize = 1024;

/// The longest name in systemd's fd store.
const LONGEST_NAME: usize = 255;

/// What a service reports about itself, as `sd_notify(3)` lists it.
///
/// States that belong together go in one [`Notifier::notify`](super::Notifier::notify), so that the manager sees them
/// at one time.
///
/// ```
/// use axum_activation::notify::{Notifier, State};
///
/// let notifier = Notifier::none();
/// notifier.notify([State::Ready, State::Status("serving".into())]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// `READY=1`: the service has started, or has reloaded. `systemctl start` of a `Type=notify` unit returns then.
    Ready,
    /// `RELOADING=1`, with the `MONOTONIC_USEC=` of now. [`Ready`](Self::Ready) ends the reload.
    Reloading,
    /// `STOPPING=1`: the service has started to end. systemd takes no [`Ready`](Self::Ready) after it.
    Stopping,
    /// `STATUS=`: what the service is doing, for people; `systemctl status` shows it. Line breaks become spaces, and it
    /// ends after 1,024 bytes.
    Status(String),
    /// `ERRNO=`: the error number of what went wrong, `errno(3)`.
    Errno(i32),
    /// `MAINPID=`: which process is the main one from now on. systemd takes a process of the unit's control group.
    MainPid(u32),
    /// `EXTEND_TIMEOUT_USEC=`: a start, a reload or a stop may take that much longer, from now.
    ExtendTimeout(Duration),
    /// `WATCHDOG=1`: the service is well.
    Watchdog,
    /// `WATCHDOG=trigger`: the service is not well, and asks to be treated as one whose watchdog has run out.
    WatchdogTrigger,
}

impl State {
    fn write(&self, text: &mut String) {
        let line = match self {
            Self::Ready => "READY=1".to_owned(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()),
            Self::Stopping => "STOPPING=1".to_owned(),
            Self::Status(status) => format!("STATUS={}", one_line(status)),
            Self::Errno(errno) => format!("ERRNO={errno}"),
            Self::MainPid(pid) => format!("MAINPID={pid}"),
            Self::ExtendTimeout(time) => format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()),
            Self::Watchdog => "WATCHDOG=1".to_owned(),
            Self::WatchdogTrigger => "WATCHDOG=trigger".to_owned(),
        };
        let _ = writeln!(text, "{line}");
    }

    /// One bit for each state that a later one of its kind replaces; `None` for a state that changes something.
    fn repeats(&self) -> Option<u8> {
        match self {
            Self::Status(_) => Some(1),
            Self::ExtendTimeout(_) => Some(2),
            Self::Watchdog => Some(4),
            _ => None,
        }
    }
}

/// One datagram.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) fd: Option<OwnedFd>,
    /// Gets the result of sending it.
    pub(super) sent: Option<oneshot::Sender<std::io::Result<()>>>,
    /// The bits of what it repeats, if it does nothing else.
    repeats: Option<u8>,
    /// The bits of what it has that may be repeated.
    says: u8,
}

impl Message {
    pub(super) fn of(states: impl IntoIterator<Item = State>) -> Self {
        let mut message = Self { repeats: Some(0), ..Self::default() };
        for state in states {
            state.write(&mut message.text);
            let bit = state.repeats();
            message.says |= bit.unwrap_or(0);
            message.repeats = message.repeats.zip(bit).map(|(all, bit)| all | bit);
        }
        message
    }

    /// `FDSTORE=1`; polled or not, as `FDPOLL=` has it.
    pub(super) fn store(name: &str, fd: OwnedFd, polled: bool) -> Self {
        let poll = if polled { "" } else { "FDPOLL=0\n" };
        let text = format!("FDSTORE=1\nFDNAME={}\n{poll}", fd_name(name));
        Self { text, fd: Some(fd), ..Self::default() }
    }

    pub(super) fn remove(name: &str) -> Self {
        Self { text: format!("FDSTOREREMOVE=1\nFDNAME={}\n", fd_name(name)), ..Self::default() }
    }

    /// `BARRIER=1`, which must be alone.
    pub(super) fn barrier(writer: OwnedFd) -> Self {
        Self { text: "BARRIER=1\n".to_owned(), fd: Some(writer), ..Self::default() }
    }

    /// A message that is never sent, but has its turn. It says when all messages before it are sent.
    pub(super) fn mark() -> Self {
        Self::default()
    }

    /// Whether an earlier message may be superseded by it.
    pub(super) fn supersedes(&self) -> bool {
        self.says != 0
    }

    /// Whether `later` has everything that it has, so that it need not be sent.
    pub(super) fn is_superseded_by(&self, later: &Self) -> bool {
        self.repeats.is_some_and(|repeats| repeats & !later.says == 0)
    }
}

/// `text` as one line, not too long.
fn one_line(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST_STATUS)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let line: String = text[..end].chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    line.trim_end().to_owned()
}

/// `name` with what a name cannot carry replaced; systemd would store it under `stored`.
fn fd_name(name: &str) -> String {
    let legal = |char: char| if char == ':' || !char.is_ascii() || char.is_ascii_control() { '_' } else { char };
    name.chars().take(LONGEST_NAME).map(legal).collect()
}

fn monotonic_usec() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_lines_of_one_message() {
        let message = Message::of([State::Ready, State::MainPid(7), State::ExtendTimeout(Duration::from_millis(1))]);
        assert_eq!(message.text, "READY=1\nMAINPID=7\nEXTEND_TIMEOUT_USEC=1000\n");
        let reloading = Message::of([State::Reloading]).text;
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!((1..=monotonic_usec()).contains(&usec.parse().unwrap()));
    }

    #[test]
    fn a_status_is_one_line_and_not_too_long() {
        let text = |status: &str| Message::of([State::Status(status.to_owned())]).text;
        assert_eq!(text("one\nREADY=1\r\n\0two\n"), "STATUS=one READY=1   two\n");
        assert_eq!(text(&"é".repeat(600)), format!("STATUS={}\n", "é".repeat(512)));
        assert_eq!(text(&format!("x{}", "é".repeat(600))), format!("STATUS=x{}\n", "é".repeat(511)));
    }

    #[test]
    fn a_name_in_the_store_keeps_to_what_systemd_takes() {
        assert_eq!(Message::remove("http:\n\u{e9}").text, "FDSTOREREMOVE=1\nFDNAME=http___\n");
        assert_eq!(Message::remove(&"n".repeat(300)).text.trim_end().len(), "FDSTOREREMOVE=1\nFDNAME=".len() + 255);
    }

    #[test]
    fn only_what_is_said_anew_is_superseded() {
        let message = |states: &[State]| Message::of(states.iter().cloned());
        let (status, extend) = (State::Status("a".to_owned()), State::ExtendTimeout(Duration::ZERO));
        let cases = [
            (vec![status.clone()], vec![status.clone()], true),
            (vec![status.clone()], vec![State::Ready, status.clone()], true),
            (vec![status.clone(), extend.clone()], vec![status.clone()], false),
            (vec![extend.clone()], vec![status.clone(), extend], true),
            (vec![State::Ready, status.clone()], vec![State::Ready, status.clone()], false),
            (vec![State::Ready], vec![State::Ready], false),
            (vec![State::Watchdog], vec![status], false),
        ];
        for (earlier, later, superseded) in cases {
            assert_eq!(message(&earlier).is_superseded_by(&message(&later)), superseded, "{earlier:?} {later:?}");
        }
        assert!(!Message::mark().is_superseded_by(&message(&[State::Watchdog])));
    }
}
