//! The records of a partition that are due later: its schedule log, and who waits for what is written there.
//!
//! Owns the index of what waits (`core::schedule`), the log that keeps it, and the payloads that are due soon.
//! Nothing of it exists before the first record is scheduled. A record that is due goes into the partition and
//! out of the schedules in one write, so that it is always in one of both. Never waits for a disk: payloads are
//! read ahead of their time on the reader threads. Driven by the partition's own mailbox, after each message.

mod due;
mod loading;
mod mailbox;
mod opening;
mod payloads;
mod publish;

pub use mailbox::{CancelScheduled, ListScheduled, ListedSchedules, ScheduleEvent};
pub use payloads::{Found, read_payloads};

use std::{collections::VecDeque, sync::Arc, time::Instant};

use actix::SpawnHandle;
use bytes::Bytes;
use callboard_core::{record::Batch, schedule::Schedules};
use callboard_protocol::{Offset, Timestamp, error::Refusal, server::RecordResult};
use tokio::sync::oneshot;

use self::payloads::Payloads;
use super::{PartitionActor, REOPEN_DELAY};
use crate::{
    actors::append::{Append, Receipt, Settlement},
    store::{Durability, Incarnation, Log, PartitionKey, Retention, Submission},
};

/// The log is told to cut when so many more of its entries may go, or all.
const CUT_AFTER: u64 = 1024;

/// What a partition has of schedules.
#[derive(Default)]
pub struct Later {
    /// There from the first record on that is scheduled.
    log: Option<Box<ScheduleLog>>,
    /// Appends that came before the log was there.
    early: Vec<Append>,
    /// When the partition looks at what is due, and at what soon will be.
    wake: Option<(Instant, SpawnHandle)>,
    /// Something has changed since the partition looked.
    touched: bool,
    /// The store refused: it is not asked again before.
    pause_until: Option<Instant>,
    /// The store refused, and the log must be opened again to know what is in it.
    broken: Option<Refusal>,
}

/// See the module.
struct ScheduleLog {
    key: PartitionKey,
    incarnation: Incarnation,
    log: Arc<dyn Log>,
    index: Schedules,
    /// The log is committed up to here.
    committed: Offset,
    /// The log was told that what lies before may go.
    cut: Offset,
    last_timestamp: Timestamp,
    /// What is not committed, in the order in which it was written.
    open: VecDeque<Open>,
    payloads: Payloads,
    /// Bytes of due records that are on their way into the partition.
    out_bytes: usize,
    /// What is due could not be admitted just now: the topic is full, or what it repeats is not stored yet.
    blocked: bool,
    /// Entries are being read, to be written again.
    moving: bool,
}

/// Something that was written and is not committed.
struct Open {
    /// It is when the log is committed up to here …
    until: Offset,
    /// … and the partition up to there.
    stored_until: Offset,
    then: Then,
}

/// What is done when an entry is committed.
enum Then {
    /// Publishers are answered.
    Answer(Receipt, Vec<RecordResult>),
    /// The one who cancelled is answered.
    Cancelled(oneshot::Sender<Result<bool, Refusal>>),
    /// So many bytes are no longer on their way.
    Release(usize),
}

impl Then {
    /// It will not be committed.
    fn refuse(self, refusal: &Refusal) {
        match self {
            Self::Answer(receipt, _) => receipt.refuse(refusal.clone()),
            // Whoever asked may have gone.
            Self::Cancelled(caller) => drop(caller.send(Err(refusal.clone()))),
            Self::Release(_) => {}
        }
    }
}

impl ScheduleLog {
    /// Entries at the places from `base_offset` on, for the store.
    fn submission(
        &mut self,
        (base_offset, count): (Offset, u32),
        now: Timestamp,
        records: Vec<u8>,
        durability: Durability,
    ) -> Submission {
        self.last_timestamp = self.last_timestamp.max(now);
        Submission {
            key: self.key,
            incarnation: self.incarnation,
            batch: Arc::new(Batch {
                base_offset,
                timestamp: self.last_timestamp,
                count,
                records: Bytes::from(records),
            }),
            durability,
        }
    }

    /// The log is committed up to `next`: what lies before the first entry that counts may go.
    fn committed(&mut self, next: Offset) {
        self.committed = self.committed.max(next);
        self.index.committed(self.committed);
        let cut = self.index.cut();
        if cut.since(self.cut) >= CUT_AFTER || (self.index.is_empty() && cut > self.cut) {
            self.cut = cut;
            self.log.set_retention(Retention {
                before: Some(cut),
                ..Retention::default()
            });
        }
    }

    /// What was waited for and has come, with the partition visible up to `visible`.
    fn take_done(&mut self, visible: Offset) -> Vec<Then> {
        let mut done = Vec::new();
        let committed = self.committed;
        while let Some(open) = self
            .open
            .pop_front_if(|open| open.until <= committed && open.stored_until <= visible)
        {
            done.push(open.then);
        }
        done
    }
}

impl PartitionActor {
    /// Answers those whose entries are committed, and counts what waits.
    pub(super) fn settle_schedules(&mut self) {
        let visible = self.visible();
        let Some(log) = &mut self.later.log else { return };
        let done = log.take_done(visible);
        let mut settled = Vec::new();
        for then in done {
            match then {
                Then::Answer(receipt, results) => {
                    settled.extend(receipt.settle(Settlement::Scheduled(results)));
                }
                // Whoever asked may have gone.
                Then::Cancelled(caller) => drop(caller.send(Ok(true))),
                Then::Release(bytes) => log.out_bytes -= bytes.min(log.out_bytes),
            }
        }
        log.blocked = false;
        self.part.set_scheduled(log.index.len() as u64);
        self.later.touched = true;
        self.send_out(None, settled);
    }

    /// The store refused something of the partition, and perhaps of its schedules with it: what is in the log is
    /// seen when both are opened again.
    pub(super) fn distrust_schedules(&mut self, why: &Refusal) {
        if self.later.log.is_some() {
            self.later.broken = Some(why.clone());
            self.later.pause(REOPEN_DELAY);
        }
    }

    /// There may be room again for what is due.
    pub(super) fn room_for_due(&mut self) {
        if let Some(log) = &mut self.later.log {
            log.blocked = false;
            self.later.touched = true;
        }
    }

    /// Refuses all that waits for the log, because the topic is gone.
    pub(super) fn close_schedules(&mut self, refusal: &Refusal) {
        for append in self.later.early.drain(..) {
            append.receipt.refuse(refusal.clone());
        }
        if let Some(log) = self.later.log.take() {
            log.open.into_iter().for_each(|open| open.then.refuse(refusal));
        }
        self.part.set_scheduled(0);
        self.part.waits.set_due_for_room(false);
    }
}
