//! The start of a program, whole: what the new process has, what this one keeps, and what is left of a start that fails.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;

/// How long anything may take that takes no time; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// `sh -c SCRIPT`, at the root directory.
fn shell(script: &str) -> Program {
    let arguments = ["sh", "-c", script].map(Into::into).into();
    Program {
        path: "/bin/sh".into(),
        arguments,
        environment: Vec::new(),
        directory: "/".into(),
        fds: Vec::new(),
        open_files: None,
        ignored: Vec::new(),
    }
}

fn nothing() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// All that a shell writes to its descriptor 3, until it ends.
fn said(mut program: Program) -> String {
    let (reader, writer) = pipe().unwrap();
    program.fds.insert(0, writer);
    program.start().unwrap();
    drop(program);
    let mut said = String::new();
    File::from(reader).read_to_string(&mut said).unwrap();
    said
}

#[track_caller]
fn assert_ends(process: &Process) {
    let deadline = Instant::now() + PATIENCE;
    while !process.is_gone() {
        assert!(Instant::now() < deadline, "process {} has not ended", process.pid());
        std::thread::yield_now();
    }
}

/// A process that is not ours, by its number, while it is known to run.
fn held(pid: u32) -> Process {
    let number = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    Process::new(pid, pidfd_open(number, PidfdFlags::empty()).unwrap())
}

#[test]
fn the_process_has_its_own_number_in_its_environment() {
    let mut program = shell("echo $A $$ >&3");
    program.environment.push(("A".into(), Value::OwnPid));
    let said = said(program);
    let (variable, own) = said.trim().split_once(' ').unwrap();
    assert_eq!(variable, own);
}

#[test]
fn the_process_is_a_child_of_none_of_ours_and_reaped_by_another() {
    let said = said(shell("echo $PPID >&3"));
    assert_ne!(said.trim(), std::process::id().to_string());
    let parent = Path::new("/proc").join(said.trim()).join("stat");
    assert!(parent.exists(), "its parent lives");
}

#[test]
fn signals_are_as_a_new_program_expects_them() {
    let said = said(shell("exec grep -E 'SigBlk|SigIgn' /proc/self/status >&3"));
    let mask = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigIgn:") & (1 << (libc::SIGPIPE - 1)), 0, "every Rust program ignores it");
}

#[test]
fn signals_that_are_to_be_ignored_do_not_end_the_process() {
    let mut program = shell("kill -HUP $$; kill -USR2 $$; echo lives >&3");
    program.ignored = vec![libc::SIGHUP, libc::SIGUSR2];
    assert_eq!(said(program), "lives\n");
}

#[test]
fn the_soft_limit_of_open_files_is_as_it_is_asked_for() {
    let mut program = shell("ulimit -Sn >&3");
    program.open_files = Some(77);
    assert_eq!(said(program), "77\n");
}

#[test]
fn who_waits_holds_nothing_of_ours_but_what_he_is_passed() {
    let mut program = shell("");
    program.fds = vec![nothing(), nothing()];
    let others: Vec<_> = (0..50).map(|_| nothing()).collect();
    let waiting = program.launch().unwrap();
    let table = Path::new("/proc").join(waiting.process().pid().to_string()).join("fd");
    let open = || std::fs::read_dir(&table).unwrap().count();
    let deadline = Instant::now() + PATIENCE;
    // The standard streams, the two that it is passed, the gate and the report.
    while open() != 7 {
        assert!(Instant::now() < deadline, "{} are open", open());
        std::thread::yield_now();
    }
    drop(others);
}

#[test]
fn who_waits_shares_our_memory_so_that_a_big_process_starts_as_fast_as_a_small_one() {
    const KCMP_VM: libc::c_long = 1;
    let waiting = shell("").launch().unwrap();
    let [ours, theirs] = [std::process::id(), waiting.process().pid()].map(libc::c_long::from);
    let nothing: libc::c_long = 0;
    // SAFETY: compares two processes by number and reads nothing of ours.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, ours, theirs, KCMP_VM, nothing, nothing) };
    assert_eq!(order, 0, "kcmp(2): {}", io::Error::last_os_error());
}

#[test]
fn a_process_that_is_stopped_while_it_waits_delays_no_caller_that_drops_it() {
    let waiting = shell("").launch().unwrap();
    let process = held(waiting.process().pid());
    rustix::process::pidfd_send_signal(waiting.process(), rustix::process::Signal::STOP).unwrap();
    drop(waiting);
    assert_ends(&process);
}

#[test]
fn who_is_dropped_before_he_may_go_on_never_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let waiting = shell(&format!(": >{}", mark.display())).launch().unwrap();
    let process = held(waiting.process().pid());
    assert!(!process.is_gone());
    drop(waiting);
    assert_ends(&process);
    assert!(!mark.exists());
}

#[test]
fn a_process_is_killed_by_its_descriptor_and_its_end_is_seen() {
    let process = shell("exec sleep 1000").start().unwrap();
    assert!(!process.is_gone());
    process.kill().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let waiting = async {
        let both = async { tokio::join!(process.ended(), process.ended()) };
        tokio::time::timeout(PATIENCE, both).await.expect("its end is seen")
    };
    let (first, second) = runtime.block_on(waiting);
    first.and(second).unwrap();
    process.kill().expect("it is gone, which is what was wanted");
}

#[test]
fn how_a_process_has_ended_is_known() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (script, says) in [("kill -HUP $$", "signal: 1 (SIGHUP)"), ("exit 3", "exit status: 3")] {
        let process = shell(script).start().unwrap();
        assert_ends(&process);
        let status = runtime.block_on(process.exit_status(PATIENCE));
        assert_eq!(status.map(|status| status.to_string()).as_deref(), Some(says));
    }
    let runs = shell("exec sleep 1000").start().unwrap();
    assert_eq!(runtime.block_on(runs.exit_status(Duration::ZERO)), None);
    runs.kill().unwrap();
}

#[test]
fn what_cannot_be_executed_says_at_which_step_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, "no program").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    for (path, errno) in [
        (folder.path().join("missing"), libc::ENOENT),
        (folder.path().to_owned(), libc::EACCES),
        (file("plain", 0o644), libc::EACCES),
        (file("words", 0o755), libc::ENOEXEC),
        (file("not_a_folder", 0o755).join("x"), libc::ENOTDIR),
    ] {
        let failure = Program { path, ..shell("") }.start().unwrap_err();
        assert_eq!((failure.step, failure.source.raw_os_error()), (Step::Exec, Some(errno)));
    }
    let failure = Program { directory: folder.path().join("missing"), ..shell("") }.start().unwrap_err();
    assert_eq!((failure.step, failure.source.raw_os_error()), (Step::Directory, Some(libc::ENOENT)));
    let failure = Program { arguments: vec!["a\0b".into()], ..shell("") }.start().unwrap_err();
    assert_eq!(failure.step, Step::Prepare);
}

#[test]
fn many_can_be_started_at_once() {
    let start = || {
        for _ in 0..50 {
            let mut program = shell("echo done >&3");
            program.fds = vec![nothing(), nothing()];
            assert_eq!(said(program), "done\n");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(start);
        }
    });
}

#[test]
fn no_other_code_here_meets_a_child_that_it_has_not_started() {
    let mut scene = Scene::start("children");
    assert_eq!(scene.line(), "no child, and none that has changed");
}

#[test]
fn all_that_wait_end_with_their_starter() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut scene = Scene::start(&format!("wait {}", mark.display()));
    let waiting: Vec<_> = (0..3).map(|_| held(scene.line().parse().unwrap())).collect();
    assert!(waiting.iter().all(|process| !process.is_gone()));
    scene.0.kill().unwrap();
    waiting.iter().for_each(assert_ends);
    assert!(!mark.exists());
}

/// Does nothing but in a process that another test started.
#[test]
fn scene() {
    let Ok(scene) = env::var("EXEC_SCENE") else { return };
    match scene.split_once(' ') {
        Some(("wait", mark)) => wait_for_ever(mark),
        _ => meet_children(),
    }
}

fn wait_for_ever(mark: &str) {
    let program = shell(&format!(": >{mark}"));
    let waiting: Vec<_> = (0..3).map(|_| program.launch().unwrap()).collect();
    for waiting in &waiting {
        println!("\n\u{1}{}", waiting.process().pid());
    }
    loop {
        std::thread::park();
    }
}

/// With plain `wait`s in another thread all the time.
fn meet_children() {
    let started = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !started.load(std::sync::atomic::Ordering::Relaxed) {
                let met = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                assert_eq!(met.unwrap_err(), rustix::io::Errno::CHILD);
            }
        });
        for _ in 0..100 {
            shell("").start().unwrap();
        }
        started.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("\n\u{1}no child, and none that has changed");
}

/// This test binary once more; killed when dropped.
struct Scene(Child, BufReader<std::process::ChildStdout>);

impl Scene {
    fn start(scene: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "sys::exec::tests::scene", "--nocapture", "--quiet"]);
        let mut child = command.env("EXEC_SCENE", scene).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    fn line(&mut self) -> String {
        let mut lines = self.1.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix('\u{1}').map(str::to_owned)).expect("it says so")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
