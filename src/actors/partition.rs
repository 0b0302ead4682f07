//! PartitionActor: the single writer of one partition.
//!
//! Owns the order of the partition's records. Core decides (offsets, deduplication), the store's writer
//! makes durable, and what is committed goes out as one shared buffer a subprotocol to every hub that
//! has subscribers. Called by sessions and REST with [`Append`]; told of commits by the store, and by hubs
//! and groups of what publishers wait for ([`waits`], [`room`]). Never flushes, never waits for a disk, never
//! parses a payload.
//!
//! [`Append`]: super::append::Append

mod admit;
mod collect;
mod hold;
mod mailbox;
mod notices;
mod room;
mod schedule;
mod waits;

pub use mailbox::{Adopt, Close, Configure, EndWaits, StoreEvent, Watch};
#[cfg(test)]
pub use mailbox::{InjectPanic, Stall};
use notices::Notices;
pub use room::RoomMade;
use room::RoomQueue;
pub use schedule::{CancelScheduled, Found, ListScheduled, ListedSchedules, ScheduleEvent, read_payloads};
pub use waits::{Processed, ProcessedOutcome, Sent};
use waits::{Stays, WaitList};

use std::{
    collections::VecDeque,
    ops::RangeBounds,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use callboard_core::{
    partition::{Outcomes, Partition},
    record::Batch,
    topic::{Durability as TopicDurability, WhenFull},
};
use callboard_protocol::{ErrorCode, Offset, Timestamp, error::Refusal, server::DurabilityText};

use super::{
    Shared,
    append::{Answers, Receipt, Settled, Settlement},
    clock,
    directory::PartitionRef,
    hub::{Committed, Delivery, HubAddr, Settle},
    together::After,
    told::Telling,
    topic::{Heard, PartitionReady, Sentinel, TopicActor},
    wire::{self, Format},
};
use crate::store::{Incarnation, OpenPartition, OpenedPartition, StoreError};

/// Committed records are handed to the hubs in buffers of about this size.
const DELIVERY_BYTES: usize = 512 << 10;
/// How long to wait before a hub whose mailbox was full is tried again.
const HUB_RETRY: Duration = Duration::from_millis(5);
/// How long to wait before the store is asked again to open the partition.
const REOPEN_DELAY: Duration = Duration::from_millis(500);

/// See the module.
pub struct PartitionActor {
    shared: Arc<Shared>,
    topic: Arc<TopicSettings>,
    part: Arc<PartitionRef>,
    owner: Addr<TopicActor>,
    incarnation: Incarnation,
    state: Option<Partition>,
    first_offset: Offset,
    /// Appends of this turn.
    collected: collect::Collected,
    inflight: VecDeque<Inflight>,
    /// Publishers whose records are stored, or will be, and who wait for more than that.
    waits: WaitList,
    /// Notices for publishers who do not wait.
    notices: Notices,
    /// Appends for which there is no room.
    room: RoomQueue,
    /// Records that are due later.
    later: schedule::Later,
    /// When those who wait are looked at again.
    look: Option<(Instant, SpawnHandle)>,
    watchers: Vec<Watcher>,
    /// What the partition waits for before it submits anything more.
    hold: Option<hold::Hold>,
    /// Whether a timer runs that tells the hubs what they missed.
    retrying: bool,
    /// The topic was deleted: whoever still sends is told so.
    closed: bool,
    sentinel: Sentinel,
}

/// What a partition must know of its topic's configuration; replaced as a whole.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// What its records are promised.
    pub durability: TopicDurability,
    /// How long a message id is remembered.
    pub dedup_window_ms: u64,
    /// Most records kept unfinished, over all partitions.
    pub records_max: Option<u64>,
    /// What happens to further ones.
    pub when_full: WhenFull,
    /// Largest record.
    pub record_bytes_max: u64,
}

/// A hub that has subscribers of this partition.
struct Watcher {
    hub: HubAddr,
    json: bool,
    ndjson: bool,
    events: bool,
    /// Something could not be handed over: the hub must be told where the end is.
    missed: bool,
}

/// Admitted records that wait to be durable.
struct Inflight {
    /// Settled when everything before this is committed.
    until: Offset,
    /// The first record's offset, if all are stored.
    base: Offset,
    /// Goes out when it is settled; what several are in is the last one's.
    batch: Option<Arc<Batch>>,
    outcomes: Outcomes,
    receipt: Receipt,
    /// Those who come after it, if it is part of a publish to others as well.
    after: Option<Arc<After>>,
}

impl PartitionActor {
    /// An actor that opens the partition when it is started.
    pub fn new(
        shared: Arc<Shared>,
        topic: Arc<TopicSettings>,
        part: Arc<PartitionRef>,
        owner: Addr<TopicActor>,
        incarnation: Incarnation,
    ) -> Self {
        let sentinel = Sentinel::partition(owner.clone(), part.id);
        let notices = Notices::new(shared.clone(), part.clone());
        Self {
            shared,
            topic,
            owner,
            incarnation,
            state: None,
            first_offset: Offset::ZERO,
            collected: collect::Collected::default(),
            inflight: VecDeque::new(),
            waits: WaitList::new(part.clone()),
            notices,
            room: RoomQueue::new(part.clone()),
            later: schedule::Later::default(),
            look: None,
            part,
            watchers: Vec::new(),
            hold: None,
            retrying: false,
            closed: false,
            sentinel,
        }
    }

    /// Asks the store to settle what the former incarnation submitted and to say where to go on.
    /// The mailbox waits meanwhile.
    fn open(&mut self, ctx: &mut Context<Self>) {
        let addr = Arc::new(ctx.address());
        let ids_since = Timestamp(clock::now().0.saturating_sub(self.topic.dedup_window_ms));
        let opened = self.shared.store.open(OpenPartition {
            key: self.part.key,
            incarnation: self.incarnation,
            ids_since,
            commits: self.shared.commit_sink(self.part.key, move |event| {
                Telling::Partition(addr.clone(), event)
            }),
        });
        ctx.wait(opened.into_actor(self).map(|opened, actor, ctx| match opened {
            Ok(Ok(opened)) => actor.opened_with_schedules(opened, ctx),
            Ok(Err(error)) => actor.open_later(&error.to_string(), ctx),
            Err(_) => actor.open_later("the store gave no answer", ctx),
        }));
    }

    fn open_later(&mut self, why: &str, ctx: &mut Context<Self>) {
        log::error!("partition {:?} can not be opened: {why}", self.part.key);
        ctx.run_later(REOPEN_DELAY, |actor, ctx| {
            if actor.state.is_none() {
                actor.incarnation = actor.shared.next_incarnation();
                actor.open(ctx);
            }
        });
    }

    fn opened(&mut self, opened: OpenedPartition) {
        let mut state = Partition::new(opened.next_offset, opened.last_timestamp);
        for recent in &opened.recent_ids {
            state.remember(&recent.message_id, recent.offset, recent.timestamp);
        }
        self.first_offset = opened.first_offset;
        self.part.hearing.restore(opened.last_timestamp);
        self.part.set_log(opened.log);
        self.part.set_given(opened.next_offset);
        self.state = Some(state);
        self.owner.do_send(PartitionReady(self.part.id));
        for watcher in &mut self.watchers {
            watcher.missed = true;
        }
        self.tell_missed();
        self.fill_room();
    }

    /// What is true of a committed record.
    fn durability(&self) -> DurabilityText {
        self.topic.durability.as_str()
    }

    /// Hands records to live subscribers that are never stored.
    fn pass_on(&mut self, draft: callboard_core::partition::Draft, receipt: Receipt) {
        let batch = Batch {
            base_offset: Offset::ZERO,
            timestamp: clock::now(),
            count: draft.entries.len() as u32,
            records: draft.records.into(),
        };
        let bytes = batch.records.len() as u64;
        self.count(batch.timestamp, u64::from(batch.count), bytes);
        let encode = |format| wire::encode_transient(&self.part.prefix, &batch, format);
        let (json, ndjson) = self.formats();
        let json = json || self.watchers.iter().any(|watcher| watcher.events);
        let delivery = Delivery {
            range: None,
            count: u64::from(batch.count),
            json: json.then(|| encode(Format::Json)),
            ndjson: ndjson.then(|| encode(Format::Ndjson)),
        };
        let settled = receipt.settle(Settlement::Passed);
        self.send_out(Some(delivery), settled.into_iter().collect());
    }

    /// Counts records that came at this time, and says so to whoever found the topic silent.
    fn count(&self, at: Timestamp, records: u64, bytes: u64) {
        self.part.meter.count(at.0, records, bytes);
        if self.part.hearing.note(at) {
            self.owner.do_send(Heard);
        }
    }

    /// Everything before `next` is committed: shows it, and answers who waited for it.
    fn commit(&mut self, next: Offset) {
        let state = self.state.as_mut().expect("only an open partition submits");
        state.commit(next);
        let visible = state.visible_next();
        let durability = self.durability();
        let mut batches: Vec<Arc<Batch>> = Vec::new();
        let mut batch_bytes = 0;
        let mut settled = Vec::new();
        while self.inflight.front().is_some_and(|front| front.until <= visible) {
            let Some(inflight) = self.inflight.pop_front() else {
                break;
            };
            if let Some(batch) = &inflight.batch {
                batch_bytes += batch.records.len();
                batches.push(batch.clone());
            }
            if let Some(after) = &inflight.after {
                after.committed();
            }
            let settlement = admit::settlement(&inflight, durability);
            settled.extend(inflight.receipt.settle(settlement));
            if batch_bytes >= DELIVERY_BYTES {
                let delivery = self.delivery(&std::mem::take(&mut batches));
                self.send_out(delivery, std::mem::take(&mut settled));
                batch_bytes = 0;
            }
        }
        if !self.notices.is_empty() {
            let due = self.notices.committed(visible);
            self.give(due);
        }
        let delivery = self.delivery(&batches);
        let has_more = delivery.is_some();
        self.send_out(delivery, settled);
        if has_more {
            for share in self.part.groups().iter() {
                share.end_moved();
            }
        }
    }

    /// Encodes committed batches once for each subprotocol in use; `None` if there are none.
    fn delivery(&self, batches: &[Arc<Batch>]) -> Option<Delivery> {
        let first = batches.first()?;
        let last = batches.last()?;
        let (json, ndjson) = self.formats();
        let mut count = 0;
        let mut bytes = 0;
        for batch in batches {
            count += u64::from(batch.count);
            bytes += batch.records.len() as u64;
        }
        self.count(last.timestamp, count, bytes);
        let owned: Vec<Batch> = if json || ndjson {
            batches.iter().map(|batch| Batch::clone(batch)).collect()
        } else {
            Vec::new()
        };
        // Nothing has expired yet: it was admitted a flush ago, and who reads it later looks again.
        let encode = |format: Format| -> Bytes {
            wire::encode_batches(&self.part.prefix, &owned, format, Timestamp(0), u64::MAX).bytes
        };
        Some(Delivery {
            range: Some((first.base_offset, last.next_offset())),
            count,
            json: json.then(|| encode(Format::Json)),
            ndjson: ndjson.then(|| encode(Format::Ndjson)),
        })
    }

    fn formats(&self) -> (bool, bool) {
        let any = |wants: fn(&Watcher) -> bool| self.watchers.iter().any(wants);
        (any(|watcher| watcher.json), any(|watcher| watcher.ndjson))
    }

    /// One message to each hub that has subscribers here or publishers to answer.
    fn send_out(&mut self, delivery: Option<Delivery>, settled: Vec<(HubAddr, Settled)>) {
        let end = self.visible();
        let mut receipts: Vec<(HubAddr, Vec<Settled>)> = Vec::new();
        let left = settled.len();
        for (hub, settled) in settled {
            match receipts.iter_mut().find(|(known, _)| *known == hub) {
                Some((_, list)) => list.push(settled),
                None => {
                    let mut list = Vec::with_capacity(left);
                    list.push(settled);
                    receipts.push((hub, list));
                }
            }
        }
        if let Some(delivery) = delivery {
            for watcher in &mut self.watchers {
                let own = receipts.iter().position(|(hub, _)| *hub == watcher.hub);
                let receipts = own.map(|index| receipts.swap_remove(index).1).unwrap_or_default();
                let committed = Committed {
                    part: self.part.clone(),
                    end,
                    delivery: Some(delivery.clone()),
                    receipts,
                };
                match watcher.hub.try_send(committed) {
                    Ok(()) => {}
                    Err(SendError::Full(committed)) => {
                        // The receipts must arrive and are bounded by what sessions have in flight;
                        // the records are in the log, where the hub will read them.
                        watcher.missed = true;
                        watcher.hub.do_send(Settle(committed.receipts));
                    }
                    // That thread is gone, and its sessions with it.
                    Err(SendError::Closed(_)) => {}
                }
            }
        }
        for (hub, receipts) in receipts {
            hub.do_send(Settle(receipts));
        }
    }

    fn settle(&mut self, receipt: Receipt, settlement: Settlement) {
        let settled = receipt.settle(settlement);
        self.send_out(None, settled.into_iter().collect());
    }

    fn answer(&mut self, answers: Answers) {
        let settled = answers.send();
        self.send_out(None, settled);
    }

    fn give(&self, due: notices::Due) {
        for (to, outcome) in due {
            to.give(&self.shared, &self.part.topic, self.part.id, &outcome);
        }
    }

    /// Refuses those who wait for these records.
    fn end_waits(&mut self, offsets: impl RangeBounds<Offset>, refusal: &Refusal, stays: Stays) {
        let mut answers = Answers::default();
        self.waits.refuse(offsets, refusal, stays, &mut answers);
        self.answer(answers);
    }

    /// The offset that the next record gets.
    fn next_offset(&self) -> Offset {
        self.state.as_ref().map_or(Offset::ZERO, Partition::next_offset)
    }

    /// The offset after the last record that may be shown.
    fn visible(&self) -> Offset {
        self.state.as_ref().map_or(Offset::ZERO, Partition::visible_next)
    }

    /// Tells hubs that missed something where the end is.
    fn tell_missed(&mut self) {
        let end = self.visible();
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.missed) {
            let committed = Committed {
                part: self.part.clone(),
                end,
                delivery: None,
                receipts: Vec::new(),
            };
            watcher.missed = matches!(watcher.hub.try_send(committed), Err(SendError::Full(_)));
        }
        self.watchers.retain(|watcher| watcher.hub.connected());
    }

    /// Sees to it that hubs are told what they missed, as soon as their mailboxes allow.
    fn retry_missed(&mut self, ctx: &mut Context<Self>) {
        if !self.retrying && self.watchers.iter().any(|watcher| watcher.missed) {
            self.retrying = true;
            ctx.run_later(HUB_RETRY, |actor, ctx| {
                actor.retrying = false;
                actor.tell_missed();
                actor.retry_missed(ctx);
            });
        }
    }

    /// The store refused everything from `from` on: rolls back, and goes on under a new incarnation so
    /// that nothing of the old one can be taken for new.
    fn failed(&mut self, from: Offset, error: &StoreError, ctx: &mut Context<Self>) {
        log::error!(
            "partition {:?}: offsets from {from} on were not stored: {error}",
            self.part.key
        );
        let refusal = refusal(error);
        let waiting: Vec<_> = self.inflight.drain(..).collect();
        for inflight in waiting {
            self.settle(inflight.receipt, Settlement::Refused(refusal.clone()));
        }
        self.end_waits(from.., &refusal, Stays::No);
        // Who published them is told that they are not stored.
        drop(self.notices.fail(from.., &refusal));
        self.distrust_schedules(&refusal);
        self.state = None;
        self.incarnation = self.shared.next_incarnation();
        self.open(ctx);
    }
}

/// What a publisher is told of a failure of the store.
pub fn refusal(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::Closed => ErrorCode::TopicNotFound,
        StoreError::ShuttingDown => ErrorCode::ShuttingDown,
        StoreError::Io { .. }
        | StoreError::Locked { .. }
        | StoreError::Version { .. }
        | StoreError::Corrupt { .. } => ErrorCode::StorageFailed,
    };
    Refusal::new(code, error.to_string())
}

fn deleted() -> Refusal {
    Refusal::new(ErrorCode::TopicNotFound, "the topic was deleted")
}
