//! How long it takes until the next process answers, beside the same program started alone.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    program::{Job, PID_PATH, Service, Variant},
    statistics::Spread,
};

/// Between two requests, so that they are no load.
const PAUSE: Duration = Duration::from_micros(100);

/// A server that does not answer for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// At most so many times as long as alone ..
const TARGET_RATIO: f64 = 1.5;
/// .. or so many milliseconds more.
const TARGET_MORE: f64 = 10.0;

/// Starts the program alone, and hands over to the next; `pairs` times.
pub(crate) fn measure(pairs: usize) -> io::Result<()> {
    let pairs = (0..pairs).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;
    let spread = |of: fn(&[f64; 2]) -> f64| Spread::of(pairs.iter().map(of).collect());
    let (alone, next) = (spread(|[alone, _]| *alone), spread(|[_, next]| *next));
    let ratio = spread(|[alone, next]| next / alone);
    let more = spread(|[alone, next]| next - alone);
    println!("Until the first answer, without load, {} pairs; median [95 % interval]\n", pairs.len());
    println!("| started alone, from exec, ms | handed over to, from the signal, ms | ratio | more, ms |");
    println!("| --: | --: | --: | --: |");
    println!("| {alone:.2} | {next:.2} | {ratio:.2} | {more:.2} |");
    let met = ratio.median <= TARGET_RATIO || more.median <= TARGET_MORE;
    println!(
        "\ntarget (at most {TARGET_RATIO} times as long, or {TARGET_MORE} ms more): {}\n",
        if met { "met" } else { "missed" }
    );
    Ok(())
}

/// In milliseconds.
fn pair() -> io::Result<[f64; 2]> {
    let job = Job::new(Variant::Server, 2)?;
    let start = Instant::now();
    let mut service = Service::start(job)?;
    let alone = await_answer(service.address(), |by| !by.is_empty(), start)?;
    service.await_start()?;
    let old = service.pid().to_string();
    let start = Instant::now();
    service.hand_over()?;
    let next = await_answer(service.address(), |by| by != old, start)?;
    service.await_handed_over()?;
    Ok([alone, next].map(|time| time.as_secs_f64() * 1e3))
}

/// Asks on new connections, one after the other, until the process that answers is the one.
fn await_answer(server: SocketAddr, is_the_one: impl Fn(&str) -> bool, start: Instant) -> io::Result<Duration> {
    while start.elapsed() < PATIENCE {
        match ask(server) {
            Ok(by) if is_the_one(&by) => return Ok(start.elapsed()),
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => return Err(error),
            _ => thread::sleep(PAUSE),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

fn ask(server: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect(server)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {PID_PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}
