//! Scheduled records: none is lost, none comes early, none comes twice.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use super::record::{self, LATER, Number, Record, TOPICS};
use crate::{broker::Broker, shell::Failure};

/// Records in a page of the list.
const PAGE: u64 = 1000;
/// How long after its time a record may still wait when the broker is ready; no promise, but no loss either.
const LATE_MS_MAX: u64 = 20_000;
/// Repeats are tried well inside the default window of two minutes.
const REPEATS_WITHIN: Duration = Duration::from_secs(60);

/// When a record comes, and what it is called until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub id: String,
    /// Milliseconds since the Unix epoch.
    pub deliver_at: u64,
}

impl Scheduled {
    /// What an answer to a publish says.
    pub fn read(answer: &Value) -> Option<Self> {
        Some(Self {
            id: answer["scheduled"].as_str()?.to_owned(),
            deliver_at: answer["deliver_at"].as_u64()?,
        })
    }
}

/// What one connection saw of them.
#[derive(Default)]
pub struct SeenLater {
    /// Sent, and when.
    pub sent: Vec<(Number, u64)>,
    /// Acked, and when.
    pub scheduled: Vec<(Number, Scheduled, u64)>,
    /// Shown to a consumer: its timestamp, and when.
    pub shown: Vec<(Number, u64, u64)>,
}

/// Those of one data directory.
#[derive(Default)]
pub struct Later {
    /// Before when none that was sent may come.
    not_before: HashMap<Number, u64>,
    /// Acked or listed, and not read from the topic yet; with when it was acked.
    waiting: HashMap<Number, (Scheduled, Option<Instant>)>,
}

/// What the broker lists as due later.
pub type List = HashMap<Number, Scheduled>;

/// The time of day that the broker shares with us.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

/// Everything that `broker` lists.
///
/// # Errors
/// When it cannot be asked, or lists a record twice or one that nobody sent.
pub fn list(broker: &Broker) -> Result<List, Failure> {
    let mut all = List::new();
    let mut next = String::new();
    loop {
        let name = TOPICS[LATER].name;
        let path = format!("/api/v1/topics/{name}/scheduled?limit={PAGE}{next}");
        let (status, page) = broker.json(&path)?;
        let Some(entries) = page["scheduled"].as_array().filter(|_| status == 200) else {
            return Err(Failure::new(format!("{path} was answered {status} {page}")));
        };
        for entry in entries {
            let scheduled = entry["id"].as_str().zip(entry["deliver_at"].as_u64());
            let number = entry["payload"]["number"].as_u64();
            let (Some((id, deliver_at)), Some(number)) = (scheduled, number) else {
                return Err(Failure::new(format!("{path} lists {entry}")));
            };
            let id = id.to_owned();
            if let Some(other) = all.insert(number, Scheduled { id, deliver_at }) {
                return Err(Failure::new(format!(
                    "{number} is listed twice, also as {other:?}"
                )));
            }
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&next={cursor}"),
            None => return Ok(all),
        }
    }
}

impl Later {
    /// Adds what a connection saw and returns what contradicts it. Publishers come before consumers.
    pub fn take_over(&mut self, seed: u64, seen: SeenLater) -> Vec<String> {
        let mut violations = Vec::new();
        let delay_ms = |number| Record::new(seed, LATER, number).delay_ms.unwrap_or(0);
        for (number, sent_at) in seen.sent {
            let not_before = sent_at + delay_ms(number);
            self.not_before.entry(number).or_insert(not_before);
        }
        for (number, scheduled, answered_at) in seen.scheduled {
            let earliest = self.earliest(number);
            if !(earliest..=answered_at + delay_ms(number)).contains(&scheduled.deliver_at) {
                violations.push(format!(
                    "{number} is due at {earliest} or little later, and was answered {scheduled:?}"
                ));
            }
            let acked = (scheduled, Some(Instant::now()));
            let (scheduled, _) = &acked;
            if let Some((other, _)) = self.waiting.get(&number)
                && other != scheduled
            {
                violations.push(format!("{number} was answered {other:?} and {scheduled:?}"));
            }
            self.waiting.insert(number, acked);
        }
        for (number, timestamp, shown_at) in seen.shown {
            violations.extend(self.early(number, timestamp));
            violations.extend(self.early(number, shown_at));
        }
        violations
    }

    /// Before when a record may not come; what was never sent may not come at all.
    fn earliest(&self, number: Number) -> u64 {
        let acked = self.waiting.get(&number);
        let not_before = self.not_before.get(&number).copied().unwrap_or(u64::MAX);
        acked.map_or(not_before, |(scheduled, _)| scheduled.deliver_at.max(not_before))
    }

    fn early(&self, number: Number, came_at: u64) -> Option<String> {
        let earliest = self.earliest(number);
        (came_at < earliest).then(|| format!("{number} came at {came_at}, and is due at {earliest}"))
    }

    /// Whether a record that was acked is neither listed nor found.
    pub fn is_one_on_its_way(&self, found: &HashMap<Number, u64>, listed: &List) -> bool {
        let mut waiting = self.waiting.keys();
        waiting.any(|number| !found.contains_key(number) && !listed.contains_key(number))
    }

    /// Holds what was read from the topic, with timestamps, and what was listed before and after that, against
    /// what was acked.
    pub fn settle(&mut self, found: &HashMap<Number, u64>, before: List, after: &List) -> Vec<String> {
        let mut violations = Vec::new();
        for (number, timestamp) in found {
            violations.extend(self.early(*number, *timestamp));
            if let Some(scheduled) = after.get(number) {
                violations.push(format!("{number} is there, and is still due as {scheduled:?}"));
            }
        }
        for (number, (acked, _)) in &self.waiting {
            match before.get(number) {
                _ if found.contains_key(number) => {}
                Some(listed) if listed == acked => {}
                other => violations.push(format!("{number} was scheduled as {acked:?}, and now {other:?}")),
            }
        }
        let now_ms = now_ms();
        for (number, scheduled) in before {
            if !self.not_before.contains_key(&number) {
                violations.push(format!("{scheduled:?} is {number}, which was never sent"));
            }
            violations.extend(self.early(number, scheduled.deliver_at));
            if scheduled.deliver_at + LATE_MS_MAX < now_ms {
                violations.push(format!("{number} still waits at {now_ms}, as {scheduled:?}"));
            }
            // Listed is promised, as shown is.
            self.waiting.entry(number).or_insert((scheduled, None));
        }
        self.waiting.retain(|number, _| !found.contains_key(number));
        violations
    }

    /// Records that wait, and that a repeat has to be answered for as it was before or with where it lies now.
    pub fn repeats(&self, seed: u64, count: usize) -> Vec<(Number, Scheduled)> {
        let is_recent = |acked: &Option<Instant>| acked.is_some_and(|at| at.elapsed() < REPEATS_WITHIN);
        let mut repeats: Vec<(Number, Scheduled)> = self
            .waiting
            .iter()
            .filter(|(number, (_, acked))| {
                is_recent(acked) && Record::new(seed, LATER, **number).message_id.is_some()
            })
            .map(|(number, (scheduled, _))| (*number, scheduled.clone()))
            .collect();
        repeats.sort_unstable_by_key(|(number, _)| *number);
        repeats.truncate(count);
        repeats
    }
}

/// Holds the routed topics against each other: a record is in all to which it was led, or in none.
pub fn halves(found: &[HashSet<Number>]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut seen = HashSet::new();
    for number in found.iter().flatten() {
        if !seen.insert(number) {
            continue;
        }
        for topic in record::topics_of(record::ROUTED, *number) {
            if !found[topic - record::ROUTED].contains(number) {
                let name = TOPICS[topic].name;
                violations.push(format!(
                    "{number} was led to {name}, is in another topic and not there"
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn turn(deliver_at: u64) -> Scheduled {
        let id = "s-0-1".to_owned();
        Scheduled { id, deliver_at }
    }

    /// A record that is to come later, and its delay.
    fn later() -> (Number, u64) {
        (0..)
            .find_map(|number| {
                Some((
                    number,
                    Record::new(SEED, LATER, number).delay_ms.filter(|ms| *ms > 0)?,
                ))
            })
            .expect("most are")
    }

    /// One that was sent at 1000 and acked at once, and when it is due.
    fn acked() -> (Later, Number, u64) {
        let ((number, delay_ms), mut ledger) = (later(), Later::default());
        let due = 1000 + delay_ms;
        let seen = SeenLater {
            sent: vec![(number, 1000)],
            scheduled: vec![(number, turn(due), 1000)],
            shown: Vec::new(),
        };
        assert!(ledger.take_over(SEED, seen).is_empty());
        (ledger, number, due)
    }

    #[test]
    fn acked_record_is_listed_or_found_and_not_before_its_time() {
        let found = |number, at| HashMap::from([(number, at)]);
        let empty = List::new();
        let (mut ledger, number, due) = acked();
        assert!(ledger.settle(&found(number, due), List::new(), &empty).is_empty());
        assert!(
            acked()
                .0
                .settle(&found(number, due), List::new(), &empty)
                .is_empty()
        );
        assert_eq!(
            acked()
                .0
                .settle(&found(number, due - 1), List::new(), &empty)
                .len(),
            1
        );
        let soon = now_ms() + 60_000;
        let (mut ledger, ..) = acked();
        ledger.waiting.insert(number, (turn(soon), None));
        let listed = List::from([(number, turn(soon))]);
        assert!(ledger.settle(&HashMap::new(), listed.clone(), &listed).is_empty());
        let other = List::from([(number, turn(soon + 1))]);
        assert_eq!(ledger.settle(&HashMap::new(), other, &listed).len(), 1);
    }

    #[test]
    fn lost_doubled_and_forgotten_records_are_found() {
        let (mut ledger, number, due) = acked();
        assert!(ledger.is_one_on_its_way(&HashMap::new(), &List::new()));
        assert_eq!(ledger.settle(&HashMap::new(), List::new(), &List::new()).len(), 1);
        let listed = List::from([(number, turn(due))]);
        let found = HashMap::from([(number, due)]);
        assert_eq!(acked().0.settle(&found, List::new(), &listed).len(), 1);
        // It is listed long after its time.
        assert_eq!(
            acked().0.settle(&HashMap::new(), listed.clone(), &listed).len(),
            1
        );
        // Nobody sent it, so it is early at any time.
        let never = List::from([(number + 1_000_000, turn(u64::MAX - LATE_MS_MAX - 1))]);
        assert!(!acked().0.settle(&found, never, &List::new()).is_empty());
        let shown = SeenLater {
            shown: vec![(number, due, due - 1)],
            ..SeenLater::default()
        };
        assert_eq!(acked().0.take_over(SEED, shown).len(), 1);
    }

    #[test]
    fn turn_that_is_not_the_delay_after_the_publish_is_found() {
        let (number, delay_ms) = later();
        for (deliver_at, is_fault) in [(999, true), (1000, false), (1050, false), (1051, true)] {
            let seen = SeenLater {
                sent: vec![(number, 1000)],
                scheduled: vec![(number, turn(deliver_at + delay_ms), 1050)],
                shown: Vec::new(),
            };
            assert_eq!(
                !Later::default().take_over(SEED, seen).is_empty(),
                is_fault,
                "{deliver_at}"
            );
        }
    }

    #[test]
    fn record_that_is_in_some_of_its_topics_only_is_found() {
        let of_all = record::first_number(3);
        let all = [of_all].into_iter().collect::<HashSet<_>>();
        assert!(halves(&[all.clone(), all.clone(), all.clone()]).is_empty());
        assert_eq!(halves(&[all.clone(), HashSet::new(), all.clone()]).len(), 1);
        assert_eq!(halves(&[HashSet::new(), HashSet::new(), all]).len(), 2);
    }
}
