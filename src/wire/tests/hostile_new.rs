//! A predecessor with something at the other end that is no successor.

use std::{
    future::poll_fn,
    io::{ErrorKind, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    task::Poll,
};

use tokio::{task::yield_now, time::timeout};

use super::{
    super::{
        channel::Channel,
        error::Refusal,
        offer::{Peer, accept_join, offer},
        packet::LONGEST_PACKET,
        protocol::*,
        reason::ReturnReason,
        send::TransferOutcome,
        version::{OLDEST_VERSION, VERSION},
    },
    codec::{every_message, noise},
    support::*,
};
use crate::idle_connection::{IdleConnection, LONGEST_READ_AHEAD};

/// Packets that are no message, and what is said of them.
fn no_messages() -> Vec<(Vec<u8>, &'static str)> {
    let long = [vec![36, 0], vec![0; LONGEST_PACKET]].concat();
    vec![
        (vec![1], "a packet of one byte"),
        (vec![36, 0], "message 36: Hit the end of buffer, expected more data"),
        (vec![36, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "message 36: Found a varint that didn't terminate"),
        (vec![35, 0], "message 35: Hit the end"),
        (long, "a packet longer than 65536 bytes"),
        ([vec![34, 0], noise(1).take(500).collect()].concat(), "message 34: "),
    ]
}

/// What is said first, second and third to an old process, as a hostile peer makes them up; and what comes of the offer.
async fn offered(said: Vec<Vec<u8>>) -> (Refusal, String) {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let talk = async {
        for packet in said {
            new.throw(&packet).await;
        }
    };
    let (offered, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), talk);
    let refusal = offered.unwrap_err();
    let last = new.hear_out().await.pop();
    (refusal, if let Some(Message::Abort(abort)) = last { abort.reason } else { String::new() })
}

fn join() -> Vec<u8> {
    Message::from(Join::own()).encode().unwrap()
}

#[tokio::test]
async fn what_is_no_message_ends_an_offer_with_a_reason() {
    for (packet, says) in no_messages() {
        for said in [vec![packet.clone()], vec![join(), packet.clone()]] {
            let has_joined = said.len() > 1;
            let (refusal, answer) = offered(said).await;
            assert!(matches!(&refusal, Refusal::Malformed { problem, .. } if problem.starts_with(says)), "{refusal}");
            assert_eq!(answer, if has_joined { refusal.to_string() } else { String::new() });
        }
    }
}

#[tokio::test]
async fn a_message_out_of_order_ends_an_offer_with_a_reason() {
    for message in every_message() {
        let packet = message.encode().unwrap();
        let may_come = matches!(message, Message::Ready(_) | Message::Moved(_) | Message::Accepts(_));
        if !may_come && !matches!(message, Message::Join(_)) {
            let (refusal, answer) = offered(vec![join(), packet.clone()]).await;
            let declined = matches!(message, Message::Abort(_) | Message::Failed(_) | Message::Leaving(_));
            assert_eq!(matches!(refusal, Refusal::Declined { .. }), declined, "{message:?}: {refusal}");
            assert_eq!(matches!(refusal, Refusal::OutOfOrder { .. }), !declined, "{message:?}: {refusal}");
            assert_eq!(answer, refusal.to_string());
        }
        if !matches!(message, Message::Join(_)) {
            let (refusal, _) = offered(vec![packet]).await;
            assert!(matches!(refusal, Refusal::OutOfOrder { .. } | Refusal::Declined { .. }), "{message:?}: {refusal}");
        }
    }
    let (refusal, _) = offered(vec![join(), join()]).await;
    assert_eq!(
        refusal.to_string(),
        "the other process sent a `Join` where a `Ready` was to come; is it another program?"
    );
}

#[tokio::test]
async fn a_version_that_cannot_be_spoken_is_refused_with_a_reason() {
    for (version, oldest_version) in [(0, 0), (VERSION + 7, VERSION + 1), (0, VERSION)] {
        let packet = Message::from(Join { version, oldest_version, pid: 1 }).encode().unwrap();
        let (refusal, answer) = offered(vec![packet]).await;
        assert_eq!(refusal, Refusal::Version { theirs: (version, oldest_version), ours: (VERSION, OLDEST_VERSION) });
        assert_eq!(answer, refusal.to_string());
        let says = format!("the other process speaks versions {oldest_version} to {version} of the handoff");
        assert!(answer.starts_with(&says), "{answer}");
    }
}

#[tokio::test]
async fn a_later_version_that_still_speaks_ours_is_welcome() {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    new.say(Join { version: VERSION + 7, oldest_version: VERSION, pid: 11 }).await;
    let Ok(Peer::Applicant(joiner)) = accept_join(channel).await else { panic!("it was not let in") };
    assert_eq!(joiner.pid, std::process::id(), "the kernel says who it is");
    joiner.refuse("not now");
    assert_eq!(new.hear_abort().await, "not now");
}

#[tokio::test]
async fn an_operator_gets_the_outcome() {
    let (channel, control) = Channel::pair().unwrap();
    let operator = Raw::new(control);
    operator.say(HandOver {}).await;
    let Ok(Peer::Operator(channel)) = accept_join(channel).await else { panic!("it is no operator") };
    let outcome = Outcome { pid: None, reason: Some("busy".to_owned()) };
    channel.send(outcome.clone(), &[]).await.unwrap();
    assert_eq!(operator.hear().await, outcome.into());
}

#[tokio::test]
async fn kinds_of_a_later_version_are_ignored_and_what_they_carry_stays_open_until_the_end() {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let [(carried, mut watched), (misplaced, mut watched_too)] = [(); 2].map(|()| UnixStream::pair().unwrap());
    let new_side = async {
        for message in [Message::from(Join::own()), Ready {}.into()] {
            new.0.send_packet(&[0xff, 0xff, 1], &[carried.as_fd()]).await.unwrap();
            // Known kinds may carry what does not belong to them, too.
            new.say_with(message, &[misplaced.as_fd()]).await;
        }
    };
    let (prepared, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), new_side);
    let committed = prepared.unwrap().commit().await.unwrap();
    drop((carried, misplaced));
    assert_eq!(watched_too.read(&mut [0]).unwrap(), 0);
    watched.set_nonblocking(true).unwrap();
    assert_eq!(watched.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(committed);
    assert_eq!(watched.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn a_successor_that_changes_its_mind_is_not_committed_to() {
    for last in [Some(Message::from(Failed { reason: "port taken".to_owned() })), Some(Leaving {}.into()), None] {
        let (channel, control) = Channel::pair().unwrap();
        let new = Raw::new(control);
        let (prepared, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), play_joining(&new));
        let is_end = last.is_none();
        match last {
            Some(last) => new.say(last).await,
            None => drop(new),
        }
        let refusal = prepared.unwrap().commit().await.unwrap_err();
        assert_eq!(refusal.is_gone(), is_end);
        assert_eq!(matches!(refusal, Refusal::Declined { .. }), !is_end);
    }
}

#[tokio::test]
async fn a_successor_that_breaks_the_protocol_keeps_what_it_has_said_is_taken() {
    let answers = |count| Message::from(Taken { count }).encode().unwrap();
    let wrong: Vec<_> = no_messages().into_iter().map(|(packet, _)| packet).collect();
    let out_of_order = every_message().into_iter().filter(|message| {
        use Message::{Credit, Leaving, Refused, Taken, Trim};
        !matches!(message, Credit(_) | Taken(_) | Refused(_) | Trim(_) | Leaving(_))
    });
    let more = [answers(0), answers(3), answers(u32::MAX)].into_iter();
    for packet in wrong.into_iter().chain(out_of_order.map(|message| message.encode().unwrap())).chain(more) {
        let (sender, handle, new) = committed_to_raw().await;
        let (keeps, mut old) = (Keeps::default(), Old::default());
        fill(handle, &keeps, 10, b"GET");
        let thrown = packet.clone();
        let talk = async move {
            for _ in 0..3 {
                new.say(Credit { connections: 2 }).await;
                new.hear_connections().await;
            }
            new.throw(&answers(2)).await;
            new.throw(&thrown).await;
            // Said, and behind what breaks the protocol.
            new.0.try_send(Taken { count: 2 });
            new.hear_abort().await
        };
        let (parted, answer) = tokio::join!(sender.run(&mut old), talk);
        let TransferOutcome::Broken(refusal) = parted else { panic!("{packet:?}: {parted:?}") };
        assert!(answer == refusal.to_string() || matches!(refusal, Refusal::Declined { .. }), "{answer} {refusal}");
        // After an answer that fits nothing, it is not known which of the two others it has.
        let unsent_and_unanswered = if packet.starts_with(&[36, 0]) { 4 } else { 6 };
        assert_eq!((old.resumed.len(), keeps.count()), (unsent_and_unanswered, 0), "{packet:?}");
        assert!(old.resumed.iter().all(|(_, why)| matches!(why, ReturnReason::Refused(_))));
        assert_eq!(old.stopped.len(), 1);
    }
}

/// Runs `future` beside something else of the same thread; how often that came to its turn.
async fn beside<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut turns = 0;
    let idle = async {
        loop {
            turns += 1;
            yield_now().await;
        }
    };
    let output = tokio::select! {
        biased;
        output = future => output,
        () = idle => unreachable!("it never ends"),
    };
    (output, turns)
}

#[tokio::test]
async fn a_flood_does_not_keep_the_thread() {
    let (sender, handle, new) = committed_to_raw().await;
    let keeps = Keeps::default();
    fill(handle, &keeps, 2, b"");
    let flood = tokio::spawn(async move {
        for _ in 0..5_000 {
            new.throw(&[0xff, 0xff]).await;
            new.say(Trim { generations: 1 }).await;
            new.say(Credit { connections: u32::MAX }).await;
        }
        let mut left = 2;
        while left > 0 {
            let count = new.hear_connections().await.0.len();
            new.say(Taken { count: count.try_into().unwrap() }).await;
            left -= count;
        }
    });
    let mut old = Old::default();
    let (parted, turns) = beside(sender.run(&mut old)).await;
    flood.await.unwrap();
    assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
    assert_eq!((old.resumed.len(), keeps.count()), (0, 0));
    assert!(turns > 1_000, "{turns}");
}

#[tokio::test]
async fn a_successor_that_stops_reading_holds_nothing_up_and_loses_nothing() {
    const COUNT: usize = 2_000;
    for reads_on in [true, false] {
        let (sender, handle, new) = committed_to_raw().await;
        let keeps = Keeps::default();
        fill(handle, &keeps, COUNT, &[7; 4000]);
        new.say(Credit { connections: u32::MAX }).await;
        let mut old = Old::default();
        let mut moving = Box::pin(sender.run(&mut old));
        // Until nothing more fits into the socket, however often it is asked.
        for _ in 0..10_000 {
            let is_stuck = poll_fn(|context| Poll::Ready(moving.as_mut().poll(context).is_pending())).await;
            assert!(is_stuck);
        }
        assert_eq!(keeps.count(), COUNT);
        let rest = async {
            let mut taken = 0;
            while reads_on && taken < COUNT {
                let count = new.hear_connections().await.0.len();
                new.say(Taken { count: count.try_into().unwrap() }).await;
                taken += count;
            }
            drop(new);
        };
        let (parted, ()) = timeout(PATIENCE, async { tokio::join!(moving, rest) }).await.unwrap();
        assert_eq!(matches!(parted, TransferOutcome::Moved(_)), reads_on, "{parted:?}");
        assert_eq!((old.resumed.len(), keeps.count()), (if reads_on { 0 } else { COUNT }, 0));
    }
}

#[tokio::test]
async fn a_successor_that_leaves_answers_what_it_was_sent_and_the_rest_comes_back() {
    let (sender, handle, new) = committed_to_raw().await;
    let (keeps, mut old) = (Keeps::default(), Old::default());
    (0..10).for_each(|_| handle.send(keeps.on(connection(""))).unwrap());
    let talk = async {
        for _ in 0..3 {
            new.say(Credit { connections: 2 }).await;
            new.hear_connections().await;
        }
        new.say(Leaving {}).await;
        new.say(Taken { count: 2 }).await;
        new.say(Refused { count: 2, reason: "stopping".to_owned() }).await;
        new.say(Taken { count: 2 }).await;
        assert_eq!(new.hear_out().await, [Done {}.into()]);
    };
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    assert!(matches!(parted, TransferOutcome::Left), "{parted:?}");
    assert_eq!(old.stopped[0], ReturnReason::Leaving);
    let count = |wanted: &ReturnReason| old.resumed.iter().filter(|(_, why)| why == wanted).count();
    assert_eq!((count(&ReturnReason::Leaving), count(&ReturnReason::Refused("stopping".into()))), (4, 2));
    assert_eq!(keeps.count(), 0);
    assert!(handle.send(connection("")).is_err());
}

#[tokio::test]
async fn what_is_still_to_be_sent_comes_back_from_a_successor_that_leaves() {
    const COUNT: usize = 2_000;
    let (sender, handle, new) = committed_to_raw().await;
    let (keeps, mut old) = (Keeps::default(), Old::default());
    fill(handle, &keeps, COUNT, &[7; 4000]);
    new.say(Credit { connections: u32::MAX }).await;
    let mut moving = Box::pin(sender.run(&mut old));
    for _ in 0..1_000 {
        assert!(poll_fn(|context| Poll::Ready(moving.as_mut().poll(context).is_pending())).await);
    }
    new.say(Leaving {}).await;
    let talk = async {
        let mut taken = 0;
        while let Message::Connections(connections) = new.hear().await {
            taken += connections.records.len();
            new.say(Taken { count: connections.records.len().try_into().unwrap() }).await;
        }
        taken
    };
    let (parted, taken) = timeout(PATIENCE, async { tokio::join!(moving, talk) }).await.unwrap();
    assert!(matches!(parted, TransferOutcome::Left), "{parted:?}");
    assert!(taken > 0 && taken + old.resumed.len() == COUNT, "{taken} {}", old.resumed.len());
    assert!(old.resumed.iter().all(|(_, why)| *why == ReturnReason::Leaving));
}

#[tokio::test]
async fn a_connection_that_no_message_can_carry_comes_back_alone() {
    let (sender, handle, new) = committed_to_raw().await;
    let mut old = Old::default();
    let name = IdleConnection { listener: "x".repeat(LONGEST_PACKET).into(), ..connection("") };
    let unsendable = [connection(vec![0; LONGEST_READ_AHEAD + 1]), name];
    let inodes: Vec<_> = unsendable.iter().map(|connection| inode(&connection.stream)).collect();
    for connection in [connection("a")].into_iter().chain(unsendable).chain([connection("b")]) {
        handle.send(connection).unwrap();
    }
    drop(handle);
    new.say(Credit { connections: 4 }).await;
    let talk = async {
        for _ in 0..2 {
            assert_eq!(new.hear_connections().await.0.len(), 1);
            new.say(Taken { count: 1 }).await;
        }
    };
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
    assert_eq!(old.resumed.iter().map(|(inode, _)| *inode).collect::<Vec<_>>(), inodes);
    assert!(old.resumed.iter().all(|(_, why)| matches!(why, ReturnReason::Unsendable(_))));
}

#[tokio::test]
async fn no_more_is_sent_than_there_is_credit_for() {
    let (sender, handle, new) = committed_to_raw().await;
    let (keeps, mut old) = (Keeps::default(), Old::default());
    fill(handle, &keeps, 600, b"");
    let talk = async {
        let mut left = 600;
        for credit in [1, 252, 253, 5] {
            new.say(Credit { connections: credit }).await;
            let mut credit = usize::try_from(credit).unwrap();
            while credit > 0 && left > 0 {
                let count = new.hear_connections().await.0.len();
                assert!(count <= credit && count <= 252, "{count} {credit}");
                new.say(Taken { count: count.try_into().unwrap() }).await;
                (credit, left) = (credit - count, left - count);
            }
        }
        assert_eq!(left, 89);
        drop(new);
    };
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    assert!(matches!(parted, TransferOutcome::Died), "{parted:?}");
    assert_eq!(old.resumed.len(), 89);
}
