//! Random schedules of a partitioned group against a naive one.

use std::collections::{BTreeMap, BTreeSet};

use callboard_core::{
    group::{Event, Exclusive, Generation, GroupError, Join, MemberId, PartitionedGroup},
    group_log::{EntryWriter, entries},
};
use callboard_protocol::{Offset, PartitionId};

use super::{
    TIMING, entry,
    naive::{Member, Naive},
};
use crate::random::Random;

const SCHEDULES: u64 = 10_000;
const STEPS: u64 = 20;

struct Play {
    seed: u64,
    random: Random,
    group: PartitionedGroup,
    naive: Naive,
    log: Vec<Vec<u8>>,
    writer: EntryWriter,
    members_given: u64,
    /// Threads that were told to stop and have not said that they did.
    stops: Vec<(MemberId, PartitionId)>,
    last_events: String,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut play = Self {
            seed,
            random: Random::new(seed),
            group: PartitionedGroup::new(TIMING),
            naive: Naive::default(),
            log: Vec::new(),
            writer: EntryWriter::new(),
            members_given: 0,
            stops: Vec::new(),
            last_events: String::new(),
        };
        play.raise();
        play
    }

    fn holds(&self, checked: Result<(), String>) {
        if let Err(claim) = checked {
            panic!("seed {}: {claim}; {}", self.seed, self.last_events);
        }
    }

    /// A partition, mostly one that there is.
    fn partition(&mut self) -> PartitionId {
        PartitionId(self.random.below(self.naive.firsts.len() as u64 + 1) as u32)
    }

    /// A member, mostly one that is there.
    fn member(&mut self) -> MemberId {
        let here: Vec<MemberId> = self.naive.members.keys().copied().collect();
        if here.is_empty() || self.random.chance(1, 20) {
            return MemberId(self.random.below(self.members_given + 1));
        }
        *self.random.pick(&here)
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=3 => self.join(),
            4 => {
                let member = self.member();
                self.naive.remove(member);
                self.group.leave(self.naive.now, member);
            }
            5..=6 => {
                let member = self.member();
                self.naive.lost(member);
                self.group.lost(self.naive.now, member);
            }
            7..=11 => self.commit(),
            12..=14 => self.stop(),
            15 => self.release(),
            16 => self.seek(),
            17 => {
                let timeout = self
                    .group
                    .next_timeout()
                    .map_or(700, |at| at.since(self.naive.now));
                let wait_ms = *self
                    .random
                    .pick(&[1, 400, timeout, timeout, timeout.saturating_sub(1)]);
                self.wait(wait_ms);
            }
            18 if self.naive.firsts.len() < 7 => self.raise(),
            _ if self.random.chance(1, 6) => self.restart(),
            _ => {}
        }
        self.listen();
    }

    fn join(&mut self) {
        if self.naive.members.len() > 5 {
            return;
        }
        self.members_given += 1;
        let name = *self.random.pick(&[None, Some("x"), Some("y"), Some("z")]);
        let starts = BTreeMap::from([(PartitionId(0), Offset(self.random.below(9)))]);
        let join = Join {
            member: MemberId(self.members_given),
            name,
            exclusive: if self.random.chance(1, 15) {
                Exclusive::Yes
            } else {
                Exclusive::No
            },
            starts: &starts,
        };
        let expected = self.naive.join(&join, name);
        let joined = self.group.join(self.naive.now, join);
        assert_eq!(joined.is_ok(), expected.is_ok(), "seed {}: {joined:?}", self.seed);
        self.nothing_if_refused(joined.is_err());
    }

    fn commit(&mut self) {
        let member = self.member();
        let mut offsets = BTreeMap::new();
        for _ in 0..=self.random.below(2) {
            let own = self
                .naive
                .holdings
                .iter()
                .filter(|(_, holding)| holding.member == member);
            let own: Vec<PartitionId> = own.map(|(&partition, _)| partition).collect();
            let partition = match own.is_empty() || self.random.chance(1, 8) {
                true => self.partition(),
                false => *self.random.pick(&own),
            };
            let position = self
                .naive
                .positions
                .get(&partition)
                .map_or(0, |position| position.0);
            offsets.insert(
                partition,
                Offset((position + self.random.below(6)).saturating_sub(2)),
            );
        }
        let generation = self.random.chance(1, 2).then(|| {
            let back = self.random.below(5);
            Generation((self.naive.generation.0 + 1).saturating_sub(back))
        });
        let expected = self.naive.commit(member, generation, &offsets);
        let committed = self.group.commit(self.naive.now, member, generation, &offsets);
        assert_eq!(committed, expected, "seed {}", self.seed);
        self.nothing_if_refused(committed.is_err());
    }

    fn nothing_if_refused(&mut self, is_refused: bool) {
        if is_refused {
            let events = self.group.drain_events();
            assert!(events.is_empty(), "seed {}: refused, and {events:?}", self.seed);
        }
    }

    fn stop(&mut self) {
        if self.stops.is_empty() || self.random.chance(1, 10) {
            // One that nobody waits for.
            let (member, partition) = (self.member(), self.partition());
            if !self.stops.contains(&(member, partition)) {
                self.group.stopped(self.naive.now, member, partition, None);
            }
            return;
        }
        let (member, partition) = self
            .stops
            .swap_remove(self.random.below(self.stops.len() as u64) as usize);
        let position = self.naive.positions[&partition];
        let out = self
            .random
            .chance(2, 3)
            .then(|| position.plus(self.random.below(4)));
        self.answer(member, partition, out);
    }

    fn answer(&mut self, member: MemberId, partition: PartitionId, out: Option<Offset>) {
        let holding = self.naive.holdings.get_mut(&partition);
        if let Some(holding) = holding.filter(|holding| holding.member == member)
            && let Some(taken) = &mut holding.taken
        {
            taken.stopped = Some(out);
        }
        self.group.stopped(self.naive.now, member, partition, out);
    }

    fn release(&mut self) {
        let (member, partition) = (self.member(), self.partition());
        let holding = self.naive.holdings.get(&partition);
        let is_held = holding.is_some_and(|holding| holding.member == member);
        let expected = match (self.naive.is_here(member), is_held) {
            (false, _) => Err(GroupError::UnknownMember),
            (true, false) => Err(GroupError::NotOwner { partition }),
            (true, true) => Ok(()),
        };
        if expected.is_ok() {
            self.naive.end_at_once(partition);
        }
        let released = self.group.release(self.naive.now, member, &[partition]);
        assert_eq!(released, expected, "seed {}", self.seed);
        self.nothing_if_refused(released.is_err());
    }

    fn seek(&mut self) {
        let (partition, offset) = (self.partition(), Offset(self.random.below(20)));
        if self.naive.firsts.contains_key(&partition) {
            self.naive.positions.insert(partition, offset);
            self.naive.end_at_once(partition);
        }
        self.group
            .seek(self.naive.now, &BTreeMap::from([(partition, offset)]));
    }

    fn wait(&mut self, wait_ms: u64) {
        self.naive.now = self.naive.now.plus_ms(wait_ms);
        let now = self.naive.now;
        let is_over = |member: &Member| member.lost_until.is_some_and(|until| until <= now);
        let members = self.naive.members.iter();
        let gone: Vec<MemberId> = members
            .filter(|(_, member)| is_over(member))
            .map(|(&id, _)| id)
            .collect();
        gone.into_iter().for_each(|member| self.naive.remove(member));
        self.group.tick(now);
        let timeout = self.group.next_timeout();
        assert!(timeout.is_none_or(|timeout| timeout > now), "seed {}", self.seed);
    }

    /// One to three partitions more.
    fn raise(&mut self) {
        let before = self.naive.firsts.len() as u64;
        for partition in before..=before + self.random.below(3) {
            let first = Offset(self.random.below(5));
            self.naive.firsts.insert(PartitionId(partition as u32), first);
        }
        self.say_partitions();
    }

    /// Whatever has no position in a group that has begun came later than it.
    fn say_partitions(&mut self) {
        if !self.naive.positions.is_empty() {
            self.naive.position_all(&BTreeMap::new());
        }
        self.group.set_partitions(self.naive.now, &self.naive.firsts);
    }

    fn restart(&mut self) {
        self.listen();
        self.log.push(self.writer.finish());
        self.group = PartitionedGroup::new(TIMING);
        for record in self.log.iter().filter(|record| !record.is_empty()) {
            for entry in entries(record).expect("written by this version") {
                self.group.apply(&entry.expect("written whole"));
            }
        }
        if self.random.chance(1, 2) {
            self.group.snapshot(&mut self.writer);
            self.log.clear();
        }
        self.naive.members.clear();
        self.naive.holdings.clear();
        self.stops.clear();
        self.say_partitions();
    }

    /// Hears all events, and holds the group against the naive one.
    fn listen(&mut self) {
        let events = self.group.drain_events();
        self.last_events = format!("{events:?}");
        self.naive.let_go();
        for event in &events {
            if let Some(entry) = entry(event) {
                self.writer.push(&entry);
            }
            let heard = self.naive.hear(event);
            self.holds(heard);
            if let Event::Revoked {
                member, partitions, ..
            } = event
            {
                self.stops
                    .extend(partitions.iter().map(|&partition| (*member, partition)));
            }
        }
        self.naive.let_go();
        self.compare();
    }

    fn compare(&self) {
        let (group, naive, seed) = (&self.group, &self.naive, self.seed);
        assert_eq!(group.generation(), naive.generation, "seed {seed}");
        for &partition in naive.firsts.keys() {
            let position = naive.positions.get(&partition).copied();
            assert_eq!(group.committed(partition), position, "seed {seed}: {partition}");
            let owner = naive.holdings.get(&partition).map(|holding| holding.member);
            assert_eq!(
                group.owner(partition),
                owner,
                "seed {seed}: {partition}; {}",
                self.last_events
            );
        }
        let mut members = BTreeSet::new();
        for view in group.members() {
            let member = &naive.members[&view.member];
            assert_eq!(
                (view.name, view.is_lost),
                (member.name, member.lost_until.is_some()),
                "seed {seed}"
            );
            assert_eq!(
                view.partitions,
                naive.holdings_of(view.member, false),
                "seed {seed}"
            );
            assert_eq!(view.revoking, naive.holdings_of(view.member, true), "seed {seed}");
            members.insert(view.member);
        }
        assert!(members.iter().eq(naive.members.keys()), "seed {seed}");
    }

    /// Lets all that waits come to its end, after which the group must be balanced and quiet.
    fn settle(&mut self) {
        self.wait(TIMING.rejoin_grace_ms);
        self.listen();
        while let Some((member, partition)) = self.stops.pop() {
            self.answer(member, partition, None);
            self.listen();
        }
        let sizes: Vec<usize> = self.group.members().map(|view| view.partitions.len()).collect();
        let owned: usize = sizes.iter().sum();
        let expected = if sizes.is_empty() {
            0
        } else {
            self.naive.firsts.len()
        };
        assert_eq!(owned, expected, "seed {}: each partition has an owner", self.seed);
        let (least, most) = (sizes.iter().min(), sizes.iter().max());
        let is_balanced = least.zip(most).is_none_or(|(least, most)| most - least <= 1);
        assert!(is_balanced, "seed {}: {sizes:?}", self.seed);
        for (member, state) in &self.naive.members {
            let is_idle = self.naive.holdings_of(*member, false).is_empty();
            assert_eq!(state.is_told_idle, is_idle, "seed {}: {member}", self.seed);
        }
        assert_eq!(self.group.next_timeout(), None, "seed {}", self.seed);
        self.wait(100_000);
        assert!(
            self.group.drain_events().is_empty(),
            "seed {}: what is settled stays",
            self.seed
        );
    }
}

pub fn random_schedules_agree_with_the_naive_partitioned_group() {
    let mut generations = 0;
    for seed in 0..SCHEDULES {
        let mut play = Play::new(seed);
        for _ in 0..STEPS {
            play.step();
        }
        play.settle();
        generations += play.naive.generation.0;
    }
    assert!(generations > 5 * SCHEDULES, "{generations}: much is moved");
}
