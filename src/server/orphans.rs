//! Children that ended and that nobody waits for: PID 1 inherits them, and has to.
//!
//! The kernel does not tell whether a zombie was started by this process or inherited: both are its children. So each is left
//! alone for a while, in which whoever has started it takes its status; what is left then has nobody. A pidfd is held
//! meanwhile, so that it is that process which is reaped and not another that has got its number.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use tokio::{
    signal::unix::{Signal, SignalKind},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{blocking::on_thread_or_here, log, sys::signals::handle};

/// How often to look, at most, while there are zombies.
const INTERVAL: Duration = Duration::from_millis(500);

/// Reaps what nobody has waited for in that time, until the handle is dropped; `None` where that is not to be done.
pub(super) fn reap(within: Duration) -> Option<AbortOnDropHandle<()>> {
    if getpid() != Pid::INIT {
        return None;
    }
    if let Err(error) = check_proc() {
        log::warn!(%error, "orphans that end stay behind as zombies: /proc is not that of this pid namespace");
        return None;
    }
    match handle(SignalKind::child()) {
        Ok(ended) => Some(AbortOnDropHandle::new(tokio::spawn(watch(ended, within)))),
        Err(error) => {
            log::warn!(%error, "orphans that end stay behind as zombies: SIGCHLD cannot be handled");
            None
        }
    }
}

/// In the procfs of another pid namespace the numbers are those of other processes.
fn check_proc() -> io::Result<()> {
    let own = fs::read_link("/proc/self")?;
    if own == Path::new("1") { Ok(()) } else { Err(io::Error::other(format!("/proc/self is {}", own.display()))) }
}

/// Looks when a child ends, and then as long as there are zombies.
async fn watch(mut ended: Signal, within: Duration) {
    let mut zombies = Zombies { within, since: HashMap::new() };
    loop {
        // Off the runtime: /proc is read.
        zombies = match on_thread_or_here(move || zombies.look()).await {
            Ok(zombies) => zombies,
            Err(_) => return,
        };
        if zombies.since.is_empty() {
            ended.recv().await;
        }
        sleep(INTERVAL.min(within)).await;
    }
}

/// Children that have ended, and since when that is known.
#[derive(Debug)]
struct Zombies {
    within: Duration,
    since: HashMap<Pid, Zombie>,
}

#[derive(Debug)]
struct Zombie {
    process: OwnedFd,
    seen: Instant,
}

impl Zombies {
    /// Looks for new ones, and reaps those whose time is over.
    fn look(mut self) -> Self {
        self.since.retain(|_, zombie| is_zombie(zombie));
        for pid in zombie_children() {
            if let (false, Ok(process)) = (self.since.contains_key(&pid), pidfd_open(pid, PidfdFlags::empty())) {
                self.since.insert(pid, Zombie { process, seen: Instant::now() });
            }
        }
        let within = self.within;
        self.since.retain(|pid, zombie| zombie.seen.elapsed() < within || !reaped(*pid, zombie));
        self
    }
}

/// Whether nobody has waited for it yet.
fn is_zombie(zombie: &Zombie) -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::PidFd(zombie.process.as_fd()), peek), Ok(Some(_)))
}

fn reaped(pid: Pid, zombie: &Zombie) -> bool {
    let taken = waitid(WaitId::PidFd(zombie.process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    log::debug!(pid = pid.as_raw_nonzero(), ?taken, "reaped an orphan that nobody waited for");
    true
}

/// The children of this process that have ended, by /proc/PID/stat (`proc_pid_stat(5)`).
fn zombie_children() -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| stat(*pid).is_some_and(|stat| is_zombie_of_pid_one(&stat))).collect()
}

fn stat(pid: Pid) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()
}

/// The name, which may contain anything, ends with the last parenthesis; state and parent follow.
fn is_zombie_of_pid_one(stat: &str) -> bool {
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z 1 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_told_by_its_state_and_its_parent_whatever_its_name() {
        assert!(is_zombie_of_pid_one("7 (sh) Z 1 7 7 0"));
        assert!(is_zombie_of_pid_one("7 (a) S 1 (b) Z 1 7 7 0"));
        assert!(!is_zombie_of_pid_one("7 (sh) Z 12 7 7 0"));
        assert!(!is_zombie_of_pid_one("7 () Z 1 ) S 1 7 7 0"));
        assert!(!is_zombie_of_pid_one(""));
    }

    #[tokio::test]
    async fn only_pid_one_reaps() {
        assert!(reap(Duration::ZERO).is_none());
    }
}
