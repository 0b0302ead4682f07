//! Which segments may go: by age, by size, because everything in them has expired, and because nobody
//! needs them any more.
//!
//! Runs on the thread that lays down, so that no segment goes while it is being written. Removes only
//! from the front of a partition, and always whole segments.

use std::sync::Arc;

use callboard_protocol::{Offset, Timestamp};

use super::{
    files::Files,
    laying::create_empty,
    partition::Partition,
    segment::{Segment, SummaryCost},
};
use crate::store::{Log as _, Retention, StoreError, tail::expires_at};

/// So many segments that nothing is known of are scanned each time; the others wait for the next time.
const SCANS_MAX: usize = 4;
/// So many index files are read each time.
const INDEXES_MAX: usize = 1000;

/// Whether records that are only in the journal may go, for which it must be laid down first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlaid {
    /// Nothing of it.
    Stays,
    /// Some.
    MayGo,
}

struct Budget {
    scans: usize,
    indexes: usize,
}

impl Budget {
    fn allows(&mut self, segment: &Segment) -> bool {
        let left = match segment.summary_cost() {
            SummaryCost::Nothing => return true,
            SummaryCost::SmallFile => &mut self.indexes,
            SummaryCost::WholeSegment => &mut self.scans,
        };
        let is_allowed = *left > 0;
        *left = left.saturating_sub(1);
        is_allowed
    }
}

/// Removes what may go of `partitions` at `now`.
pub fn retain(files: &Files, now: Timestamp, partitions: &[Arc<Partition>]) -> Unlaid {
    let mut budget = Budget {
        scans: SCANS_MAX,
        indexes: INDEXES_MAX,
    };
    let mut unlaid = Unlaid::Stays;
    for partition in partitions.iter().filter(|partition| !partition.is_closed()) {
        if let Err(error) = retain_one(files, partition, now, &mut budget) {
            log::warn!("retention is tried again later: {error}");
        }
        if has_unlaid_to_go(partition, now) {
            unlaid = Unlaid::MayGo;
        }
    }
    unlaid
}

fn has_unlaid_to_go(partition: &Partition, now: Timestamp) -> bool {
    let Some(oldest) = partition.first_unlaid() else {
        return false;
    };
    // What lies before an offset is no reason: it goes when it has been laid down anyway.
    let Retention { age_ms, bytes, .. } = partition.retention();
    age_ms.is_some_and(|age_ms| now.since(oldest.timestamp) > age_ms)
        || bytes.is_some_and(|bytes| partition.unlaid_bytes() > bytes)
        || expires_at(&oldest).is_some_and(|expiry| expiry <= now)
}

fn retain_one(
    files: &Files,
    partition: &Partition,
    now: Timestamp,
    budget: &mut Budget,
) -> Result<(), StoreError> {
    let segments = partition.segments().clone();
    let retention = partition.retention();
    let mut bytes = partition.bytes();
    let mut removed = 0;
    for (index, segment) in segments.iter().enumerate() {
        let following = segments.get(index + 1);
        let end = following.map_or(partition.laid_offset(), |following| following.base_offset());
        let is_unneeded = retention.before.is_some_and(|before| end <= before);
        if segment.is_empty() || !(is_unneeded || may_go(files, segment, (retention, bytes), now, budget)?) {
            break;
        }
        bytes -= segment.length();
        removed += 1;
    }
    if removed == 0 {
        return Ok(());
    }
    let mut kept = segments[removed..].to_vec();
    if kept.is_empty() {
        kept.push(create_empty(files, partition, partition.last_timestamp())?);
    }
    let first = kept.first().map_or(Offset::ZERO, |segment| segment.base_offset());
    partition.set_first_offset(first);
    *partition.segments_mut() = kept;
    partition.evict(first);
    for segment in &segments[..removed] {
        files.forget(segment);
        segment.remove()?;
    }
    Ok(())
}

fn may_go(
    files: &Files,
    segment: &Arc<Segment>,
    (retention, bytes): (Retention, u64),
    now: Timestamp,
    budget: &mut Budget,
) -> Result<bool, StoreError> {
    if retention
        .bytes
        .is_some_and(|bytes_max| bytes - segment.length() >= bytes_max)
    {
        return Ok(true);
    }
    if !budget.allows(segment) {
        return Ok(false);
    }
    files.touch(segment);
    let summary = segment.summary(files.disk.as_ref())?;
    let is_old = |age_ms| now.since(summary.last_timestamp) > age_ms;
    Ok(retention.age_ms.is_some_and(is_old) || summary.expires_at.is_some_and(|expiry| expiry <= now))
}
