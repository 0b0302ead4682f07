//! The group's own log: what happened in it, as entries in a partition that no client sees.
//!
//! Entries ride in the same group commit as records. Answers wait here until the entries that they depend
//! on have the durability of the topic's records. A snapshot now and then lets the log be cut.

use std::{collections::VecDeque, sync::Arc};

use actix::Addr;
use bytes::Bytes;
use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, PartitionId, Timestamp, error::Refusal};

use super::{
    GroupActor,
    mailbox::Urgency,
    receipt::{GroupReceipt, GroupReply},
};
use crate::{
    actors::{Shared, clock, directory::PartitionRef, partition, told::Telling},
    store::{
        Durability, Incarnation, Log, OpenPartition, OpenedPartition, PartitionKey, Retention, StoreError,
        Submission, Submitted, TopicId,
    },
};

/// About how much of a log is read at once.
const PAGE_BYTES: usize = 1 << 20;
/// A snapshot is written when the log has grown by this much since the last one, and by four times its size.
const SNAPSHOT_AFTER_BYTES: usize = 1 << 20;

/// See the module.
pub struct History {
    shared: Arc<Shared>,
    key: PartitionKey,
    incarnation: Incarnation,
    log: Option<Arc<dyn Log>>,
    next: Offset,
    waiting: VecDeque<Waiting>,
    bytes_since_snapshot: usize,
    snapshot_bytes: usize,
    /// The newest snapshot, until it is committed.
    snapshot_at: Option<Offset>,
}

/// What waits until the log is committed up to an offset.
struct Waiting {
    until: Offset,
    answers: Vec<Answer>,
}

/// What is said when what it depends on is committed.
pub enum Answer {
    /// To a member.
    Member(
        GroupReceipt,
        Vec<GroupReply>,
        std::collections::BTreeMap<PartitionId, Offset>,
    ),
    /// To the publishers who wait for these records to be processed.
    Publisher(Arc<PartitionRef>, Vec<(Offset, partition::ProcessedOutcome)>),
    /// To a caller that is no member.
    Caller(tokio::sync::oneshot::Sender<Result<(), Refusal>>),
}

impl Answer {
    /// How soon what it depends on must be kept.
    pub fn urgency(&self) -> Urgency {
        match self {
            Self::Member(_, replies, _)
                if replies
                    .iter()
                    .all(|reply| reply.id.is_none() && reply.outcome.is_ok()) =>
            {
                Urgency::Soon
            }
            Self::Member(..) | Self::Publisher(..) | Self::Caller(_) => Urgency::Now,
        }
    }
}

impl History {
    /// The history of the group that the store keeps under `topic`.
    pub fn new(shared: Arc<Shared>, topic: TopicId) -> Self {
        let incarnation = shared.next_incarnation();
        let partition = PartitionId(0);
        Self {
            shared,
            key: PartitionKey { topic, partition },
            incarnation,
            log: None,
            next: Offset::ZERO,
            waiting: VecDeque::new(),
            bytes_since_snapshot: 0,
            snapshot_bytes: 0,
            snapshot_at: None,
        }
    }

    /// Opens the log and reads what is in it: the bodies of its records, oldest first. Runs on the store's
    /// and the reader threads.
    pub fn open(
        &mut self,
        addr: Addr<GroupActor>,
    ) -> impl Future<Output = Result<(OpenedPartition, Vec<Batch>), StoreError>> + use<> {
        self.incarnation = self.shared.next_incarnation();
        let addr = Arc::new(addr);
        // At most one event a flush, and flushes wait for this group's own submissions.
        let commits = self
            .shared
            .commit_sink(self.key, move |event| Telling::Group(addr.clone(), event));
        let opened = self.shared.store.open(OpenPartition {
            key: self.key,
            incarnation: self.incarnation,
            ids_since: Timestamp(u64::MAX),
            commits,
        });
        let shared = self.shared.clone();
        async move {
            let opened = opened.await.unwrap_or(Err(StoreError::ShuttingDown))?;
            let log = opened.log.clone();
            let read = shared.readers.run(move || read_all(&*log)).await;
            let batches = read.unwrap_or(Err(StoreError::ShuttingDown))?;
            Ok((opened, batches))
        }
    }

    /// Goes on after the last entry that is kept.
    pub fn opened(&mut self, opened: OpenedPartition) {
        self.next = opened.next_offset;
        self.log = Some(opened.log);
    }

    /// Adds entries, and has `answers` wait for them. Returns those that need not wait.
    ///
    /// # Errors
    /// What the store says when it takes nothing.
    pub fn write(
        &mut self,
        entries: &[u8],
        kept: (Durability, Urgency),
        answers: Vec<Answer>,
    ) -> Result<Vec<Answer>, (StoreError, Vec<Answer>)> {
        if entries.is_empty() {
            return Ok(match self.waiting.back_mut() {
                // What they say may rest on what was written before.
                Some(last) => {
                    last.answers.extend(answers);
                    Vec::new()
                }
                None => answers,
            });
        }
        self.bytes_since_snapshot += entries.len();
        match self.submit(entries, kept) {
            Ok(Submitted::Committed) => Ok(answers),
            Ok(Submitted::Pending) => {
                let until = self.next;
                self.waiting.push_back(Waiting { until, answers });
                Ok(Vec::new())
            }
            Err(error) => Err((error, answers)),
        }
    }

    fn submit(
        &mut self,
        entries: &[u8],
        (durability, urgency): (Durability, Urgency),
    ) -> Result<Submitted, StoreError> {
        let parts = RecordParts {
            binary: true,
            payload: entries,
            ..RecordParts::default()
        };
        let mut records = Vec::with_capacity(entries.len() + 16);
        parts.encode(&mut records);
        let batch = Batch {
            base_offset: self.next,
            timestamp: clock::now(),
            count: 1,
            records: Bytes::from(records),
        };
        self.next = self.next.plus(1);
        let submission = Submission {
            key: self.key,
            incarnation: self.incarnation,
            batch: Arc::new(batch),
            durability,
        };
        match urgency {
            Urgency::Now => self.shared.submit(submission),
            Urgency::Soon => self.shared.store.gather(submission),
        }
    }

    /// Whether the log has grown so much that a snapshot is worth its bytes.
    pub fn wants_snapshot(&self) -> bool {
        self.snapshot_at.is_none()
            && self.bytes_since_snapshot > SNAPSHOT_AFTER_BYTES.max(4 * self.snapshot_bytes)
    }

    /// Adds a snapshot: what comes before it may go once it is committed.
    ///
    /// # Errors
    /// What the store says when it takes nothing.
    pub fn write_snapshot(&mut self, snapshot: &[u8], durability: Durability) -> Result<(), StoreError> {
        let at = self.next;
        self.bytes_since_snapshot = 0;
        self.snapshot_bytes = snapshot.len();
        self.snapshot_at = Some(at);
        match self.submit(snapshot, (durability, Urgency::Now))? {
            Submitted::Committed => self.cut(self.next),
            Submitted::Pending => {
                let until = self.next;
                let answers = Vec::new();
                self.waiting.push_back(Waiting { until, answers });
            }
        }
        Ok(())
    }

    /// Everything before `next` is committed; returns what may be said now.
    pub fn committed(&mut self, incarnation: Incarnation, next: Offset) -> Vec<Answer> {
        let mut answers = Vec::new();
        if incarnation != self.incarnation {
            return answers;
        }
        while self.waiting.front().is_some_and(|front| front.until <= next) {
            answers.extend(
                self.waiting
                    .pop_front()
                    .into_iter()
                    .flat_map(|front| front.answers),
            );
        }
        self.cut(next);
        answers
    }

    /// Whether anything that was written is not committed yet.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether `incarnation` is the present one.
    pub fn is_of(&self, incarnation: Incarnation) -> bool {
        incarnation == self.incarnation
    }

    /// Everything that waits, because it will not be committed.
    pub fn refused(&mut self) -> Vec<Answer> {
        self.waiting
            .drain(..)
            .flat_map(|waiting| waiting.answers)
            .collect()
    }

    fn cut(&mut self, committed: Offset) {
        if let Some(at) = self.snapshot_at.take_if(|at| *at < committed)
            && let Some(log) = &self.log
        {
            log.set_retention(Retention {
                before: Some(at),
                ..Retention::default()
            });
        }
    }
}

fn read_all(log: &dyn Log) -> Result<Vec<Batch>, StoreError> {
    let mut all = Vec::new();
    let (mut at, end) = (log.first_offset(), log.next_offset());
    while at < end {
        let page = log.read(at, PAGE_BYTES)?;
        if let Some(gap) = page.gap {
            // What was hurt is as if it had not happened: records come again that were finished.
            log::error!("entries {} to {} of a group's log are hurt", gap.from, gap.next);
        }
        all.extend(page.batches);
        if page.next_offset <= at {
            break;
        }
        at = page.next_offset;
    }
    Ok(all)
}
