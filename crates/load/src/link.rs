//! One socket of the load, and the frames that a publisher sends on it.
//!
//! Lines are counted, not parsed; a publisher's messages are prefixes of one block that was masked once,
//! so that the load costs less than the server.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream as BlockingStream, ToSocketAddrs as _},
    time::Duration,
};

use mio::net::TcpStream;

use super::{
    Failure,
    process::Server,
    wire::{
        FrameReader, LineCounter, LineSplitter, Piece, handshake, mask, push_client_header,
        push_client_message,
    },
};

/// The topic of every scenario.
pub const TOPIC: &str = "bench";
/// How long a server may take to answer while sockets are opened.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Frame ids have four digits, so that all frames are of one length.
pub const FIRST_ID: usize = 1000;
/// Most records of one publisher in flight.
pub const IN_FLIGHT_MAX: usize = 9000;

/// A whole number of digits, so that all payloads are of one length.
const SEQUENCE_DIGITS: usize = 10;

/// The line of one `publish`; the payload is a string of `payload_bytes` with its quotes, and begins with
/// `sequence`.
pub fn publish_line(id: usize, sequence: u64, payload_bytes: usize, ack: Option<&str>) -> String {
    let ack = ack.map(|ack| format!(r#""ack":"{ack}","#)).unwrap_or_default();
    let digits = format!("{sequence:0width$}", width = SEQUENCE_DIGITS);
    let filling = "x".repeat(payload_bytes.saturating_sub(2 + SEQUENCE_DIGITS));
    format!(r#"{{"type":"publish","id":{id},"topic":"{TOPIC}",{ack}"payload":"{digits}{filling}"}}"#)
}

/// The sequence number of a `message` line.
pub fn sequence_of(line: &[u8]) -> Option<u64> {
    const PAYLOAD: &[u8] = b"\"payload\":\"";
    let start = memchr::memmem::find(line, PAYLOAD)? + PAYLOAD.len();
    std::str::from_utf8(line.get(start..start + SEQUENCE_DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

/// Frames of a publisher: a message of `count` lines is a header and the first part of one masked block.
pub struct Block {
    masked: Vec<u8>,
    line_bytes: usize,
}

impl Block {
    pub fn new(lines: usize, payload_bytes: usize, ack: Option<&str>) -> Self {
        let mut masked = Vec::new();
        for id in FIRST_ID..FIRST_ID + lines {
            masked.extend_from_slice(publish_line(id, id as u64, payload_bytes, ack).as_bytes());
            masked.push(b'\n');
        }
        let line_bytes = masked.len() / lines;
        mask(&mut masked);
        Self { masked, line_bytes }
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.masked.len() / self.line_bytes
    }

    /// Appends a message of the first `lines` lines.
    pub fn push(&self, buffer: &mut Vec<u8>, lines: usize) {
        let length = lines * self.line_bytes;
        push_client_header(buffer, length);
        buffer.extend_from_slice(&self.masked[..length]);
    }
}

/// One socket of the load.
pub struct Link {
    pub stream: TcpStream,
    reader: FrameReader,
    counter: LineCounter,
    lines: LineSplitter,
    /// The first `error` that came.
    error: Option<String>,
    pub outgoing: Vec<u8>,
    outgoing_at: usize,
    /// Records published, on a publisher's socket.
    pub published: u64,
}

impl Link {
    /// Opens a socket, shakes hands and sends a `subscribe` frame, if there is one.
    pub fn open(address: &str, subscribe: Option<&str>) -> Result<Self, Failure> {
        let (mut stream, mut greeting) = greet(address)?;
        if let Some(line) = subscribe {
            let mut message = Vec::new();
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

    pub fn received(&self) -> u64 {
        self.counter.lines()
    }

    /// Reads until the socket is empty and counts lines; `line` also gets each whole one if `looks`.
    pub fn receive(
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

    /// Publishes the first `lines` records of `block`; nothing may wait to be written.
    pub fn publish(&mut self, block: &Block, lines: usize) -> Result<(), Failure> {
        block.push(&mut self.outgoing, lines);
        self.published += lines as u64;
        self.flush()
    }

    /// Whether bytes wait for room in the socket.
    pub fn is_writing(&self) -> bool {
        self.outgoing_at < self.outgoing.len()
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
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

/// What subscribes to all that comes from now on.
pub fn subscribe_line() -> String {
    format!(r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","from":"latest"}}"#)
}

/// Connects and shakes hands.
fn greet(address: &str) -> Result<(BlockingStream, Greeting), Failure> {
    let target = address.to_socket_addrs()?.next();
    let target = target.ok_or_else(|| Failure::new(format!("{address}: no such address")))?;
    let mut stream = BlockingStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SETUP_TIMEOUT))?;
    stream.write_all(handshake(address).as_bytes())?;
    let mut greeting = Greeting::default();
    greeting.until(&mut stream, "\"type\":\"welcome\"")?;
    Ok((stream, greeting))
}

/// Creates the topic of the run.
///
/// # Errors
/// The server refuses, as when the topic is there with another configuration.
pub fn declare(server: &Server, partitions: usize, durability: &str) -> Result<(), Failure> {
    let (mut stream, mut greeting) = greet(&server.address)?;
    let line = format!(
        r#"{{"type":"declare","id":1,"topic":"{TOPIC}","partitions":{partitions},"durability":"{durability}"}}"#
    );
    let mut message = Vec::new();
    push_client_message(&mut message, line.as_bytes());
    stream.write_all(&message)?;
    greeting.until(&mut stream, "\"type\":\"ok\"")
}

/// Whether lines are only counted or also looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Looks {
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
}
