//! A process that a test has started, and whatever that starts: what they say, what they are sent, and how it ends.
//!
//! What they say are lines of the pipe that they share; its end is the end of the last of them.

use std::{
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::wait::{LIMIT, find};

/// A process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process<T = String> {
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<Said<T>>,
}

#[derive(Debug)]
struct Said<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

#[derive(Debug)]
struct State<T> {
    lines: Vec<T>,
    /// No process is left that could say anything.
    is_over: bool,
}

impl Process {
    /// Starts it. What it says is standard output or standard error, whichever is a pipe.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_parsed(command, |line| Some(line.to_owned()))
    }

    /// The next line that it says, without its end.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.take(|_| true)
    }

    /// Closes its input and waits for its end, which must be a good one: what it still said.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        let status = self.end();
        let said: String = self.lines().iter().flat_map(|line| [line, "\n"]).collect();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl<T: Clone + Debug + Send + 'static> Process<T> {
    /// Starts it; only those lines count of which `parse` makes something.
    pub(crate) fn start_parsed(command: &mut Command, parse: fn(&str) -> Option<T>) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let said =
            Arc::new(Said { state: Mutex::new(State { lines: Vec::new(), is_over: false }), news: Condvar::new() });
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let pipe = stdout.or_else(|| child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
        if let Some(pipe) = pipe {
            let said = Arc::clone(&said);
            thread::spawn(move || said.listen(pipe, parse));
        }
        Self { input: child.stdin.take(), child, said }
    }

    /// Returns when such a line was said, and takes it away.
    #[track_caller]
    pub(crate) fn take(&self, is_it: impl Fn(&T) -> bool) -> T {
        let mut state = self.wait(|state| state.lines.iter().any(&is_it));
        let found = state.lines.iter().position(is_it);
        let found = found.map(|at| state.lines.remove(at));
        found.unwrap_or_else(|| panic!("it was not said before the end, but {:?}", state.lines))
    }

    /// Returns when so many such lines were said, or no more can be: those.
    pub(crate) fn wait_for(&self, count: usize, is_it: impl Fn(&T) -> bool) -> Vec<T> {
        let found = |state: &State<T>| state.lines.iter().filter(|line| is_it(line)).cloned().collect::<Vec<_>>();
        found(&self.wait(|state| state.lines.iter().filter(|line| is_it(line)).count() >= count))
    }

    /// Returns when no process is left that could say anything; whether that has come.
    pub(crate) fn wait_for_all(&self) -> bool {
        self.wait(|_| false).is_over
    }

    /// What was said so far and not taken away.
    pub(crate) fn lines(&self) -> Vec<T> {
        self.said.state().lines.clone()
    }

    /// Sends a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("its input is a pipe"), "{line}").expect("it reads its input");
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let pid = self.pid();
        find(|| format!("the end of process {pid}"), || self.ended())
    }

    /// Closes its input, and waits for its end and for the last line.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.close_input();
        self.wait_for_all();
        self.status()
    }

    fn wait(&self, is_it: impl Fn(&State<T>) -> bool) -> MutexGuard<'_, State<T>> {
        let waiting = |state: &mut State<T>| !state.is_over && !is_it(state);
        self.said.news.wait_timeout_while(self.said.state(), LIMIT, waiting).expect("no reader panics").0
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<T> Said<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no reader panics")
    }

    fn listen(&self, pipe: impl Read, parse: fn(&str) -> Option<T>) {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if let Some(line) = parse(&String::from_utf8_lossy(&line)) {
                self.state().lines.push(line);
                self.news.notify_all();
            }
        }
        self.state().is_over = true;
        self.news.notify_all();
    }
}

/// Whether there is such a process, and no mere zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    test_kill_process(as_pid(pid)).is_ok()
        && stat.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

pub(crate) fn as_pid(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid")
}
