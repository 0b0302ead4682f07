//! Reading without following: pages for `fetch` and REST, and where a subscription begins.
//!
//! Everything here may ask a disk and so runs on a reader thread, except where it says otherwise.

use std::{collections::BTreeMap, sync::Arc};

use callboard_core::{
    position::{PartitionRange, last_n, resume},
    record::Batch,
};
use callboard_protocol::{
    ErrorCode, Offset, PartitionId, Timestamp,
    client::{From, Resume},
    error::Refusal,
    limits::{FETCH_BYTES_MAX, FETCH_RECORDS_DEFAULT, FETCH_RECORDS_MAX},
    server::{self, Offsets},
    time::parse_rfc3339,
};

use super::{
    clock,
    directory::Topic,
    partition::refusal,
    wire::{fields, is_expired},
};
use crate::store::{Gap, GapReason, Log, StoreError};

/// Records read for a page.
#[derive(Debug)]
pub struct Fetched {
    /// Entries of `messages`, with commas between and without brackets.
    pub entries: Vec<u8>,
    /// How many.
    pub count: u64,
    /// Where to read on.
    pub next_offset: Offset,
}

/// How many records a page may have.
pub fn page_limit(asked: Option<u64>) -> u64 {
    asked.unwrap_or(FETCH_RECORDS_DEFAULT).min(FETCH_RECORDS_MAX)
}

/// Reads a page.
///
/// # Errors
/// `offset_out_of_range` beyond the end, `expired` with the offset that lives, `storage_failed` where
/// the record is hurt or the disk does not answer.
pub fn fetch(log: &dyn Log, offset: Offset, limit: u64, now: Timestamp) -> Result<Fetched, Refusal> {
    let (first, end) = (log.first_offset(), log.next_offset());
    if offset > end {
        let message = format!("offset {offset} lies beyond the end {end}");
        return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
    }
    let mut fetched = Fetched {
        entries: Vec::new(),
        count: 0,
        next_offset: offset.max(first),
    };
    // Then only the record that lives is looked for.
    let mut gone =
        (offset < first).then(|| format!("offset {offset} was removed; {first} is the first one kept"));
    while fetched.count < limit && fetched.next_offset < end && fetched.entries.len() < FETCH_BYTES_MAX {
        let at = fetched.next_offset;
        let page = log
            .read(at, FETCH_BYTES_MAX - fetched.entries.len())
            .map_err(|error| refusal(&error))?;
        if let Some(gap) = page.gap {
            fetched.next_offset = gap.next;
            if at == offset {
                gone = Some(gone_at(gap)?);
            }
        }
        for batch in &page.batches {
            if batch.base_offset == offset && first_is_expired(batch, now) {
                gone = Some(format!("the record at {offset} has expired"));
            }
            push_entries(&mut fetched, batch, if gone.is_some() { 1 } else { limit }, now);
        }
        if (gone.is_some() && fetched.count > 0) || fetched.next_offset == at {
            break;
        }
    }
    if let Some(message) = gone {
        let lives = fetched.next_offset.0 - fetched.count;
        return Err(Refusal::new(ErrorCode::Expired, message).with_next_offset(Offset(lives)));
    }
    Ok(fetched)
}

/// What is said of a gap at the very offset that was asked for; hurt records are an error of their own.
fn gone_at(gap: Gap) -> Result<String, Refusal> {
    let what = match gap.reason {
        GapReason::Retention => "were removed by retention",
        GapReason::Expired => "have expired",
        GapReason::Corrupt => {
            let message = format!(
                "the records from {} up to {} are hurt on disk",
                gap.from, gap.next
            );
            return Err(Refusal::new(ErrorCode::StorageFailed, message).with_next_offset(gap.next));
        }
    };
    Ok(format!("the records from {} up to {} {what}", gap.from, gap.next))
}

fn first_is_expired(batch: &Batch, now: Timestamp) -> bool {
    batch
        .iter()
        .next()
        .is_some_and(|(_, parts)| is_expired(&parts, batch.timestamp, now))
}

fn push_entries(fetched: &mut Fetched, batch: &Batch, limit: u64, now: Timestamp) {
    for (offset, parts) in batch.iter() {
        if fetched.count == limit || fetched.entries.len() >= FETCH_BYTES_MAX {
            return;
        }
        fetched.next_offset = offset.plus(1);
        if is_expired(&parts, batch.timestamp, now) {
            continue;
        }
        if fetched.count > 0 {
            fetched.entries.push(b',');
        }
        server::push_entry(&mut fetched.entries, offset, batch.timestamp, &fields(&parts));
        fetched.count += 1;
    }
}

/// Where a subscription to one topic begins.
#[derive(Clone, Debug)]
pub struct Starts {
    /// The first offset to give of each partition.
    pub offsets: Offsets,
    /// Whether nothing is missing between what was asked and this.
    pub recovered: bool,
}

/// Finds where a subscription begins without asking a disk; `None` if one must be asked.
pub fn starts_now(topic: &Topic, from: &From) -> Option<Starts> {
    let each = |pick: fn(&dyn Log) -> Offset| Starts {
        offsets: logs(topic)
            .into_iter()
            .map(|(id, log)| (id, pick(&*log)))
            .collect(),
        recovered: true,
    };
    match from {
        From::Latest => Some(each(|log| log.next_offset())),
        From::Earliest => Some(each(|log| log.first_offset())),
        From::Resume(position) => Some(resumed(topic, position)),
        From::Topics(topics) => Some(topics.get(topic.name.as_str()).map_or_else(
            || each(|log| log.first_offset()),
            |position| resumed(topic, position),
        )),
        From::Last(_) | From::Time(_) => None,
    }
}

/// Finds where a subscription begins.
///
/// # Errors
/// `invalid_argument` for a time that is none, `storage_failed`.
pub fn starts(topic: &Topic, from: &From) -> Result<Starts, Refusal> {
    let offsets = match from {
        From::Time(text) => {
            let time = parse_rfc3339(text).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::InvalidArgument,
                    "time is RFC 3339, as 2026-11-20T08:00:00Z",
                )
            })?;
            let mut offsets = Offsets::new();
            for (id, log) in logs(topic) {
                offsets.insert(id, log.offset_at(time).map_err(|error| refusal(&error))?);
            }
            offsets
        }
        From::Last(count) => newest(topic, *count)?,
        _ => {
            return starts_now(topic, from)
                .ok_or_else(|| Refusal::new(ErrorCode::Internal, "unreachable start"));
        }
    };
    Ok(Starts {
        offsets,
        recovered: true,
    })
}

fn logs(topic: &Topic) -> Vec<(PartitionId, Arc<dyn Log>)> {
    topic
        .partitions()
        .iter()
        .filter_map(|part| part.log().map(|log| (part.id, log)))
        .collect()
}

fn resumed(topic: &Topic, position: &Resume) -> Starts {
    let same_epoch = position.epoch.as_ref().is_none_or(|epoch| *epoch == topic.epoch);
    let mut starts = Starts {
        offsets: BTreeMap::new(),
        recovered: true,
    };
    for (id, log) in logs(topic) {
        let range = PartitionRange {
            partition: id,
            first: log.first_offset(),
            next: log.next_offset(),
        };
        let start = resume(range, position.offsets.get(&id).copied(), same_epoch);
        starts.recovered &= start.recovered;
        starts.offsets.insert(id, start.offset);
    }
    starts
}

/// The newest `count` records of the whole topic, by timestamp.
fn newest(topic: &Topic, count: u64) -> Result<Offsets, Refusal> {
    let now = clock::now();
    let mut tails = Vec::new();
    for (id, log) in logs(topic) {
        let end = log.next_offset();
        let tail = newest_of(&*log, count, now).map_err(|error| refusal(&error))?;
        tails.push((id, end, tail));
    }
    Ok(last_n(count, &tails).into_iter().collect())
}

/// At least the newest `count` records of one partition that live, if it has so many. Where others have expired it
/// looks further back, twice as far each time.
fn newest_of(log: &dyn Log, count: u64, now: Timestamp) -> Result<Vec<(Offset, Timestamp)>, StoreError> {
    let first = log.first_offset();
    let (mut begin, mut distance) = (log.next_offset(), count);
    let mut newest = Vec::new();
    while (newest.len() as u64) < count && begin > first {
        let from = Offset(begin.0.saturating_sub(distance)).max(first);
        let mut before = living_between(log, (from, begin), now)?;
        before.append(&mut newest);
        newest = before;
        begin = from;
        distance = distance.saturating_mul(2);
    }
    Ok(newest)
}

fn living_between(
    log: &dyn Log,
    (from, end): (Offset, Offset),
    now: Timestamp,
) -> Result<Vec<(Offset, Timestamp)>, StoreError> {
    let mut living = Vec::new();
    let mut at = from;
    while at < end {
        let page = log.read(at, FETCH_BYTES_MAX)?;
        for batch in &page.batches {
            let records = batch.iter().take_while(|(offset, _)| *offset < end);
            let records = records.filter(|(_, parts)| !is_expired(parts, batch.timestamp, now));
            living.extend(records.map(|(offset, _)| (offset, batch.timestamp)));
        }
        if page.next_offset <= at {
            break;
        }
        at = page.next_offset;
    }
    Ok(living)
}

/// The offset from which the newest `count` records of one partition are read.
fn last_of_partition(log: &dyn Log, count: u64) -> Result<Offset, StoreError> {
    let end = log.next_offset();
    if count > FETCH_RECORDS_MAX {
        // More than a page: not worth looking at each.
        return Ok(Offset(end.0.saturating_sub(count)).max(log.first_offset()));
    }
    let newest = newest_of(log, count, clock::now())?;
    let begin = (newest.len() as u64).saturating_sub(count) as usize;
    Ok(newest.get(begin).map_or(end, |(offset, _)| *offset))
}

/// Where a page of one partition begins, as REST asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFrom {
    /// At the first record kept.
    First,
    /// At an offset, and nowhere else.
    Offset(Offset),
    /// At the first record of this time.
    Time(Timestamp),
    /// At the newest so many.
    Last(u64),
}

/// A page of one partition, from a reader thread.
///
/// # Errors
/// As [`fetch`]; but only who names an offset is told that it has expired, everyone else begins with what
/// lives. `partition_out_of_range`, and `internal` if the reader failed.
pub async fn read_partition(
    shared: &super::Shared,
    topic: &Topic,
    id: PartitionId,
    from: PageFrom,
    limit: u64,
) -> Result<Fetched, Refusal> {
    let log = topic.partitions().get(id.0 as usize).and_then(|part| part.log());
    let log = log.ok_or_else(|| {
        let message = format!("{} has no partition {id}", topic.name);
        Refusal::new(ErrorCode::PartitionOutOfRange, message)
    })?;
    if let PageFrom::Offset(offset) = from {
        return fetch_page(&shared.readers, log, offset, limit).await;
    }
    let page = shared.readers.run(move || fetch_living(&*log, from, limit));
    page.await
        .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed")))
}

fn fetch_living(log: &dyn Log, from: PageFrom, limit: u64) -> Result<Fetched, Refusal> {
    let mut at = match from {
        PageFrom::First => log.first_offset(),
        PageFrom::Offset(offset) => offset,
        PageFrom::Time(time) => log.offset_at(time).map_err(|error| refusal(&error))?,
        PageFrom::Last(count) => last_of_partition(log, count).map_err(|error| refusal(&error))?,
    };
    loop {
        match fetch(log, at, limit, clock::now()) {
            Err(Refusal {
                code: ErrorCode::Expired,
                next_offset: Some(lives),
                ..
            }) if lives > at => at = lives,
            outcome => return outcome,
        }
    }
}

/// A page, from a reader thread.
///
/// # Errors
/// As [`fetch`], and `internal` if the reader failed.
pub async fn fetch_page(
    readers: &super::readers::Readers,
    log: Arc<dyn Log>,
    offset: Offset,
    limit: u64,
) -> Result<Fetched, Refusal> {
    readers
        .run(move || fetch(&*log, offset, limit, clock::now()))
        .await
        .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_core::record::RecordParts;

    use super::*;
    use crate::store::memory::MemoryLog;

    /// A log whose record number `n`, of time `n`, lives for ever if `lives` says so, and else one millisecond.
    fn log(count: u64, lives: impl Fn(u64) -> bool) -> MemoryLog {
        let log = MemoryLog::default();
        for number in 0..count {
            let mut records = Vec::new();
            let parts = RecordParts {
                ttl_ms: (!lives(number)).then_some(1),
                payload: b"1",
                ..RecordParts::default()
            };
            parts.encode(&mut records);
            let batch = Batch {
                base_offset: Offset(number),
                timestamp: Timestamp(number),
                count: 1,
                records: records.into(),
            };
            log.append(Arc::new(batch)).unwrap();
        }
        log
    }

    #[test]
    fn newest_records_are_those_that_live_however_far_back() {
        let now = Timestamp(10_000);
        let sparse = log(2_000, |number| number % 500 == 0);
        for is_removed in [false, true] {
            if is_removed {
                sparse.retain(now);
            }
            let newest = |count| -> Vec<u64> {
                let found = newest_of(&sparse, count, now).unwrap();
                let newest = found.len().saturating_sub(count as usize);
                found[newest..].iter().map(|(offset, _)| offset.0).collect()
            };
            assert_eq!(newest(0), [0_u64; 0]);
            assert_eq!(newest(1), [1_500]);
            assert_eq!(newest(3), [500, 1_000, 1_500]);
            assert_eq!(newest(100), [0, 500, 1_000, 1_500]);
            assert_eq!(last_of_partition(&sparse, 2).unwrap(), Offset(1_000));
            assert_eq!(last_of_partition(&sparse, 9).unwrap(), Offset(0));
            assert_eq!(last_of_partition(&sparse, 1_800).unwrap(), Offset(200));
        }
        assert_eq!(last_of_partition(&log(50, |_| false), 9).unwrap(), Offset(50));
        assert_eq!(last_of_partition(&log(50, |_| true), 9).unwrap(), Offset(41));
    }
}
