//! Meeting at a path, with several processes and users.

mod stage;
mod users;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, chown, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::runtime::Builder;

use self::stage::Scene;
use super::{
    connect::{ConnectedOrBound, connect, connect_or_bind, connect_to_ask},
    listen::{Foreigners, LOG_PAUSE, Rendezvous},
};
use crate::{
    error::Error,
    handoff::request_handoff,
    sys::{
        lock::PathLock,
        path::{CreatedPath, PathState, path_state},
        scm, seqpacket,
    },
    wire::{
        channel::Channel,
        join::join_blocking,
        offer::{Peer, accept_join},
        peers::Peers,
        protocol::{Abort, Message, Outcome},
        socket_path::BoundSocketPath,
    },
};

/// Two users that are neither root nor anybody.
const USER: u32 = 4_001;
const OTHER_USER: u32 = 4_002;

/// A folder that every user may pass through, and a path in it.
fn somewhere() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = folder.path().join("handoff.sock");
    (folder, path)
}

/// The same, of that user. Needs root.
fn somewhere_of(user: u32) -> (TempDir, PathBuf) {
    let (folder, path) = somewhere();
    chown(folder.path(), Some(user), Some(user)).expect("this test needs root: it acts as other users");
    (folder, path)
}

/// No other user.
fn alone() -> Peers {
    Peers::default()
}

/// Only a failing test waits so long.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The deadline is over: what cannot be had at once is not had.
fn at_once() -> Instant {
    Instant::now()
}

#[track_caller]
fn first(path: &Path) -> BoundSocketPath {
    match connect_or_bind(path, &alone(), soon()).unwrap() {
        ConnectedOrBound::Bound(bound) => bound,
        ConnectedOrBound::Connected(_) => panic!("a process is there"),
    }
}

#[track_caller]
fn assert_served(path: &Path) -> OwnedFd {
    match connect_or_bind(path, &alone(), soon()).unwrap() {
        ConnectedOrBound::Connected(control) => control,
        ConnectedOrBound::Bound(_) => panic!("no process is there"),
    }
}

fn leave_stale(path: &Path) {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn says(error: &Error, words: &[&str]) {
    let text = format!("{error:?}");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn the_first_finds_no_process_and_the_second_finds_the_first() {
    let (_folder, path) = somewhere();
    let bound = first(&path);
    assert_served(&path);
    drop(bound);
    assert_eq!(path_state(&path).unwrap(), PathState::Free);
}

#[test]
fn only_the_owner_can_read_and_write_the_path() {
    let (_folder, path) = somewhere();
    let _place = first(&path);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    // Where another user is named, the kernel is asked which one comes.
    let _next = BoundSocketPath::stage(&path, &vec![USER].into(), soon()).unwrap().rename_into_place(soon()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn a_stale_path_counts_as_none_and_is_replaced() {
    let (folder, path) = somewhere();
    leave_stale(&path);
    assert!(connect(&path, soon()).unwrap().is_none());
    // A process was killed between bind and rename, too.
    leave_stale(&folder.path().join("handoff.sock.new"));
    let _place = first(&path);
    assert_served(&path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn each_generation_has_the_path_anew_and_the_old_one_leaves_it_there() {
    let (_folder, path) = somewhere();
    let old = first(&path);
    let new = BoundSocketPath::stage(&path, &alone(), soon()).unwrap().rename_into_place(soon()).unwrap();
    let control = assert_served(&path);
    let (created, socket) = new.into_parts();
    let accepted = seqpacket::accept(&socket).unwrap();
    scm::send(&accepted, b"new", &[]).unwrap();
    assert_eq!(scm::receive(&control, &mut [0; 8]).unwrap().len, 3);
    drop(old);
    assert_served(&path);
    drop(created);
    assert!(!path.exists());
}

#[test]
fn a_successor_that_gives_up_leaves_the_path_to_the_old_one() {
    let (folder, path) = somewhere();
    let old = first(&path);
    let fresh = BoundSocketPath::stage(&path, &alone(), soon()).unwrap();
    says(
        &BoundSocketPath::stage(&path, &alone(), soon()).unwrap_err(),
        &["another process is about to take this path over"],
    );
    drop(fresh);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let control = assert_served(&path);
    let (_created, socket) = old.into_parts();
    seqpacket::accept(socket).expect("it is the old one that was met");
    drop(control);
}

#[test]
fn a_process_is_there_at_every_moment_of_many_generations() {
    let (_folder, path) = somewhere();
    let mut bound = first(&path).into_parts();
    // An old one stays until a peer that has found it there has connected, as it does while it drains.
    let mut old = Vec::new();
    let (visits, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(connect(&path, soon()).unwrap().is_some(), "no process was there");
                visits.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut generations = 0;
        while generations < 1_000 && !peer.is_finished() {
            let came = visits.load(Ordering::Relaxed);
            old.retain(|(parts, since): &((CreatedPath, OwnedFd), usize)| {
                while seqpacket::accept(&parts.1).is_ok() {}
                came < since + 2
            });
            while seqpacket::accept(&bound.1).is_ok() {}
            if old.len() < 100 {
                let next = BoundSocketPath::stage(&path, &alone(), soon())
                    .unwrap()
                    .rename_into_place(soon())
                    .unwrap()
                    .into_parts();
                old.push((std::mem::replace(&mut bound, next), visits.load(Ordering::Relaxed)));
                generations += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        while !peer.is_finished() {
            // He may wait in a queue that is full.
            old.iter().map(|(parts, _)| &parts.1).chain([&bound.1]).for_each(|socket| drop(seqpacket::accept(socket)));
        }
    });
}

#[test]
fn of_many_processes_that_race_for_a_path_one_has_it_and_is_met_by_all_others() {
    let (_folder, path) = somewhere();
    for round in 0..10 {
        if round % 2 == 0 {
            leave_stale(&path);
        }
        let mut racers: Vec<_> = (0..8).map(|_| Scene::start(&[], "race", &path)).collect();
        racers.iter_mut().for_each(|racer| assert_eq!(racer.line(), "up"));
        racers.iter_mut().for_each(|racer| racer.tell("go"));
        let said: Vec<_> = racers.iter_mut().map(Scene::line).collect();
        let firsts: Vec<_> = said.iter().enumerate().filter(|(_, said)| *said == "first").collect();
        let [(winner, _)] = firsts[..] else { panic!("{said:?}") };
        racers[winner].tell("how many came?");
        assert_eq!(racers[winner].line(), (racers.len() - 1).to_string());
        assert!(said.iter().all(|said| ["first", "met"].contains(&said.as_str())), "{said:?}");
        // Killed: the path is left stale, or free for the next round.
        drop(racers);
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn processes_of_two_pid_namespaces_meet() {
    let (_folder, path) = somewhere();
    let rendezvous = runtime();
    let bound = first(&path);
    let mut peer = Scene::start(&["unshare", "--pid", "--fork", "--kill-child"], "join", &path);
    let joined = rendezvous.block_on(async {
        let old = Rendezvous::new(bound, alone()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), async { accept_join(old.accept().await).await.unwrap() })
            .await
            .unwrap()
    });
    let Peer::Applicant(joiner) = joined else { panic!("{joined:?}") };
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", peer.id())).unwrap();
    assert_eq!(children.trim(), joiner.pid.to_string(), "as the kernel calls it here; it calls itself 1");
    assert_eq!(peer.line(), "joined");
}

#[test]
fn a_lock_on_the_directory_is_in_no_ones_way() {
    let (folder, path) = somewhere();
    let locked = File::open(folder.path()).unwrap();
    rustix::fs::flock(&locked, FlockOperation::LockShared).unwrap();
    let old = first(&path);
    let new = BoundSocketPath::stage(&path, &alone(), at_once()).unwrap().rename_into_place(at_once()).unwrap();
    drop(old);
    assert_served(&path);
    drop(new);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_in_the_way_is_named() {
    let (folder, path) = somewhere();
    File::create(&path).unwrap();
    says(
        &connect_or_bind(&path, &alone(), soon()).unwrap_err(),
        &["handoff.sock", "a file that is no socket stands there"],
    );
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    says(&connect_or_bind(&path, &alone(), soon()).unwrap_err(), &["a file that is no socket stands there"]);
    fs::remove_dir(&path).unwrap();

    let _stream = UnixListener::bind(&path).unwrap();
    says(&connect_or_bind(&path, &alone(), soon()).unwrap_err(), &["a socket of another kind listens there"]);
    fs::remove_file(&path).unwrap();

    says(
        &connect_or_bind(&folder.path().join("no/such.sock"), &alone(), soon()).unwrap_err(),
        &["no such directory", "RuntimeDirectory="],
    );
    says(&connect_or_bind(Path::new("/"), &alone(), soon()).unwrap_err(), &["it names no file"]);
    let long = folder.path().join("x".repeat(100));
    says(&connect_or_bind(&long, &alone(), soon()).unwrap_err(), &["more than 103 bytes"]);

    symlink(folder.path().join("gone"), &path).unwrap();
    let leads_nowhere = ["a symbolic link to ", "/gone stands there, which leads nowhere; remove the link"];
    says(&connect_or_bind(&path, &alone(), soon()).unwrap_err(), &leads_nowhere);
    fs::remove_file(&path).unwrap();

    let _held = PathLock::take(&path, |_| true, soon()).unwrap();
    says(
        &connect_or_bind(&path, &alone(), at_once()).unwrap_err(),
        &["another process holds ", "handoff.sock.lock locked"],
    );
}

#[test]
fn a_full_disk_is_named_and_the_predecessor_keeps_the_path() {
    let folder = tempfile::tempdir().unwrap();
    // The directory itself is one of three, and the lock is another as long as it is held.
    let mount =
        format!("mount -t tmpfs -o nr_inodes=3,mode=0755 none '{}' && exec \"$0\" \"$@\"", folder.path().display());
    let words = ["unshare", "--mount", "sh", "-c", &mount];
    let mut full = Scene::start(&words, "full", &folder.path().join("handoff.sock"));
    let said = full.line();
    assert!(said.contains("the file system is full; make room"), "{said}");
    assert_eq!(full.line(), "met");
}

#[test]
fn an_old_process_that_does_not_accept_is_named_at_the_deadline() {
    let (_folder, path) = somewhere();
    let _place = first(&path);
    let mut waiting = Vec::new();
    let error = loop {
        match connect(&path, at_once()) {
            Ok(control) => waiting.push(control),
            Err(error) => break error,
        }
    };
    assert!(waiting.len() > 100);
    says(&error, &["too many wait there already"]);
}

#[test]
fn an_operator_learns_of_the_new_process_or_the_reason_why_there_is_none() {
    let (_folder, path) = somewhere();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let answers = [
        Some(Outcome { pid: Some(77), reason: None }),
        Some(Outcome { pid: None, reason: Some("the disk is full".to_owned()) }),
        None,
    ];
    let outcomes = runtime.block_on(async {
        let old = Rendezvous::new(first(&path), alone()).unwrap();
        let mut outcomes = Vec::new();
        for answer in answers {
            let asked = tokio::spawn(request_handoff(path.clone()));
            let Peer::Operator(channel) = accept_join(old.accept().await).await.unwrap() else { panic!("no operator") };
            if let Some(outcome) = answer {
                channel.send(outcome, &[]).await.unwrap();
            }
            drop(channel);
            outcomes.push(asked.await.unwrap());
        }
        drop(old);
        outcomes.push(request_handoff(&path).await);
        outcomes
    });
    assert_eq!(outcomes[0].as_ref().unwrap(), &77);
    for (outcome, reason) in
        outcomes[1..].iter().zip(["the disk is full", "closed the control socket", "no process serves there"])
    {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.is_handoff_failure());
        says(error, &["no handoff at", "handoff.sock", reason]);
    }
}

#[test]
fn a_control_socket_of_another_kind_is_refused() {
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for socket in [OwnedFd::from(stream), listener.into()] {
        let refusal = join_blocking(socket, soon()).unwrap_err().to_string();
        assert!(refusal.contains("not a Unix sequential-packet socket"), "{refusal}");
    }
}
