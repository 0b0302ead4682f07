//! A topic's configuration, and which of its partitions a key belongs to.
//!
//! Decides what a configuration may say and how it may change; owns no topic. Called by whoever
//! creates, changes or loads a topic, and with each keyed record that is published.

use callboard_protocol::{
    ErrorCode, GroupName, PartitionId, TopicName,
    error::Refusal,
    id::SAFE_INTEGER_MAX,
    limits::{FRAME_BYTES_MAX, LEASE_MS_MAX, LEASE_MS_MIN, PARTITIONS_MAX},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hash::xxh64;

/// `retention_bytes` of a `memory` topic that names none: 64 MiB a partition, because nothing else
/// would bound the broker's memory.
pub const MEMORY_RETENTION_BYTES: u64 = 64 << 20;
/// `dedup_window_ms` of a topic that names none.
pub const DEDUP_WINDOW_MS: u64 = 120_000;
/// The shortest `silent_after_ms`: less would announce the pauses of a busy topic.
pub const SILENT_AFTER_MS_MIN: u64 = 100;
/// Most times that a record can be handed out before it is a dead letter: more would only hide a fault.
pub const ATTEMPTS_MAX: u32 = 1000;

/// What a record has survived, or must have survived before it is shown; weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In this process's memory: gone when it ends.
    Memory,
    /// Written to the operating system: survives a crash of the process.
    Os,
    /// Flushed to the device: survives a crash of the machine.
    Fsync,
}

impl Durability {
    /// Every durability, weakest first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Os, Self::Fsync];

    /// The word that stands in frames and configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|durability| durability.as_str() == word)
    }
}

/// What happens to a record for which a topic that keeps `records_max` has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It is refused.
    #[default]
    Refuse,
    /// Its publisher waits until there is room.
    Wait,
}

/// How a topic keeps its records. Two configurations that are equal are the same to `declare`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicConfig {
    /// How many partitions; 1 to 1024, and never fewer than before.
    pub partitions: u32,
    /// What a record must have survived before it is shown or acked as durable.
    pub durability: Durability,
    /// Records older than this may go; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// The oldest records beyond this size of one partition may go; always given for `memory` topics.
    pub retention_bytes: Option<u64>,
    /// Time to live of records that name none themselves.
    pub ttl_ms: Option<u64>,
    /// How long a `message_id` is remembered; 0 is off.
    pub dedup_window_ms: u64,
    /// Most records that are kept unfinished.
    pub records_max: Option<u64>,
    /// What happens to further ones.
    pub when_full: WhenFull,
    /// Most bytes of one record's payload, key, headers and message id together; at most 1 MiB.
    pub record_bytes_max: u64,
    /// How often a shared group hands a record out before it is a dead letter; 1 to 1000.
    pub attempts_max: u32,
    /// How long a shared group leases a record to a member that does not say; 100 ms to a day.
    pub lease_ms: u64,
    /// How long a record waits after its first failed attempt; twice as long after each further one.
    pub retry_backoff_ms: u64,
    /// How long it waits at most.
    pub retry_backoff_ms_max: u64,
    /// The topic that takes the dead letters of every group; without one each group has its own.
    pub dead_letter_topic: Option<String>,
    /// Whether it is deleted when its last subscriber goes.
    pub temporary: bool,
    /// Without a record for so long it is said to be silent; at least 100.
    pub silent_after_ms: Option<u64>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            durability: Durability::Fsync,
            retention_ms: None,
            retention_bytes: None,
            ttl_ms: None,
            dedup_window_ms: DEDUP_WINDOW_MS,
            records_max: None,
            when_full: WhenFull::Refuse,
            record_bytes_max: FRAME_BYTES_MAX as u64,
            attempts_max: 5,
            lease_ms: 30_000,
            retry_backoff_ms: 1000,
            retry_backoff_ms_max: 60_000,
            dead_letter_topic: None,
            temporary: false,
            silent_after_ms: None,
        }
    }
}

impl TopicConfig {
    /// Reads a configuration from a JSON object of its fields; what is not given is as in `defaults`.
    ///
    /// `null` says that an optional field has no value. A `memory` topic that ends up without
    /// `retention_bytes` gets 64 MiB; a topic on disk does not take that over from `memory` defaults.
    ///
    /// # Errors
    /// `bad_frame` if `json` is not an object; `invalid_argument` names the field that is unknown, of
    /// the wrong type or out of its range.
    pub fn from_json(json: &str, defaults: &Self) -> Result<Self, Refusal> {
        let fields = object(json)?;
        let mut config = defaults.clone();
        config.set_all(&fields)?;
        let is_given = fields.contains_key("retention_bytes");
        if !is_given && defaults.durability == Durability::Memory && config.durability != Durability::Memory {
            config.retention_bytes = defaults
                .retention_bytes
                .filter(|&bytes| bytes != MEMORY_RETENTION_BYTES);
        }
        config.bound_memory();
        Ok(config)
    }

    /// The configuration after a change: a JSON object of the fields to set, `null` to have none.
    ///
    /// # Errors
    /// As [`Self::from_json`]; `conflict` for fewer partitions, and for a change of durability from or
    /// to `memory`, because records are not moved between memory and disk.
    pub fn patched(&self, json: &str) -> Result<Self, Refusal> {
        let mut config = self.clone();
        config.set_all(&object(json)?)?;
        config.bound_memory();
        if config.partitions < self.partitions {
            return Err(Refusal::new(
                ErrorCode::Conflict,
                format!(
                    "partitions can only grow: the topic has {}, and {} were asked for",
                    self.partitions, config.partitions
                ),
            ));
        }
        let is_on_disk = |config: &Self| config.durability != Durability::Memory;
        if is_on_disk(&config) != is_on_disk(self) {
            return Err(Refusal::new(
                ErrorCode::Conflict,
                format!(
                    "durability can not change from {} to {}: create another topic",
                    self.durability.as_str(),
                    config.durability.as_str()
                ),
            ));
        }
        Ok(config)
    }

    /// The configuration as a JSON object of all its fields, `null` where there is no value;
    /// [`Self::from_json`] reads it back the same whatever the defaults are.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and words always have a JSON form")
    }

    /// Where the records of `topic` go that `group` could not process: as configured, else
    /// `<topic>.<group>.dlq`.
    ///
    /// What is configured is a topic's name; of long names the other one need not be, and then the group
    /// can not have dead letters.
    #[must_use]
    pub fn dead_letter_topic_for(&self, topic: &TopicName, group: &GroupName) -> String {
        match &self.dead_letter_topic {
            Some(configured) => configured.clone(),
            // Of a topic of the broker's own they are a topic that can be written to.
            None => format!("{}.{group}.dlq", topic.as_str().trim_start_matches('$')),
        }
    }

    /// A `memory` topic is never without a bound, whichever way its configuration came about.
    fn bound_memory(&mut self) {
        if self.durability == Durability::Memory {
            self.retention_bytes.get_or_insert(MEMORY_RETENTION_BYTES);
        }
    }

    fn set_all(&mut self, fields: &Map<String, Value>) -> Result<(), Refusal> {
        for (name, value) in fields {
            self.set(name, value)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        match name {
            "partitions" => {
                let partitions = integer(name, value, 1, u64::from(PARTITIONS_MAX))?;
                self.partitions = u32::try_from(partitions).expect("PARTITIONS_MAX is a u32");
            }
            "durability" => {
                self.durability = value.as_str().and_then(Durability::parse).ok_or_else(|| {
                    invalid(format!(
                        "durability is \"memory\", \"os\" or \"fsync\", not {}",
                        shown(value)
                    ))
                })?;
            }
            "retention_ms" => self.retention_ms = optional(name, value)?,
            "retention_bytes" => self.retention_bytes = optional(name, value)?,
            "ttl_ms" => self.ttl_ms = optional(name, value)?,
            "dedup_window_ms" => self.dedup_window_ms = integer(name, value, 0, SAFE_INTEGER_MAX)?,
            "records_max" => self.records_max = optional(name, value)?,
            "when_full" => {
                self.when_full = match value.as_str() {
                    Some("refuse") => WhenFull::Refuse,
                    Some("wait") => WhenFull::Wait,
                    _ => {
                        return Err(invalid(format!(
                            "when_full is \"refuse\" or \"wait\", not {}",
                            shown(value)
                        )));
                    }
                };
            }
            "record_bytes_max" => self.record_bytes_max = integer(name, value, 1, FRAME_BYTES_MAX as u64)?,
            "attempts_max" => {
                let attempts = integer(name, value, 1, u64::from(ATTEMPTS_MAX))?;
                self.attempts_max = u32::try_from(attempts).expect("ATTEMPTS_MAX is a u32");
            }
            "lease_ms" => self.lease_ms = integer(name, value, LEASE_MS_MIN, LEASE_MS_MAX)?,
            "retry_backoff_ms" => self.retry_backoff_ms = integer(name, value, 0, SAFE_INTEGER_MAX)?,
            "retry_backoff_ms_max" => {
                self.retry_backoff_ms_max = integer(name, value, 0, SAFE_INTEGER_MAX)?;
            }
            "dead_letter_topic" => self.dead_letter_topic = topic_name(name, value)?,
            "temporary" => {
                self.temporary = value
                    .as_bool()
                    .ok_or_else(|| invalid(format!("{name} is true or false, not {}", shown(value))))?;
            }
            "silent_after_ms" => {
                self.silent_after_ms = match value {
                    Value::Null => None,
                    value => Some(integer(name, value, SILENT_AFTER_MS_MIN, SAFE_INTEGER_MAX)?),
                };
            }
            unknown => {
                return Err(invalid(format!(
                    "a topic's configuration has no field {}",
                    shown(&Value::from(unknown))
                )));
            }
        }
        Ok(())
    }
}

/// The partition of a key: the same for as long as the number of partitions is.
///
/// The key's [`xxh64`] times `partitions`, divided by 2^64 and rounded down: partition `i` has the
/// `i`-th of equal ranges of the hash. For ids that stand in for a missing key as well.
///
/// # Panics
/// Never for a topic's own number of partitions, which is at least 1; with 0 there is no answer.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionId {
    assert!(partitions > 0, "a topic has at least one partition");
    let share = u128::from(xxh64(key)) * u128::from(partitions);
    PartitionId((share >> 64) as u32)
}

fn object(json: &str) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_str(json).map_err(|error| {
        Refusal::new(
            ErrorCode::BadFrame,
            format!("a topic's configuration is a JSON object: {error}"),
        )
    })
}

fn optional(name: &str, value: &Value) -> Result<Option<u64>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    integer(name, value, 1, SAFE_INTEGER_MAX).map(Some)
}

/// A topic that clients may write to, because dead letters are records like any other.
fn topic_name(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    let parsed = value.as_str().map(TopicName::parse);
    match parsed {
        Some(Ok(topic)) if !topic.is_internal() => Ok(Some(topic.as_str().to_owned())),
        Some(Err(error)) => Err(invalid(format!("{name} is a topic's name: {error}"))),
        Some(Ok(_)) | None => Err(invalid(format!(
            "{name} is a topic's name without $, or null, not {}",
            shown(value)
        ))),
    }
}

fn integer(name: &str, value: &Value, least: u64, most: u64) -> Result<u64, Refusal> {
    match value.as_u64() {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(invalid(format!(
            "{name} is an integer from {least} to {most}, not {}",
            shown(value)
        ))),
    }
}

/// The value as JSON, cut so that a refusal stays a sentence.
fn shown(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, message)
}
