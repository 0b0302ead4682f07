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
    /// Whether some of its records live for milliseconds only, so that offsets may be missing.
    pub is_brief: bool,
}

impl Topic {
    /// Whether what was acked outlives the process.
    pub fn is_durable(&self) -> bool {
        self.durability != "memory"
    }
}

/// All topics, each a kind of its own.
pub const TOPICS: [Topic; 5] = [
    Topic {
        name: "crash.single",
        partitions: 1,
        durability: "fsync",
        is_brief: false,
    },
    Topic {
        name: "crash.several",
        partitions: 4,
        durability: "fsync",
        is_brief: false,
    },
    Topic {
        name: "crash.os",
        partitions: 3,
        durability: "os",
        is_brief: false,
    },
    Topic {
        name: "crash.memory",
        partitions: 2,
        durability: "memory",
        is_brief: false,
    },
    Topic {
        name: "crash.brief",
        partitions: 2,
        durability: "fsync",
        is_brief: true,
    },
];

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
    partition: Option<u64>,
}

impl Record {
    /// The record that has this number.
    pub fn new(seed: u64, topic: usize, number: Number) -> Self {
        let mut chance = Chance::new(seed ^ number.rotate_left(20) ^ topic as u64);
        let key = (!chance.once_in(3)).then(|| format!("k{}", chance.below(40)));
        let message_id = chance.once_in(4).then(|| format!("m-{number}"));
        let partition = (key.is_none() && chance.once_in(2)).then(|| chance.below(TOPICS[topic].partitions));
        let ttl_ms = match (TOPICS[topic].is_brief, chance.below(6)) {
            (true, 0) => Some(0),
            (true, 1 | 2) => Some(chance.between(1, 50)),
            (false, 0) => Some(3_600_000),
            _ => None,
        };
        // A record that is never stored has nothing that a repeat could be told.
        let message_id = message_id.filter(|_| ttl_ms != Some(0));
        Self {
            key,
            message_id,
            payload: payload(&mut chance, topic, number),
            ttl_ms,
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
        let _ = write!(out, r#""payload":{}"#, self.payload);
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
            let record = Record::new(7, (number % 5) as usize, first_number(3) + number);
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
}
