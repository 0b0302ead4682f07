//! Small appends that came together are stored together.
//!
//! What one read of a publisher's socket brings is cut into a draft for each partition, and a flush covers the reads of
//! several publishers: without this a partition of many would store many small batches, each with its memory, its entry
//! in the journal and its place in the log, and give each to every subscriber with a write of its own. A turn ends when
//! the mailbox is empty or enough was collected, so nothing waits that was not going to wait for those before it.

use std::sync::Arc;

use actix::prelude::*;
use callboard_core::{
    partition::{Admission, Draft, Outcome, Outcomes},
    record::RecordParts,
};
use callboard_protocol::Offset;

use super::{Inflight, PartitionActor};
use crate::actors::append::{Append, Asked, Keep};

/// An append of more bytes is stored as it is.
const SMALL_BYTES: usize = 16 << 10;
/// No more bytes are put together: who reads a few records at a time must not pass over many …
const TOGETHER_BYTES_MAX: usize = 64 << 10;
/// … and no more appends.
const TOGETHER_MAX: usize = 64;

/// What came in this turn and has no offsets yet: all of it asked for the same.
#[derive(Default)]
pub(super) struct Collected {
    appends: Vec<Append>,
    bytes: usize,
    /// Of the records that came first.
    expires: bool,
    /// [`EndTurn`] is on its way.
    ends: bool,
}

/// The mailbox is empty.
#[derive(Message)]
#[rtype(result = "()")]
struct EndTurn;

impl Handler<EndTurn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EndTurn, ctx: &mut Self::Context) {
        self.collected.ends = false;
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
        let expires = expires(&append);
        if !self.collected.takes((append.asked, expires), bytes) {
            self.admit_collected();
        }
        if !std::mem::replace(&mut self.collected.ends, true) {
            ctx.notify(EndTurn);
        }
        self.collected.expires = expires;
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
        let mut appends = std::mem::take(&mut self.collected.appends);
        let bytes = std::mem::take(&mut self.collected.bytes);
        if appends.len() > 1 && self.admits_at_once() {
            self.admit_together(&mut appends, bytes);
        }
        for append in appends.drain(..) {
            self.append(append);
        }
        self.collected.appends = appends;
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
        let first = batch.as_ref().map_or(Offset::ZERO, |batch| batch.base_offset);
        let mut parts = Parts::of(outcomes, first);
        let mut inflight = Vec::with_capacity(receipts.len());
        for (count, receipt) in receipts {
            let (base, outcomes) = parts.next(count);
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
        }
        if let Some(mut last) = inflight.pop() {
            last.batch = batch;
            self.submit(inflight, last, asked.ack);
        }
    }
}

impl Collected {
    /// Whether so many more bytes that asked for the same, and expire or do not, may come in as well.
    fn takes(&self, (asked, expires): (Asked, bool), bytes: usize) -> bool {
        match self.appends.first() {
            None => true,
            Some(first) => {
                first.asked == asked
                    && self.expires == expires
                    && self.bytes + bytes <= TOGETHER_BYTES_MAX
                    && self.appends.len() < TOGETHER_MAX
            }
        }
    }
}

/// Whether its records have a time to live, as far as the first one says it: a batch gives its memory and its disk back
/// when all of it has expired.
fn expires(append: &Append) -> bool {
    RecordParts::decode(&append.draft.records).is_ok_and(|(first, _)| first.ttl_ms.is_some())
}

/// The outcomes of several appends, one after another.
enum Parts {
    /// The next one's first offset.
    AllStored(Offset),
    Each(std::vec::IntoIter<Outcome>),
}

impl Parts {
    fn of(outcomes: Outcomes, first: Offset) -> Self {
        match outcomes {
            Outcomes::AllStored => Self::AllStored(first),
            Outcomes::Each(outcomes) => Self::Each(outcomes.into_iter()),
        }
    }

    /// Those of the next append, of so many records, and its first record's offset if all are stored. What became of
    /// the others does not show in them.
    fn next(&mut self, count: usize) -> (Offset, Outcomes) {
        match self {
            Self::AllStored(first) => {
                let base = *first;
                *first = base.plus(count as u64);
                (base, Outcomes::AllStored)
            }
            Self::Each(outcomes) => {
                let own: Vec<Outcome> = outcomes.by_ref().take(count).collect();
                let is_stored = |outcome: &Outcome| matches!(outcome, Outcome::Stored(_));
                match own.first() {
                    // One after another, because what is stored of a batch is.
                    Some(Outcome::Stored(base)) if own.iter().all(is_stored) => (*base, Outcomes::AllStored),
                    _ => (Offset::ZERO, Outcomes::Each(own)),
                }
            }
        }
    }
}
