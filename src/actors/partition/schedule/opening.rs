//! How a partition's schedule log is opened, and opened again: the entries that it keeps, replayed.

use std::{collections::VecDeque, sync::Arc};

use actix::prelude::*;
use callboard_core::schedule::{
    Schedules,
    log::{Entry, EntryError},
};
use callboard_protocol::{ErrorCode, Timestamp, error::Refusal};

use super::{Open, Payloads, ScheduleLog};
use crate::{
    actors::{
        append::lost,
        partition::{PartitionActor, REOPEN_DELAY, refusal},
        told::Telling,
        topic::schedules::OpenSchedules,
    },
    store::{Incarnation, Log, OpenPartition, OpenedPartition, PartitionKey, StoreError, TopicId},
};

/// About how much of a log is read at once.
const PAGE_BYTES: usize = 1 << 20;

/// A log that was opened, and what its entries say.
type OpenedLog = (OpenedPartition, Schedules);

impl PartitionActor {
    /// Goes on with a partition that the store has opened; its schedules are known before it serves anybody.
    pub(in crate::actors::partition) fn opened_with_schedules(
        &mut self,
        opened: OpenedPartition,
        ctx: &mut Context<Self>,
    ) {
        let Some(topic) = self.part.schedules() else {
            self.opened(opened);
            return self.settled_down(ctx);
        };
        let log = self.open_log(topic, ctx);
        let why = self.later.broken.take().unwrap_or_else(lost);
        ctx.wait(log.into_actor(self).map(move |log, actor, ctx| match log {
            Ok((incarnation, log)) => {
                actor.opened(opened);
                actor.install(incarnation, log, &why);
                actor.settled_down(ctx);
            }
            Err(error) => actor.open_later(&format!("its schedules: {error}"), ctx),
        }));
    }

    /// Opens the log for those who came before it was there. The mailbox waits meanwhile.
    pub(super) fn open_for_early(&mut self, ctx: &mut Context<Self>) {
        let owner = self.owner.clone();
        let (known, partition) = (self.part.schedules(), self.part.id);
        let asked = async move {
            match known {
                Some(topic) => Ok(topic),
                None => {
                    let asked = owner.send(OpenSchedules(partition)).await;
                    asked.unwrap_or_else(|_| {
                        Err(Refusal::new(ErrorCode::Internal, "the topic failed; try again"))
                    })
                }
            }
        };
        ctx.wait(asked.into_actor(self).map(|topic, actor, ctx| match topic {
            Ok(topic) => actor.open_again(topic, &lost(), ctx),
            Err(refusal) => actor.refuse_early(&refusal),
        }));
    }

    /// Opens the log again after the store refused something. What waits for it is answered by what is in it
    /// then, and refused otherwise.
    pub(super) fn reopen_schedules(&mut self, why: Refusal, ctx: &mut Context<Self>) {
        self.later.pause(REOPEN_DELAY);
        if let Some(topic) = self.part.schedules() {
            self.open_again(topic, &why, ctx);
        }
    }

    fn open_again(&mut self, topic: TopicId, why: &Refusal, ctx: &mut Context<Self>) {
        let log = self.open_log(topic, ctx);
        let why = why.clone();
        ctx.wait(log.into_actor(self).map(move |log, actor, ctx| match log {
            Ok((incarnation, log)) => {
                actor.install(incarnation, log, &why);
                actor.settled_down(ctx);
            }
            Err(error) => {
                log::error!("the schedules of {:?} can not be opened: {error}", actor.part.key);
                actor.refuse_early(&refusal(&error));
                actor.reopen_later(refusal(&error), ctx);
            }
        }));
    }

    /// Tries again after a while, unless somebody schedules something before.
    fn reopen_later(&mut self, why: Refusal, ctx: &mut Context<Self>) {
        self.later.broken = Some(why);
        self.later.pause(REOPEN_DELAY);
        self.wake_later(ctx);
    }

    fn refuse_early(&mut self, refusal: &Refusal) {
        for append in std::mem::take(&mut self.later.early) {
            append.receipt.refuse(refusal.clone());
        }
    }

    fn open_log(
        &mut self,
        topic: TopicId,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(Incarnation, OpenedLog), StoreError>> + use<> {
        let key = PartitionKey {
            topic,
            partition: self.part.id,
        };
        let incarnation = self.shared.next_incarnation();
        let addr = Arc::new(ctx.address());
        // Told on the partition's own thread, whatever the number of its log would say.
        let commits = self.shared.commit_sink(self.part.key, move |event| {
            Telling::Schedules(addr.clone(), event)
        });
        let opened = self.shared.store.open(OpenPartition {
            key,
            incarnation,
            ids_since: Timestamp(u64::MAX),
            commits,
        });
        let shared = self.shared.clone();
        async move {
            let opened = opened.await.unwrap_or(Err(StoreError::ShuttingDown))?;
            let log = opened.log.clone();
            let read = shared.readers.run(move || replay(&*log)).await;
            let index = read.unwrap_or(Err(StoreError::ShuttingDown))?;
            Ok((incarnation, (opened, index)))
        }
    }

    /// Goes on with a log that was opened, in the place of the former one.
    fn install(&mut self, incarnation: Incarnation, (opened, index): OpenedLog, why: &Refusal) {
        let next = opened.next_offset;
        let mut log = ScheduleLog {
            key: PartitionKey {
                topic: self.part.schedules().unwrap_or(self.part.key.topic),
                partition: self.part.id,
            },
            incarnation,
            cut: opened.first_offset,
            committed: next,
            last_timestamp: opened.last_timestamp,
            log: opened.log,
            index,
            open: VecDeque::new(),
            payloads: Payloads::default(),
            out_bytes: 0,
            blocked: false,
            moving: false,
        };
        let former = self.later.log.take().map(|log| log.open).unwrap_or_default();
        for open in former {
            self.keep_or_refuse(&mut log, open, why);
        }
        self.later.log = Some(Box::new(log));
        self.later.broken = None;
        self.settle_schedules();
        for append in std::mem::take(&mut self.later.early) {
            self.schedule(append);
        }
    }

    /// What a former log had written: it is in the new one, or it was refused.
    fn keep_or_refuse(&self, log: &mut ScheduleLog, open: Open, why: &Refusal) {
        let given = self.next_offset();
        if open.until <= log.committed && open.stored_until <= given {
            log.open.push_back(open);
        } else {
            open.then.refuse(why);
        }
    }
}

/// Reads what a log says, oldest first.
fn replay(log: &dyn Log) -> Result<Schedules, StoreError> {
    let mut index = Schedules::new(log.first_offset());
    let (mut at, end) = (log.first_offset(), log.next_offset());
    while at < end {
        let page = log.read(at, PAGE_BYTES)?;
        if let Some(gap) = page.gap {
            // What was hurt is as if it had not happened: records that were done come again, and records that
            // were scheduled never come.
            log::error!("entries {} to {} of a schedule log are hurt", gap.from, gap.next);
        }
        for batch in &page.batches {
            for (place, parts) in batch.iter() {
                match Entry::decode(parts.payload) {
                    Ok(entry) => index.replay(place, parts.encoded_bytes() as u32, &entry),
                    Err(error @ (EntryError::Truncated | EntryError::Invalid)) => {
                        log::error!("entry {place} of a schedule log is left out: {error}");
                    }
                    // Written by a newer version, which would not find what this one leaves out.
                    Err(error @ (EntryError::Version(_) | EntryError::Kind(_))) => {
                        log::error!("entry {place} of a schedule log: {error}");
                        let (from, next) = (place, place.plus(1));
                        return Err(StoreError::Corrupt { from, next });
                    }
                }
            }
        }
        if page.next_offset <= at {
            break;
        }
        at = page.next_offset;
    }
    index.replayed(end);
    Ok(index)
}
