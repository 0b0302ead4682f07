//! Which segments may go: by age, by size, because everything in them has expired, and because nobody
//! needs them any more.
//!
//! Runs on the thread that lays down, so that no segment goes while it is being written. Removes whole segments from
//! the front of a partition; what has expired elsewhere is forgotten in memory, and on disk where a segment is mostly
//! that ([`rewriting`]).

use std::sync::{Arc, atomic::Ordering};

use callboard_protocol::{Offset, Timestamp};

use super::{
    files::Files,
    laying::create_empty,
    partition::Partition,
    rewriting::{self, Wasteful},
    segment::{Segment, SummaryCost},
};
use crate::store::{Log as _, Retention, StoreError};

/// When so many bytes of the journal's file have expired, it is laid down without them. It is less if files are small.
const EXPIRED_BYTES_MAX: u64 = 1 << 20;
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
    let mut wasteful = Vec::new();
    for partition in partitions {
        if partition.is_closed() || partition.rests(now) {
            continue;
        }
        let state = partition.rest_state();
        let expired = partition.expire(now);
        files.expired_bytes.fetch_add(expired, Ordering::Relaxed);
        let done = retain_one(files, partition, now, &mut budget)
            .and_then(|()| find_wasteful(files, partition, now, &mut budget, &mut wasteful));
        let has_unlaid_to_go = has_unlaid_to_go(partition, now);
        if has_unlaid_to_go {
            unlaid = Unlaid::MayGo;
        }
        let until = match done {
            Ok(Some(until)) if !has_unlaid_to_go => Some(until.min(next_in_memory(partition))),
            Ok(_) => None,
            Err(error) => {
                log::warn!("retention is tried again later: {error}");
                None
            }
        };
        partition.set_rest(state, until);
    }
    rewriting::rewrite_worst(files, wasteful, now);
    let expired_max = EXPIRED_BYTES_MAX.min(files.options.journal_bytes / 4);
    if files.expired_bytes.load(Ordering::Relaxed) >= expired_max {
        unlaid = Unlaid::MayGo;
    }
    if unlaid == Unlaid::MayGo {
        files.expired_bytes.store(0, Ordering::Relaxed);
    }
    unlaid
}

/// Never, as good as.
const FAR_AWAY: Timestamp = Timestamp(u64::MAX);

/// When something of what is in memory may go.
fn next_in_memory(partition: &Partition) -> Timestamp {
    let age_ms = partition.retention().age_ms;
    let oldest = age_ms.and_then(|age_ms| Some(partition.first_unlaid()?.timestamp.plus_ms(age_ms)));
    let expiry = partition.next_expiry();
    oldest.into_iter().chain(expiry).min().unwrap_or(FAR_AWAY)
}

fn has_unlaid_to_go(partition: &Partition, now: Timestamp) -> bool {
    let Some(oldest) = partition.first_unlaid() else {
        return false;
    };
    // What lies before an offset is no reason: it goes when it has been laid down anyway.
    let Retention { age_ms, bytes, .. } = partition.retention();
    age_ms.is_some_and(|age_ms| now.since(oldest.timestamp) > age_ms)
        || bytes.is_some_and(|bytes| partition.unlaid_bytes() > bytes)
}

/// Finds segments that are worth being written anew, and says until when no other segment has anything to do;
/// `None` if that is not known or something is left to do.
fn find_wasteful(
    files: &Files,
    partition: &Arc<Partition>,
    now: Timestamp,
    budget: &mut Budget,
    found: &mut Vec<Wasteful>,
) -> Result<Option<Timestamp>, StoreError> {
    let Retention { ids_ms, age_ms, .. } = partition.retention();
    let segments = partition.segments().clone();
    let mut until = Some(FAR_AWAY);
    for (place, segment) in segments.iter().enumerate() {
        if segment.is_empty() {
            continue;
        }
        if !budget.allows(segment) {
            until = None;
            continue;
        }
        if !segment.has_summary() {
            files.touch(segment);
        }
        let summary = segment.summary(files.disk.as_ref())?;
        let old_at = age_ms.map(|age_ms| summary.last_timestamp.plus_ms(age_ms));
        let next = old_at.into_iter().chain(summary.next_expiry(now, ids_ms)).min();
        until = until.map(|until| until.min(next.unwrap_or(FAR_AWAY)));
        let expired_bytes = summary.expired_bytes(now, ids_ms);
        if rewriting::is_worth_it(expired_bytes, segment.length()) {
            let following = segments.get(place + 1);
            found.push(Wasteful {
                partition: partition.clone(),
                segment: segment.clone(),
                end: following.map_or(partition.laid_offset(), |following| following.base_offset()),
                expired_bytes,
            });
            until = None;
        }
    }
    Ok(until)
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It goes because everything in it has expired.
    Expired,
    /// It goes although something in it had not expired.
    Removed,
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
    let mut retained = Offset::ZERO;
    for (index, segment) in segments.iter().enumerate() {
        let following = segments.get(index + 1);
        let end = following.map_or(partition.laid_offset(), |following| following.base_offset());
        let is_unneeded = retention.before.is_some_and(|before| end <= before);
        let fate = match is_unneeded {
            _ if segment.is_empty() => Fate::Stays,
            true => Fate::Removed,
            false => fate(files, segment, (retention, bytes), now, budget)?,
        };
        match fate {
            Fate::Stays => break,
            Fate::Expired => {}
            Fate::Removed => retained = end,
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
    partition.set_first_offset(first, retained);
    *partition.segments_mut() = kept;
    partition.evict(first);
    for segment in &segments[..removed] {
        files.forget(segment);
        segment.remove()?;
    }
    Ok(())
}

fn fate(
    files: &Files,
    segment: &Arc<Segment>,
    (retention, bytes): (Retention, u64),
    now: Timestamp,
    budget: &mut Budget,
) -> Result<Fate, StoreError> {
    if retention
        .bytes
        .is_some_and(|bytes_max| bytes - segment.length() >= bytes_max)
    {
        return Ok(Fate::Removed);
    }
    if !budget.allows(segment) {
        return Ok(Fate::Stays);
    }
    files.touch(segment);
    let summary = segment.summary(files.disk.as_ref())?;
    let is_old = |age_ms| now.since(summary.last_timestamp) > age_ms;
    if summary.has_expired(now, retention.ids_ms) {
        return Ok(Fate::Expired);
    }
    Ok(if retention.age_ms.is_some_and(is_old) {
        Fate::Removed
    } else {
        Fate::Stays
    })
}
