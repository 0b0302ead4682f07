//! Writes one partition's committed batches from memory into its segments.
//!
//! Nothing that is written here is read before it is flushed and published, and everything can be
//! undone until then.

use std::sync::Arc;

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{
    appender::{Appender, Written},
    disk::io_error,
    files::Files,
    partition::Partition,
    segment::Segment,
};
use crate::store::{StoreError, tail::body};

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
            bytes: batches.iter().map(|batch| body(batch).len() as u64).sum(),
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
        files.touch(&segment);
        let mut appender = Appender::new(files, segment)?;
        for batch in batches {
            if appender.is_full_for(batch, retention, files.options.segment_bytes) {
                let next = self.create(files, batch)?;
                self.add(appender.finish()?, is_existing);
                is_existing = false;
                files.touch(&next);
                appender = Appender::new(files, next)?;
            }
            appender.add(partition.key, batch)?;
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
    pub fn flush(&self) -> Result<(), StoreError> {
        for written in self.extended.iter().chain(&self.created) {
            if let Some(file) = &written.file {
                file.sync_data()
                    .map_err(|error| io_error("flush", written.segment.path(), &error))?;
            }
        }
        if !self.created.is_empty() || self.partition.has_unsure_names() {
            self.partition.sync_names()?;
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
