//! What `systemctl show` says, looked at every 20 ms through a service's life, is never wrong.

use std::{
    fmt, fs,
    io::Read,
    process::{Child, Stdio},
    thread,
    time::Instant,
};

use crate::{
    server::units,
    systemd::{Rig, eventually},
};

const UNIT: &str = "managed.service";
const STOP: &str = "/run/looked-enough";

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    active: String,
    sub: String,
    main_pid: u32,
    status: String,
    /// Whether there was such a process just after.
    lives: bool,
}

/// Looks until it is told to stop.
#[derive(Debug)]
struct Looking(Child, Instant);

impl Looking {
    fn start(rig: &Rig) -> Self {
        let script = format!(
            "while :; do e=; [ -e {STOP} ] && e=1; \
             s=$(systemctl show -p ActiveState,SubState,MainPID,StatusText {UNIT}); \
             p=${{s##*MainPID=}}; p=${{p%%[!0-9]*}}; l=; [ -e /proc/$p/exe ] && l=1; echo \"$s\"; echo \"Lives=$l\"; \
             echo; [ $e ] && exit; sleep 0.01; done"
        );
        Self(rig.command(&["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap(), Instant::now())
    }

    fn stop(mut self, rig: &Rig) -> Vec<Look> {
        fs::write(rig.path(STOP), "").unwrap();
        let mut looks = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut looks).unwrap();
        assert!(self.0.wait().unwrap().success());
        looks.split("\n\n").filter(|look| !look.is_empty()).map(Look::parse).collect()
    }
}

impl Look {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        let main_pid = value("MainPID").parse().unwrap();
        let (active, sub) = (value("ActiveState"), value("SubState"));
        Self { active, sub, main_pid, status: value("StatusText"), lives: !value("Lives").is_empty() }
    }

    /// What is said of a state and of what is done in it is one and the same.
    fn is_true(&self) -> bool {
        let says = |words: &[&str]| words.iter().any(|word| self.status.starts_with(word));
        let has_process = self.main_pid > 0;
        match (self.active.as_str(), self.sub.as_str()) {
            // The last words of the one before are still there, and it has no process.
            ("activating", "auto-restart") | ("inactive" | "failed", _) => !has_process,
            ("activating", _) => has_process && (self.status.is_empty() || says(&["starting: "])),
            ("active", _) => has_process && says(&["serving: "]),
            // It is told to stop, and then it does.
            ("deactivating", _) => says(&["serving: ", "starting: ", "draining: ", "drained in "]),
            _ => false,
        }
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { active, sub, main_pid, status, lives } = self;
        write!(f, "{active} ({sub}), main process {main_pid} (lives: {lives}), {status:?}")
    }
}

#[test]
fn what_systemctl_shows_every_20_ms_is_never_wrong() {
    let rig = Rig::boot(&units(("WatchdogSec=10", "WatchdogSec=1"), "Environment=TOKIO_WORKER_THREADS=1"));
    let get = |path: &str| rig.curl(&[&format!("http://127.0.0.1:8080{path}")]);
    let main_pid = || rig.property(UNIT, "MainPID");
    let looking = Looking::start(&rig);
    get("/");
    thread::scope(|scope| {
        let slow = scope.spawn(|| get("/slow/3"));
        eventually("the request is in flight", || rig.property(UNIT, "StatusText").contains("1 request in flight"));
        rig.run(&["systemctl", "restart", UNIT]);
        assert_eq!(slow.join().unwrap(), "done");
    });
    let killed = main_pid();
    rig.run(&["systemctl", "kill", "--signal=KILL", UNIT]);
    eventually("another is started", || !["0", &killed].contains(&main_pid().as_str()));
    get("/");
    rig.exec(&["curl", "-sS", "http://127.0.0.1:8080/block/60"]);
    get("/");
    rig.run(&["systemctl", "stop", UNIT]);
    let began = looking.1;
    let looks = looking.stop(&rig);

    let mut changes = looks.clone();
    changes.dedup();
    let story: Vec<_> = changes.iter().map(ToString::to_string).collect();
    let story = story.join("\n");
    println!("{} looks in {:?}\n{story}", looks.len(), began.elapsed());
    for look in &looks {
        assert!(look.is_true(), "wrong: {look}\nin\n{story}");
    }
    // A process that has just ended may be named once, until systemd hears of it.
    for pair in looks.windows(2) {
        let is_dead = |look: &Look| look.main_pid > 0 && !look.lives;
        let twice = pair[0].main_pid == pair[1].main_pid && is_dead(&pair[0]) && is_dead(&pair[1]);
        assert!(!twice, "named though dead: {}\nin\n{story}", pair[1]);
    }
    for state in ["activating", "active", "deactivating", "inactive"] {
        assert!(looks.iter().any(|look| look.active == state), "{state} was not seen:\n{story}");
    }
    assert!(looks.iter().any(|look| look.status.starts_with("draining: waiting for 1 request")), "{story}");
    let last = looks.last().unwrap();
    assert!(last.active == "inactive" && last.status.starts_with("drained in "), "{last}");
}
