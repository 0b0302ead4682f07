//! Records and replies as finished WebSocket bytes.
//!
//! Owns the last step of the way out: a committed batch is encoded here once for each subprotocol in
//! use, and the same buffer goes to every session. Server frames are not masked, so they can be shared.

use bytes::Bytes;
use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{
    Offset, Timestamp,
    server::{MessageFields, MessagePrefix},
};

/// The subprotocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `callboard.v1.json`: one frame a WebSocket message.
    Json,
    /// `callboard.v1.ndjson`: one or more frames a message, one a line.
    Ndjson,
}

impl Format {
    /// The name by which a client asks for it.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "callboard.v1.json",
            Self::Ndjson => "callboard.v1.ndjson",
        }
    }
}

/// An ndjson message is ended after this many bytes, so that no client has to take in a huge one.
const NDJSON_MESSAGE_BYTES: usize = 256 << 10;
/// What a `message` adds to its record, for guessing a buffer's size.
const MESSAGE_OVERHEAD_BYTES: usize = 110;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// An empty Ping.
pub const PING_FRAME: &[u8] = &[PING, 0];

/// A WebSocket text message under construction at the end of a buffer.
#[derive(Clone, Copy)]
struct OpenMessage {
    start: usize,
    header_len: usize,
}

fn header_len(body_len: usize) -> usize {
    match body_len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Leaves room for the header of a message of about `guess` bytes.
fn open_message(buffer: &mut Vec<u8>, guess: usize) -> OpenMessage {
    let open = OpenMessage {
        start: buffer.len(),
        header_len: header_len(guess),
    };
    buffer.resize(open.start + open.header_len, 0);
    open
}

/// Writes the header; moves the body if the guess was wrong.
fn close_message(buffer: &mut Vec<u8>, open: OpenMessage) {
    let body_start = open.start + open.header_len;
    let body_len = buffer.len() - body_start;
    let needed = header_len(body_len);
    if needed > open.header_len {
        let more = needed - open.header_len;
        buffer.resize(buffer.len() + more, 0);
        buffer.copy_within(body_start..body_start + body_len, body_start + more);
    } else if needed < open.header_len {
        buffer.copy_within(body_start.., open.start + needed);
        buffer.truncate(open.start + needed + body_len);
    }
    write_header(&mut buffer[open.start..], TEXT, body_len);
}

fn write_header(at: &mut [u8], opcode: u8, body_len: usize) {
    at[0] = opcode;
    match header_len(body_len) {
        2 => at[1] = body_len as u8,
        4 => {
            at[1] = 126;
            at[2..4].copy_from_slice(&(body_len as u16).to_be_bytes());
        }
        _ => {
            at[1] = 127;
            at[2..10].copy_from_slice(&(body_len as u64).to_be_bytes());
        }
    }
}

/// One frame as one text message.
pub fn text_message(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut buffer = Vec::with_capacity(192);
    let open = open_message(&mut buffer, 150);
    write(&mut buffer);
    close_message(&mut buffer, open);
    buffer.into()
}

/// Collects frames for one session into as few messages as its subprotocol allows.
pub struct FrameBuffer {
    format: Format,
    buffer: Vec<u8>,
    open: Option<OpenMessage>,
    guess: usize,
}

impl FrameBuffer {
    /// Starts with room for about `bytes`.
    pub fn new(format: Format, bytes: usize) -> Self {
        Self {
            format,
            buffer: Vec::with_capacity(bytes + 16),
            open: None,
            guess: bytes,
        }
    }

    /// Appends one frame.
    pub fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match self.format {
            Format::Json => {
                let open = open_message(&mut self.buffer, 150);
                write(&mut self.buffer);
                close_message(&mut self.buffer, open);
            }
            Format::Ndjson => {
                let open = match self.open {
                    Some(open) if self.buffer.len() - open.start < NDJSON_MESSAGE_BYTES => {
                        self.buffer.push(b'\n');
                        open
                    }
                    ended => {
                        if let Some(open) = ended {
                            close_message(&mut self.buffer, open);
                        }
                        open_message(&mut self.buffer, self.guess.min(NDJSON_MESSAGE_BYTES))
                    }
                };
                write(&mut self.buffer);
                self.open = Some(open);
            }
        }
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The finished bytes.
    pub fn finish(mut self) -> Bytes {
        if let Some(open) = self.open.take() {
            close_message(&mut self.buffer, open);
        }
        self.buffer.into()
    }
}

/// The frames in finished bytes of `callboard.v1.json`, without their WebSocket headers.
pub fn bodies(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header_len, body_len) = match *bytes.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => (
                10,
                u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            ),
            body_len => (2, usize::from(body_len)),
        };
        let body = bytes.get(header_len..header_len + body_len)?;
        bytes = &bytes[header_len + body_len..];
        Some(body)
    })
}

/// The parts of a record that a `message` shows.
pub fn fields<'a>(parts: &RecordParts<'a>) -> MessageFields<'a> {
    MessageFields {
        key: parts.key,
        headers: parts.headers,
        payload: parts.payload,
        binary: parts.binary,
    }
}

/// Whether a record's time to live is over.
pub fn is_expired(parts: &RecordParts<'_>, timestamp: Timestamp, now: Timestamp) -> bool {
    parts
        .ttl_ms
        .is_some_and(|ttl_ms| timestamp.plus_ms(ttl_ms) <= now)
}

/// What an encoding of records holds.
pub struct Encoded {
    /// The finished bytes; empty if every record had expired.
    pub bytes: Bytes,
    /// Records in it.
    pub count: u64,
    /// The offset after the last record looked at.
    pub next_offset: Offset,
}

/// Encodes what has not expired of `batches`, at most `count_max` records and about `bytes_max` bytes.
pub fn encode_batches(
    prefix: &MessagePrefix,
    batches: &[Batch],
    format: Format,
    now: Timestamp,
    count_max: u64,
) -> Encoded {
    let (mut guess, mut all) = (0, 0);
    for batch in batches {
        guess += batch.records.len() + batch.count as usize * MESSAGE_OVERHEAD_BYTES;
        all += u64::from(batch.count);
    }
    if count_max < all {
        // As if all were of the same length.
        guess = (guess as u64 * count_max / all) as usize;
    }
    let mut frames = FrameBuffer::new(format, guess);
    let mut count = 0;
    let mut next_offset = batches.first().map_or(Offset::ZERO, |batch| batch.base_offset);
    for batch in batches {
        for (offset, parts) in batch.iter() {
            if count == count_max {
                return Encoded {
                    bytes: frames.finish(),
                    count,
                    next_offset,
                };
            }
            next_offset = offset.plus(1);
            if !is_expired(&parts, batch.timestamp, now) {
                frames.frame(|buffer| prefix.message(buffer, Some(offset), batch.timestamp, &fields(&parts)));
                count += 1;
            }
        }
        next_offset = batch.next_offset();
    }
    Encoded {
        bytes: frames.finish(),
        count,
        next_offset,
    }
}

/// Says which records of `batches` before `next` had not expired, as runs of offsets that follow each other.
pub fn sent_runs(batches: &[Batch], now: Timestamp, next: Offset, mut run: impl FnMut(Offset, Offset)) {
    let mut open: Option<(Offset, Offset)> = None;
    for batch in batches {
        for (offset, parts) in batch.iter().take_while(|(offset, _)| *offset < next) {
            if is_expired(&parts, batch.timestamp, now) {
                continue;
            }
            match &mut open {
                Some((_, end)) if *end == offset => *end = offset.plus(1),
                _ => {
                    if let Some((from, end)) = open.replace((offset, offset.plus(1))) {
                        run(from, end);
                    }
                }
            }
        }
    }
    if let Some((from, end)) = open {
        run(from, end);
    }
}

/// Encodes records that are given to live subscribers only: they have no offset.
pub fn encode_transient(prefix: &MessagePrefix, batch: &Batch, format: Format) -> Bytes {
    let mut frames = FrameBuffer::new(format, batch.records.len() + MESSAGE_OVERHEAD_BYTES);
    for (_, parts) in batch.iter() {
        frames.frame(|buffer| prefix.message(buffer, None, batch.timestamp, &fields(&parts)));
    }
    frames.finish()
}

/// A Close with its code and reason; the reason is cut to what a control frame holds.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut reason_len = reason.len().min(123);
    while !reason.is_char_boundary(reason_len) {
        reason_len -= 1;
    }
    let mut buffer = vec![CLOSE, 2 + reason_len as u8];
    buffer.extend_from_slice(&code.to_be_bytes());
    buffer.extend_from_slice(&reason.as_bytes()[..reason_len]);
    buffer.into()
}

/// A Pong that answers a Ping; `body` has at most 125 bytes, as the decoder made sure.
pub fn pong_frame(body: &[u8]) -> Bytes {
    let mut buffer = vec![PONG, body.len() as u8];
    buffer.extend_from_slice(body);
    buffer.into()
}
