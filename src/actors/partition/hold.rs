//! The partition's part in a publish that reaches several ([`Together`]): it reserves offsets, lets everything
//! that comes later wait, and goes on when it is told what became of it.
//!
//! What waits is bounded by what its publishers may have in flight.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use callboard_core::partition::{Admission, Draft, Outcome, Outcomes};
use callboard_protocol::{ErrorCode, Offset, error::Refusal};

use super::{Inflight, PartitionActor, Stays, admit::not_open, deleted, mailbox::StoreEvent};
use crate::{
    actors::{
        append::{Append, Asked, Receipt, Settlement, lost},
        clock,
        directory::PartitionRef,
        together::{
            After, Fate, Freed, Kept, NotSubmitted, Refusals, Released, Reserved, Resolved, Stop, Submits,
            Together, TogetherId, Visit,
        },
        waiting::Until,
    },
    store::{CommitEvent, Incarnation, StoreError, Submission, Submitted},
};

/// A partition that waits for what becomes of a publish.
pub struct Hold {
    id: TogetherId,
    /// What it gave of its offsets, and as whom.
    reserved: Option<(Incarnation, Offset)>,
    /// Publishers of these records that are going to wait, counted already.
    expected: Vec<(Until, u64)>,
    queue: VecDeque<Held>,
}

/// What came while the partition waits.
enum Held {
    Append(Box<Append>),
    Visit(Box<Together>),
}

impl Handler<Visit> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Visit(together): Visit, ctx: &mut Self::Context) {
        self.admit_collected();
        self.visit(together);
        self.settled_down(ctx);
    }
}

impl Handler<Resolved> for PartitionActor {
    type Result = ();

    fn handle(&mut self, resolved: Resolved, ctx: &mut Self::Context) {
        self.resolved(resolved);
        self.settled_down(ctx);
    }
}

impl Handler<NotSubmitted> for PartitionActor {
    type Result = ();

    fn handle(&mut self, refused: NotSubmitted, ctx: &mut Self::Context) {
        self.not_submitted(&refused);
        self.settled_down(ctx);
    }
}

impl Handler<Released> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Released { id, fate }: Released, ctx: &mut Self::Context) {
        if self.hold.as_ref().is_some_and(|hold| hold.id == id) {
            if fate == Fate::TakenBack {
                self.take_back();
            }
            self.go_on();
        }
        self.settled_down(ctx);
    }
}

impl PartitionActor {
    /// Whether what is admitted now may be handed to the store.
    pub(super) fn may_submit(&self) -> bool {
        self.hold.is_none()
    }

    /// Lets an append wait while the partition does; gives it back if it does not.
    pub(super) fn hold_back(&mut self, append: Append) -> Option<Append> {
        match &mut self.hold {
            Some(hold) => {
                hold.queue.push_back(Held::Append(Box::new(append)));
                None
            }
            None => Some(append),
        }
    }

    fn visit(&mut self, mut together: Box<Together>) {
        match &mut self.hold {
            Some(hold) if hold.id == together.id => self.take_back(),
            Some(hold) => return hold.queue.push_back(Held::Visit(together)),
            None => {
                // Who waits for room came before.
                self.fill_room();
                self.hold = Some(Hold {
                    id: together.id,
                    reserved: None,
                    expected: Vec::new(),
                    queue: VecDeque::new(),
                });
            }
        }
        self.reserve(&mut together);
        together.at += 1;
        if together.is_refused() {
            self.call_off(*together);
        } else if together.at < together.stops.len() {
            together.forward();
        } else if together.refused_count() > together.refused_before {
            // Some have reserved for a record that another one refused.
            together.refused_before = together.refused_count();
            together.at = 0;
            together.forward();
        } else {
            self.conclude(*together);
        }
    }

    /// Gives offsets to the records that nobody has refused.
    fn reserve(&mut self, together: &mut Together) {
        let refused = &mut together.refused;
        let Some(stop) = together.stops.get_mut(together.at) else {
            return;
        };
        stop.reserved = None;
        let why_not = if self.closed {
            Some(deleted())
        } else if self.state.is_none() {
            Some(not_open())
        } else if !self.room.is_empty() {
            // It would pass those, some of which may be its own publisher's, and can not wait with them.
            Some(named(&others_wait(), &self.part.topic))
        } else {
            None
        };
        if let Some(refusal) = why_not {
            for record in &stop.records {
                refused[*record].get_or_insert_with(|| refusal.clone());
            }
            return;
        }
        let draft = stop.left(refused);
        if draft.entries.is_empty() {
            return;
        }
        let (base, count) = (self.next_offset(), draft.entries.len() as u64);
        let Admission { batch, outcomes } = self.admit_draft(draft);
        let outcomes = with_refused(outcomes, base, &stop.records, refused);
        if let Outcomes::Each(outcomes) = &outcomes {
            for (outcome, record) in outcomes.iter().zip(&stop.records) {
                if let Outcome::Refused(refusal) = outcome {
                    refused[*record].get_or_insert_with(|| named(refusal, &self.part.topic));
                }
            }
        }
        let mut expected: Vec<(Until, u64)> = stop
            .notices
            .iter()
            .filter_map(|(_, to)| Some((super::notices::until(to.on)?, 1)))
            .collect();
        expected.extend(together.asked.until().map(|until| (until, count)));
        for (until, count) in &expected {
            self.waits.expect(*until, *count);
        }
        if let Some(hold) = &mut self.hold {
            hold.reserved = Some((self.incarnation, base));
            hold.expected = expected;
        }
        stop.reserved = Some(Reserved {
            incarnation: self.incarnation,
            base,
            batch: batch.map(Arc::new),
            outcomes,
            durability: self.topic.durability.into(),
        });
    }

    pub(super) fn admit_draft(&mut self, draft: Draft) -> Admission {
        let counted = self.counted();
        let room = counted.lock();
        let limits = self.limits(&counted);
        let state = self.state.as_mut().expect("only an open partition reserves");
        let admission = state.admit(clock::now(), draft, &limits);
        if limits.records_max.is_some() {
            self.part.set_given(state.next_offset());
        }
        drop(room);
        admission
    }

    /// Takes back what was reserved; nothing came after it.
    fn take_back(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        for (until, count) in hold.expected.drain(..) {
            self.waits.unexpect(until, count);
        }
        let Some((incarnation, base)) = hold.reserved.take() else {
            return;
        };
        // Opened anew since then, it has given none of them.
        if let Some(state) = self.state.as_mut().filter(|_| incarnation == self.incarnation) {
            state.fail(base);
            if self.topic.records_max.is_some() {
                self.part.set_given(state.next_offset());
            }
        }
    }

    /// Serves what waited, until it waits again.
    pub(super) fn go_on(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        for (until, count) in hold.expected {
            self.waits.unexpect(until, count);
        }
        let mut queue = hold.queue;
        while let Some(next) = queue.pop_front() {
            match next {
                Held::Append(append) => self.append(*append),
                Held::Visit(together) => self.visit(together),
            }
            if let Some(hold) = &mut self.hold {
                // What came meanwhile is what was served just now, if anything.
                queue.append(&mut hold.queue);
                hold.queue = queue;
                return;
            }
        }
        self.fill_room();
    }

    /// Nobody stores anything of it.
    fn call_off(&mut self, together: Together) {
        let (id, _, stops, refused) = together.into_parts();
        for stop in stops {
            if stop.part.key != self.part.key {
                stop.tell(Released {
                    id,
                    fate: Fate::TakenBack,
                });
            }
            refuse(stop.receipt, &stop.records, &refused);
        }
        self.take_back();
        self.go_on();
    }

    /// All of its partitions have reserved: hands what is to be stored to the store.
    fn conclude(&mut self, together: Together) {
        let (id, asked, stops, refused) = together.into_parts();
        let mut refusing: Vec<Arc<PartitionRef>> = Vec::new();
        let (mut at_once, mut later) = (Vec::new(), Vec::new());
        for stop in stops {
            match (&stop.reserved, stop.kept) {
                (None, _) => {
                    refusing.push(stop.part);
                    refuse(stop.receipt, &stop.records, &refused);
                }
                (Some(_), Kept::OnDisk) => at_once.push(stop),
                (Some(_), Kept::InMemory) => later.push(stop),
            }
        }
        let to_disk = at_once.iter().filter(|stop| has_batch(stop)).count();
        if to_disk == 0 {
            // Nothing of it waits for a disk.
            at_once.append(&mut later);
        }
        let after = (!later.is_empty()).then(|| After::new(id, asked, to_disk, later));
        let visited: Vec<_> = at_once
            .iter()
            .map(|stop| stop.part.clone())
            .chain(refusing)
            .collect();
        let goes_on = visited.iter().any(|part| part.key == self.part.key);
        let freed = Freed::new(id, visited);
        let mut reserved = Vec::new();
        for stop in at_once {
            let part = stop.part.clone();
            reserved.extend(stop.reserved.clone().map(|own| (part.clone(), own)));
            let resolved = Resolved {
                id,
                stop,
                asked,
                submits: Submits::Last,
                after: after.clone(),
            };
            if part.key == self.part.key {
                self.resolved(resolved);
            } else if let Some(addr) = part.addr() {
                addr.do_send(resolved);
            }
        }
        // What the store says of it comes to the partitions after they were told that it is theirs.
        self.submit_all(id, &reserved);
        freed.submitted();
        if goes_on {
            self.go_on();
        }
    }

    fn submit_all(&mut self, id: TogetherId, reserved: &[(Arc<PartitionRef>, Reserved)]) {
        let mut submissions: Vec<Submission> = reserved
            .iter()
            .filter_map(|(part, own)| {
                Some(Submission {
                    key: part.key,
                    incarnation: own.incarnation,
                    batch: own.batch.clone()?,
                    durability: own.durability,
                })
            })
            .collect();
        let submitted = match submissions.len() {
            0 => return,
            1 => submissions
                .pop()
                .map_or(Ok(Submitted::Pending), |only| self.shared.store.submit(only)),
            _ => self.shared.store.submit_together(submissions),
        };
        let refusal = match submitted {
            Ok(Submitted::Pending) => return,
            Ok(Submitted::Committed) => None,
            Err(error) => Some(not_taken(&error)),
        };
        for (part, own) in reserved {
            let (Some(addr), Some(batch)) = (part.addr(), &own.batch) else {
                continue;
            };
            let Some(refusal) = &refusal else {
                addr.do_send(StoreEvent(CommitEvent::Committed {
                    incarnation: own.incarnation,
                    next_offset: batch.next_offset(),
                }));
                continue;
            };
            let refused = NotSubmitted {
                id,
                incarnation: own.incarnation,
                base: own.base,
                refusal: refusal.clone(),
            };
            if part.key == self.part.key {
                // At once, because it goes on before it sees to its mailbox.
                self.not_submitted(&refused);
            } else {
                addr.do_send(refused);
            }
        }
    }

    /// Takes back what the store did not take, and nothing that was submitted before.
    fn not_submitted(&mut self, refused: &NotSubmitted) {
        let NotSubmitted {
            id,
            incarnation,
            base,
            refusal,
        } = refused;
        let is_held = self.hold.as_ref().is_some_and(|hold| hold.id == *id);
        let Some(state) = self
            .state
            .as_mut()
            .filter(|_| is_held && *incarnation == self.incarnation)
        else {
            return;
        };
        state.fail(*base);
        if self.topic.records_max.is_some() {
            self.part.set_given(state.next_offset());
        }
        let is_of_it = |inflight: &Inflight| {
            let batch = inflight.batch.as_ref();
            batch.is_some_and(|batch| batch.base_offset == *base)
        };
        let index = self.inflight.iter().rposition(is_of_it);
        if let Some(inflight) = index.and_then(|index| self.inflight.remove(index)) {
            self.settle(inflight.receipt, Settlement::Refused(refusal.clone()));
        }
        self.end_waits(*base.., refusal, Stays::No);
        // Who published them is told that they are not stored.
        drop(self.notices.fail(*base.., refusal));
    }

    /// What was reserved is going to be kept.
    fn resolved(&mut self, resolved: Resolved) {
        let Resolved {
            id,
            stop,
            asked,
            submits,
            after,
        } = resolved;
        let Stop {
            reserved,
            receipt,
            notices,
            ..
        } = stop;
        let is_held = self.hold.as_ref().is_some_and(|hold| hold.id == id);
        let own = reserved.filter(|own| own.incarnation == self.incarnation && self.state.is_some());
        let (Some(own), true) = (own, is_held) else {
            let refusal = match (self.closed, is_held) {
                (true, _) => deleted(),
                // Opened anew since then: the store refuses what the former incarnation gave.
                (false, true) => not_open(),
                // Another actor gave the offsets, and it is not known whether the store has them.
                (false, false) => lost(),
            };
            self.settle(receipt, Settlement::Refused(refusal));
            if is_held && submits == Submits::Own {
                self.go_on();
            }
            return;
        };
        if let Some(hold) = &mut self.hold {
            hold.reserved = None;
        }
        self.keep_notices(notices, own.base, &own.outcomes);
        let Some(batch) = own.batch else {
            self.without_batch(own.outcomes, receipt);
            if submits == Submits::Own {
                self.go_on();
            }
            return;
        };
        let mut inflight = Inflight {
            until: batch.next_offset(),
            base: own.base,
            outcomes: own.outcomes,
            receipt,
            after,
            batch: Some(batch),
        };
        if let Some(until) = asked.until() {
            let deadline = deadline_of(asked);
            let sizes = sizes(&inflight);
            self.let_wait(&mut inflight, (until, deadline), &sizes);
        }
        match submits {
            Submits::Last => self.inflight.push_back(inflight),
            Submits::Own => {
                self.submit(Vec::new(), inflight, callboard_protocol::client::Ack::Durable);
                self.go_on();
            }
        }
    }
}

fn has_batch(stop: &Stop) -> bool {
    stop.reserved.as_ref().is_some_and(|own| own.batch.is_some())
}

/// When a publisher gives up; one that is too far away to be said is none.
pub(super) fn deadline_of(asked: Asked) -> Option<Instant> {
    let timeout_ms = asked.timeout_ms?;
    Instant::now().checked_add(Duration::from_millis(timeout_ms))
}

/// What the publishers are told when the store takes nothing of it. One of the topics may be gone, and then the
/// others are there all the same.
fn not_taken(error: &StoreError) -> Refusal {
    match error {
        StoreError::Closed => Refusal::new(
            ErrorCode::StorageFailed,
            "one of the topics that the record was routed to was closed, so none stored it",
        ),
        other => super::refusal(other),
    }
}

fn others_wait() -> Refusal {
    Refusal::new(ErrorCode::TopicFull, "others wait for room in the topic")
}

/// Encoded bytes of each record of a stop, those that are not stored as 0.
fn sizes(inflight: &Inflight) -> Vec<u32> {
    let stored = inflight.batch.iter().flat_map(|batch| {
        let mut rest = &batch.records[..];
        std::iter::from_fn(move || {
            let size = callboard_core::record::encoded_len(rest).ok()?;
            rest = &rest[size..];
            Some(size as u32)
        })
    });
    match &inflight.outcomes {
        Outcomes::AllStored => stored.collect(),
        Outcomes::Each(outcomes) => {
            let mut stored = stored;
            let size = |outcome: &Outcome| match outcome {
                Outcome::Stored(_) => stored.next().unwrap_or_default(),
                Outcome::Duplicate(_) | Outcome::Refused(_) => 0,
            };
            outcomes.iter().map(size).collect()
        }
    }
}

/// Puts the records that were refused before, by anybody, among the outcomes of the others, of which the first
/// has the offset `base` if all are stored.
fn with_refused(outcomes: Outcomes, base: Offset, records: &[usize], refused: &Refusals) -> Outcomes {
    if records.iter().all(|record| refused[*record].is_none()) {
        return outcomes;
    }
    let (mut each, mut stored) = (Vec::with_capacity(records.len()), 0);
    let mut left = match outcomes {
        Outcomes::AllStored => None,
        Outcomes::Each(outcomes) => Some(outcomes.into_iter()),
    };
    for record in records {
        each.extend(match (&refused[*record], &mut left) {
            (Some(refusal), _) => Some(Outcome::Refused(refusal.clone())),
            (None, Some(left)) => left.next(),
            (None, None) => {
                stored += 1;
                Some(Outcome::Stored(base.plus(stored - 1)))
            }
        });
    }
    Outcomes::Each(each)
}

/// Answers all records of a partition with why they are refused.
fn refuse(receipt: Receipt, records: &[usize], refused: &Refusals) {
    let each = records.iter().map(|record| {
        let lost = || Refusal::new(ErrorCode::Internal, "the record was refused");
        Err(refused[*record].clone().unwrap_or_else(lost))
    });
    receipt.answer_now(Settlement::Each(each.collect()));
}

/// The refusal with the topic that it is of, because the publisher named another thing.
fn named(refusal: &Refusal, topic: &callboard_protocol::TopicName) -> Refusal {
    Refusal {
        message: format!("{topic}: {}", refusal.message),
        ..refusal.clone()
    }
}
