//! What a webhook is told: by its group, by whoever administers it, by the broker.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use callboard_core::group::MemberId;
use callboard_protocol::{Offset, PartitionId, Timestamp};

#[cfg(test)]
use super::WebhookActor;
use crate::actors::group::{handle::GroupRef, receipt::Whats};

/// News from the group.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupSays {
    /// As which member it is told.
    pub member: MemberId,
    /// What.
    pub what: Whats,
}

/// A record that is leased to a webhook.
#[derive(Clone, Debug)]
pub struct LeasedRecord {
    /// Its number among the member's deliveries.
    pub delivery: u64,
    /// How often it was handed out, with this time.
    pub attempt: u32,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it got that.
    pub timestamp: Timestamp,
    /// As it is kept.
    pub record: Bytes,
}

/// Its group has a new actor that knows nobody.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupAgain(pub Arc<GroupRef>);

/// Its group is gone, for this reason.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupGone(pub Arc<GroupRef>, pub &'static str);

/// It is enabled, and its status says so already.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Enabled;

/// It is disabled, and its status says so already. Calls under way end as they do.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DisabledNow;

/// It was deleted, or the broker ends: what it has goes back to its group at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct End;

/// The broker is about to end: takes nothing more, and answers when its calls have ended and its group has heard
/// how.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire;

/// Panics in the actor, as a fault of ours would.
#[cfg(test)]
impl Handler<crate::actors::partition::InjectPanic> for WebhookActor {
    type Result = ();

    fn handle(&mut self, _: crate::actors::partition::InjectPanic, _: &mut Self::Context) {
        panic!("injected");
    }
}
