//! What this process was started as, kept for the day that it starts its successor: program, arguments, environment,
//! working directory.
//!
//! It is read at the first call, which comes early in `main`: before the program changes its directory, and before it
//! edits its environment. The next process gets what the first one got, so that nothing accumulates over generations.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, Metadata},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
};

use crate::{log, sys::signals};

/// What the kernel shows of a program that has been removed or replaced (`proc_pid_exe(5)`).
const DELETED: &[u8] = b" (deleted)";

/// The numbers of the signals that the predecessor has ignored on behalf of this process, until that has handlers for them.
pub(crate) const HELD_OFF: &str = "AXUM_ACTIVATION_HELD_OFF";

static START_CONTEXT: OnceLock<StartContext> = OnceLock::new();

/// Program, arguments, environment and working directory of the first start.
#[derive(Debug)]
pub(crate) struct StartContext {
    /// Absolute, with symbolic links as they were written: who switches one switches the program of the next start.
    pub(crate) program: Option<PathBuf>,
    /// From `argv[0]` on.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// `None` where it was gone already.
    pub(crate) directory: Option<PathBuf>,
    /// Those of SIGHUP and SIGUSR2 that were ignored (`nohup(1)`), but for those that the predecessor has ignored.
    pub(crate) ignored: Vec<i32>,
    /// The directory by the symbolic link through which the program was found, where its own path does not go through that.
    linked_directory: Option<PathBuf>,
    pub(crate) parent: Parent,
}

/// The process that was the parent at the first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// 0 for a parent outside of the pid namespace (`pid_namespaces(7)`).
    pub(crate) pid: u32,
    /// The first 15 bytes of its name (`proc_pid_comm(5)`); `None` where /proc does not show it.
    pub(crate) name: Option<String>,
}

impl StartContext {
    /// As remembered; the first call remembers, so it comes early: before anything changes the directory.
    pub(crate) fn of_this_process() -> &'static Self {
        START_CONTEXT.get_or_init(Self::look)
    }

    fn look() -> Self {
        let arguments: Vec<_> = env::args_os().collect();
        let directory = working_directory();
        let program = program(arguments.first().map_or(OsStr::new(""), OsString::as_os_str), directory.as_deref());
        let held_off = held_off();
        let is_ignored = |signal: &i32| signals::is_ignored(*signal) && !held_off.contains(signal);
        let ignored = signals::HANDOFF.into_iter().filter(is_ignored).collect();
        let linked_directory = program.as_deref().zip(directory.as_deref());
        let linked_directory = linked_directory.and_then(|(program, directory)| by_link_of(program, directory));
        Self {
            program,
            arguments,
            environment: env::vars_os().collect(),
            directory,
            ignored,
            linked_directory,
            parent: Parent::look(),
        }
    }

    /// Warns where the next process may run in the directory of another release than its program is of.
    pub(crate) fn note_releases(&self) {
        if let (Some(linked), Some(directory)) = (&self.linked_directory, &self.directory) {
            log::warn!(
                "the program was started through a symbolic link, and the working directory is known as {}: when the link is \
                 switched, the next process runs the new program there; say Environment=PWD={} in the unit, or successor_directory",
                directory.display(),
                linked.display()
            );
        }
    }

    /// The directory by the link of the program, where that leads to another place now.
    pub(crate) fn switched_directory(&self) -> Option<&Path> {
        let linked = self.linked_directory.as_deref()?;
        (fs::canonicalize(linked).ok().as_deref() != self.directory.as_deref()).then_some(linked)
    }

    /// The value of a variable of the first start; an empty one counts as unset.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str());
        value.filter(|value| !value.is_empty())
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.name) {
            (0, _) => f.write_str("a process outside of this pid namespace"),
            (pid, Some(name)) => write!(f, "PID {pid} ({name})"),
            (pid, None) => write!(f, "PID {pid}, whose name /proc does not show"),
        }
    }
}

impl Parent {
    fn look() -> Self {
        let pid = std::os::unix::process::parent_id();
        // In the procfs of another pid namespace the numbers are those of other processes.
        let is_own = fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&process::id().to_string()));
        let name = is_own.then(|| fs::read(format!("/proc/{pid}/comm")).ok()).flatten();
        let name = name.map(|name| String::from_utf8_lossy(&name).trim_end().to_owned());
        Self { pid, name }
    }
}

/// The signals that the predecessor has ignored on behalf of this process.
pub(crate) fn held_off() -> Vec<i32> {
    let listed = env::var(HELD_OFF).unwrap_or_default();
    let signals = listed.split(' ').filter_map(|signal| signal.parse().ok());
    signals.filter(|signal| signals::HANDOFF.contains(signal)).collect()
}

/// The path that a shell would show: `PWD` where it is true, as symbolic links are kept in it.
fn working_directory() -> Option<PathBuf> {
    let real = env::current_dir().ok()?;
    let shown = env::var_os("PWD").map(PathBuf::from).filter(|shown| shown.is_absolute() && is_same_file(shown, &real));
    Some(shown.unwrap_or(real))
}

/// Where the program was found: by its own name in the first argument, or where the kernel says it is.
///
/// A first argument without a slash is searched in `PATH`, and has to be this very program, as it may be any word. One with a
/// slash is trusted where there is a program: it may have been replaced since, or run by another (`ld.so`, `qemu`).
fn program(name: &OsStr, directory: Option<&Path>) -> Option<PathBuf> {
    let named = Path::new(name);
    let at_name = match name.as_bytes().contains(&b'/') {
        true => absolute(named, directory).filter(|path| is_program(path)),
        false => search(name, directory).find(|path| is_same_file(path, Path::new("/proc/self/exe"))),
    };
    at_name.or_else(|| fs::read_link("/proc/self/exe").ok().map(without_mark))
}

/// `/srv/app/current/data`, for a program `/srv/app/current/bin/app` and the directory `/srv/app/releases/7/data`.
///
/// Only for a link to something beside it: what leads elsewhere, or stands in the root directory (`/bin`), is none that a deploy
/// switches.
fn by_link_of(program: &Path, directory: &Path) -> Option<PathBuf> {
    let links = program.ancestors().skip(1).filter(|link| link.is_symlink());
    links.into_iter().find_map(|link| {
        let folder = fs::canonicalize(link.parent()?).ok().filter(|folder| folder != Path::new("/"))?;
        let release = fs::canonicalize(link).ok().filter(|release| release.starts_with(folder))?;
        directory.strip_prefix(release).ok().map(|inside| link.join(inside))
    })
}

fn absolute(path: &Path, directory: Option<&Path>) -> Option<PathBuf> {
    if path.is_absolute() { Some(path.to_owned()) } else { Some(directory?.join(path)) }
}

fn search<'a>(name: &'a OsStr, directory: Option<&'a Path>) -> impl Iterator<Item = PathBuf> + 'a {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let in_folder = move |folder: PathBuf| absolute(&folder.join(name), directory);
    folders.into_iter().filter_map(in_folder)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |file: Metadata| (file.dev(), file.ino());
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => identity(one) == identity(other),
        _ => false,
    }
}

/// The path as it was before the kernel marked it.
fn without_mark(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let length = bytes.strip_suffix(DELETED).map_or(bytes.len(), <[u8]>::len);
    OsString::from_vec(bytes[..length].to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_path_of_ours_gives_way_to_what_the_kernel_says() {
        let own = fs::read_link("/proc/self/exe").unwrap();
        for name in ["", "-login", "sh", "./no-such-program", "/no/such/program"] {
            assert_eq!(program(OsStr::new(name), Some(Path::new("/"))), Some(own.clone()), "{name}");
        }
    }

    #[test]
    fn a_path_is_kept_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("current");
        std::os::unix::fs::symlink(env::current_exe().unwrap(), &link).unwrap();
        assert_eq!(program(link.as_os_str(), None), Some(link.clone()));
        assert_eq!(program(OsStr::new("./current"), Some(folder.path())), Some(folder.path().join("./current")));
    }

    #[test]
    fn only_the_mark_of_the_kernel_is_taken_away() {
        for (shown, path) in [("/a/b (deleted)", "/a/b"), ("/a/b", "/a/b"), ("/a (deleted)/b", "/a (deleted)/b")] {
            assert_eq!(without_mark(shown.into()), PathBuf::from(path));
        }
    }
}
