//! Notices that wait until a record reaches the level that its publisher wants to hear of.
//!
//! Owns them by offset, and counts them among what the partition's records are waited for, so that hubs and
//! groups say what they deliver and finish.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use callboard_protocol::{ErrorCode, Offset, client::Ack, error::Refusal};

use super::waits::{Processed, ProcessedOutcome, Sent};
use crate::actors::{
    directory::PartitionRef,
    notice::{NoticeTo, Outcome},
    waiting::Until,
};

/// A notice that has waited so long fails: its record expired, or nobody will come.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
pub struct Notices {
    part: Arc<PartitionRef>,
    waiting: BTreeMap<Offset, Vec<Waiting>>,
    /// Where some wait only for the record to be stored, so that a commit need not look at all others.
    unstored: BTreeSet<Offset>,
}

struct Waiting {
    to: NoticeTo,
    deadline: Option<Instant>,
}

/// Notices that are due, and what they say.
pub type Due = Vec<(NoticeTo, Outcome)>;

/// What a notice makes hubs and groups say.
pub(super) fn until(on: Ack) -> Option<Until> {
    match on {
        Ack::Delivered => Some(Until::Delivered),
        Ack::Processed => Some(Until::Processed),
        Ack::None | Ack::Accepted | Ack::Durable => None,
    }
}

impl Notices {
    /// None waits.
    pub fn new(part: Arc<PartitionRef>) -> Self {
        Self {
            part,
            waiting: BTreeMap::new(),
            unstored: BTreeSet::new(),
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a notice for the record at `offset`; called before anybody can see the record.
    pub fn add(&mut self, offset: Offset, to: NoticeTo) {
        if let Some(until) = until(to.on) {
            self.part.waits.counter(until).fetch_add(1, Ordering::AcqRel);
        } else {
            self.unstored.insert(offset);
        }
        let deadline = Instant::now().checked_add(WAIT_MAX);
        self.waiting
            .entry(offset)
            .or_default()
            .push(Waiting { to, deadline });
    }

    /// Takes those of these offsets that `is_due` picks.
    fn take(
        &mut self,
        offsets: impl RangeBounds<Offset>,
        is_due: impl Fn(&Waiting) -> bool,
    ) -> Vec<(Offset, NoticeTo)> {
        let mut taken = Vec::new();
        let mut emptied = Vec::new();
        for (offset, waiting) in self.waiting.range_mut(offsets) {
            let due = waiting.extract_if(.., |known| is_due(known));
            taken.extend(due.map(|known| (*offset, known.to)));
            if waiting.is_empty() {
                emptied.push(*offset);
            }
        }
        for offset in emptied {
            self.waiting.remove(&offset);
        }
        for (_, to) in &taken {
            if let Some(until) = until(to.on) {
                self.part.waits.counter(until).fetch_sub(1, Ordering::AcqRel);
            }
        }
        taken
    }

    fn reached(taken: Vec<(Offset, NoticeTo)>) -> Due {
        let outcome = |(offset, to)| (to, Outcome::Reached(offset, None));
        taken.into_iter().map(outcome).collect()
    }

    /// Everything before `visible` is stored.
    pub fn committed(&mut self, visible: Offset) -> Due {
        let later = self.unstored.split_off(&visible);
        let stored = std::mem::replace(&mut self.unstored, later);
        let due = |offset| self.take(offset..=offset, |known| until(known.to.on).is_none());
        Self::reached(stored.into_iter().flat_map(due).collect())
    }

    /// A subscription was sent these.
    pub fn sent(&mut self, sent: Sent) -> Due {
        if sent.from >= sent.next {
            return Vec::new();
        }
        Self::reached(self.take(sent.from..sent.next, |known| known.to.on == Ack::Delivered))
    }

    /// A shared group finished these.
    pub fn processed(&mut self, processed: &Processed) -> Due {
        let mut due = Vec::new();
        for (offset, outcome) in &processed.0 {
            for (offset, to) in self.take(*offset..=*offset, |known| known.to.on == Ack::Processed) {
                let outcome = match outcome {
                    ProcessedOutcome::Acked(result) => Outcome::Reached(offset, result.clone()),
                    ProcessedOutcome::DeadLettered(reason) => {
                        let refusal = Refusal::new(ErrorCode::DeadLettered, reason.as_str());
                        Outcome::Failed(refusal.with_place(self.part.id, offset))
                    }
                };
                due.push((to, outcome));
            }
        }
        due
    }

    /// What is waited for of these does not happen any more.
    pub fn fail(&mut self, offsets: impl RangeBounds<Offset>, refusal: &Refusal) -> Due {
        let taken = self.take(offsets, |_| true);
        let outcome = |(_, to)| (to, Outcome::Failed(refusal.clone()));
        taken.into_iter().map(outcome).collect()
    }

    /// Takes those who have waited too long at `now`, and forgets those who do not want to know.
    pub fn look(&mut self, now: Instant) -> Due {
        drop(self.take(.., |known| known.to.is_gone()));
        let is_over = |known: &Waiting| known.deadline.is_some_and(|deadline| deadline <= now);
        let refusal = Refusal::new(ErrorCode::Timeout, "the record did not come so far within a day");
        let over = self.take(.., is_over);
        let outcome = |(offset, to)| {
            let refusal = refusal.clone().with_place(self.part.id, offset);
            (to, Outcome::Failed(refusal))
        };
        over.into_iter().map(outcome).collect()
    }
}

impl Drop for Notices {
    /// After a panic as well: the next actor counts for itself.
    fn drop(&mut self) {
        drop(self.take(.., |_| true));
    }
}
