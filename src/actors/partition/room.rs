//! Appends that wait because their topic is full and says `when_full: wait`.
//!
//! Owns them in the order in which they came, however many publishers they are from: what comes later to this
//! partition goes behind. Bounded in bytes here and for each session by [`SessionWaits`]; the session itself
//! is read on. Told by the partition when there may be room.
//!
//! [`SessionWaits`]: crate::actors::waiting::SessionWaits

use std::{collections::VecDeque, sync::Arc, time::Instant};

use actix::Message;

use crate::actors::{append::Append, directory::PartitionRef};

/// Most bytes of records that wait for room in one partition.
const WAITING_BYTES_MAX: usize = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// Records were finished: whoever waits because the topic is full may go on. Sent only while
/// `part.waits.for_room()` is true, to every partition of the topic of which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct RoomMade;

/// An append that waits.
pub struct Waiting {
    /// The append.
    pub append: Append,
    /// When it is given up.
    pub deadline: Option<Instant>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.append.draft.records.len()
    }
}

/// See the module.
pub struct RoomQueue {
    part: Arc<PartitionRef>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl RoomQueue {
    /// Nobody waits.
    pub fn new(part: Arc<PartitionRef>) -> Self {
        Self {
            part,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether an append of so many bytes may wait.
    pub fn takes(&self, bytes: usize) -> bool {
        self.bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Lets an append wait behind all others.
    pub fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.waiting.push_back(waiting);
        self.part.waits.set_for_room(true);
    }

    /// Takes the first `room` records off the append that came first; `None` if nobody waits or nothing fits.
    pub fn pop(&mut self, room: u64) -> Option<Waiting> {
        if room == 0 {
            return None;
        }
        let mut first = self.waiting.pop_front()?;
        self.bytes -= first.bytes();
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if first.append.count() > room {
            let rest = Waiting {
                append: first.append.split_off(room),
                deadline: first.deadline,
            };
            self.bytes += rest.bytes();
            self.waiting.push_front(rest);
        }
        self.part.waits.set_for_room(!self.waiting.is_empty());
        Some(first)
    }

    /// Takes out those who have waited long enough at `now`, and forgets those who do not want to know.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Append> {
        let is_over = |waiting: &Waiting| {
            waiting.deadline.is_some_and(|deadline| deadline <= now) || waiting.append.receipt.is_gone()
        };
        if !self.waiting.iter().any(is_over) {
            return Vec::new();
        }
        let (over, still): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(is_over);
        self.waiting = still.into();
        self.bytes = self.waiting.iter().map(Waiting::bytes).sum();
        self.part.waits.set_for_room(!self.waiting.is_empty());
        over.into_iter().map(|waiting| waiting.append).collect()
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Append> {
        self.bytes = 0;
        self.part.waits.set_for_room(false);
        self.waiting.drain(..).map(|waiting| waiting.append).collect()
    }
}

impl Drop for RoomQueue {
    /// After a panic as well: the next actor counts for itself.
    fn drop(&mut self) {
        self.part.waits.set_for_room(false);
    }
}
