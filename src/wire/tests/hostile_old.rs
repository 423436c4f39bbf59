//! A successor with something at the other end that is no predecessor.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

use super::{
    super::{
        error::Refusal,
        join::{Joined, join_blocking},
        packet::LONGEST_PACKET,
        protocol::*,
        receive::{ConnectionReceiver, Ended},
        records::Payload,
    },
    codec::every_message,
    support::*,
};
use crate::sys::{memfd, scm};

/// What becomes of a successor to whom this is said, one packet after the other and each with so many descriptors.
async fn joined(said: &[(Vec<u8>, usize)]) -> (Result<Joined, Refusal>, Option<Message>) {
    let (own, control) = scm::pair().unwrap();
    let old = Raw::new(own);
    let joining = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE));
    for (packet, count) in said {
        let fds: Vec<_> = (0..*count).map(|_| connection("").stream).collect();
        let _ = old.0.send_packet(packet, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await;
    }
    let joined = joining.await.unwrap();
    (joined, old.hear_out_now().pop())
}

fn packet(message: impl Into<Message>) -> Vec<u8> {
    message.into().encode().unwrap()
}

fn listeners(count: usize, more: bool) -> Vec<u8> {
    let record = ListenerRecord { name: "http".to_owned(), created: None, bound: false };
    packet(Listeners { records: vec![record; count], more })
}

fn state(len: u64, inline: Option<&'static [u8]>) -> Vec<u8> {
    let inline = inline.map(|bytes| Blob(bytes.into()));
    packet(SectionRecord { kind: SectionKind::State, name: "s".to_owned(), version: 0, len, inline })
}

#[tokio::test]
async fn an_offer_that_makes_no_sense_is_refused_with_a_reason_that_the_other_side_hears() {
    let hello = (packet(hello()), 0);
    for (said, says) in [
        (vec![(vec![1], 0)], "a packet of one byte"),
        (vec![(vec![1; LONGEST_PACKET + 1], 0)], "a packet longer than 65536 bytes"),
        (vec![(vec![1, 0, 1], 0)], "message 1: Hit the end of buffer"),
        (vec![(listeners(1, false), 1)], "sent a `Listeners` where a `Hello` was to come"),
        (vec![hello.clone(), hello.clone()], "sent a `Hello` where `Listeners` was to come"),
        (vec![hello.clone(), (packet(Commit {}), 0)], "sent a `Commit` where `Listeners` was to come"),
        (vec![hello.clone(), (listeners(2, false), 1)], "1 came with 2 listeners"),
        (vec![hello.clone(), (listeners(2, false), 3)], "3 came with 2 listeners"),
        (vec![hello.clone(), (listeners(0, false), 1)], "1 came with 0 listeners"),
        (vec![hello.clone(), (listeners(3000, true), 0), (listeners(3000, true), 0)], "more than 4096 listeners"),
        (
            vec![hello.clone(), (listeners(1, false), 0), (listeners(1, false), 0)],
            "sent a `Listeners` where `Offered` was to come",
        ),
        (vec![hello.clone(), (listeners(1, false), 0), (state(3, Some(b"ab")), 0)], "its length is another"),
        (vec![hello.clone(), (listeners(1, false), 0), (state(5000, None), 0)], "0 descriptors came with it"),
        (vec![hello.clone(), (listeners(1, false), 0), (state(5000, None), 2)], "2 descriptors came with it"),
        (vec![hello.clone(), (listeners(1, false), 0), (state(5000, None), 1)], "what came is no memfd"),
        (vec![hello.clone(), (listeners(1, false), 0), (state(u64::MAX, None), 1)], "bytes are too many"),
    ] {
        let (joined, answer) = joined(&said).await;
        let refusal = joined.unwrap_err();
        assert!(refusal.to_string().contains(says), "{says}: {refusal}");
        assert_eq!(answer, Some(Failed { reason: refusal.to_string() }.into()));
    }
}

#[tokio::test]
async fn a_predecessor_of_another_version_is_refused_unless_it_speaks_ours() {
    for (version, oldest_version, is_known) in [(0, 0, false), (9, 3, false), (9, 2, true), (9, 1, true)] {
        let hello = packet(Hello { version, oldest_version, ..hello() });
        let (joined, _) = joined(&[(hello, 0), (listeners(0, false), 0), (packet(Offered {}), 0)]).await;
        match joined {
            Ok(_) => assert!(is_known),
            Err(refusal) => {
                assert!(!is_known && matches!(refusal, Refusal::Version { .. }), "{refusal}");
            }
        }
    }
}

#[tokio::test]
async fn kinds_of_a_later_version_are_ignored_in_an_offer() {
    let unknown = (vec![0xff, 0xff, 3], 2);
    let said = [
        unknown.clone(),
        (packet(hello()), 1),
        unknown.clone(),
        (listeners(2, true), 2),
        unknown.clone(),
        (listeners(1, false), 0),
        unknown.clone(),
        (state(2, Some(b"ab")), 3),
        unknown,
        (packet(Offered {}), 1),
    ];
    let joined = joined(&said).await.0.unwrap();
    assert_eq!(joined.listeners.iter().map(|(_, fd)| fd.is_some()).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(
        joined.sections,
        [section(SectionKind::State, "s", "ab")]
            .map(|section| super::super::section::Section { version: 0, ..section })
    );
}

#[tokio::test]
async fn a_predecessor_that_says_nothing_or_never_ends_is_waited_for_until_the_deadline() {
    for floods in [false, true] {
        let (own, control) = scm::pair().unwrap();
        let old = Raw::new(own);
        let flood = tokio::spawn(async move {
            let heard = old.hear().await;
            while floods && old.0.send_packet(&[0xff, 0xff], &[]).await.is_ok() {}
            (heard, old.hear_out().await)
        });
        let refusal = spawn_blocking(|| join_blocking(control, Instant::now() + Duration::from_millis(50))).await;
        assert_eq!(refusal.unwrap().unwrap_err(), Refusal::TimedOut { awaited: "a `Hello`" });
        let (first, rest) = flood.await.unwrap();
        assert_eq!(first, Join::own().into());
        assert!(floods || matches!(&rest[..], [Message::Failed(_)]), "{rest:?}");
    }
}

#[tokio::test]
async fn after_the_deadline_nothing_more_is_heard() {
    let (own, control) = scm::pair().unwrap();
    let old = Raw::new(own);
    old.say(hello()).await;
    let refusal = spawn_blocking(|| join_blocking(control, Instant::now())).await.unwrap().unwrap_err();
    assert_eq!(refusal, Refusal::TimedOut { awaited: "a `Hello`" });
    assert_eq!(refusal.to_string(), "a `Hello` did not come in time: the other process hangs, or has too much to do");
}

#[test]
fn what_is_no_control_socket_is_refused() {
    let stream = UnixStream::pair().unwrap().0;
    let refusal = join_blocking(stream.into(), Instant::now() + PATIENCE).unwrap_err();
    assert!(
        refusal.to_string().contains("is a connected Unix stream socket and not a Unix sequential-packet"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_message_in_place_of_the_commit_is_refused_with_a_reason() {
    for message in every_message() {
        if matches!(message, Message::Commit(_)) {
            continue;
        }
        let (old, joined) = join_raw().await;
        old.say(message.clone()).await;
        let refusal = joined.control.into_candidate().unwrap().into_ready_receiver().await.unwrap_err();
        let declined = matches!(message, Message::Abort(_) | Message::Failed(_) | Message::Leaving(_));
        assert_eq!(matches!(refusal, Refusal::Declined { .. }), declined, "{message:?}: {refusal}");
        assert!(declined || matches!(refusal, Refusal::OutOfOrder { .. }), "{message:?}: {refusal}");
        assert_eq!(old.hear_out().await, [Ready {}.into(), Failed { reason: refusal.to_string() }.into()]);
    }
}

#[tokio::test]
async fn a_successor_that_cannot_start_says_why() {
    let (old, joined) = join_raw().await;
    joined.control.into_candidate().unwrap().fail(&"no database ".repeat(10_000));
    let [Message::Failed(failed)] = &old.hear_out().await[..] else { panic!("it did not say so") };
    assert!(failed.reason.starts_with("no database no") && failed.reason.len() <= 4096);
}

/// Sends the messages, and gives the answers to each; a `Done` follows.
async fn answers(
    receiver: ConnectionReceiver,
    old: &Raw,
    messages: Vec<(Vec<u8>, Vec<OwnedFd>)>,
) -> (Vec<Message>, New) {
    let mut new = New::default();
    let talk = async {
        let mut answers = Vec::new();
        for (packet, fds) in messages {
            old.0.send_packet(&packet, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.unwrap();
            answers.push(loop {
                match old.hear().await {
                    Message::Credit(_) => {}
                    answer => break answer,
                }
            });
        }
        old.say(Done {}).await;
        answers
    };
    let (ended, answers) = tokio::join!(receiver.run(&mut new), talk);
    assert_eq!(ended, Ended::Done);
    (answers, new)
}

fn streams(count: usize) -> Vec<OwnedFd> {
    a_move(count).1
}

fn move_of(ahead: &[u64]) -> Vec<u8> {
    packet(Connections { records: ahead.iter().map(|len| a_record(Payload::Memfd { len: *len })).collect() })
}

#[tokio::test]
async fn connections_that_do_not_fit_their_descriptors_are_refused_and_nothing_else_is() {
    let two = || packet(a_move(2).0);
    let with = |mut fds: Vec<OwnedFd>, memfd: OwnedFd| {
        fds.push(memfd);
        fds
    };
    let bytes = |len| memfd::sealed("test", &[&vec![1; len]]).unwrap();
    let unsealed = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        OwnedFd::from(file)
    };
    let bad = [
        (two(), streams(0), "0 descriptors came with 2 connections, not 2"),
        (two(), streams(1), "1 descriptors came with 2 connections, not 2"),
        (two(), streams(3), "3 descriptors came with 2 connections, not 2"),
        (two(), streams(253), "253 descriptors came with 2 connections, not 2"),
        (move_of(&[5000, 1]), streams(2), "2 descriptors came with 2 connections, not 3"),
        (move_of(&[5000, 1]), streams(3), "what came is no memfd"),
        (move_of(&[5000]), with(streams(1), unsealed()), "memfd"),
        (move_of(&[5000]), with(streams(1), bytes(4999)), "of another length than announced"),
        (move_of(&[5000]), with(streams(1), bytes(5001)), "of another length than announced"),
        (move_of(&[u64::MAX, 2]), with(streams(2), bytes(1)), "too many bytes ahead"),
        (move_of(&[0]), streams(1), "too many bytes ahead"),
        (move_of(&[1 << 40]), with(streams(1), bytes(1)), "too many bytes ahead"),
    ];
    let says: Vec<_> = bad.iter().map(|(_, _, says)| *says).collect();
    let good = (move_of(&[5000, 1]), with(streams(2), bytes(5001)), "");
    let messages = bad.into_iter().chain([good]).map(|(packet, fds, _)| (packet, fds)).collect();
    let (receiver, _handle, old) = committed_by_raw().await;
    let (mut answers, new) = answers(receiver, &old, messages).await;
    assert_eq!(answers.pop(), Some(Taken { count: 2 }.into()));
    for (answer, says) in answers.into_iter().zip(says) {
        assert!(matches!(&answer, Message::Refused(refused) if refused.reason.contains(says)), "{says}: {answer:?}");
    }
    assert_eq!(new.served.iter().map(|connection| connection.read_ahead.len()).collect::<Vec<_>>(), [5000, 1]);
}

#[tokio::test]
async fn what_is_refused_is_closed_here() {
    let (receiver, _handle, old) = committed_by_raw().await;
    let (stream, mut watched) = UnixStream::pair().unwrap();
    let messages = vec![(packet(a_move(2).0), vec![OwnedFd::from(stream)])];
    let (answers, _) = answers(receiver, &old, messages).await;
    assert!(matches!(&answers[..], [Message::Refused(_)]), "{answers:?}");
    assert_eq!(watched.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_takes_no_connections_gives_its_reason() {
    let (receiver, _handle, old) = committed_by_raw().await;
    let mut new = New { refuses: Some("no listener is named \"http\"".to_owned()), ..New::default() };
    let talk = async {
        let (message, fds) = a_move(3);
        old.say_with(message, &fds).await;
        let refused = Refused { count: 3, reason: "no listener is named \"http\"".to_owned() };
        let record = SectionRecord {
            kind: SectionKind::Final,
            name: "f".to_owned(),
            version: 1,
            len: 0,
            inline: Some(Blob::default()),
        };
        old.say(record).await;
        loop {
            match old.hear().await {
                Message::FinalTaken(taken) => break assert_eq!(taken.error.as_ref(), Some(&refused.reason)),
                Message::Credit(_) => {}
                Message::Refused(message) => assert_eq!(message, refused),
                message => panic!("{message:?}"),
            }
        }
        old.say(Done {}).await;
    };
    let (ended, ()) = tokio::join!(receiver.run(&mut new), talk);
    assert_eq!((ended, new.served.len(), new.finals.len()), (Ended::Done, 0, 1));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_move_and_not_what_was_taken() {
    let wrong = every_message().into_iter().filter(|message| {
        use Message::{CarriedConnections, Connections, Done, Older, SectionRecord};
        !matches!(message, Connections(_) | CarriedConnections(_) | SectionRecord(_) | Done(_) | Older(_))
    });
    let wrong = wrong.map(|message| message.encode().unwrap());
    for packet in wrong.chain([vec![7], vec![6, 0, 200], vec![6; LONGEST_PACKET + 1]]) {
        let (receiver, _handle, old) = committed_by_raw().await;
        let (message, fds) = a_move(3);
        old.say_with(message, &fds).await;
        old.throw(&packet).await;
        let mut new = New::default();
        let ended = receiver.run(&mut new).await;
        assert!(matches!(ended, Ended::Broken(_)), "{packet:?}: {ended:?}");
        assert_eq!(new.served.len(), 3);
    }
}

#[tokio::test]
async fn words_of_the_server_reach_the_predecessor_and_after_the_last_one_nothing_is_taken() {
    let (receiver, handle, old) = committed_by_raw().await;
    let mut new = New::default();
    let talk = async {
        handle.leave().await;
        let (message, fds) = a_move(2);
        old.say_with(message, &fds).await;
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.extend(Some(old.hear().await).filter(|message| !matches!(message, Message::Credit(_))));
        }
        assert_eq!(heard[0], Leaving {}.into());
        assert_eq!(heard[1], Refused { count: 2, reason: "it is stopping".to_owned() }.into());
        old.say(Done {}).await;
    };
    let (ended, ()) = timeout(PATIENCE, async { tokio::join!(receiver.run(&mut new), talk) }).await.unwrap();
    assert_eq!((ended, new.served.len()), (Ended::Done, 0));
    // No process is left to send it to.
    handle.leave().await;
}
