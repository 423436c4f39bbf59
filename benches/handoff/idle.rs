//! How long idle connections take to move, and whether each of them answers afterwards.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use socket2::{Domain, Socket, Type};

use crate::{
    cpu::cpu_time,
    http2::Http2,
    load::Speaks,
    program::{Gone, Job, PID_PATH, Service, Variant},
    statistics::Spread,
};

/// Descriptors of a process that are no connections.
const OTHER_DESCRIPTORS: usize = 256;

/// Connections from one address: there are some 28,000 ports to connect from.
const PER_ADDRESS: usize = 20_000;

/// A server that is silent for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many connections may take so many milliseconds, on two cores: of HTTP/1, and of HTTP/2.
const TARGETS: [(usize, f64); 2] = [(10_000, 500.0), (5_000, 500.0)];

/// A client that waits looks again after so long whether all have moved.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// One move, as seen from both sides.
#[derive(Debug)]
struct Move {
    gone: Gone,
    /// From the signal to the old process's end.
    whole: Duration,
    /// CPU time of the next process, up to the last answer.
    next_cpu: Duration,
    answered: usize,
}

/// A connection, and what it speaks where that is not HTTP/1.
struct Connection {
    stream: TcpStream,
    http2: Option<Http2>,
}

/// Moves `asked` connections, or as many as the hard limit of descriptors allows, `rounds` times.
pub(crate) fn measure(speaks: Speaks, asked: usize, rounds: usize) -> io::Result<()> {
    let most = raise_descriptor_limit()?.saturating_sub(OTHER_DESCRIPTORS);
    let count = asked.min(most);
    if count < asked {
        println!("{asked} connections were asked for; the hard limit of descriptors (ulimit -Hn) allows {count}\n");
    }
    let moves = (0..rounds).map(|_| move_once(speaks, count)).collect::<io::Result<Vec<_>>>()?;
    print(speaks, count, &moves);
    Ok(())
}

/// The server processes inherit it.
fn raise_descriptor_limit() -> io::Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.and_then(|maximum| usize::try_from(maximum).ok()).unwrap_or(usize::MAX))
}

fn move_once(speaks: Speaks, count: usize) -> io::Result<Move> {
    let mut service = Service::start(Job::new(Variant::Server, 2)?)?;
    service.await_start()?;
    let mut connections =
        (0..count).map(|number| Connection::open(number, service.address(), speaks)).collect::<io::Result<Vec<_>>>()?;
    for connection in &mut connections {
        connection.ask()?;
    }
    let (gone, whole) = reply_while(&mut connections, || {
        let signalled = Instant::now();
        service.hand_over()?;
        Ok((service.await_handed_over()?, signalled.elapsed()))
    })?;
    let next_cpu = cpu_time(service.pid())?;
    let pid = service.pid().to_string();
    let mut answered = 0;
    for connection in &mut connections {
        answered += usize::from(connection.ask().is_ok_and(|by| by == pid));
    }
    Ok(Move { gone, whole, next_cpu, answered })
}

/// From one of several addresses of this machine, so that the ports suffice.
fn connect(number: usize, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let host = u8::try_from(2 + number / PER_ADDRESS).map_err(|_| ErrorKind::InvalidInput)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    // A reset at the end: nothing stays behind in TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// Lets the clients reply to what the server sends without being asked, while `act` runs.
fn reply_while<T>(connections: &mut [Connection], act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let replying = scope.spawn(|| reply_until(connections, &is_over));
        // On this thread: the processes that it starts end with it.
        let acted = act();
        is_over.store(true, Relaxed);
        let replied = replying.join().expect("no client panics");
        replied.and(acted)
    })
}

fn reply_until(connections: &mut [Connection], is_over: &AtomicBool) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (connection, number) in connections.iter().zip(0..).filter(|(connection, _)| connection.http2.is_some()) {
        connection.stream.set_nonblocking(true)?;
        epoll::add(&epoll, &connection.stream, EventData::new_u64(number), EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(256);
    while !is_over.load(Relaxed) {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&LOOK))?;
        for event in &events {
            connections[usize::try_from(event.data.u64()).expect("a client")].reply()?;
        }
    }
    connections.iter().try_for_each(|connection| connection.stream.set_nonblocking(false))
}

impl Connection {
    fn open(number: usize, server: SocketAddr, speaks: Speaks) -> io::Result<Self> {
        let mut stream = connect(number, server)?;
        if speaks == Speaks::Http1 {
            return Ok(Self { stream, http2: None });
        }
        stream.set_nodelay(true)?;
        let (http2, opening) = Http2::new();
        stream.write_all(&opening)?;
        Ok(Self { stream, http2: Some(http2) })
    }

    /// The process that answers, as it says.
    fn ask(&mut self) -> io::Result<String> {
        let Some(http2) = &mut self.http2 else { return ask(&mut self.stream) };
        self.stream.write_all(&http2.request(PID_PATH))?;
        loop {
            if let Some(answer) = self.read()? {
                return String::from_utf8(answer).map_err(io::Error::other);
            }
        }
    }

    /// Replies to what has come.
    fn reply(&mut self) -> io::Result<()> {
        match self.read() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(io::Error::other("an answer that was not asked for")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 512];
        let length = self.stream.read(&mut buffer)?;
        let http2 = self.http2.as_mut().filter(|_| length > 0).ok_or(ErrorKind::UnexpectedEof)?;
        let answer = http2.take(&buffer[..length])?;
        self.stream.write_all(&http2.replies())?;
        Ok(answer)
    }
}

/// The process that answers, as it says.
fn ask(connection: &mut TcpStream) -> io::Result<String> {
    connection.write_all(format!("GET {PID_PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 512];
    let length = connection.read(&mut buffer)?;
    let answer = String::from_utf8_lossy(&buffer[..length]);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    match head.starts_with("HTTP/1.1 200 OK\r\n") && !body.is_empty() {
        true => Ok(body.to_owned()),
        false => Err(io::Error::other(format!("the server answered {answer:?}"))),
    }
}

fn print(speaks: Speaks, count: usize, moves: &[Move]) {
    let spread = |of: fn(&Move) -> Duration| Spread::of(moves.iter().map(|it| of(it).as_secs_f64() * 1e3).collect());
    let moving = spread(|it| it.gone.moving);
    let protocol = if speaks == Speaks::Http2 { "HTTP/2" } else { "HTTP/1.1" };
    println!("{count} idle connections of {protocol} over TCP move, {} rounds; median [95 % interval]\n", moves.len());
    println!(
        "| commit to last acknowledgement, ms | old's CPU time, ms | next's CPU time, ms | signal to old's end, ms |"
    );
    println!("| --: | --: | --: | --: |");
    let (cpu, next_cpu, whole) = (spread(|it| it.gone.cpu), spread(|it| it.next_cpu), spread(|it| it.whole));
    println!("| {moving:.0} | {cpu:.0} | {next_cpu:.0} | {whole:.0} |");
    let total = count * moves.len();
    let moved: u64 = moves.iter().map(|it| it.gone.moved).sum();
    let answered: usize = moves.iter().map(|it| it.answered).sum();
    let ended: u64 = moves.iter().map(|it| it.gone.ended).sum();
    println!(
        "\n{moved} of {total} moved, {ended} ended; {answered} of {total} had their next request answered by the next process"
    );
    let (least, limit) = TARGETS[usize::from(speaks == Speaks::Http2)];
    let verdict = |met| if met { "met" } else { "missed" };
    println!("target (every one answers): {}", verdict(answered == total));
    if count == least {
        println!("target ({least} in less than {limit} ms): {}", verdict(moving.median < limit));
    }
    println!();
}
