//! Records in this process's memory only: the engine `memory`, and the log that every engine uses for
//! topics that ask for no more.
//!
//! Nothing here waits for anything: a batch is committed and readable when `submit` returns.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};
use tokio::sync::oneshot;

use super::{
    Completion, Fact, FactChange, Gap, GapReason, Log, OpenPartition, OpenedPartition, Page, PartitionKey,
    Retention, Store, StoreError, StoredTopic, Submission, Submitted, TopicId, check_set,
    expiry::{Expiries, Looked},
    heap,
    tail::{Tail, body, missing, recent_ids},
};

/// A map by partition, for the hot path: keys are the store's own numbers, so nobody can choose them to
/// collide.
pub(super) type PartitionMap<V> = HashMap<PartitionKey, V, BuildHasherDefault<KeyHasher>>;

/// Mixes the two numbers of a partition's key.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A partition's log in memory, bounded by its retention at each append.
pub struct MemoryLog {
    state: RwLock<State>,
    expiries: Mutex<Expiries>,
    first_offset: AtomicU64,
    next_offset: AtomicU64,
    bytes: AtomicU64,
}

struct State {
    tail: Tail,
    bytes: u64,
    retention: Retention,
    last_timestamp: Timestamp,
    /// What lies before the first offset and before this was removed by retention; the rest had expired.
    retained: Offset,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            state: RwLock::new(State {
                tail: Tail::new(Offset::ZERO),
                bytes: 0,
                retention: Retention::default(),
                last_timestamp: Timestamp(0),
                retained: Offset::ZERO,
            }),
            expiries: Mutex::default(),
            first_offset: AtomicU64::new(0),
            next_offset: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl State {
    /// Drops the oldest batches that `may_go` lets go, but never the newest one.
    fn drop_while(&mut self, may_go: impl Fn(&Self, &Batch) -> bool) {
        while self.tail.len() > 1
            && let Some(batch) = self.tail.front()
            && may_go(self, batch)
        {
            self.bytes -= body(batch).len() as u64;
            self.retained = batch.next_offset();
            self.tail.pop();
        }
        self.drop_missing();
    }

    /// What only stands for missing records is no beginning.
    fn drop_missing(&mut self) {
        while self.tail.front().is_some_and(|batch| missing(batch).is_some()) {
            self.tail.pop();
        }
    }

    /// Lets go of the records of the batches that begin at `due`, also of the newest one.
    fn expire(&mut self, due: &[Offset]) {
        self.bytes -= self.tail.expire(due, Offset::ZERO);
        self.drop_missing();
    }

    fn check_next(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.base_offset == self.tail.next_offset() {
            return Ok(());
        }
        Err(StoreError::Io {
            operation: format!("append at offset {}", batch.base_offset),
            reason: format!("the next offset is {}", self.tail.next_offset()),
            no_space: false,
        })
    }

    fn append(&mut self, batch: Arc<Batch>) {
        let now = batch.timestamp;
        self.bytes += batch.records.len() as u64;
        self.last_timestamp = now;
        self.tail.push(batch);
        self.apply_retention(now);
    }

    fn apply_retention(&mut self, now: Timestamp) {
        let Retention {
            age_ms,
            bytes,
            before,
            ..
        } = self.retention;
        if age_ms.is_some() || bytes.is_some() || before.is_some() {
            self.drop_while(|state, batch| {
                bytes.is_some_and(|bytes_max| state.bytes > bytes_max)
                    || age_ms.is_some_and(|age_ms| now.since(batch.timestamp) > age_ms)
                    || before.is_some_and(|before| batch.next_offset() <= before)
            });
        }
    }
}

impl MemoryLog {
    // A panic while the lock is held can not leave the structure half changed in a way that readers
    // would notice, so a poisoned lock is used on.
    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch; it is readable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the batch does not begin at the next offset.
    pub fn append(&self, batch: Arc<Batch>) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.check_next(&batch)?;
        state.append(batch);
        self.publish(&state);
        Ok(())
    }

    /// Removes what retention allows to go, and what has expired.
    pub fn retain(&self, now: Timestamp) {
        let ids_ms = self.view().retention.ids_ms;
        let due = {
            let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
            while expiries.look(&self.view().tail, ids_ms) == Looked::AtSome {}
            expiries.take_due(&self.view().tail, now, ids_ms)
        };
        let mut state = self.lock();
        state.expire(&due);
        state.apply_retention(now);
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        self.bytes.store(state.bytes, Ordering::Relaxed);
        self.first_offset
            .store(state.tail.first_offset().0, Ordering::Release);
        self.next_offset
            .store(state.tail.next_offset().0, Ordering::Release);
    }

    fn page(&self, from: Offset, bytes_max: usize) -> Page {
        let state = self.view();
        let first = state.tail.first_offset();
        let mut page = state.tail.page(from.max(first), bytes_max);
        if from < first {
            page.gap = Some(Gap {
                from,
                next: first,
                reason: if from < state.retained {
                    GapReason::Retention
                } else {
                    GapReason::Expired
                },
            });
        }
        page
    }
}

impl Log for MemoryLog {
    fn first_offset(&self) -> Offset {
        Offset(self.first_offset.load(Ordering::Acquire))
    }

    fn next_offset(&self) -> Offset {
        Offset(self.next_offset.load(Ordering::Acquire))
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn read_cached(&self, from: Offset, bytes_max: usize) -> Option<Page> {
        Some(self.page(from, bytes_max))
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError> {
        Ok(self.page(from, bytes_max))
    }

    fn offset_at(&self, time: Timestamp) -> Result<Offset, StoreError> {
        let state = self.view();
        let first = state.tail.since_time(time).next().map(|batch| batch.base_offset);
        Ok(first.unwrap_or(state.tail.next_offset()))
    }

    fn set_retention(&self, retention: Retention) {
        let mut state = self.lock();
        state.retention = retention;
    }
}

/// A partition whose records are in memory only.
#[derive(Default)]
pub struct MemoryPartition {
    log: Arc<MemoryLog>,
    incarnation: AtomicU64,
    is_closed: AtomicBool,
}

impl MemoryPartition {
    /// Opens the partition for a new incarnation.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when it was closed, or opened by a later incarnation.
    pub fn open(&self, open: &OpenPartition) -> Result<OpenedPartition, StoreError> {
        let former = self.incarnation.fetch_max(open.incarnation.0, Ordering::AcqRel);
        if former > open.incarnation.0 || self.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(OpenedPartition {
            first_offset: self.log.first_offset(),
            next_offset: self.log.next_offset(),
            last_timestamp: self.log.view().last_timestamp,
            recent_ids: recent_ids(self.log.as_ref(), open.ids_since)?,
            log: self.log.clone(),
        })
    }

    /// Commits a batch.
    ///
    /// # Errors
    /// [`StoreError::Closed`], or what [`MemoryLog::append`] says.
    pub fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.check(&submission)?;
        self.log.append(submission.batch)?;
        Ok(Submitted::Committed)
    }

    fn check(&self, submission: &Submission) -> Result<(), StoreError> {
        let is_current = submission.incarnation.0 >= self.incarnation.load(Ordering::Acquire);
        if !is_current || self.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// Refuses everything from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Removes what may go.
    pub fn retain(&self, now: Timestamp) {
        self.log.retain(now);
    }
}

/// Commits a batch of each of these partitions, or none.
///
/// # Errors
/// [`StoreError::Closed`], or what [`MemoryLog::append`] says, of the first that can not be committed.
pub(super) fn submit_together(
    mut set: Vec<(Arc<MemoryPartition>, Submission)>,
) -> Result<Submitted, StoreError> {
    // In one order everywhere, so that two sets can not wait for one another.
    set.sort_unstable_by_key(|(_, submission)| submission.key);
    let mut states = Vec::with_capacity(set.len());
    for (partition, submission) in &set {
        partition.check(submission)?;
        let state = partition.log.lock();
        state.check_next(&submission.batch)?;
        states.push(state);
    }
    for (state, (partition, submission)) in states.iter_mut().zip(&set) {
        state.append(submission.batch.clone());
        partition.log.publish(state);
    }
    Ok(Submitted::Committed)
}

/// The engine `memory`: topics and records live as long as the process.
#[derive(Default)]
pub struct MemoryStore {
    topics: Mutex<Topics>,
    facts: Mutex<BTreeMap<String, String>>,
    partitions: RwLock<PartitionMap<Arc<MemoryPartition>>>,
    is_shut_down: AtomicBool,
}

#[derive(Default)]
struct Topics {
    by_id: HashMap<TopicId, StoredTopic>,
    last_id: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, key: PartitionKey) -> Option<Arc<MemoryPartition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(&key).cloned()
    }

    fn open_now(&self, open: &OpenPartition) -> Result<OpenedPartition, StoreError> {
        let topics = self.topics();
        let topic = topics.by_id.get(&open.key.topic).ok_or(StoreError::Closed)?;
        if open.key.partition.0 >= topic.partitions {
            return Err(StoreError::Closed);
        }
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry(open.key).or_default().clone();
        drop((partitions, topics));
        partition.open(open)
    }
}

/// A completion that has already come.
pub(super) fn completed<T>(result: Result<T, StoreError>) -> Completion<T> {
    let (sender, receiver) = oneshot::channel();
    // The receiver is in hand, so the value can not be refused.
    let _ = sender.send(result);
    receiver
}

impl Store for MemoryStore {
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError> {
        Ok(self.topics().by_id.values().cloned().collect())
    }

    fn create_topic(&self, mut topic: StoredTopic) -> Completion<TopicId> {
        let mut topics = self.topics();
        topics.last_id += 1;
        topic.id = TopicId(topics.last_id);
        let id = topic.id;
        topics.by_id.insert(id, topic);
        completed(Ok(id))
    }

    fn update_topic(&self, topic: StoredTopic) -> Completion<()> {
        let mut topics = self.topics();
        let known = topics.by_id.get_mut(&topic.id);
        completed(known.map(|known| *known = topic).ok_or(StoreError::Closed))
    }

    fn delete_topic(&self, id: TopicId) -> Completion<()> {
        let known = self.topics().by_id.remove(&id);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        for (_, partition) in partitions.extract_if(|key, _| key.topic == id) {
            partition.close();
        }
        completed(known.map(drop).ok_or(StoreError::Closed))
    }

    fn facts(&self) -> Result<Vec<Fact>, StoreError> {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = facts.iter().map(|(key, value)| Fact {
            key: key.clone(),
            value: value.clone(),
        });
        Ok(facts.collect())
    }

    fn keep_facts(&self, changes: Vec<FactChange>) -> Completion<()> {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change.value {
                Some(value) => drop(facts.insert(change.key, value)),
                None => drop(facts.remove(&change.key)),
            }
        }
        completed(Ok(()))
    }

    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return completed(Err(StoreError::ShuttingDown));
        }
        completed(self.open_now(&open))
    }

    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(StoreError::ShuttingDown);
        }
        let partition = self.partition(submission.key).ok_or(StoreError::Closed)?;
        partition.submit(submission)
    }

    fn submit_together(&self, submissions: Vec<Submission>) -> Result<Submitted, StoreError> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(StoreError::ShuttingDown);
        }
        check_set(&submissions)?;
        let set: Result<Vec<_>, _> = submissions
            .into_iter()
            .map(|submission| {
                Ok((
                    self.partition(submission.key).ok_or(StoreError::Closed)?,
                    submission,
                ))
            })
            .collect();
        submit_together(set?)
    }

    fn retain(&self, now: Timestamp) {
        let partitions: Vec<_> = {
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            partitions.values().cloned().collect()
        };
        for partition in partitions {
            partition.retain(now);
        }
        heap::give_back();
    }

    fn shutdown(&self) -> Completion<()> {
        self.is_shut_down.store(true, Ordering::Release);
        completed(Ok(()))
    }
}
