//! What `systemctl show` says of a service, looked at every 20 ms.

use std::{fmt, fs, process::Child, time::Instant};

use super::systemd::Systemd;

const STOP: &str = "/run/looked-enough";
/// Not a pipe, which takes some 500 looks and no more until it is read.
const SEEN: &str = "/run/looked";

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) active: String,
    pub(crate) sub: String,
    pub(crate) main_pid: u32,
    pub(crate) status: String,
    /// Whether there was such a process just after.
    pub(crate) lives: bool,
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Looks(pub(crate) Vec<Look>);

/// Looks until it is asked to stop.
#[derive(Debug)]
pub(crate) struct Looking(Child, Instant);

impl Looking {
    pub(crate) fn start(systemd: &Systemd, unit: &str) -> Self {
        let script = format!(
            "exec >{SEEN}; while :; do e=; [ -e {STOP} ] && e=1; \
             s=$(systemctl show -p ActiveState,SubState,MainPID,StatusText {unit}); \
             p=${{s##*MainPID=}}; p=${{p%%[!0-9]*}}; l=; [ -e /proc/$p/exe ] && l=1; echo \"$s\"; echo \"Lives=$l\"; \
             echo; [ $e ] && exit; sleep 0.01; done"
        );
        let command = systemd.command(&["sh", "-c", &script]).spawn();
        Self(command.expect("the script of the harness runs"), Instant::now())
    }

    /// Looks once more, and prints the story.
    pub(crate) fn stop(mut self, systemd: &Systemd) -> Looks {
        fs::write(systemd.path(STOP), "").expect("a file in /run");
        assert!(self.0.wait().expect("it ends").success());
        let looks = fs::read_to_string(systemd.path(SEEN)).expect("text");
        let looks = looks.split("\n\n").filter(|look| !look.is_empty()).map(Look::parse).collect();
        let looks = Looks(looks);
        println!("{} looks in {:?}\n{}", looks.0.len(), self.1.elapsed(), looks.story());
        looks
    }
}

impl Looks {
    /// Fails where one is not true, or a process is named though it has ended.
    #[track_caller]
    pub(crate) fn assert_all(&self, is_true: impl Fn(&Look) -> bool) {
        for look in &self.0 {
            assert!(is_true(look), "wrong: {look}\nin\n{}", self.story());
        }
        // A process that has just ended may be named once, until systemd hears of it.
        for pair in self.0.windows(2) {
            let is_dead = |look: &Look| look.main_pid > 0 && !look.lives;
            let twice = pair[0].main_pid == pair[1].main_pid && is_dead(&pair[0]) && is_dead(&pair[1]);
            assert!(!twice, "named though dead: {}\nin\n{}", pair[1], self.story());
        }
    }

    /// The main processes, one after the other.
    pub(crate) fn main_pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.0.iter().map(|look| look.main_pid).collect();
        pids.dedup();
        pids
    }

    pub(crate) fn saw(&self, is_it: impl Fn(&Look) -> bool) -> bool {
        self.0.iter().any(is_it)
    }

    /// What has changed.
    pub(crate) fn story(&self) -> String {
        let mut changes = self.0.clone();
        changes.dedup();
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

impl Look {
    /// Whether the status begins with one of these.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.status.starts_with(word))
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        let main_pid = value("MainPID").parse().expect("a pid");
        let (active, sub) = (value("ActiveState"), value("SubState"));
        Self { active, sub, main_pid, status: value("StatusText"), lives: !value("Lives").is_empty() }
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { active, sub, main_pid, status, lives } = self;
        write!(f, "{active} ({sub}), main process {main_pid} (lives: {lives}), {status:?}")
    }
}
