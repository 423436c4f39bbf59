//! How long idle connections take to move, and whether each of them answers afterwards.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::{
    cpu::cpu_time,
    program::{Gone, Job, PID_PATH, Service, Variant},
    statistics::Spread,
};

/// Descriptors of a process that are no connections.
const OTHER_DESCRIPTORS: usize = 256;

/// Connections from one address: there are some 28,000 ports to connect from.
const PER_ADDRESS: usize = 20_000;

/// A server that is silent for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many connections may take so many milliseconds, on two cores.
const TARGET: (usize, f64) = (10_000, 500.0);

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

/// Moves `asked` connections, or as many as the hard limit of descriptors allows, `rounds` times.
pub(crate) fn measure(asked: usize, rounds: usize) -> io::Result<()> {
    let most = raise_descriptor_limit()?.saturating_sub(OTHER_DESCRIPTORS);
    let count = asked.min(most);
    if count < asked {
        println!("{asked} connections were asked for; the hard limit of descriptors (ulimit -Hn) allows {count}\n");
    }
    let moves = (0..rounds).map(|_| move_once(count)).collect::<io::Result<Vec<_>>>()?;
    print(count, &moves);
    Ok(())
}

/// The server processes inherit it.
fn raise_descriptor_limit() -> io::Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.and_then(|maximum| usize::try_from(maximum).ok()).unwrap_or(usize::MAX))
}

fn move_once(count: usize) -> io::Result<Move> {
    let mut service = Service::start(Job::new(Variant::Server, 2)?)?;
    service.await_start()?;
    let mut connections =
        (0..count).map(|number| connect(number, service.address())).collect::<io::Result<Vec<_>>>()?;
    for connection in &mut connections {
        ask(connection)?;
    }
    let signalled = Instant::now();
    service.hand_over()?;
    let gone = service.await_handed_over()?;
    let whole = signalled.elapsed();
    let next_cpu = cpu_time(service.pid())?;
    let pid = service.pid().to_string();
    let mut answered = 0;
    for connection in &mut connections {
        answered += usize::from(ask(connection).is_ok_and(|by| by == pid));
    }
    Ok(Move { gone, whole, next_cpu, answered })
}

/// From one of several addresses of this machine, so that the ports suffice.
fn connect(number: usize, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let host = u8::try_from(2 + number / PER_ADDRESS).map_err(|_| io::ErrorKind::InvalidInput)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    // A reset at the end: nothing stays behind in TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// The process that answers, as it says.
fn ask(connection: &mut TcpStream) -> io::Result<String> {
    connection.write_all(format!("GET {PID_PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 512];
    let length = connection.read(&mut buffer)?;
    let answer = String::from_utf8_lossy(&buffer[..length]);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.starts_with("HTTP/1.1 200 OK\r\n") && !body.is_empty() {
        true => Ok(body.to_owned()),
        false => Err(io::Error::other(format!("the server answered {answer:?}"))),
    }
}

fn print(count: usize, moves: &[Move]) {
    let spread = |of: fn(&Move) -> Duration| Spread::of(moves.iter().map(|it| of(it).as_secs_f64() * 1e3).collect());
    let moving = spread(|it| it.gone.moving);
    println!("{count} idle connections over TCP move, {} rounds; median [95 % interval]\n", moves.len());
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
    let (least, limit) = TARGET;
    let verdict = |met| if met { "met" } else { "missed" };
    println!("target (every one answers): {}", verdict(answered == total));
    if count == least {
        println!("target ({least} in less than {limit} ms): {}", verdict(moving.median < limit));
    }
    println!();
}
