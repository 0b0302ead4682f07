//! Publishers that wait until their record was delivered or processed.
//!
//! Owns one wait a record, from before the record can be seen until it is answered, and the partition's
//! counters of them. Told what happened by hubs and groups ([`Sent`], [`Processed`]) and of the time by the
//! partition. Never holds a record: what is waited for is stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use actix::Message;
use bytes::Bytes;
use callboard_protocol::{
    ErrorCode, Offset,
    error::Refusal,
    server::{DurabilityText, Stored},
};

use crate::actors::{
    append::{Answers, Ticket},
    directory::PartitionRef,
    waiting::Until,
};

/// Some subscription was sent these records; sent only while `part.waits.delivered()` is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Sent {
    /// The first one.
    pub from: Offset,
    /// The offset after the last one.
    pub next: Offset,
}

/// A shared group finished these; sent only while `part.waits.processed()` is not 0.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Processed(pub Vec<(Offset, ProcessedOutcome)>);

/// How a shared group finished a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessedOutcome {
    /// A member acked it, perhaps with a result: JSON on one line.
    Acked(Option<Bytes>),
    /// It went to the dead letters, and why.
    DeadLettered(String),
}

/// See the module.
pub struct WaitList {
    part: Arc<PartitionRef>,
    waits: BTreeMap<Offset, Wait>,
    deadlines: BTreeSet<(Instant, Offset)>,
    /// Counted before it is known whether their records are stored.
    expected: Vec<(Until, u64)>,
}

struct Wait {
    until: Until,
    ticket: Ticket,
    deadline: Option<Instant>,
}

impl WaitList {
    /// Nobody waits.
    pub fn new(part: Arc<PartitionRef>) -> Self {
        Self {
            part,
            waits: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            expected: Vec::new(),
        }
    }

    /// Counts publishers who will wait if their records are stored; until [`Self::unexpect`].
    pub fn expect(&mut self, until: Until, count: u64) {
        self.part.waits.counter(until).fetch_add(count, Ordering::AcqRel);
        self.expected.push((until, count));
    }

    /// They wait by now, or will not.
    pub fn unexpect(&mut self, until: Until, count: u64) {
        if let Some(index) = self.expected.iter().position(|known| *known == (until, count)) {
            self.expected.swap_remove(index);
            self.part.waits.counter(until).fetch_sub(count, Ordering::AcqRel);
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Lets the publisher of the record at `offset` wait; called before anybody can see the record.
    pub fn insert(&mut self, offset: Offset, until: Until, deadline: Option<Instant>, ticket: Ticket) {
        self.part.waits.counter(until).fetch_add(1, Ordering::AcqRel);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, offset));
        }
        let wait = Wait {
            until,
            ticket,
            deadline,
        };
        let former = self.waits.insert(offset, wait);
        debug_assert!(former.is_none(), "an offset is given once");
    }

    fn remove(&mut self, offset: Offset) -> Option<Wait> {
        let wait = self.waits.remove(&offset)?;
        self.part.waits.counter(wait.until).fetch_sub(1, Ordering::AcqRel);
        if let Some(deadline) = wait.deadline {
            self.deadlines.remove(&(deadline, offset));
        }
        Some(wait)
    }

    /// Answers who waited for these records to be delivered.
    pub fn sent(&mut self, sent: Sent, durability: DurabilityText, answers: &mut Answers) {
        if sent.from >= sent.next {
            return;
        }
        let range = self.waits.range(sent.from..sent.next);
        let delivered: Vec<_> = range
            .filter(|(_, wait)| wait.until == Until::Delivered)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in delivered {
            if let Some(wait) = self.remove(offset) {
                answers.add(wait.ticket, Ok((stored(offset, durability), None)));
            }
        }
    }

    /// Answers who waited for these records to be processed.
    pub fn processed(&mut self, processed: Processed, durability: DurabilityText, answers: &mut Answers) {
        for (offset, outcome) in processed.0 {
            if self
                .waits
                .get(&offset)
                .is_none_or(|wait| wait.until != Until::Processed)
            {
                continue;
            }
            let Some(wait) = self.remove(offset) else { continue };
            answers.add(
                wait.ticket,
                match outcome {
                    ProcessedOutcome::Acked(result) => Ok((stored(offset, durability), result)),
                    ProcessedOutcome::DeadLettered(reason) => {
                        Err(Refusal::new(ErrorCode::DeadLettered, reason).with_place(self.part.id, offset))
                    }
                },
            );
        }
    }

    /// Answers who has waited long enough at `now` for a record before `visible`. Of those beyond it nobody can
    /// say yet that they are stored.
    pub fn expire(&mut self, now: Instant, visible: Offset, answers: &mut Answers) {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let due: Vec<_> = due
            .map(|(_, offset)| *offset)
            .filter(|offset| *offset < visible)
            .collect();
        for offset in due {
            let Some(wait) = self.remove(offset) else { continue };
            let message = match wait.until {
                Until::Delivered => "the record is stored, and no subscription was sent it in time",
                Until::Processed => "the record is stored, and no group has processed it in time",
            };
            let refusal = Refusal::new(ErrorCode::Timeout, message).with_place(self.part.id, offset);
            answers.add(wait.ticket, Err(refusal));
        }
    }

    /// When the next publisher has waited long enough for a record before `visible`.
    pub fn next_timeout(&self, visible: Offset) -> Option<Instant> {
        let stored = self.deadlines.iter().find(|(_, offset)| *offset < visible);
        stored.map(|(deadline, _)| *deadline)
    }

    /// Forgets those who do not want to know any more.
    pub fn forget_gone(&mut self) {
        let gone = self.waits.iter().filter(|(_, wait)| wait.ticket.is_gone());
        let gone: Vec<_> = gone.map(|(offset, _)| *offset).collect();
        for offset in gone {
            self.remove(offset);
        }
    }

    /// Refuses who waits for one of these records; with the place if they stay.
    pub fn refuse(
        &mut self,
        offsets: impl RangeBounds<Offset>,
        refusal: &Refusal,
        stays: Stays,
        answers: &mut Answers,
    ) {
        let offsets: Vec<_> = self.waits.range(offsets).map(|(offset, _)| *offset).collect();
        for offset in offsets {
            if let Some(wait) = self.remove(offset) {
                let refusal = match stays {
                    Stays::No => refusal.clone(),
                    Stays::Yes => refusal.clone().with_place(self.part.id, offset),
                };
                answers.add(wait.ticket, Err(refusal));
            }
        }
    }
}

/// Whether a record stays although its publisher is refused what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It is gone, or was never stored.
    No,
    /// It is stored.
    Yes,
}

impl Drop for WaitList {
    /// After a panic as well: the next actor counts for itself.
    fn drop(&mut self) {
        for wait in self.waits.values() {
            self.part.waits.counter(wait.until).fetch_sub(1, Ordering::AcqRel);
        }
        for (until, count) in self.expected.drain(..) {
            self.part.waits.counter(until).fetch_sub(count, Ordering::AcqRel);
        }
    }
}

fn stored(offset: Offset, durability: DurabilityText) -> Stored {
    Stored {
        offset,
        duplicate: false,
        durability,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
