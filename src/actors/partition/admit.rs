//! The way of an append into the partition: whether there is room, what core decides, and to the store.

use std::{
    sync::{Arc, MutexGuard},
    time::Instant,
};

use callboard_core::{
    partition::{Admission, AdmitLimits, Outcome, Outcomes},
    topic::WhenFull,
};
use callboard_protocol::{
    ErrorCode, Offset,
    client::Ack,
    error::Refusal,
    server::{DurabilityText, Stored},
};

use super::{Inflight, PartitionActor, Stays, deleted, refusal, room::Waiting};
use crate::{
    actors::{
        append::{Append, Keep, Receipt, Settlement},
        clock,
        directory::Topic,
        hub::Settle,
        notice::NoticeTo,
        waiting::{Held, Until},
    },
    store::{Submission, Submitted},
};

/// A topic whose records are counted, as it is now.
pub(super) struct Counted(Option<Arc<Topic>>);

impl Counted {
    /// Keeps the other partitions from admitting records until this one has counted its own, so that together
    /// they never admit more than fits.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.0.as_ref().map(|topic| topic.lock_room())
    }
}

impl PartitionActor {
    pub(super) fn append(&mut self, append: Append) {
        if self.closed {
            return self.settle(append.receipt, Settlement::Refused(deleted()));
        }
        if self.state.is_none() {
            return self.settle(append.receipt, Settlement::Refused(not_open()));
        }
        let Some(append) = self.hold_back(append) else {
            return;
        };
        match append.keep {
            Keep::Stored => {}
            Keep::Transient => return self.pass_on(append.draft, append.receipt),
            Keep::Scheduled => return self.schedule(append),
        }
        let deadline = super::hold::deadline_of(append.asked);
        if self.waits_when_full() {
            self.wait_for_room(append, deadline);
            self.fill_room();
        } else {
            let counted = self.counted();
            let room = counted.lock();
            self.admit(append, deadline, (&counted, room));
        }
    }

    pub(super) fn waits_when_full(&self) -> bool {
        self.topic.records_max.is_some() && self.topic.when_full == WhenFull::Wait
    }

    /// The topic, if its records are counted.
    pub(super) fn counted(&self) -> Counted {
        let topic = self.topic.records_max.and_then(|_| {
            let topic = self.shared.directory.get(self.part.topic.as_str())?;
            (topic.id == self.part.key.topic).then_some(topic)
        });
        Counted(topic)
    }

    /// Puts an append behind all others that wait for room. What is too much for its session or for the
    /// partition is refused.
    fn wait_for_room(&mut self, mut append: Append, deadline: Option<Instant>) {
        if self.room.is_empty() {
            // What fits at once has not waited, and counts for nobody.
            let counted = self.counted();
            let room = counted.lock();
            let left = self.room_left(&counted);
            let count = append.count();
            if left > 0 {
                let rest = ((count as u64) > left).then(|| append.split_off(left as usize));
                self.admit(append, deadline, (&counted, room));
                match rest {
                    None => return,
                    Some(rest) => append = rest,
                }
            }
        }
        if !self.room.takes(append.draft.records.len()) {
            let refusal = Refusal::new(
                ErrorCode::Overloaded,
                "the topic is full, and as much waits for room as may",
            );
            return self.settle(append.receipt, Settlement::Refused(refusal));
        }
        if !append.receipt.is_held() {
            let may_wait = append.receipt.hold(&append.draft.entries);
            if may_wait < append.count() {
                let refused = append.split_off(may_wait);
                let refusal = Refusal::new(
                    ErrorCode::Overloaded,
                    "the topic is full, and the session has as much waiting as it may",
                );
                self.settle(refused.receipt, Settlement::Refused(refusal));
            }
            if may_wait == 0 {
                return self.settle(append.receipt, Settlement::Each(Vec::new()));
            }
        }
        if let Some((hub, settled)) = append.receipt.release_bytes() {
            hub.do_send(Settle(vec![settled]));
        }
        self.room.push(Waiting { append, deadline });
    }

    /// Admits what waits, as far as there is room.
    pub(super) fn fill_room(&mut self) {
        if self.state.is_none() || self.closed || !self.may_submit() {
            return;
        }
        while !self.room.is_empty() {
            let counted = self.counted();
            let room = counted.lock();
            // Without `when_full: wait`, as the topic may say by now, all of it is judged.
            let left = if self.waits_when_full() {
                self.room_left(&counted)
            } else {
                u64::MAX
            };
            let Some(Waiting { append, deadline }) = self.room.pop(left) else {
                return;
            };
            self.admit(append, deadline, (&counted, room));
        }
    }

    /// Refuses all that waits for room.
    pub(super) fn refuse_room(&mut self, refusal: &Refusal) {
        for append in self.room.take_all() {
            self.settle(append.receipt, Settlement::Refused(refusal.clone()));
        }
    }

    /// Refuses what has waited for room long enough at `now`.
    pub(super) fn give_up_room(&mut self, now: Instant) {
        let refusal = Refusal::new(
            ErrorCode::Timeout,
            "the topic stayed full, and the record is not stored",
        );
        for append in self.room.take_expired(now) {
            self.settle(append.receipt, Settlement::Refused(refusal.clone()));
        }
    }

    /// How many records fit; called while the topic's room is locked.
    pub(super) fn room_left(&self, counted: &Counted) -> u64 {
        match self.topic.records_max {
            None => u64::MAX,
            Some(records_max) => records_max.saturating_sub(self.kept(counted)),
        }
    }

    /// Records that count against `records_max`, those included that are not visible yet.
    fn kept(&self, counted: &Counted) -> u64 {
        if let Some(state) = &self.state {
            self.part.set_given(state.next_offset());
        }
        match &counted.0 {
            Some(topic) => topic.partitions().iter().map(|part| part.kept()).sum(),
            None => self.part.kept(),
        }
    }

    pub(super) fn limits(&self, counted: &Counted) -> AdmitLimits {
        let records_max = self.topic.records_max;
        AdmitLimits {
            dedup_window_ms: self.topic.dedup_window_ms,
            records_max,
            record_bytes_max: self.topic.record_bytes_max,
            kept: records_max.map_or(0, |_| self.kept(counted)),
        }
    }

    /// Gives an append its offsets and hands it to the store.
    fn admit(
        &mut self,
        append: Append,
        deadline: Option<Instant>,
        (counted, room): (&Counted, Option<MutexGuard<'_, ()>>),
    ) {
        let Append {
            draft,
            asked,
            keep: _,
            dues: _,
            receipt,
            notices,
        } = append;
        let limits = self.limits(counted);
        let until = asked.until();
        let sizes: Vec<u32> = match until {
            None => Vec::new(),
            Some(_) => draft.entries.iter().map(|entry| entry.bytes).collect(),
        };
        let state = self.state.as_mut().expect("only an open partition admits");
        let Admission { batch, outcomes } = state.admit(clock::now(), draft, &limits);
        if limits.records_max.is_some() {
            self.part.set_given(state.next_offset());
        }
        drop(room);
        let base = batch.as_ref().map_or(Offset::ZERO, |batch| batch.base_offset);
        self.keep_notices(notices, base, &outcomes);
        let Some(batch) = batch.map(Arc::new) else {
            return self.without_batch(outcomes, receipt);
        };
        let mut inflight = Inflight {
            until: batch.next_offset(),
            base,
            batch: Some(batch),
            outcomes,
            receipt,
            after: None,
        };
        if let Some(until) = until {
            self.let_wait(&mut inflight, (until, deadline), &sizes);
        }
        self.submit(Vec::new(), inflight, asked.ack);
    }

    /// Keeps the notices for records that have an offset, of which the first that is stored has `base`.
    pub(super) fn keep_notices(
        &mut self,
        notices: Vec<(usize, NoticeTo)>,
        base: Offset,
        outcomes: &Outcomes,
    ) {
        for (index, to) in notices {
            let offset = match outcomes {
                Outcomes::AllStored => Some(base.plus(index as u64)),
                Outcomes::Each(outcomes) => match outcomes.get(index) {
                    Some(Outcome::Stored(offset) | Outcome::Duplicate(offset)) => Some(*offset),
                    Some(Outcome::Refused(_)) | None => None,
                },
            };
            if let Some(offset) = offset {
                self.notices.add(offset, to);
            }
        }
    }

    /// Lets the publishers of the records that get stored wait for more than that, each for itself; what is
    /// left of the append is answered as any other. Before the store has the records, and so before anybody
    /// can see one of them.
    pub(super) fn let_wait(
        &mut self,
        inflight: &mut Inflight,
        (until, deadline): (Until, Option<Instant>),
        sizes: &[u32],
    ) {
        let base = inflight
            .batch
            .as_ref()
            .map_or(Offset::ZERO, |batch| batch.base_offset);
        let outcomes = std::mem::replace(&mut inflight.outcomes, Outcomes::Each(Vec::new()));
        let stored_at = |index: usize| match &outcomes {
            Outcomes::AllStored => Some(base.plus(index as u64)),
            Outcomes::Each(outcomes) => match outcomes.get(index) {
                Some(Outcome::Stored(offset)) => Some(*offset),
                _ => None,
            },
        };
        let is_held = inflight.receipt.is_held();
        let tickets = inflight.receipt.tickets(|index| {
            stored_at(index)?;
            let bytes = sizes.get(index).copied().unwrap_or_default() as usize;
            Some(if is_held {
                Held::one(bytes)
            } else {
                Held::default()
            })
        });
        for (index, ticket) in tickets {
            if let Some(offset) = stored_at(index) {
                self.waits.insert(offset, until, deadline, ticket);
            }
        }
        if let Outcomes::Each(outcomes) = outcomes {
            let left = outcomes
                .into_iter()
                .filter(|outcome| !matches!(outcome, Outcome::Stored(_)));
            inflight.outcomes = Outcomes::Each(left.collect());
        }
    }

    /// Hands a batch to the store; `before` are others whose records are in it, before those of `inflight`.
    pub(super) fn submit(&mut self, mut before: Vec<Inflight>, mut inflight: Inflight, ack: Ack) {
        let Some(batch) = inflight.batch.clone() else {
            return;
        };
        let submitted = self.shared.submit(Submission {
            key: self.part.key,
            incarnation: self.incarnation,
            batch: batch.clone(),
            durability: self.topic.durability.into(),
        });
        match submitted {
            Ok(Submitted::Committed) => {
                let until = inflight.until;
                self.inflight.extend(before);
                self.inflight.push_back(inflight);
                self.commit(until);
            }
            Ok(Submitted::Pending) => {
                if ack == Ack::Accepted {
                    let answered = before.iter_mut().chain([&mut inflight]);
                    answered.for_each(answer_early);
                }
                self.inflight.extend(before);
                self.inflight.push_back(inflight);
            }
            Err(error) => {
                let refusal = refusal(&error);
                let state = self.state.as_mut().expect("it admitted");
                state.fail(batch.base_offset);
                if self.topic.records_max.is_some() {
                    self.part.set_given(state.next_offset());
                }
                self.end_waits(batch.base_offset.., &refusal, Stays::No);
                // Who published them is told that they are not stored.
                drop(self.notices.fail(batch.base_offset.., &refusal));
                for refused in before.into_iter().chain([inflight]) {
                    self.settle(refused.receipt, Settlement::Refused(refusal.clone()));
                }
            }
        }
    }

    /// Nothing to store: refusals are answered now, repeats when what they repeat is durable.
    pub(super) fn without_batch(&mut self, outcomes: Outcomes, receipt: Receipt) {
        debug_assert_ne!(outcomes, Outcomes::AllStored, "only a batch is stored");
        let visible = self.visible();
        let until = match &outcomes {
            Outcomes::AllStored => visible,
            Outcomes::Each(outcomes) => outcomes
                .iter()
                .filter_map(|outcome| match outcome {
                    Outcome::Duplicate(offset) => Some(offset.plus(1)),
                    Outcome::Stored(_) | Outcome::Refused(_) => None,
                })
                .max()
                .unwrap_or(visible),
        };
        self.inflight.push_back(Inflight {
            until,
            base: Offset::ZERO,
            batch: None,
            outcomes,
            receipt,
            after: None,
        });
        self.commit(visible);
    }
}

/// The offsets are known, and what is true of them by now is memory. Where not all are stored the answer waits.
fn answer_early(inflight: &mut Inflight) {
    if inflight.outcomes != Outcomes::AllStored {
        return;
    }
    let settlement = Settlement::AllStored {
        base: inflight.base,
        durability: "memory",
    };
    if let Some((hub, settled)) = inflight.receipt.answer_early(settlement) {
        hub.do_send(Settle(vec![settled]));
    }
}

/// What a publisher is told while the store has not opened the partition.
pub(super) fn not_open() -> Refusal {
    Refusal::new(ErrorCode::StorageFailed, "the partition could not be opened yet")
}

/// What the records of an admitted draft are answered with.
pub(super) fn settlement(inflight: &Inflight, durability: DurabilityText) -> Settlement {
    match &inflight.outcomes {
        Outcomes::AllStored => Settlement::AllStored {
            base: inflight.base,
            durability,
        },
        Outcomes::Each(outcomes) => Settlement::Each(
            outcomes
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Stored(offset) => Ok(Stored {
                        offset: *offset,
                        duplicate: false,
                        durability,
                    }),
                    Outcome::Duplicate(offset) => Ok(Stored {
                        offset: *offset,
                        duplicate: true,
                        durability,
                    }),
                    Outcome::Refused(refusal) => Err(refusal.clone()),
                })
                .collect(),
        ),
    }
}
