//! Which program is started: the one that now stands where this one was started from.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use axum_activation::ActivatedListeners;
use rustix::process::Signal;
use tempfile::TempDir;

use super::start_process;
use crate::support::subprocess::{Child, ChildIo, Subprocess};

/// Every time that it is asked, starts the next process. As a service it asks for its sockets first.
pub(crate) fn start_when_asked(io: &ChildIo) {
    assert!(ActivatedListeners::from_env().unwrap().names().is_empty());
    io.say("up");
    while !io.hear().is_empty() {
        io.say(start_process([]).map(|_| ()));
    }
}

/// A place to install programs in, on the file system of the test binary.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let own = env::current_exe().unwrap();
        Self(tempfile::tempdir_in(own.parent().unwrap()).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The test binary, under that name.
    pub(crate) fn install_self(&self, name: &str) -> PathBuf {
        fs::hard_link(env::current_exe().unwrap(), self.path(name)).unwrap();
        self.path(name)
    }

    /// A program that says `word` to the test, put in place at once.
    pub(crate) fn install(&self, name: &str, word: &str) -> PathBuf {
        let fresh = self.path("fresh");
        fs::write(&fresh, format!("#!/bin/sh\nprintf '\\n\\001report \"%s\"\\n' '{word}'\n")).unwrap();
        fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(&fresh, self.path(name)).unwrap();
        self.path(name)
    }

    /// A symbolic link, switched as deploy scripts do.
    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let fresh = self.path("fresh-link");
        symlink(target, &fresh).unwrap();
        fs::rename(&fresh, self.path(name)).unwrap();
    }
}

/// Has it start the next process, and hears what that is.
#[track_caller]
fn assert_starts(child: &mut Child, word: &str) {
    child.tell("start");
    let mut said = [child.hear::<serde_json::Value>().to_string(), child.hear::<serde_json::Value>().to_string()];
    said.sort();
    assert_eq!(said, [format!("\"{word}\""), "{\"Ok\":null}".to_owned()]);
}

/// Starts that subprocess, and returns when it is up.
pub(crate) fn up(subprocess: Subprocess) -> Child {
    let mut child = subprocess.start();
    assert_eq!(child.hear::<String>(), "up");
    child
}

fn start(program: impl Into<OsString>, directory: &Path) -> Child {
    up(Subprocess::new("start_when_asked").command([program]).directory(directory))
}

#[test]
fn a_program_that_has_been_replaced_is_the_one_that_starts() {
    let folder = Folder::new();
    let mut child = start(folder.install_self("server"), Path::new("/"));
    folder.install("server", "second");
    assert_starts(&mut child, "second");
    folder.install("server", "third");
    assert_starts(&mut child, "third");
    child.finish();
}

#[test]
fn a_symbolic_link_that_has_been_switched_is_followed() {
    let folder = Folder::new();
    folder.install_self("v1");
    folder.link("current", "v1");
    let mut child = start(folder.path("current"), Path::new("/"));
    folder.install("v2", "second");
    folder.link("current", "v2");
    assert_starts(&mut child, "second");
    child.finish();
}

#[test]
fn a_directory_that_has_been_switched_is_followed_from_a_relative_path() {
    let folder = Folder::new();
    for version in ["v1", "v2"] {
        fs::create_dir(folder.path(version)).unwrap();
    }
    folder.install_self("v1/server");
    folder.link("current", "v1");
    let inside = folder.path("current");
    let subprocess = Subprocess::new("start_when_asked").command(["./server"]).directory(&inside);
    // As a shell has it that has come there by this path.
    let mut child = up(subprocess.variable("PWD", &inside));
    folder.install("v2/server", "second");
    folder.link("current", "v2");
    assert_starts(&mut child, "second");
    child.finish();
}

#[test]
fn a_program_that_was_found_in_path_is_found_there_again() {
    let folder = Folder::new();
    folder.install_self("server-of-this-test");
    let path = env::join_paths([folder.path(""), "/usr/bin".into(), "/bin".into()]).unwrap();
    let mut child = up(Subprocess::new("start_when_asked").command(["server-of-this-test"]).variable("PATH", path));
    folder.install("server-of-this-test", "second");
    assert_starts(&mut child, "second");
    child.finish();
}

#[test]
fn a_program_whose_first_argument_is_any_word_is_found_by_the_kernels_word() {
    let folder = Folder::new();
    let program = folder.install_self("server");
    let wrapper = ["bash".into(), "-c".into(), "exec -a -any-word \"$0\" \"$@\"".into(), program.into_os_string()];
    let mut child = up(Subprocess::new("start_when_asked").command(wrapper));
    folder.install("server", "second");
    assert_starts(&mut child, "second");
    child.finish();
}

#[test]
fn the_next_process_lives_on_when_its_predecessor_is_killed() {
    let folder = Folder::new();
    let mut child = start(folder.install_self("server"), Path::new("/"));
    let fresh = folder.path("fresh");
    let go = folder.path("go");
    let script = format!(
        "#!/bin/sh\nprintf '\\n\\001report \"ready\"\\n'\nread x <'{}'\nprintf '\\n\\001report \"alive\"\\n'\n",
        go.display()
    );
    let made = std::process::Command::new("mkfifo").arg(&go).status().unwrap();
    assert!(made.success());
    fs::write(&fresh, script).unwrap();
    fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&fresh, folder.path("server")).unwrap();
    assert_starts(&mut child, "ready");
    child.signal(Signal::KILL);
    fs::write(&go, "x\n").unwrap();
    assert_eq!(child.hear::<String>(), "alive");
}
