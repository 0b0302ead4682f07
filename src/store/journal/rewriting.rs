//! Writes a segment anew without the records that have expired, where that gives enough space back.
//!
//! Runs on the thread that lays down. The new file is written beside the old one, flushed, and takes its name: whenever
//! the process dies, one of the two is there. What is gone is stood for by entries, so that every offset keeps its
//! meaning and none is given twice.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{appender::Appender, disk::io_error, files::Files, partition::Partition, segment::Segment};
use crate::store::{
    GapReason, Retention, StoreError,
    expiry::Expiry,
    tail::{missing, push_hurt, stand_in},
};

/// For less space than this nothing is written anew.
const GAIN_BYTES_MIN: u64 = 64 << 10;
/// When segments of so many bytes were written anew, the others wait for the next time.
const REWRITTEN_BYTES_MAX: u64 = 64 << 20;
/// About how much is read at once.
const READ_BYTES: usize = 1 << 20;
/// The extension of a segment that is being written.
pub const EXTENSION: &str = "rewrite";

/// A segment of which much has expired.
pub struct Wasteful {
    /// Whose.
    pub partition: Arc<Partition>,
    /// Which.
    pub segment: Arc<Segment>,
    /// Where the next one begins.
    pub end: Offset,
    /// How many of its bytes may go.
    pub expired_bytes: u64,
}

/// Whether a segment of `length` bytes of which `expired` may go is to be written anew. What stays is less than
/// what goes, so over time no byte is written more than about twice for it.
pub fn is_worth_it(expired: u64, length: u64) -> bool {
    expired >= GAIN_BYTES_MIN && expired > length / 2
}

/// Writes segments anew, those with the most to gain first, as many as there is time for.
pub fn rewrite_worst(files: &Files, mut wasteful: Vec<Wasteful>, now: Timestamp) {
    wasteful.sort_unstable_by_key(|one| std::cmp::Reverse(one.expired_bytes));
    let mut rewritten = 0;
    for one in wasteful {
        if rewritten >= REWRITTEN_BYTES_MAX {
            return;
        }
        rewritten += one.segment.length();
        if let Err(error) = rewrite(files, &one, now) {
            log::warn!("expired records stay on disk for now: {error}");
        }
    }
}

fn rewrite(files: &Files, wasteful: &Wasteful, now: Timestamp) -> Result<(), StoreError> {
    let path = path_beside(&wasteful.segment);
    let written = write(files, wasteful, now, &path);
    if written.is_err() {
        // Else the next start removes it.
        let _ = fs::remove_file(&path);
    }
    written
}

fn write(files: &Files, wasteful: &Wasteful, now: Timestamp, path: &Path) -> Result<(), StoreError> {
    let Wasteful {
        partition, segment, ..
    } = wasteful;
    files.touch(segment);
    let successor = Arc::new(segment.create_successor(files.disk.as_ref(), path)?);
    let mut appender = Appender::new(files, successor.clone())?;
    copy(files, wasteful, now, &mut appender)?;
    let written = appender.finish()?;
    if let Some(file) = &written.file {
        file.sync_data()
            .map_err(|error| io_error("flush", path, &error))?;
    }
    successor.set_index(written.index);
    successor.publish(written.length);
    partition.replace_segment(segment, successor.clone(), path)?;
    files.forget(segment);
    files.touch(&successor);
    successor.save_index(files.disk.as_ref());
    partition.sync_names()
}

fn copy(
    files: &Files,
    wasteful: &Wasteful,
    now: Timestamp,
    appender: &mut Appender,
) -> Result<(), StoreError> {
    let Wasteful {
        partition,
        segment,
        end,
        ..
    } = wasteful;
    let retention = partition.retention();
    let mut next = segment.base_offset();
    let mut gone: Option<Batch> = None;
    while next < *end {
        let mut batches = segment.read(files.disk.as_ref(), next, READ_BYTES)?;
        if batches.is_empty() {
            push_hurt(&mut batches, next, *end, partition.last_timestamp());
        }
        for batch in batches {
            next = batch.next_offset();
            if !has_expired(&batch, now, retention) {
                if let Some(gone) = gone.take() {
                    appender.add(partition.key, &gone)?;
                }
                appender.add(partition.key, &batch)?;
                continue;
            }
            let former = gone.take();
            let merged = former.as_ref().and_then(|former| together(former, &batch));
            if let Some(former) = former.filter(|_| merged.is_none()) {
                appender.add(partition.key, &former)?;
            }
            gone = Some(merged.unwrap_or_else(|| {
                stand_in(
                    batch.base_offset,
                    batch.count,
                    batch.timestamp,
                    GapReason::Expired,
                )
            }));
        }
    }
    gone.map_or(Ok(()), |gone| appender.add(partition.key, &gone))
}

fn has_expired(batch: &Batch, now: Timestamp, retention: Retention) -> bool {
    match missing(batch) {
        Some(reason) => reason == GapReason::Expired,
        None => Expiry::of(batch).is_some_and(|expiry| expiry.may_go_at(retention.ids_ms) <= now),
    }
}

/// What stands for both, if one entry can.
fn together(former: &Batch, batch: &Batch) -> Option<Batch> {
    let count = former.count.checked_add(batch.count)?;
    // The newest timestamp: that of the last entry is the partition's after a restart.
    Some(stand_in(
        former.base_offset,
        count,
        batch.timestamp,
        GapReason::Expired,
    ))
}

fn path_beside(segment: &Segment) -> PathBuf {
    segment.path().with_extension(EXTENSION)
}
