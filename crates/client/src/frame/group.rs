//! The frames that only members of groups get.

use callboard_protocol::PartitionId;
use serde::Deserialize;

use super::Offsets;

/// An `assigned` frame: a member of a partitioned group gained partitions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Assigned {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Counts the group's assignments.
    pub generation: u64,
    /// Where each goes on; empty if the member idles.
    pub offsets: Offsets,
}

/// A `revoked` frame: a member of a partitioned group loses partitions, and nothing more of them comes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Revoked {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Counts the group's assignments.
    pub generation: u64,
    /// Which ones.
    pub partitions: Vec<PartitionId>,
    /// How long commits for them are still taken, milliseconds.
    pub grace_ms: u64,
}

/// A delivery that could not be settled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Unsettled {
    /// Its number.
    pub delivery: u64,
    /// Why.
    pub code: String,
}
