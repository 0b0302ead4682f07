//! What ends or begins by itself in a shared group: leases and waits before a retry.
//!
//! A timer is a note to look, not a promise: what it was for may be over, or later by now, and whoever
//! asks finds that out when it fires. So nothing has to be taken out, and acks cost no heap.

use std::{cmp::Reverse, collections::BinaryHeap};

use callboard_protocol::{Offset, PartitionId, Timestamp};

use crate::member::MemberId;

/// Below this many, timers that are over are left to fire.
const PRUNED_AT_MIN: usize = 64;

/// Where to look when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The oldest lease in a member's window; a member has one of these while it has leases there.
    Window(MemberId),
    /// A lease with an end of its own.
    Stray(MemberId, u64),
    /// A record that waits before it comes again.
    Retry(PartitionId, Offset),
}

/// Timers by their time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, Timer)>>,
    /// When so many are there, those that are over are thrown out.
    pruned_at: usize,
}

impl Timers {
    /// Sets one more.
    pub(super) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// The next one that is due by `now`.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether so many were set that [`Self::prune`] is worth its time.
    pub(super) fn are_many(&self) -> bool {
        self.heap.len() > self.pruned_at.max(PRUNED_AT_MIN)
    }

    /// Throws out what is over, and waits with the next time until there are twice as many.
    pub(super) fn prune(&mut self, is_live: impl Fn(Timestamp, Timer) -> bool) {
        self.heap.retain(|Reverse((at, timer))| is_live(*at, *timer));
        self.pruned_at = self.heap.len() * 2;
    }
}
