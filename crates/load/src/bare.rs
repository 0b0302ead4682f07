//! The bare server: what a machine could do if there were no broker.
//!
//! It accepts, shakes hands and moves frames of the same length as Callboard's, encoded once a chunk, to
//! all subscribers; it has no topics, offsets, positions or store. One thread, one epoll loop, one scratch
//! buffer. It is the denominator of every ratio, so it must be as fast as it can be.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use sha1::{Digest as _, Sha1};

use super::wire::{
    FrameReader, LineSplitter, Opcode, Piece, SERVER_HEADER_BYTES_MAX, push_server_message, put_server_header,
};

/// What a `message` has around its payload; the digits are those of a broker in the middle of a run.
const MESSAGE_PREFIX: &[u8] =
    br#"{"type":"message","topic":"bench","partition":0,"offset":1234567,"timestamp":1795146000123,"payload":"#;
/// Where the payload of a `publish` begins.
const PAYLOAD: &[u8] = b"\"payload\":";
/// Longest chunk that is read at once, bytes.
const SCRATCH_BYTES: usize = 256 << 10;
/// Above so many bytes waiting for one socket, publishers are not read.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Length of the file that is flushed, bytes.
const FILE_BYTES: usize = 16 << 20;
/// No `publish` of a run is shorter, bytes.
const PUBLISH_BYTES_MIN: usize = 48;
const LISTENER: Token = Token(usize::MAX);

#[derive(Debug, clap::Args)]
pub struct BareArgs {
    /// Answer no publish
    #[arg(long)]
    pub silent: bool,
    /// The `durability` that replies carry
    #[arg(long, default_value = "memory")]
    pub durability: String,
    /// Write and flush every record to this file before it is sent
    #[arg(long)]
    pub file: Option<PathBuf>,
}

enum Stage {
    Handshake(Vec<u8>),
    Open,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    reader: FrameReader,
    lines: LineSplitter,
    pending: Vec<u8>,
    pending_at: usize,
    is_subscriber: bool,
    is_paused: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            stage: Stage::Handshake(Vec::new()),
            reader: FrameReader::default(),
            lines: LineSplitter::default(),
            pending: Vec::new(),
            pending_at: 0,
            is_subscriber: false,
            is_paused: false,
        }
    }

    /// Writes now what the socket takes and keeps the rest.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        if self.pending.is_empty() {
            while at < bytes.len() {
                match self.stream.write(&bytes[at..]) {
                    Ok(count) => at += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        self.pending.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.pending_at < self.pending.len() {
            match self.stream.write(&self.pending[self.pending_at..]) {
                Ok(count) => self.pending_at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.pending.clear();
        self.pending_at = 0;
        Ok(())
    }

    fn waiting_bytes(&self) -> usize {
        self.pending.len() - self.pending_at
    }
}

/// The server itself.
pub struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    subscribers: Vec<usize>,
    scratch: Vec<u8>,
    /// The messages of one chunk as one frame; its header is written before it is sent.
    frame: Vec<u8>,
    /// As many replies as a chunk may need, behind room for a header; empty if none are asked for.
    replies: Vec<u8>,
    reply_bytes: usize,
    /// Where the payload of a `publish` was found last; all lines of a run are alike.
    payload_at: usize,
    file: Option<Journal>,
}

/// A file that is written round and round. Its blocks are there before the run, so that a flush writes
/// records and no metadata.
struct Journal {
    file: File,
    at: usize,
}

impl Journal {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(&vec![0; FILE_BYTES])?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.at + records.len() > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(records, self.at as u64)?;
        self.at += records.len();
        self.file.sync_data()
    }
}

/// What one chunk of a connection held.
#[derive(Default)]
struct Chunk {
    published: usize,
    subscribes: bool,
    closes: bool,
}

/// Serves until it is killed.
///
/// # Errors
/// The system refuses a socket, or its file.
pub fn run(args: &BareArgs) -> io::Result<()> {
    let (server, address) = bind(args)?;
    println!("http://{address}");
    server.serve()
}

/// A server that listens, and where.
///
/// # Errors
/// The system refuses a socket, or its file.
pub fn bind(args: &BareArgs) -> io::Result<(Server, SocketAddr)> {
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let address = listener.local_addr()?;
    let reply = format!(
        r#"{{"type":"published","id":1234,"topic":"bench","partition":0,"offset":1234567,"durability":"{}"}}"#,
        args.durability
    );
    let mut server = Server {
        poll,
        listener,
        connections: Vec::new(),
        free: Vec::new(),
        subscribers: Vec::new(),
        scratch: vec![0; SCRATCH_BYTES],
        frame: Vec::new(),
        replies: Vec::new(),
        reply_bytes: if args.silent { 0 } else { reply.len() + 1 },
        payload_at: 0,
        file: args.file.as_deref().map(Journal::create).transpose()?,
    };
    if !args.silent {
        server.replies = vec![0; SERVER_HEADER_BYTES_MAX];
        for _ in 0..SCRATCH_BYTES / PUBLISH_BYTES_MIN {
            server.replies.extend_from_slice(reply.as_bytes());
            server.replies.push(b'\n');
        }
    }
    Ok((server, address))
}

impl Server {
    /// Serves until it is killed.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => self.connection(index, event.is_readable(), event.is_writable())?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(index), interest)?;
            if index == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[index] = Some(Connection::new(stream));
        }
    }

    fn connection(&mut self, index: usize, readable: bool, writable: bool) -> io::Result<()> {
        let Some(mut connection) = self.connections[index].take() else {
            return Ok(());
        };
        let mut alive = !writable || connection.flush().is_ok();
        if alive && readable && !self.pause(&mut connection) {
            // A failed connection is only closed; a failed file ends the server.
            alive = self.read_all(&mut connection, index)?;
        }
        if alive {
            self.connections[index] = Some(connection);
        } else {
            self.subscribers.retain(|&other| other != index);
            self.free.push(index);
        }
        if writable {
            self.resume()?;
        }
        Ok(())
    }

    /// Whether a subscriber is so far behind that nothing more is read from publishers.
    fn is_full(&self) -> bool {
        let waiting = |&index: &usize| {
            self.connections[index]
                .as_ref()
                .map_or(0, Connection::waiting_bytes)
        };
        self.subscribers
            .iter()
            .any(|index| waiting(index) > PENDING_BYTES_MAX)
    }

    fn pause(&self, connection: &mut Connection) -> bool {
        connection.is_paused = !connection.is_subscriber && self.file.is_none() && self.is_full();
        connection.is_paused
    }

    /// Reads again from those that were paused; their edge is past, so no event will come for them.
    fn resume(&mut self) -> io::Result<()> {
        let is_paused =
            |place: &Option<Connection>| place.as_ref().is_some_and(|connection| connection.is_paused);
        if !self.connections.iter().any(is_paused) || self.is_full() {
            return Ok(());
        }
        let paused: Vec<usize> = (0..self.connections.len())
            .filter(|&index| is_paused(&self.connections[index]))
            .collect();
        for index in paused {
            self.connection(index, true, false)?;
        }
        Ok(())
    }

    /// Reads until the socket is empty; false if the connection is over.
    fn read_all(&mut self, connection: &mut Connection, index: usize) -> io::Result<bool> {
        loop {
            let count = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Ok(false),
            };
            if let Stage::Handshake(head) = &mut connection.stage {
                head.extend_from_slice(&self.scratch[..count]);
                let Some(answer) = answer_handshake(head) else {
                    continue;
                };
                connection.stage = Stage::Open;
                if connection.send(&answer).is_err() {
                    return Ok(false);
                }
                continue;
            }
            let chunk = self.take_apart(connection, count);
            if chunk.subscribes && !connection.is_subscriber {
                connection.is_subscriber = true;
                self.subscribers.push(index);
                let text = br#"{"type":"subscribed","id":1,"topic":"bench","epoch":"e","offsets":{"0":0},"recovered":true}"#;
                if connection.send(&whole_frame(text)).is_err() {
                    return Ok(false);
                }
            }
            if chunk.published > 0 && !self.pass_on(connection, chunk.published)? {
                return Ok(false);
            }
            if chunk.closes {
                return Ok(false);
            }
            // A short read says that the socket is empty; asking again would cost a call for nothing.
            if count < self.scratch.len() || self.pause(connection) {
                return Ok(true);
            }
        }
    }

    /// Encodes the messages of a chunk into one frame.
    fn take_apart(&mut self, connection: &mut Connection, count: usize) -> Chunk {
        let mut chunk = Chunk::default();
        let Self {
            frame, payload_at, ..
        } = self;
        frame.clear();
        frame.resize(SERVER_HEADER_BYTES_MAX, 0);
        let mut line = |line: &[u8]| {
            // `{"type":"publish"…` or `{"type":"subscribe"…`: the tenth byte tells them apart.
            if line.get(9) == Some(&b's') {
                chunk.subscribes = true;
            } else if let Some(payload) = payload_in(line, payload_at) {
                frame.extend_from_slice(MESSAGE_PREFIX);
                frame.extend_from_slice(payload);
                frame.push(b'\n');
                chunk.published += 1;
            }
        };
        let Connection { reader, lines, .. } = connection;
        let mut closes = false;
        reader.feed(&mut self.scratch[..count], |piece| match piece {
            Piece::Text(text) => lines.text(text, &mut line),
            Piece::End => lines.end(&mut line),
            Piece::Close => closes = true,
        });
        chunk.closes = closes;
        chunk
    }

    /// Flushes, answers and sends to all subscribers; false if the publisher is gone.
    fn pass_on(&mut self, publisher: &mut Connection, published: usize) -> io::Result<bool> {
        let start = put_server_header(&mut self.frame);
        if let Some(file) = &mut self.file {
            file.append(&self.frame[SERVER_HEADER_BYTES_MAX..])?;
        }
        if self.reply_bytes > 0 {
            let end = SERVER_HEADER_BYTES_MAX + published * self.reply_bytes;
            let start = put_server_header(&mut self.replies[..end]);
            if publisher.send(&self.replies[start..end]).is_err() {
                return Ok(false);
            }
        }
        for &index in &self.subscribers {
            if let Some(subscriber) = &mut self.connections[index] {
                // One that is gone is noticed by its own event.
                let _ = subscriber.send(&self.frame[start..]);
            }
        }
        Ok(true)
    }
}

/// Payload and closing bracket of a `publish`.
fn payload_in<'a>(line: &'a [u8], payload_at: &mut usize) -> Option<&'a [u8]> {
    if let Some(payload) = line
        .get(*payload_at..)
        .and_then(|rest| rest.strip_prefix(PAYLOAD))
    {
        return Some(payload);
    }
    *payload_at = memchr::memmem::find(line, PAYLOAD)?;
    Some(&line[*payload_at + PAYLOAD.len()..])
}

fn whole_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push_server_message(&mut frame, Opcode::Text, text);
    frame
}

/// The answer to a whole request, with a welcome behind it.
fn answer_handshake(head: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(head, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(head);
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap_or("");
    let accept = accept_key(key.trim());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: callboard.v1.ndjson\r\n\r\n"
    )
    .into_bytes();
    let welcome = br#"{"type":"welcome","session":"0","server":"bare","heartbeat_ms":15000,"frame_bytes_max":1048576,"auth":"none"}"#;
    answer.extend(whole_frame(welcome));
    Some(answer)
}

/// Source: RFC 6455, section 4.2.2.
fn accept_key(key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_is_answered_once_it_is_whole() {
        let request = super::super::wire::handshake("127.0.0.1:1", "/ws", None);
        assert!(answer_handshake(&request.as_bytes()[..request.len() - 1]).is_none());
        let answer = answer_handshake(request.as_bytes()).unwrap_or_default();
        // The example of RFC 6455, section 1.3.
        assert!(String::from_utf8_lossy(&answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn message_is_as_long_as_the_brokers() {
        use callboard_protocol::{
            Offset, PartitionId, Timestamp, TopicName,
            server::{MessageFields, MessagePrefix},
        };
        let topic = TopicName::parse("bench");
        let Ok(topic) = topic else { panic!("a good name") };
        let mut ours = Vec::new();
        let fields = MessageFields {
            key: None,
            headers: None,
            payload: b"\"x\"",
            binary: false,
        };
        let prefix = MessagePrefix::new(&topic, PartitionId(0));
        prefix.message(
            &mut ours,
            Some(Offset(1_234_567)),
            Timestamp(1_795_146_000_123),
            &fields,
        );
        assert_eq!(ours, [MESSAGE_PREFIX, b"\"x\"}"].concat());
    }
}
