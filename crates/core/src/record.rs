//! A record as it is kept: encoded once where it enters, and passed on as these bytes ever after.
//!
//! The layout (little endian; `docs/storage.md` is its document) is the same in memory, in the
//! journal and in segments:
//!
//! ```text
//! u32 length      bytes that follow the checksum
//! u32 crc32c      over the length field and everything after the checksum
//! u8  flags       bit 0 key, 1 headers, 2 message id, 3 time to live, 4 binary payload
//! [u64 ttl_ms] [u16 n, key] [u8 n, message id] [u32 n, headers as JSON] payload (the rest)
//! ```
//!
//! Offset and timestamp belong to the [`Batch`], because all records admitted together share them.
//! The key and the message id are UTF-8; headers and payload are JSON text, one line, exactly as they
//! came; a binary payload (bit 4) is kept decoded.

use bytes::Bytes;
use callboard_protocol::{Offset, Timestamp};

use crate::checksum;

/// Bytes before the body of an encoded record: its length and its checksum.
pub const RECORD_HEADER_BYTES: usize = 8;

const KEY: u8 = 1;
const HEADERS: u8 = 1 << 1;
const MESSAGE_ID: u8 = 1 << 2;
const TTL: u8 = 1 << 3;
const BINARY: u8 = 1 << 4;
const KNOWN_FLAGS: u8 = KEY | HEADERS | MESSAGE_ID | TTL | BINARY;

/// The parts of one record, borrowed from a frame or from an encoded record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordParts<'a> {
    /// Picks the partition; at most 1 KiB.
    pub key: Option<&'a str>,
    /// A JSON object of strings, as text of one line.
    pub headers: Option<&'a str>,
    /// Names the record for deduplication; 1 to 128 bytes.
    pub message_id: Option<&'a str>,
    /// Milliseconds after the batch's timestamp when the record expires.
    pub ttl_ms: Option<u64>,
    /// Whether `payload` is raw bytes instead of JSON text.
    pub binary: bool,
    /// JSON text of one line, or raw bytes.
    pub payload: &'a [u8],
}

/// An encoded record that does not hold what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("the record is cut short")]
    Truncated,
    /// The checksum differs, or a part does not fit inside the record.
    #[error("the record's checksum or layout is wrong")]
    Corrupt,
}

impl<'a> RecordParts<'a> {
    /// Appends the record's encoding to `buffer` and returns how many bytes that was.
    ///
    /// The lengths must be within the protocol's limits, which the caller has checked.
    pub fn encode(&self, buffer: &mut Vec<u8>) -> usize {
        let start = buffer.len();
        buffer.reserve(self.encoded_bytes());
        buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        buffer.push(
            flag(self.key.is_some(), KEY)
                | flag(self.headers.is_some(), HEADERS)
                | flag(self.message_id.is_some(), MESSAGE_ID)
                | flag(self.ttl_ms.is_some(), TTL)
                | flag(self.binary, BINARY),
        );
        if let Some(ttl_ms) = self.ttl_ms {
            buffer.extend_from_slice(&ttl_ms.to_le_bytes());
        }
        if let Some(key) = self.key {
            buffer.extend_from_slice(&(key.len() as u16).to_le_bytes());
            buffer.extend_from_slice(key.as_bytes());
        }
        if let Some(message_id) = self.message_id {
            buffer.push(message_id.len() as u8);
            buffer.extend_from_slice(message_id.as_bytes());
        }
        if let Some(headers) = self.headers {
            buffer.extend_from_slice(&(headers.len() as u32).to_le_bytes());
            buffer.extend_from_slice(headers.as_bytes());
        }
        buffer.extend_from_slice(self.payload);
        let length = (buffer.len() - start - RECORD_HEADER_BYTES) as u32;
        buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let crc = checksum::of_record(length, &buffer[start + RECORD_HEADER_BYTES..]);
        buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        buffer.len() - start
    }

    /// Reads the record at the start of `bytes` without checking its checksum, for bytes that were
    /// checked when they came from disk or were encoded by this process.
    ///
    /// Returns the parts and the whole encoded length.
    ///
    /// # Errors
    /// [`RecordError`] when the parts do not fit.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let size = encoded_len(bytes)?;
        let mut rest = Cursor(&bytes[RECORD_HEADER_BYTES..size]);
        let flags = rest.take(1)?[0];
        if flags & !KNOWN_FLAGS != 0 {
            // A part that this version does not know would be taken for the payload's beginning.
            return Err(RecordError::Corrupt);
        }
        let mut parts = RecordParts {
            binary: flags & BINARY != 0,
            ..Self::default()
        };
        if flags & TTL != 0 {
            parts.ttl_ms = Some(u64::from_le_bytes(rest.array()?));
        }
        if flags & KEY != 0 {
            let length = u16::from_le_bytes(rest.array()?);
            parts.key = Some(rest.text(usize::from(length))?);
        }
        if flags & MESSAGE_ID != 0 {
            let length = rest.take(1)?[0];
            parts.message_id = Some(rest.text(usize::from(length))?);
        }
        if flags & HEADERS != 0 {
            let length = u32::from_le_bytes(rest.array()?);
            parts.headers = Some(rest.text(length as usize)?);
        }
        parts.payload = rest.0;
        Ok((parts, size))
    }

    /// Bytes of the encoding.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let part = |prefix: usize, text: Option<&str>| text.map_or(0, |text| prefix + text.len());
        RECORD_HEADER_BYTES
            + 1
            + self.ttl_ms.map_or(0, |_| 8)
            + part(2, self.key)
            + part(1, self.message_id)
            + part(4, self.headers)
            + self.payload.len()
    }

    /// Bytes of what the publisher gave: payload, key, headers and message id, without the encoding's
    /// own lengths and checksum. What `record_bytes_max` bounds.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        let text_bytes = |text: Option<&str>| text.map_or(0, str::len);
        self.payload.len() + text_bytes(self.key) + text_bytes(self.headers) + text_bytes(self.message_id)
    }
}

/// Checks the record at the start of `bytes` against its checksum; returns its encoded length.
///
/// # Errors
/// [`RecordError::Truncated`] when `bytes` ends too early, [`RecordError::Corrupt`] otherwise.
pub fn verify(bytes: &[u8]) -> Result<usize, RecordError> {
    let size = encoded_len(bytes)?;
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let length = (size - RECORD_HEADER_BYTES) as u32;
    if checksum::of_record(length, &bytes[RECORD_HEADER_BYTES..size]) != stored {
        return Err(RecordError::Corrupt);
    }
    RecordParts::decode(bytes).map(|(_, size)| size)
}

/// How many bytes the record at the start of `bytes` takes.
///
/// # Errors
/// [`RecordError::Truncated`] when `bytes` holds less than that.
pub fn encoded_len(bytes: &[u8]) -> Result<usize, RecordError> {
    let Some(field) = bytes.first_chunk::<4>() else {
        return Err(RecordError::Truncated);
    };
    // Checked, because a hurt length can be near 2^32, which a 32-bit `usize` does not hold with the
    // header added; then no buffer is that long.
    match (u32::from_le_bytes(*field) as usize).checked_add(RECORD_HEADER_BYTES) {
        Some(size) if size <= bytes.len() => Ok(size),
        _ => Err(RecordError::Truncated),
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(RecordError::Corrupt)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| RecordError::Corrupt)
    }

    fn text(&mut self, count: usize) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.take(count)?).map_err(|_| RecordError::Corrupt)
    }
}

/// Records that were admitted together: consecutive offsets, one timestamp, one buffer.
///
/// The unit of everything after admission: written, made visible, encoded and pushed as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// When the records got their offsets.
    pub timestamp: Timestamp,
    /// How many records; at least 1.
    pub count: u32,
    /// The encoded records, one after another.
    pub records: Bytes,
}

impl Batch {
    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.count))
    }

    /// The part of the batch from `offset` on; `None` if nothing of it is left.
    #[must_use]
    pub fn starting_at(&self, offset: Offset) -> Option<Self> {
        if offset <= self.base_offset {
            return Some(self.clone());
        }
        if offset >= self.next_offset() {
            return None;
        }
        let skipped = offset.since(self.base_offset);
        let mut position = 0;
        for _ in 0..skipped {
            position += encoded_len(&self.records[position..]).ok()?;
        }
        Some(Self {
            base_offset: offset,
            timestamp: self.timestamp,
            count: self.count - skipped as u32,
            records: self.records.slice(position..),
        })
    }

    /// The records in order, each with its offset.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, RecordParts<'_>)> {
        let mut rest = &self.records[..];
        let mut offset = self.base_offset;
        std::iter::from_fn(move || {
            let (parts, size) = RecordParts::decode(rest).ok()?;
            let item = (offset, parts);
            rest = &rest[size..];
            offset = offset.plus(1);
            Some(item)
        })
    }
}
