//! Event streams: a reader of one topic that follows it from the log at its own pace.
//!
//! Owns where each stream is and when it is woken. A partition sends it nothing but the news that its end
//! moved (and the few records that are never stored), so a slow reader costs nobody else anything: it holds
//! one chunk, and asks for the next when its socket took that. Lives on one worker thread; the web pulls.

mod position;
mod text;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use callboard_protocol::{
    ErrorCode, Offset, client::From, client::Resume, error::Refusal, limits::RETRY_AFTER_MS,
};
use tokio::sync::Notify;

pub use self::position::Position;
use super::{
    clock,
    directory::{PartitionRef, Topic, subscribers::Subscriber},
    hub::{Delivery, Feed, Hub},
    pages::{self, Starts},
};
use crate::store::{GapReason, Page, StoreError};

/// About how much is read for a stream at once.
const PAGE_BYTES: usize = 64 << 10;
/// How long to wait before a log that could not be read is tried again.
const READ_RETRY: Duration = Duration::from_secs(1);
/// Deliveries of records that are not stored, which wait for a stream; more are lost to it.
const LIVE_DELIVERIES_MAX: usize = 64;

thread_local! {
    static HUB: RefCell<Weak<Hub>> = const { RefCell::new(Weak::new()) };
}

/// Makes `hub` the one that requests on this thread find.
pub(super) fn settle_on_thread(hub: &Rc<Hub>) {
    HUB.set(Rc::downgrade(hub));
}

/// The hub of the worker thread that this is called on.
///
/// # Errors
/// `overloaded` where there is none yet.
pub fn hub_of_this_thread() -> Result<Rc<Hub>, Refusal> {
    let hub = HUB.with_borrow(Weak::upgrade);
    hub.ok_or_else(|| Refusal::new(ErrorCode::Overloaded, "the broker is starting"))
}

/// The streams that follow one partition on one thread.
#[derive(Default)]
pub struct Listeners(RefCell<Vec<Rc<Wake>>>);

impl Listeners {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Something happened to the partition; hands over what is not stored, because no log has it.
    pub(super) fn wake(&self, delivery: Option<&Delivery>) {
        for wake in self.0.borrow().iter() {
            if let Some(Delivery {
                range: None,
                json: Some(json),
                ..
            }) = delivery
            {
                wake.pass_on(json);
            }
            wake.notify.notify_one();
        }
    }
}

/// Wakes one stream.
#[derive(Default)]
struct Wake {
    notify: Notify,
    live: RefCell<VecDeque<Bytes>>,
}

impl Wake {
    fn pass_on(&self, frames: &Bytes) {
        let mut live = self.live.borrow_mut();
        if live.len() < LIVE_DELIVERIES_MAX {
            live.push_back(frames.clone());
        }
    }
}

/// Where a stream begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// As a subscription would.
    From(From),
    /// Where an earlier stream was.
    At(Position),
}

/// One reader. Gives text in the format of `text/event-stream`, until its topic or the broker ends.
pub struct EventStream {
    hub: Rc<Hub>,
    topic: Arc<Topic>,
    /// Counts it among the topic's subscribers.
    _subscriber: Option<Subscriber>,
    parts: Vec<Part>,
    wake: Rc<Wake>,
    /// What is said before any record.
    opening: Option<Bytes>,
    /// The partition that is read next, so that a busy one does not keep the others waiting.
    turn: usize,
    heartbeat: Duration,
    ended: Cell<bool>,
}

struct Part {
    feed: Rc<Feed>,
    next: Offset,
}

impl EventStream {
    /// Begins to follow `topic`, counted by `subscriber`.
    ///
    /// # Errors
    /// `invalid_argument` for a time that is none, `storage_failed`, `shutting_down`.
    pub async fn open(
        hub: Rc<Hub>,
        (topic, subscriber): (Arc<Topic>, Option<Subscriber>),
        begin: Begin,
    ) -> Result<Self, Refusal> {
        if hub.shared.is_shutting_down() {
            return Err(Refusal::new(
                ErrorCode::ShuttingDown,
                "the broker is shutting down",
            ));
        }
        let (from, resume) = match begin {
            Begin::From(from) => (from, None),
            Begin::At(position) => {
                let resume = position.into_resume();
                (From::Resume(resume.clone()), Some(resume))
            }
        };
        let starts = starts(&hub, &topic, from).await?;
        let heartbeat = Duration::from_millis(hub.shared.settings.heartbeat_ms);
        let mut stream = Self {
            hub,
            topic,
            _subscriber: subscriber,
            parts: Vec::new(),
            wake: Rc::default(),
            opening: None,
            turn: 0,
            heartbeat,
            ended: Cell::new(false),
        };
        stream.follow(|part| starts.offsets.get(&part.id).copied());
        stream.opening = Some(stream.opening(resume.as_ref(), &starts));
        Ok(stream)
    }

    /// Follows the partitions that are not followed yet: from `from`, or from their first record.
    fn follow(&mut self, from: impl Fn(&PartitionRef) -> Option<Offset>) {
        for part in self.topic.partitions().iter().skip(self.parts.len()) {
            let first = || part.log().map_or(Offset::ZERO, |log| log.first_offset());
            let next = from(part).unwrap_or_else(first);
            let feed = self.hub.feed(&self.topic, part);
            feed.listen(&self.hub, &self.wake);
            self.parts.push(Part { feed, next });
        }
    }

    /// The first chunk: where the stream is, and what is missing before that. The position comes at once,
    /// so that a reader who loses the connection before the first record misses none either.
    fn opening(&self, resume: Option<&Resume>, starts: &Starts) -> Bytes {
        let mut chunk = Vec::new();
        text::push_retry(&mut chunk, RETRY_AFTER_MS);
        text::push_id(&mut chunk, &self.position().encode());
        chunk.push(b'\n');
        if let Some(resume) = resume
            && !starts.recovered
        {
            let same_epoch = resume.epoch.as_ref() == Some(&self.topic.epoch);
            for part in &self.parts {
                let id = part.feed.part.id;
                let asked = resume.offsets.get(&id).copied();
                let (count, reason) = match asked {
                    _ if !same_epoch => (None, "epoch"),
                    Some(asked) if asked < part.next => (Some(part.next.since(asked)), "retention"),
                    Some(asked) if asked > part.next => (None, "beyond_end"),
                    Some(_) | None => continue,
                };
                text::push_skipped(&mut chunk, &self.topic.name, id, (count, part.next, reason));
            }
        }
        chunk.into()
    }

    fn position(&self) -> Position {
        let offsets = self.parts.iter().map(|part| part.next).collect();
        Position::new(self.topic.epoch.clone(), offsets)
    }

    /// The next chunk of text; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        while !self.ended.get() {
            if let Some(farewell) = self.farewell() {
                self.ended.set(true);
                return Some(farewell);
            }
            self.follow(|_| None);
            if let Some(frames) = self.wake.live.borrow_mut().pop_front() {
                return Some(text::live(&frames));
            }
            if let Some(chunk) = self.read().await {
                return Some(chunk);
            }
            let woken = tokio::time::timeout(self.heartbeat, self.wake.notify.notified());
            if woken.await.is_err() {
                return Some(Bytes::from_static(text::HEARTBEAT));
            }
        }
        None
    }

    /// What is said last, if this is the end.
    fn farewell(&self) -> Option<Bytes> {
        if self.topic.is_deleted() {
            return Some(text::unsubscribed(&self.topic.name));
        }
        self.hub.shared.is_shutting_down().then(text::goaway)
    }

    /// What can be read now, of the next partition that has something; `None` if none has.
    async fn read(&mut self) -> Option<Bytes> {
        let mut at_end = 0;
        while at_end < self.parts.len() {
            let index = self.turn % self.parts.len();
            self.turn = index + 1;
            let next = self.parts[index].next;
            let log = self.parts[index].feed.part.log();
            let Some(log) = log.filter(|log| next < log.next_offset()) else {
                at_end += 1;
                continue;
            };
            let page = match log.read_cached(next, PAGE_BYTES) {
                Some(page) => page,
                None => {
                    let read = self.hub.shared.readers.run(move || log.read(next, PAGE_BYTES));
                    self.taken(index, read.await.ok()).await?
                }
            };
            let chunk = self.encode(index, &page);
            if !chunk.is_empty() {
                return Some(chunk);
            }
            if self.parts[index].next == next {
                at_end += 1;
            } else {
                // All of it had expired. There may be a great deal of that, and others share this thread.
                at_end = 0;
                tokio::task::yield_now().await;
            }
        }
        None
    }

    /// The page that a reader thread came back with; waits a while after a failure.
    async fn taken(&self, index: usize, read: Option<Result<Page, StoreError>>) -> Option<Page> {
        match read {
            Some(Ok(page)) => return Some(page),
            Some(Err(StoreError::Closed | StoreError::ShuttingDown)) => {}
            Some(Err(error)) => {
                let key = self.parts[index].feed.part.key;
                log::error!("reading {key:?} for an event stream: {error}");
                self.wake_later();
            }
            None => self.wake_later(),
        }
        None
    }

    fn wake_later(&self) {
        let wake = self.wake.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(READ_RETRY).await;
            wake.notify.notify_one();
        });
    }

    /// Writes a page as events and moves on behind it.
    fn encode(&mut self, index: usize, page: &Page) -> Bytes {
        let mut chunk = Vec::new();
        let mut position = self.position();
        let part = &mut self.parts[index];
        let shared = part.feed.part.clone();
        if let Some(gap) = page.gap {
            let count = gap.next.since(part.next);
            part.next = gap.next;
            position.set(shared.id, part.next);
            let reason = match gap.reason {
                GapReason::Retention => Some("retention"),
                GapReason::Corrupt => Some("corrupt"),
                GapReason::Expired => None,
            };
            if let Some(reason) = reason {
                text::push_id(&mut chunk, &position.encode());
                let skipped = (Some(count), gap.next, reason);
                text::push_skipped(&mut chunk, &shared.topic, shared.id, skipped);
            }
        }
        let now = clock::now();
        for batch in &page.batches {
            for (offset, parts) in batch.iter() {
                part.next = offset.plus(1);
                if !super::wire::is_expired(&parts, batch.timestamp, now) {
                    position.set(shared.id, part.next);
                    text::push_id(&mut chunk, &position.encode());
                    let fields = super::wire::fields(&parts);
                    text::push_data(&mut chunk, |buffer| {
                        shared.prefix.event(buffer, offset, batch.timestamp, &fields);
                    });
                }
            }
            part.next = part.next.max(batch.next_offset());
        }
        part.next = part.next.max(page.next_offset);
        if shared.waits.delivered() > 0 {
            let tell = |from, next| shared.tell_sent(from, next);
            super::wire::sent_runs(&page.batches, now, part.next, tell);
        }
        chunk.into()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        for part in &self.parts {
            part.feed.unlisten(&self.hub, &self.wake);
        }
    }
}

impl Feed {
    fn listen(&self, hub: &Hub, wake: &Rc<Wake>) {
        let is_first = self.listeners.is_empty();
        self.listeners.0.borrow_mut().push(wake.clone());
        if is_first {
            self.watch(hub);
        }
    }

    fn unlisten(&self, hub: &Hub, wake: &Rc<Wake>) {
        self.listeners
            .0
            .borrow_mut()
            .retain(|known| !Rc::ptr_eq(known, wake));
        if self.listeners.is_empty() {
            self.watch(hub);
        }
        if self.is_unused() {
            hub.forget(self);
        }
    }
}

/// Where the stream begins, from memory if that is possible.
async fn starts(hub: &Hub, topic: &Arc<Topic>, from: From) -> Result<Starts, Refusal> {
    if let Some(starts) = pages::starts_now(topic, &from) {
        return Ok(starts);
    }
    let topic = topic.clone();
    let found = hub.shared.readers.run(move || pages::starts(&topic, &from));
    found
        .await
        .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed")))
}
