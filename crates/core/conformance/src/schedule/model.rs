//! A partition's schedules on plain lists: everything that was ever written, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use callboard_core::record::RecordParts;
use callboard_core::schedule::{
    Schedules,
    log::{Entry, Scheduled},
};
use callboard_protocol::{Offset, Timestamp};

use super::{record, scheduled};
use crate::random::Random;

const WINDOW_MS: u64 = 50;

/// What an entry said.
#[derive(Clone, Debug)]
enum Said {
    Scheduled {
        at: u64,
        due: u64,
        id: Option<String>,
    },
    Moved,
    /// With these, the topic's partition got them in the same write.
    Done(Vec<u64>),
    Cancelled(Vec<u64>),
}

/// One random life of a partition's schedules.
pub struct Play {
    seed: u64,
    random: Random,
    now: u64,
    schedules: Schedules,
    /// Everything that is in the log, or on its way there, by place; never cut.
    said: Vec<Said>,
    /// The log as it lies on disk: from `first` on.
    disk: BTreeMap<u64, Vec<u8>>,
    committed: u64,
}

impl Play {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now: 1000,
            schedules: Schedules::new(Offset::ZERO),
            said: Vec::new(),
            disk: BTreeMap::new(),
            committed: 0,
        }
    }

    pub fn step(&mut self) {
        match self.random.below(14) {
            0..=4 => self.schedule(),
            5 | 6 => self.now += self.random.below(40),
            7 | 8 => self.deliver(),
            9 => self.cancel(),
            10 => self.relocate(),
            11 | 12 => self.commit(),
            _ => self.crash(),
        }
        self.check();
    }

    /// Lets everything come due, and looks at what was delivered in all.
    pub fn finish(&mut self) {
        self.now = u64::MAX;
        while !self.waiting().is_empty() {
            self.deliver();
            self.check();
        }
        self.committed = self.said.len() as u64;
        self.schedules.committed(Offset(self.committed));
        assert_eq!(
            self.schedules.cut(),
            self.schedules.next_place(),
            "seed {}",
            self.seed
        );
        let mut seen = BTreeSet::new();
        for said in &self.said {
            if let Said::Done(numbers) | Said::Cancelled(numbers) = said {
                for number in numbers {
                    assert!(seen.insert(*number), "seed {}: {number} came twice", self.seed);
                }
            }
        }
        let scheduled = self
            .said
            .iter()
            .filter(|said| matches!(said, Said::Scheduled { .. }));
        assert_eq!(seen.len(), scheduled.count(), "seed {}", self.seed);
    }

    fn write(&mut self, place: Offset, entry: &Entry<'_>, said: Said) {
        assert_eq!(place.0, self.said.len() as u64, "seed {}", self.seed);
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.disk.insert(place.0, bytes);
        self.said.push(said);
    }

    fn schedule(&mut self) {
        let id = self
            .random
            .chance(1, 2)
            .then(|| format!("id-{}", self.random.below(5)));
        if let Some(id) = &id {
            let known = self
                .schedules
                .repeated(id.as_bytes(), Timestamp(self.now), WINDOW_MS);
            let expected = self.named(id);
            assert_eq!(
                known.map(|it| it.turn.number),
                expected,
                "seed {}: {id}",
                self.seed
            );
            if known.is_some() {
                return;
            }
        }
        let (at, due) = (self.now, self.now + 1 + self.random.below(100));
        let record = record(id.as_deref(), self.said.len().to_string().as_bytes());
        let scheduled = scheduled(at, due, &record);
        let waiting = self.schedules.add(&scheduled, record.len() as u32);
        assert_eq!(waiting.turn.number, waiting.place.0);
        self.write(
            waiting.place,
            &Entry::Scheduled(scheduled),
            Said::Scheduled { at, due, id },
        );
    }

    /// Takes some of what is due; a crash later may take it back.
    fn deliver(&mut self) {
        let some = 1 + self.random.below(6) as usize;
        let now = Timestamp(self.now);
        let due: Vec<_> = self.schedules.due(now).take(some).collect();
        for waiting in &due {
            assert!(waiting.turn.due <= now, "seed {}: early", self.seed);
            self.check_payload(waiting.place, waiting.turn.number);
        }
        let mut numbers: Vec<_> = due.iter().map(|waiting| waiting.turn.number).collect();
        if numbers.is_empty() {
            return;
        }
        numbers.sort_unstable();
        let entry = Entry::Done(numbers.clone());
        let place = self.schedules.take(&numbers, 10);
        self.write(place, &entry, Said::Done(numbers));
    }

    /// The log still has the record where the index says.
    fn check_payload(&self, place: Offset, number: u64) {
        let bytes = self.disk.get(&place.0).expect("what counts is not cut");
        let (parts, _) = RecordParts::decode(bytes).expect("what was written");
        let entry = Entry::decode(parts.payload).expect("what was written");
        let scheduled: &Scheduled<'_> = entry.scheduled().expect("the entry of a record");
        let (inner, _) = RecordParts::decode(scheduled.record).expect("what was written");
        assert_eq!(inner.payload, number.to_string().as_bytes(), "seed {}", self.seed);
    }

    fn cancel(&mut self) {
        let number = self.random.below(self.said.len() as u64 + 2);
        let waits = self.waiting().contains_key(&number);
        assert_eq!(self.schedules.get(number).is_some(), waits, "seed {}", self.seed);
        if waits {
            let place = self.schedules.take(&[number], 5);
            self.write(
                place,
                &Entry::Cancelled(vec![number]),
                Said::Cancelled(vec![number]),
            );
        }
    }

    /// Writes the oldest that wait again at the end.
    fn relocate(&mut self) {
        let mut waiting: Vec<_> = self.schedules.after(None).collect();
        waiting.sort_by_key(|waiting| waiting.place);
        waiting.truncate(self.random.below(4) as usize);
        let entries: Vec<_> = waiting.iter().map(|it| (it.turn.number, it.bytes)).collect();
        let first = self.schedules.relocate(&entries);
        for (index, waiting) in waiting.iter().enumerate() {
            let bytes = self.disk[&waiting.place.0].clone();
            let (parts, _) = RecordParts::decode(&bytes).expect("what was written");
            let entry = Entry::decode(parts.payload).expect("what was written");
            let scheduled = *entry.scheduled().expect("the entry of a record");
            let number = waiting.turn.number;
            self.write(
                first.plus(index as u64),
                &Entry::Moved { number, scheduled },
                Said::Moved,
            );
        }
    }

    fn commit(&mut self) {
        let open = self.said.len() as u64 - self.committed;
        self.committed += self.random.below(open + 1);
        self.schedules.committed(Offset(self.committed));
        let cut = self.schedules.cut().0;
        assert!(cut <= self.said.len() as u64);
        // The store cuts whole files: less than it may.
        if let Some(&first) = self.disk.keys().next()
            && cut > first
        {
            let until = first + self.random.below(cut - first + 1);
            self.disk.retain(|place, _| *place >= until);
        }
    }

    /// What is committed is there afterwards, and of the rest as much as chance wants.
    fn crash(&mut self) {
        let open = self.said.len() as u64 - self.committed;
        let kept = self.committed + self.random.below(open + 1);
        self.said.truncate(kept as usize);
        self.disk.retain(|place, _| *place < kept);
        self.committed = kept;
        let first = self.disk.keys().next().copied().unwrap_or(kept);
        self.schedules = Schedules::new(Offset(first));
        for (place, bytes) in &self.disk {
            let (parts, _) = RecordParts::decode(bytes).expect("what was written");
            let entry = Entry::decode(parts.payload).expect("what was written");
            self.schedules.replay(Offset(*place), bytes.len() as u32, &entry);
        }
        assert_eq!(self.schedules.next_place(), Offset(kept), "seed {}", self.seed);
    }

    /// Those that wait with their due times, from all that was ever said.
    fn waiting(&self) -> BTreeMap<u64, u64> {
        let mut waiting = BTreeMap::new();
        for (place, said) in self.said.iter().enumerate() {
            match said {
                Said::Scheduled { due, .. } => drop(waiting.insert(place as u64, *due)),
                Said::Moved => {}
                Said::Done(numbers) | Said::Cancelled(numbers) => {
                    for number in numbers {
                        waiting.remove(number);
                    }
                }
            }
        }
        waiting
    }

    /// The record that waits under this id, inside the window.
    fn named(&self, id: &str) -> Option<u64> {
        let waiting = self.waiting();
        let carries = |number: &u64| match &self.said[*number as usize] {
            Said::Scheduled {
                at, id: Some(own), ..
            } => own == id && self.now - at < WINDOW_MS,
            _ => false,
        };
        waiting.keys().copied().rfind(carries)
    }

    fn check(&self) {
        let mut expected: Vec<_> = self
            .waiting()
            .into_iter()
            .map(|(number, due)| (due, number))
            .collect();
        expected.sort_unstable();
        let found: Vec<_> = self
            .schedules
            .after(None)
            .map(|waiting| (waiting.turn.due.0, waiting.turn.number))
            .collect();
        assert_eq!(found, expected, "seed {}", self.seed);
        assert_eq!(self.schedules.len(), expected.len());
        let next = expected.first().map(|(due, _)| Timestamp(*due));
        assert_eq!(self.schedules.next_due(), next);
        let due = expected.iter().take_while(|(due, _)| *due <= self.now).count();
        assert_eq!(
            self.schedules.due(Timestamp(self.now)).count(),
            due,
            "seed {}",
            self.seed
        );
    }
}
