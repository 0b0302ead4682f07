//! How far a shared group is in one partition.
//!
//! Every record before the cursor is finished, out with a member, waiting to come again, or dead and on
//! its way to the dead letters; every record from the cursor on is fresh. Only this module moves a record
//! from one of these to another; who has it, and what the clock says, is known elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use callboard_protocol::{Offset, Timestamp};

use super::{
    Ordering,
    finished::Finished,
    keys::{Claim, KeyHash, Keys},
    window::Lease,
};

/// Most records of a partition that wait or are dead before nothing fresh is taken from it.
pub(super) const WAITING_MAX: u64 = 100_000;

/// A record that comes again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// How often it was handed out.
    pub(super) attempts: u32,
    /// Not before this; 0 is at once.
    pub(super) due: Timestamp,
    /// Its key, in key order and once it was read.
    pub(super) key: Option<KeyHash>,
    pub(super) state: WaitState,
}

/// What a record waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitState {
    /// To be read. Then it is handed out, unless the group was restored and its key is found to be busy
    /// or its time not to have come.
    Ready,
    /// Its time.
    Delayed,
    /// Its key.
    Held,
}

/// A record that goes to the dead letters.
#[derive(Debug)]
pub(super) struct Doom {
    pub(super) attempts: u32,
    /// When and why, once that was logged.
    pub(super) verdict: Option<(Timestamp, Box<str>)>,
}

/// When a record that waits comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    AtOnce,
    At(Timestamp, Offset),
}

/// What is in the way of handing out a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Nothing; it was handed out so often before.
    Free { attempts: u32 },
    /// It is not there to be taken, or its key is busy.
    Held,
    /// It has its key now and is not due.
    Later(Comes),
}

/// One partition of a shared group.
#[derive(Debug)]
pub(super) struct Progress {
    /// Nothing from here on was ever taken.
    pub(super) cursor: u64,
    /// There are committed records up to here.
    pub(super) end: u64,
    /// How many are out.
    pub(super) leased: u64,
    pub(super) finished: Finished,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Those of `waiting` that are `Ready`.
    pub(super) ready: BTreeSet<u64>,
    pub(super) dead: BTreeMap<u64, Doom>,
    keys: Option<Box<Keys>>,
    /// Whether it stands in the group's queue of partitions with fresh records.
    pub(super) in_fresh: bool,
    /// Whether it stands in the group's queue of partitions with records to come again.
    pub(super) in_again: bool,
    /// Whether nothing of it is wanted, because it is being read or can not be.
    pub(super) is_paused: bool,
}

impl Progress {
    /// Begins at `start`: all before is finished, and nothing after.
    pub(super) fn new(start: Offset, ordering: Ordering) -> Self {
        Self {
            cursor: start.0,
            end: start.0,
            leased: 0,
            finished: Finished::new(start.0),
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            dead: BTreeMap::new(),
            keys: (ordering == Ordering::Key).then(Box::default),
            in_fresh: false,
            in_again: false,
            is_paused: false,
        }
    }

    /// How many fresh records may be taken now.
    pub(super) fn fresh(&self) -> u64 {
        let waiting = (self.waiting.len() + self.dead.len()) as u64;
        self.end
            .saturating_sub(self.cursor)
            .min(WAITING_MAX.saturating_sub(waiting))
    }

    /// How many records are not finished.
    pub(super) fn unfinished(&self) -> u64 {
        let fresh = self.end.saturating_sub(self.cursor);
        self.leased + (self.waiting.len() + self.dead.len()) as u64 + fresh
    }

    /// How many offsets before the cursor are finished.
    pub(super) fn finished_count(&self) -> u64 {
        let open = self.leased + (self.waiting.len() + self.dead.len()) as u64;
        self.cursor.saturating_sub(open)
    }

    /// Whether a record may be handed out now; then it has its key. If its key is in the way, it is held
    /// back from here on. Only asked if somebody would take it.
    #[inline]
    pub(super) fn admit(&mut self, now: Timestamp, offset: u64, key: Option<KeyHash>) -> Admission {
        let waiting = if offset == self.cursor {
            Waiting {
                attempts: 0,
                due: Timestamp(0),
                key,
                state: WaitState::Ready,
            }
        } else {
            match self.waiting.get(&offset) {
                Some(waiting) if waiting.state == WaitState::Ready => Waiting { key, ..*waiting },
                _ => return Admission::Held,
            }
        };
        if let (Some(key), Some(keys)) = (key, &mut self.keys)
            && keys.claim(key, offset) == Claim::Waits
        {
            self.set_waiting(offset, waiting, WaitState::Held);
            return Admission::Held;
        }
        if waiting.due > now {
            return self.postpone(offset, waiting);
        }
        Admission::Free {
            attempts: waiting.attempts,
        }
    }

    fn postpone(&mut self, offset: u64, waiting: Waiting) -> Admission {
        self.set_waiting(offset, waiting, WaitState::Delayed);
        Admission::Later(Comes::At(waiting.due, Offset(offset)))
    }

    /// Moves a record that is not to be read now to, or within, those that wait.
    fn set_waiting(&mut self, offset: u64, waiting: Waiting, state: WaitState) {
        self.waiting.insert(offset, Waiting { state, ..waiting });
        self.ready.remove(&offset);
        self.cursor = self.cursor.max(offset + 1);
    }

    /// An admitted record was handed out.
    #[inline]
    pub(super) fn take(&mut self, offset: u64) {
        if offset == self.cursor {
            self.cursor += 1;
            self.end = self.end.max(self.cursor);
        } else {
            self.waiting.remove(&offset);
            self.ready.remove(&offset);
        }
        self.leased += 1;
    }

    /// A record that was out is finished. Returns when the one behind it comes, if its key held one back.
    #[inline]
    pub(super) fn finish(&mut self, lease: &Lease) -> Option<Comes> {
        self.leased -= 1;
        self.finished.insert(lease.offset.0);
        self.release_key(lease.key, lease.offset.0)
    }

    /// A record that was out comes again; it keeps its key.
    pub(super) fn give_back(&mut self, lease: &Lease, due: Timestamp) -> Comes {
        self.leased -= 1;
        let waiting = Waiting {
            attempts: lease.attempt,
            due,
            key: lease.key,
            state: WaitState::Ready,
        };
        self.wait(lease.offset.0, waiting)
    }

    /// A record that was out is dead. Returns when the one behind it comes, if its key held one back.
    pub(super) fn kill(&mut self, lease: &Lease) -> Option<Comes> {
        self.leased -= 1;
        let doom = Doom {
            attempts: lease.attempt,
            verdict: None,
        };
        self.dead.insert(lease.offset.0, doom);
        self.release_key(lease.key, lease.offset.0)
    }

    /// A dead record lies with the dead letters; `None` if it is none.
    pub(super) fn bury(&mut self, offset: u64) -> Option<Doom> {
        let doom = self.dead.remove(&offset)?;
        self.finished.insert(offset);
        Some(doom)
    }

    /// A record that waits is finished without having been taken again.
    pub(super) fn pass_over_waiting(&mut self, offset: u64) -> Option<Comes> {
        let key = self.waiting.remove(&offset).and_then(|waiting| waiting.key);
        self.ready.remove(&offset);
        self.finished.insert(offset);
        self.release_key(key, offset)
    }

    /// Finishes the fresh records before `next`; returns which they are.
    pub(super) fn pass_over_fresh(&mut self, next: u64) -> (u64, u64) {
        let from = self.cursor;
        self.finished.insert_range(from, next);
        self.cursor = next;
        self.end = self.end.max(next);
        (from, next)
    }

    /// Whether a delayed record is due, and then makes it ready.
    pub(super) fn wake(&mut self, now: Timestamp, offset: u64) -> bool {
        match self.waiting.get_mut(&offset) {
            Some(waiting) if waiting.state == WaitState::Delayed && waiting.due <= now => {
                waiting.state = WaitState::Ready;
                self.ready.insert(offset);
                true
            }
            _ => false,
        }
    }

    /// Puts a record among those that wait, ready or for its time.
    fn wait(&mut self, offset: u64, waiting: Waiting) -> Comes {
        let due = waiting.due;
        let (state, comes) = if due.0 == 0 {
            self.ready.insert(offset);
            (WaitState::Ready, Comes::AtOnce)
        } else {
            (WaitState::Delayed, Comes::At(due, Offset(offset)))
        };
        self.waiting.insert(offset, Waiting { state, ..waiting });
        comes
    }

    /// Forgets that a record has its key, and wakes the next one of the key.
    #[inline]
    fn release_key(&mut self, key: Option<KeyHash>, offset: u64) -> Option<Comes> {
        let next = self.keys.as_mut()?.release(key?, offset)?;
        let waiting = *self.waiting.get(&next)?;
        Some(self.wait(next, waiting))
    }
}
