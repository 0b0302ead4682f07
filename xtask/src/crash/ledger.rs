//! What the broker has promised, and what was sent to it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    later::{Later, SeenLater},
    record::{Kind, Number, Record, TOPICS, writer_of},
    writer::Asked,
};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The partition.
    pub partition: u64,
    /// The offset in it.
    pub offset: u64,
}

/// Repeats are tried well inside the default window of two minutes.
const REPEATS_WITHIN: Duration = Duration::from_secs(60);
/// Most records that are kept for repeats.
const REPEATS_MAX: usize = 500;

/// What one connection saw while the broker lived.
#[derive(Default)]
pub struct Seen {
    /// Sent, by topic.
    pub sent: Vec<(usize, Number)>,
    /// Acked as durable or shown, by topic.
    pub promised: Vec<(usize, Spot, Number)>,
    /// Of scheduled records.
    pub later: SeenLater,
    /// Sent, in this order, and never answered.
    pub unanswered: Vec<Asked>,
    /// Whether it was a consumer: its promises were shown, not acked.
    pub is_consumer: bool,
    /// Promises that were broken at once.
    pub violations: Vec<String>,
}

impl Seen {
    /// How many records were acked as durable.
    pub fn acked(&self) -> u64 {
        if self.is_consumer {
            0
        } else {
            (self.promised.len() + self.later.scheduled.len()) as u64
        }
    }
}

/// One topic's part.
#[derive(Default)]
pub struct TopicLedger {
    /// The epoch that was told last.
    pub epoch: Option<String>,
    /// What must be there.
    pub promised: BTreeMap<Spot, Number>,
    /// What may be there.
    pub sent: HashSet<Number>,
    /// Records with a message id, to be sent once more.
    pub repeats: VecDeque<(Instant, Number, Spot)>,
}

/// Everything about one data directory.
pub struct Ledger {
    /// Of the records.
    pub seed: u64,
    /// In the order of [`TOPICS`].
    pub topics: Vec<TopicLedger>,
    /// Scheduled records.
    pub later: Later,
}

impl Ledger {
    /// Nothing is promised yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            topics: TOPICS.iter().map(|_| TopicLedger::default()).collect(),
            later: Later::default(),
        }
    }

    /// Adds what a connection saw and returns what contradicts it.
    pub fn take_over(&mut self, seen: Seen) -> Vec<String> {
        let mut violations = seen.violations;
        violations.extend(self.later.take_over(self.seed, seen.later));
        for (topic, number) in seen.sent {
            self.topics[topic].sent.insert(number);
        }
        for (topic, spot, number) in seen.promised {
            if let Some(other) = self.topics[topic].promised.insert(spot, number)
                && other != number
            {
                violations.push(format!(
                    "{}: {spot:?} holds {other} and {number}",
                    TOPICS[topic].name
                ));
            }
            let record = Record::new(self.seed, topic, number);
            if record.message_id.is_some() && record.is_kept() && !seen.is_consumer {
                let repeats = &mut self.topics[topic].repeats;
                repeats.push_back((Instant::now(), number, spot));
                if repeats.len() > REPEATS_MAX {
                    repeats.pop_front();
                }
            }
        }
        violations
    }

    /// What lived in memory only is gone with the process.
    pub fn broker_ended(&mut self) {
        for (topic, ledger) in TOPICS.iter().zip(&mut self.topics) {
            if !topic.is_durable() {
                *ledger = TopicLedger {
                    epoch: ledger.epoch.take(),
                    ..TopicLedger::default()
                };
            }
        }
    }
}

impl TopicLedger {
    /// Records that a repeat has to be answered for, at most `count`.
    pub fn take_repeats(&mut self, count: usize) -> Vec<(Number, Spot)> {
        self.repeats
            .retain(|(since, _, _)| since.elapsed() < REPEATS_WITHIN);
        let skip = self.repeats.len().saturating_sub(count);
        self.repeats
            .iter()
            .skip(skip)
            .map(|(_, number, spot)| (*number, *spot))
            .collect()
    }

    /// Holds a topic that was read back whole against what was promised and sent, and takes it as the new
    /// promise: it has been shown. `found` is in the order of partitions and offsets.
    pub fn settle(&mut self, seed: u64, topic: usize, found: &[(Spot, Number)]) -> Vec<String> {
        let name = TOPICS[topic].name;
        let mut violations = Vec::new();
        let mut spots: HashMap<Number, Spot> = HashMap::new();
        let mut newest: HashMap<(u64, u64), Number> = HashMap::new();
        for (spot, number) in found {
            if !self.sent.contains(number) {
                violations.push(format!(
                    "{name}: {spot:?} holds {number}, which was never sent to it"
                ));
            }
            if let Some(other) = spots.insert(*number, *spot) {
                violations.push(format!(
                    "{name}: {number} is stored twice, at {other:?} and {spot:?}"
                ));
            }
            let before = newest.insert((spot.partition, writer_of(*number)), *number);
            // What is due later comes in the order of its times.
            let is_ordered = TOPICS[topic].kind != Kind::Later;
            if let Some(before) = before.filter(|before| is_ordered && before > number) {
                violations.push(format!(
                    "{name}: {spot:?} holds {number} after {before}, sent the other way round"
                ));
            }
        }
        let found: BTreeMap<Spot, Number> = found.iter().copied().collect();
        for (spot, number) in &self.promised {
            match found.get(spot) {
                Some(there) if there == number => {}
                None if !Record::new(seed, topic, *number).is_kept() => {}
                there => violations.push(format!("{name}: {spot:?} held {number}, and now {there:?}")),
            }
        }
        self.promised = found;
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Spot {
        Spot { partition: 0, offset }
    }

    fn ledger() -> TopicLedger {
        let mut ledger = TopicLedger {
            sent: (0..10).collect(),
            ..TopicLedger::default()
        };
        assert!(
            ledger
                .settle(1, 0, &[(at(0), 0), (at(1), 1), (at(2), 4)])
                .is_empty()
        );
        ledger
    }

    #[test]
    fn what_was_shown_must_stay() {
        assert!(
            ledger()
                .settle(1, 0, &[(at(0), 0), (at(1), 1), (at(2), 4), (at(3), 5)])
                .is_empty()
        );
        assert_eq!(ledger().settle(1, 0, &[(at(0), 0), (at(1), 1)]).len(), 1);
        assert_eq!(
            ledger().settle(1, 0, &[(at(0), 0), (at(1), 1), (at(2), 5)]).len(),
            1
        );
    }

    #[test]
    fn what_was_not_sent_or_is_out_of_order_or_twice_is_found() {
        let kept = [(at(0), 0), (at(1), 1), (at(2), 4)];
        for strange in [77, 3, 1] {
            let found: Vec<(Spot, Number)> = kept.into_iter().chain([(at(3), strange)]).collect();
            assert!(!ledger().settle(1, 0, &found).is_empty(), "{strange}");
        }
    }
}
