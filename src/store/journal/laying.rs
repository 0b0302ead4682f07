//! Writes one partition's committed batches from memory into its segments.
//!
//! Nothing that is written here is read before it is flushed and published, and everything can be
//! undone until then.

use std::sync::Arc;

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{
    disk::{DiskFile, io_error, write_all_at},
    files::Files,
    format::{EntryHeader, EntryKind},
    index::Index,
    partition::Partition,
    segment::{OpenSegment, Segment},
};
use crate::store::{
    Retention, StoreError,
    tail::{expires_at, is_hurt},
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
struct Appender {
    segment: Arc<Segment>,
    open: OpenSegment,
    index: Index,
    /// Where the next entry goes, counting what is in the buffer.
    position: u64,
    buffer: Vec<u8>,
}

/// What was written of a partition and waits to be flushed and published.
pub struct Laid {
    partition: Arc<Partition>,
    next_offset: Offset,
    bytes: u64,
    /// The segment that was there already, if something was added to it.
    extended: Option<Written>,
    created: Vec<Written>,
    /// Every segment that was made, finished or not.
    started: Vec<Arc<Segment>>,
}

struct Written {
    segment: Arc<Segment>,
    /// `None` once it is left to the flush of the whole file system.
    file: Option<Arc<dyn DiskFile>>,
    index: Arc<Index>,
    length: u64,
}

impl Appender {
    fn new(files: &Files, segment: Arc<Segment>) -> Result<Self, StoreError> {
        files.touch(&segment);
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

    fn add(&mut self, partition: &Partition, batch: &Batch) -> Result<(), StoreError> {
        let header = EntryHeader {
            id: self.open.id,
            sequence: self.index.next_sequence,
            key: partition.key,
            kind: if is_hurt(batch) {
                EntryKind::Hurt
            } else {
                EntryKind::Records
            },
            base_offset: batch.base_offset,
            timestamp: batch.timestamp,
            count: batch.count,
            body_bytes: batch.records.len() as u32,
        };
        header.encode_entry(&batch.records, &mut self.buffer);
        self.index.note(&header, self.position, expires_at(batch));
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

    fn is_full_for(&self, batch: &Batch, retention: Retention, segment_bytes: u64) -> bool {
        if self.position <= super::format::FILE_HEADER_BYTES as u64 {
            return false;
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
            || self
                .index
                .expires_at()
                .is_some_and(|expiry| expiry <= batch.timestamp)
    }

    fn finish(mut self) -> Result<Written, StoreError> {
        self.write()?;
        Ok(Written {
            segment: self.segment,
            file: Some(self.open.file),
            index: Arc::new(self.index),
            length: self.position,
        })
    }
}

impl Laid {
    /// Writes what of `partition` is not in segments yet; `None` if there is nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then nothing of it is left.
    pub fn write(files: &Files, partition: &Arc<Partition>) -> Result<Option<Self>, StoreError> {
        let batches = partition.unlaid();
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(None);
        };
        let mut laid = Self {
            partition: partition.clone(),
            next_offset: last.next_offset(),
            bytes: batches.iter().map(|batch| batch.records.len() as u64).sum(),
            extended: None,
            created: Vec::new(),
            started: Vec::new(),
        };
        files.make_partition_directory(partition.key)?;
        if let Err(error) = laid.write_batches(files, &batches, first) {
            laid.undo(files);
            return Err(error);
        }
        Ok(Some(laid))
    }

    fn create(&mut self, files: &Files, batch: &Batch) -> Result<Arc<Segment>, StoreError> {
        let start = (batch.base_offset, batch.timestamp);
        let directory = self.partition.directory();
        let segment = Segment::existing(&directory, self.partition.key, batch.base_offset, 0);
        self.started.push(Arc::new(segment));
        let segment = Arc::new(Segment::create(
            files.disk.as_ref(),
            &directory,
            self.partition.key,
            start,
        )?);
        self.started.push(segment.clone());
        Ok(segment)
    }

    fn write_batches(
        &mut self,
        files: &Files,
        batches: &[Arc<Batch>],
        first: &Batch,
    ) -> Result<(), StoreError> {
        let retention = self.partition.retention();
        let partition = self.partition.clone();
        let existing = partition.segments().last().cloned();
        let mut is_existing = existing.is_some();
        let segment = existing.map_or_else(|| self.create(files, first), Ok)?;
        let mut appender = Appender::new(files, segment)?;
        for batch in batches {
            if appender.is_full_for(batch, retention, files.options.segment_bytes) {
                let next = self.create(files, batch)?;
                self.add(appender.finish()?, is_existing);
                is_existing = false;
                appender = Appender::new(files, next)?;
            }
            appender.add(&partition, batch)?;
        }
        self.add(appender.finish()?, is_existing);
        Ok(())
    }

    fn add(&mut self, written: Written, is_existing: bool) {
        if is_existing {
            self.extended = Some(written);
        } else {
            self.created.push(written);
        }
    }

    /// Closes the files, because the whole file system will be flushed.
    #[must_use]
    pub fn release(mut self) -> Self {
        for written in self.extended.iter_mut().chain(&mut self.created) {
            written.file = None;
        }
        self
    }

    /// Flushes the files one by one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn flush(&self, files: &Files) -> Result<(), StoreError> {
        for written in self.extended.iter().chain(&self.created) {
            if let Some(file) = &written.file {
                file.sync_data()
                    .map_err(|error| io_error("flush", written.segment.path(), &error))?;
            }
        }
        if !self.created.is_empty() {
            files.sync_partition_directory(self.partition.key)?;
        }
        Ok(())
    }

    /// Makes what was written, and is flushed by now, the place where it is read from. Returns the
    /// partition, the offset up to which it is laid, and how many bytes of records that was.
    pub fn publish(self, files: &Files) -> (Arc<Partition>, Offset, u64) {
        let mut segments = self.partition.segments().clone();
        for written in self.extended.into_iter().chain(self.created) {
            if segments
                .last()
                .is_none_or(|last| last.base_offset() < written.segment.base_offset())
            {
                if let Some(former) = segments.last() {
                    former.seal();
                    former.save_index(files.disk.as_ref());
                }
                segments.push(written.segment.clone());
            }
            written.segment.set_index(written.index);
            written.segment.publish(written.length);
        }
        *self.partition.segments_mut() = segments;
        self.partition.set_laid(self.next_offset, self.bytes);
        (self.partition, self.next_offset, self.bytes)
    }

    /// Removes what was written.
    pub fn undo(self, files: &Files) {
        for segment in &self.started {
            files.forget(segment);
            if let Err(error) = segment.remove() {
                log::warn!("a segment that was not finished stays: {error}");
            }
        }
        let Some(segment) = self.partition.segments().last().cloned() else {
            return;
        };
        // The bytes beyond the segment's length are written over by the next attempt anyway.
        let cut = segment
            .open(files.disk.as_ref())
            .map(|open| open.file.set_len(segment.length()));
        if let Ok(Err(error)) = cut {
            log::warn!(
                "{} is longer than it should be: {error}",
                segment.path().display()
            );
        }
    }
}

/// An empty segment at the end of a partition from which everything is removed, so that its offsets go
/// on from here after a restart.
///
/// # Errors
/// [`StoreError::Io`].
pub fn create_empty(
    files: &Files,
    partition: &Partition,
    timestamp: Timestamp,
) -> Result<Arc<Segment>, StoreError> {
    let directory = files.make_partition_directory(partition.key)?;
    let start = (partition.laid_offset(), timestamp);
    let segment = Arc::new(Segment::create(
        files.disk.as_ref(),
        &directory,
        partition.key,
        start,
    )?);
    files.touch(&segment);
    let open = segment.open(files.disk.as_ref())?;
    open.file
        .sync_data()
        .map_err(|error| io_error("flush", segment.path(), &error))?;
    files.sync_partition_directory(partition.key)?;
    Ok(segment)
}
