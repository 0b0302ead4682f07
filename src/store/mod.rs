//! Where records are kept: the trait that the actors write to, and its engines.
//!
//! Owns bytes on disk and the memory that mirrors their tail. Knows core and protocol, never an actor:
//! completions go out through a [`CommitSink`] that the caller gave. Nothing here is called with an
//! expectation to wait, except [`Log::read`], which belongs on a reader thread.

mod expiry;
mod heap;
pub mod journal;
pub mod memory;
mod tail;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::{Epoch, Offset, PartitionId, Timestamp, TopicName};
use tokio::sync::oneshot;

/// The store's own number of a topic; never reused, so that a deleted topic's entries in the journal
/// can not be taken for those of a later topic of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u64);

/// One partition of one topic, as the store names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicId,
    /// The partition in it.
    pub partition: PartitionId,
}

/// Counts the openings of a partition; what an earlier incarnation submitted is settled before the
/// next one is given an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// What a submitted batch waits for before it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// In this process's memory.
    Memory,
    /// Written to the operating system: survives a crash of the process.
    Os,
    /// Flushed to the device: survives a crash of the machine.
    Fsync,
}

impl From<callboard_core::topic::Durability> for Durability {
    fn from(durability: callboard_core::topic::Durability) -> Self {
        match durability {
            callboard_core::topic::Durability::Memory => Self::Memory,
            callboard_core::topic::Durability::Os => Self::Os,
            callboard_core::topic::Durability::Fsync => Self::Fsync,
        }
    }
}

/// A topic as it is kept: everything that must survive a restart besides its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTopic {
    /// The store's number of it.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its configuration as JSON, which only core interprets.
    pub config: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Whether its records are kept in memory only.
    pub memory_only: bool,
}

/// Something small that must survive a restart and is no record: who keeps it knows what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// Names it; the part before the first `/` says of what kind it is.
    pub key: String,
    /// JSON, which the store does not read.
    pub value: String,
}

/// What is to become of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactChange {
    /// The fact's key.
    pub key: String,
    /// What it says from now on; `None` forgets it.
    pub value: Option<String>,
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The device refused: full, read-only, hurt.
    #[error("{operation}: {reason}")]
    Io {
        /// What was being done, with the path.
        operation: String,
        /// What the operating system said.
        reason: String,
        /// Whether there was no space left.
        no_space: bool,
    },
    /// Another process has the data directory.
    #[error("the data directory {path} is in use by another process; stop it, or give another --data")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The data was written by a version that this one does not read.
    #[error("{path} has format version {found}, and this version reads {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A record that is asked for is hurt on disk.
    #[error("records {from} to {next} of the partition are hurt on disk")]
    Corrupt {
        /// The first hurt offset.
        from: Offset,
        /// The first offset after them.
        next: Offset,
    },
    /// The partition is not open, or its topic was deleted.
    #[error("the partition is closed")]
    Closed,
    /// The store is shutting down.
    #[error("the store is shutting down")]
    ShuttingDown,
}

/// The outcome of something that takes its time, on a thread of the store's. A sender that is dropped
/// without a word means what [`StoreError::ShuttingDown`] means.
pub type Completion<T> = oneshot::Receiver<Result<T, StoreError>>;

/// What the store tells a partition about its submissions.
#[derive(Clone, Debug)]
pub enum CommitEvent {
    /// Every batch of `incarnation` up to `next_offset` now has the durability it was submitted
    /// with, and is readable through the log.
    Committed {
        /// Who submitted.
        incarnation: Incarnation,
        /// The offset after the last committed record.
        next_offset: Offset,
    },
    /// Every batch of `incarnation` from `from_offset` on was refused and is not readable; its
    /// offsets may be given again. Said once: what was submitted before this is heard, with a higher
    /// base offset, is refused without another word, until a batch begins at `from_offset`.
    Failed {
        /// Who submitted.
        incarnation: Incarnation,
        /// The first refused offset.
        from_offset: Offset,
        /// Why.
        error: StoreError,
    },
}

/// Called on the store's writer thread; must not block.
pub type CommitSink = Box<dyn Fn(CommitEvent) + Send + Sync>;

/// Called on the store's writer thread; must not block.
pub type Hook = Arc<dyn Fn() + Send + Sync>;

/// How an engine tells of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// One by one, as they come.
    AtOnce,
    /// One by one, and then calls the hook.
    InGroups,
}

/// A batch on its way to be kept.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Where it belongs.
    pub key: PartitionKey,
    /// Who submits.
    pub incarnation: Incarnation,
    /// The batch; its base offset is the partition's next one.
    pub batch: Arc<Batch>,
    /// What to wait for.
    pub durability: Durability,
}

/// What became of a submission at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is committed and readable; no [`CommitEvent`] follows.
    Committed,
    /// A [`CommitEvent`] will follow.
    Pending,
}

/// No set of [`Store::submit_together`] is larger.
pub const TOGETHER_MAX: usize = 1024;

/// Checks that submissions can be a set, and says why not.
fn check_set(submissions: &[Submission]) -> Result<(), StoreError> {
    let mut keys: Vec<_> = submissions.iter().map(|submission| submission.key).collect();
    keys.sort_unstable();
    let is_distinct = keys.windows(2).all(|pair| pair[0] != pair[1]);
    match submissions.len() {
        count if count > TOGETHER_MAX => Err(no_set(format!("they are {count}, and {TOGETHER_MAX} may be"))),
        _ if !is_distinct => Err(no_set("a partition has two of them".to_owned())),
        _ => Ok(()),
    }
}

fn no_set(reason: String) -> StoreError {
    StoreError::Io {
        operation: "store several batches together".to_owned(),
        reason,
        no_space: false,
    }
}

/// A message id inside the deduplication window, found when a partition was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentId {
    /// The id.
    pub message_id: Bytes,
    /// The record that carries it.
    pub offset: Offset,
    /// When it got its offset.
    pub timestamp: Timestamp,
}

/// A partition that was opened.
pub struct OpenedPartition {
    /// Reads its records.
    pub log: Arc<dyn Log>,
    /// The first offset kept.
    pub first_offset: Offset,
    /// The next offset to give.
    pub next_offset: Offset,
    /// The timestamp of the last record, or 0: the next one is not earlier.
    pub last_timestamp: Timestamp,
    /// Message ids not older than the window that was asked for, oldest first.
    pub recent_ids: Vec<RecentId>,
}

/// How to open a partition.
pub struct OpenPartition {
    /// Which.
    pub key: PartitionKey,
    /// The caller's number for this opening; higher than every one before.
    pub incarnation: Incarnation,
    /// Message ids of records with a timestamp of at least this are returned.
    pub ids_since: Timestamp,
    /// Where commits are told.
    pub commits: CommitSink,
}

/// Why offsets are missing between what was asked and what a page begins with, or inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Removed by retention.
    Retention,
    /// Hurt on disk.
    Corrupt,
    /// Outlived their time to live.
    Expired,
}

/// Consecutive offsets that can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing offset.
    pub from: Offset,
    /// The first offset after it.
    pub next: Offset,
    /// Why.
    pub reason: GapReason,
}

/// Records read from a log, in order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// A gap at the very place that was asked for; the batches begin after it.
    pub gap: Option<Gap>,
    /// Batches with consecutive offsets and no gap between them; the first begins at the asked
    /// offset (or after `gap`).
    pub batches: Vec<Batch>,
    /// Where to read on.
    pub next_offset: Offset,
}

/// How much of a partition to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this may go.
    pub age_ms: Option<u64>,
    /// The oldest records beyond this size may go.
    pub bytes: Option<u64>,
    /// Records before this offset may go, because a later one says all that they said. Nothing is laid
    /// down early for its sake.
    pub before: Option<Offset>,
    /// Records with a message id stay at least so long, although they have expired, so that a repeat is found
    /// out also after a restart. Only expiry minds it.
    pub ids_ms: Option<u64>,
}

/// The committed records of one partition. Shared by all threads.
pub trait Log: Send + Sync {
    /// The first offset kept.
    fn first_offset(&self) -> Offset;
    /// The offset after the last committed record.
    fn next_offset(&self) -> Offset;
    /// Bytes that the kept records take.
    fn bytes(&self) -> u64;
    /// Reads committed records from `from` on, at least one and about `bytes_max`, if they are in
    /// memory; `None` if a disk must be asked. Never blocks. At the end: an empty page. A `from`
    /// before the first offset gives a page with a `Retention` gap.
    fn read_cached(&self, from: Offset, bytes_max: usize) -> Option<Page>;
    /// The same from wherever the records are; may block on a disk.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk can not be read. Hurt records are a gap, not an error.
    fn read(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError>;
    /// The first offset whose timestamp is at least `time` (the end, if none is); may block.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk can not be read.
    fn offset_at(&self, time: Timestamp) -> Result<Offset, StoreError>;
    /// The first offset from `from` on at which there may be a record of `since` or later with a message id; `from`
    /// itself where that can not be told without reading records. May block.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk can not be read.
    fn id_from(&self, from: Offset, since: Timestamp) -> Result<Offset, StoreError> {
        let _ = since;
        Ok(from)
    }
    /// Changes how much is kept; applied in the background (memory logs: with each append as well).
    fn set_retention(&self, retention: Retention);
}

/// An engine.
pub trait Store: Send + Sync {
    /// The topics that are kept, in no order.
    ///
    /// # Errors
    /// When the catalogue can not be read.
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError>;
    /// Keeps a new topic; durable when it completes. The store picks the id (`topic.id` is ignored)
    /// and returns it.
    fn create_topic(&self, topic: StoredTopic) -> Completion<TopicId>;
    /// Keeps a changed configuration or a raised number of partitions.
    fn update_topic(&self, topic: StoredTopic) -> Completion<()>;
    /// Forgets a topic and gives its space back; its partitions are closed.
    fn delete_topic(&self, id: TopicId) -> Completion<()>;
    /// The facts that are kept, by key. May wait for a disk: asked when a broker starts.
    ///
    /// # Errors
    /// When the catalogue can not be read.
    fn facts(&self) -> Result<Vec<Fact>, StoreError>;
    /// Keeps and forgets facts, all of these changes or none; durable when it completes. Forgetting one that
    /// is not there is no error.
    fn keep_facts(&self, changes: Vec<FactChange>) -> Completion<()>;
    /// Opens a partition: settles everything of its former incarnations first.
    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition>;
    /// Has `hook` called whenever everybody was told what one flush committed or refused, if the engine tells
    /// in groups; whoever is told may then wait for the others.
    fn after_telling(&self, hook: Hook) -> Telling {
        drop(hook);
        Telling::AtOnce
    }
    /// Hands a batch over. Never blocks; the caller bounds what it has pending.
    ///
    /// # Errors
    /// [`StoreError::Closed`] and [`StoreError::ShuttingDown`]; anything else comes as
    /// [`CommitEvent::Failed`].
    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError>;
    /// The same for a batch that more follow at once: the engine may leave it until [`Store::begin`] is called, so
    /// that all of them are written and flushed together.
    ///
    /// # Errors
    /// As [`Store::submit`].
    fn gather(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.submit(submission)
    }
    /// Begins with what was gathered.
    fn begin(&self) {}
    /// Hands batches of several partitions over, at most one a partition, all of them on disk or all in memory.
    /// All are kept or none is, also through a crash; each partition hears of its own as after
    /// [`Store::submit`], once all of them have the strongest durability among them. If one can not be taken, each
    /// partition whose batch could be hears [`CommitEvent::Failed`] from its next offset on. Never blocks.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if one of the partitions is, [`StoreError::ShuttingDown`], and
    /// [`StoreError::Io`] for what is no such set. Then nobody hears anything else. In memory every refusal is
    /// an error.
    fn submit_together(&self, submissions: Vec<Submission>) -> Result<Submitted, StoreError>;
    /// Removes what retention allows to go, at `now`; the broker calls it from a background thread.
    fn retain(&self, now: Timestamp);
    /// Flushes everything, closes the files and gives the directory free; may take its time.
    fn shutdown(&self) -> Completion<()>;
}
