//! The leases of one member, by the number of the delivery.
//!
//! Deliveries are numbered as they are handed out, so leases lie in a queue at their number and the one
//! that ends first is its front. A lease with an end of its own (extended, or so old that the queue
//! would grow long behind it) lies beside the queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::keys::KeyHash;

/// A queue this short is left as it is, however few of it are still out.
const LEN_MIN: usize = 64;
/// How many leases that ended by themselves are remembered, to say so to whoever settles them late.
const ENDED_MAX: usize = 1024;

/// One record that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) ends: Timestamp,
    pub(super) offset: Offset,
    pub(super) partition: PartitionId,
    /// From 1; 0 says that the lease at this place is over.
    pub(super) attempt: u32,
    /// The hash of its key, in key order.
    pub(super) key: Option<KeyHash>,
}

/// Why a delivery can not be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// It was never made, or is settled.
    Unknown,
    /// Its lease has ended by itself.
    Ended,
    /// Its lease is over, and nobody has ended it yet.
    Over,
}

/// A lease that was put beside the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    pub(super) delivery: u64,
    pub(super) ends: Timestamp,
}

/// The leases of one member.
#[derive(Debug)]
pub(super) struct Window {
    /// The delivery at the front of the queue.
    base: u64,
    queue: VecDeque<Lease>,
    strays: BTreeMap<u64, Lease>,
    /// The latest deliveries whose lease ended by itself.
    ended: BTreeSet<u64>,
    /// How many are out.
    out: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            base: 1,
            queue: VecDeque::new(),
            strays: BTreeMap::new(),
            ended: BTreeSet::new(),
            out: 0,
        }
    }
}

impl Window {
    /// How many leases are out.
    pub(super) fn out(&self) -> u64 {
        self.out
    }

    /// Adds a lease and returns its delivery, and perhaps one that lies beside the queue from here on and
    /// has to get a timer: this one if the clock went back, or the oldest one if most behind it are over.
    #[inline]
    pub(super) fn push(&mut self, lease: Lease) -> (u64, Option<Stray>) {
        self.out += 1;
        let delivery = self.base + self.queue.len() as u64;
        if self.queue.back().is_some_and(|last| last.ends > lease.ends) {
            self.put_beside(delivery, lease);
            let ends = lease.ends;
            return (delivery, Some(Stray { delivery, ends }));
        }
        self.queue.push_back(lease);
        (delivery, self.shed())
    }

    /// Leaves the newest delivery's place in the queue empty and puts its lease beside it.
    fn put_beside(&mut self, delivery: u64, lease: Lease) {
        // The place ends when the one before it does, so that the queue stays in order.
        let ends = self.queue.back().map_or(lease.ends, |last| last.ends);
        self.queue.push_back(Lease {
            attempt: 0,
            ends,
            ..lease
        });
        self.strays.insert(delivery, lease);
    }

    /// Moves the oldest lease beside the queue if most behind it are over.
    #[inline]
    fn shed(&mut self) -> Option<Stray> {
        if self.queue.len() <= LEN_MIN || (self.queue.len() as u64) < 2 * self.out {
            return None;
        }
        let (delivery, oldest) = (self.base, self.queue.pop_front()?);
        self.base += 1;
        self.strays.insert(delivery, oldest);
        self.drop_front();
        let ends = oldest.ends;
        Some(Stray { delivery, ends })
    }

    /// The lease of a delivery.
    #[inline]
    pub(super) fn get(&self, delivery: u64) -> Option<&Lease> {
        let in_queue = delivery
            .checked_sub(self.base)
            .and_then(|index| self.queue.get(usize::try_from(index).ok()?));
        match in_queue {
            Some(lease) if lease.attempt != 0 => Some(lease),
            _ if self.strays.is_empty() => None,
            _ => self.strays.get(&delivery),
        }
    }

    /// Takes the lease of a delivery out, whether or not it is over.
    pub(super) fn remove(&mut self, delivery: u64) -> Option<Lease> {
        self.take_unless(delivery, |_| false).ok()
    }

    /// Takes the lease of a delivery out if it goes on after `now`.
    #[inline]
    pub(super) fn settle(&mut self, now: Timestamp, delivery: u64) -> Result<Lease, Unsettled> {
        self.take_unless(delivery, |ends| ends <= now)
    }

    #[inline]
    fn take_unless(
        &mut self,
        delivery: u64,
        is_over: impl Fn(Timestamp) -> bool,
    ) -> Result<Lease, Unsettled> {
        // A delivery before the queue has an index beyond every queue.
        let index = delivery.wrapping_sub(self.base);
        let in_queue = usize::try_from(index)
            .ok()
            .and_then(|index| self.queue.get_mut(index));
        match in_queue {
            Some(place) if place.attempt != 0 => {
                if is_over(place.ends) {
                    return Err(Unsettled::Over);
                }
                let lease = *place;
                place.attempt = 0;
                if index == 0 {
                    self.drop_front();
                }
                self.out -= 1;
                Ok(lease)
            }
            _ => self.take_stray_unless(delivery, is_over),
        }
    }

    fn take_stray_unless(
        &mut self,
        delivery: u64,
        is_over: impl Fn(Timestamp) -> bool,
    ) -> Result<Lease, Unsettled> {
        match self.strays.get(&delivery) {
            Some(lease) if is_over(lease.ends) => Err(Unsettled::Over),
            Some(&lease) => {
                self.strays.remove(&delivery);
                self.out -= 1;
                Ok(lease)
            }
            None if self.ended.contains(&delivery) => Err(Unsettled::Ended),
            None => Err(Unsettled::Unknown),
        }
    }

    /// Gives a lease that goes on after `now` an end of its own.
    pub(super) fn extend(&mut self, now: Timestamp, delivery: u64, ends: Timestamp) -> Result<(), Unsettled> {
        let lease = self.settle(now, delivery)?;
        self.out += 1;
        self.strays.insert(delivery, Lease { ends, ..lease });
        Ok(())
    }

    /// The oldest lease of the queue.
    pub(super) fn front(&self) -> Option<(u64, &Lease)> {
        self.queue.front().map(|lease| (self.base, lease))
    }

    /// The leases that are out, those of the queue first.
    pub(super) fn leases(&self) -> impl Iterator<Item = (u64, &Lease)> {
        let queue = (self.base..).zip(&self.queue);
        queue
            .filter(|(_, lease)| lease.attempt != 0)
            .chain(self.strays.iter().map(|(&delivery, lease)| (delivery, lease)))
    }

    /// Remembers that a lease ended by itself.
    pub(super) fn remember_ended(&mut self, delivery: u64) {
        self.ended.insert(delivery);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }

    /// Lets go of places at the front whose lease is over.
    #[inline]
    fn drop_front(&mut self) {
        while self.queue.front().is_some_and(|lease| lease.attempt == 0) {
            self.queue.pop_front();
            self.base += 1;
        }
    }
}
