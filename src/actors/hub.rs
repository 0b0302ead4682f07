//! The hub: one a worker thread. It takes a delivery once and hands it to that thread's sessions.
//!
//! Owns the thread's connections and, for each partition that any of them follows, the list of followers.
//! [`Hub`] is shared on its thread; [`HubActor`] is its mailbox for the other threads. Partitions send
//! [`Committed`], the broker sends what happens to topics. A push costs a session one reference to a shared
//! buffer and, if its socket takes it, one write.

mod feed;
mod mailbox;

pub use feed::Feed;
#[cfg(test)]
pub use mailbox::{Census, TakeCensus};
pub use mailbox::{Committed, Delivery, HubActor, HubAddr, Settle, TopicChanged, TopicClosed, TopicOpened};

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use actix::prelude::*;
use bytes::Bytes;
use callboard_core::patterns::Patterns;
use callboard_protocol::{
    Offset,
    server::{self, FollowedTopic, RecordResult, ServerFrame, Stored},
};
use mailbox::{LookAfterSessions, SendAnswers};

use super::{
    Shared,
    announce::Event,
    append::{ConnId, Settled, Settlement, Slot, spare},
    conn::{Conn, IN_FLIGHT_BYTES_MAX, Phase},
    directory::{PartitionRef, Topic},
    events::Listeners,
    plain::{Following, Taken, pump},
    wire::FrameBuffer,
};
use crate::store::PartitionKey;

/// Deliveries that may wait in a hub's mailbox; a partition that finds it full lets the hub read instead.
const MAILBOX_DELIVERIES_MAX: usize = 4096;
const CLOSE_GOING_AWAY: u16 = 1001;
/// About how long a `published` is.
const PUBLISHED_BYTES: usize = 110;
/// How long a peer may take to answer a Close.
const CLOSE_TIME_MS: u64 = 2_000;
/// Records of all sessions of a thread on their way to their partitions.
const IN_FLIGHT_BYTES_ALL_MAX: usize = 256 << 20;

/// What a worker thread shares among its sessions. Never crosses to another thread.
pub struct Hub {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The mailbox of this hub.
    pub addr: HubAddr,
    conns: RefCell<HashMap<ConnId, Rc<Conn>>>,
    conns_made: Cell<u64>,
    feeds: RefCell<HashMap<PartitionKey, Rc<Feed>>>,
    patterns: RefCell<Patterns<Rc<Following>>>,
    in_flight_bytes: Cell<usize>,
    /// The broker shuts down, and the sessions were told.
    said_goodbye: Cell<bool>,
    /// Sessions that are not read from until less is in flight.
    starved: RefCell<Vec<Rc<Conn>>>,
    /// Sessions whose answers go out when everything in the mailbox is done.
    answered: RefCell<Vec<Rc<Conn>>>,
    /// [`SendAnswers`] is in the mailbox already.
    has_answers: Cell<bool>,
    /// [`LookAfterSessions`] comes back by itself.
    looks_after_sessions: Cell<bool>,
}

impl Hub {
    fn new(shared: Arc<Shared>, addr: HubAddr) -> Self {
        Self {
            shared,
            addr,
            conns: RefCell::default(),
            conns_made: Cell::new(0),
            feeds: RefCell::default(),
            patterns: RefCell::default(),
            in_flight_bytes: Cell::new(0),
            said_goodbye: Cell::new(false),
            starved: RefCell::default(),
            answered: RefCell::default(),
            has_answers: Cell::new(false),
            looks_after_sessions: Cell::new(false),
        }
    }

    /// Starts a hub on this thread.
    pub fn start(shared: Arc<Shared>) -> Rc<Self> {
        let mut started = None;
        HubActor::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_DELIVERIES_MAX);
            let hub = Rc::new(Self::new(shared, Arc::new(ctx.address())));
            started = Some(hub.clone());
            HubActor(hub)
        });
        let hub = started.expect("create calls its closure before it returns");
        super::events::settle_on_thread(&hub);
        hub
    }

    /// A number for a new connection.
    pub fn next_conn_id(&self) -> ConnId {
        self.conns_made.set(self.conns_made.get() + 1);
        ConnId(self.conns_made.get())
    }

    /// Takes a connection in.
    pub fn add(&self, conn: Rc<Conn>) {
        self.shared.announce(Event::SessionJoined {
            session: conn.session.to_string(),
            remote: conn.remote.to_string(),
            client: conn.client.to_string(),
        });
        self.conns.borrow_mut().insert(conn.id, conn);
        if !self.looks_after_sessions.replace(true) {
            self.addr.do_send(LookAfterSessions);
        }
    }

    /// Whether the sessions were told that the broker shuts down; one that begins now must be as well.
    pub fn has_said_goodbye(&self) -> bool {
        self.said_goodbye.get()
    }

    /// Forgets a connection and ends what it follows.
    pub fn remove(self: &Rc<Self>, conn: &Rc<Conn>) {
        if self.conns.borrow_mut().remove(&conn.id).is_some() {
            let session = conn.session.to_string();
            self.shared.announce(Event::SessionLeft { session });
        }
        for following in conn.following.take() {
            self.end(&following);
        }
        self.leave_groups(conn);
        conn.behind.take();
        conn.waits.end();
        self.release(conn.in_flight_bytes.replace(0));
    }

    /// The connections of this thread.
    pub fn conns(&self) -> Vec<Rc<Conn>> {
        self.conns.borrow().values().cloned().collect()
    }

    /// Ends one subscription.
    pub fn end(self: &Rc<Self>, following: &Rc<Following>) {
        following.end(self);
        if let (Some(pattern), Some(id)) = (&following.pattern, following.pattern_id.take()) {
            self.patterns.borrow_mut().remove(pattern, id);
        }
    }

    /// Takes in a subscription that follows topics to come.
    pub fn add_pattern(&self, following: &Rc<Following>) {
        if let Some(pattern) = &following.pattern {
            let id = self.patterns.borrow_mut().insert(pattern, following.clone());
            following.pattern_id.set(Some(id));
        }
    }

    /// The feed of a partition, made if need be.
    pub fn feed(&self, topic: &Arc<Topic>, part: &Arc<PartitionRef>) -> Rc<Feed> {
        let make = || {
            Rc::new(Feed {
                topic: topic.clone(),
                part: part.clone(),
                end: Cell::new(part.next_offset()),
                followers: RefCell::default(),
                listeners: Listeners::default(),
                json: Cell::new(0),
                ndjson: Cell::new(0),
                shares: Cell::new(0),
            })
        };
        self.feeds
            .borrow_mut()
            .entry(part.key)
            .or_insert_with(make)
            .clone()
    }

    /// Drops a feed that nobody of this thread follows any more.
    pub(super) fn forget(&self, feed: &Feed) {
        self.feeds.borrow_mut().remove(&feed.part.key);
    }

    /// Counts records that a session sends on.
    pub fn hold(&self, conn: &Conn, bytes: usize) {
        conn.in_flight_bytes.set(conn.in_flight_bytes.get() + bytes);
        self.in_flight_bytes.set(self.in_flight_bytes.get() + bytes);
    }

    /// Bytes of a session that are no longer in flight.
    pub(super) fn released(&self, conn: &Rc<Conn>, bytes: usize) {
        let was_full = conn.in_flight_bytes.get() >= IN_FLIGHT_BYTES_MAX;
        conn.in_flight_bytes
            .set(conn.in_flight_bytes.get().saturating_sub(bytes));
        self.release(bytes);
        if was_full {
            conn.wake();
        }
    }

    fn release(&self, bytes: usize) {
        self.in_flight_bytes
            .set(self.in_flight_bytes.get().saturating_sub(bytes));
        if self.in_flight_bytes.get() < IN_FLIGHT_BYTES_ALL_MAX {
            for conn in self.starved.take() {
                conn.is_starved.set(false);
                conn.wake();
            }
        }
    }

    /// Whether a session may be read from; if not it is woken when it may.
    pub fn may_read(&self, conn: &Rc<Conn>) -> bool {
        if conn.phase() != Phase::Open {
            return true;
        }
        if conn.paused.get() || !conn.has_room() || conn.in_flight_bytes.get() >= IN_FLIGHT_BYTES_MAX {
            return false;
        }
        if self.in_flight_bytes.get() >= IN_FLIGHT_BYTES_ALL_MAX {
            // Once, however often its task looks.
            if !conn.is_starved.replace(true) {
                self.starved.borrow_mut().push(conn.clone());
            }
            return false;
        }
        true
    }

    fn committed(self: &Rc<Self>, committed: Committed) {
        let feed = self.feeds.borrow().get(&committed.part.key).cloned();
        if let Some(feed) = feed {
            let mut behind = Vec::new();
            let mut was_pushed = false;
            let followers = feed.followers.borrow();
            for follower in followers.iter() {
                let must_read = match &committed.delivery {
                    Some(delivery) => match follower.offer(delivery) {
                        Taken::Pushed => {
                            was_pushed = true;
                            false
                        }
                        Taken::MustRead => true,
                        Taken::Left => false,
                    },
                    None => follower.notice_end(committed.end),
                };
                if must_read {
                    behind.push(follower.clone());
                }
            }
            drop(followers);
            if was_pushed && let Some((from, next)) = committed.delivery.as_ref().and_then(|sent| sent.range)
            {
                committed.part.tell_sent(from, next);
            }
            feed.end.set(feed.end.get().max(committed.end));
            feed.listeners.wake(committed.delivery.as_ref());
            for follower in behind {
                follower.enqueue();
                pump(&follower.following.conn, self);
            }
        }
        for settled in committed.receipts {
            self.settle(settled);
        }
    }

    fn settle(&self, settled: Settled) {
        let Some(conn) = self.conns.borrow().get(&settled.conn).cloned() else {
            return; // Its bytes were released when it went.
        };
        self.released(&conn, settled.released_bytes);
        conn.waits.release(settled.released);
        let answered = settled.replies.iter().filter(|reply| !reply.silent).count();
        let mut frames = FrameBuffer::new(conn.format, answered * PUBLISHED_BYTES);
        let prefix = &settled.part.prefix;
        for (index, reply) in settled.replies.iter().enumerate() {
            let part = &settled.part;
            if let (Settlement::AllStored { base, durability }, Slot::Alone) =
                (&settled.settlement, reply.slot)
            {
                // What nearly all publishes come to.
                if let Some(id) = reply.id.as_ref().filter(|_| !reply.silent) {
                    let stored = Stored {
                        offset: base.plus(index as u64),
                        duplicate: false,
                        durability,
                    };
                    frames.frame(|buffer| prefix.published(buffer, id, &stored));
                }
                continue;
            }
            let outcome = settled.settlement.outcome(index, part.id);
            match reply.slot {
                Slot::Alone => {}
                Slot::Part { pending, index } => {
                    conn.take_outcome(pending, |known| known.record(index, outcome, &mut frames));
                    continue;
                }
                Slot::Route {
                    pending,
                    record,
                    route,
                } => {
                    conn.take_outcome(pending, |known| {
                        known.route((record, route), outcome, &mut frames)
                    });
                    continue;
                }
            }
            let id = reply.id.as_ref();
            match (outcome, id) {
                (RecordResult::Refused(refusal), id) => {
                    frames.frame(|buffer| server::error(buffer, id, &refusal, None));
                }
                _ if reply.silent => {}
                (RecordResult::Stored(_, stored), Some(id)) => {
                    frames.frame(|buffer| prefix.published(buffer, id, &stored));
                }
                (RecordResult::Processed(_, stored, result), Some(id)) => {
                    frames.frame(|buffer| prefix.published_result(buffer, id, &stored, &result));
                }
                (RecordResult::Passed(_), Some(id)) => {
                    frames.frame(|buffer| server::passed(buffer, Some(id), &part.topic, part.id));
                }
                (RecordResult::Scheduled(scheduled), Some(id)) => {
                    frames.frame(|buffer| server::scheduled(buffer, Some(id), &part.topic, &scheduled));
                }
                (_, None) => {}
            }
        }
        self.answer(&conn, frames.finish());
        spare::take_back(settled.replies);
        self.close_if_settled(&conn);
    }

    /// Answers a session together with what else is in the mailbox for it: the answers of one flush come
    /// from each partition that was in it, and one write for all costs a fraction.
    pub(super) fn answer(&self, conn: &Rc<Conn>, bytes: Bytes) {
        if conn.push_soon(bytes) {
            self.answered.borrow_mut().push(conn.clone());
        }
        if !self.answered.borrow().is_empty() && !self.has_answers.replace(true) {
            self.addr.do_send(SendAnswers);
        }
    }

    fn send_answers(&self) {
        self.has_answers.set(false);
        for conn in self.answered.take() {
            conn.flush_soon();
        }
    }

    /// Tells a session that the broker shuts down.
    pub fn say_goodbye(&self, conn: &Conn) {
        conn.reply(|buffer| ServerFrame::goaway_shutdown().push(buffer));
        self.close_if_settled(conn);
    }

    /// The connection of this number, if it is still there.
    pub(super) fn conn(&self, id: ConnId) -> Option<Rc<Conn>> {
        self.conns.borrow().get(&id).cloned()
    }

    /// Closes a session when the broker shuts down, but not before its publishes are answered.
    pub(super) fn close_if_settled(&self, conn: &Conn) {
        if self.said_goodbye.get() && conn.in_flight_bytes.get() == 0 && conn.waits.is_idle() {
            conn.close(CLOSE_GOING_AWAY, "shutting down");
        }
    }

    fn topic_opened(self: &Rc<Self>, topic: &Arc<Topic>) {
        let followings = self.patterns.borrow().matching(&topic.name);
        for following in followings {
            self.follow_new_parts(&following, topic);
        }
    }

    /// Announces partitions that came after the subscription, and follows them from their first record.
    pub fn follow_new_parts(self: &Rc<Self>, following: &Rc<Following>, topic: &Arc<Topic>) {
        let parts = topic.partitions();
        let new: Vec<_> = parts.iter().filter(|part| !following.follows(part)).collect();
        if new.is_empty() || following.ended.get() {
            return;
        }
        let first = |part: &PartitionRef| part.log().map_or(Offset::ZERO, |log| log.first_offset());
        let offsets: server::Offsets = new.iter().map(|part| (part.id, first(part))).collect();
        let frame_bytes = |buffer: &mut Vec<u8>| {
            if following.pattern.is_some() {
                let followed = FollowedTopic {
                    epoch: topic.epoch.clone(),
                    offsets: offsets.clone(),
                    recovered: None,
                };
                let topics = BTreeMap::from([(topic.name.clone(), followed)]);
                ServerFrame::SubscribedPattern {
                    id: None,
                    topic: &following.target,
                    topics: &topics,
                }
                .push(buffer);
            } else {
                let (name, epoch) = (&topic.name, &topic.epoch);
                ServerFrame::SubscribedTopic {
                    id: None,
                    topic: name,
                    epoch,
                    offsets: &offsets,
                    recovered: true,
                }
                .push(buffer);
            }
        };
        for part in new {
            let from = offsets.get(&part.id).copied().unwrap_or_default();
            following.attach(self, topic, part, from);
        }
        following.conn.reply(frame_bytes);
        pump(&following.conn, self);
    }

    fn topic_changed(self: &Rc<Self>, topic: &Arc<Topic>) {
        let mut followings: Vec<Rc<Following>> = Vec::new();
        for part in topic.partitions().iter() {
            let feed = self.feeds.borrow().get(&part.key).cloned();
            let Some(feed) = feed else { continue };
            // Its actor may be a new one that knows nobody.
            feed.watch(self);
            feed.listeners.wake(None);
            for follower in feed.followers.borrow().iter().filter(|known| !known.is_share()) {
                if !followings
                    .iter()
                    .any(|known| Rc::ptr_eq(known, &follower.following))
                {
                    followings.push(follower.following.clone());
                }
            }
        }
        for following in followings {
            self.follow_new_parts(&following, topic);
        }
    }

    fn topic_closed(self: &Rc<Self>, topic: &Arc<Topic>) {
        for part in topic.partitions().iter() {
            let feed = self.feeds.borrow_mut().remove(&part.key);
            let Some(feed) = feed else { continue };
            feed.listeners.wake(None);
            for follower in feed.followers.take() {
                let following = &follower.following;
                following
                    .parts
                    .borrow_mut()
                    .retain(|known| !Rc::ptr_eq(known, &follower));
                // A group says so itself to its members.
                if following.pattern.is_none() && following.group.is_none() && !following.ended.get() {
                    self.end(following);
                    following
                        .conn
                        .following
                        .borrow_mut()
                        .retain(|known| !Rc::ptr_eq(known, following));
                    let name = topic.name.as_str();
                    following.conn.reply(|buffer| {
                        ServerFrame::Unsubscribed {
                            topic: name,
                            group: None,
                            reason: "topic_deleted",
                        }
                        .push(buffer);
                    });
                }
            }
        }
    }

    /// Pings who is quiet and gives up who is dead. Called once every `tick_ms`.
    ///
    /// Time is counted in these calls and not by a clock: a machine that slept, or stood still under load,
    /// must not take its sessions for dead before it has pinged them.
    fn look_after_sessions(self: &Rc<Self>, tick_ms: u64) {
        let settings = &self.shared.settings;
        for conn in self.conns() {
            self.look_after_members(&conn, tick_ms);
            if conn.is_active.replace(false) {
                conn.quiet_ms.set(0);
                conn.unpinged_ms.set(0);
                continue;
            }
            conn.quiet_ms.set(conn.quiet_ms.get() + tick_ms);
            conn.unpinged_ms.set(conn.unpinged_ms.get() + tick_ms);
            let is_closing = conn.phase() == Phase::Closing;
            if conn.quiet_ms.get() >= settings.session_timeout_ms
                || (is_closing && conn.quiet_ms.get() >= CLOSE_TIME_MS)
            {
                conn.die();
            } else if conn.unpinged_ms.get() >= settings.heartbeat_ms {
                conn.unpinged_ms.set(0);
                conn.ping();
            }
        }
    }
}
