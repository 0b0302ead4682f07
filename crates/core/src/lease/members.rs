//! The members of a shared group, and whose turn it is.
//!
//! Whoever is ready and has free credit stands in a queue and is served from its front for a while. A
//! member that can take nothing more is found out when it comes to the front, so that an ack costs no
//! search in the queue.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use callboard_protocol::Timestamp;

use super::window::{Lease, Stray, Window};
use crate::member::{Exclusive, GroupError, MemberId};

/// Most records that one member gets before the next one's turn.
const QUANTUM_MAX: u64 = 32;
/// More than anybody's credit may be, so that sums of credit are numbers.
const CREDIT_MAX: u64 = u32::MAX as u64;

/// Later than every timer.
pub(super) const NO_TIMER: Timestamp = Timestamp(u64::MAX);

/// Whether a member takes part in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    /// Its outbox is full.
    Waiting,
    /// It gets nothing more, and may settle what it has.
    Retired,
}

/// One member with its leases.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) lease_ms: u64,
    pub(super) window: Window,
    /// When the timer for the window's front looks at it; not after its end. [`NO_TIMER`] without one.
    pub(super) timer_at: Timestamp,
    credit: u64,
    phase: Phase,
    exclusive: Exclusive,
    /// Whether it stands in the queue of turns.
    in_turn: bool,
}

impl Member {
    /// How many records it takes now.
    #[inline]
    fn free(&self) -> u64 {
        match self.phase {
            Phase::Ready => self.credit.saturating_sub(self.window.out()),
            Phase::Waiting | Phase::Retired => 0,
        }
    }
}

/// What a group shows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who it is.
    pub member: MemberId,
    /// Most records that it has out at a time.
    pub credit: u64,
    /// How many it has out.
    pub out: u64,
    /// Whether its outbox takes more.
    pub ready: bool,
    /// Whether it has unsubscribed, and only settles what it has.
    pub retired: bool,
}

/// A lease as it was handed out, for whoever has to set its timers.
pub(super) struct Handed {
    pub(super) member: MemberId,
    pub(super) delivery: u64,
    pub(super) lease_ms: u64,
    /// A lease of this member that needs a timer of its own from here on.
    pub(super) stray: Option<Stray>,
    /// When the window's front is to be looked at, if no timer does so in time.
    pub(super) timer_at: Option<Timestamp>,
}

/// All members of one group.
#[derive(Debug, Default)]
pub(super) struct Members {
    slots: Vec<Option<Member>>,
    vacant: Vec<usize>,
    by_id: HashMap<MemberId, usize, BuildHasherDefault<IdHasher>>,
    /// Slots in the order of their turns. Everyone with free credit stands here.
    turns: VecDeque<usize>,
    /// How many records the front still gets in this turn; 0 before it began.
    turn: u64,
    /// How many turns this round still has, with the front's.
    round: usize,
    /// How many records each gets in this round.
    quantum: u64,
    /// How many records all members together take now.
    free: u64,
}

impl Members {
    /// Takes a member in.
    pub(super) fn join(
        &mut self,
        id: MemberId,
        credit: u64,
        lease_ms: u64,
        exclusive: Exclusive,
    ) -> Result<(), GroupError> {
        if self.by_id.contains_key(&id) {
            return Err(GroupError::Conflict("the member is in the group already"));
        }
        let staying = |other: &&Member| other.phase != Phase::Retired;
        let mut others = self.iter().filter(staying);
        if others.clone().any(|other| other.exclusive == Exclusive::Yes) {
            return Err(GroupError::Conflict(
                "the group has a member that wants it for itself",
            ));
        }
        if exclusive == Exclusive::Yes && others.next().is_some() {
            return Err(GroupError::Conflict(
                "the group has members, so it can not be exclusive",
            ));
        }
        drop(others);
        let member = Member {
            id,
            lease_ms,
            window: Window::default(),
            timer_at: NO_TIMER,
            credit: 0,
            phase: Phase::Ready,
            exclusive,
            in_turn: false,
        };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(member);
        self.by_id.insert(id, slot);
        self.add_credit(id, credit);
        Ok(())
    }

    /// Takes a member out; its leases are the caller's now.
    pub(super) fn remove(&mut self, id: MemberId) -> Option<Member> {
        let slot = self.by_id.remove(&id)?;
        let member = self.slots[slot].take()?;
        self.free -= member.free();
        self.vacant.push(slot);
        if self.turns.front() == Some(&slot) {
            self.end_turn();
        }
        self.turns.retain(|&other| other != slot);
        Some(member)
    }

    /// Allows a member `add` records more.
    pub(super) fn add_credit(&mut self, id: MemberId, add: u64) {
        self.change(id, |member| {
            member.credit = member.credit.saturating_add(add).min(CREDIT_MAX);
        });
    }

    /// Allows a member so many records; it keeps what it has beyond that.
    pub(super) fn set_credit(&mut self, id: MemberId, credit: u64) {
        self.change(id, |member| member.credit = credit.min(CREDIT_MAX));
    }

    /// Whether a member's outbox takes more; one that retired stays so.
    pub(super) fn set_ready(&mut self, id: MemberId, ready: bool) {
        self.change(id, |member| {
            member.phase = match (member.phase, ready) {
                (Phase::Retired, _) => Phase::Retired,
                (_, true) => Phase::Ready,
                (_, false) => Phase::Waiting,
            };
        });
    }

    /// Gives a member nothing more.
    pub(super) fn retire(&mut self, id: MemberId) {
        self.change(id, |member| member.phase = Phase::Retired);
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Member> {
        self.slots[*self.by_id.get(&id)?].as_ref()
    }

    /// Changes a member, and what follows from it for the turns. A member that has retired and settled
    /// everything is gone after it.
    #[inline]
    pub(super) fn change<R>(&mut self, id: MemberId, change: impl FnOnce(&mut Member) -> R) -> Option<R> {
        let slot = *self.by_id.get(&id)?;
        let member = self.slots[slot].as_mut()?;
        let free_before = member.free();
        let result = change(member);
        let free = member.free();
        self.free = self.free - free_before + free;
        if free > 0 && !member.in_turn {
            member.in_turn = true;
            self.turns.push_back(slot);
        }
        if member.phase == Phase::Retired && member.window.out() == 0 {
            self.remove(id);
        }
        Some(result)
    }

    /// How many records all members together take now.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Hands a record to the member whose turn it is; `None` if nobody takes one. `available` is how many
    /// records wait with it, and decides how long the turns of a round are: few records are spread, many
    /// stay together.
    #[inline]
    pub(super) fn hand_out(&mut self, available: u64, lease: impl FnOnce(u64) -> Lease) -> Option<Handed> {
        if self.free == 0 {
            return None;
        }
        let slot = self.front()?;
        if self.turn == 0 {
            if self.round == 0 {
                self.round = self.turns.len();
                self.quantum = (available / self.round as u64).clamp(1, QUANTUM_MAX);
            }
            self.turn = self.quantum;
        }
        let member = self.slots[slot].as_mut()?;
        let lease = lease(member.lease_ms);
        let (delivery, stray) = member.window.push(lease);
        let needs_timer = lease.ends < member.timer_at;
        let handed = Handed {
            member: member.id,
            delivery,
            lease_ms: member.lease_ms,
            stray,
            timer_at: needs_timer.then_some(lease.ends),
        };
        if needs_timer {
            member.timer_at = lease.ends;
        }
        self.free -= 1;
        self.turn -= 1;
        if self.turn == 0 {
            self.turns.rotate_left(1);
            self.end_turn();
        }
        Some(handed)
    }

    /// The first in the queue that takes a record; those before it that do not leave the queue.
    #[inline]
    fn front(&mut self) -> Option<usize> {
        while let Some(&slot) = self.turns.front() {
            match &mut self.slots[slot] {
                Some(member) if member.free() > 0 => return Some(slot),
                Some(member) => member.in_turn = false,
                None => {}
            }
            self.turns.pop_front();
            self.end_turn();
        }
        None
    }

    #[inline]
    fn end_turn(&mut self) {
        self.turn = 0;
        self.round = self.round.saturating_sub(1);
    }

    /// All members, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> + Clone {
        self.slots.iter().flatten()
    }

    /// What the group shows of them.
    pub(super) fn views(&self) -> impl Iterator<Item = MemberView> {
        self.iter().map(|member| MemberView {
            member: member.id,
            credit: member.credit,
            out: member.window.out(),
            ready: member.phase == Phase::Ready,
            retired: member.phase == Phase::Retired,
        })
    }
}

/// Spreads the ids that this process counts up for its members; nobody else can choose them, so that
/// nothing better is needed, and an ack is looked up faster.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        // Source: Fibonacci hashing, Knuth, The Art of Computer Programming 3, section 6.4. The table
        // takes its place from the low bits and a tag from the high ones, so both have to be mixed.
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
