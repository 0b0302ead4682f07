//! What is due goes into the partition. Looked at after each message that the partition handles, and by one timer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use callboard_core::{
    partition::{Admission, AdmitLimits, Draft, DraftEntry, Outcome, Outcomes},
    record::{Batch, RecordParts},
    schedule::{Waiting, log::Entry},
};
use callboard_protocol::{Offset, Timestamp};

use super::{Later, Open, ScheduleLog, Then};
use crate::{
    actors::{
        append::Receipt,
        clock,
        partition::{Inflight, PartitionActor, REOPEN_DELAY, refusal},
    },
    store::{Submission, Submitted},
};

/// Due records are admitted in batches of about this size …
const BATCH_BYTES: usize = 512 << 10;
/// … and of at most so many.
const BATCH_RECORDS_MAX: usize = 4096;
/// So many batches are admitted before the partition sees to other messages.
const BATCHES_MAX: usize = 4;
/// How much of what is due may be on its way to the store; the rest comes when that is committed.
const OUT_BYTES_MAX: usize = 8 << 20;
/// How soon it is tried again to admit what could not be: retention that makes room tells nobody.
const RETRY: Duration = Duration::from_millis(100);
/// The longest sleep: a clock that is set tells nobody.
const SLEEP_MAX_MS: u64 = 10_000;

/// Records that are due and loaded.
#[derive(Default)]
struct Due {
    waiting: Vec<Waiting>,
    /// Of each, whether it is stored; the others are passed on (`ttl_ms` 0).
    stored: Vec<bool>,
    draft: Draft,
    transient: Draft,
    /// There is no room for more of it.
    is_cut: bool,
}

impl Due {
    fn push(&mut self, waiting: Waiting, record: &[u8]) {
        let parts = RecordParts::decode(record).map_or_else(|_| RecordParts::default(), |(parts, _)| parts);
        let is_stored = parts.ttl_ms != Some(0);
        let draft = if is_stored {
            &mut self.draft
        } else {
            &mut self.transient
        };
        draft.records.extend_from_slice(record);
        draft.entries.push(DraftEntry {
            bytes: record.len() as u32,
            message_id: parts.message_id.map(|id| id.as_bytes().into()),
        });
        self.waiting.push(waiting);
        self.stored.push(is_stored);
    }

    fn bytes(&self) -> usize {
        self.draft.records.len() + self.transient.records.len()
    }
}

impl Later {
    /// The store is left alone for a while.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.pause_until = Some(Instant::now() + pause);
        self.touched = true;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pause_until.is_some_and(|until| Instant::now() < until)
    }
}

impl PartitionActor {
    /// Sees to what is due, if there is anything to see to.
    pub(in crate::actors::partition) fn look_at_schedules(&mut self, ctx: &mut Context<Self>) {
        if self.closed || self.state.is_none() {
            return;
        }
        if !self.later.early.is_empty() {
            return self.open_for_early(ctx);
        }
        if self.shared.is_shutting_down() {
            return;
        }
        if let Some(why) = self.later.broken.take_if(|_| self.later.pause_until.is_none()) {
            return self.reopen_schedules(why, ctx);
        }
        if self.later.broken.is_some() {
            return self.wake_later(ctx);
        }
        let Some(log) = &self.later.log else { return };
        let is_due = || log.index.next_due().is_some_and(|due| due <= clock::now());
        if self.later.touched || is_due() {
            self.later.touched = false;
            self.deliver_due();
            self.load_ahead(ctx);
            self.move_entries(ctx);
            self.wake_later(ctx);
        }
    }

    /// Admits what is due, as far as it is loaded and there is room.
    fn deliver_due(&mut self) {
        for _ in 0..BATCHES_MAX {
            if !self.may_submit() || self.later.is_paused() || self.later.broken.is_some() {
                return;
            }
            let may_go = |log: &ScheduleLog| log.out_bytes < OUT_BYTES_MAX && !log.blocked;
            if !self.later.log.as_ref().is_some_and(|log| may_go(log)) || !self.admit_due(clock::now()) {
                return;
            }
        }
        // The rest comes after what else is in the mailbox.
        self.later.touched = true;
    }

    /// What is due and loaded, as much as one batch takes and as there is room for.
    fn collect_due(&self, now: Timestamp, room: u64) -> Due {
        let mut due = Due::default();
        let Some(log) = &self.later.log else { return due };
        for waiting in log.index.due(now) {
            let is_full = due.bytes() >= BATCH_BYTES || due.waiting.len() >= BATCH_RECORDS_MAX;
            let Some(record) = log.payloads.get(waiting.turn.number).filter(|_| !is_full) else {
                break;
            };
            if due.draft.entries.len() as u64 >= room {
                due.is_cut = true;
                break;
            }
            due.push(waiting, record);
        }
        due
    }

    /// Gives offsets to due records, and writes in one that they are stored and do not wait any more. Returns
    /// whether there were any.
    fn admit_due(&mut self, now: Timestamp) -> bool {
        let counted = self.counted();
        let room = counted.lock();
        let mut due = self.collect_due(now, self.room_left(&counted));
        self.part.waits.set_due_for_room(due.is_cut);
        if due.waiting.is_empty() {
            if let Some(log) = &mut self.later.log {
                log.blocked = due.is_cut;
            }
            return false;
        }
        let limits = AdmitLimits {
            // They were checked when they were scheduled, and the publisher was told that they will come.
            record_bytes_max: u64::MAX,
            ..self.limits(&counted)
        };
        let state = self.state.as_mut().expect("looked at only while it is open");
        let visible = state.visible_next();
        let Admission { batch, outcomes } = state.admit(now, std::mem::take(&mut due.draft), &limits);
        if limits.records_max.is_some() {
            self.part.set_given(state.next_offset());
        }
        drop(room);
        let outcomes = match outcomes {
            Outcomes::AllStored => None,
            Outcomes::Each(outcomes) => Some(outcomes),
        };
        let mut stored = 0;
        let taken: Vec<Waiting> = due
            .waiting
            .iter()
            .zip(&due.stored)
            .filter(|(_, is_stored)| {
                let place = stored;
                stored += usize::from(**is_stored);
                match outcomes.as_ref().and_then(|outcomes| outcomes.get(place)) {
                    _ if !**is_stored => true,
                    // What it repeats may still be refused.
                    Some(Outcome::Duplicate(offset)) => *offset < visible,
                    Some(Outcome::Refused(_)) => false,
                    Some(Outcome::Stored(_)) | None => true,
                }
            })
            .map(|(waiting, _)| *waiting)
            .collect();
        let is_blocked = due.is_cut || taken.len() < due.waiting.len();
        if let Some(log) = &mut self.later.log {
            log.blocked = is_blocked;
        }
        if !taken.is_empty() {
            self.submit_due(&taken, batch, now);
        }
        if !due.transient.entries.is_empty() {
            self.pass_on(due.transient, Receipt::nobody(self.part.clone()));
        }
        true
    }

    /// Writes that these do not wait any more, together with the records that are stored of them.
    pub(super) fn submit_due(&mut self, taken: &[Waiting], batch: Option<Batch>, now: Timestamp) {
        let durability = self.topic.durability.into();
        let Some(log) = &mut self.later.log else { return };
        let mut numbers: Vec<u64> = taken.iter().map(|waiting| waiting.turn.number).collect();
        numbers.sort_unstable();
        for waiting in taken {
            log.payloads.forget(waiting.turn);
        }
        let mut records = Vec::new();
        let bytes = Entry::Done(numbers.clone()).encode(&mut records);
        let place = log.index.take(&numbers, bytes);
        let out_bytes = batch.as_ref().map_or(0, |batch| batch.records.len());
        log.out_bytes += out_bytes;
        log.open.push_back(Open {
            until: place.plus(1),
            stored_until: Offset::ZERO,
            then: Then::Release(out_bytes),
        });
        let done = log.submission((place, 1), now, records, durability);
        let Some(batch) = batch.map(Arc::new) else {
            return self.submit_schedules(done);
        };
        let records = Submission {
            key: self.part.key,
            incarnation: self.incarnation,
            batch: batch.clone(),
            durability,
        };
        let until = batch.next_offset();
        let inflight = Inflight {
            until,
            base: batch.base_offset,
            batch: Some(batch.clone()),
            outcomes: Outcomes::AllStored,
            receipt: Receipt::nobody(self.part.clone()),
            after: None,
        };
        match self.shared.store.submit_together(vec![records, done]) {
            Ok(submitted) => {
                self.inflight.push_back(inflight);
                if submitted == Submitted::Committed {
                    self.commit(until);
                }
                self.submitted_schedules(submitted, place.plus(1));
            }
            Err(error) => {
                if let Some(state) = &mut self.state {
                    state.fail(batch.base_offset);
                    if self.topic.records_max.is_some() {
                        self.part.set_given(state.next_offset());
                    }
                }
                self.later.broken = Some(refusal(&error));
                self.later.pause(REOPEN_DELAY);
            }
        }
    }

    /// Wakes when the next record is due, or has to be loaded.
    pub(super) fn wake_later(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        let mut sleep = Duration::from_millis(SLEEP_MAX_MS);
        let mut at_latest = |pause: Duration| sleep = sleep.min(pause);
        let until = |at: Timestamp| Duration::from_millis(at.since(now));
        if let Some(pause_until) = self.later.pause_until {
            at_latest(pause_until.saturating_duration_since(Instant::now()));
        } else if let Some(log) = &self.later.log {
            if log.blocked {
                at_latest(RETRY);
            } else if let Some(first) = log.index.after(None).next() {
                // What is due and not loaded comes when it is; and what is on its way makes room when it is there.
                let is_loaded = log.payloads.get(first.turn.number).is_some();
                let may_go = is_loaded && log.out_bytes < OUT_BYTES_MAX && self.may_submit();
                if may_go || first.turn.due > now {
                    at_latest(until(first.turn.due));
                }
            }
            if !log.payloads.loading
                && let Some(load) = log.payloads.next_load(&log.index, log.committed)
            {
                at_latest(until(load));
            }
        }
        let at = Instant::now() + sleep;
        if let Some((known, handle)) = self.later.wake {
            if known <= at {
                return;
            }
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later(sleep, |actor, ctx| {
            actor.later.wake = None;
            actor.later.touched = true;
            if actor
                .later
                .pause_until
                .is_some_and(|until| Instant::now() >= until)
            {
                actor.later.pause_until = None;
            }
            if let Some(log) = &mut actor.later.log {
                log.blocked = false;
            }
            actor.settled_down(ctx);
        });
        self.later.wake = Some((at, handle));
    }
}
