//! A store that refuses what it is told to refuse, at once or after it has taken it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
};

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
    sinks: Mutex<HashMap<PartitionKey, Sink>>,
    held: Mutex<Vec<Submission>>,
    /// Partitions whose opening waits, while it does.
    opens: Mutex<Option<Vec<HeldOpen>>>,
    /// Facts that are not kept yet, while they wait.
    facts: Mutex<Option<VecDeque<HeldFacts>>>,
}

type HeldFacts = (Vec<FactChange>, oneshot::Sender<Result<(), StoreError>>);

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

    /// Keeps no facts until [`FailingStore::settle_facts`].
    pub fn hold_facts(&self) {
        *self.facts.lock().unwrap() = Some(VecDeque::new());
    }

    /// How many transactions of facts wait.
    pub fn held_facts(&self) -> usize {
        self.facts.lock().unwrap().as_ref().map_or(0, VecDeque::len)
    }

    /// Keeps the oldest transaction that waits, or refuses it; how many facts that were.
    pub fn settle_facts(&self, mode: Mode) -> usize {
        let held = self.facts.lock().unwrap().as_mut().and_then(VecDeque::pop_front);
        let (changes, sender) = held.expect("a transaction waits");
        let count = changes.len();
        let kept = match mode {
            Mode::Refuse => Err(broken()),
            Mode::Store | Mode::Hold => self
                .memory
                .keep_facts(changes)
                .try_recv()
                .expect("memory answers at once"),
        };
        let _ = sender.send(kept);
        count
    }

    /// What happens in the broker is told whatever becomes of the rest, so that a test meets only its own.
    fn is_events(&self, key: PartitionKey) -> bool {
        let topics = self.memory.topics().unwrap();
        let topic = topics.iter().find(|topic| topic.id == key.topic);
        topic.is_some_and(|topic| topic.name.as_str() == "$events")
    }

    /// Stores all that was held.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        for submission in held {
            let sink = self.sinks.lock().unwrap()[&submission.key].clone();
            let (incarnation, next_offset) = (submission.incarnation, submission.batch.next_offset());
            self.memory.submit(submission).unwrap();
            sink(CommitEvent::Committed {
                incarnation,
                next_offset,
            });
        }
    }

    /// Refuses all that was held.
    pub fn fail(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let mut told = HashSet::new();
        for submission in held {
            // What came behind it in the same partition is refused with it.
            if told.insert(submission.key) {
                let sink = self.sinks.lock().unwrap()[&submission.key].clone();
                sink(CommitEvent::Failed {
                    incarnation: submission.incarnation,
                    from_offset: submission.batch.base_offset,
                    error: broken(),
                });
            }
        }
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
        let sink: Sink = Arc::new(move |event| (commits.lock().unwrap())(event));
        self.sinks.lock().unwrap().insert(key, sink);
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
        if let Some(held) = &mut *self.facts.lock().unwrap() {
            let (sender, kept) = oneshot::channel();
            held.push_back((changes, sender));
            return kept;
        }
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
            _ if self.is_events(submission.key) => self.memory.submit(submission),
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
