//! Random schedules: everything that can happen to a shared group, in any order, played against the model.

use std::collections::{BTreeMap, BTreeSet};

use callboard_core::{
    group_log::{EntryWriter, entries},
    lease::{Dead, LeaseSettings, Nack, Ordering, SharedGroup, Take, Want},
    member::{Exclusive, MemberId},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::model::{Member, Model, Place, Record, State};
use crate::random::Random;

const STEPS: u64 = 60;

/// One group beside its model.
struct World {
    random: Random,
    group: SharedGroup,
    model: Model,
    /// The model as it was when the log was flushed last.
    durable: Model,
    log: Vec<Vec<u8>>,
    now: u64,
    /// Names each member once in the process.
    members: u64,
    /// A read that is on its way.
    reading: Option<Want>,
    /// Partitions of which nothing may be wanted.
    paused: BTreeSet<u32>,
    /// What died and was not doomed.
    dead: Vec<Dead>,
    at: String,
}

fn sorted(mut dead: Vec<Dead>) -> Vec<Dead> {
    dead.sort_by_key(|dead| (dead.partition, dead.offset));
    dead
}

impl World {
    fn new(seed: u64, ordering: Ordering) -> Self {
        let mut random = Random::new(seed);
        let settings = LeaseSettings {
            attempts_max: 1 + random.below(4) as u32,
            retry_backoff_ms: random.below(20),
            retry_backoff_ms_max: random.below(60),
        };
        let partitions = 1 + random.below(3) as usize;
        let mut group = SharedGroup::new(settings, ordering);
        (0..partitions).for_each(|partition| group.open_partition(PartitionId(partition as u32), Offset(0)));
        let model = Model::new(settings, ordering, partitions);
        let mut world = Self {
            random,
            group,
            durable: model.clone(),
            model,
            log: Vec::new(),
            now: 1000,
            members: 0,
            reading: None,
            paused: BTreeSet::new(),
            dead: Vec::new(),
            at: String::new(),
        };
        // A group is told to its creator once it is durable.
        world.flush();
        world
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    fn some_partition(&mut self) -> u32 {
        self.random.below(self.model.partitions.len() as u64) as u32
    }

    fn end_of(&self, partition: u32) -> u64 {
        self.model.partitions[partition as usize].len() as u64
    }

    /// A member, mostly one that is there.
    fn some_member(&mut self) -> u64 {
        let there: Vec<_> = self.model.members.keys().copied().collect();
        if there.is_empty() || self.random.chance(1, 20) {
            return self.random.below(self.members + 1);
        }
        *self.random.pick(&there)
    }

    /// A delivery of a member, mostly one that is out.
    fn some_delivery(&mut self) -> (u64, u64) {
        let member = self.some_member();
        let out = self.model.out_of(member);
        if out.is_empty() || self.random.chance(1, 10) {
            return (member, self.random.below(12));
        }
        (member, self.random.pick(&out).0)
    }

    fn publish(&mut self) {
        let partition = self.some_partition();
        for _ in 0..=self.random.below(6) {
            let key = self.random.chance(4, 5).then(|| 1 + self.random.below(4));
            self.model.partitions[partition as usize].push(Record {
                key,
                state: State::Fresh,
                attempts: 0,
                delivered: 0,
                told: false,
            });
            self.durable.partitions[partition as usize].push(Record {
                key,
                state: State::Fresh,
                attempts: 0,
                delivered: 0,
                told: false,
            });
        }
        let end = Offset(self.end_of(partition));
        self.group.set_end(PartitionId(partition), end);
    }

    fn join(&mut self) {
        self.members += 1;
        let member = Member {
            credit: self.random.below(6),
            lease_ms: 1 + self.random.below(60),
            ready: true,
            retired: false,
            exclusive: self.random.chance(1, 12),
            deliveries: 0,
            ended: Vec::new(),
        };
        let exclusive = if member.exclusive {
            Exclusive::Yes
        } else {
            Exclusive::No
        };
        let joined = self
            .group
            .join(MemberId(self.members), member.credit, member.lease_ms, exclusive);
        let mut others = self.model.members.values().filter(|other| !other.retired);
        let refused = others.any(|other| other.exclusive || member.exclusive);
        assert_eq!(joined.is_err(), refused, "{}", self.at);
        if !refused {
            self.model.members.insert(self.members, member);
        }
    }

    /// What died must be what the model says.
    fn expect_dead(&mut self, expected: Vec<Dead>) {
        let died = sorted(self.group.drain_dead());
        assert_eq!(died, sorted(expected), "{}", self.at);
        self.dead.extend(died);
    }

    fn tick(&mut self) {
        self.group.tick(self.time());
        let dead = self.model.tick(self.now);
        self.expect_dead(dead);
    }

    fn want(&mut self) -> Option<Want> {
        let want = self.group.want(self.time());
        let dead = self.model.tick(self.now);
        self.expect_dead(dead);
        assert_eq!(
            self.group.want(self.time()),
            want,
            "{}: asked twice, the same",
            self.at
        );
        if let Some(Want::Fresh { partition, .. } | Want::Again { partition, .. }) = want {
            assert!(!self.paused.contains(&partition.0), "{}: it is paused", self.at);
        }
        want
    }

    /// Offers what was read, perhaps a while ago, and perhaps not all of it.
    fn offer(&mut self, want: Want) {
        let (partition, offsets) = match want {
            Want::Fresh {
                partition,
                from,
                count,
            } => (partition, from.0..from.0 + 1 + self.random.below(count)),
            Want::Again { partition, offset } => (partition, offset.0..offset.0 + 1),
        };
        for offset in offsets {
            let place = (partition.0, offset);
            let key = self.model.record(place).key;
            match self.group.take(self.time(), partition, Offset(offset), key) {
                Take::Leased(leased) => self.model.take(self.now, place, &leased, &self.at),
                Take::Held => self.model.hold_back(self.now, place, &self.at),
                Take::Full => {
                    assert_eq!(self.model.free_of_all(), 0, "{}: somebody has credit", self.at);
                    return;
                }
            }
        }
    }

    /// Reads until nothing is wanted; then nobody who has credit may be left waiting.
    fn pump(&mut self) {
        let mut reads = 0;
        while let Some(want) = self.want() {
            self.offer(want);
            reads += 1;
            assert!(reads < 1000, "{}: reading comes to an end", self.at);
        }
        if self.model.free_of_all() > 0 {
            for place in self.model.places() {
                assert!(
                    self.paused.contains(&place.0) || !self.model.can_be_taken(self.now, place),
                    "{}: {place:?} waits while somebody has credit",
                    self.at
                );
            }
        }
    }

    fn settle(&mut self) {
        let (member, delivery) = self.some_delivery();
        let (now, id) = (self.time(), MemberId(member));
        let at = self.at.clone();
        let died = match self.random.below(8) {
            0..5 => {
                let (expected, dead) = self.model.ack(self.now, member, delivery);
                let acked = self.group.ack(now, id, delivery);
                let place = |(partition, offset): (PartitionId, Offset)| (partition.0, offset.0);
                assert_eq!(acked.map(place), expected, "{at}");
                dead
            }
            5 => {
                let lease_ms = self.random.below(90);
                let (expected, dead) = self.model.extend(self.now, (member, delivery), lease_ms);
                assert_eq!(self.group.extend(now, id, delivery, lease_ms), expected, "{at}");
                dead
            }
            _ => {
                let nack = match self.random.below(4) {
                    0 => Nack::DeadLetter,
                    1 => Nack::After(self.random.below(2) * self.random.below(80)),
                    _ => Nack::Backoff,
                };
                let (expected, dead) = self.model.nack(self.now, (member, delivery), nack);
                let nacked = self.group.nack(now, id, delivery, nack);
                assert_eq!(nacked, expected, "{at}");
                self.dead.extend(nacked.ok().flatten());
                dead
            }
        };
        self.expect_dead(died.into_iter().collect());
    }

    fn change_member(&mut self) {
        let member = self.some_member();
        let (now, id) = (self.time(), MemberId(member));
        let at = self.at.clone();
        match self.random.below(7) {
            0 => {
                self.group.leave(now, id);
                let dead = self.model.leave(self.now, member);
                self.expect_dead(dead);
            }
            1 => {
                self.group.retire(now, id);
                let dead = self.model.retire(self.now, member);
                self.expect_dead(dead);
            }
            2 | 3 => {
                let ready = self.random.chance(1, 2);
                self.group.set_ready(id, ready);
                if let Some(known) = self.model.members.get_mut(&member) {
                    known.ready = ready;
                }
            }
            4 => {
                // Also less than it has out, and none at all.
                let credit = self.random.below(4);
                self.group.set_credit(id, credit);
                if let Some(known) = self.model.members.get_mut(&member) {
                    known.credit = credit;
                }
            }
            _ => {
                let add = self.random.below(4);
                self.group.add_credit(id, add);
                if let Some(known) = self.model.members.get_mut(&member) {
                    known.credit += add;
                }
            }
        }
        let views = self.group.members();
        let views: BTreeMap<_, _> = views
            .map(|view| (view.member, (view.credit, view.out, view.ready, view.retired)))
            .collect();
        assert_eq!(views, self.model.member_views(), "{at}");
    }

    fn set_paused(&mut self, partition: u32, paused: bool) {
        self.group.set_paused(PartitionId(partition), paused);
        if paused {
            self.paused.insert(partition);
        } else {
            self.paused.remove(&partition);
        }
    }

    /// Writes about something dead: dooms or buries it.
    fn bury(&mut self) {
        if let Some(dead) = self.dead.pop() {
            self.group.doom(&dead, Timestamp(self.now), "why");
            let place = (dead.partition.0, dead.offset.0);
            self.model.record(place).state = State::Dead { doomed: true };
            return;
        }
        let doomed = self.doomed();
        if !doomed.is_empty() {
            let (partition, offset) = *self.random.pick(&doomed);
            self.group.buried(PartitionId(partition), Offset(offset));
            self.model.bury((partition, offset));
        }
    }

    fn doomed(&self) -> Vec<Place> {
        let doomed = self.group.doomed();
        doomed
            .map(|(partition, offset, ..)| (partition.0, offset.0))
            .collect()
    }

    fn move_position(&mut self) {
        let partition = self.some_partition();
        let end = self.end_of(partition);
        let from = self.random.below(end + 1);
        if self.random.chance(1, 3) {
            self.group.seek(self.time(), PartitionId(partition), Offset(from));
            let dead = self.model.seek(self.now, partition, from);
            self.dead.retain(|dead| dead.partition.0 != partition);
            self.expect_dead(dead);
        } else {
            let next = (from + self.random.below(5)).min(end);
            self.group
                .pass_over(PartitionId(partition), Offset(from), Offset(next));
            self.model.pass_over(partition, from, next);
        }
    }

    fn flush(&mut self) {
        let record = self.group.log().finish();
        if !record.is_empty() {
            self.log.push(record);
        }
        if self.random.chance(1, 4) {
            let mut out = EntryWriter::new();
            self.group.snapshot(&mut out);
            self.log = vec![out.finish()];
        }
        self.model.flush(&self.at);
        self.durable = self.model.clone();
    }

    fn restart(&mut self) {
        if self.random.chance(1, 2) {
            self.flush();
        }
        // What was handed out was handed out, also where the group forgot it.
        for place in self.model.places() {
            self.durable.record(place).delivered = self.model.record(place).delivered;
        }
        self.model = self.durable.clone();
        self.reading = None;
        self.dead.clear();
        self.paused.clear();
        self.group = SharedGroup::new(self.model.settings, self.model.ordering);
        for record in &self.log {
            for entry in entries(record).expect("what the group wrote") {
                self.group.apply(&entry.expect("what the group wrote"));
            }
        }
        self.group.restored(self.time());
        for partition in 0..self.model.partitions.len() as u32 {
            let end = Offset(self.end_of(partition));
            self.group.set_end(PartitionId(partition), end);
        }
        let dead = self.model.restart();
        self.expect_dead(dead);
        for place in self.model.places() {
            let record = self.model.record(place);
            assert!(
                record.attempts <= record.delivered,
                "{}: a crash adds no attempt",
                self.at
            );
        }
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..3 => self.publish(),
            3 | 4 => self.join(),
            5..8 => self.pump(),
            8 => self.reading = self.want(),
            9 | 10 => {
                if let Some(want) = self.reading.take() {
                    self.tick();
                    self.offer(want);
                }
            }
            11..17 => self.settle(),
            17 => self.change_member(),
            18 => {
                self.now += self.random.below(40);
                self.tick();
            }
            // Time passes, and nobody tells the group.
            19 => self.now += self.random.below(25),
            20 => self.bury(),
            21 => self.flush(),
            22 if self.random.chance(1, 2) => self.restart(),
            23 if self.random.chance(1, 3) => self.move_position(),
            22 | 23 => {
                let (partition, paused) = (self.some_partition(), self.random.chance(1, 3));
                self.set_paused(partition, paused);
            }
            _ => {}
        }
        self.compare();
    }

    /// What the group shows must be what the model counts.
    fn compare(&self) {
        let at = &self.at;
        for (partition, records) in self.model.partitions.iter().enumerate() {
            let count = |is: &dyn Fn(&Record) -> bool| records.iter().filter(|it| is(it)).count() as u64;
            let unfinished = count(&|it| it.state != State::Finished);
            let leased = count(&|it| matches!(it.state, State::Out { .. }));
            let waiting = count(&|it| matches!(it.state, State::Waiting { .. }));
            let first = records.iter().position(|it| it.state != State::Finished);
            let floor = Offset(first.unwrap_or(records.len()) as u64);
            let partition = PartitionId(partition as u32);
            assert_eq!(self.group.floor(partition), Some(floor), "{at}");
            assert_eq!(self.group.unfinished(partition), unfinished, "{at}");
            assert_eq!(self.group.leased(partition), leased, "{at}");
            assert_eq!(self.group.waiting(partition), waiting, "{at}");
            for record in records {
                if let State::Out { ends, .. } = record.state {
                    let timeout = self.group.next_timeout();
                    let looks = timeout.is_some_and(|timeout| timeout.0 <= ends);
                    assert!(looks, "{at}: every lease ends");
                }
            }
        }
        assert_eq!(self.group.counters(), self.model.counters, "{at}");
    }

    /// With a member that acks everything nothing is left, whatever happened before.
    fn finish(&mut self) {
        for member in self.model.members.keys().copied().collect::<Vec<_>>() {
            self.group.leave(self.time(), MemberId(member));
            let dead = self.model.leave(self.now, member);
            self.expect_dead(dead);
        }
        for partition in self.paused.clone() {
            self.set_paused(partition, false);
        }
        self.random = Random::new(0);
        while self.model.members.is_empty() {
            self.join();
            let member = self.members;
            self.group.add_credit(MemberId(member), 3);
            if let Some(known) = self.model.members.get_mut(&member) {
                known.credit += 3;
            }
        }
        let member = self.members;
        let mut rounds = 0;
        while self
            .model
            .places()
            .iter()
            .any(|&place| self.model.record(place).state != State::Finished)
        {
            rounds += 1;
            assert!(rounds < 1000, "{}: everything comes to an end", self.at);
            self.pump();
            for (delivery, place) in self.model.out_of(member) {
                assert_eq!(self.model.ack(self.now, member, delivery).0, Ok(place));
                let acked = self.group.ack(self.time(), MemberId(member), delivery);
                assert_eq!(acked, Ok((PartitionId(place.0), Offset(place.1))), "{}", self.at);
            }
            for _ in 0..2 * (self.dead.len() + self.doomed().len()) {
                self.bury();
            }
            self.compare();
            self.now += 30;
        }
        self.flush();
    }
}

fn play(seed: u64, ordering: Ordering) {
    let mut world = World::new(seed, ordering);
    for step in 0..STEPS {
        world.at = format!("seed {seed}, step {step}");
        world.step();
    }
    world.at = format!("seed {seed}, at the end");
    world.finish();
}

pub fn random_schedules_of_leases_agree_with_the_naive_group() {
    (0..5000).for_each(|seed| play(seed, Ordering::BestEffort));
}

pub fn random_schedules_in_key_order_agree_with_the_naive_group() {
    (5000..10_000).for_each(|seed| play(seed, Ordering::Key));
}
