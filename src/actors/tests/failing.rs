//! A store that refuses what it is told to refuse, at once or after it has taken it.

use std::sync::{Arc, Mutex};

use callboard_protocol::Timestamp;
use tokio::sync::oneshot;

use crate::store::{
    CommitEvent, Completion, Fact, FactChange, OpenPartition, OpenedPartition, PartitionKey, Store,
    StoreError, StoredTopic, Submission, Submitted, TopicId, memory::MemoryStore,
};

/// What becomes of a submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Store,
    Refuse,
    /// It is taken, and nothing more is heard of it until [`FailingStore::fail`].
    Hold,
}

type Sink = Arc<dyn Fn(CommitEvent) + Send + Sync>;

#[derive(Default)]
pub struct FailingStore {
    memory: MemoryStore,
    mode: Mutex<Mode>,
    sink: Mutex<Option<Sink>>,
    held: Mutex<Vec<Submission>>,
    /// Partitions whose opening waits, while it does.
    opens: Mutex<Option<Vec<HeldOpen>>>,
}

type HeldOpen = (
    OpenPartition,
    oneshot::Sender<Result<OpenedPartition, StoreError>>,
);

fn broken() -> StoreError {
    StoreError::Io {
        operation: "write".to_owned(),
        reason: "no space".to_owned(),
        no_space: true,
    }
}

impl FailingStore {
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// How many submissions are held.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Opens nothing until [`FailingStore::open_held`].
    pub fn hold_opens(&self) {
        *self.opens.lock().unwrap() = Some(Vec::new());
    }

    /// How many openings wait.
    pub fn held_opens(&self) -> usize {
        self.opens.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// Opens what waits, and whatever comes.
    pub fn open_held(&self) {
        let opens = self.opens.lock().unwrap().take();
        for (open, sender) in opens.into_iter().flatten() {
            let opened = self.open(open).try_recv().expect("memory answers at once");
            let _ = sender.send(opened);
        }
    }

    /// Refuses all that was held.
    pub fn fail(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let sink = self.sink.lock().unwrap().clone().unwrap();
        sink(CommitEvent::Failed {
            incarnation: held[0].incarnation,
            from_offset: held[0].batch.base_offset,
            error: broken(),
        });
    }
}

impl Store for FailingStore {
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError> {
        self.memory.topics()
    }
    fn create_topic(&self, topic: StoredTopic) -> Completion<TopicId> {
        self.memory.create_topic(topic)
    }
    fn update_topic(&self, topic: StoredTopic) -> Completion<()> {
        self.memory.update_topic(topic)
    }
    fn delete_topic(&self, id: TopicId) -> Completion<()> {
        self.memory.delete_topic(id)
    }
    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition> {
        if let Some(opens) = &mut *self.opens.lock().unwrap() {
            let (sender, opened) = oneshot::channel();
            opens.push((open, sender));
            return opened;
        }
        let OpenPartition {
            key,
            incarnation,
            ids_since,
            commits,
        } = open;
        let commits = Arc::new(Mutex::new(commits));
        *self.sink.lock().unwrap() = Some(Arc::new(move |event| (commits.lock().unwrap())(event)));
        self.memory.open(OpenPartition {
            key: PartitionKey { ..key },
            incarnation,
            ids_since,
            commits: Box::new(|_| {}),
        })
    }
    fn facts(&self) -> Result<Vec<Fact>, StoreError> {
        self.memory.facts()
    }
    fn keep_facts(&self, changes: Vec<FactChange>) -> Completion<()> {
        self.memory.keep_facts(changes)
    }
    fn submit_together(&self, submissions: Vec<Submission>) -> Result<Submitted, StoreError> {
        match *self.mode.lock().unwrap() {
            Mode::Store => self.memory.submit_together(submissions),
            Mode::Refuse => Err(broken()),
            Mode::Hold => {
                self.held.lock().unwrap().extend(submissions);
                Ok(Submitted::Pending)
            }
        }
    }
    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        match *self.mode.lock().unwrap() {
            Mode::Store => self.memory.submit(submission),
            Mode::Refuse => Err(broken()),
            Mode::Hold => {
                self.held.lock().unwrap().push(submission);
                Ok(Submitted::Pending)
            }
        }
    }
    fn retain(&self, now: Timestamp) {
        self.memory.retain(now);
    }
    fn shutdown(&self) -> Completion<()> {
        self.memory.shutdown()
    }
}
