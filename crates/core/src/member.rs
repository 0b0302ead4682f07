//! What both kinds of groups know a member by, and why a group refuses one.
//!
//! Owns no state. Partitioned groups, shared groups and the actor that keeps one of them share these
//! words; the mapping of a refusal to a code of the protocol is the actor's.

use std::fmt;

use callboard_protocol::PartitionId;

/// One subscription of one session in a group. Given by the caller, and never twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Counts the assignments of a partitioned group; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Whether a member wants the group for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exclusive {
    /// Others may join.
    #[default]
    No,
    /// No other member may be there, now or later.
    Yes,
}

/// Why a group does not do what a member asks; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// What is there already does not go with what is asked.
    #[error("{0}")]
    Conflict(&'static str),
    /// The member does not hold this partition.
    #[error("partition {partition} is not assigned to this member")]
    NotOwner {
        /// Which one.
        partition: PartitionId,
    },
    /// The member lost this partition after the generation that it names, and gained it again.
    #[error("partition {partition} is held anew since generation {since}")]
    StaleGeneration {
        /// Which one.
        partition: PartitionId,
        /// When the member gained it this time.
        since: Generation,
    },
    /// It has left, was replaced, or never joined.
    #[error("this is no member of the group")]
    UnknownMember,
}
