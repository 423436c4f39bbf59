//! Tables of descriptors that are full, and too many descriptors in flight. Each in a process of its own.

use std::{
    fs::File,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    super::{
        channel::Channel,
        join::join_blocking,
        offer::{Committed, offer},
        packet::LONGEST_INLINE,
        protocol::*,
        reason::ReturnReason,
        receive::Ended,
        send::TransferOutcome,
    },
    child::{limit_files, play},
    support::*,
};
use crate::idle_connection::IdleConnection;

use crate::sys::{scm, table};

/// A runtime, made before descriptors are short.
fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // Its first blocking thread and its timer exist from here on.
    runtime.block_on(async { spawn_blocking(|| ()).await }).unwrap();
    runtime
}

/// Opens files until only `room` more can be opened.
fn fill(room: usize) -> Vec<File> {
    let open = table::room().unwrap().checked_sub(room).unwrap();
    (0..open).map(|_| File::open("/dev/null").unwrap()).collect()
}

#[test]
fn connections_for_which_there_is_no_room_are_refused_and_taken_once_there_is() {
    play(
        concat!(module_path!(), "::connections_for_which_there_is_no_room_are_refused_and_taken_once_there_is"),
        false,
        || {
            limit_files(600);
            runtime().block_on(async {
                let (receiver, _handle, old) = committed_by_raw().await;
                let (message, fds) = a_move(100);
                let ballast = fill(50);
                let mut new = New::default();
                let mut receiver = Box::pin(receiver.run(&mut new));
                let mut answer = async || loop {
                    tokio::select! {
                        ended = &mut receiver => panic!("{ended:?}"),
                        message = old.hear() => match message {
                            Message::Credit(credit) => assert!(credit.connections < 600, "{credit:?}"),
                            answer => break answer,
                        },
                    }
                };
                old.say_with(message.clone(), &fds).await;
                let full = "its table of descriptors is full, raise LimitNOFILE=";
                assert_eq!(answer().await, Refused { count: 100, reason: full.to_owned() }.into());
                assert_eq!(table::room().unwrap(), 50);
                drop(ballast);
                old.say_with(message, &fds).await;
                assert_eq!(answer().await, Taken { count: 100 }.into());
                drop((fds, answer));
                old.say(Done {}).await;
                assert_eq!(receiver.await, Ended::Done);
                assert_eq!(new.served.len(), 100);
            });
        },
    );
}

#[test]
fn connections_wait_for_room_in_the_table_of_the_successor() {
    play(concat!(module_path!(), "::connections_wait_for_room_in_the_table_of_the_successor"), false, || {
        limit_files(1500);
        runtime().block_on(async {
            let ((sender, handle), (receiver, _words)) = committed().await;
            let keeps = Keeps::default();
            (0..500).for_each(|_| handle.send(keeps.on(connection("x"))).unwrap());
            drop(handle);
            let ballast = fill(100);
            let (mut old, mut new) = (Old::default(), New::default());
            let moving = async {
                let TransferOutcome::Moved(final_state) = sender.run(&mut old).await else { panic!("it did not move") };
                final_state.finish(Vec::new()).await.unwrap();
            };
            let mut both = Box::pin(async { tokio::join!(moving, receiver.run(&mut new)) });
            // Looked for several times meanwhile.
            assert!(timeout(Duration::from_millis(350), &mut both).await.is_err());
            assert_eq!(keeps.count(), 500);
            drop(ballast);
            assert_eq!(timeout(PATIENCE, both).await.unwrap().1, Ended::Done);
            assert_eq!((old.resumed.len(), new.served.len(), keeps.count()), (0, 500, 0));
        });
    });
}

#[test]
fn listeners_that_do_not_fit_into_the_table_are_refused_with_a_remedy() {
    play(
        concat!(module_path!(), "::listeners_that_do_not_fit_into_the_table_are_refused_with_a_remedy"),
        false,
        || {
            limit_files(600);
            runtime().block_on(async {
                let (own, control) = scm::pair().unwrap();
                let old = Raw::new(own);
                old.say(hello()).await;
                let fds: Vec<OwnedFd> = (0..100).map(|_| connection("").stream).collect();
                let record = ListenerRecord { name: String::new(), created: None, bound: false };
                let _ballast = fill(50);
                old.say_with(Listeners { records: vec![record; 100], more: false }, &fds).await;
                let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap();
                let refusal = joined.unwrap_err().to_string();
                assert!(refusal.contains("raise LimitNOFILE="), "{refusal}");
                assert_eq!(old.hear_out_now().pop(), Some(Failed { reason: refusal }.into()));
            });
        },
    );
}

#[test]
fn too_many_descriptors_in_flight_wait_for_those_before_them() {
    play(concat!(module_path!(), "::too_many_descriptors_in_flight_wait_for_those_before_them"), true, || {
        const COUNT: usize = 2_000;
        const LIMIT: u64 = 700;
        let runtime = runtime();
        runtime.block_on(async {
            let (sender, handle, new) = committed_to_raw().await;
            // Low numbers are to be free once there may be no others.
            let low: Vec<_> = (0..LIMIT).map(|_| File::open("/dev/null").unwrap()).collect();
            let connections: Vec<_> = (0..COUNT).map(|_| connection("GET")).collect();
            let mut inodes: Vec<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();
            drop(low);
            limit_files(LIMIT);
            connections.into_iter().for_each(|connection: IdleConnection| handle.send(connection).unwrap());
            drop(handle);
            new.say(Credit { connections: u32::MAX }).await;
            let moving = tokio::spawn(async move {
                let mut old = Old::default();
                (sender.run(&mut old).await, old)
            });
            let (probe, _other) = scm::pair().unwrap();
            while !scm::send(&probe, b"x", &[std::os::fd::AsFd::as_fd(&probe)])
                .is_err_and(|error| scm::is_too_many_in_flight(&error))
            {
                tokio::task::yield_now().await;
            }
            // Long enough for the sender to learn it, too.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            assert!(!moving.is_finished());
            let mut received = Vec::new();
            while received.len() < COUNT {
                let (records, fds) = timeout(PATIENCE, new.hear_connections()).await.unwrap();
                assert_eq!(records.len(), fds.len());
                received.extend(super::support::inodes(&fds));
                new.say(Taken { count: records.len().try_into().unwrap() }).await;
            }
            let (parted, old) = moving.await.unwrap();
            assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
            assert_eq!(old.resumed.len(), 0);
            inodes.sort_unstable();
            received.sort_unstable();
            assert_eq!(received, inodes);
        });
    });
}

#[test]
fn the_room_in_the_table_is_what_the_files_leave_that_are_listed() {
    play(concat!(module_path!(), "::the_room_in_the_table_is_what_the_files_leave_that_are_listed"), false, || {
        limit_files(600);
        let _ballast = fill(100);
        // One of them lists the others.
        let listed = std::fs::read_dir("/proc/self/fd").unwrap().count() - 1;
        assert_eq!((table::room().unwrap(), listed), (100, 500));
        limit_files(400);
        assert_eq!(table::room().unwrap(), 0);
    });
}

/// A file of this process may have a megabyte (`LimitFSIZE=`), and that holds for memory that travels.
#[test]
fn a_connection_whose_bytes_ahead_do_not_fit_stays_alone() {
    play(concat!(module_path!(), "::a_connection_whose_bytes_ahead_do_not_fit_stays_alone"), false, || {
        runtime().block_on(async {
            const MEGABYTE: usize = 1 << 20;
            let limit = Some(MEGABYTE as u64);
            setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
            let ((sender, handle), (receiver, _words)) = committed().await;
            let sizes = [0, 10, 20, 2 * MEGABYTE, 0, 100_000, 10, 10, 900_000, 0, 7000, 0];
            let connections = sizes.map(|size| connection(vec![7; size]));
            let too_long = inode(&connections[3].stream);
            connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
            drop(handle);
            let (mut old, mut new) = (Old::default(), New::default());
            let moving = async {
                let TransferOutcome::Moved(final_state) = sender.run(&mut old).await else { panic!("it did not move") };
                final_state.finish(Vec::new()).await.unwrap();
            };
            let (_, ended) = timeout(PATIENCE, async { tokio::join!(moving, receiver.run(&mut new)) }).await.unwrap();
            assert_eq!(ended, Ended::Done);
            assert!(
                matches!(&old.resumed[..], [(inode, ReturnReason::Unsendable(_))] if *inode == too_long),
                "{:?}",
                old.resumed
            );
            let moved: Vec<_> = new.served.iter().map(|connection| connection.read_ahead.len()).collect();
            assert_eq!(moved, [&sizes[..3], &sizes[4..]].concat());
        });
    });
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_is_tried_with_fewer_connections() {
    let (own, control) = scm::pair().unwrap();
    let (channel, new) = (Channel::new(own.try_clone().unwrap()).unwrap(), Raw::new(control));
    let (prepared, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), play_joining(&new));
    let Committed { sender, handle } = prepared.unwrap().commit().await.unwrap();
    assert_eq!(new.hear().await, Commit {}.into());
    // What one of them has ahead is too much for any message, and all of the others for one (EMSGSIZE).
    socket2::SockRef::from(&own).set_send_buffer_size(4096).unwrap();
    let (keeps, mut old) = (Keeps::default(), Old::default());
    const SHORT: usize = 2000;
    let sizes = [SHORT, SHORT, LONGEST_INLINE, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT];
    let mut stays = 0;
    for size in sizes {
        let connection = keeps.on(IdleConnection {
            // Names travel in the packet, however long they are.
            listener: if size == LONGEST_INLINE { "x".repeat(10_000).into() } else { "http".into() },
            ..connection(vec![7; size])
        });
        stays = if size == LONGEST_INLINE { inode(&connection.stream) } else { stays };
        handle.send(connection).unwrap();
    }
    drop(handle);
    new.say(Credit { connections: 100 }).await;
    let talk = async move {
        let mut taken = 0;
        while taken + 1 < sizes.len() {
            let count = new.hear_connections().await.0.len();
            new.say(Taken { count: count.try_into().unwrap() }).await;
            taken += count;
        }
    };
    let (parted, ()) = timeout(PATIENCE, async { tokio::join!(sender.run(&mut old), talk) }).await.unwrap();
    assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
    assert!(matches!(&old.resumed[..], [(inode, ReturnReason::Unsendable(_))] if *inode == stays), "{:?}", old.resumed);
    assert_eq!(keeps.count(), 0);
}
