//! The naive shared group: a list of records, each with what became of it, and nothing clever.

use std::collections::BTreeMap;

use callboard_core::{
    lease::{Cause, Counters, Dead, LeaseSettings, Leased, Nack, Ordering, SettleError},
    member::MemberId,
};
use callboard_protocol::{Offset, PartitionId};

/// Where a record is: its partition and its offset.
pub type Place = (u32, u64);

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Fresh,
    Out {
        member: u64,
        delivery: u64,
        ends: u64,
    },
    /// Comes again, or was held back behind its key.
    Waiting {
        due: u64,
    },
    Dead {
        doomed: bool,
    },
    Finished,
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub key: Option<u64>,
    pub state: State,
    /// How often the group says that it was handed out.
    pub attempts: u32,
    /// How often it was handed out, whatever was forgotten.
    pub delivered: u32,
    /// Whether an ack of it was flushed since the last seek, so that its worker was told.
    pub told: bool,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub credit: u64,
    pub lease_ms: u64,
    pub ready: bool,
    pub retired: bool,
    pub exclusive: bool,
    pub deliveries: u64,
    /// Deliveries whose lease ended by itself.
    pub ended: Vec<u64>,
}

/// What is known of one group.
#[derive(Clone, Debug)]
pub struct Model {
    pub settings: LeaseSettings,
    pub ordering: Ordering,
    pub partitions: Vec<Vec<Record>>,
    /// Where each partition was begun or sought to.
    pub starts: Vec<u64>,
    pub members: BTreeMap<u64, Member>,
    pub counters: Counters,
    /// Acks that were not flushed.
    pub untold: Vec<Place>,
}

impl Model {
    pub fn new(settings: LeaseSettings, ordering: Ordering, partitions: usize) -> Self {
        Self {
            settings,
            ordering,
            partitions: vec![Vec::new(); partitions],
            starts: vec![0; partitions],
            members: BTreeMap::new(),
            counters: Counters::default(),
            untold: Vec::new(),
        }
    }

    pub fn record(&mut self, (partition, offset): Place) -> &mut Record {
        &mut self.partitions[partition as usize][offset as usize]
    }

    pub fn places(&self) -> Vec<Place> {
        let of_partition = |(partition, records): (usize, &Vec<Record>)| {
            (0..records.len() as u64).map(move |offset| (partition as u32, offset))
        };
        self.partitions
            .iter()
            .enumerate()
            .flat_map(of_partition)
            .collect()
    }

    pub fn out_of(&self, member: u64) -> Vec<(u64, Place)> {
        let mut out = Vec::new();
        for place in self.places() {
            match self.partitions[place.0 as usize][place.1 as usize].state {
                State::Out {
                    member: of, delivery, ..
                } if of == member => out.push((delivery, place)),
                _ => {}
            }
        }
        out.sort_unstable();
        out
    }

    pub fn free(&self, member: u64) -> u64 {
        match &self.members[&member] {
            it if it.ready && !it.retired => it.credit.saturating_sub(self.out_of(member).len() as u64),
            _ => 0,
        }
    }

    pub fn free_of_all(&self) -> u64 {
        self.members.keys().map(|&member| self.free(member)).sum()
    }

    /// The first fresh record of a partition, or its end.
    pub fn cursor(&self, partition: u32) -> u64 {
        let records = &self.partitions[partition as usize];
        let first = records.iter().position(|record| record.state == State::Fresh);
        first.unwrap_or(records.len()) as u64
    }

    /// Whether an earlier record of the same key is out or comes again.
    pub fn is_held_back(&self, (partition, offset): Place) -> bool {
        let records = &self.partitions[partition as usize];
        let key = records[offset as usize].key;
        let busy = |record: &Record| {
            record.key == key && !matches!(record.state, State::Finished | State::Dead { .. })
        };
        self.ordering == Ordering::Key && key.is_some() && records[..offset as usize].iter().any(busy)
    }

    /// Whether a record may be handed out.
    pub fn can_be_taken(&self, now: u64, place: Place) -> bool {
        let is_there = match self.partitions[place.0 as usize][place.1 as usize].state {
            State::Fresh => self.cursor(place.0) == place.1,
            State::Waiting { due } => due <= now,
            _ => false,
        };
        is_there && !self.is_held_back(place)
    }

    /// A record was handed out: checks that it might be, and to this member.
    pub fn take(&mut self, now: u64, place: Place, leased: &Leased, at: &str) {
        assert!(self.can_be_taken(now, place), "{at}: {place:?} may be taken");
        let id = leased.member.0;
        assert!(self.free(id) > 0, "{at}: never more than its credit");
        let member = self.members.get_mut(&id).expect("it has free credit");
        member.deliveries += 1;
        assert_eq!(leased.delivery, member.deliveries, "{at}: deliveries count up");
        assert_eq!(leased.lease_ms, member.lease_ms, "{at}");
        let ends = now + member.lease_ms;
        let delivery = leased.delivery;
        let record = self.record(place);
        record.attempts += 1;
        record.delivered += 1;
        assert_eq!(leased.attempt, record.attempts, "{at}: attempts are exact");
        record.state = State::Out {
            member: id,
            delivery,
            ends,
        };
    }

    /// A record that was read was not handed out though somebody might take it.
    pub fn hold_back(&mut self, now: u64, place: Place, at: &str) {
        assert!(
            !self.can_be_taken(now, place),
            "{at}: {place:?} is held back for nothing"
        );
        if self.record(place).state == State::Fresh && self.cursor(place.0) == place.1 {
            self.record(place).state = State::Waiting { due: 0 };
        }
    }

    /// Finds the lease that is to be settled; one that is over ends, and may be dead then.
    fn settle(&mut self, now: u64, member: u64, delivery: u64) -> (Result<Place, SettleError>, Option<Dead>) {
        let Some(known) = self.members.get(&member) else {
            return (Err(SettleError::UnknownDelivery), None);
        };
        if known.ended.contains(&delivery) {
            return (Err(SettleError::LeaseExpired), None);
        }
        let out = self.out_of(member);
        let Some(&(_, place)) = out.iter().find(|(number, _)| *number == delivery) else {
            return (Err(SettleError::UnknownDelivery), None);
        };
        match self.record(place).state {
            State::Out { ends, .. } if ends <= now => {
                (Err(SettleError::LeaseExpired), self.end(place, Cause::Expired, 0))
            }
            _ => (Ok(place), None),
        }
    }

    pub fn ack(
        &mut self,
        now: u64,
        member: u64,
        delivery: u64,
    ) -> (Result<Place, SettleError>, Option<Dead>) {
        let (settled, dead) = self.settle(now, member, delivery);
        if let Ok(place) = settled {
            self.record(place).state = State::Finished;
            self.counters.acked += 1;
            self.untold.push(place);
            self.forget_done(member);
        }
        (settled, dead)
    }

    pub fn nack(
        &mut self,
        now: u64,
        (member, delivery): (u64, u64),
        nack: Nack,
    ) -> (Result<Option<Dead>, SettleError>, Option<Dead>) {
        let (settled, dead) = self.settle(now, member, delivery);
        let place = match settled {
            Ok(place) => place,
            Err(error) => return (Err(error), dead),
        };
        let attempts = self.record(place).attempts;
        let wait_ms = match nack {
            Nack::DeadLetter => {
                let dead = self.kill(place, Cause::Nacked);
                self.forget_done(member);
                return (Ok(Some(dead)), None);
            }
            Nack::After(wait_ms) => wait_ms,
            Nack::Backoff => (1..attempts)
                .fold(self.settings.retry_backoff_ms, |wait_ms, _| wait_ms * 2)
                .min(self.settings.retry_backoff_ms_max),
        };
        let due = if wait_ms == 0 { 0 } else { now + wait_ms };
        let dead = self.end(place, Cause::Nacked, due);
        if let Some(known) = self.members.get_mut(&member) {
            // It was settled, so it did not end by itself.
            known.ended.retain(|&ended| ended != delivery);
        }
        (Ok(dead), None)
    }

    pub fn extend(
        &mut self,
        now: u64,
        (member, delivery): (u64, u64),
        lease_ms: u64,
    ) -> (Result<(), SettleError>, Option<Dead>) {
        let (settled, dead) = self.settle(now, member, delivery);
        if let Ok(place) = settled {
            self.record(place).state = State::Out {
                member,
                delivery,
                ends: now + lease_ms,
            };
        }
        (settled.map(|_| ()), dead)
    }

    /// Ends all leases that are over; returns what died.
    pub fn tick(&mut self, now: u64) -> Vec<Dead> {
        let is_over = |model: &mut Self, place: &Place| match model.record(*place).state {
            State::Out { ends, .. } => ends <= now,
            _ => false,
        };
        let over: Vec<_> = self.places();
        let over: Vec<_> = over.into_iter().filter(|place| is_over(self, place)).collect();
        over.into_iter()
            .filter_map(|place| self.end(place, Cause::Expired, 0))
            .collect()
    }

    pub fn leave(&mut self, now: u64, member: u64) -> Vec<Dead> {
        let mut dead = self.tick(now);
        if self.members.contains_key(&member) {
            let out = self.out_of(member);
            dead.extend(
                out.into_iter()
                    .filter_map(|(_, place)| self.end(place, Cause::Gone, 0)),
            );
            self.members.remove(&member);
        }
        dead
    }

    pub fn retire(&mut self, now: u64, member: u64) -> Vec<Dead> {
        let dead = self.tick(now);
        if let Some(known) = self.members.get_mut(&member) {
            known.retired = true;
        }
        self.forget_done(member);
        dead
    }

    /// A lease ends otherwise than by an ack.
    fn end(&mut self, place: Place, cause: Cause, due: u64) -> Option<Dead> {
        let record = *self.record(place);
        if let State::Out { member, delivery, .. } = record.state
            && let Some(known) = self.members.get_mut(&member)
        {
            known.ended.push(delivery);
        }
        let dead = if record.attempts >= self.settings.attempts_max {
            Some(self.kill(place, cause))
        } else {
            self.record(place).state = State::Waiting { due };
            None
        };
        if let State::Out { member, .. } = record.state {
            self.forget_done(member);
        }
        dead
    }

    fn kill(&mut self, place: Place, cause: Cause) -> Dead {
        let record = self.record(place);
        record.state = State::Dead { doomed: false };
        Dead {
            partition: PartitionId(place.0),
            offset: Offset(place.1),
            attempts: record.attempts,
            cause,
        }
    }

    fn forget_done(&mut self, member: u64) {
        let is_done = self.members.get(&member).is_some_and(|known| known.retired);
        if is_done && self.out_of(member).is_empty() {
            self.members.remove(&member);
        }
    }

    pub fn bury(&mut self, place: Place) {
        self.record(place).state = State::Finished;
        self.counters.dead_lettered += 1;
    }

    pub fn pass_over(&mut self, partition: u32, from: u64, next: u64) {
        let cursor = self.cursor(partition);
        for offset in from..next {
            let record = self.record((partition, offset));
            let passed = match record.state {
                State::Waiting { .. } => true,
                State::Fresh => from <= cursor,
                _ => false,
            };
            if passed {
                record.state = State::Finished;
            }
        }
    }

    pub fn seek(&mut self, now: u64, partition: u32, to: u64) -> Vec<Dead> {
        let mut dead = self.tick(now);
        dead.retain(|dead| dead.partition.0 != partition);
        for place in self.places().into_iter().filter(|place| place.0 == partition) {
            let record = self.record(place);
            let was = record.state;
            *record = Record {
                state: if place.1 < to {
                    State::Finished
                } else {
                    State::Fresh
                },
                attempts: 0,
                told: false,
                ..*record
            };
            if let State::Out { member, delivery, .. } = was {
                if let Some(known) = self.members.get_mut(&member) {
                    known.ended.push(delivery);
                }
                self.forget_done(member);
            }
        }
        self.untold.retain(|place| place.0 != partition);
        self.starts[partition as usize] = to;
        dead
    }

    /// What has happened is flushed: whoever acked is told so.
    pub fn flush(&mut self, at: &str) {
        for place in std::mem::take(&mut self.untold) {
            let record = self.record(place);
            assert!(!record.told, "{at}: {place:?} is acked once");
            record.told = true;
        }
    }

    /// The group as it is known again after a restart; returns what died of it.
    pub fn restart(&mut self) -> Vec<Dead> {
        self.members.clear();
        self.untold.clear();
        let mut dead = Vec::new();
        for partition in 0..self.partitions.len() as u32 {
            let was_seen = |record: &Record| {
                record.attempts > 0 || matches!(record.state, State::Finished | State::Dead { .. })
            };
            let records = &self.partitions[partition as usize];
            let seen = records
                .iter()
                .rposition(was_seen)
                .map_or(0, |last| last as u64 + 1);
            let cursor = seen.max(self.starts[partition as usize]);
            for offset in 0..records.len() as u64 {
                let place = (partition, offset);
                let attempts_max = self.settings.attempts_max;
                let record = self.record(place);
                match record.state {
                    State::Finished | State::Dead { doomed: true } => {}
                    _ if record.attempts >= attempts_max => dead.push(self.kill(place, Cause::Gone)),
                    State::Waiting { .. } if offset < cursor => {}
                    _ if offset < cursor => record.state = State::Waiting { due: 0 },
                    _ => record.state = State::Fresh,
                }
            }
        }
        dead
    }

    /// Who is in the group: credit, out, ready and retired of each.
    pub fn member_views(&self) -> BTreeMap<MemberId, (u64, u64, bool, bool)> {
        let view = |(&id, member): (&u64, &Member)| {
            let out = self.out_of(id).len() as u64;
            let ready = member.ready && !member.retired;
            (MemberId(id), (member.credit, out, ready, member.retired))
        };
        self.members.iter().map(view).collect()
    }
}
