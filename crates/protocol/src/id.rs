//! Newtypes for every id and count that could be swapped for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest integer that JavaScript holds exactly; offsets, ids and timestamps stay at or below it.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Place of a record in its partition: 0, 1, 2 … and below 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of a new partition.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// How many offsets lie in `earlier..self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Number of a partition in its topic, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration_ms` later.
    #[must_use]
    pub fn plus_ms(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Changes when a topic is deleted and created again, and when a `memory` topic restarts.
///
/// An offset means something only within its epoch. Opaque to clients; 1 to 32 bytes of
/// `[0-9a-z]`, so that it needs no escaping anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub String);

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names a record that is to be delivered later, until it is; opaque to clients.
///
/// Written as `s-0-41`: the partition that keeps it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId {
    /// The partition that keeps it.
    pub partition: PartitionId,
    /// Never given twice in that partition and epoch.
    pub number: u64,
}

impl ScheduleId {
    /// The id that `text` writes; `None` for anything that [`fmt::Display`] would not have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, number) = text.strip_prefix("s-")?.split_once('-')?;
        let id = Self {
            partition: PartitionId(partition.parse().ok()?),
            number: number.parse().ok()?,
        };
        // A sign or a zero in front is read by the standard library, but would be a second name.
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s-{}-{}", self.partition, self.number)
    }
}

impl Serialize for ScheduleId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a client frame called itself; the reply carries the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FrameId {
    /// An integer from 0 to 2^53 - 1.
    Number(u64),
    /// A string of at most 64 bytes.
    Text(Box<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_schedule_has_one_spelling() {
        for (partition, number) in [(0, 0), (0, 41), (1023, u64::MAX), (u32::MAX, 1)] {
            let id = ScheduleId {
                partition: PartitionId(partition),
                number,
            };
            assert_eq!(ScheduleId::parse(&id.to_string()), Some(id));
        }
        for bad in [
            "",
            "s-",
            "s-0",
            "s-0-",
            "s--1",
            "0-41",
            "S-0-41",
            "s-0-+41",
            "s-+0-41",
            "s-00-41",
            "s-0-041",
            "s-0-41-",
            "s-0-41 ",
            "s-4294967296-0",
            "s-0-18446744073709551616",
            "s-0-é",
        ] {
            assert_eq!(ScheduleId::parse(bad), None, "{bad}");
        }
    }
}
