//! An HTTP/2 client that keeps to the protocol, on a connection that moves at any moment from one instance of the library to the next.
//!
//! - Each response is that of its request, byte for byte, and none is missing, whatever was held, reset or under way.
//! - Neither side ever breaks the protocol for the other: windows, header compression, idle and closed streams, acknowledgements.
//! - In the end both sides agree on their windows.
//! - A client that goes on to use its table of header compression is sent away, and never understood wrongly.

#![no_main]

use axum_activation::fuzzing::{Http2, MoveStep};
use axum_activation_fuzz::{
    Input,
    http2::{Client, Library},
};
use libfuzzer_sys::fuzz_target;

const MOST_MOVES: u32 = 8;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (flags, stream_window) = (input.byte(), input.byte());
    let stream_window = if stream_window == 0 { 65_535 } else { u32::from(stream_window) * 1000 };
    let client = Client::new(flags & 1 == 1, stream_window, u32::from(flags >> 4) * 20_000);
    let wanted_window = if flags & 2 == 2 { 200_000 } else { 65_535 };
    let mut world = World {
        client,
        process: Process { http2: Http2::accepted(), library: Library::new(wanted_window) },
        wanted_window,
        to_server: Vec::new(),
        to_client: Vec::new(),
        moves: 0,
    };
    world.process.run(&mut world.to_client);
    while !input.0.is_empty() {
        world.step(&mut input);
    }
    world.finish();
});

struct World {
    client: Client,
    process: Process,
    wanted_window: u32,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    moves: u32,
}

/// One instance of the library, behind the layer.
#[derive(Debug)]
struct Process {
    http2: Http2,
    library: Library,
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let Self { client, process, .. } = self;
        let before = input.0;
        match input.byte() % 24 {
            0..=2 => client.open(input),
            3 | 4 => client.data(input),
            5 => client.end(input.byte()),
            6 => client.reset(input.byte()),
            7 => client.ping(input.byte()),
            8 => client.priority(input.byte()),
            9 => client.set(u32::from(input.byte()) * 32),
            10 => client.grant(u32::from(input.byte()) * 256),
            11 => client.grant_streams(u32::from(input.byte()) + 1),
            12 => client.acknowledge(),
            13 | 14 => process.library.answer(input.byte()),
            15 => process.library.reset(input.byte()),
            16 => process.http2.ask(),
            17 => process.http2.stop_holding(),
            18 => process.http2.hold_again(),
            19 => self.deliver_to_client(input.up_to(40_000)),
            20 => self.deliver_to_server(input.up_to(16_384)),
            21 => self.deliver_to_server(usize::MAX),
            22 => {
                self.deliver_to_server(usize::MAX);
                self.deliver_to_client(usize::MAX);
                self.client.acknowledge();
            }
            _ => self.depart(),
        }
        self.process.run(&mut self.to_client);
        if option_env!("TRACE").is_some() {
            let read = &before[..before.len() - input.0.len()];
            eprintln!("step {} of {read:?}: {:?}\n{:?}\n", read[0] % 24, self.process, self.client);
        }
    }

    /// What the client has written comes in part.
    fn deliver_to_server(&mut self, most: usize) {
        self.to_server.append(&mut self.client.out);
        let mut left = most.min(self.to_server.len());
        while left > 0 && self.process.http2.wants_client() {
            let here = left.min(16_384);
            let bytes: Vec<_> = self.to_server.drain(..here).collect();
            self.process.read(&bytes);
            self.process.run(&mut self.to_client);
            left -= here;
        }
    }

    fn deliver_to_client(&mut self, most: usize) {
        let here = most.min(self.to_client.len());
        let bytes: Vec<_> = self.to_client.drain(..here).collect();
        self.client.read(&bytes);
    }

    fn depart(&mut self) {
        if self.moves == MOST_MOVES {
            return;
        }
        let Some((record, held)) = self.process.http2.depart() else { return };
        self.moves += 1;
        let http2 = Http2::resumed(&record).expect("what departs can be resumed");
        self.process = Process { http2, library: Library::new(self.wanted_window) };
        self.process.run(&mut self.to_client);
        self.to_server.splice(..0, held);
    }

    /// Everything is delivered and answered.
    fn finish(&mut self) {
        self.process.http2.stay();
        for _ in 0..20 {
            self.process.library.answer_all();
            self.process.run(&mut self.to_client);
            self.deliver_to_server(usize::MAX);
            self.deliver_to_client(usize::MAX);
            self.client.finish();
            self.client.grant(70_000);
            self.client.grant_streams(70_000);
        }
        self.deliver_to_server(usize::MAX);
        self.process.run(&mut self.to_client);
        self.deliver_to_client(usize::MAX);
        if self.client.was_sent_away() {
            assert!(self.client.disobeys(), "a client that keeps to the protocol is sent away");
            return;
        }
        self.client.check();
        let Self { client, process, .. } = self;
        assert_eq!(client.send_window, process.library.receive_window, "they do not agree on the client's window");
        assert_eq!(client.receive_window, process.library.send_window, "they do not agree on the library's window");
        assert!(process.http2.step() != MoveStep::Under);
    }
}

impl Process {
    fn read(&mut self, bytes: &[u8]) {
        self.library.read(self.http2.client(bytes));
    }

    /// Until neither has anything to do.
    fn run(&mut self, to_client: &mut Vec<u8>) {
        loop {
            let mut is_idle = true;
            to_client.extend(self.http2.take_out());
            while let Some(bytes) = self.http2.take(8192) {
                self.library.read(&bytes);
                is_idle = false;
            }
            self.library.idle();
            let written = std::mem::take(&mut self.library.out);
            is_idle &= written.is_empty();
            to_client.extend_from_slice(self.http2.library(&written));
            to_client.extend(self.http2.take_out());
            self.http2.library_flushes();
            to_client.extend(self.http2.take_out());
            if is_idle {
                return;
            }
        }
    }
}
