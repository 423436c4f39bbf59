//! The path of a Unix socket: whose it is, who may connect, and who removes it.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use axum_activation::{ActivatedListeners, Error, ListenAddr, ListenOptions};
use rustix::fs::{FlockOperation, Mode};
use tempfile::{TempDir, tempdir};

use super::exhaustion::Log;
use crate::support::{
    seen::failure,
    subprocess::{ChildIo, Subprocess},
};

fn socket_path() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    (dir, path)
}

fn bind(path: &Path, options: ListenOptions) -> Result<ActivatedListeners, Error> {
    ActivatedListeners::builder().fallback_with("http", path, options).build()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A socket whose process has died: the file is there and no process listens.
fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(is_socket(path) && UnixStream::connect(path).is_err());
}

#[tokio::test]
async fn a_path_goes_when_its_listener_does() {
    let (_dir, path) = socket_path();
    let set = bind(&path, ListenOptions::new()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    let listener = set.one("http").unwrap();
    assert_eq!(listener.local_addrs(), [ListenAddr::Unix(path.clone())]);
    drop(set);
    assert!(UnixStream::connect(&path).is_ok());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_path_goes_when_its_socket_was_not_taken() {
    let (_dir, path) = socket_path();
    drop(bind(&path, ListenOptions::new()).unwrap());
    assert!(!path.exists());
}

/// Binds a relative path, and changes the directory before it lets go.
pub(crate) fn leave_the_directory(io: &ChildIo) {
    std::env::set_current_dir(io.arg()).unwrap();
    let set = bind(Path::new("app.sock"), ListenOptions::new()).unwrap();
    io.say(is_socket(Path::new("app.sock")));
    std::env::set_current_dir("/").unwrap();
    drop(set);
}

#[test]
fn a_relative_path_goes_even_after_a_change_of_directory() {
    let (dir, path) = socket_path();
    assert!(Subprocess::new("leave_the_directory").arg(dir.path()).report::<bool>());
    assert!(!path.exists());
}

#[test]
fn a_path_that_another_socket_has_taken_stays() {
    let (_dir, path) = socket_path();
    let set = bind(&path, ListenOptions::new()).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(set);
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

#[test]
fn a_path_that_another_file_has_taken_stays() {
    let (_dir, path) = socket_path();
    let set = bind(&path, ListenOptions::new()).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(set);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_that_was_passed_is_never_removed() {
    let (_dir, path) = socket_path();
    let set = ActivatedListeners::builder().socket("http", UnixListener::bind(&path).unwrap()).build().unwrap();
    drop(set.one("http").unwrap());
    drop(set);
    assert!(is_socket(&path));
}

#[test]
fn a_path_stays_when_its_bare_descriptor_is_taken() {
    let (_dir, path) = socket_path();
    let files = bind(&path, ListenOptions::new()).unwrap().files("http").unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(files);
    assert!(is_socket(&path));
}

#[test]
fn a_stale_socket_is_replaced() {
    let (_dir, path) = socket_path();
    leave_stale(&path);
    let set = bind(&path, ListenOptions::new()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(set);
    assert!(!path.exists());
}

#[test]
fn a_live_socket_is_refused_and_goes_on() {
    let (_dir, path) = socket_path();
    let live = bind(&path, ListenOptions::new()).unwrap();
    let error = failure(bind(&path, ListenOptions::new()));
    assert_eq!(error.is, ["address_in_use"]);
    error.assert_says(&["another process listens there"]);
    assert!(UnixStream::connect(&path).is_ok());
    drop(live);
}

#[test]
fn a_socket_whose_queue_is_full_is_alive() {
    let (_dir, path) = socket_path();
    let live = bind(&path, ListenOptions::new().backlog(0)).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    failure(bind(&path, ListenOptions::new())).assert_says(&["another process listens there"]);
    drop(live);
}

/// Any process that may read a directory can lock it, such as a deploy script that runs under `flock /run/app`.
#[test]
fn a_directory_that_another_process_keeps_locked_is_not_waited_for() {
    let (dir, path) = socket_path();
    let locked = fs::File::open(dir.path()).unwrap();
    rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
    let set = bind(&path, ListenOptions::new()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(set);
    assert!(!path.exists());
    let other = fs::File::open(dir.path()).unwrap();
    let relocked = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert!(relocked.is_err(), "the lock of the other program was there all the time");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_lock_file_that_is_not_ours_keeps_nothing_from_listening() {
    let (dir, path) = socket_path();
    let lock = dir.path().join("app.sock.lock");
    std::os::unix::fs::symlink("/etc/passwd", &lock).unwrap();
    let set = bind(&path, ListenOptions::new()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(set);
    assert!(!path.exists());
    assert_eq!(fs::read_link(&lock).unwrap(), Path::new("/etc/passwd"), "it is not ours to remove");
}

#[test]
fn a_symbolic_link_that_leads_nowhere_is_named_as_one() {
    let (dir, path) = socket_path();
    let target = dir.path().join("gone.sock");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let error = failure(bind(&path, ListenOptions::new()));
    assert_eq!(error.is, ["address_in_use"]);
    let leads = format!("a symbolic link to {} stands there", target.display());
    error.assert_says(&[&leads, "which leads nowhere; remove the link, or choose another path"]);
    let _there = UnixListener::bind(&target).unwrap();
    failure(bind(&path, ListenOptions::new())).assert_says(&[&leads, "remove it, or use the path that it leads to"]);
    assert!(path.is_symlink() && !dir.path().join("app.sock.lock").exists());
}

#[test]
fn a_datagram_socket_in_use_is_alive_and_a_stale_one_is_replaced() {
    let (_dir, path) = socket_path();
    let live = UnixDatagram::bind(&path).unwrap();
    failure(bind(&path, ListenOptions::new())).assert_says(&["another process listens there"]);
    drop(live);
    assert!(is_socket(&path));
    drop(bind(&path, ListenOptions::new()).unwrap());
}

#[test]
fn a_fallback_that_fails_takes_the_paths_of_the_others_with_it() {
    let (dir, path) = socket_path();
    let builder = ActivatedListeners::builder().fallback("a", path.as_path()).fallback("b", dir.path());
    failure(builder.build());
    assert!(!path.exists());
}

#[test]
fn a_link_to_a_directory_leads_to_the_socket() {
    let (dir, path) = socket_path();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let set = bind(&link.join("app.sock"), ListenOptions::new()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(set);
    assert!(!path.exists());
}

/// With any umask: the options say what the file is to be.
pub(crate) fn bind_with_a_strict_umask(io: &ChildIo) {
    let (_dir, path) = socket_path();
    let mode_of = |options| {
        let set = bind(&path, options).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        drop(set);
        mode
    };
    rustix::process::umask(Mode::from_raw_mode(0o777));
    let strict = [mode_of(ListenOptions::new()), mode_of(ListenOptions::new().unix_mode(0o660))];
    rustix::process::umask(Mode::from_raw_mode(0));
    let open = [mode_of(ListenOptions::new()), mode_of(ListenOptions::new().unix_mode(0o7600))];
    io.say((strict, open));
}

#[test]
fn a_mode_is_set_whatever_the_umask() {
    let (strict, open): ([u32; 2], [u32; 2]) = Subprocess::new("bind_with_a_strict_umask").report();
    assert_eq!(strict, [0, 0o660]);
    assert_eq!(open, [0o777, 0o600]);
}

#[test]
fn an_owner_is_set() {
    assert!(rustix::process::geteuid().is_root(), "giving a file to another user takes root");
    let (_dir, path) = socket_path();
    for (uid, gid) in [(Some(1), Some(2)), (None, Some(3)), (Some(4), None)] {
        let set = bind(&path, ListenOptions::new().unix_owner(uid, gid).unix_mode(0o640)).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid()), (uid.unwrap_or(0), gid.unwrap_or(0)));
        assert_eq!(file.mode() & 0o777, 0o640);
        drop(set);
    }
}

/// A client knocks all the while: whenever it gets in, mode and owner are right.
#[test]
fn no_client_connects_before_mode_and_owner_are_set() {
    assert!(rustix::process::geteuid().is_root(), "giving a file to another user takes root");
    let (_dir, path) = socket_path();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let knocking = scope.spawn(|| knock(&path, &done));
        for _ in 0..3000 {
            let options = ListenOptions::new().unix_mode(0o620).unix_owner(Some(1), Some(2));
            drop(bind(&path, options).unwrap());
        }
        done.store(true, Ordering::Relaxed);
        knocking.join().unwrap();
    });
}

fn knock(path: &Path, done: &AtomicBool) {
    let look = || fs::metadata(path).ok();
    // A number alone may be given again, to the next socket.
    let identity = |file: &fs::Metadata| (file.ino(), file.created().ok());
    while !done.load(Ordering::Relaxed) {
        if let (Some(before), Ok(_), Some(file)) = (look(), UnixStream::connect(path), look()) {
            // Who let us in may be gone, and what is there now not listen yet: only the same one counts.
            let seen = (file.mode() & 0o777, file.uid(), file.gid());
            let is_same = identity(&before) == identity(&file);
            assert!(!is_same || seen == (0o620, 1, 2), "connected to {seen:?}");
        }
    }
}

/// Takes everything that it was passed, and says what it logged meanwhile.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn take_and_log(io: &ChildIo) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let activated = ActivatedListeners::from_env().unwrap();
    for name in activated.names() {
        activated.one(&name).unwrap();
    }
    io.say(log.text());
}

#[test]
fn a_passed_path_that_does_not_lead_to_its_socket_is_warned_of() {
    let folder = tempdir().unwrap();
    let bound = |path: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        UnixListener::bind(path).unwrap()
    };
    let sockets = ["there", "removed", "replaced", "hidden/removed", "linked"].map(|name| (name, bound(name).into()));
    fs::remove_file(folder.path().join("removed")).unwrap();
    fs::remove_file(folder.path().join("replaced")).unwrap();
    fs::write(folder.path().join("replaced"), "").unwrap();
    fs::remove_dir_all(folder.path().join("hidden")).unwrap();
    fs::rename(folder.path().join("linked"), folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", folder.path().join("linked")).unwrap();

    let log: String = Subprocess::passed("take_and_log", sockets).report();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("no client can connect")).collect();
    let [removed, replaced] = warnings[..] else { panic!("two of them: {log}") };
    let path = |name: &str| format!("path={}", folder.path().join(name).display());
    assert!(removed.contains("nothing is there") && removed.contains(&path("removed")), "{removed}");
    assert!(replaced.contains("no socket stands there") && replaced.contains(&path("replaced")), "{replaced}");
    assert!(warnings.iter().all(|line| line.contains("WARN") && line.contains("RuntimeDirectory=")), "{log}");
}
