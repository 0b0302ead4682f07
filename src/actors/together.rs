//! A publish that reaches several partitions: all of them store it, or none does.
//!
//! It visits its partitions in the one order that all such publishes keep to, so that no two ever wait for each
//! other. Each reserves offsets and lets what comes later wait; the last one hands all to the store as one
//! ([`Store::submit_together`](crate::store::Store::submit_together)). What one of them refuses none stores: then
//! the others take back what they reserved. Records of one publish stand alone, so that a refused one does not
//! touch its neighbours: the rest goes round again without it.
//!
//! Made by [`Intake`](super::intake::Intake), moved and decided by the partitions (`partition::hold`). Dropped in a
//! panic, it frees who waits for it, and its receipts answer.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use actix::Message;
use callboard_core::{
    partition::{Draft, Outcomes},
    record::Batch,
};
use callboard_protocol::{ErrorCode, Offset, error::Refusal};
use tokio::sync::oneshot;

use super::{
    append::{Asked, Receipt},
    directory::PartitionRef,
    notice::NoticeTo,
};
use crate::store::{Durability, Incarnation};

/// Names a publish while it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TogetherId(u64);

impl TogetherId {
    fn next() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

/// Why each record of a publish is refused, if it is.
pub type Refusals = Vec<Option<Refusal>>;

/// See the module.
pub struct Together {
    /// Its number.
    pub id: TogetherId,
    /// When its publisher wants to hear of it.
    pub asked: Asked,
    /// The partitions, in the order in which they are visited.
    pub stops: Vec<Stop>,
    /// The next one to visit.
    pub at: usize,
    /// By record.
    pub refused: Refusals,
    /// How many were refused when this round began.
    pub refused_before: usize,
    /// Dropped when the store has it, or nobody: the publisher's session goes on.
    decided: Option<oneshot::Sender<()>>,
}

/// One partition of a publish.
pub struct Stop {
    /// The partition.
    pub part: Arc<PartitionRef>,
    /// Whether its records are kept on disk.
    pub kept: Kept,
    /// The records for it; taken when nothing can send it round again.
    pub draft: Draft,
    /// Which record of the publish each of them is, ascending.
    pub records: Vec<usize>,
    /// Who is told what became of them.
    pub receipt: Receipt,
    /// Who else is told when they come so far, by the stop's records.
    pub notices: Vec<(usize, NoticeTo)>,
    /// What the partition reserved in this round.
    pub reserved: Option<Reserved>,
}

/// Where a partition's records are kept; those in memory are asked last, because what is in memory can be
/// shown only when the disk has the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// On disk.
    OnDisk,
    /// In memory.
    InMemory,
}

/// Offsets that a partition gave and has not submitted.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// Who gave them.
    pub incarnation: Incarnation,
    /// The first one.
    pub base: Offset,
    /// The records; none if all are repeats.
    pub batch: Option<Arc<Batch>>,
    /// One for each record of the stop, unless all are stored.
    pub outcomes: Outcomes,
    /// What the topic promises.
    pub durability: Durability,
}

impl Together {
    /// A publish of `count` records; what is returned resolves when it is decided whether they are stored.
    pub fn new(asked: Asked, mut stops: Vec<Stop>, count: usize) -> (Box<Self>, oneshot::Receiver<()>) {
        stops.sort_by_key(|stop| (stop.kept, stop.part.key));
        let (decided, receiver) = oneshot::channel();
        let together = Self {
            id: TogetherId::next(),
            asked,
            stops,
            at: 0,
            refused: vec![None; count],
            refused_before: 0,
            decided: Some(decided),
        };
        (Box::new(together), receiver)
    }

    /// Whether no record is left that could be stored.
    pub fn is_refused(&self) -> bool {
        self.refused.iter().all(Option::is_some)
    }

    /// How many records are refused.
    pub fn refused_count(&self) -> usize {
        self.refused.iter().flatten().count()
    }

    /// Sends it to the partition that it visits next. Past the mailbox's bound: it was counted when it was
    /// published, and others wait for it.
    pub fn forward(self: Box<Self>) {
        // Without an actor it is dropped, which frees the partitions that wait and answers.
        if let Some(addr) = self.stops.get(self.at).and_then(|stop| stop.part.addr()) {
            addr.do_send(Visit(self));
        }
    }

    /// Takes it apart: nobody is freed by its end any more.
    pub fn into_parts(mut self) -> (TogetherId, Asked, Vec<Stop>, Refusals) {
        self.decided = None;
        let stops = std::mem::take(&mut self.stops);
        (self.id, self.asked, stops, std::mem::take(&mut self.refused))
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        for stop in &self.stops {
            stop.tell(Released {
                id: self.id,
                fate: Fate::TakenBack,
            });
        }
    }
}

impl Stop {
    /// Says something to its partition, if that has an actor.
    pub fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        super::partition::PartitionActor: actix::Handler<M>,
    {
        if let Some(addr) = self.part.addr() {
            addr.do_send(message);
        }
    }

    /// The records that are not refused, and how many of them there are. Copied only while another round may
    /// come.
    pub fn left(&mut self, refused: &[Option<Refusal>]) -> Draft {
        if refused.len() == 1 {
            return std::mem::take(&mut self.draft);
        }
        let mut left = Draft::default();
        let mut start = 0;
        for (entry, record) in self.draft.entries.iter().zip(&self.records) {
            let end = start + entry.bytes as usize;
            if refused[*record].is_none() {
                left.records.extend_from_slice(&self.draft.records[start..end]);
                left.entries.push(entry.clone());
            }
            start = end;
        }
        left
    }
}

/// A publish comes by.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Visit(pub Box<Together>);

/// What a partition reserved is going to be kept: it is answered as any other when it is committed. The
/// partition goes on waiting until it is [`Released`], or submits its records itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Resolved {
    /// Which publish.
    pub id: TogetherId,
    /// The partition's part of it.
    pub stop: Stop,
    /// When its publisher wants to hear of it.
    pub asked: Asked,
    /// Who submits.
    pub submits: Submits,
    /// Who is told that the part on disk is committed.
    pub after: Option<Arc<After>>,
}

/// Who hands a partition's part to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submits {
    /// The partition that was visited last, for all.
    Last,
    /// The partition itself: the others have theirs.
    Own,
}

/// The store took nothing of the publish. Comes between [`Resolved`] and [`Released`], so that nothing was given
/// an offset behind what is taken back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NotSubmitted {
    /// For which publish.
    pub id: TogetherId,
    /// Who gave the offsets.
    pub incarnation: Incarnation,
    /// The first of them.
    pub base: Offset,
    /// What the publishers are told.
    pub refusal: Refusal,
}

/// A partition that was visited need not wait any longer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Released {
    /// For which publish.
    pub id: TogetherId,
    /// What became of it.
    pub fate: Fate,
}

/// What became of what a partition reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The store has it.
    Submitted,
    /// Nobody stores it.
    TakenBack,
}

/// Partitions that wait for a publish of which it is decided what becomes of it. Dropped before that is done, in a
/// panic, they take back what they reserved.
pub struct Freed {
    id: TogetherId,
    fate: Fate,
    parts: Vec<Arc<PartitionRef>>,
}

impl Freed {
    /// These wait.
    pub fn new(id: TogetherId, parts: Vec<Arc<PartitionRef>>) -> Self {
        let fate = Fate::TakenBack;
        Self { id, fate, parts }
    }

    /// The store was asked, and what it says comes to each of them.
    pub fn submitted(mut self) {
        self.fate = Fate::Submitted;
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        let Self { id, fate, parts } = self;
        for part in parts {
            if let Some(addr) = part.addr() {
                addr.do_send(Released { id: *id, fate: *fate });
            }
        }
    }
}

/// The part of a publish in memory, which comes when the part on disk is committed. Dropped before that,
/// because the disk refused, it is refused as well.
pub struct After {
    id: TogetherId,
    asked: Asked,
    /// Partitions on disk that have not committed theirs.
    left: AtomicUsize,
    stops: Mutex<Vec<Stop>>,
}

impl After {
    /// Waits for so many partitions.
    pub fn new(id: TogetherId, asked: Asked, left: usize, stops: Vec<Stop>) -> Arc<Self> {
        Arc::new(Self {
            id,
            asked,
            left: AtomicUsize::new(left),
            stops: Mutex::new(stops),
        })
    }

    fn take(&self) -> Vec<Stop> {
        std::mem::take(&mut *self.stops.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of the partitions on disk has committed its part; the last one lets those in memory go on.
    pub fn committed(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            resolve_own(self.id, self.asked, self.take());
        }
    }
}

/// Lets partitions submit their own part.
pub fn resolve_own(id: TogetherId, asked: Asked, stops: Vec<Stop>) {
    for stop in stops {
        if let Some(addr) = stop.part.addr() {
            addr.do_send(Resolved {
                id,
                stop,
                asked,
                submits: Submits::Own,
                after: None,
            });
        }
    }
}

impl Drop for After {
    fn drop(&mut self) {
        for stop in self.take() {
            stop.tell(Released {
                id: self.id,
                fate: Fate::TakenBack,
            });
            let refusal = Refusal::new(
                ErrorCode::StorageFailed,
                "another topic that the record was routed to could not store it, so none did",
            );
            stop.receipt.refuse(refusal);
        }
    }
}
