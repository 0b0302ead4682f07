//! Adds entries to one segment, behind those that are there.
//!
//! Used where the journal is laid down and where a segment is written anew. Nothing that is written here is
//! read before its caller has flushed and published it.

use std::sync::Arc;

use callboard_core::record::Batch;

use super::{
    disk::{DiskFile, io_error, write_all_at},
    files::Files,
    format::{EntryHeader, EntryKind, FORMAT_VERSION},
    index::Index,
    segment::{OpenSegment, Segment},
};
use crate::store::{
    GapReason, PartitionKey, Retention, StoreError,
    expiry::Contents,
    tail::{body, missing},
};

/// Entries are written in parts of about this size.
const CHUNK_BYTES: usize = 1 << 20;
/// No segment is planned smaller than this, however little is to be kept.
const SEGMENT_BYTES_MIN: u64 = 4096;
/// Retention removes whole segments, so this many make up what is to be kept.
const SEGMENTS_PER_RETENTION: u64 = 4;
/// Segments of a partition that is cut behind an offset are no larger, so that what it must keep is
/// small beside what it may lose.
const CUT_SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// A segment that entries are added to.
pub struct Appender {
    segment: Arc<Segment>,
    open: OpenSegment,
    index: Index,
    /// Where the next entry goes, counting what is in the buffer.
    position: u64,
    buffer: Vec<u8>,
}

/// What was added to a segment.
pub struct Written {
    /// Which.
    pub segment: Arc<Segment>,
    /// Its file; `None` once it is left to the flush of the whole file system.
    pub file: Option<Arc<dyn DiskFile>>,
    /// What it holds now.
    pub index: Arc<Index>,
    /// How long it is now.
    pub length: u64,
}

impl Appender {
    /// Goes on behind the last entry of `segment`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn new(files: &Files, segment: Arc<Segment>) -> Result<Self, StoreError> {
        let disk = files.disk.as_ref();
        let open = segment.open(disk)?;
        let index = segment.index(disk)?.as_ref().clone();
        Ok(Self {
            position: segment.length(),
            segment,
            open,
            index,
            buffer: Vec::new(),
        })
    }

    /// Adds an entry of partition `key`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn add(&mut self, key: PartitionKey, batch: &Batch) -> Result<(), StoreError> {
        let records = body(batch);
        let missing = missing(batch);
        let kind = match missing {
            None => EntryKind::Records,
            Some(GapReason::Expired) => EntryKind::Expired,
            Some(_) => EntryKind::Hurt,
        };
        let header = EntryHeader {
            id: self.open.id,
            sequence: self.index.next_sequence,
            key,
            kind,
            base_offset: batch.base_offset,
            timestamp: batch.timestamp,
            count: batch.count,
            body_bytes: records.len() as u32,
        };
        header.encode_entry(records, &mut self.buffer);
        // Behind the copy: a walk over the records of a batch that nobody has touched for long misses the caches at
        // each of them, and the copy reads ahead.
        let contents = match missing {
            None => Contents::of(batch),
            Some(GapReason::Expired) => Contents::PAST,
            Some(_) => Contents::LOST,
        };
        self.index.note(&header, self.position, contents);
        self.position += header.entry_bytes() as u64;
        if self.buffer.len() >= CHUNK_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let start = self.position - self.buffer.len() as u64;
        write_all_at(self.open.file.as_ref(), &self.buffer, start)
            .map_err(|error| io_error("write", self.segment.path(), &error))?;
        self.buffer.clear();
        Ok(())
    }

    /// Whether `batch` belongs into the next segment.
    pub fn is_full_for(&self, batch: &Batch, retention: Retention, segment_bytes: u64) -> bool {
        if self.position <= super::format::FILE_HEADER_BYTES as u64 {
            return false;
        }
        if self.open.version != FORMAT_VERSION {
            // What a file of an older version can not say, it need not say.
            return true;
        }
        let wanted = retention
            .bytes
            .map_or(segment_bytes, |bytes| bytes / SEGMENTS_PER_RETENTION);
        let limit = wanted
            .min(segment_bytes)
            .min(retention.before.map_or(u64::MAX, |_| CUT_SEGMENT_BYTES_MAX))
            .max(SEGMENT_BYTES_MIN.min(segment_bytes));
        let age = self
            .index
            .first_timestamp()
            .map_or(0, |first| batch.timestamp.since(first));
        self.position + batch.records.len() as u64 > limit
            || retention
                .age_ms
                .is_some_and(|age_ms| age > age_ms / SEGMENTS_PER_RETENTION)
            || self.index.summary.has_expired(batch.timestamp, retention.ids_ms)
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self) -> Result<Written, StoreError> {
        self.write()?;
        Ok(Written {
            segment: self.segment,
            file: Some(self.open.file),
            index: Arc::new(self.index),
            length: self.position,
        })
    }
}
