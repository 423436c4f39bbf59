//! Starts the next process: as this one was started, with sockets as `LISTEN_FDS`.
//!
//! The environment is that of the first start, with the variables that speak of one process alone left out or set anew
//! ([`OWN`]): a `LISTEN_PID` of the old process would make the new one refuse its sockets.

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{policy::SUCCESSOR, started::StartedProcess};
use crate::{
    activation::{ActivatedListeners, BOUND, HELD_OFF, StartContext, check_name},
    blocking::on_thread_to_its_end,
    error::{Error, Kind},
    handoff::options::Options,
    log,
    sys::{
        exec::{Failure, Program, Step, Value},
        process::Process,
        signals, table,
    },
};

const PID: &str = "LISTEN_PID";
const FDS: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const DIRECTORY: &str = "PWD";

/// What speaks of one process alone, and would be stale in the next.
const OWN: [&str; 9] =
    [PID, "LISTEN_PIDFDID", FDS, "LISTEN_FDS_FIRST_FD", NAMES, WATCHDOG_PID, HELD_OFF, SUCCESSOR, BOUND];

/// Starts this program once more, and passes it `sockets` by name. Returns its process id when it runs.
///
/// Nothing is agreed upon with the new process: this one goes on serving, and ends when it likes. It is gracenet's
/// `StartProcess`.
///
/// - The program is looked up again at the path, with the arguments, the working directory and the environment of the
///   first start, so that a replaced file or a switched symbolic link is picked up.
/// - The sockets arrive as `sd_listen_fds(3)` has them, from descriptor 3 on. Standard input, output and error are
///   shared, and nothing else is.
/// - The new process is not a child of this one but of init, so this process need not wait for it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum_activation::{ActivatedListeners, handoff::start_process};
///
/// let activated = ActivatedListeners::from_env()?;
/// if activated.names().contains(&"http".to_owned()) {
///     return Ok(()); // this is the new process
/// }
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let pid = start_process([("http".to_owned(), listener.try_clone()?.into())]).await?;
/// println!("started {pid}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The path, the working directory or a name cannot be used, or the system refuses: nothing is left of the new process.
/// This process is PID 1, with which everything in its container ends.
///
/// # Cancel safety
///
/// If the future is dropped before it is done, the new process is killed, if it has been started at all.
///
/// # Panics
///
/// Outside a tokio runtime.
#[doc(alias = "StartProcess")]
pub async fn start_process(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Result<u32, Error> {
    if std::process::id() == 1 {
        return Err(Kind::SpawnAsInit.into());
    }
    let mut next = NextProcess::new();
    for (name, fd) in sockets {
        next = next.socket(name, fd);
    }
    Ok(next.start().await?.leave().map_or(0, |process| process.pid()))
}

impl ActivatedListeners {
    /// Starts this program once more and passes it all listeners of this set that are still accepted from or free, by
    /// name. Returns its process id when it runs. As [`start_process`], with what a successor gets in a handoff:
    /// gracenet's `StartProcess`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// if activated.iter().any(|socket| socket.is_passed()) {
    ///     return Ok(()); // this is the new process
    /// }
    /// let pid = activated.start_process().await?;
    /// println!("started {pid}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start_process`], or no descriptor is left to duplicate the listeners.
    ///
    /// # Cancel safety
    ///
    /// As [`start_process`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[doc(alias = "StartProcess")]
    pub async fn start_process(&self) -> Result<u32, Error> {
        let duplicates = self.for_successor().map_err(|source| Kind::Socket {
            name: self.names().join(", "),
            doing: "duplicate",
            source,
        })?;
        start_process(duplicates.into_iter().map(|socket| (socket.variable_name().to_owned(), socket.fd))).await
    }
}

/// The next process of this service, before it is started.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct NextProcess {
    sockets: Vec<(String, OwnedFd)>,
    overrides: Vec<(OsString, Option<OsString>)>,
    is_successor: bool,
    may_spawn: bool,
    /// Where it starts; without it where this process did.
    directory: Option<PathBuf>,
    /// Which of the sockets this service bound itself, by position.
    bound: Vec<usize>,
}

impl NextProcess {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// As the service has it, without sockets.
    pub(crate) fn of(options: &Options) -> Self {
        let directory = options.directory.clone();
        let overrides = directory.iter().map(|path| (DIRECTORY.into(), Some(path.into())));
        let overrides = overrides.chain(options.variables.iter().cloned()).collect();
        Self { overrides, directory, ..Self::default() }
    }

    /// Passes `fd` under `name`, at the next number from 3 on.
    pub(crate) fn socket(mut self, name: impl Into<String>, fd: OwnedFd) -> Self {
        self.sockets.push((name.into(), fd));
        self
    }

    /// As [`socket`](Self::socket), for one that this service bound itself.
    pub(crate) fn bound_socket(mut self, name: impl Into<String>, fd: OwnedFd) -> Self {
        self.bound.push(self.sockets.len());
        self.socket(name, fd)
    }

    /// Sets a variable that is otherwise as this process was given it; `None` removes it. What the activation itself says
    /// (`LISTEN_FDS` and its like) cannot be changed.
    pub(crate) fn variable(mut self, name: impl Into<OsString>, value: Option<OsString>) -> Self {
        self.overrides.push((name.into(), value));
        self
    }

    /// It may hand over by spawn, as this process may ([`SUCCESSOR`]).
    pub(crate) fn may_spawn(mut self) -> Self {
        self.may_spawn = true;
        self
    }

    /// It knows of the handoff: SIGHUP and SIGUSR2 do not end it before it has handlers for them. Another program would ignore both
    /// for good.
    pub(crate) fn successor(mut self) -> Self {
        self.is_successor = true;
        self
    }

    /// Starts it. Dropped before it is done, it leaves nothing running: it waits for the few milliseconds that a start takes, as this
    /// process may end right after.
    pub(crate) async fn start(self) -> Result<StartedProcess, Error> {
        let started = on_thread_to_its_end(|| self.start_blocking().map(StartedProcess::new)).await;
        started.map_err(|source| Kind::Start {
            program: StartContext::of_this_process().program.clone().unwrap_or_default(),
            remedy: source.to_string(),
            source,
        })?
    }

    /// As [`start`](Self::start), on this thread.
    pub(crate) fn start_blocking(self) -> Result<Process, Error> {
        let is_given = self.directory.is_some();
        let program = self.into_program(StartContext::of_this_process())?;
        let started = program.start().map_err(|failure| explain(&program, is_given, failure))?;
        log::debug!(pid = started.pid(), program = %program.path.display(), "started the next process");
        Ok(started)
    }

    fn into_program(self, context: &StartContext) -> Result<Program, Error> {
        let path = context.program.clone().ok_or_else(unknown_program)?;
        let directory = match self.directory {
            Some(given) => given,
            None => {
                note_old_release(context);
                context.directory.clone().ok_or_else(|| no_directory(&path))?
            }
        };
        let names = names(&self.sockets)?;
        let mut environment = environment(&context.environment, self.overrides, self.sockets.len(), names);
        if self.may_spawn {
            environment.push((SUCCESSOR.into(), Value::OwnPid));
        }
        let mut ignored = context.ignored.clone();
        if self.is_successor {
            let held_off: Vec<_> = signals::HANDOFF.into_iter().filter(|signal| !ignored.contains(signal)).collect();
            let bound: Vec<_> = self.bound.iter().map(usize::to_string).collect();
            environment.push((BOUND.into(), Value::Text(bound.join(" ").into())));
            environment.push((HELD_OFF.into(), Value::Text(list(&held_off).into())));
            ignored.extend(held_off);
        }
        let fds: Vec<_> = self.sockets.into_iter().map(|(_, fd)| fd).collect();
        let open_files = table::limit_of_next(fds.len());
        Ok(Program { path, arguments: context.arguments.clone(), environment, directory, fds, open_files, ignored })
    }
}

/// The numbers of signals.
fn list(signals: &[i32]) -> String {
    signals.iter().map(i32::to_string).collect::<Vec<_>>().join(" ")
}

fn names(sockets: &[(String, OwnedFd)]) -> Result<String, Error> {
    for (name, _) in sockets {
        check_name(name).map_err(|problem| Kind::Name { name: name.clone(), problem })?;
    }
    let names: Vec<_> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    Ok(names.join(":"))
}

fn environment(
    given: &[(OsString, OsString)],
    overrides: Vec<(OsString, Option<OsString>)>,
    count: usize,
    names: String,
) -> Vec<(OsString, Value)> {
    let mut variables = given.to_vec();
    for (name, value) in overrides {
        variables.retain(|(known, _)| *known != name);
        variables.extend(value.map(|value| (name, value)));
    }
    variables.retain(|(name, _)| !OWN.iter().any(|own| name == own));
    let watched = variables.iter().any(|(name, _)| name == WATCHDOG_USEC);
    let mut variables: Vec<_> = variables.into_iter().map(|(name, value)| (name, Value::Text(value))).collect();
    if watched {
        variables.push((WATCHDOG_PID.into(), Value::OwnPid));
    }
    if count > 0 {
        variables.push((PID.into(), Value::OwnPid));
        variables.push((FDS.into(), Value::Text(count.to_string().into())));
        variables.push((NAMES.into(), Value::Text(names.into())));
    }
    variables
}

fn unknown_program() -> Error {
    let remedy = "its path is not known: /proc is not mounted, and its first argument is no path; mount /proc, or start it \
                  by its path";
    let program = StartContext::of_this_process().arguments.first().map(PathBuf::from).unwrap_or_default();
    Kind::Start { program, remedy: remedy.to_owned(), source: io::ErrorKind::NotFound.into() }.into()
}

/// The program follows a symbolic link that was switched, and the directory does not.
fn note_old_release(context: &StartContext) {
    if let (Some(path), Some(directory)) = (context.switched_directory(), &context.directory) {
        log::warn!(
            "the next process runs in {}, which is no longer where {} leads; name that with Environment=PWD= in the unit, or with \
             successor_directory",
            directory.display(),
            path.display()
        );
    }
}

fn no_directory(program: &Path) -> Error {
    let remedy = "the working directory of the first start was gone already when it was asked for; start the program in one \
                  that stays (WorkingDirectory= in systemd.exec(5))";
    Kind::Start { program: program.to_owned(), remedy: remedy.to_owned(), source: io::ErrorKind::NotFound.into() }
        .into()
}

fn explain(program: &Program, is_given: bool, failure: Failure) -> Error {
    let Failure { step, source } = failure;
    let remedy = match step {
        Step::Exec => refused(&source).to_owned(),
        Step::Directory if is_given => format!(
            "it starts in {}, as successor_directory says, which cannot be entered; create it before the handoff",
            program.directory.display()
        ),
        Step::Directory => format!(
            "it starts in {}, the working directory of the first start, which cannot be entered; create it again, or start \
             the program in one that stays (WorkingDirectory= in systemd.exec(5)). Where that leads through a symbolic link, such as \
             /srv/app/current, say so with Environment=PWD=/srv/app/current in the unit, or with successor_directory",
            program.directory.display()
        ),
        Step::Prepare | Step::Descriptors => limited(&source, program.fds.len()),
        Step::Fork => not_forked(&source),
    };
    Kind::Start { program: program.path.clone(), remedy, source }.into()
}

/// What `clone(2)` means by that.
fn not_forked(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM) => {
            "the system gives no more processes; raise TasksMax= (systemd.resource-control(5)) or ulimit -u, or wait until \
             there is memory"
                .to_owned()
        }
        _ if error.kind() == io::ErrorKind::Unsupported => {
            format!("{error}: Linux 5.2 or later is needed, or this is a sandbox that is none; {MEET}")
        }
        _ => format!("the system refuses clone(2), as a sandbox does (seccomp, gVisor, qemu-user): {error}; {MEET}"),
    }
}

/// What works where this process cannot start another.
const MEET: &str = "start the next process from outside, and let both meet at a path (`handoff_socket`)";

/// What `execve(2)` means by that.
fn refused(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "nothing is there, or the interpreter that it names is missing; put the new version in place before the handoff"
        }
        Some(libc::EACCES) => "it is a directory, not executable (chmod +x), or on a file system mounted with noexec",
        Some(libc::ENOEXEC) => "it is neither a program for this machine nor a script that begins with #!",
        Some(libc::ETXTBSY) => "it is still being written; write a new version beside it and rename it over (mv)",
        Some(libc::E2BIG) => {
            "arguments, environment or the names of the sockets are too long (one variable: 128 kB); shorten the names"
        }
        Some(libc::ENOTDIR | libc::ELOOP) => {
            "a part of the path is no directory, or its symbolic links go round in circles"
        }
        _ => "the system refused it",
    }
}

fn limited(error: &io::Error, count: usize) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::EBADF | libc::EINVAL) => format!(
            "{count} sockets are to be passed, and the table of open files is full; raise LimitNOFILE= (ulimit -n), or close some"
        ),
        Some(libc::ENFILE) => "the system has no more open files; raise fs.file-max".to_owned(),
        Some(libc::ENOSYS) => format!("close_range(2) is missing; Linux 5.9 or later is needed, or {MEET}"),
        Some(libc::EPERM) => {
            format!("close_range(2) is forbidden, by a seccomp filter as containers have it; allow it there, or {MEET}")
        }
        _ => "the system refused it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(given: &[(&str, &str)], overrides: &[(&str, Option<&str>)], count: usize) -> Vec<(String, Value)> {
        let given: Vec<_> = given.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let overrides = overrides.iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        let variables = environment(&given, overrides, count, "a:b".to_owned());
        variables.into_iter().map(|(name, value)| (name.into_string().unwrap(), value)).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn what_speaks_of_one_process_is_its_own_or_absent() {
        let given = [
            ("LISTEN_PID", "1"),
            ("LISTEN_PIDFDID", "2"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "x"),
            ("WATCHDOG_PID", "4"),
            ("HOME", "/"),
        ];
        assert_eq!(next(&given, &[], 0), [("HOME".to_owned(), text("/"))]);
        let passed = [("LISTEN_PID", Value::OwnPid), ("LISTEN_FDS", text("2")), ("LISTEN_FDNAMES", text("a:b"))];
        assert_eq!(next(&[], &[], 2), passed.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn the_watchdog_follows_where_there_is_one() {
        let given = [("WATCHDOG_PID", "4"), ("WATCHDOG_USEC", "5")];
        assert_eq!(next(&given, &[], 0)[1], ("WATCHDOG_PID".to_owned(), Value::OwnPid));
        assert_eq!(next(&given, &[("WATCHDOG_USEC", None)], 0), []);
    }

    #[test]
    fn overrides_replace_add_and_remove() {
        let given = [("A", "1"), ("B", "2")];
        let overrides = [("A", Some("x")), ("B", None), ("C", Some("y")), ("LISTEN_FDS", Some("9"))];
        assert_eq!(next(&given, &overrides, 0), [("A".to_owned(), text("x")), ("C".to_owned(), text("y"))]);
    }

    #[test]
    fn a_name_that_cannot_be_passed_is_an_error() {
        let fd = || std::fs::File::open("/dev/null").unwrap().into();
        let error = names(&[("a:b".to_owned(), fd())]).unwrap_err();
        assert!(error.is_invalid_address(), "{error}");
        assert_eq!(names(&[("a".to_owned(), fd()), (String::new(), fd())]).unwrap(), "a:");
    }
}
