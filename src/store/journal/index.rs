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
use crate::store::expiry::{Contents, Expiry};

const MAGIC: [u8; 8] = *b"CBSINDEX";
const HEAD_BYTES: usize = 88;
/// Version 1 did not say which bytes expire when.
const HEAD_BYTES_1: usize = 72;
const POINT_BYTES: usize = 24;
const EXPIRING_BYTES: usize = 24;
/// At the end, where the first files of version 2 have nothing.
const TAIL_BYTES: usize = 8;
/// So finely it is known which bytes expire when.
const EXPIRING_MAX: usize = 16;
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

/// Bytes of entries whose records will all have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiring {
    /// When the last of them has.
    at: Timestamp,
    /// The newest timestamp of those with message ids, or 0.
    ids_at: Timestamp,
    bytes: u64,
}

/// What retention asks of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The newest record's.
    pub last_timestamp: Timestamp,
    /// When the last record expires; `u64::MAX` if one never does.
    expires_at: u64,
    /// The newest timestamp of what has message ids and will expire, or 0.
    ids_at: Timestamp,
    /// In the order of time.
    expiring: Vec<Expiring>,
    /// The newest timestamp of what has message ids, whether it expires or not, or 0.
    pub last_id_timestamp: Timestamp,
}

impl Summary {
    /// Whether every record has expired, and no message id is needed any more.
    pub fn has_expired(&self, now: Timestamp, ids_ms: Option<u64>) -> bool {
        let expiry = Expiry {
            at: Timestamp(self.expires_at),
            ids_at: self.ids_at,
        };
        self.expires_at != NEVER && expiry.may_go_at(ids_ms) <= now
    }

    /// About how many bytes may go because they have expired: never more than there are.
    pub fn expired_bytes(&self, now: Timestamp, ids_ms: Option<u64>) -> u64 {
        let may_go = |expiring: &&Expiring| {
            let expiry = Expiry {
                at: expiring.at,
                ids_at: expiring.ids_at,
            };
            expiry.may_go_at(ids_ms) <= now
        };
        let expired = self.expiring.iter().filter(may_go);
        expired.map(|expiring| expiring.bytes).sum()
    }

    /// When more of it may go than may at `now`, if it ever does.
    pub fn next_expiry(&self, now: Timestamp, ids_ms: Option<u64>) -> Option<Timestamp> {
        let whole = (self.expires_at != NEVER).then_some((Timestamp(self.expires_at), self.ids_at));
        let sums = self
            .expiring
            .iter()
            .map(|expiring| (expiring.at, expiring.ids_at));
        let may_go = sums
            .chain(whole)
            .map(|(at, ids_at)| Expiry { at, ids_at }.may_go_at(ids_ms));
        may_go.filter(|at| *at > now).min()
    }

    fn note(&mut self, timestamp: Timestamp, bytes: u64, contents: Contents) {
        let Contents { expiry, ids_at } = contents;
        self.last_timestamp = self.last_timestamp.max(timestamp);
        self.last_id_timestamp = self.last_id_timestamp.max(ids_at);
        self.expires_at = self.expires_at.max(expiry.map_or(NEVER, |expiry| expiry.at.0));
        if let Some(expiry) = expiry.filter(|expiry| *expiry != Expiry::PAST) {
            self.ids_at = self.ids_at.max(expiry.ids_at);
            self.note_expiring(Expiring {
                at: expiry.at,
                ids_at: expiry.ids_at,
                bytes,
            });
        }
    }

    fn note_expiring(&mut self, new: Expiring) {
        let place = self.expiring.partition_point(|known| known.at < new.at);
        self.expiring.insert(place, new);
        if self.expiring.len() <= EXPIRING_MAX {
            return;
        }
        // The two neighbours that are least together become one, which is known to have expired when both have.
        let pairs = self.expiring.windows(2).map(|pair| pair[0].bytes + pair[1].bytes);
        let least = pairs.enumerate().min_by_key(|(_, bytes)| *bytes);
        let Some((place, bytes)) = least else { return };
        let former = self.expiring.remove(place);
        let merged = &mut self.expiring[place];
        merged.ids_at = merged.ids_at.max(former.ids_at);
        merged.bytes = bytes;
    }
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
    /// What is covered, as a whole.
    pub summary: Summary,
    points: Vec<Point>,
}

impl Index {
    /// The index of an empty segment.
    pub fn new(base_offset: Offset) -> Self {
        Self {
            covered_bytes: FILE_HEADER_BYTES as u64,
            next_offset: base_offset,
            next_sequence: 0,
            summary: Summary {
                last_timestamp: Timestamp(0),
                expires_at: 0,
                ids_at: Timestamp(0),
                expiring: Vec::new(),
                last_id_timestamp: Timestamp(0),
            },
            points: Vec::new(),
        }
    }

    /// Takes note of the next entry.
    pub fn note(&mut self, header: &EntryHeader, position: u64, contents: Contents) {
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
        self.summary
            .note(header.timestamp, header.entry_bytes() as u64, contents);
    }

    /// Takes note of entries that were found in bytes that begin at `start`; those that are hurt never
    /// expire, because nobody can say when.
    pub fn note_found(&mut self, entries: &[Found], start: u64, contents: impl Fn(&Found) -> Contents) {
        for found in entries {
            self.note(&found.header, start + found.position as u64, contents(found));
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
        let summary = &self.summary;
        let body_bytes = self.points.len() * POINT_BYTES + summary.expiring.len() * EXPIRING_BYTES;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body_bytes + TAIL_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let head = [
            id,
            self.covered_bytes,
            self.next_offset.0,
            self.next_sequence,
            summary.last_timestamp.0,
            summary.expires_at,
            self.points.len() as u64,
            summary.ids_at.0,
            summary.expiring.len() as u64,
        ];
        let points = self.points.iter();
        let points = points.flat_map(|point| [point.offset.0, point.timestamp.0, point.position]);
        let expiring = summary.expiring.iter();
        let expiring = expiring.flat_map(|expiring| [expiring.at.0, expiring.ids_at.0, expiring.bytes]);
        let tail = [summary.last_id_timestamp.0];
        for number in head.into_iter().chain(points).chain(expiring).chain(tail) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads an index file; `None` if it is hurt or not of segment `id`.
    pub fn decode(bytes: &[u8], id: u64) -> Option<Self> {
        if bytes.len() < HEAD_BYTES_1
            || bytes[0..8] != MAGIC
            || u32_at(bytes, 12) != checksum(bytes)
            || u64_at(bytes, 16) != id
        {
            return None;
        }
        let head_bytes = match u32_at(bytes, 8) {
            1 => HEAD_BYTES_1,
            FORMAT_VERSION if bytes.len() >= HEAD_BYTES => HEAD_BYTES,
            _ => return None,
        };
        let (points, expiring) = bytes[head_bytes..].split_at_checked(
            usize::try_from(u64_at(bytes, 64))
                .ok()?
                .checked_mul(POINT_BYTES)?,
        )?;
        let points = points.chunks_exact(POINT_BYTES).map(|point| Point {
            offset: Offset(u64_at(point, 0)),
            timestamp: Timestamp(u64_at(point, 8)),
            position: u64_at(point, 16),
        });
        let mut index = Self {
            covered_bytes: u64_at(bytes, 24),
            next_offset: Offset(u64_at(bytes, 32)),
            next_sequence: u64_at(bytes, 40),
            summary: Summary {
                last_timestamp: Timestamp(u64_at(bytes, 48)),
                expires_at: u64_at(bytes, 56),
                ids_at: Timestamp(0),
                expiring: Vec::new(),
                // There may be message ids up to its end, unless it says otherwise.
                last_id_timestamp: Timestamp(u64_at(bytes, 48)),
            },
            points: points.collect(),
        };
        if head_bytes == HEAD_BYTES_1 {
            // There may be message ids up to its end.
            index.summary.ids_at = index.summary.last_timestamp;
            return expiring.is_empty().then_some(index);
        }
        index.summary.ids_at = Timestamp(u64_at(bytes, 72));
        let expected = usize::try_from(u64_at(bytes, 80))
            .ok()?
            .checked_mul(EXPIRING_BYTES)?;
        let (expiring, tail) = expiring.split_at_checked(expected)?;
        match tail.len() {
            0 => {}
            TAIL_BYTES => index.summary.last_id_timestamp = Timestamp(u64_at(tail, 0)),
            _ => return None,
        }
        let numbers = expiring.chunks_exact(EXPIRING_BYTES).map(|numbers| Expiring {
            at: Timestamp(u64_at(numbers, 0)),
            ids_at: Timestamp(u64_at(numbers, 8)),
            bytes: u64_at(numbers, 16),
        });
        index.summary.expiring = numbers.collect();
        Some(index)
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[0..12]), &bytes[16..])
}
