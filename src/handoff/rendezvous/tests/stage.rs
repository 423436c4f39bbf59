//! The test binary once more, as a process that comes to a path.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::*;
use crate::wire::protocol::Join;

/// Does nothing but in a process that another test started.
#[test]
fn scene() {
    let (Ok(scene), Some(path)) = (env::var("MEET_SCENE"), env::var_os("MEET_PATH")) else { return };
    let path = PathBuf::from(path);
    match scene.as_str() {
        "race" => race(&path),
        "full" => meet_on_full_disk(&path),
        _ => join(&path),
    }
}

fn say(word: impl std::fmt::Display) {
    println!("\n\u{1}{word}");
}

fn hear() -> String {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).unwrap();
    line
}

fn race(path: &Path) {
    say("up");
    hear();
    match connect_or_bind(path, &alone(), soon()).unwrap() {
        ConnectedOrBound::Bound(bound) => {
            say("first");
            hear();
            let (_created, socket) = bound.into_parts();
            say(std::iter::from_fn(|| seqpacket::accept(socket.as_fd()).ok()).count());
            hear();
        }
        ConnectedOrBound::Connected(control) => {
            say("met");
            hear();
            drop(control);
        }
    }
}

fn join(path: &Path) {
    let control = assert_served(path);
    runtime().block_on(async {
        let channel = Channel::new(control).unwrap();
        channel.send(Join::own(), &[]).await.unwrap();
        say("joined");
    });
    hear();
}

/// There is room for one socket: the old one's.
fn meet_on_full_disk(path: &Path) {
    let _place = first(path);
    say(BoundSocketPath::stage(path, &alone(), soon()).unwrap_err());
    assert_served(path);
    say("met");
}

/// This test binary once more; killed when dropped.
pub(super) struct Scene(Child, ChildStdin, BufReader<ChildStdout>);

impl Scene {
    pub(super) fn start(wrapper: &[&str], scene: &str, path: &Path) -> Self {
        let own = env::current_exe().unwrap();
        let mut words = wrapper.iter().map(PathBuf::from).chain([own]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["--exact", "handoff::rendezvous::tests::stage::scene", "--nocapture", "--quiet"]);
        command.env("MEET_SCENE", scene).env("MEET_PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare is here (Debian's package util-linux)");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self(child, input, BufReader::new(output))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn tell(&mut self, line: &str) {
        writeln!(self.1, "{line}").unwrap();
    }

    pub(super) fn line(&mut self) -> String {
        let mut lines = self.2.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix('\u{1}').map(str::to_owned)).expect("it says so")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
