//! The load: raw non-blocking sockets, one thread, frames that were made before the run.
//!
//! The same code drives Callboard and the bare server. It counts lines and parses none; a publisher's
//! frames are prefixes of one block that was masked once, so that the load costs less than the server.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream as BlockingStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    super::Failure,
    process::{Server, Usage, usage_of},
    wire::{
        FrameReader, LineCounter, LineSplitter, Piece, handshake, mask, push_client_header,
        push_client_message,
    },
};

/// The topic of every scenario.
pub(super) const TOPIC: &str = "bench";
/// Longest read at once, bytes.
const SCRATCH_BYTES: usize = 256 << 10;
/// How long a server may take to answer while sockets are opened.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Frame ids have four digits, so that all frames are of one length.
const FIRST_ID: usize = 1000;
/// Most records of one publisher in flight.
pub(super) const IN_FLIGHT_MAX: usize = 9000;

/// A whole number of digits, so that all payloads are of one length.
const SEQUENCE_DIGITS: usize = 10;

/// The line of one `publish`; the payload is a string of `payload_bytes` with its quotes, and begins with
/// `sequence`.
pub(super) fn publish_line(id: usize, sequence: u64, payload_bytes: usize, ack: Option<&str>) -> String {
    let ack = ack.map(|ack| format!(r#""ack":"{ack}","#)).unwrap_or_default();
    let digits = format!("{sequence:0width$}", width = SEQUENCE_DIGITS);
    let filling = "x".repeat(payload_bytes.saturating_sub(2 + SEQUENCE_DIGITS));
    format!(r#"{{"type":"publish","id":{id},"topic":"{TOPIC}",{ack}"payload":"{digits}{filling}"}}"#)
}

/// The sequence number of a `message` line.
fn sequence_of(line: &[u8]) -> Option<u64> {
    const PAYLOAD: &[u8] = b"\"payload\":\"";
    let start = memchr::memmem::find(line, PAYLOAD)? + PAYLOAD.len();
    std::str::from_utf8(line.get(start..start + SEQUENCE_DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

/// Frames of a publisher: a message of `count` lines is a header and the first part of one masked block.
pub(super) struct Block {
    masked: Vec<u8>,
    line_bytes: usize,
}

impl Block {
    pub(super) fn new(lines: usize, payload_bytes: usize, ack: Option<&str>) -> Self {
        let mut masked = Vec::new();
        for id in FIRST_ID..FIRST_ID + lines {
            masked.extend_from_slice(publish_line(id, id as u64, payload_bytes, ack).as_bytes());
            masked.push(b'\n');
        }
        let line_bytes = masked.len() / lines;
        mask(&mut masked);
        Self { masked, line_bytes }
    }

    fn push(&self, buffer: &mut Vec<u8>, lines: usize) {
        let length = lines * self.line_bytes;
        push_client_header(buffer, length);
        buffer.extend_from_slice(&self.masked[..length]);
    }
}

/// One socket of the load.
struct Link {
    stream: TcpStream,
    reader: FrameReader,
    counter: LineCounter,
    lines: LineSplitter,
    /// The first `error` that came.
    error: Option<String>,
    outgoing: Vec<u8>,
    outgoing_at: usize,
    /// Records published, on a publisher's socket.
    published: u64,
}

impl Link {
    /// Opens a socket, shakes hands and subscribes if asked.
    fn open(address: &str, subscribes: bool) -> Result<Self, Failure> {
        let failed = |what: &str| Failure::new(format!("{address}: {what}"));
        let target = address
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| failed("no such address"))?;
        let mut stream = BlockingStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SETUP_TIMEOUT))?;
        stream.write_all(handshake(address).as_bytes())?;
        let mut greeting = Greeting::default();
        greeting.until(&mut stream, "\"type\":\"welcome\"")?;
        if subscribes {
            let mut message = Vec::new();
            let line = format!(r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","from":"latest"}}"#);
            push_client_message(&mut message, line.as_bytes());
            stream.write_all(&message)?;
            greeting.until(&mut stream, "\"type\":\"subscribed\"")?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            reader: greeting.reader,
            counter: LineCounter::default(),
            lines: LineSplitter::default(),
            error: None,
            outgoing: Vec::new(),
            outgoing_at: 0,
            published: 0,
        })
    }

    fn received(&self) -> u64 {
        self.counter.lines()
    }

    /// Reads until the socket is empty and counts lines; `line` also gets each whole one if `looks`.
    fn receive(
        &mut self,
        scratch: &mut [u8],
        looks: Looks,
        mut line: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Failure::new("the server closed a connection during the run")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Self {
                reader,
                counter,
                lines,
                error,
                ..
            } = self;
            let mut look = |text: &[u8]| {
                if text.starts_with(br#"{"type":"error""#) && error.is_none() {
                    *error = Some(String::from_utf8_lossy(text).into_owned());
                }
                line(text);
            };
            reader.feed(&mut scratch[..count], |piece| match piece {
                Piece::Text(text) => {
                    counter.text(text);
                    if looks == Looks::AtLines {
                        lines.text(text, &mut look);
                    }
                }
                Piece::End => {
                    counter.end();
                    if looks == Looks::AtLines {
                        lines.end(&mut look);
                    }
                }
                Piece::Close => {}
            });
            if let Some(error) = &self.error {
                return Err(Failure::new(format!("the server refused: {error}")));
            }
            if count < scratch.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while self.outgoing_at < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.outgoing_at..]) {
                Ok(count) => self.outgoing_at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.outgoing_at = 0;
        Ok(())
    }
}

/// Whether lines are only counted or also looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    AtCounts,
    AtLines,
}

/// What a server says before the run.
#[derive(Default)]
struct Greeting {
    reader: FrameReader,
    head: Vec<u8>,
    is_upgraded: bool,
    text: String,
}

impl Greeting {
    fn until(&mut self, stream: &mut BlockingStream, wanted: &str) -> Result<(), Failure> {
        let mut scratch = [0; 4096];
        while !self.text.contains(wanted) {
            if self.text.contains(r#""type":"error""#) {
                return Err(Failure::new(format!("the server refused: {}", self.text)));
            }
            let count = stream.read(&mut scratch)?;
            if count == 0 {
                return Err(Failure::new("the server closed a connection before the run"));
            }
            self.take(&mut scratch[..count])?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut rest = Vec::new();
        let mut frames = bytes;
        if !self.is_upgraded {
            self.head.extend_from_slice(frames);
            let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else {
                return Ok(());
            };
            if !self.head.starts_with(b"HTTP/1.1 101") {
                let answer = String::from_utf8_lossy(&self.head)
                    .lines()
                    .next()
                    .unwrap_or("")
                    .to_owned();
                return Err(Failure::new(format!("the server answered {answer}")));
            }
            self.is_upgraded = true;
            rest.extend_from_slice(&self.head[end + 4..]);
            frames = &mut rest;
        }
        let text = &mut self.text;
        self.reader.feed(frames, |piece| {
            if let Piece::Text(bytes) = piece {
                text.push_str(&String::from_utf8_lossy(bytes));
            }
        });
        Ok(())
    }
}

/// What limits how much is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// So many records of the publisher that are not answered or not yet with every subscriber.
    Delivered(usize),
    /// So many unanswered records of each publisher.
    Answered(usize),
    /// Nothing but the sockets: as with `ack` `none`.
    Sockets,
}

/// What came out of a measured window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    /// How long it was.
    pub(super) elapsed: Duration,
    /// Replies to publishers in it.
    pub(super) answered: u64,
    /// Records at subscribers in it, each subscriber counted.
    pub(super) delivered: u64,
    /// What the server used in it.
    pub(super) server_cpu: Duration,
    /// What the load used in it.
    pub(super) load_cpu: Duration,
    /// The server's memory at its end.
    pub(super) memory: Usage,
}

/// All sockets of a scenario; publishers first.
pub(super) struct Load {
    poll: Poll,
    links: Vec<Link>,
    publishers: usize,
    scratch: Vec<u8>,
    /// How many records every subscriber has.
    slowest: u64,
    /// Subscribers that have no more than that.
    at_slowest: usize,
}

#[derive(Clone, Copy)]
struct Snapshot {
    at: Instant,
    answered: u64,
    delivered: u64,
    server: Usage,
    load: Usage,
}

impl Load {
    /// Opens all sockets one by one.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub(super) fn open(server: &Server, publishers: usize, subscribers: usize) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut links = Vec::with_capacity(publishers + subscribers);
        for index in 0..publishers + subscribers {
            let mut link = Link::open(&server.address, index >= publishers)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(index), interest)?;
            links.push(link);
        }
        Ok(Self {
            poll,
            links,
            publishers,
            scratch: vec![0; SCRATCH_BYTES],
            slowest: 0,
            at_slowest: subscribers,
        })
    }

    /// Publishes as fast as `window` lets it: first for `warm_up`, then for `duration`, which is measured.
    ///
    /// # Errors
    /// The server refuses something or closes a connection.
    pub(super) fn run(
        &mut self,
        server: &Server,
        block: &Block,
        window: Window,
        (warm_up, duration): (Duration, Duration),
    ) -> Result<Measured, Failure> {
        let mut events = Events::with_capacity(1024);
        let started_at = Instant::now();
        let mut before: Option<Snapshot> = None;
        loop {
            self.publish(block, window)?;
            self.poll_once(&mut events, Some(Duration::from_millis(10)))?;
            let elapsed = started_at.elapsed();
            match before {
                None if elapsed >= warm_up => before = Some(self.snapshot(server)),
                Some(before) if before.at.elapsed() >= duration => {
                    return Ok(before.until(self.snapshot(server)));
                }
                _ => {}
            }
        }
    }

    /// Publishes `count` records and waits until every subscriber has them.
    ///
    /// # Errors
    /// As [`Load::run`], and if it takes longer than `timeout`.
    pub(super) fn publish_count(
        &mut self,
        block: &Block,
        count: u64,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let deadline = Instant::now() + timeout;
        let goal = self.links[0].published + count;
        while self.slowest < goal || self.links[0].received() < goal {
            let left = goal - self.links[0].published;
            if left > 0 {
                self.publish(
                    block,
                    Window::Delivered(usize::try_from(left).map_or(8, |left| left.min(8))),
                )?;
            }
            self.poll_once(&mut events, Some(Duration::from_millis(100)))?;
            if Instant::now() > deadline {
                return Err(Failure::new("not every subscriber got every record"));
            }
        }
        Ok(())
    }

    fn snapshot(&self, server: &Server) -> Snapshot {
        let (publishers, subscribers) = self.links.split_at(self.publishers);
        Snapshot {
            at: Instant::now(),
            answered: publishers.iter().map(Link::received).sum(),
            delivered: subscribers.iter().map(Link::received).sum(),
            server: server.usage(),
            load: usage_of("self").unwrap_or_default(),
        }
    }

    fn publish(&mut self, block: &Block, window: Window) -> Result<(), Failure> {
        let slowest = self.slowest;
        for link in &mut self.links[..self.publishers] {
            if link.outgoing_at < link.outgoing.len() {
                continue;
            }
            let under_way =
                |done: u64| usize::try_from(link.published - done.min(link.published)).unwrap_or(usize::MAX);
            let free = match window {
                Window::Delivered(most) => most.saturating_sub(under_way(link.received().min(slowest))),
                Window::Answered(most) => most.saturating_sub(under_way(link.received())),
                Window::Sockets => block.masked.len() / block.line_bytes,
            };
            if free > 0 {
                block.push(&mut link.outgoing, free);
                link.published += free as u64;
                link.flush()?;
            }
        }
        Ok(())
    }

    fn poll_once(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Failure> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &*events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.links[index].flush()?;
            }
            if event.is_readable() {
                self.receive(index)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<(), Failure> {
        // Refusals come to publishers; a subscriber gets the same bytes as all others, so one is looked at.
        let looks = if index <= self.publishers {
            Looks::AtLines
        } else {
            Looks::AtCounts
        };
        let link = &mut self.links[index];
        let had = link.received();
        link.receive(&mut self.scratch, looks, |_| {})?;
        if index >= self.publishers && had <= self.slowest && link.received() > self.slowest {
            self.at_slowest -= 1;
            if self.at_slowest == 0 {
                self.find_slowest();
            }
        }
        Ok(())
    }

    fn find_slowest(&mut self) {
        let subscribers = &self.links[self.publishers..];
        self.slowest = subscribers.iter().map(Link::received).min().unwrap_or(0);
        self.at_slowest = subscribers
            .iter()
            .filter(|link| link.received() == self.slowest)
            .count();
    }

    /// Publishes at a fixed rate whatever the server does, and reports when each record came.
    ///
    /// `arrived` gets the place of a record and the time from when it *should* have been sent: a server
    /// that stalls is charged for every record that it held up. Returns how many never came.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub(super) fn run_open_loop(
        &mut self,
        schedule: &Schedule,
        mut arrived: impl FnMut(u64, Duration),
    ) -> Result<u64, Failure> {
        let mut events = Events::with_capacity(1024);
        let started_at = Instant::now() + Duration::from_millis(10);
        let subscribers = self.links.len() - self.publishers;
        let mut left = schedule.records * subscribers as u64;
        let mut next = 0;
        let give_up_at = started_at + schedule.due(schedule.records) + SETUP_TIMEOUT;
        while left > 0 && Instant::now() < give_up_at {
            while next < schedule.records
                && started_at.elapsed() >= schedule.due(next)
                && Instant::now() >= started_at
            {
                let line = publish_line(FIRST_ID, next, schedule.payload_bytes, None);
                let publisher = &mut self.links[0];
                push_client_message(&mut publisher.outgoing, line.as_bytes());
                publisher.flush()?;
                next += 1;
            }
            // No waiting: a timer of the system is coarser than what is measured. The load has its own core.
            match self.poll.poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                let Token(index) = event.token();
                if event.is_writable() {
                    self.links[index].flush()?;
                }
                if !event.is_readable() {
                    continue;
                }
                let is_subscriber = index >= self.publishers;
                self.links[index].receive(&mut self.scratch, Looks::AtLines, |line| {
                    if let (true, Some(sequence)) = (is_subscriber, sequence_of(line)) {
                        left -= 1;
                        arrived(
                            sequence,
                            started_at.elapsed().saturating_sub(schedule.due(sequence)),
                        );
                    }
                })?;
            }
        }
        Ok(left)
    }
}

/// When each record of an open loop is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) records: u64,
    pub(super) rate_per_s: u32,
    pub(super) payload_bytes: usize,
}

impl Schedule {
    fn due(&self, place: u64) -> Duration {
        Duration::from_nanos(place * 1_000_000_000 / u64::from(self.rate_per_s.max(1)))
    }
}

impl Snapshot {
    fn until(self, end: Self) -> Measured {
        Measured {
            elapsed: end.at - self.at,
            answered: end.answered - self.answered,
            delivered: end.delivered - self.delivered,
            server_cpu: end.server.cpu.saturating_sub(self.server.cpu),
            load_cpu: end.load.cpu.saturating_sub(self.load.cpu),
            memory: end.server,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::client::ClientFrame;

    use super::*;

    #[test]
    fn block_is_made_of_frames_that_a_broker_reads() {
        let block = Block::new(300, 128, Some("accepted"));
        let mut message = Vec::new();
        block.push(&mut message, 7);
        let mut text = Vec::new();
        FrameReader::default().feed(&mut message, |piece| {
            if let Piece::Text(bytes) = piece {
                text.extend_from_slice(bytes);
            }
        });
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 7);
        for line in text.lines() {
            assert!(ClientFrame::decode(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn payload_has_the_length_that_was_asked_and_carries_its_place() {
        let line = publish_line(1000, 42, 128, None);
        let payload = &line[line.find("\"payload\":").unwrap() + "\"payload\":".len()..line.len() - 1];
        assert_eq!(payload.len(), 128);
        assert_eq!(sequence_of(line.as_bytes()), Some(42));
        assert_eq!(sequence_of(b"{}"), None);
    }

    #[test]
    fn records_are_due_at_the_rate() {
        let schedule = Schedule {
            records: 2000,
            rate_per_s: 1000,
            payload_bytes: 128,
        };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
    }
}
