//! The newest batches of a partition, in memory: all of a memory log, and what a journal's log has not
//! laid down yet or keeps to read from.
//!
//! A plain structure without locks; its owner has one. A batch without bytes stands for offsets that
//! were found hurt.

use std::{
    collections::{VecDeque, vec_deque},
    sync::Arc,
};

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{Gap, GapReason, Log, Page, RecentId, StoreError};

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

/// Stands for `count` hurt offsets.
pub fn hurt_batch(from: Offset, count: u32, timestamp: Timestamp) -> Batch {
    Batch {
        base_offset: from,
        timestamp,
        count,
        records: Bytes::new(),
    }
}

/// Appends what stands for the hurt offsets `from..next`.
pub fn push_hurt(batches: &mut Vec<Batch>, from: Offset, next: Offset, timestamp: Timestamp) {
    let mut from = from;
    while from < next {
        let count = u32::try_from(next.since(from)).unwrap_or(u32::MAX);
        batches.push(hurt_batch(from, count, timestamp));
        from = from.plus(u64::from(count));
    }
}

/// Whether the batch stands for hurt offsets.
pub fn is_hurt(batch: &Batch) -> bool {
    batch.records.is_empty()
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

/// A page of consecutive batches, some of which may stand for hurt offsets, beginning at `from`.
pub fn page_of<'a>(batches: impl Iterator<Item = &'a Batch>, from: Offset, bytes_max: usize) -> Page {
    let mut page = Page {
        gap: None,
        batches: Vec::new(),
        next_offset: from,
    };
    let mut bytes = 0;
    for batch in batches {
        if is_hurt(batch) {
            if !page.batches.is_empty() {
                break;
            }
            page.gap = Some(Gap {
                from: page.gap.map_or(from, |gap| gap.from),
                next: batch.next_offset(),
                reason: GapReason::Corrupt,
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

/// When the last record of the batch expires: `None` if one of them never does.
pub fn expires_at(batch: &Batch) -> Option<Timestamp> {
    let mut latest = Timestamp(0);
    for (_, record) in batch.iter() {
        latest = latest.max(batch.timestamp.plus_ms(record.ttl_ms?));
    }
    Some(latest)
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
    while from < end {
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
