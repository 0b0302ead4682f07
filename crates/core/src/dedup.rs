//! The message ids of one partition that are still inside its deduplication window.
//!
//! A map answers and a queue in the order of offsets forgets: old ids leave at its front, those of
//! batches that the store refused at its back. Both share each id's bytes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use callboard_protocol::{Offset, Timestamp};

/// Most message ids that one partition remembers; about 150 MiB with ids of 36 bytes.
pub const DEDUP_IDS_MAX: usize = 1 << 20;

/// Capacity below which the tables are never shrunk.
const CAPACITY_MIN: usize = 1024;

/// One remembered id, in the order of offsets.
#[derive(Debug)]
struct Remembered {
    id: Arc<[u8]>,
    offset: Offset,
    timestamp: Timestamp,
}

/// Recent message ids with the offset of the record that carried each first.
#[derive(Debug, Default)]
pub(crate) struct RecentIds {
    /// Only ever asked, never walked, so its hasher's random seed decides nothing; it is there
    /// because clients choose the ids.
    offsets: HashMap<Arc<[u8]>, Offset>,
    /// Offsets and timestamps ascend. Holds an id twice if it came again after its window had passed
    /// and opening the partition brought both back, with a longer window or after the clock went back;
    /// then the later one answers, as it did before.
    order: VecDeque<Remembered>,
}

impl RecentIds {
    pub(crate) fn offset_of(&self, id: &[u8]) -> Option<Offset> {
        self.offsets.get(id).copied()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.order.len() >= DEDUP_IDS_MAX
    }

    /// Remembers `id`; its offset and timestamp are not below those of the ids before it.
    pub(crate) fn insert(&mut self, id: Arc<[u8]>, offset: Offset, timestamp: Timestamp) {
        self.offsets.insert(Arc::clone(&id), offset);
        self.order.push_back(Remembered {
            id,
            offset,
            timestamp,
        });
    }

    /// Forgets the ids that are `window_ms` old or older at `now`.
    pub(crate) fn forget_old(&mut self, now: Timestamp, window_ms: u64) {
        let mut forgotten = false;
        while let Some(oldest) = self
            .order
            .pop_front_if(|oldest| now.since(oldest.timestamp) >= window_ms)
        {
            self.remove(&oldest);
            forgotten = true;
        }
        if forgotten && self.order.len() < self.order.capacity() / 4 {
            // A burst of ids is not paid for after it has left the window.
            let capacity = (self.order.len() * 2).max(CAPACITY_MIN);
            self.order.shrink_to(capacity);
            self.offsets.shrink_to(capacity);
        }
    }

    /// Forgets the ids of `offset` and later.
    pub(crate) fn forget_from(&mut self, offset: Offset) {
        while let Some(newest) = self.order.pop_back_if(|newest| newest.offset >= offset) {
            self.remove(&newest);
        }
    }

    /// Takes `remembered` out of the map, unless a later record of the same id took its place.
    fn remove(&mut self, remembered: &Remembered) {
        if self.offsets.get(&remembered.id) == Some(&remembered.offset) {
            self.offsets.remove(&remembered.id);
        }
    }
}
