//! A segment's sparse index: where to begin reading for an offset or a time, and what the segment
//! holds as a whole.
//!
//! Everything in it can be found again from the segment, so its file is written without a flush and is
//! believed only if its checksum holds and it names the same segment.

use callboard_protocol::{Offset, Timestamp};

use super::{
    format::{EntryHeader, FILE_HEADER_BYTES, FORMAT_VERSION, u32_at, u64_at},
    reader::Found,
};

const MAGIC: [u8; 8] = *b"CBSINDEX";
const HEAD_BYTES: usize = 72;
const POINT_BYTES: usize = 24;
/// A point is kept for the first entry after each of so many bytes.
const POINT_DISTANCE_BYTES: u64 = 64 * 1024;
/// Stands for records that never expire.
const NEVER: u64 = u64::MAX;

/// A place to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The first offset of the entry there.
    pub offset: Offset,
    /// The entry's timestamp.
    pub timestamp: Timestamp,
    /// Its position in the segment.
    pub position: u64,
}

/// What is known of a segment up to `covered_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Everything before this position is in the index.
    pub covered_bytes: u64,
    /// The offset after the last one covered.
    pub next_offset: Offset,
    /// The sequence number after the last one covered.
    pub next_sequence: u64,
    /// The newest timestamp covered.
    pub last_timestamp: Timestamp,
    /// When the last record expires; `u64::MAX` if one never does.
    expires_at: u64,
    points: Vec<Point>,
}

impl Index {
    /// The index of an empty segment.
    pub fn new(base_offset: Offset) -> Self {
        Self {
            covered_bytes: FILE_HEADER_BYTES as u64,
            next_offset: base_offset,
            next_sequence: 0,
            last_timestamp: Timestamp(0),
            expires_at: 0,
            points: Vec::new(),
        }
    }

    /// When the whole segment has expired; `None` if one record never does.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at != NEVER).then_some(Timestamp(self.expires_at))
    }

    /// Takes note of the next entry; `expires_at` is its last record's, `None` for never.
    pub fn note(&mut self, header: &EntryHeader, position: u64, expires_at: Option<Timestamp>) {
        let is_distant = |last: &Point| position >= last.position + POINT_DISTANCE_BYTES;
        if self.points.last().is_none_or(is_distant) {
            self.points.push(Point {
                offset: header.base_offset,
                timestamp: header.timestamp,
                position,
            });
        }
        self.covered_bytes = position + header.entry_bytes() as u64;
        self.next_offset = header.next_offset();
        self.next_sequence = header.sequence + 1;
        self.last_timestamp = self.last_timestamp.max(header.timestamp);
        self.expires_at = self.expires_at.max(expires_at.map_or(NEVER, |expiry| expiry.0));
    }

    /// Takes note of entries that were found in bytes that begin at `start`; those that are hurt never
    /// expire, because nobody can say when.
    pub fn note_found(
        &mut self,
        entries: &[Found],
        start: u64,
        expiry: impl Fn(&Found) -> Option<Timestamp>,
    ) {
        for found in entries {
            self.note(&found.header, start + found.position as u64, expiry(found));
        }
    }

    /// Where to begin reading to find `offset`.
    pub fn position_of(&self, offset: Offset) -> u64 {
        let after = self.points.partition_point(|point| point.offset <= offset);
        self.position_before(after)
    }

    /// Where to begin reading to find the first entry of at least `time`.
    pub fn position_at(&self, time: Timestamp) -> u64 {
        let after = self.points.partition_point(|point| point.timestamp < time);
        self.position_before(after)
    }

    fn position_before(&self, point: usize) -> u64 {
        let before = point.checked_sub(1).map(|point| self.points[point].position);
        before.unwrap_or(FILE_HEADER_BYTES as u64)
    }

    /// The timestamp of the first entry.
    pub fn first_timestamp(&self) -> Option<Timestamp> {
        self.points.first().map(|point| point.timestamp)
    }

    /// The index file of segment `id`.
    pub fn encode(&self, id: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.points.len() * POINT_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for number in [
            id,
            self.covered_bytes,
            self.next_offset.0,
            self.next_sequence,
            self.last_timestamp.0,
            self.expires_at,
            self.points.len() as u64,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for point in &self.points {
            for number in [point.offset.0, point.timestamp.0, point.position] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads an index file; `None` if it is hurt or not of segment `id`.
    pub fn decode(bytes: &[u8], id: u64) -> Option<Self> {
        if bytes.len() < HEAD_BYTES
            || bytes[0..8] != MAGIC
            || u32_at(bytes, 8) != FORMAT_VERSION
            || u32_at(bytes, 12) != checksum(bytes)
            || u64_at(bytes, 16) != id
            || u64_at(bytes, 64) != ((bytes.len() - HEAD_BYTES) / POINT_BYTES) as u64
        {
            return None;
        }
        let points = bytes[HEAD_BYTES..].chunks_exact(POINT_BYTES).map(|point| Point {
            offset: Offset(u64_at(point, 0)),
            timestamp: Timestamp(u64_at(point, 8)),
            position: u64_at(point, 16),
        });
        Some(Self {
            covered_bytes: u64_at(bytes, 24),
            next_offset: Offset(u64_at(bytes, 32)),
            next_sequence: u64_at(bytes, 40),
            last_timestamp: Timestamp(u64_at(bytes, 48)),
            expires_at: u64_at(bytes, 56),
            points: points.collect(),
        })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[0..12]), &bytes[16..])
}
