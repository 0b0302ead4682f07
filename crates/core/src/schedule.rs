//! The records of one partition that are due later: what is due, when to wake, and what of their log still counts.
//!
//! Owns an index and never a payload: those lie in the partition's schedule log, where a record's entry is found
//! at its place. Its one caller is the partition's single writer, which writes each entry that is decided here to
//! the log ([`log`] has the encoding), in the order of the places that are given here, and says how far the log
//! is committed. After a crash the same entries, replayed, make the same index.
//!
//! A record *waits* until it is taken, which is when an entry is written that says that it is done or cancelled;
//! it is *forgotten* when that entry is committed, and until then its own entry is not cut.

pub mod log;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use callboard_protocol::{Offset, Timestamp};

use crate::record::RecordParts;
use log::{Entry, Scheduled};

/// Most records that wait in one partition; about 100 MiB of index, and their message ids.
pub const SCHEDULED_MAX: usize = 1 << 20;

/// As long as a log is not longer than this, nothing in it is moved.
const MOVE_AFTER_BYTES: u64 = 1 << 20;
/// Entries are moved when what counts is less than one part in so many of the log.
const MOVE_BELOW_PART: u64 = 4;
/// About how much is moved at once.
const MOVE_BYTES: u64 = 256 << 10;

/// Where a record stands in the order in which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// When it is due.
    pub due: Timestamp,
    /// Of records due at the same time, the one that was scheduled first comes first.
    pub number: u64,
}

/// A record that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When, and in which order.
    pub turn: Turn,
    /// Where its entry lies in the log.
    pub place: Offset,
    /// Length of that entry.
    pub bytes: u32,
}

/// What the index knows of an entry that still counts.
#[derive(Clone, Copy, Debug)]
struct Kept {
    turn: Turn,
    bytes: u32,
    /// Bytes of the log that lie before it, counted from where this index began.
    before: u64,
}

/// What holds from the moment on at which the entry that says so is committed.
#[derive(Debug)]
enum Effect {
    Forgotten(Box<[u64]>),
    Moved(Box<[(u64, Offset, Kept)]>),
}

#[derive(Clone, Copy, Debug)]
struct Named {
    number: u64,
    at: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Schedules {
    /// Every entry that still counts, by its place; also of records that do not wait any more.
    kept: BTreeMap<Offset, Kept>,
    /// What waits.
    turns: BTreeSet<Turn>,
    /// The places of those that were moved; of all others the number is the place.
    moved: HashMap<u64, Offset>,
    /// Which record carried a message id last. Only ever asked, so its random seed decides nothing.
    named: HashMap<Arc<[u8]>, Named>,
    /// The message ids of those that have one.
    names: HashMap<u64, Arc<[u8]>>,
    effects: VecDeque<(Offset, Effect)>,
    /// Where the next entry goes.
    next: Offset,
    /// Bytes of all entries so far.
    written_bytes: u64,
    /// Bytes of those that still count.
    kept_bytes: u64,
}

impl Schedules {
    /// The index of a log whose first kept entry is at `first`; its entries follow by [`Self::replay`].
    #[must_use]
    pub fn new(first: Offset) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// Takes in an entry of `bytes` that the log keeps at `place`; oldest first.
    pub fn replay(&mut self, place: Offset, bytes: u32, entry: &Entry<'_>) {
        // Hurt entries are left out by the caller, so a place may be more than the next.
        self.next = self.next.max(place);
        match entry {
            Entry::Scheduled(scheduled) => {
                self.insert(place.0, scheduled, bytes);
            }
            Entry::Moved { number, scheduled } => {
                self.forget(*number);
                self.insert(*number, scheduled, bytes);
            }
            Entry::Done(numbers) | Entry::Cancelled(numbers) => {
                for number in numbers {
                    self.forget(*number);
                }
                self.give_place(bytes);
            }
        }
    }

    /// The log goes up to `next`, though its last entries may be hurt.
    pub fn replayed(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// Takes in a new record, whose entry of `bytes` goes to the place that is returned with it. The caller
    /// has seen to it that the index is not full.
    pub fn add(&mut self, scheduled: &Scheduled<'_>, bytes: u32) -> Waiting {
        debug_assert!(!self.is_full(), "the caller refuses what is too much");
        self.insert(self.next.0, scheduled, bytes)
    }

    fn insert(&mut self, number: u64, scheduled: &Scheduled<'_>, bytes: u32) -> Waiting {
        let turn = Turn {
            due: scheduled.due,
            number,
        };
        let before = self.written_bytes;
        let place = self.give_place(bytes);
        self.kept.insert(place, Kept { turn, bytes, before });
        self.kept_bytes += u64::from(bytes);
        self.turns.insert(turn);
        if place.0 != number {
            self.moved.insert(number, place);
        }
        let id = RecordParts::decode(scheduled.record)
            .ok()
            .and_then(|(parts, _)| parts.message_id);
        if let Some(id) = id {
            self.name(number, id.as_bytes().into(), scheduled.at);
        }
        Waiting { turn, place, bytes }
    }

    /// Remembers the message id of a record, unless a later one carries it, too: an entry that was moved comes
    /// late when the log is replayed.
    fn name(&mut self, number: u64, id: Arc<[u8]>, at: Timestamp) {
        let newest = self.named.get(&id).map(|named| (named.at, named.number));
        if newest.is_none_or(|newest| newest < (at, number)) {
            self.named.insert(id.clone(), Named { number, at });
        }
        self.names.insert(number, id);
    }

    fn give_place(&mut self, bytes: u32) -> Offset {
        let place = self.next;
        self.next = place.plus(1);
        self.written_bytes += u64::from(bytes);
        place
    }

    fn place_of(&self, number: u64) -> Offset {
        self.moved.get(&number).copied().unwrap_or(Offset(number))
    }

    /// The record that waits under this message id, if it was scheduled less than `window_ms` before `now`.
    #[must_use]
    pub fn repeated(&self, id: &[u8], now: Timestamp, window_ms: u64) -> Option<Waiting> {
        let named = self.named.get(id)?;
        (now.since(named.at) < window_ms).then(|| self.get(named.number))?
    }

    /// The record of this number, if it waits.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Waiting> {
        let place = self.place_of(number);
        let kept = self.kept.get(&place).filter(|kept| kept.turn.number == number)?;
        self.turns.contains(&kept.turn).then_some(Waiting {
            turn: kept.turn,
            place,
            bytes: kept.bytes,
        })
    }

    /// When the first of those that wait is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.turns.first().map(|turn| turn.due)
    }

    /// Those that wait and come after `turn`, or all of them, in the order in which they are due.
    pub fn after(&self, turn: Option<Turn>) -> impl Iterator<Item = Waiting> {
        let from = turn.map_or(Bound::Unbounded, Bound::Excluded);
        self.turns
            .range((from, Bound::Unbounded))
            .filter_map(|turn| self.get(turn.number))
    }

    /// Those that are due at `now`, in order.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = Waiting> {
        self.after(None)
            .take_while(move |waiting| waiting.turn.due <= now)
    }

    /// These wait no more: the entry of `bytes` that says so goes to the place that is returned.
    pub fn take(&mut self, numbers: &[u64], bytes: u32) -> Offset {
        for number in numbers {
            if let Some(waiting) = self.get(*number) {
                self.turns.remove(&waiting.turn);
            }
        }
        let place = self.give_place(bytes);
        self.effects
            .push_back((place.plus(1), Effect::Forgotten(numbers.into())));
        place
    }

    /// The oldest entries that still count, if so little of the log counts that they should be written again at
    /// its end. Nothing while others are being moved.
    #[must_use]
    pub fn to_move(&self) -> Vec<Waiting> {
        let moves = |(_, effect): &(Offset, Effect)| matches!(effect, Effect::Moved(_));
        let span = self.span_bytes();
        if span <= MOVE_AFTER_BYTES.max(MOVE_BELOW_PART * self.kept_bytes) || self.effects.iter().any(moves) {
            return Vec::new();
        }
        let mut bytes = 0;
        self.kept
            .values()
            .filter_map(|kept| self.get(kept.turn.number))
            .take_while(|waiting| {
                let fits = bytes < MOVE_BYTES;
                bytes += u64::from(waiting.bytes);
                fits
            })
            .collect()
    }

    /// Bytes of the log from the oldest entry that still counts on.
    fn span_bytes(&self) -> u64 {
        let first = self.kept.values().next();
        first.map_or(0, |kept| self.written_bytes - kept.before)
    }

    /// These are written again, each with so many bytes, at the places from the returned one on. Each of them
    /// waits.
    pub fn relocate(&mut self, entries: &[(u64, u32)]) -> Offset {
        let first = self.next;
        let mut moved = Vec::with_capacity(entries.len());
        for (number, bytes) in entries {
            let before = self.written_bytes;
            let place = self.give_place(*bytes);
            if let Some(waiting) = self.get(*number) {
                let kept = Kept {
                    turn: waiting.turn,
                    bytes: *bytes,
                    before,
                };
                moved.push((*number, place, kept));
            }
        }
        self.effects
            .push_back((self.next, Effect::Moved(moved.into_boxed_slice())));
        first
    }

    /// The log is committed up to `next`.
    pub fn committed(&mut self, next: Offset) {
        while let Some((_, effect)) = self.effects.pop_front_if(|(until, _)| *until <= next) {
            match effect {
                Effect::Forgotten(numbers) => {
                    for number in numbers {
                        self.forget(number);
                    }
                }
                Effect::Moved(moved) => {
                    for (number, place, kept) in moved {
                        self.settle_at(number, place, kept);
                    }
                }
            }
        }
    }

    /// The entry at `place` stands for the record now, unless it was done meanwhile.
    fn settle_at(&mut self, number: u64, place: Offset, kept: Kept) {
        if self.remove(number).is_some() {
            self.kept_bytes += u64::from(kept.bytes);
            self.kept.insert(place, kept);
            self.moved.insert(number, place);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(kept) = self.remove(number) else { return };
        self.turns.remove(&kept.turn);
        if let Some(id) = self.names.remove(&number)
            && self.named.get(&id).is_some_and(|named| named.number == number)
        {
            self.named.remove(&id);
        }
        if self.kept.is_empty() {
            // What many at a time took is given back.
            self.moved = HashMap::new();
            self.named = HashMap::new();
            self.names = HashMap::new();
        }
    }

    /// Takes the record's entry out of those that count.
    fn remove(&mut self, number: u64) -> Option<Kept> {
        let place = self.place_of(number);
        // The place of a number that is forgotten may be that of another record's newer entry.
        let kept = self
            .kept
            .get(&place)
            .copied()
            .filter(|kept| kept.turn.number == number)?;
        self.kept.remove(&place);
        self.moved.remove(&number);
        self.kept_bytes -= u64::from(kept.bytes);
        Some(kept)
    }

    /// The first place whose entry still counts: what lies before may go.
    #[must_use]
    pub fn cut(&self) -> Offset {
        self.kept.keys().next().copied().unwrap_or(self.next)
    }

    /// Where the next entry goes.
    #[must_use]
    pub fn next_place(&self) -> Offset {
        self.next
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Bytes of the entries that still count.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Whether as many are kept as may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kept.len() >= SCHEDULED_MAX
    }
}
