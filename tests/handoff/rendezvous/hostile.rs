//! A predecessor of a user that root takes over from, and that lies.
//!
//! Needs Debian's package python3.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
    },
};

use rustix::process::Signal;

use super::{
    harness::{Process, folder, met, needs_root, subprocess, words},
    process::Settings,
    users::OTHER,
};
use crate::support::needs;

const PYTHON: &str = concat!(include_str!("../../support/protocol.py"), include_str!("hostile_predecessor.py"));

#[test]
fn what_a_predecessor_says_of_clients_and_of_files_is_not_believed() {
    needs_root("another user");
    needs::program("python3", "python3");
    let (folder, private) = (folder(), folder());
    chown(folder.path(), Some(OTHER), Some(OTHER)).unwrap();
    // The other user may see it, and not remove it.
    fs::set_permissions(private.path(), Permissions::from_mode(0o755)).unwrap();
    let (path, victim) = (folder.path().join("handoff.sock"), private.path().join("victim.sock"));
    let precious = UnixListener::bind(&victim).unwrap();

    let settings = Settings { peers: vec![OTHER], ..met(&path) };
    let user = OTHER.to_string();
    let python = ["python3", "-c", PYTHON, &user];
    let command = words(python, [path.clone().into(), victim.clone().into()]);
    let mut hostile = Process::run(subprocess(&settings).command(command));
    hostile.hear("is there");
    let service = Process::start(&settings);
    service.hear("listens ");

    let peer = hostile.hear("unix ");
    assert!(peer.contains(&format!("uid {OTHER}, gid {OTHER}")), "the handler was shown {peer}");
    let peer = hostile.hear("tcp ");
    let (shown, is) = peer.split_once(" is ").unwrap();
    assert_eq!(shown, is, "the handler was shown another client");
    assert!(hostile.status().success());

    service.signal(Signal::TERM);
    service.ended();
    assert!(victim.exists(), "root has removed a file for another user");
    drop(precious);
}
