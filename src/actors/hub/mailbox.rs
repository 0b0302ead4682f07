//! What other threads say to a hub, and its actor that takes it.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use callboard_protocol::Offset;

use super::Hub;
use crate::actors::{
    append::Settled,
    directory::{PartitionRef, Topic},
    gateway::{CountSessions, Disconnect, Goodbye, ListSessions, SessionInfo},
    group::receipt::{GroupEnded, GroupNews, GroupRestarted},
    notice::GiveNotice,
    told::HearTold,
    wire::Format,
};

const CLOSE_POLICY: u16 = 1008;

/// The mailbox of a [`Hub`].
pub struct HubActor(pub(super) Rc<Hub>);

/// Where a hub is told things. Passed on with every draft and its answers, so it is shared: a clone of an `Addr` takes
/// memory twice, and may send one message more than the mailbox holds.
pub type HubAddr = Arc<Addr<HubActor>>;

impl Actor for HubActor {
    type Context = Context<Self>;
}

/// There are sessions to be looked after, from now on until there are none.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LookAfterSessions;

impl Handler<LookAfterSessions> for HubActor {
    type Result = ();

    fn handle(&mut self, _: LookAfterSessions, ctx: &mut Self::Context) {
        let settings = &self.0.shared.settings;
        let shortest_ms = settings.heartbeat_ms.min(settings.session_timeout_ms);
        let tick_ms = (shortest_ms / 4).clamp(50, 1000);
        ctx.run_later(Duration::from_millis(tick_ms), move |actor, ctx| {
            actor.0.look_after_sessions(tick_ms);
            if actor.0.conns.borrow().is_empty() {
                actor.0.looks_after_sessions.set(false);
            } else {
                ctx.notify(LookAfterSessions);
            }
        });
    }
}

/// Records that became visible, for every follower on this thread, and outcomes for its publishers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Committed {
    /// The partition.
    pub part: Arc<PartitionRef>,
    /// The offset after its newest visible record.
    pub end: Offset,
    /// The records; without them the followers read up to `end` themselves.
    pub delivery: Option<Delivery>,
    /// For the publishers.
    pub receipts: Vec<Settled>,
}

/// Committed records as finished bytes, one buffer a subprotocol.
#[derive(Clone)]
pub struct Delivery {
    /// The first offset and the one after the last; none for records that are not stored.
    pub range: Option<(Offset, Offset)>,
    /// How many records.
    pub count: u64,
    /// For `callboard.v1.json`.
    pub json: Option<Bytes>,
    /// For `callboard.v1.ndjson`.
    pub ndjson: Option<Bytes>,
}

impl Delivery {
    /// The bytes for a subprotocol; none if its first follower joined after they were made.
    pub fn bytes(&self, format: Format) -> Option<&Bytes> {
        match format {
            Format::Json => self.json.as_ref(),
            Format::Ndjson => self.ndjson.as_ref(),
        }
    }
}

impl Handler<Committed> for HubActor {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        self.0.committed(committed);
    }
}

/// Outcomes for publishers of this thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settle(pub Vec<Settled>);

impl Handler<Settle> for HubActor {
    type Result = ();

    fn handle(&mut self, Settle(receipts): Settle, _: &mut Self::Context) {
        for settled in receipts {
            self.0.settle(settled);
        }
    }
}

impl Handler<HearTold> for HubActor {
    type Result = ();

    fn handle(&mut self, HearTold(told): HearTold, _: &mut Self::Context) {
        told.hear();
    }
}

/// Everything that was in the mailbox before is done: its answers go out.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SendAnswers;

impl Handler<SendAnswers> for HubActor {
    type Result = ();

    fn handle(&mut self, _: SendAnswers, _: &mut Self::Context) {
        self.0.send_answers();
    }
}

impl Handler<GiveNotice> for HubActor {
    type Result = ();

    fn handle(&mut self, GiveNotice { conn, bytes }: GiveNotice, _: &mut Self::Context) {
        if let Some(conn) = self.0.conn(conn) {
            conn.push(bytes);
            self.0.close_if_settled(&conn);
        }
    }
}

impl Handler<GroupNews> for HubActor {
    type Result = ();

    fn handle(&mut self, GroupNews(news): GroupNews, _: &mut Self::Context) {
        for news in news {
            self.0.group_news(news);
        }
    }
}

impl Handler<GroupRestarted> for HubActor {
    type Result = ();

    fn handle(&mut self, GroupRestarted(group): GroupRestarted, _: &mut Self::Context) {
        self.0.group_restarted(&group);
    }
}

impl Handler<GroupEnded> for HubActor {
    type Result = ();

    fn handle(&mut self, GroupEnded(group, reason): GroupEnded, _: &mut Self::Context) {
        self.0.group_ended(&group, reason);
    }
}

/// A topic can be used from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicOpened(pub Arc<Topic>);

impl Handler<TopicOpened> for HubActor {
    type Result = ();

    fn handle(&mut self, TopicOpened(topic): TopicOpened, _: &mut Self::Context) {
        self.0.topic_opened(&topic);
    }
}

/// A topic has more partitions, or one of them a new actor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicChanged(pub Arc<Topic>);

impl Handler<TopicChanged> for HubActor {
    type Result = ();

    fn handle(&mut self, TopicChanged(topic): TopicChanged, _: &mut Self::Context) {
        self.0.topic_changed(&topic);
    }
}

/// A topic was deleted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicClosed(pub Arc<Topic>);

impl Handler<TopicClosed> for HubActor {
    type Result = ();

    fn handle(&mut self, TopicClosed(topic): TopicClosed, _: &mut Self::Context) {
        self.0.topic_closed(&topic);
    }
}

impl Handler<ListSessions> for HubActor {
    type Result = Vec<SessionInfo>;

    fn handle(&mut self, _: ListSessions, _: &mut Self::Context) -> Self::Result {
        self.0.conns().iter().map(|conn| conn.describe()).collect()
    }
}

impl Handler<Disconnect> for HubActor {
    type Result = bool;

    fn handle(&mut self, Disconnect(session): Disconnect, _: &mut Self::Context) -> Self::Result {
        let found = self
            .0
            .conns()
            .into_iter()
            .find(|conn| conn.session.to_string() == session);
        if let Some(conn) = &found {
            conn.has_left.set(true);
            conn.close(CLOSE_POLICY, "disconnected by an administrator");
        }
        found.is_some()
    }
}

impl Handler<CountSessions> for HubActor {
    type Result = usize;

    fn handle(&mut self, _: CountSessions, _: &mut Self::Context) -> Self::Result {
        self.0.conns.borrow().len()
    }
}

impl Handler<Goodbye> for HubActor {
    type Result = ();

    fn handle(&mut self, _: Goodbye, _: &mut Self::Context) {
        self.0.said_goodbye.set(true);
        for conn in self.0.conns() {
            self.0.say_goodbye(&conn);
        }
        for feed in self.0.feeds.borrow().values() {
            feed.listeners.wake(None);
        }
    }
}

/// What a hub and its thread still hold.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, actix::MessageResponse)]
pub struct Census {
    pub conns: usize,
    /// Those whose sockets hold small messages back.
    pub conns_holding_back: usize,
    feeds: usize,
    patterns: usize,
    /// As the hub counts them.
    pub in_flight_bytes: usize,
    /// Connections in memory, whoever holds them.
    conns_in_memory: usize,
}

#[cfg(test)]
impl Census {
    /// The sum of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            conns: self.conns + other.conns,
            conns_holding_back: self.conns_holding_back + other.conns_holding_back,
            feeds: self.feeds + other.feeds,
            patterns: self.patterns + other.patterns,
            in_flight_bytes: self.in_flight_bytes + other.in_flight_bytes,
            conns_in_memory: self.conns_in_memory + other.conns_in_memory,
        }
    }
}

/// Asks for the [`Census`].
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "Census")]
pub struct TakeCensus;

#[cfg(test)]
impl Handler<TakeCensus> for HubActor {
    type Result = Census;

    fn handle(&mut self, _: TakeCensus, _: &mut Self::Context) -> Self::Result {
        Census {
            conns: self.0.conns.borrow().len(),
            conns_holding_back: self.0.conns().iter().filter(|conn| conn.holds_back()).count(),
            feeds: self.0.feeds.borrow().len(),
            patterns: self.0.patterns.borrow().count(),
            in_flight_bytes: self.0.in_flight_bytes.get(),
            conns_in_memory: crate::actors::conn::IN_MEMORY.get(),
        }
    }
}
