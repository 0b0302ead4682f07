//! What a partition is told, besides records: by the store, by hubs and by its topic.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use callboard_protocol::{ErrorCode, error::Refusal};

use super::{PartitionActor, Processed, RoomMade, Sent, Stays, TopicSettings, Watcher, deleted};
use crate::{
    actors::{
        append::{Answers, Append, Settlement},
        hub::HubAddr,
        topic::TopicActor,
    },
    store::CommitEvent,
};

/// Appends that may wait in a partition's mailbox; a session whose append finds it full waits itself.
const MAILBOX_APPENDS_MAX: usize = if cfg!(test) { 4 } else { 4096 };
/// How often those who wait are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether there is room, where somebody waits for it.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);
/// How long a deleted topic's partition still answers who had not heard of it.
const CLOSE_DELAY: Duration = Duration::from_secs(2);

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_APPENDS_MAX);
        self.open(ctx);
    }
}

impl Handler<Append> for PartitionActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Self::Context) {
        self.take_in(append, ctx);
        self.settled_down(ctx);
    }
}

/// What the store's writer says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StoreEvent(pub CommitEvent);

impl Handler<StoreEvent> for PartitionActor {
    type Result = ();

    fn handle(&mut self, StoreEvent(event): StoreEvent, ctx: &mut Self::Context) {
        match event {
            _ if self.closed => {}
            CommitEvent::Committed {
                incarnation,
                next_offset,
            } if incarnation == self.incarnation => {
                self.commit(next_offset);
                let somebody_waits = !self.waits.is_empty() || !self.notices.is_empty();
                if somebody_waits && self.shared.is_shutting_down() {
                    self.end_all_waits();
                }
                self.settle_schedules();
                self.settled_down(ctx);
            }
            CommitEvent::Failed {
                incarnation,
                from_offset,
                error,
            } if incarnation == self.incarnation => {
                self.failed(from_offset, &error, ctx);
            }
            // Of a former incarnation, whose publishers were answered when it ended.
            CommitEvent::Committed { .. } | CommitEvent::Failed { .. } => {}
        }
    }
}

/// A hub says which subprotocols its subscribers of this partition use; none of them ends the watch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// The hub.
    pub hub: HubAddr,
    /// Whether any subscriber speaks `callboard.v1.json`.
    pub json: bool,
    /// Whether any subscriber speaks `callboard.v1.ndjson`.
    pub ndjson: bool,
    /// Whether any event stream reads along; it needs no bytes but those of records that are not stored.
    pub events: bool,
}

impl Handler<Watch> for PartitionActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Self::Context) {
        let Watch {
            hub,
            json,
            ndjson,
            events,
        } = watch;
        self.watchers.retain(|watcher| watcher.hub != hub);
        if json || ndjson || events {
            // Told the end at once, so that what was committed before this watch is not missed.
            self.watchers.push(Watcher {
                hub,
                json,
                ndjson,
                events,
                missed: true,
            });
            self.tell_missed();
            self.retry_missed(ctx);
        }
    }
}

/// The topic's configuration changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Configure(pub Arc<TopicSettings>);

impl Handler<Configure> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Configure(topic): Configure, _: &mut Self::Context) {
        self.topic = topic;
        self.fill_room();
    }
}

/// The topic was deleted: answers who waits, and ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close;

impl Handler<Close> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.sentinel.dismiss();
        let waiting: Vec<_> = self.inflight.drain(..).collect();
        for inflight in waiting {
            self.settle(inflight.receipt, Settlement::Refused(deleted()));
        }
        self.end_waits(.., &deleted(), Stays::No);
        let due = self.notices.fail(.., &deleted());
        self.give(due);
        self.refuse_room(&deleted());
        self.close_schedules(&deleted());
        self.closed = true;
        self.admit_collected();
        self.inflight.clear();
        self.go_on();
        ctx.run_later(CLOSE_DELAY, |_, ctx| ctx.stop());
    }
}

impl Handler<Sent> for PartitionActor {
    type Result = ();

    fn handle(&mut self, sent: Sent, _: &mut Self::Context) {
        let due = self.notices.sent(sent);
        self.give(due);
        let mut answers = Answers::default();
        self.waits.sent(sent, self.durability(), &mut answers);
        self.answer(answers);
    }
}

impl Handler<Processed> for PartitionActor {
    type Result = ();

    fn handle(&mut self, processed: Processed, _: &mut Self::Context) {
        let due = self.notices.processed(&processed);
        self.give(due);
        let mut answers = Answers::default();
        self.waits.processed(processed, self.durability(), &mut answers);
        self.answer(answers);
    }
}

impl Handler<RoomMade> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: RoomMade, ctx: &mut Self::Context) {
        self.room_for_due();
        self.fill_room();
        self.settled_down(ctx);
    }
}

/// The broker shuts down: what publishers wait for does not happen any more, and they must hear it before
/// their sessions end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndWaits;

impl Handler<EndWaits> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EndWaits, _: &mut Self::Context) {
        self.end_all_waits();
    }
}

impl PartitionActor {
    /// Sees to what the last message left to be done later.
    pub(super) fn settled_down(&mut self, ctx: &mut Context<Self>) {
        self.retry_missed(ctx);
        self.look_later(ctx);
        self.look_at_schedules(ctx);
    }

    fn end_all_waits(&mut self) {
        let refusal = Refusal::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        // The others are answered when it is known whether they are stored.
        self.end_waits(..self.visible(), &refusal, Stays::Yes);
        let due = self.notices.fail(..self.visible(), &refusal);
        self.give(due);
        self.refuse_room(&refusal);
    }

    /// Sees to it that those who wait are looked at when the first of them has waited long enough, and now and
    /// then, because a session that ends and retention that makes room tell nobody.
    fn look_later(&mut self, ctx: &mut Context<Self>) {
        let nobody_waits = self.waits.is_empty() && self.notices.is_empty();
        let pause = match (nobody_waits, self.room.is_empty()) {
            (true, true) => return,
            (_, false) => LOOK_FOR_ROOM,
            (false, true) => LOOK,
        };
        let now = Instant::now();
        let regular = now + pause;
        let next = self
            .waits
            .next_timeout(self.visible())
            .map_or(regular, |next| next.min(regular));
        if let Some((at, handle)) = self.look {
            if at <= next {
                return;
            }
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later(next.saturating_duration_since(now), |actor, ctx| {
            actor.look = None;
            actor.look_after_waits();
            actor.retry_missed(ctx);
            actor.look_later(ctx);
        });
        self.look = Some((next, handle));
    }

    fn look_after_waits(&mut self) {
        if self.shared.is_shutting_down() {
            return self.end_all_waits();
        }
        let now = Instant::now();
        let mut answers = Answers::default();
        self.waits.expire(now, self.visible(), &mut answers);
        self.answer(answers);
        let due = self.notices.look(now);
        self.give(due);
        self.waits.forget_gone();
        self.give_up_room(now);
        self.fill_room();
    }
}

/// Panics in the actor, as a fault of ours would.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectPanic;

#[cfg(test)]
impl Handler<InjectPanic> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("injected");
    }
}

/// Blocks the actor's thread until something is sent, so that its mailbox fills.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stall {
    /// Told when it is blocked.
    pub blocked: tokio::sync::oneshot::Sender<()>,
    /// Ends it.
    pub may_go: std::sync::mpsc::Receiver<()>,
}

#[cfg(test)]
impl Handler<Stall> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Stall { blocked, may_go }: Stall, _: &mut Self::Context) {
        let _ = blocked.send(());
        let _ = may_go.recv();
    }
}

/// Another TopicActor owns the partition from now on, because the former one died.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt(pub Addr<TopicActor>);

impl Handler<Adopt> for PartitionActor {
    type Result = ();

    fn handle(&mut self, Adopt(owner): Adopt, _: &mut Self::Context) {
        self.sentinel.partition_owner(owner.clone(), self.part.id);
        self.owner = owner;
    }
}
