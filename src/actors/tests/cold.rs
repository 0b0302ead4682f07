//! A store whose records can only be read on a reader thread.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use callboard_protocol::{Offset, Timestamp};
use tokio::sync::oneshot;

use crate::store::{
    Completion, Fact, FactChange, Log, OpenPartition, OpenedPartition, Page, Retention, Store, StoreError,
    StoredTopic, Submission, Submitted, TopicId, memory::MemoryStore,
};

#[derive(Default)]
pub struct ColdStore(MemoryStore, Gate, AtomicBool);

/// What the next read waits for, if anything.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Option<mpsc::Receiver<()>>>>);

impl ColdStore {
    pub fn gate(&self) -> Gate {
        self.1.clone()
    }

    /// Opens no partition but the first from now on.
    pub fn refuse_others(&self) {
        self.2.store(true, Ordering::Relaxed);
    }
}

impl Gate {
    /// Holds what the next read has found until something is sent.
    pub fn hold(&self) -> mpsc::Sender<()> {
        let (go, may_go) = mpsc::channel();
        *self.0.lock().unwrap() = Some(may_go);
        go
    }

    /// Whether a read waits.
    pub fn is_reached(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

struct ColdLog(Arc<dyn Log>, Gate);

impl Log for ColdLog {
    fn first_offset(&self) -> Offset {
        self.0.first_offset()
    }
    fn next_offset(&self) -> Offset {
        self.0.next_offset()
    }
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
    fn read_cached(&self, _: Offset, _: usize) -> Option<Page> {
        None
    }
    fn read(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError> {
        let page = self.0.read(from, bytes_max);
        let may_go = self.1.0.lock().unwrap().take();
        if let Some(may_go) = may_go {
            may_go.recv().unwrap();
        }
        page
    }
    fn offset_at(&self, time: Timestamp) -> Result<Offset, StoreError> {
        self.0.offset_at(time)
    }
    fn set_retention(&self, retention: Retention) {
        self.0.set_retention(retention);
    }
}

impl Store for ColdStore {
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError> {
        self.0.topics()
    }
    fn create_topic(&self, topic: StoredTopic) -> Completion<TopicId> {
        self.0.create_topic(topic)
    }
    fn update_topic(&self, topic: StoredTopic) -> Completion<()> {
        self.0.update_topic(topic)
    }
    fn delete_topic(&self, id: TopicId) -> Completion<()> {
        self.0.delete_topic(id)
    }
    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition> {
        let (sender, opened) = oneshot::channel();
        if self.2.load(Ordering::Relaxed) && open.key.partition.0 > 0 {
            return opened;
        }
        let warm = self.0.open(open).try_recv().expect("memory answers at once");
        let cold = warm.map(|opened| OpenedPartition {
            log: Arc::new(ColdLog(opened.log, self.gate())),
            ..opened
        });
        let _ = sender.send(cold);
        opened
    }
    fn facts(&self) -> Result<Vec<Fact>, StoreError> {
        self.0.facts()
    }
    fn keep_facts(&self, changes: Vec<FactChange>) -> Completion<()> {
        self.0.keep_facts(changes)
    }
    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.0.submit(submission)
    }
    fn submit_together(&self, submissions: Vec<Submission>) -> Result<Submitted, StoreError> {
        self.0.submit_together(submissions)
    }
    fn retain(&self, now: Timestamp) {
        self.0.retain(now);
    }
    fn shutdown(&self) -> Completion<()> {
        self.0.shutdown()
    }
}
