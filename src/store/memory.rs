//! Everything in this process's memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};
use tokio::sync::oneshot;

use super::{
    Completion, Gap, GapReason, Log, OpenPartition, OpenedPartition, Page, PartitionKey, Retention, Store,
    StoreError, StoredTopic, Submission, Submitted, TopicId,
};

#[derive(Default)]
struct Tail {
    batches: VecDeque<Batch>,
    first: Offset,
    next: Offset,
    bytes: u64,
    retention: Retention,
}

/// A partition in memory.
#[derive(Default)]
pub struct MemoryLog {
    tail: RwLock<Tail>,
}

impl MemoryLog {
    fn append(&self, batch: &Batch) {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        tail.next = batch.next_offset();
        tail.bytes += batch.records.len() as u64;
        tail.batches.push_back(batch.clone());
        let bytes_max = tail.retention.bytes.unwrap_or(u64::MAX);
        while tail.bytes > bytes_max && tail.batches.len() > 1 {
            if let Some(old) = tail.batches.pop_front() {
                tail.bytes -= old.records.len() as u64;
                tail.first = old.next_offset();
            }
        }
    }
}

impl Log for MemoryLog {
    fn first_offset(&self) -> Offset {
        self.tail.read().unwrap_or_else(PoisonError::into_inner).first
    }
    fn next_offset(&self) -> Offset {
        self.tail.read().unwrap_or_else(PoisonError::into_inner).next
    }
    fn bytes(&self) -> u64 {
        self.tail.read().unwrap_or_else(PoisonError::into_inner).bytes
    }
    fn read_cached(&self, from: Offset, bytes_max: usize) -> Option<Page> {
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page {
            gap: None,
            batches: Vec::new(),
            next_offset: from,
        };
        let mut at = from;
        if from < tail.first {
            page.gap = Some(Gap {
                from,
                next: tail.first,
                reason: GapReason::Retention,
            });
            at = tail.first;
        }
        let index = tail.batches.partition_point(|batch| batch.next_offset() <= at);
        let mut bytes = 0;
        page.next_offset = at;
        for batch in tail.batches.range(index..) {
            let Some(part) = batch.starting_at(at) else {
                continue;
            };
            bytes += part.records.len();
            page.next_offset = part.next_offset();
            page.batches.push(part);
            if bytes >= bytes_max {
                break;
            }
        }
        Some(page)
    }
    fn read(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError> {
        Ok(self.read_cached(from, bytes_max).unwrap_or_default())
    }
    fn offset_at(&self, time: Timestamp) -> Result<Offset, StoreError> {
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tail
            .batches
            .iter()
            .find(|batch| batch.timestamp >= time)
            .map_or(tail.next, |batch| batch.base_offset))
    }
    fn set_retention(&self, retention: Retention) {
        self.tail
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retention = retention;
    }
}

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    next_id: AtomicU64,
    logs: Mutex<HashMap<PartitionKey, Arc<MemoryLog>>>,
}

fn done<T>(value: T) -> Completion<T> {
    let (sender, receiver) = oneshot::channel();
    let _ = sender.send(Ok(value));
    receiver
}

impl Store for MemoryStore {
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError> {
        Ok(Vec::new())
    }
    fn create_topic(&self, _: StoredTopic) -> Completion<TopicId> {
        done(TopicId(self.next_id.fetch_add(1, Ordering::Relaxed) + 1))
    }
    fn update_topic(&self, _: StoredTopic) -> Completion<()> {
        done(())
    }
    fn delete_topic(&self, id: TopicId) -> Completion<()> {
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| key.topic != id);
        done(())
    }
    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition> {
        let log = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(open.key)
            .or_default()
            .clone();
        let (first_offset, next_offset) = (log.first_offset(), log.next_offset());
        done(OpenedPartition {
            log,
            first_offset,
            next_offset,
            last_timestamp: Timestamp(0),
            recent_ids: Vec::new(),
        })
    }
    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        let log = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&submission.key)
            .cloned();
        log.ok_or(StoreError::Closed)?.append(&submission.batch);
        Ok(Submitted::Committed)
    }
    fn retain(&self, _: Timestamp) {}
    fn shutdown(&self) -> Completion<()> {
        done(())
    }
}
