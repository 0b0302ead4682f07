//! The newest batches of a partition, in memory: all of a memory log, and what a journal's log has not
//! laid down yet or keeps to read from.
//!
//! A plain structure without locks; its owner has one. Some batches have no records and stand for offsets
//! that were found hurt or have expired ([`missing`]).

use std::{
    collections::{VecDeque, vec_deque},
    sync::Arc,
};

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{Gap, GapReason, Log, Page, RecentId, StoreError, heap};

/// At most this many records are read back for their message ids when a partition is opened.
const RECENT_RECORDS_MAX: u64 = 1 << 20;
/// Bytes read at a time while looking for message ids.
const RECENT_PAGE_BYTES: usize = 1 << 20;

/// Consecutive batches.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<Arc<Batch>>,
    next_offset: Offset,
}

/// What is in the place of records that have expired. No record is so short, so it can not be taken for one.
const EXPIRED: &[u8] = b"expired";

/// Stands for `count` offsets that have no records any more.
pub fn stand_in(from: Offset, count: u32, timestamp: Timestamp, reason: GapReason) -> Batch {
    Batch {
        base_offset: from,
        timestamp,
        count,
        records: match reason {
            GapReason::Expired => Bytes::from_static(EXPIRED),
            GapReason::Corrupt | GapReason::Retention => Bytes::new(),
        },
    }
}

/// Appends what stands for the hurt offsets `from..next`.
pub fn push_hurt(batches: &mut Vec<Batch>, from: Offset, next: Offset, timestamp: Timestamp) {
    let mut from = from;
    while from < next {
        let count = u32::try_from(next.since(from)).unwrap_or(u32::MAX);
        batches.push(stand_in(from, count, timestamp, GapReason::Corrupt));
        from = from.plus(u64::from(count));
    }
}

/// Why the batch has no records, if it only stands for their offsets.
pub fn missing(batch: &Batch) -> Option<GapReason> {
    match &batch.records[..] {
        [] => Some(GapReason::Corrupt),
        EXPIRED => Some(GapReason::Expired),
        _ => None,
    }
}

/// The batch's encoded records; nothing for one that stands for what is missing.
pub fn body(batch: &Batch) -> &[u8] {
    match missing(batch) {
        Some(_) => &[],
        None => &batch.records,
    }
}

/// What of the batch is left from `offset` on, records or not.
pub fn starting_at(batch: &Batch, offset: Offset) -> Option<Batch> {
    if missing(batch).is_none() || offset <= batch.base_offset {
        return batch.starting_at(offset);
    }
    let left = batch.next_offset().since(offset) as u32;
    (left > 0).then(|| Batch {
        base_offset: offset,
        count: left,
        ..batch.clone()
    })
}

impl Tail {
    /// An empty tail that goes on at `next_offset`.
    pub fn new(next_offset: Offset) -> Self {
        Self {
            batches: VecDeque::new(),
            next_offset,
        }
    }

    /// The first offset that is here; the next one if nothing is.
    pub fn first_offset(&self) -> Offset {
        self.batches
            .front()
            .map_or(self.next_offset, |batch| batch.base_offset)
    }

    /// The offset after the newest.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The timestamp of the oldest batch here.
    pub fn first_timestamp(&self) -> Option<Timestamp> {
        self.batches.front().map(|batch| batch.timestamp)
    }

    /// The oldest batch here.
    pub fn front(&self) -> Option<&Arc<Batch>> {
        self.batches.front()
    }

    /// How many batches are here.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Adds a batch, which must begin at the next offset.
    pub fn push(&mut self, batch: Arc<Batch>) {
        debug_assert_eq!(batch.base_offset, self.next_offset);
        self.next_offset = batch.next_offset();
        self.batches.push_back(batch);
    }

    /// Forgets the oldest batch.
    pub fn pop(&mut self) -> Option<Arc<Batch>> {
        let batch = self.batches.pop_front();
        if self.batches.len() < self.batches.capacity() / 4 && self.batches.capacity() > 64 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
        batch
    }

    /// Forgets the records of the batches that begin at `due`, in ascending order; one stand-in is left for
    /// neighbours, unless one begins at `boundary`. Returns how many bytes that frees.
    pub fn expire(&mut self, due: &[Offset], boundary: Offset) -> u64 {
        let mut freed = 0;
        for base in due {
            let position = self.position(*base);
            let Some(batch) = self.batches.get_mut(position) else {
                break;
            };
            if batch.base_offset == *base && missing(batch).is_none() {
                freed += batch.records.len() as u64;
                let gone = stand_in(*base, batch.count, batch.timestamp, GapReason::Expired);
                *batch = Arc::new(gone);
            }
        }
        if freed > 0 {
            heap::count_freed(freed);
            self.merge_expired(boundary);
        }
        freed
    }

    fn merge_expired(&mut self, boundary: Offset) {
        let is_expired = |batch: &Batch| missing(batch) == Some(GapReason::Expired);
        let mut merged: VecDeque<Arc<Batch>> = VecDeque::new();
        for batch in self.batches.drain(..) {
            if is_expired(&batch)
                && batch.base_offset != boundary
                && let Some(last) = merged.back_mut().filter(|last| is_expired(last))
                && let Some(count) = last.count.checked_add(batch.count)
            {
                let last = Arc::make_mut(last);
                last.count = count;
                // The newest, so that timestamps never go back and the last one is known after a restart.
                last.timestamp = batch.timestamp;
            } else {
                merged.push_back(batch);
            }
        }
        self.batches = merged;
    }

    /// The batch that begins at `base`.
    pub fn at(&self, base: Offset) -> Option<&Arc<Batch>> {
        let batch = self.batches.get(self.position(base));
        batch.filter(|batch| batch.base_offset == base)
    }

    /// The batches from the one that holds `from` on.
    pub fn since(&self, from: Offset) -> vec_deque::Iter<'_, Arc<Batch>> {
        self.batches.range(self.position(from)..)
    }

    /// The batches from the first one with a timestamp of at least `time` on.
    pub fn since_time(&self, time: Timestamp) -> vec_deque::Iter<'_, Arc<Batch>> {
        let position = self.batches.partition_point(|batch| batch.timestamp < time);
        self.batches.range(position..)
    }

    fn position(&self, from: Offset) -> usize {
        // Most who read are near the end, and each step of a search in a long tail misses the caches: so the
        // search widens from there.
        let mut begin = self.batches.len();
        let mut step = 1;
        while begin > 0 {
            begin = begin.saturating_sub(step);
            if self.batches[begin].next_offset() <= from {
                break;
            }
            step *= 2;
        }
        let end = (begin + step).min(self.batches.len());
        let (mut low, mut high) = (begin, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.batches[middle].next_offset() <= from {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Records from `from` on; `from` must not lie before the first offset here.
    pub fn page(&self, from: Offset, bytes_max: usize) -> Page {
        page_of(self.since(from).map(AsRef::as_ref), from, bytes_max)
    }
}

/// A page of consecutive batches, some of which may stand for what is missing, beginning at `from`.
pub fn page_of<'a>(batches: impl Iterator<Item = &'a Batch>, from: Offset, bytes_max: usize) -> Page {
    let mut page = Page {
        gap: None,
        batches: Vec::new(),
        next_offset: from,
    };
    let mut bytes = 0;
    for batch in batches {
        if let Some(reason) = missing(batch) {
            if !page.batches.is_empty() || page.gap.is_some_and(|gap| gap.reason != reason) {
                break;
            }
            page.gap = Some(Gap {
                from: page.gap.map_or(from, |gap| gap.from),
                next: batch.next_offset(),
                reason,
            });
            page.next_offset = batch.next_offset();
            continue;
        }
        let Some(part) = batch.starting_at(from) else {
            continue;
        };
        bytes += part.records.len();
        page.next_offset = part.next_offset();
        page.batches.push(part);
        if bytes >= bytes_max {
            break;
        }
    }
    page
}

/// The message ids of records with a timestamp of at least `since`, oldest first.
///
/// # Errors
/// [`StoreError::Io`] when the log can not be read.
pub fn recent_ids(log: &dyn Log, since: Timestamp) -> Result<Vec<RecentId>, StoreError> {
    let mut ids = Vec::new();
    let end = log.next_offset();
    let newest = Offset(end.0.saturating_sub(RECENT_RECORDS_MAX));
    let mut from = log.offset_at(since)?.max(newest);
    loop {
        // What has none is passed over: a restart must not read all that came in a quarter of an hour at full speed.
        from = log.id_from(from, since)?;
        if from >= end {
            break;
        }
        let page = log.read(from, RECENT_PAGE_BYTES)?;
        for batch in &page.batches {
            ids.extend(batch.iter().filter_map(|(offset, record)| {
                Some(RecentId {
                    message_id: Bytes::copy_from_slice(record.message_id?.as_bytes()),
                    offset,
                    timestamp: batch.timestamp,
                })
            }));
        }
        if page.next_offset <= from {
            break;
        }
        from = page.next_offset;
    }
    Ok(ids)
}
