//! The path at every moment: of many handoffs, and when the one that took it has died.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use axum_activation::handoff::request_handoff;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::Signal,
};

use super::{
    harness::{Process, folder, met, wait_for_generation, who},
    process::Settings,
};
use crate::support::wait::eventually;

/// Whether a process listens at the path; a full queue is one that does.
fn knock(path: &Path) -> Result<(), Errno> {
    match visit(path) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

fn visit(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).map(|()| socket)
}

#[test]
fn a_process_listens_at_the_path_at_every_moment_of_many_hand_overs() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let settings = met(&path);
    let mut serving = Process::start(&settings);
    let addr = serving.addr();
    who(addr);
    let (done, knocks) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut missed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                if let Err(error) = fs::symlink_metadata(&path) {
                    missed.push(format!("nothing stands there: {error}"));
                }
                if let Err(error) = knock(&path) {
                    missed.push(format!("nothing listens there: {error}"));
                }
                knocks.fetch_add(1, Ordering::Relaxed);
            }
            missed
        });
        for generation in 1..=30 {
            // Started from outside and by the old one, in turns.
            if generation % 2 == 0 {
                let next = Process::start(&settings);
                wait_for_generation(addr, generation);
                std::mem::replace(&mut serving, next).ended();
            } else {
                who(addr).signal(Signal::HUP);
                wait_for_generation(addr, generation);
                serving.hear("ends ");
            }
        }
        done.store(true, Ordering::Relaxed);
        let missed = knocking.join().unwrap();
        let knocks = knocks.load(Ordering::Relaxed);
        assert!(missed.is_empty(), "{} of {knocks} times: {:?}", missed.len(), &missed[..missed.len().min(5)]);
        println!("a process was met {knocks} times");
    });
    who(addr).signal(Signal::TERM);
    serving.hear("ends ");
}

/// The test holds the lock, so that the new process cannot put its socket at the path for a while.
#[test]
fn the_old_process_keeps_the_path_until_the_new_one_has_it_however_long_that_takes() {
    let folder = folder();
    let (path, plan) = (folder.path().join("handoff.sock"), folder.path().join("plan"));
    let settings = Settings { plan: Some(plan.clone()), ..met(&path) };
    let old = Process::start(&settings);
    let addr = old.addr();
    who(addr);
    fs::write(&plan, "wait").unwrap();
    let new = Process::start(&settings);
    new.hear("plans wait");
    let lock =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.path().join("handoff.sock.lock"));
    let lock = lock.unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fs::remove_file(plan.with_extension(new.pid().as_raw_nonzero().to_string())).unwrap();
    wait_for_generation(addr, 1);
    for time in 0..2000 {
        assert_eq!(knock(&path), Ok(()), "nothing listens there at look {time}");
    }
    drop(lock);
    old.ended();
    assert_eq!(knock(&path), Ok(()));
    new.signal(Signal::TERM);
    new.ended();
}

#[test]
fn of_many_who_ask_at_once_all_are_answered_and_none_finds_no_process() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let service = Process::start(&met(&path));
    let addr = service.addr();
    who(addr);
    let handed_over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for _ in 0..15 {
                    match runtime.block_on(request_handoff(&path)) {
                        Ok(_) => drop(handed_over.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            let reason = error.to_string();
                            assert!(reason.contains("another handoff is under way"), "{reason}");
                        }
                    }
                }
            });
        }
    });
    let handed_over = handed_over.load(Ordering::Relaxed);
    println!("{handed_over} handoffs");
    wait_for_generation(addr, handed_over as u64).signal(Signal::TERM);
    (0..=handed_over).for_each(|_| drop(service.hear("ends ")));
}

#[test]
fn who_serves_again_after_its_successor_has_died_is_met_again() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let settings = met(&path);
    let old = Process::start(&settings);
    let addr = old.addr();
    let first = who(addr);
    // A request whose body has not come keeps the old one there while the new one serves.
    let mut slow = TcpStream::connect(addr).unwrap();
    slow.write_all(b"POST /7 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n7").unwrap();
    let inode = || fs::symlink_metadata(&path).unwrap().ino();
    let owned = inode();
    let mut new = Process::start(&settings);
    wait_for_generation(addr, 1);
    eventually("the new one owns the path", || inode() != owned);
    new.signal(Signal::KILL);
    new.status();
    assert_eq!(wait_for_generation(addr, 0), first);
    eventually("the old one is found there again", || knock(&path).is_ok());
    let next = Process::start(&settings);
    wait_for_generation(addr, 1);
    slow.write_all(b"7").unwrap();
    old.ended();
    next.signal(Signal::TERM);
    next.ended();
    assert!(!path.exists());
}

#[test]
fn peers_that_say_nothing_take_a_few_descriptors_and_no_more() {
    /// As many as the process lets in, and a few of its own.
    const MOST: usize = 32 + 4;
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let service = Process::start(&met(&path));
    let addr = service.addr();
    let pid = who(addr).pid;
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    let silent: Vec<_> = (0..100).map(|_| visit(&path).unwrap()).collect();
    eventually("they are let in", || open() >= before + 28);
    for _ in 0..100 {
        who(addr);
        assert!(open() <= before + MOST, "{} descriptors are open, {before} were", open());
    }
    drop(silent);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(request_handoff(&path)).unwrap();
    wait_for_generation(addr, 1).signal(Signal::TERM);
    service.hear("ends ");
    service.hear("ends ");
}
