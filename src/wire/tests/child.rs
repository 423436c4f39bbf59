//! A test that plays in a process of its own, with limits of its own.

use std::{
    env,
    fs::File,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
};

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

const PLAYS: &str = "AXUM_ACTIVATION_TEST_CHILD";

/// A user without privileges (`/etc/passwd` calls it so on most systems).
const UNPRIVILEGED: u32 = 65534;

/// Runs the test `name` once more, as a user without privileges if so asked, and plays `scene` there.
///
/// Every test of the binary has its own thread, but limits and users belong to the process.
pub(crate) fn play(name: &str, is_unprivileged: bool, scene: impl FnOnce()) {
    if env::var_os(PLAYS).is_some() {
        return scene();
    }
    let name = name.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "::")).unwrap();
    // Another user may not be able to look into the directory of the binary.
    let binary = File::open("/proc/self/exe").unwrap();
    rustix::io::fcntl_setfd(&binary, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(PLAYS, "1").current_dir("/");
    if is_unprivileged {
        assert!(geteuid().is_root(), "to become another user takes root");
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{name} is no test: {text}");
}

/// Lets this process have so many descriptors and no more.
pub(crate) fn limit_files(files: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap();
}
