//! Small appends that came together are stored together.
//!
//! What one read of a publisher's socket brings is cut into a draft for each partition, and a flush covers the reads of
//! several publishers: without this a partition of many would store many small batches, each with its memory, its entry
//! in the journal and its place in the log, and give each to every subscriber with a write of its own. Nothing waits for it: a turn ends when the mailbox is empty.

use std::sync::Arc;

use actix::prelude::*;
use callboard_core::partition::{Admission, Draft, Outcome, Outcomes};
use callboard_protocol::Offset;

use super::{Inflight, PartitionActor};
use crate::actors::append::{Append, Asked, Keep};

/// An append of more bytes is stored as it is.
const SMALL_BYTES: usize = 16 << 10;
/// No more is put together.
const TOGETHER_BYTES_MAX: usize = 256 << 10;
/// A partition keeps memory for so many appends from turn to turn.
const KEPT_MAX: usize = 16;

/// What came in this turn and has no offsets yet: all of it asked for the same.
#[derive(Default)]
pub(super) struct Collected {
    appends: Vec<Append>,
    bytes: usize,
}

/// The mailbox is empty.
#[derive(Message)]
#[rtype(result = "()")]
struct EndTurn;

impl Handler<EndTurn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EndTurn, ctx: &mut Self::Context) {
        self.admit_collected();
        self.settled_down(ctx);
    }
}

impl PartitionActor {
    /// Takes an append in, now or at the end of the turn.
    pub(super) fn take_in(&mut self, append: Append, ctx: &mut Context<Self>) {
        if !self.may_collect(&append) {
            self.admit_collected();
            return self.append(append);
        }
        let bytes = append.draft.records.len();
        let fits = |asked: Asked, with: usize| asked == append.asked && with + bytes <= TOGETHER_BYTES_MAX;
        match self.collected.appends.first() {
            Some(first) if fits(first.asked, self.collected.bytes) => {}
            Some(_) => {
                // The end of the turn is on its way.
                self.admit_collected();
            }
            None => ctx.notify(EndTurn),
        }
        self.collected.bytes += bytes;
        self.collected.appends.push(append);
    }

    fn may_collect(&self, append: &Append) -> bool {
        append.keep == Keep::Stored
            && append.asked.until().is_none()
            && append.notices.is_empty()
            && append.draft.records.len() <= SMALL_BYTES
            && self.admits_at_once()
    }

    /// Whether what is appended gets its offsets now and waits for nothing.
    fn admits_at_once(&self) -> bool {
        !self.closed && self.state.is_some() && self.may_submit() && !self.waits_when_full()
    }

    /// Gives what was collected its offsets, before anything that came behind it.
    pub(super) fn admit_collected(&mut self) {
        let Collected { mut appends, bytes } = std::mem::take(&mut self.collected);
        if appends.len() > 1 && self.admits_at_once() {
            self.admit_together(&mut appends, bytes);
        }
        for append in appends.drain(..) {
            self.append(append);
        }
        if appends.capacity() <= KEPT_MAX {
            self.collected.appends = appends;
        }
    }

    fn admit_together(&mut self, appends: &mut Vec<Append>, bytes: usize) {
        let Some(asked) = appends.first().map(|append| append.asked) else {
            return;
        };
        let mut draft = Draft {
            records: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(appends.iter().map(Append::count).sum()),
        };
        let mut receipts = Vec::with_capacity(appends.len());
        for append in appends.drain(..) {
            receipts.push((append.count(), append.receipt));
            draft.records.extend_from_slice(&append.draft.records);
            draft.entries.extend(append.draft.entries);
        }
        let Admission { batch, outcomes } = self.admit_draft(draft);
        let batch = batch.map(Arc::new);
        let mut outcomes = Parts::of(outcomes);
        let mut base = batch.as_ref().map_or(Offset::ZERO, |batch| batch.base_offset);
        let mut inflight = Vec::with_capacity(receipts.len());
        for (count, receipt) in receipts {
            let outcomes = outcomes.next(count);
            let Some(batch) = &batch else {
                self.without_batch(outcomes, receipt);
                continue;
            };
            inflight.push(Inflight {
                until: batch.next_offset(),
                base,
                batch: None,
                outcomes,
                receipt,
                after: None,
            });
            base = base.plus(count as u64);
        }
        if let Some(mut last) = inflight.pop() {
            last.batch = batch;
            self.submit(inflight, last, asked.ack);
        }
    }
}

/// The outcomes of several appends, one after another.
enum Parts {
    AllStored,
    Each(std::vec::IntoIter<Outcome>),
}

impl Parts {
    fn of(outcomes: Outcomes) -> Self {
        match outcomes {
            Outcomes::AllStored => Self::AllStored,
            Outcomes::Each(outcomes) => Self::Each(outcomes.into_iter()),
        }
    }

    /// Those of the next append, of so many records.
    fn next(&mut self, count: usize) -> Outcomes {
        match self {
            Self::AllStored => Outcomes::AllStored,
            Self::Each(outcomes) => Outcomes::Each(outcomes.by_ref().take(count).collect()),
        }
    }
}
