//! Subscriptions that follow partitions: a plain subscriber gets every record, a member of a partitioned
//! group those of the partitions that it is assigned.
//!
//! Owns how a subscriber that is behind reads on from the log until it is live again. Lives on one worker
//! thread, beside the hub that pushes to those who are live. A slow subscriber costs nobody else anything:
//! it reads when its own outbox has room, from memory or on a reader thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callboard_core::{
    patterns::PatternId,
    record::Batch,
    subscription::{Offer, Overflow, Subscription, conflate},
};
use callboard_protocol::{
    Offset, PartitionId, Timestamp,
    name::{GroupName, Pattern},
    server::{MessagePrefix, ServerFrame},
};

use super::{
    clock,
    conn::{Conn, Phase},
    directory::{PartitionRef, Topic, subscribers::Subscriber},
    hub::{Delivery, Feed, Hub},
    member::Outstanding,
    wire::{self, Format},
};
use crate::store::{GapReason, Page, StoreError};

/// About how much is read for a subscriber at once.
const PAGE_BYTES: usize = 128 << 10;
/// About how much of its backlog a conflating subscriber is read at once.
const CONFLATE_BYTES: usize = 4 << 20;
/// What one session is given from its backlog before the others of its thread have their turn.
const TURN_BYTES: u64 = 1 << 20;
/// How long to wait before a log that could not be read is tried again.
const READ_RETRY: Duration = Duration::from_secs(1);

/// One subscription of a session: to a topic, or to every topic that matches a pattern.
pub struct Following {
    /// The topic's name or the pattern, as the client wrote it.
    pub target: Box<str>,
    /// The pattern, if it is one.
    pub pattern: Option<Pattern>,
    /// Its place in the hub, from when it is told of topics to come.
    pub pattern_id: Cell<Option<PatternId>>,
    /// What happens when the client is slower than the topic.
    pub overflow: Overflow,
    /// Records that may still be given over all partitions.
    pub credit: Cell<Option<u64>>,
    /// The group, if it is a member's; such a one always reads from the log.
    pub group: Option<Workplace>,
    /// Its partitions.
    pub parts: RefCell<Vec<Rc<PlainSubscription>>>,
    /// Counts it among the topic's subscribers until it ends, if it names a topic.
    pub subscriber: RefCell<Option<Subscriber>>,
    /// Whose it is.
    pub conn: Rc<Conn>,
    /// Ended; nothing more is sent.
    pub ended: Cell<bool>,
}

/// What the partitions of a member of a group have in common.
pub struct Workplace {
    /// The group.
    pub name: GroupName,
    /// How many records the member has been given and has not committed; the group shows it.
    pub out: Arc<AtomicU64>,
}

/// A subscription on one partition.
pub struct PlainSubscription {
    /// The subscription it is part of.
    pub following: Rc<Following>,
    /// The partition as this thread's hub follows it.
    pub feed: Rc<Feed>,
    state: RefCell<Subscription>,
    /// What a member of a group has been given and not committed, and the begin of its messages.
    share: Option<Box<Share>>,
    /// In the connection's queue of those that have more to read.
    queued: Cell<bool>,
    /// A read is under way on a reader thread.
    reading: Cell<bool>,
    /// No longer part of its subscription.
    detached: Cell<bool>,
    /// Was live and could not take a batch: this is when skip and conflate apply.
    overflowed: Cell<bool>,
}

/// One partition of a member of a partitioned group.
struct Share {
    prefix: MessagePrefix,
    out: RefCell<Outstanding>,
}

/// What a subscriber did with a committed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was sent the records.
    Pushed,
    /// It has to read them from the log.
    MustRead,
    /// It has them already, or there is nothing to read again.
    Left,
}

/// What a step of catching up came to.
enum Step {
    /// There may be more to do at once.
    Again,
    /// Live, ended, or waiting for credit or for a read.
    Rest,
}

impl PlainSubscription {
    /// A subscription that gets `from` first.
    pub fn new(following: Rc<Following>, feed: Rc<Feed>, from: Offset) -> Self {
        let mut state = Subscription::new(from, following.overflow, following.credit.get());
        if from >= feed.end.get() {
            state.advance(from, 0, feed.end.get());
        }
        let share = following.group.as_ref().map(|group| {
            Box::new(Share {
                prefix: MessagePrefix::for_group(&feed.topic.name, &group.name, feed.part.id),
                out: RefCell::default(),
            })
        });
        Self {
            following,
            feed,
            state: RefCell::new(state),
            share,
            queued: Cell::new(false),
            reading: Cell::new(false),
            detached: Cell::new(false),
            overflowed: Cell::new(false),
        }
    }

    fn conn(&self) -> &Conn {
        &self.following.conn
    }

    fn format(&self) -> Format {
        self.conn().format
    }

    /// Whether it takes batches as they come.
    pub fn is_live(&self) -> bool {
        self.state.borrow().is_live()
    }

    /// Runs `change` on the state with the credit that all partitions share.
    fn with_credit<T>(&self, change: impl FnOnce(&mut Subscription) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let shared = self.following.credit.get();
        if shared.is_some() {
            state.set_credit(shared);
        }
        let outcome = change(&mut state);
        if shared.is_some() {
            self.following.credit.set(state.credit_left());
        }
        outcome
    }

    /// Gives it a committed batch, if it takes it now.
    pub fn offer(&self, delivery: &Delivery) -> Taken {
        let conn = self.conn();
        let bytes = delivery.bytes(self.format()).filter(|_| self.share.is_none());
        let Some(bytes) = bytes else {
            // A group's messages are its own, or the partition did not know of this subprotocol's first
            // follower yet.
            let must_read = delivery.range.is_some_and(|(_, next)| self.notice_end(next));
            return if must_read { Taken::MustRead } else { Taken::Left };
        };
        let Some((base, next)) = delivery.range else {
            if self.is_live() && conn.has_room() && self.spend_transient(delivery.count) {
                conn.push(bytes.clone());
            }
            return Taken::Left;
        };
        let was_live = self.is_live();
        match self.with_credit(|state| state.offer(base, next, delivery.count, conn.has_room())) {
            Offer::Push => {
                conn.push(bytes.clone());
                Taken::Pushed
            }
            Offer::Behind => {
                if was_live {
                    self.overflowed.set(true);
                }
                Taken::MustRead
            }
            Offer::Ignore => Taken::Left,
        }
    }

    fn spend_transient(&self, count: u64) -> bool {
        match self.following.credit.get() {
            None => true,
            Some(credit) if credit >= count => {
                self.following.credit.set(Some(credit - count));
                true
            }
            Some(_) => false,
        }
    }

    /// The partition's end moved on without a batch: it has to read (true) if it has not got that far.
    pub fn notice_end(&self, end: Offset) -> bool {
        let mut state = self.state.borrow_mut();
        state.notice_end(end);
        !state.is_live()
    }

    /// Puts it into its connection's queue of those that have more to read.
    pub fn enqueue(self: &Rc<Self>) {
        if !self.queued.get() && !self.reading.get() && !self.has_ended() {
            self.queued.set(true);
            self.conn().behind.borrow_mut().push_back(self.clone());
        }
    }

    fn has_ended(&self) -> bool {
        self.detached.get() || self.following.ended.get()
    }

    /// One step of catching up.
    fn step(self: &Rc<Self>, hub: &Rc<Hub>) -> Step {
        if self.feed.topic.is_deleted() {
            // A pattern goes on without it; its log may fail for ever.
            return Step::Rest;
        }
        let end = self.feed.end.get();
        let mut next = self.state.borrow().next();
        if next >= end {
            self.state.borrow_mut().advance(next, 0, end);
            self.overflowed.set(false);
            return Step::Rest;
        }
        if self.following.credit.get() == Some(0) {
            return Step::Rest;
        }
        if self.overflowed.get() && self.following.overflow == Overflow::Skip {
            // The newest record is given, so that a topic that falls silent is not left at an old one.
            let newest = Offset(end.0 - 1);
            let count = self.state.borrow_mut().skip_to(newest);
            self.skipped(count, newest, "overflow");
            // Read at once, and skipped again if more comes before it is live: what came after a jump
            // is not history that it asked for.
            next = newest;
        }
        let Some(log) = self.feed.part.log() else {
            return Step::Rest;
        };
        let bytes_max = if self.is_conflating() {
            CONFLATE_BYTES
        } else {
            PAGE_BYTES
        };
        if let Some(page) = log.read_cached(next, bytes_max) {
            return self.give(&page);
        }
        self.reading.set(true);
        self.conn().is_reading.set(true);
        let page = hub.shared.readers.run(move || log.read(next, bytes_max));
        let (subscription, hub) = (self.clone(), hub.clone());
        actix_rt::spawn(async move {
            let page = page.await;
            subscription.read_done(page.ok(), &hub).await;
        });
        Step::Rest
    }

    async fn read_done(self: Rc<Self>, page: Option<Result<Page, StoreError>>, hub: &Rc<Hub>) {
        self.conn().is_reading.set(false);
        if !matches!(page, Some(Ok(_))) {
            // What else the session follows does not wait until this is tried again.
            pump(self.conn(), hub);
        }
        match page {
            Some(Ok(page)) if !self.has_ended() => {
                self.give(&page);
            }
            Some(Ok(_)) => {}
            Some(Err(StoreError::Closed | StoreError::ShuttingDown)) => return,
            Some(Err(error)) => {
                log::error!("reading {:?} for a subscriber: {error}", self.feed.part.key);
                tokio::time::sleep(READ_RETRY).await;
            }
            None => tokio::time::sleep(READ_RETRY).await,
        }
        self.reading.set(false);
        self.enqueue();
        pump(self.conn(), hub);
    }

    fn is_conflating(&self) -> bool {
        self.overflowed.get() && self.following.overflow == Overflow::Conflate
    }

    /// Sends what was read and moves on.
    fn give(&self, page: &Page) -> Step {
        let end = self.feed.end.get();
        let before = self.state.borrow().next();
        if let Some(gap) = page.gap {
            let reason = match gap.reason {
                GapReason::Retention => Some("retention"),
                GapReason::Corrupt => Some("corrupt"),
                // Whoever gave them a time to live wanted it so.
                GapReason::Expired => None,
            };
            if let Some(reason) = reason {
                self.skipped(gap.next.since(before), gap.next, reason);
            }
            self.state.borrow_mut().advance(gap.next, 0, end);
        }
        if self.is_conflating() {
            self.give_newest(&page.batches, end);
        } else {
            let limit = self.following.credit.get().unwrap_or(u64::MAX);
            let prefix = self
                .share
                .as_ref()
                .map_or(&self.feed.part.prefix, |share| &share.prefix);
            let now = clock::now();
            let encoded = wire::encode_batches(prefix, &page.batches, self.format(), now, limit);
            if let Some(share) = &self.share {
                // Behind a gap: what is not there takes no credit, and a commit frees none for it.
                let given = (self.next(), encoded.next_offset);
                share.out.borrow_mut().given(given, encoded.count);
                self.following.count_out(encoded.count);
            }
            if encoded.next_offset > before {
                self.with_credit(|state| state.advance(encoded.next_offset, encoded.count, end));
            }
            self.conn().push(encoded.bytes);
            self.tell_sent(&page.batches, now, encoded.next_offset);
        }
        if self.state.borrow().next() == before {
            // Nothing to be had although the end lies further on; the next commit brings it back.
            log::warn!("nothing could be read at {before} of {:?}", self.feed.part.key);
            return Step::Rest;
        }
        Step::Again
    }

    /// Sends the newest record of each key of what was read, and says how many were left out.
    fn give_newest(&self, batches: &[Batch], end: Offset) {
        let Some(last) = batches.last() else { return };
        let credit = self.following.credit.get().unwrap_or(u64::MAX);
        let newest = conflate(batches);
        let mut chosen: Vec<Batch> = newest
            .into_iter()
            .map(|(batch, offset, range)| Batch {
                base_offset: offset,
                timestamp: batches[batch].timestamp,
                count: 1,
                records: batches[batch].records.slice(range),
            })
            .collect();
        // What the credit does not reach is left out too: only the newest counts.
        let surplus = (chosen.len() as u64).saturating_sub(credit) as usize;
        chosen.drain(..surplus);
        let total: u64 = batches.iter().map(|batch| u64::from(batch.count)).sum();
        let next = last.next_offset();
        let left_out = total - chosen.len() as u64;
        if left_out > 0 {
            let resumes_at = chosen.first().map_or(next, |batch| batch.base_offset);
            self.skipped(left_out, resumes_at, "overflow");
        }
        let prefix = &self.feed.part.prefix;
        let now = clock::now();
        let encoded = wire::encode_batches(prefix, &chosen, self.format(), now, u64::MAX);
        self.with_credit(|state| state.advance(next, encoded.count, end));
        self.conn().push(encoded.bytes);
        self.tell_sent(&chosen, now, encoded.next_offset);
    }

    /// Says to the partition which records of `batches` before `next` went out, if anybody waits to hear it.
    fn tell_sent(&self, batches: &[Batch], now: Timestamp, next: Offset) {
        let part = &self.feed.part;
        // A connection that died while this was read has taken nothing.
        if part.waits.delivered() > 0 && self.conn().phase() == Phase::Open {
            wire::sent_runs(batches, now, next, |from, next| part.tell_sent(from, next));
        }
    }

    /// The offset that it gets next.
    pub fn next(&self) -> Offset {
        self.state.borrow().next()
    }

    /// What a member was given and has not committed.
    pub fn outstanding(&self) -> Option<std::cell::RefMut<'_, Outstanding>> {
        self.share.as_ref().map(|share| share.out.borrow_mut())
    }

    /// Whether it is a member's.
    pub fn is_share(&self) -> bool {
        self.share.is_some()
    }

    fn skipped(&self, count: u64, next_offset: Offset, reason: &str) {
        if count > 0 {
            let frame = ServerFrame::Skipped {
                topic: &self.feed.topic.name,
                partition: self.feed.part.id,
                count,
                next_offset,
                reason,
            };
            self.conn().reply(|buffer| frame.push(buffer));
        }
    }
}

/// Lets the subscriptions of a connection that are behind read, in turn, while its outbox has room.
///
/// A socket that takes everything from a long log in memory would keep the thread for itself, so after
/// [`TURN_BYTES`] the other sessions of the thread have theirs.
pub fn pump(conn: &Conn, hub: &Rc<Hub>) {
    let sent_before = conn.sent_bytes.get();
    while conn.has_drained() && !conn.is_reading.get() && !conn.is_resting.get() {
        let Some(subscription) = conn.behind.borrow_mut().pop_front() else {
            return;
        };
        subscription.queued.set(false);
        if subscription.has_ended() || subscription.reading.get() {
            continue;
        }
        if let Step::Again = subscription.step(hub) {
            subscription.enqueue();
            if conn.sent_bytes.get() - sent_before >= TURN_BYTES {
                rest(subscription.following.conn.clone(), hub.clone());
            }
        }
    }
}

/// Goes on when every other task of the thread that is ready has had its turn.
fn rest(conn: Rc<Conn>, hub: Rc<Hub>) {
    conn.is_resting.set(true);
    actix_rt::spawn(async move {
        tokio::task::yield_now().await;
        conn.is_resting.set(false);
        pump(&conn, &hub);
    });
}

impl Following {
    /// Follows one partition from an offset on.
    pub fn attach(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        topic: &Arc<Topic>,
        part: &Arc<PartitionRef>,
        from: Offset,
    ) {
        let feed = hub.feed(topic, part);
        let subscription = Rc::new(PlainSubscription::new(self.clone(), feed.clone(), from));
        self.parts.borrow_mut().push(subscription.clone());
        feed.join(hub, &subscription);
        if !subscription.is_live() {
            subscription.enqueue();
        }
    }

    /// Allows so many records more.
    pub fn add_credit(&self, add: u64, hub: &Rc<Hub>) {
        let Some(credit) = self.credit.get() else { return };
        self.credit.set(Some(credit.saturating_add(add)));
        for subscription in self.parts.borrow().iter() {
            if !subscription.is_live() {
                subscription.enqueue();
            }
        }
        pump(&self.conn, hub);
    }

    fn count_out(&self, given: u64) {
        if let Some(workplace) = &self.group {
            workplace.out.fetch_add(given, Ordering::Relaxed);
        }
    }

    /// So many records that a member was given are no longer out, and others may take their place.
    pub fn free(&self, count: u64, hub: &Rc<Hub>) {
        if let Some(workplace) = &self.group {
            workplace.out.fetch_sub(count, Ordering::Relaxed);
        }
        self.add_credit(count, hub);
    }

    /// Ends it: nothing more is sent.
    pub fn end(&self, hub: &Rc<Hub>) {
        self.ended.set(true);
        self.subscriber.take();
        for subscription in self.parts.borrow_mut().drain(..) {
            subscription.feed.leave(hub, &subscription);
        }
    }

    /// Ends one partition of it; returns what it was.
    pub fn detach(&self, hub: &Hub, partition: PartitionId) -> Option<Rc<PlainSubscription>> {
        let mut parts = self.parts.borrow_mut();
        let index = parts.iter().position(|known| known.feed.part.id == partition)?;
        let subscription = parts.swap_remove(index);
        drop(parts);
        subscription.detached.set(true);
        subscription.feed.leave(hub, &subscription);
        Some(subscription)
    }

    /// How many of its partitions read from the log because the client is slower.
    pub fn behind_count(&self) -> usize {
        self.parts
            .borrow()
            .iter()
            .filter(|subscription| !subscription.is_live())
            .count()
    }

    /// Whether a partition is followed already.
    pub fn follows(&self, part: &PartitionRef) -> bool {
        self.parts
            .borrow()
            .iter()
            .any(|subscription| subscription.feed.part.key == part.key)
    }
}
