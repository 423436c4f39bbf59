//! Either side ends, at every step: everything is in one place afterwards.

use std::{collections::BTreeSet, future::poll_fn, os::fd::OwnedFd, task::Poll, time::Instant};

use tokio::{
    task::{spawn_blocking, yield_now},
    time::timeout,
};

use super::{
    super::{
        channel::Channel,
        error::Refusal,
        join::join_blocking,
        offer::{Committed, offer},
        protocol::*,
        reason::ReturnReason,
        receive::Ended,
        send::TransferOutcome,
    },
    support::*,
};
use crate::sys::scm;

/// Everything that a successor says and hears, one after the other.
const STEPS_OF_NEW: usize = 17;

/// At which of them it is ready, and committed to.
const READY: usize = 6;

/// Does step `step`; gives the connections that it has said are taken.
async fn new_steps(new: &Raw, step: usize, received: &mut Vec<OwnedFd>) -> Vec<u64> {
    match step {
        0 => new.say(Join::own()).await,
        5 => new.say(Ready {}).await,
        7 | 11 => new.say(Credit { connections: 4 }).await,
        8 | 12 | 15 => *received = new.hear_connections().await.1,
        9 => {
            new.say(Taken { count: 4 }).await;
            return inodes(received);
        }
        10 => new.say(Trim { generations: 1 }).await,
        13 => new.say(Refused { count: 4, reason: "full".to_owned() }).await,
        14 => new.say(Credit { connections: 100 }).await,
        16 => {
            new.say(Taken { count: 2 }).await;
            return inodes(received);
        }
        _ => drop(new.hear().await),
    }
    Vec::new()
}

#[tokio::test]
async fn wherever_the_successor_ends_each_connection_is_taken_or_given_back_once() {
    for steps in 0..=STEPS_OF_NEW {
        let (channel, control) = Channel::pair().unwrap();
        let new = tokio::spawn(async move {
            let (new, mut received, mut taken) = (Raw::new(control), Vec::new(), Vec::new());
            for step in 0..steps {
                taken.extend(new_steps(&new, step, &mut received).await);
            }
            taken
        });
        let sections = vec![section(SectionKind::State, "long", vec![0; 5000])];
        let offered = offer(channel, an_offer(2, sections)).await;
        if steps < READY {
            assert!(matches!(offered, Err(Refusal::Gone { .. })), "{steps}: {offered:?}");
            continue;
        }
        let committed = offered.unwrap().commit().await;
        let Ok(Committed { sender, handle }) = committed else {
            assert!(steps == READY && matches!(committed, Err(Refusal::Gone { .. })), "{steps}: {committed:?}");
            continue;
        };
        let keeps = Keeps::default();
        let connections: Vec<_> = (0..10).map(|_| keeps.on(connection("GET"))).collect();
        let all: BTreeSet<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();
        connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
        let mut old = Old::default();
        drop(handle);
        let parted = sender.run(&mut old).await;
        let taken = new.await.unwrap();
        let is_whole = steps == STEPS_OF_NEW;
        assert_eq!(matches!(parted, TransferOutcome::Moved(_)), is_whole, "{steps}: {parted:?}");
        assert!(is_whole || matches!(parted, TransferOutcome::Died), "{steps}: {parted:?}");
        assert_eq!(keeps.count(), 0, "{steps}");
        let resumed: Vec<_> = old.resumed.iter().map(|(inode, _)| *inode).collect();
        assert_eq!(taken.len() + resumed.len(), all.len(), "{steps}");
        assert_eq!(taken.into_iter().chain(resumed).collect::<BTreeSet<_>>(), all, "{steps}");
        let died = old.resumed.iter().filter(|(_, why)| *why == ReturnReason::Died).count();
        assert_eq!(
            died,
            [10, 6, 2, 0][usize::from(steps > 9) + usize::from(steps > 13) + usize::from(is_whole)],
            "{steps}"
        );
    }
}

/// Everything that a predecessor says and hears, one after the other.
const STEPS_OF_OLD: usize = 14;

/// After which of them its listeners are sent, and after which it has committed.
const LISTENERS: usize = 3;
const COMMITTED: usize = 7;

/// Does step `step`; gives the connections that it has sent.
async fn old_steps(old: &Raw, step: usize) -> Vec<u64> {
    match step {
        1 => old.say(hello()).await,
        2 => {
            let record = ListenerRecord { name: "http".to_owned(), created: None, bound: true };
            old.say_with(Listeners { records: vec![record], more: false }, &[connection("").stream]).await;
        }
        3 => {
            let record = SectionRecord {
                kind: SectionKind::State,
                name: "state".to_owned(),
                version: 0,
                len: 1,
                inline: Some(Blob("a".into())),
            };
            old.say(record).await;
        }
        4 => old.say(Offered {}).await,
        6 => old.say(Commit {}).await,
        8 | 9 => {
            let (message, fds) = a_move(3);
            old.say_with(message, &fds).await;
            return inodes(&fds);
        }
        12 => {
            let record = SectionRecord {
                kind: SectionKind::Final,
                name: String::new(),
                version: 0,
                len: 0,
                inline: Some(Blob::default()),
            };
            old.say(record).await;
            assert!(matches!(old.hear().await, Message::FinalTaken(_)));
        }
        13 => old.say(Done {}).await,
        _ => drop(old.hear().await),
    }
    Vec::new()
}

/// Plays a predecessor that ends after `steps`, with the word `last` if there is one; what becomes of the successor.
async fn outlive(steps: usize, last: Option<Message>) -> (Vec<u64>, Result<(Ended, New), Refusal>, bool) {
    let (own, control) = scm::pair().unwrap();
    let old = tokio::spawn(async move {
        let (old, mut sent) = (Raw::new(own), Vec::new());
        for step in 0..steps {
            sent.extend(old_steps(&old, step).await);
        }
        if let Some(last) = last {
            old.0.try_send(last);
        }
        sent
    });
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap();
    let joined = match joined {
        Ok(joined) => joined,
        Err(refusal) => return (old.await.unwrap(), Err(refusal), false),
    };
    assert!(joined.listeners.len() == 1 && joined.listeners[0].1.is_some());
    let sent = async || old.await.unwrap();
    match joined.control.into_candidate().unwrap().into_ready_receiver().await {
        Ok((mut receiver, _handle)) => {
            receiver.set_predecessor(Some(an_ended_process()));
            let mut new = New::default();
            let ended = receiver.run(&mut new).await;
            (sent().await, Ok((ended, new)), true)
        }
        Err(refusal) => (sent().await, Err(refusal), true),
    }
}

#[tokio::test]
async fn wherever_the_predecessor_dies_its_successor_has_what_was_sent() {
    for steps in 0..=STEPS_OF_OLD {
        let (sent, outcome, has_listeners) = outlive(steps, None).await;
        assert_eq!(has_listeners, steps >= LISTENERS, "{steps}");
        if steps < COMMITTED {
            assert!(outcome.as_ref().is_err_and(Refusal::is_gone), "{steps}: {outcome:?}");
            continue;
        }
        let (ended, new) = outcome.unwrap();
        assert_eq!(ended, if steps == STEPS_OF_OLD { Ended::Done } else { Ended::Died }, "{steps}");
        let served: Vec<_> = new.served.iter().map(|connection| inode(&connection.stream)).collect();
        assert_eq!(served, sent, "{steps}");
    }
}

#[tokio::test]
async fn wherever_the_predecessor_calls_it_off_its_successor_serves_nothing_of_it() {
    let abort = || Abort { reason: "on second thoughts".to_owned() }.into();
    for steps in 0..STEPS_OF_OLD - 1 {
        let (_, outcome, _) = outlive(steps, Some(abort())).await;
        let declined = Refusal::Declined { reason: "on second thoughts".to_owned() };
        match outcome {
            Err(refusal) => assert!(steps < COMMITTED && refusal == declined, "{steps}: {refusal:?}"),
            Ok((ended, _)) => assert!(steps >= COMMITTED && ended == Ended::Broken(declined), "{steps}: {ended:?}"),
        }
    }
}

#[tokio::test]
async fn what_could_not_be_acknowledged_is_dropped_where_the_predecessor_has_it_back() {
    for (last, served) in [(Some(Abort { reason: String::new() }), 0), (None, 3)] {
        let (mut receiver, _handle, old) = committed_by_raw().await;
        receiver.set_predecessor(Some(an_ended_process()));
        let (message, fds) = a_move(3);
        old.say_with(message, &fds).await;
        if let Some(last) = last {
            old.0.try_send(last);
        }
        drop(old);
        let mut new = New::default();
        receiver.run(&mut new).await;
        assert_eq!(new.served.len(), served);
    }
}

#[tokio::test]
async fn what_could_not_be_acknowledged_is_served_when_the_predecessor_is_dead_and_not_before() {
    let (mut child, process) = another_process();
    let (mut receiver, _handle, old) = committed_by_raw().await;
    receiver.set_predecessor(Some(process));
    let (message, fds) = a_move(3);
    old.say_with(message, &fds).await;
    drop(old);
    let mut new = New::default();
    let mut running = Box::pin(receiver.run(&mut new));
    // Long after it has seen the end of the control socket.
    for _ in 0..1_000 {
        assert!(poll_fn(|context| Poll::Ready(running.as_mut().poll(context).is_pending())).await);
        yield_now().await;
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(running.await, Ended::Died);
    assert_eq!(new.served.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_acknowledged_is_dropped_where_the_predecessor_lives_on() {
    for is_known in [true, false] {
        let (_child, process) = another_process();
        let (mut receiver, _handle, old) = committed_by_raw().await;
        receiver.set_predecessor(is_known.then_some(process));
        let (message, fds) = a_move(3);
        old.say_with(message, &fds).await;
        drop(old);
        let mut new = New::default();
        assert_eq!(receiver.run(&mut new).await, Ended::Died);
        assert_eq!(new.served.len(), 0);
    }
}

#[tokio::test]
async fn a_process_that_stops_does_not_wait_for_the_end_of_its_predecessor() {
    let (_child, process) = another_process();
    let (mut receiver, handle, old) = committed_by_raw().await;
    receiver.set_predecessor(Some(process));
    let (message, fds) = a_move(3);
    old.say_with(message, &fds).await;
    drop(old);
    let mut new = New::default();
    let both = async { tokio::join!(receiver.run(&mut new), handle.leave()) };
    let (ended, ()) = timeout(PATIENCE / 2, both).await.unwrap();
    assert_eq!((ended, new.served.len()), (Ended::Died, 0));
}

#[tokio::test]
async fn a_predecessor_that_gives_up_says_so() {
    let said = "the handoff was called off";
    // After each word of its offer, and after the answer.
    for hears in 1..=4 {
        let (channel, control) = Channel::pair().unwrap();
        let new = Raw::new(control);
        let offering = tokio::spawn(offer(channel, an_offer(1, Vec::new())));
        new.say(Join::own()).await;
        for _ in 0..hears.min(3) {
            new.hear().await;
        }
        if hears == 4 {
            new.say(Ready {}).await;
            drop(offering.await.unwrap().unwrap());
        } else {
            offering.abort();
        }
        assert_eq!(new.hear_abort().await, said);
    }
}
