//! The topics of a crash run, and every record as a function of the seed and a number.
//!
//! So a record that is read back is compared with what it must be without keeping what was sent.

use std::fmt::Write as _;

use crate::chance::Chance;

/// A topic that is written to.
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// Its partitions.
    pub partitions: u64,
    /// Its durability.
    pub durability: &'static str,
    /// What its records are like.
    pub kind: Kind,
}

/// What the records of a topic are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Published to it, and there from then on.
    Plain,
    /// Some live for milliseconds only, so that offsets may be missing.
    Brief,
    /// They come through the exchange, and each is in several topics or in none.
    Routed,
    /// Most are scheduled and come when they are due.
    Later,
}

impl Topic {
    /// Whether what was acked outlives the process.
    pub fn is_durable(&self) -> bool {
        self.durability != "memory"
    }

    /// Whether offsets may be missing.
    pub fn is_brief(&self) -> bool {
        self.kind == Kind::Brief
    }
}

const fn topic(name: &'static str, partitions: u64, durability: &'static str, kind: Kind) -> Topic {
    Topic {
        name,
        partitions,
        durability,
        kind,
    }
}

/// All topics, each a case of its own.
pub const TOPICS: [Topic; 9] = [
    topic("crash.single", 1, "fsync", Kind::Plain),
    topic("crash.several", 4, "fsync", Kind::Plain),
    topic("crash.os", 3, "os", Kind::Plain),
    topic("crash.memory", 2, "memory", Kind::Plain),
    topic("crash.brief", 2, "fsync", Kind::Brief),
    topic("crash.routed.one", 1, "fsync", Kind::Routed),
    topic("crash.routed.three", 3, "fsync", Kind::Routed),
    topic("crash.routed.os", 2, "os", Kind::Routed),
    topic("crash.later", 2, "fsync", Kind::Later),
];

/// What a publish names: a topic of [`TOPICS`], or for all that are routed the first of them, which stands for
/// the exchange.
pub const TARGETS: [usize; 7] = [0, 1, 2, 3, 4, ROUTED, LATER];
/// The first topic whose records come through the exchange; the others follow.
pub const ROUTED: usize = 5;
/// The topic of scheduled records.
pub const LATER: usize = 8;

/// The exchange that leads to all routed topics, by a word for each in the routing key.
pub const EXCHANGE: &str = "crash.routes";
/// Its bindings: topic and key.
pub const BINDINGS: [(usize, &str); 3] = [(5, "#.one.#"), (6, "#.three.#"), (7, "#.os.#")];
/// Routing keys and the topics to which each leads.
const ROUTES: [(&str, &[usize]); 4] = [
    ("one.three", &[5, 6]),
    ("three.os", &[6, 7]),
    ("os.one", &[5, 7]),
    ("one.os.three", &[5, 6, 7]),
];

/// The routing key of all routed records of a writer, and the topics to which it leads.
pub fn route_of(number: Number) -> (&'static str, &'static [usize]) {
    ROUTES[(writer_of(number) % ROUTES.len() as u64) as usize]
}

/// The topics in which a record has to be that was published to a target.
pub fn topics_of(target: usize, number: Number) -> Vec<usize> {
    if target == ROUTED {
        route_of(number).1.to_vec()
    } else {
        vec![target]
    }
}

/// The number of a record, unique within a data directory. The upper bits are its writer, and the numbers of
/// one writer grow.
pub type Number = u64;

const NUMBERS_OF_A_WRITER_BITS: u32 = 24;

/// The first number of a writer.
pub fn first_number(writer: u64) -> Number {
    writer << NUMBERS_OF_A_WRITER_BITS
}

/// Whose number it is.
pub fn writer_of(number: Number) -> u64 {
    number >> NUMBERS_OF_A_WRITER_BITS
}

/// A record as it is published.
pub struct Record {
    /// Its key.
    pub key: Option<String>,
    /// Its message id; a repeat carries the same.
    pub message_id: Option<String>,
    /// Its payload, byte for byte.
    pub payload: String,
    /// How long it lives; 0 is never stored.
    pub ttl_ms: Option<u64>,
    /// How long after it was published it is due.
    pub delay_ms: Option<u64>,
    partition: Option<u64>,
}

impl Record {
    /// The record that has this number.
    pub fn new(seed: u64, topic: usize, number: Number) -> Self {
        // What is routed is the same in every topic.
        let topic = if TOPICS[topic].kind == Kind::Routed {
            ROUTED
        } else {
            topic
        };
        let mut chance = Chance::new(seed ^ number.rotate_left(20) ^ topic as u64);
        let key = (!chance.once_in(3)).then(|| format!("k{}", chance.below(40)));
        let message_id = chance.once_in(4).then(|| format!("m-{number}"));
        let partition = (key.is_none() && chance.once_in(2)).then(|| chance.below(TOPICS[topic].partitions));
        let ttl_ms = match (TOPICS[topic].is_brief(), chance.below(6)) {
            (true, 0) => Some(0),
            (true, 1 | 2) => Some(chance.between(1, 50)),
            (false, 0) => Some(3_600_000),
            _ => None,
        };
        // A record that is never stored has nothing that a repeat could be told.
        let message_id = message_id.filter(|_| ttl_ms != Some(0));
        let delay_ms = (TOPICS[topic].kind == Kind::Later)
            .then(|| delay_ms(&mut chance))
            .flatten();
        Self {
            key,
            message_id,
            payload: payload(&mut chance, topic, number),
            ttl_ms,
            delay_ms,
            partition,
        }
    }

    /// Whether it is still there after any time that a run takes.
    pub fn is_kept(&self) -> bool {
        self.ttl_ms.is_none_or(|ttl| ttl > 1_000_000)
    }

    /// Its members in a `publish` frame or in `messages`.
    pub fn write_members(&self, out: &mut String) {
        if let Some(key) = &self.key {
            let _ = write!(out, r#""key":"{key}","#);
        }
        if let Some(message_id) = &self.message_id {
            let _ = write!(out, r#""message_id":"{message_id}","#);
        }
        if let Some(partition) = self.partition {
            let _ = write!(out, r#""partition":{partition},"#);
        }
        if let Some(ttl_ms) = self.ttl_ms {
            let _ = write!(out, r#""ttl_ms":{ttl_ms},"#);
        }
        if let Some(delay_ms) = self.delay_ms {
            let _ = write!(out, r#""delay_ms":{delay_ms},"#);
        }
        let _ = write!(out, r#""payload":{}"#, self.payload);
    }
}

/// Due at once, in the same life, in the next one or so, or not before everything is over.
fn delay_ms(chance: &mut Chance) -> Option<u64> {
    match chance.below(8) {
        0 => None,
        1..=4 => Some(chance.below(300)),
        5 | 6 => Some(chance.between(300, 4_000)),
        _ => Some(3_600_000),
    }
}

/// JSON that only survives untouched: a number no double holds, a trailing zero, spaces, an escape.
fn payload(chance: &mut Chance, topic: usize, number: Number) -> String {
    let fill_bytes = match chance.below(100) {
        0..80 => chance.below(160),
        80..98 => chance.below(4 << 10),
        _ => chance.below(60 << 10),
    };
    let mut payload = format!(
        r#"{{"number":{number}, "topic":{topic},"exact":[999999996000000004,1.10,"\u00e9é"],"fill":""#
    );
    let letters = chance.next();
    for index in 0..fill_bytes {
        payload.push(char::from(b'a' + (letters.rotate_left(index as u32) % 26) as u8));
    }
    payload.push_str("\"}");
    payload
}

/// The number in a payload, if it looks like one of ours.
pub fn number_in(payload: &str) -> Option<Number> {
    payload
        .strip_prefix(r#"{"number":"#)?
        .split_once(',')?
        .0
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_valid_json_and_tells_its_number() {
        for number in 0..2_000 {
            let topic = (number % TOPICS.len() as u64) as usize;
            let record = Record::new(7, topic, first_number(3) + number);
            assert_eq!(number_in(&record.payload), Some(first_number(3) + number));
            assert_eq!(writer_of(first_number(3) + number), 3);
            let mut members = String::from("{");
            record.write_members(&mut members);
            members.push('}');
            assert!(
                serde_json::from_str::<serde_json::Value>(&members).is_ok(),
                "{members}"
            );
        }
    }

    #[test]
    fn routes_lead_where_the_bindings_do() {
        for writer in 0..8 {
            let number = first_number(writer);
            let (key, topics) = route_of(number);
            let bound = |topic: usize| {
                let (_, binding) = BINDINGS.iter().find(|(to, _)| *to == topic).expect("it is bound");
                key.split('.')
                    .any(|word| word == binding.trim_matches(['#', '.']))
            };
            for (topic, Topic { kind, .. }) in TOPICS.iter().enumerate() {
                let is_reached = *kind == Kind::Routed && bound(topic);
                assert_eq!(is_reached, topics.contains(&topic), "{key} to {topic}");
            }
        }
        assert_eq!(
            (TOPICS[ROUTED].kind, TOPICS[LATER].kind),
            (Kind::Routed, Kind::Later)
        );
    }
}
