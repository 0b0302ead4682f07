//! A shared group: each record is leased to one member until it is acked, comes again, or is dead.
//!
//! Owns which records are out, with whom and until when, how often each was handed out, and what comes
//! next. It sees offsets and hashes of keys, never a record: whoever calls it asks what to read
//! ([`SharedGroup::want`]), reads it, and asks who gets it ([`SharedGroup::take`]). What happened stands in
//! [`SharedGroup::log`], and replaying that gives the group again. Called by the actor that owns the group.
//!
//! An attempt is counted when a record is handed out, not when it is nacked: a worker that crashes never
//! nacks, and its record must still reach the dead letters.

mod finished;
mod keys;
mod members;
mod progress;
mod replay;
mod settle;
mod timers;
mod views;
mod window;

use std::collections::{BTreeMap, VecDeque};

use callboard_protocol::{Offset, PartitionId, Timestamp, limits::PARTITIONS_MAX};

use self::{
    keys::key_hash,
    members::Members,
    progress::{Admission, Comes, Progress},
    timers::{Timer, Timers},
    window::{Lease, Stray},
};
pub use self::{
    members::MemberView,
    settle::{Cause, Dead, Nack, SettleError},
    views::Counters,
};
use crate::{
    group_log::{Entry, EntryWriter},
    member::{Exclusive, GroupError, MemberId},
};

/// Most fresh records of one partition before another one's turn.
const TURN_MAX: u64 = 1024;

/// How a group retries; may change while it works, and counts from the next return of a record on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How often a record is handed out before it is dead; at least 1.
    pub attempts_max: u32,
    /// How long a record waits after its first nack; twice as long after each further one.
    pub retry_backoff_ms: u64,
    /// It never waits longer than this.
    pub retry_backoff_ms_max: u64,
}

impl LeaseSettings {
    /// How long a record waits that was nacked when it was out for the `attempt`th time.
    fn backoff_ms(&self, attempt: u32) -> u64 {
        let doublings = attempt.saturating_sub(1).min(63);
        self.retry_backoff_ms
            .saturating_mul(1 << doublings)
            .min(self.retry_backoff_ms_max)
    }
}

/// What a group promises about the order of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// About in the order of offsets.
    #[default]
    BestEffort,
    /// At most one record of a key is out, and each key's records come in their order.
    Key,
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Fresh records from here on, at most `count`: there are so many, and credit for them.
    Fresh {
        partition: PartitionId,
        from: Offset,
        count: u64,
    },
    /// This one record comes again: it was returned, or held back behind its key.
    Again { partition: PartitionId, offset: Offset },
}

/// A record that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// To whom.
    pub member: MemberId,
    /// Its number among the member's deliveries, from 1 and rising.
    pub delivery: u64,
    /// How often it was handed out, with this time.
    pub attempt: u32,
    /// For how long.
    pub lease_ms: u64,
}

/// Who gets a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// This member.
    Leased(Leased),
    /// Not now: it is held back behind its key, is not due, or is not there to be taken any more. The
    /// group wants it again when it should be read again.
    Held,
    /// Nobody has credit; nothing changed. Stop asking until something does.
    Full,
}

/// One shared group.
#[derive(Debug)]
pub struct SharedGroup {
    settings: LeaseSettings,
    ordering: Ordering,
    /// By their number; few of a group's partitions are missing.
    partitions: Vec<Option<Box<Progress>>>,
    members: Members,
    timers: Timers,
    /// Partitions that may have fresh records, each once; the front has its turn.
    fresh: VecDeque<PartitionId>,
    /// How many fresh records the front still gives in its turn.
    fresh_turn: u64,
    /// Partitions that may have records to come again, each once.
    again: VecDeque<PartitionId>,
    /// What died by itself and nobody was told of.
    dead: Vec<Dead>,
    counters: Counters,
    /// Where the redrive of each partition of the dead letters goes on.
    redriven_next: BTreeMap<PartitionId, Offset>,
    /// The number of the topic of those partitions, if it is known.
    letters: Option<u64>,
    log: EntryWriter,
}

impl SharedGroup {
    /// A group without members or partitions; allocates nothing.
    #[must_use]
    pub fn new(settings: LeaseSettings, ordering: Ordering) -> Self {
        Self {
            settings,
            ordering,
            partitions: Vec::new(),
            members: Members::default(),
            timers: Timers::default(),
            fresh: VecDeque::new(),
            fresh_turn: 0,
            again: VecDeque::new(),
            dead: Vec::new(),
            counters: Counters::default(),
            redriven_next: BTreeMap::new(),
            letters: None,
            log: EntryWriter::new(),
        }
    }

    /// Retries by these settings from now on.
    pub fn set_settings(&mut self, settings: LeaseSettings) {
        self.settings = settings;
    }

    /// Gives the group a position in a partition in which it has none.
    pub fn open_partition(&mut self, partition: PartitionId, start: Offset) {
        if partition.0 < PARTITIONS_MAX && self.progress(partition).is_none() {
            self.set_position(partition, start);
            self.log.push(&Entry::Position {
                partition,
                offset: start,
            });
        }
    }

    /// There are committed records of an open partition up to `end`; never takes that back.
    pub fn set_end(&mut self, partition: PartitionId, end: Offset) {
        if let Some(progress) = self.progress_mut(partition) {
            progress.end = progress.end.max(end.0);
            self.queue_fresh(partition);
        }
    }

    /// Leaves a partition out of what is wanted, while it is being read or can not be.
    pub fn set_paused(&mut self, partition: PartitionId, paused: bool) {
        let Some(progress) = self.progress_mut(partition) else {
            return;
        };
        progress.is_paused = paused;
        if !paused {
            let has_ready = !progress.ready.is_empty();
            self.queue_fresh(partition);
            if has_ready {
                self.comes(partition, Comes::AtOnce);
            }
        }
    }

    /// Takes a member in that gets at most `credit` records at a time, each for `lease_ms`.
    ///
    /// # Errors
    /// [`GroupError::Conflict`] if it or another member is exclusive, or if it is in the group already.
    pub fn join(
        &mut self,
        member: MemberId,
        credit: u64,
        lease_ms: u64,
        exclusive: Exclusive,
    ) -> Result<(), GroupError> {
        self.members.join(member, credit, lease_ms, exclusive)
    }

    /// Lets a member have `add` records more at a time.
    pub fn add_credit(&mut self, member: MemberId, add: u64) {
        self.members.add_credit(member, add);
    }

    /// Lets a member have `credit` records at a time from now on; what it has beyond that it keeps.
    pub fn set_credit(&mut self, member: MemberId, credit: u64) {
        self.members.set_credit(member, credit);
    }

    /// Whether a member's outbox takes more; it gets nothing while it does not.
    pub fn set_ready(&mut self, member: MemberId, ready: bool) {
        self.members.set_ready(member, ready);
    }

    /// What to read next, and to offer to [`Self::take`] or [`Self::pass_over`]; `None` if there is nothing
    /// or nobody to take it. Asked twice, it says the same, unless something changed between.
    ///
    /// What has to come again goes before what is fresh, and partitions take turns.
    pub fn want(&mut self, now: Timestamp) -> Option<Want> {
        if self.timers.next().is_some_and(|next| next <= now) {
            self.tick(now);
        }
        let free = self.members.free();
        if free == 0 {
            return None;
        }
        self.want_again().or_else(|| self.want_fresh(free))
    }

    fn want_again(&mut self) -> Option<Want> {
        while let Some(&partition) = self.again.front() {
            let progress = self.progress_mut(partition)?;
            if let Some(&offset) = progress.ready.first().filter(|_| !progress.is_paused) {
                return Some(Want::Again {
                    partition,
                    offset: Offset(offset),
                });
            }
            progress.in_again = false;
            self.again.pop_front();
        }
        None
    }

    fn want_fresh(&mut self, free: u64) -> Option<Want> {
        if self.fresh_turn == 0 && !self.fresh.is_empty() {
            self.fresh.rotate_left(1);
        }
        while let Some(&partition) = self.fresh.front() {
            let progress = self.progress_mut(partition)?;
            let count = progress.fresh().min(free).min(TURN_MAX);
            let from = Offset(progress.cursor);
            if count > 0 && !progress.is_paused {
                if self.fresh_turn == 0 {
                    self.fresh_turn = count;
                }
                return Some(Want::Fresh {
                    partition,
                    from,
                    count,
                });
            }
            progress.in_fresh = false;
            self.fresh.pop_front();
            self.fresh_turn = 0;
        }
        None
    }

    /// Hands out a record that was read: the next fresh one, or the one that is wanted again. `key` is the
    /// hash of its key, and only read in key order.
    ///
    /// Any other record is [`Take::Held`]: it was sought away from or finished since it was wanted.
    #[inline]
    pub fn take(&mut self, now: Timestamp, partition: PartitionId, offset: Offset, key: Option<u64>) -> Take {
        if self.members.free() == 0 {
            return Take::Full;
        }
        let Some(Some(progress)) = self.partitions.get_mut(partition.0 as usize) else {
            return Take::Held;
        };
        let key = key.filter(|_| self.ordering == Ordering::Key).map(key_hash);
        let is_fresh = offset.0 == progress.cursor;
        let attempt = match progress.admit(now, offset.0, key) {
            Admission::Free { attempts } => attempts + 1,
            Admission::Held => {
                self.spend_turn(partition, u64::from(is_fresh));
                return Take::Held;
            }
            Admission::Later(comes) => {
                self.comes(partition, comes);
                return Take::Held;
            }
        };
        let available = progress.end.saturating_sub(progress.cursor) + progress.ready.len() as u64;
        let lease = |lease_ms| Lease {
            ends: now.plus_ms(lease_ms),
            offset,
            partition,
            attempt,
            key,
        };
        let Some(handed) = self.members.hand_out(available, lease) else {
            return Take::Full;
        };
        progress.take(offset.0);
        if is_fresh {
            self.spend_turn(partition, 1);
        } else {
            self.taken_again(partition);
        }
        if let Some(Stray { delivery, ends }) = handed.stray {
            self.set_timer(ends, Timer::Stray(handed.member, delivery));
        }
        if let Some(at) = handed.timer_at {
            self.set_timer(at, Timer::Window(handed.member));
        }
        self.log.push(&Entry::Taken {
            partition,
            from: offset,
            count: 1,
            attempt,
        });
        Take::Leased(Leased {
            member: handed.member,
            delivery: handed.delivery,
            attempt,
            lease_ms: handed.lease_ms,
        })
    }

    /// Another partition has its turn for records that come again, and there is room for fresh ones.
    fn taken_again(&mut self, partition: PartitionId) {
        if self.again.front() == Some(&partition) {
            self.again.rotate_left(1);
        }
        self.queue_fresh(partition);
    }

    /// Fresh records of a partition were used up, in its turn or not.
    #[inline]
    fn spend_turn(&mut self, partition: PartitionId, count: u64) {
        if self.fresh.front() == Some(&partition) {
            self.fresh_turn = self.fresh_turn.saturating_sub(count);
        }
    }

    /// Finishes the records in `from..next` that are fresh or wait: expired, removed or hurt. Those that
    /// are out or dead go their way.
    ///
    /// Fresh ones only from the next one on: a range behind it is left alone.
    pub fn pass_over(&mut self, partition: PartitionId, from: Offset, next: Offset) {
        let Some(Some(progress)) = self.partitions.get_mut(partition.0 as usize) else {
            return;
        };
        let (mut were_taken, mut woken) = (false, Vec::new());
        let range = from.0..next.0.max(from.0);
        let passed: Vec<_> = progress
            .waiting
            .range(range)
            .map(|(&offset, waiting)| (offset, waiting.attempts))
            .collect();
        for (offset, attempts) in passed {
            were_taken |= attempts > 0;
            woken.extend(progress.pass_over_waiting(offset));
            self.log.push(&Entry::Finished {
                partition,
                from: Offset(offset),
                count: 1,
            });
        }
        if from.0 <= progress.cursor && progress.cursor < next.0 {
            let (from, next) = progress.pass_over_fresh(next.0);
            self.log.push(&Entry::Finished {
                partition,
                from: Offset(from),
                count: next - from,
            });
            self.spend_turn(partition, next - from);
        }
        if were_taken {
            // A replay takes a finished record that was out before for an acked one.
            self.log_counters();
        }
        woken.into_iter().for_each(|comes| self.comes(partition, comes));
        self.queue_fresh(partition);
    }

    /// When to call [`Self::tick`] at the latest: not after the next end of a lease or of a wait, and
    /// sometimes before it.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// The dead letters lie in the topic of this number. In another one than before, as after it was deleted and
    /// made again, a redrive begins anew.
    pub fn set_letters(&mut self, topic: u64) {
        if self.letters != Some(topic) {
            let entry = Entry::Letters(topic);
            self.apply(&entry);
            self.log.push(&entry);
        }
    }

    /// Dead letters of a partition of their topic were moved back, up to `next`.
    pub fn redriven(&mut self, partition: PartitionId, next: Offset, count: u64) {
        let entry = Entry::Redriven {
            partition,
            next,
            count,
        };
        self.apply(&entry);
        self.log.push(&entry);
    }

    /// Where the redrive of a partition of the dead letters goes on.
    #[must_use]
    pub fn redriven_next(&self, partition: PartitionId) -> Option<Offset> {
        self.redriven_next.get(&partition).copied()
    }

    /// What happened since it was last finished.
    pub fn log(&mut self) -> &mut EntryWriter {
        &mut self.log
    }

    fn progress(&self, partition: PartitionId) -> Option<&Progress> {
        self.partitions.get(partition.0 as usize)?.as_deref()
    }

    fn progress_mut(&mut self, partition: PartitionId) -> Option<&mut Progress> {
        self.partitions.get_mut(partition.0 as usize)?.as_deref_mut()
    }

    /// Begins anew in a partition, and knows nothing else of it.
    fn set_position(&mut self, partition: PartitionId, start: Offset) {
        let index = partition.0 as usize;
        if self.partitions.len() <= index {
            self.partitions.resize_with(index + 1, || None);
        }
        let mut progress = Progress::new(start, self.ordering);
        if let Some(former) = &self.partitions[index] {
            progress.end = progress.end.max(former.end);
            // It stands in the queues that it stood in.
            (progress.in_fresh, progress.in_again) = (former.in_fresh, former.in_again);
            progress.is_paused = former.is_paused;
        }
        self.partitions[index] = Some(Box::new(progress));
        self.queue_fresh(partition);
    }

    /// Puts a partition that has fresh records into their queue.
    #[inline]
    fn queue_fresh(&mut self, partition: PartitionId) {
        if let Some(Some(progress)) = self.partitions.get_mut(partition.0 as usize)
            && !progress.in_fresh
            && !progress.is_paused
            && progress.fresh() > 0
        {
            progress.in_fresh = true;
            self.fresh.push_back(partition);
        }
    }

    /// Sees to it that a record that waits comes again.
    fn comes(&mut self, partition: PartitionId, comes: Comes) {
        match comes {
            Comes::At(due, offset) => self.set_timer(due, Timer::Retry(partition, offset)),
            Comes::AtOnce => {
                if let Some(Some(progress)) = self.partitions.get_mut(partition.0 as usize)
                    && !progress.in_again
                    && !progress.is_paused
                {
                    progress.in_again = true;
                    self.again.push_back(partition);
                }
            }
        }
    }

    fn log_counters(&mut self) {
        self.log.push(&Entry::Counters {
            acked: self.counters.acked,
            dead_lettered: self.counters.dead_lettered,
            redriven: self.counters.redriven,
        });
    }
}
