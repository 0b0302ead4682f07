//! What a group is told: by its members' threads, by its topic, by the store.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use actix::prelude::*;
use bytes::Bytes;
use callboard_core::{
    group::{Exclusive, Generation, MemberId},
    lease::Nack,
};
use callboard_protocol::{FrameId, Offset, PartitionId, error::Refusal};

#[cfg(test)]
use super::GroupActor;
use super::{
    handle::{Gauge, MemberKey},
    receipt::{GroupReceipt, Home},
};
use crate::{
    actors::{topic::TopicActor, wire::Format},
    store::CommitEvent,
};

/// There may be something to do: records came, or a member's outbox has room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake;

/// The end of a turn: everything that was in the mailbox before is done, so what it changed goes out as one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Turn;

/// What the store's writer says of the group's log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogEvent(pub CommitEvent);

/// A member comes.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Join {
    /// Who.
    pub key: MemberKey,
    /// Where it is told what happens.
    pub home: Home,
    /// Its session's id, as people see it; a webhook's own.
    pub session: Arc<str>,
    /// A name to come back under.
    pub name: Option<Arc<str>>,
    /// What its session speaks.
    pub format: Format,
    /// Most records out at a time.
    pub credit: u64,
    /// How long a lease is; none is the topic's.
    pub lease_ms: Option<u64>,
    /// Whether it wants to be alone.
    pub exclusive: Exclusive,
    /// Where to begin in partitions in which the group has no position yet.
    pub starts: BTreeMap<PartitionId, Offset>,
    /// What waits for it on its way.
    pub gauge: Arc<Gauge>,
    /// Records of a partitioned group that it has been given and has not committed, counted on its thread.
    pub out: Arc<AtomicU64>,
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// By its own will.
    Left,
    /// It takes no more records, and settles those that it has.
    Retired,
    /// Its socket is gone.
    Lost,
}

/// A member goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// Who.
    pub member: MemberId,
    /// How.
    pub going: Going,
}

/// A member's thread delivers no more of a revoked partition.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stopped {
    /// Who.
    pub member: MemberId,
    /// Which, and what a commit must reach for nothing to be out.
    pub partitions: Vec<(PartitionId, Option<Offset>)>,
}

/// Whether somebody waits until what happened is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It may be flushed with what comes next, if that comes soon.
    Soon,
    /// Somebody waits.
    Now,
}

/// A member has processed what lies before these offsets.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Commit {
    /// Who.
    pub member: MemberId,
    /// Under which assignment; none is the present one.
    pub generation: Option<Generation>,
    /// The next offset of each partition.
    pub offsets: BTreeMap<PartitionId, Offset>,
    /// Whether the member needs the credit that it gets back.
    pub urgency: Urgency,
    /// Who is told.
    pub receipt: GroupReceipt,
}

/// A member gives partitions back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release {
    /// Who.
    pub member: MemberId,
    /// Which.
    pub partitions: Vec<PartitionId>,
    /// Who is told.
    pub receipt: GroupReceipt,
}

/// A member may have more records out.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AddCredit {
    /// Who.
    pub member: MemberId,
    /// How many.
    pub add: u64,
}

/// A member may have so many records out from now on, and no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetCredit {
    /// Who.
    pub member: MemberId,
    /// How many; 0 gives it none.
    pub credit: u64,
}

/// Acks, nacks and extensions of one member, in the order sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settle {
    /// Who.
    pub member: MemberId,
    /// The deliveries of all requests, one after another.
    pub deliveries: Vec<u64>,
    /// What is asked about them.
    pub requests: Vec<SettleRequest>,
    /// Who is told.
    pub receipt: GroupReceipt,
}

/// One frame, or several that ask the same and want no answer.
pub struct SettleRequest {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// How many of the deliveries.
    pub count: usize,
    /// Deliveries that the session does not know at all, as they stood in the frame.
    pub unknown: Vec<u64>,
    /// What to do with them.
    pub action: SettleAction,
}

/// What is asked about deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleAction {
    /// Processed, with what came of it.
    Ack(Option<Bytes>),
    /// Not processed, and why not.
    Nack(Nack, Option<Box<str>>),
    /// Takes longer.
    Extend(u64),
}

/// The topic has other partitions or another configuration.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicMoved;

/// Another TopicActor owns the group from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt(pub Addr<TopicActor>);

/// The group or its topic was deleted: who waits for an answer is told the reason, and it ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseGroup(pub &'static str);

/// Asks how the group is.
#[derive(Message)]
#[rtype(result = "super::describe::GroupState")]
pub struct Describe;

/// Moves the group's position.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Seek(pub BTreeMap<PartitionId, Offset>);

/// Moves dead letters back to the topic.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct Redrive {
    /// At most so many.
    pub limit: u64,
}

/// Panics in the actor, as a fault of ours would.
#[cfg(test)]
impl Handler<crate::actors::partition::InjectPanic> for GroupActor {
    type Result = ();

    fn handle(&mut self, _: crate::actors::partition::InjectPanic, _: &mut Self::Context) {
        panic!("injected");
    }
}
