//! How a lease ends: acked, nacked, run out, or because its member or the group's position goes.

use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::{
    Comes, SharedGroup,
    members::{Member, NO_TIMER},
    progress::{Doom, WaitState},
    timers::Timer,
    window::{Lease, Unsettled},
};
use crate::{group_log::Entry, member::MemberId};

/// What a member wants of a record that it could not process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nack {
    /// Another try after the wait that the settings say.
    Backoff,
    /// Another try after so many milliseconds; 0 is at once.
    After(u64),
    /// No other try.
    DeadLetter,
}

/// Why a record is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member said so, or nacked its last attempt.
    Nacked,
    /// The lease of its last attempt ran out.
    Expired,
    /// The member that had its last attempt went, or the broker did.
    Gone,
}

/// A record that must go to the dead letters. It is not finished before it was buried there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Where it is.
    pub partition: PartitionId,
    /// Which one it is.
    pub offset: Offset,
    /// How often it was handed out.
    pub attempts: u32,
    /// Why.
    pub cause: Cause,
}

/// Why a delivery can not be settled; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// It was never made to this member, or is settled.
    #[error("there is no such delivery, or it is settled")]
    UnknownDelivery,
    /// It is too late: the record comes again or is dead.
    #[error("the lease has ended")]
    LeaseExpired,
}

impl SharedGroup {
    /// A member has processed a record: it is finished. Returns which one that was.
    ///
    /// # Errors
    /// [`SettleError::LeaseExpired`] from the moment of the lease's end on, whether or not the group was
    /// told of the time before; [`SettleError::UnknownDelivery`].
    #[inline]
    pub fn ack(
        &mut self,
        now: Timestamp,
        member: MemberId,
        delivery: u64,
    ) -> Result<(PartitionId, Offset), SettleError> {
        let lease = self.settle(now, member, delivery)?;
        let (partition, offset) = (lease.partition, lease.offset);
        let woken = self
            .progress_mut(partition)
            .and_then(|progress| progress.finish(&lease));
        if let Some(comes) = woken {
            self.comes(partition, comes);
        }
        self.counters.acked += 1;
        self.log.push(&Entry::Finished {
            partition,
            from: offset,
            count: 1,
        });
        Ok((partition, offset))
    }

    /// A member could not process a record: it comes again, or it is dead and returned.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn nack(
        &mut self,
        now: Timestamp,
        member: MemberId,
        delivery: u64,
        nack: Nack,
    ) -> Result<Option<Dead>, SettleError> {
        let lease = self.settle(now, member, delivery)?;
        let wait_ms = match nack {
            Nack::DeadLetter => return Ok(Some(self.kill(&lease, Cause::Nacked))),
            Nack::Backoff => self.settings.backoff_ms(lease.attempt),
            Nack::After(wait_ms) => wait_ms,
        };
        let due = if wait_ms == 0 {
            Timestamp(0)
        } else {
            now.plus_ms(wait_ms)
        };
        Ok(self.give_back(&lease, Cause::Nacked, due))
    }

    /// A member needs longer: the lease ends `lease_ms` from now.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn extend(
        &mut self,
        now: Timestamp,
        member: MemberId,
        delivery: u64,
        lease_ms: u64,
    ) -> Result<(), SettleError> {
        let ends = now.plus_ms(lease_ms);
        let extended = self
            .members
            .change(member, |member| member.window.extend(now, delivery, ends));
        self.checked(extended, member, delivery)?;
        self.set_timer(ends, Timer::Stray(member, delivery));
        Ok(())
    }

    /// A member unsubscribed: it gets nothing more, and may settle what it has until that ends.
    pub fn retire(&mut self, now: Timestamp, member: MemberId) {
        self.tick(now);
        self.members.retire(member);
    }

    /// A member is gone: what it has comes again at once, or is dead after its last attempt.
    pub fn leave(&mut self, now: Timestamp, member: MemberId) {
        self.tick(now);
        let Some(gone) = self.members.remove(member) else {
            return;
        };
        for (_, lease) in gone.window.leases() {
            let dead = self.give_back(lease, Cause::Gone, Timestamp(0));
            self.dead.extend(dead);
        }
    }

    /// Ends the leases and the waits that are over by `now`.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some((at, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Window(member) => {
                    let is_latest = |member: &Member| member.timer_at == at;
                    if self.members.get(member).is_some_and(is_latest) {
                        self.end_front(now, member);
                    }
                }
                Timer::Stray(member, delivery) => {
                    let lease = self
                        .members
                        .get(member)
                        .and_then(|member| member.window.get(delivery));
                    if lease.is_some_and(|lease| lease.ends <= now) {
                        self.expire(member, delivery);
                    }
                }
                Timer::Retry(partition, offset) => {
                    let woken = self
                        .progress_mut(partition)
                        .is_some_and(|progress| progress.wake(now, offset.0));
                    if woken {
                        self.comes(partition, Comes::AtOnce);
                    }
                }
            }
        }
    }

    /// Ends the leases of a member's window that are over, and sets the timer for the next one.
    fn end_front(&mut self, now: Timestamp, member: MemberId) {
        let front = |member: &Member| {
            let front = member.window.front();
            front.map(|(delivery, lease)| (delivery, lease.ends))
        };
        while let Some((delivery, ends)) = self.members.get(member).and_then(front) {
            if ends > now {
                self.members.change(member, |member| member.timer_at = ends);
                return self.set_timer(ends, Timer::Window(member));
            }
            self.expire(member, delivery);
        }
        self.members.change(member, |member| member.timer_at = NO_TIMER);
    }

    /// What died since this was last asked: by the end of a lease, of a member or of the broker.
    pub fn drain_dead(&mut self) -> Vec<Dead> {
        std::mem::take(&mut self.dead)
    }

    /// Says of a dead record when and why, before it is written to the dead letters: after a crash
    /// between the two it is among [`Self::doomed`].
    pub fn doom(&mut self, dead: &Dead, failed_at: Timestamp, reason: &str) {
        let (partition, offset) = (dead.partition, dead.offset);
        let doom = self
            .progress_mut(partition)
            .and_then(|progress| progress.dead.get_mut(&offset.0));
        if let Some(doom) = doom {
            doom.verdict = Some((failed_at, reason.into()));
            self.log.push(&Entry::Doomed {
                partition,
                offset,
                failed_at,
                reason,
            });
        }
    }

    /// Every doomed record that is not buried: where it is, its attempts, when it failed and why.
    ///
    /// After a restart these are to be buried; some may lie with the dead letters already.
    pub fn doomed(&self) -> impl Iterator<Item = (PartitionId, Offset, u32, Timestamp, &str)> {
        self.partitions().flat_map(|partition| {
            let dead = self.progress(partition).into_iter();
            let dead = dead.flat_map(|progress| &progress.dead);
            dead.filter_map(move |(&offset, Doom { attempts, verdict })| {
                let (failed_at, reason) = verdict.as_ref()?;
                Some((partition, Offset(offset), *attempts, *failed_at, &**reason))
            })
        })
    }

    /// A dead record is stored among the dead letters: it is finished.
    pub fn buried(&mut self, partition: PartitionId, offset: Offset) {
        let doom = self
            .progress_mut(partition)
            .and_then(|progress| progress.bury(offset.0));
        let Some(doom) = doom else {
            return;
        };
        self.counters.dead_lettered += 1;
        self.log.push(&Entry::Finished {
            partition,
            from: offset,
            count: 1,
        });
        if doom.verdict.is_none() {
            // A replay takes it for an acked one.
            self.log_counters();
        }
        self.queue_fresh(partition);
    }

    /// Goes on at `offset`: everything before is finished and nothing after it is, and what is out ends.
    pub fn seek(&mut self, now: Timestamp, partition: PartitionId, offset: Offset) {
        self.tick(now);
        let lies_there =
            |(delivery, lease): (u64, &Lease)| (lease.partition == partition).then_some(delivery);
        let out: Vec<(MemberId, Vec<u64>)> = self
            .members
            .iter()
            .map(|member| {
                let deliveries = member.window.leases().filter_map(lies_there);
                (member.id, deliveries.collect())
            })
            .collect();
        for (member, deliveries) in out {
            for delivery in deliveries {
                self.end(member, delivery);
            }
        }
        self.dead.retain(|dead| dead.partition != partition);
        self.set_position(partition, offset);
        self.log.push(&Entry::Position { partition, offset });
    }

    /// Takes the lease of a delivery out that is settled now.
    #[inline]
    fn settle(&mut self, now: Timestamp, member: MemberId, delivery: u64) -> Result<Lease, SettleError> {
        let settled = self
            .members
            .change(member, |member| member.window.settle(now, delivery));
        self.checked(settled, member, delivery)
    }

    /// What the window of a member said, if there is one; ends the lease if it is over.
    #[inline]
    fn checked<T>(
        &mut self,
        said: Option<Result<T, Unsettled>>,
        member: MemberId,
        delivery: u64,
    ) -> Result<T, SettleError> {
        match said {
            Some(Ok(settled)) => Ok(settled),
            Some(Err(Unsettled::Ended)) => Err(SettleError::LeaseExpired),
            Some(Err(Unsettled::Over)) => {
                self.expire(member, delivery);
                Err(SettleError::LeaseExpired)
            }
            Some(Err(Unsettled::Unknown)) | None => Err(SettleError::UnknownDelivery),
        }
    }

    /// Ends a lease by itself: its record comes again at once, because it has waited for long enough.
    fn expire(&mut self, member: MemberId, delivery: u64) {
        if let Some(lease) = self.end(member, delivery) {
            let dead = self.give_back(&lease, Cause::Expired, Timestamp(0));
            self.dead.extend(dead);
        }
    }

    /// Takes a lease out that ends by itself, and remembers that it did.
    fn end(&mut self, member: MemberId, delivery: u64) -> Option<Lease> {
        let ended = self.members.change(member, |member| {
            member.window.remember_ended(delivery);
            member.window.remove(delivery)
        });
        ended.flatten()
    }

    /// A record that was out comes again at `due`, or is dead if this was its last attempt.
    fn give_back(&mut self, lease: &Lease, cause: Cause, due: Timestamp) -> Option<Dead> {
        if lease.attempt >= self.settings.attempts_max {
            return Some(self.kill(lease, cause));
        }
        let (partition, offset) = (lease.partition, lease.offset);
        let progress = self.progress_mut(partition)?;
        let comes = progress.give_back(lease, due);
        self.comes(partition, comes);
        self.log.push(&Entry::Returned {
            partition,
            offset,
            due,
        });
        None
    }

    /// A record that was out is dead.
    fn kill(&mut self, lease: &Lease, cause: Cause) -> Dead {
        let (partition, offset, attempts) = (lease.partition, lease.offset, lease.attempt);
        let woken = self
            .progress_mut(partition)
            .and_then(|progress| progress.kill(lease));
        if let Some(comes) = woken {
            self.comes(partition, comes);
        }
        Dead {
            partition,
            offset,
            attempts,
            cause,
        }
    }

    /// Sets a timer, and throws out those that are over if there are many.
    pub(super) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.timers.set(at, timer);
        if !self.timers.are_many() {
            return;
        }
        let (members, partitions) = (&self.members, &self.partitions);
        self.timers.prune(|at, timer| match timer {
            Timer::Window(member) => members.get(member).is_some_and(|member| member.timer_at == at),
            Timer::Stray(member, delivery) => members
                .get(member)
                .and_then(|member| member.window.get(delivery))
                .is_some_and(|lease| lease.ends == at),
            Timer::Retry(partition, offset) => partitions
                .get(partition.0 as usize)
                .and_then(|progress| progress.as_ref()?.waiting.get(&offset.0))
                .is_some_and(|waiting| waiting.state == WaitState::Delayed && waiting.due == at),
        });
    }
}
