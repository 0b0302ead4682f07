//! What the load could do if the server cost nothing: its own ceiling.
//!
//! One thread on the server's core feeds sockets with bytes that were made before, or drops what they send; the load
//! on its own core does with them what it does in a run. A figure near the ceiling is the load's, not the server's.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use serde::Serialize;
use socket2::SockRef;

use super::{
    Failure,
    dialect::{Dialect, Reader, Record, TOPIC, payload},
    link::{Link, SCRATCH_BYTES},
    opening::SETUP_TIMEOUT,
    process::{Pinning, pin_to_server_core, thread_cpu},
    table::{Table, thousands},
};

/// Records of one chunk that a subscriber is fed.
const CHUNK_RECORDS: usize = 128;
/// Records of one block that a publisher sends.
const BLOCK_RECORDS: usize = 256;
/// Subscribers that are fed.
const SUBSCRIBERS: usize = 100;
/// Publishers that send.
const PUBLISHERS: usize = 4;
/// What a socket holds of what the load sends. In a run a window bounds it; without a bound it would outgrow the
/// processor's cache, and the ceiling would be lower than what runs reach.
const SOCKET_BYTES: usize = 128 << 10;
/// How long it runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(100);

/// Records a second of the load's own processor time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ceiling {
    /// Taken in, by 100 subscribers.
    pub received_per_cpu_s: f64,
    /// Sent, by 4 publishers.
    pub sent_per_cpu_s: f64,
}

/// A line for each of those whose ceilings were measured.
pub fn table(ceilings: &[(String, Ceiling)]) -> String {
    let mut table = Table::new(&[
        "the load alone",
        "takes in per CPU second",
        "sends per CPU second",
    ]);
    for (name, ceiling) in ceilings {
        let figures = [ceiling.received_per_cpu_s, ceiling.sent_per_cpu_s];
        let mut row = vec![name.clone()];
        row.extend(figures.map(|figure| thousands(figure as u64)));
        table.row(row);
    }
    table.to_string()
}

/// Measures what the load can do in `dialect`.
///
/// # Errors
/// The system has no sockets for it, or the dialect does not understand its own bytes.
pub fn measure<D: Dialect>(
    dialect: &D,
    payload_bytes: usize,
    duration: Duration,
    pinning: Pinning,
) -> Result<Ceiling, Failure> {
    let payloads: Vec<_> = (0..BLOCK_RECORDS as u64)
        .map(|sequence| payload(sequence, payload_bytes))
        .collect();
    Ok(Ceiling {
        received_per_cpu_s: receive(dialect, &payloads[..CHUNK_RECORDS], duration, pinning)?,
        sent_per_cpu_s: send(dialect, &payloads, duration, pinning)?,
    })
}

fn receive<D: Dialect>(
    dialect: &D,
    payloads: &[Vec<u8>],
    duration: Duration,
    pinning: Pinning,
) -> Result<f64, Failure> {
    let (_, chunk) = dialect.offline(payloads);
    let mut ends = Ends::open(SUBSCRIBERS, || dialect.offline(&[]).0)?;
    let mut feeders = std::mem::take(&mut ends.far);
    let peer = Peer::start(pinning, move || {
        // The load closes its ends when it has enough, and then a write fails.
        feeders.iter_mut().all(|feeder| feeder.write_all(&chunk).is_ok())
    });
    let figure = ends.run(
        duration,
        |links| links.iter().map(|link| link.seen.messages).sum(),
        |_| Ok(()),
    );
    drop(ends);
    peer.stop();
    figure
}

fn send<D: Dialect>(
    dialect: &D,
    payloads: &[Vec<u8>],
    duration: Duration,
    pinning: Pinning,
) -> Result<f64, Failure> {
    let records: Vec<_> = payloads
        .iter()
        .map(|payload| Record {
            topic: TOPIC,
            key: None,
            payload,
        })
        .collect();
    let block = dialect.block(0, &records);
    let mut ends = Ends::open(PUBLISHERS, || dialect.offline(&[]).0)?;
    let mut sinks = Sinks::new(std::mem::take(&mut ends.far))?;
    let peer = Peer::start(pinning, move || sinks.drop_what_came().is_ok());
    let sent = |links: &[Link<D::Reader>]| links.iter().map(|link| link.published).sum();
    let figure = ends.run(duration, sent, |links| {
        for link in links {
            if !link.is_writing() {
                link.publish(&block, block.records())?;
            }
        }
        Ok(())
    });
    peer.stop();
    figure
}

/// Both ends of sockets between the load and its counterpart.
struct Ends<R> {
    poll: Poll,
    links: Vec<Link<R>>,
    far: Vec<TcpStream>,
}

impl<R: Reader> Ends<R> {
    fn open(count: usize, reader: impl Fn() -> R) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let poll = Poll::new()?;
        let (mut links, mut far) = (Vec::new(), Vec::new());
        for place in 0..count {
            let near = TcpStream::connect(listener.local_addr()?)?;
            near.set_nonblocking(true)?;
            near.set_nodelay(true)?;
            let peer = listener.accept()?.0;
            SockRef::from(&near).set_send_buffer_size(SOCKET_BYTES)?;
            SockRef::from(&peer).set_recv_buffer_size(SOCKET_BYTES)?;
            far.push(peer);
            let mut link = Link::new(mio::net::TcpStream::from_std(near), reader());
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(place), interest)?;
            links.push(link);
        }
        Ok(Self { poll, links, far })
    }

    /// Does what the load does in a run; how much of what `count` counts it did a second of its processor time.
    fn run(
        &mut self,
        duration: Duration,
        count: impl Fn(&[Link<R>]) -> u64,
        mut publish: impl FnMut(&mut [Link<R>]) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; SCRATCH_BYTES];
        let started_at = Instant::now();
        let mut before = None;
        loop {
            publish(&mut self.links)?;
            self.poll.poll(&mut events, Some(Duration::from_millis(10)))?;
            for event in &events {
                let Token(place) = event.token();
                let link = &mut self.links[place];
                if event.is_writable() {
                    link.flush()?;
                }
                if event.is_readable() {
                    link.receive(&mut scratch)?;
                }
            }
            match before {
                None if started_at.elapsed() >= WARM_UP => {
                    before = Some((count(&self.links), thread_cpu()));
                }
                Some((counted, cpu)) if started_at.elapsed() >= WARM_UP + duration => {
                    let used = (thread_cpu() - cpu).as_secs_f64();
                    let done = count(&self.links) - counted;
                    // On a busy machine the counterpart may not have had its turn yet, and nothing is no figure.
                    if done > 0 {
                        return Ok(done as f64 / used);
                    }
                    if started_at.elapsed() >= WARM_UP + duration + SETUP_TIMEOUT {
                        return Err(Failure::new("nothing moved between two sockets of this machine"));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Sockets of which everything is read and nothing is kept.
struct Sinks {
    poll: Poll,
    events: Events,
    sockets: Vec<mio::net::TcpStream>,
    scratch: Vec<u8>,
}

impl Sinks {
    fn new(sockets: Vec<TcpStream>) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut registered = Vec::new();
        for (place, socket) in sockets.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            let mut socket = mio::net::TcpStream::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(place), Interest::READABLE)?;
            registered.push(socket);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(16),
            sockets: registered,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    fn drop_what_came(&mut self) -> io::Result<()> {
        self.poll
            .poll(&mut self.events, Some(Duration::from_millis(10)))?;
        for event in &self.events {
            let Token(place) = event.token();
            while self.sockets[place]
                .read(&mut self.scratch)
                .is_ok_and(|count| count > 0)
            {}
        }
        Ok(())
    }
}

/// The counterpart: a thread that does one thing again and again.
struct Peer {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Peer {
    /// `turn` says whether there is more to do.
    fn start(pinning: Pinning, mut turn: impl FnMut() -> bool + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            if pinning == Pinning::On {
                // Where it cannot be pinned, the figure is only lower.
                let _ = pin_to_server_core();
            }
            while !seen.load(Ordering::Relaxed) && turn() {}
        });
        Self { is_over, thread }
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A panic there has been printed, and the figure is ours.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Callboard, Durability};

    #[test]
    fn load_takes_what_it_is_fed_and_sends_what_nobody_reads() {
        let dialect = Callboard::new(Durability::Memory);
        let ceiling = measure(&dialect, 128, Duration::from_millis(20), Pinning::Off);
        assert!(
            matches!(ceiling, Ok(Ceiling { received_per_cpu_s, sent_per_cpu_s })
                if received_per_cpu_s > 0.0 && sent_per_cpu_s > 0.0),
            "{ceiling:?}"
        );
    }
}
