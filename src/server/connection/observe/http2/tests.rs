//! Orders of frames in which held streams were once lost or misunderstood.

use super::{
    frame::{Head, PREFACE, flag, goaway, kind, settings, settings_ack, window_update},
    ready::Taken,
    session::{Session, Step},
};
use crate::{drain::UnmovedReason, idle_connection::Http2Record};

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&Head { length, kind, flags, stream }.encode(), payload].concat()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// A connection with an open stream 1, of which a move is asked.
fn asked() -> Session {
    let mut session = Session::new();
    session.observe_client(&[&PREFACE[..], &settings([])].concat());
    session.observe_library(&[settings(OWN), settings_ack()].concat());
    session.observe_client(&[settings_ack(), frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x82])].concat());
    session.ask();
    assert_eq!(session.out(), settings([(1, 0)]));
    session.advance(15);
    session
}

fn holding() -> Session {
    let mut session = asked();
    session.feed_client(&settings_ack());
    assert_eq!(session.step(), Step::Holding);
    session
}

fn taken(session: &mut Session) -> Vec<u8> {
    let mut taken = Vec::new();
    loop {
        match session.take(usize::MAX) {
            Taken::Bytes(bytes) => taken.extend_from_slice(&bytes),
            Taken::Pause => {}
            Taken::Nothing => return taken,
        }
    }
}

#[test]
fn streams_that_waited_come_behind_the_frame_that_the_library_has_in_part() {
    let new = frame(kind::HEADERS, WHOLE, 3, &[0x20, 0x82]);
    let upload = frame(kind::DATA, 0, 1, &[7; 10]);
    let trailers = frame(kind::HEADERS, flag::END_STREAM, 1, &[0x82]);
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[0x83]);
    for (under_way, cut) in [(&[&*upload], 12), (&[&*[&*trailers, &*rest].concat()], trailers.len())] {
        let (under_way, mut session) = (under_way.concat(), holding());
        session.feed_client(&[&new, &under_way[..cut]].concat());
        assert_eq!(taken(&mut session), under_way[..cut]);
        session.stop_holding();
        assert_eq!(taken(&mut session), b"");
        session.feed_client(&under_way[cut..]);
        assert_eq!(taken(&mut session), [&under_way[cut..], &new].concat());
    }
}

#[test]
fn the_library_sees_a_reset_stream_whose_block_has_changed_the_table() {
    let inserts = frame(kind::HEADERS, WHOLE, 3, &[0x40, 1, b'x', 1, b'a']);
    let uses = frame(kind::HEADERS, WHOLE, 5, &[0xbe]);
    let mut session = holding();
    let bytes = [inserts, reset(3), uses.clone()].concat();
    session.feed_client(&bytes);
    session.stop_holding();
    assert_eq!(taken(&mut session), bytes);

    // One that changes nothing is left out.
    let mut session = holding();
    session.feed_client(&[frame(kind::HEADERS, WHOLE, 3, &[0x82]), reset(3), uses.clone()].concat());
    session.stop_holding();
    assert_eq!(taken(&mut session), uses);
}

#[test]
fn nothing_is_left_out_once_the_client_uses_a_table_that_it_has_said_to_be_without() {
    let both = frame(kind::HEADERS, WHOLE, 3, &[0xbe, 0x40, 1, b'x', 1, b'a']);
    let bytes = [both, reset(3), frame(kind::HEADERS, WHOLE, 5, &[0xbe])].concat();
    for cut in [1, 10, bytes.len()] {
        let mut session = holding();
        bytes.chunks(cut).for_each(|bytes| session.feed_client(bytes));
        assert_eq!(taken(&mut session), bytes, "in pieces of {cut}");
        assert_eq!(session.step(), Step::Stays(UnmovedReason::IgnoresTableSize));
    }
}

#[test]
fn trailers_come_behind_a_block_that_waits_and_has_changed_the_table() {
    let inserts = frame(kind::HEADERS, WHOLE, 3, &[0x40, 1, b'x', 1, b'a']);
    let bytes = [inserts, frame(kind::HEADERS, WHOLE, 1, &[0xbe])].concat();
    for cut in [1, 10, bytes.len()] {
        let mut session = holding();
        bytes.chunks(cut).for_each(|bytes| session.feed_client(bytes));
        assert_eq!(taken(&mut session), bytes, "in pieces of {cut}");
        assert_eq!(session.step(), Step::Stays(UnmovedReason::IgnoresTableSize));
    }
}

#[test]
fn as_much_as_may_wait_is_released_behind_an_upload() {
    let mut session = holding();
    let new = [frame(kind::HEADERS, flag::END_HEADERS, 3, &[0x20, 0x82]), frame(kind::DATA, 0, 3, &[7; 3]).repeat(300)];
    let (new, upload) = (new.concat(), frame(kind::DATA, 0, 1, &[7; 20]));
    session.feed_client(&[&new, &upload[..12]].concat());
    session.stop_holding();
    session.feed_client(&upload[12..20]);
    assert_eq!(session.step(), Step::Emptied);
    session.feed_client(&upload[20..]);
    assert_eq!(taken(&mut session), [upload, new].concat());
}

#[test]
fn a_stream_that_a_client_cannot_open_releases_those_that_wait_before_it() {
    let bytes = [frame(kind::HEADERS, WHOLE, 3, &[0x20, 0x82]), frame(kind::HEADERS, WHOLE, 4, &[0x82])].concat();
    for cut in [1, 10, bytes.len()] {
        let mut session = holding();
        bytes.chunks(cut).for_each(|bytes| session.feed_client(bytes));
        assert_eq!(taken(&mut session), bytes, "in pieces of {cut}");
        assert_eq!(session.step(), Step::Stays(UnmovedReason::NotUnderstood));
    }
}

#[test]
fn a_block_that_empties_the_table_does_so_however_it_is_cut() {
    let bytes = frame(kind::HEADERS, WHOLE, 3, &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    for cut in [1, 10, bytes.len()] {
        let mut session = holding();
        bytes.chunks(cut).for_each(|bytes| session.feed_client(bytes));
        assert_eq!(session.step(), Step::Holding, "in pieces of {cut}");
    }
}

#[test]
fn an_acknowledgement_that_comes_too_late_holds_nothing_back() {
    let mut session = asked();
    session.stay(UnmovedReason::NoAcknowledgement);
    let new = frame(kind::HEADERS, WHOLE, 3, &[0x82]);
    session.feed_client(&[settings_ack(), new.clone()].concat());
    session.feed_client(&reset(3));
    assert_eq!(taken(&mut session), [new, reset(3)].concat());
}

#[test]
fn the_library_does_not_hear_of_what_comes_behind_a_reset_that_it_has_not_seen() {
    let behind = [reset(3), frame(kind::WINDOW_UPDATE, 0, 3, &[0, 0, 0, 9]), frame(kind::DATA, 0, 3, b"late")].concat();
    let (new, next) = (frame(kind::HEADERS, WHOLE, 3, &[0x20, 0x82]), frame(kind::HEADERS, WHOLE, 5, &[0x20, 0x82]));
    for releases_first in [false, true] {
        let mut session = holding();
        session.feed_client(&[new.clone(), reset(3)].concat());
        if releases_first {
            session.stop_holding();
        }
        (0..1000).for_each(|_| session.feed_client(&behind));
        session.feed_client(&next);
        session.stop_holding();
        assert_eq!(taken(&mut session), next);
        let first = window_update(0, 4);
        assert_eq!(session.out(), first);
        session.advance(first.len());
        assert_eq!(session.out(), window_update(0, 3996), "the client may send as much again");
    }
}

/// The settings of the library.
const OWN: [(u16, u32); 4] = [(3, 200), (4, 65_535), (5, 16_384), (6, 16_384)];

/// A connection that has had one stream.
fn record() -> Http2Record {
    Http2Record {
        own_settings: OWN.to_vec(),
        highest_stream: 1,
        send_window: 65_535,
        receive_window: 65_535,
        ..Http2Record::default()
    }
}

/// The next process of a client that allows no DATA on the connection, with an answer of which all but the headers waits.
fn gated(trailers: &[u8]) -> (Session, Vec<u8>) {
    let record = Http2Record { send_window: 0, table_emptied: true, ..record() };
    let mut session = Session::resume(&record).unwrap();
    session.feed_library(&[settings(OWN), settings_ack(), settings_ack(), settings_ack()].concat());
    taken(&mut session);
    session.flushed();
    let out = session.out().len();
    session.advance(out);
    session.feed_client(&frame(kind::HEADERS, flag::END_HEADERS, 3, &[0x82]));
    session.feed_client(&frame(kind::HEADERS, WHOLE, 5, &[0x82]));
    taken(&mut session);
    let (headers, data) = (frame(kind::HEADERS, flag::END_HEADERS, 3, &[0x88]), frame(kind::DATA, 0, 3, b"data"));
    session.feed_library(&[&headers, &data, trailers].concat());
    assert_eq!(session.out(), headers);
    session.advance(headers.len());
    (session, data)
}

fn trailers() -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, 3, &[0x40, 1, b'x', 1, b'a'])
}

#[test]
fn header_blocks_go_out_in_the_order_in_which_they_were_encoded() {
    let (mut session, data) = gated(&trailers());
    let begin = frame(kind::HEADERS, flag::END_STREAM, 5, &[0xbe]);
    let next = [begin, frame(kind::CONTINUATION, flag::END_HEADERS, 5, &[0xbe])].concat();
    session.feed_library(&next);
    assert_eq!(session.out(), b"");
    session.feed_client(&window_update(0, 100));
    assert_eq!(session.out(), [data, trailers(), next].concat());
}

#[test]
fn settings_are_acknowledged_behind_what_was_written_before_them() {
    let (mut session, data) = gated(&trailers());
    session.feed_client(&settings([(4, 5)]));
    session.feed_library(&settings_ack());
    assert_eq!(session.out(), b"");
    session.feed_client(&window_update(0, 100));
    assert_eq!(session.out(), [data, trailers(), settings_ack()].concat());
}

#[test]
fn a_header_block_that_waits_comes_though_its_stream_is_reset() {
    let (mut session, _) = gated(&trailers());
    let next = frame(kind::HEADERS, WHOLE, 5, &[0xbe]);
    session.feed_client(&reset(3));
    session.feed_library(&next);
    assert_eq!(session.out(), [trailers(), next].concat());
}

#[test]
fn a_reset_of_the_library_comes_behind_the_answer_that_it_has_written() {
    let end = frame(kind::DATA, flag::END_STREAM, 3, b"end");
    let (mut session, data) = gated(&[end, frame(kind::RST_STREAM, 0, 3, &[0; 4])].concat());
    session.feed_client(&window_update(0, 100));
    let all = [data, frame(kind::DATA, flag::END_STREAM, 3, b"end"), frame(kind::RST_STREAM, 0, 3, &[0; 4])].concat();
    assert_eq!(session.out(), all);
}

#[test]
fn a_client_that_asks_on_and_takes_no_data_is_sent_away() {
    let (mut session, _) = gated(&trailers());
    let answer = frame(kind::HEADERS, WHOLE, 5, &[0x88; 16_000]);
    for _ in 0..66 {
        assert!(!session.is_over());
        session.feed_library(&answer);
    }
    assert_eq!(session.out(), goaway(5, 0));
    let out = session.out().len();
    session.advance(out);
    assert!(session.is_over());
}

/// The next process, with a library that has opened.
fn resumed() -> Session {
    let mut session = Session::resume(&Http2Record { table_emptied: true, ..record() }).unwrap();
    taken(&mut session);
    session.feed_library(&settings(OWN));
    session.feed_library(&[settings_ack(), settings_ack(), settings_ack()].concat());
    session.flushed();
    session.ask();
    session.feed_client(&[settings_ack(), settings_ack()].concat());
    assert_eq!(session.step(), Step::Holding);
    session
}

#[test]
fn in_the_next_process_a_block_that_waits_is_released_whole_or_not_at_all() {
    let begin = frame(kind::HEADERS, flag::END_STREAM, 3, &[]);
    let whole = |index| [begin.clone(), frame(kind::CONTINUATION, flag::END_HEADERS, 3, &[index])].concat();
    for (block, expected) in [(whole(0x82), whole(0x82)), (whole(0xbe), Vec::new())] {
        let mut session = resumed();
        session.feed_client(&block[..begin.len()]);
        session.stop_holding();
        assert_eq!(taken(&mut session), b"");
        session.feed_client(&block[begin.len()..]);
        assert_eq!(taken(&mut session), expected);
    }
}

#[test]
fn a_stream_above_the_last_one_of_a_goaway_is_not_counted_as_open() {
    let mut session = asked();
    let goaway = |last: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4], *b"what"].concat());
    session.feed_client(&settings_ack());
    session.feed_library(&[goaway(0x7fff_ffff), goaway(1)].concat());
    session.feed_library(&frame(kind::DATA, flag::END_STREAM, 1, b"end"));
    session.feed_client(&frame(kind::DATA, flag::END_STREAM, 1, b""));
    taken(&mut session);
    assert!(!session.has_streams());
    for stream in (3..2000).step_by(2) {
        session.feed_client(&frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x20, 0x82]));
        taken(&mut session);
    }
    assert!(!session.has_streams(), "the library ignores them");
}

#[test]
fn trailers_that_use_a_table_which_this_process_has_not_end_their_stream() {
    let mut session = Session::resume(&record()).unwrap();
    session.feed_library(&[settings(OWN), settings_ack(), settings_ack(), settings_ack()].concat());
    taken(&mut session);
    session.flushed();
    session.feed_client(&frame(kind::HEADERS, flag::END_HEADERS, 3, &[0x82]));
    taken(&mut session);
    session.feed_client(&frame(kind::HEADERS, WHOLE, 3, &[0xbe]));
    let (to_library, to_client) = (taken(&mut session), session.out().to_vec());
    let is_reset = |frames: &[u8]| frames.windows(9).any(|head| head == &reset(3)[..9]);
    assert!(is_reset(&to_library) && is_reset(&to_client), "{to_library:?} {to_client:?}");
}
