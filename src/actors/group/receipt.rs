//! What a group says to its members' threads: one message a hub and turn, and receipts that always come back.

use std::{collections::BTreeMap, sync::Arc};

use actix::{Addr, Message};
use bytes::Bytes;
use callboard_core::group::{Generation, MemberId};
use callboard_protocol::{ErrorCode, FrameId, Offset, PartitionId, error::Refusal};

use super::handle::GroupRef;
use crate::actors::{
    append::ConnId,
    hub::HubAddr,
    webhook::{
        WebhookActor,
        mailbox::{GroupSays, LeasedRecord},
    },
};

/// Where a member is told what happens.
#[derive(Clone)]
pub enum Home {
    /// A session, on the thread of its hub.
    Session(HubAddr, ConnId),
    /// An HTTP endpoint.
    Webhook(Addr<WebhookActor>),
}

impl Home {
    /// Whether an HTTP endpoint lives there.
    pub fn is_webhook(&self) -> bool {
        matches!(self, Self::Webhook(_))
    }
}

/// News for sessions of one thread, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupNews(pub Vec<News>);

/// News for one member.
pub struct News {
    /// Its session.
    pub conn: ConnId,
    /// Which of its memberships.
    pub index: u32,
    /// What.
    pub what: Whats,
}

/// What a member is told.
pub enum Whats {
    /// It is in; where the group is in each partition.
    Joined(BTreeMap<PartitionId, Offset>),
    /// It is not let in.
    Denied(Refusal),
    /// It is out as it asked, and nothing more comes. It may settle so many leases until they end.
    Left(u64),
    /// It gained partitions, to be read from these offsets.
    Assigned(Generation, BTreeMap<PartitionId, Offset>),
    /// It lost partitions; commits are taken for so many milliseconds.
    Revoked(Generation, Vec<PartitionId>, u64),
    /// Records, as finished bytes.
    Deliver(Bytes),
    /// Records as they are kept, for a webhook.
    Leased(Vec<LeasedRecord>),
    /// Its requests are answered.
    Settled(SettledRequests),
    /// It is out: a newer member of its name took its place.
    Replaced,
}

/// Answers to a member's requests.
#[derive(Default)]
pub struct SettledRequests {
    /// Bytes that are no longer in flight.
    pub released_bytes: usize,
    /// Positions that were committed: what lies before them is no longer out.
    pub committed: BTreeMap<PartitionId, Offset>,
    /// For its frames.
    pub replies: Vec<GroupReply>,
}

/// The answer to one frame.
pub struct GroupReply {
    /// The frame's id; without one only a refusal is said.
    pub id: Option<FrameId>,
    /// How it went.
    pub outcome: Result<(), (Refusal, Vec<(u64, ErrorCode)>)>,
}

impl GroupReply {
    /// A refusal that concerns all of a frame.
    pub fn refused(id: Option<FrameId>, refusal: Refusal) -> Self {
        Self {
            id,
            outcome: Err((refusal, Vec::new())),
        }
    }
}

/// The duty to answer a member's requests. Dropped without an answer, as in a panic, it says `internal`.
pub struct GroupReceipt {
    to: Option<(HubAddr, ConnId, u32)>,
    bytes: usize,
    ids: Vec<Option<FrameId>>,
}

impl GroupReceipt {
    /// A receipt for requests of `bytes` in flight, with the ids of their frames.
    pub fn new(to: (HubAddr, ConnId, u32), bytes: usize, ids: Vec<Option<FrameId>>) -> Self {
        Self {
            to: Some(to),
            bytes,
            ids,
        }
    }

    /// One that nobody waits for: a webhook takes no answers.
    pub fn nobody() -> Self {
        Self {
            to: None,
            bytes: 0,
            ids: Vec::new(),
        }
    }

    /// Which of its session's memberships asks.
    pub fn index(&self) -> u32 {
        self.to.as_ref().map_or(0, |(_, _, index)| *index)
    }

    /// The frames' ids, to be answered one by one.
    pub fn take_ids(&mut self) -> Vec<Option<FrameId>> {
        std::mem::take(&mut self.ids)
    }

    /// What the member's thread must be told.
    pub fn settle(
        mut self,
        replies: Vec<GroupReply>,
        committed: BTreeMap<PartitionId, Offset>,
    ) -> Option<(HubAddr, News)> {
        let (hub, conn, index) = self.to.take()?;
        let settled = SettledRequests {
            released_bytes: self.bytes,
            committed,
            replies,
        };
        let what = Whats::Settled(settled);
        Some((hub, News { conn, index, what }))
    }
}

impl Drop for GroupReceipt {
    fn drop(&mut self) {
        let refusal = || {
            Refusal::new(
                ErrorCode::Internal,
                "the group failed; the outcome is unknown, try again",
            )
        };
        if let Some((hub, conn, index)) = self.to.take() {
            let replies = self.ids.drain(..).map(|id| GroupReply::refused(id, refusal()));
            let settled = SettledRequests {
                released_bytes: self.bytes,
                committed: BTreeMap::new(),
                replies: replies.collect(),
            };
            let what = Whats::Settled(settled);
            // Bounded by what the session had in flight, so the mailbox may be passed over.
            hub.do_send(GroupNews(vec![News { conn, index, what }]));
        }
    }
}

/// The group has a new actor that knows nobody: its members join again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupRestarted(pub Arc<GroupRef>);

/// The group is gone, for this reason. Said by who deletes it, because its actor may be dead just then.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupEnded(pub Arc<GroupRef>, pub &'static str);

/// What who asks something of a group is told when nothing comes of it, for the reason that its members hear.
pub fn ended(reason: &str) -> Refusal {
    match reason {
        "topic_deleted" => Refusal::new(ErrorCode::TopicNotFound, "the topic was deleted"),
        "group_deleted" => Refusal::new(ErrorCode::NotSubscribed, "the group was deleted"),
        other => Refusal::new(
            ErrorCode::NotSubscribed,
            format!("the subscription has ended: {other}"),
        ),
    }
}

/// News of one turn, by hub, and for webhooks.
#[derive(Default)]
pub struct Outgoing {
    hubs: Vec<(HubAddr, Vec<News>)>,
    webhooks: Vec<(Addr<WebhookActor>, GroupSays)>,
}

impl Outgoing {
    /// Adds news for a member, wherever it lives; `index` says which of its session's memberships it is.
    pub fn tell(&mut self, home: &Home, (member, index): (MemberId, u32), what: Whats) {
        match home {
            Home::Session(hub, conn) => {
                let conn = *conn;
                self.push(hub, News { conn, index, what });
            }
            Home::Webhook(addr) => self.webhooks.push((addr.clone(), GroupSays { member, what })),
        }
    }

    /// Adds news for a member of a hub's thread.
    pub fn push(&mut self, hub: &HubAddr, news: News) {
        match self.hubs.iter_mut().find(|(known, _)| known == hub) {
            Some((_, list)) => list.push(news),
            None => self.hubs.push((hub.clone(), vec![news])),
        }
    }

    /// Sends everything. What a member is sent is bounded by its credit and its [`super::handle::Gauge`].
    pub fn send(&mut self) {
        for (hub, news) in self.hubs.drain(..) {
            hub.do_send(GroupNews(news));
        }
        for (webhook, says) in self.webhooks.drain(..) {
            webhook.do_send(says);
        }
    }
}
