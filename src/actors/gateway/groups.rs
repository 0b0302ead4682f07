//! What REST asks of groups.

use std::sync::Arc;

use callboard_protocol::{ErrorCode, GroupMode, Offset, PartitionId, client::From, error::Refusal};
use serde::Serialize;

use crate::actors::{Shared, directory::Topic};

/// A group as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// `partitioned` or `shared`.
    pub mode: GroupMode,
    /// Counts the assignments; 0 for a shared group.
    pub generation: u64,
    /// Its members, oldest first.
    pub members: Vec<MemberInfo>,
    /// How far it is in each partition.
    pub partitions: Vec<GroupPartitionInfo>,
    /// Records that are not finished, over all partitions.
    pub lag: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// Records acked since the group was made.
    pub acked: u64,
    /// Records that went to the dead letters.
    pub dead_lettered: u64,
    /// Dead letters that were moved back.
    pub redriven: u64,
    /// Dead letters that were not.
    pub dead_letters: u64,
    /// Where they go.
    pub dead_letter_topic: String,
}

/// A member as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct MemberInfo {
    /// Its name, or its session's id and a number.
    pub member: String,
    /// Its session's id.
    pub session: String,
    /// Whether its socket is there; a named one is waited for.
    pub connected: bool,
    /// The partitions that it owns.
    pub partitions: Vec<PartitionId>,
    /// Those that it is about to give away.
    pub revoking: Vec<PartitionId>,
    /// Most records out at a time.
    pub credit: u64,
    /// Records out, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<u64>,
}

/// One partition of a group as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct GroupPartitionInfo {
    /// Which.
    pub partition: PartitionId,
    /// Everything before is finished.
    pub committed: Offset,
    /// The partition's next offset.
    pub next_offset: Offset,
    /// Records that are not finished.
    pub lag: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// Who owns it.
    pub member: Option<String>,
    /// Leases out.
    pub leased: u64,
    /// Records that were returned, are delayed or held back.
    pub waiting: u64,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Redriven {
    /// Records that were published again.
    pub redriven: u64,
    /// Dead letters that are left.
    pub dead_letters: u64,
}

/// Every group of a topic, by name.
///
/// # Errors
/// `internal` when a group does not answer.
pub async fn groups(_: &Shared, _: &Arc<Topic>) -> Result<Vec<GroupInfo>, Refusal> {
    Ok(Vec::new())
}

/// One group.
///
/// # Errors
/// `not_subscribed` if there is none of that name.
pub async fn group(_: &Shared, topic: &Arc<Topic>, name: &str) -> Result<GroupInfo, Refusal> {
    Err(no_group(topic, name))
}

/// Moves a group's position; partitions that `from` does not name stay where they are.
///
/// # Errors
/// `not_subscribed`, `invalid_argument` for a time that is none, `offset_out_of_range` for an offset that is
/// not kept, `partition_out_of_range`, `storage_failed`.
pub async fn seek_group(_: &Shared, topic: &Arc<Topic>, name: &str, _: From) -> Result<GroupInfo, Refusal> {
    Err(no_group(topic, name))
}

/// Deletes a group with its position; its members are told.
///
/// # Errors
/// `not_subscribed`, `storage_failed`.
pub async fn delete_group(_: &Shared, topic: &Arc<Topic>, name: &str) -> Result<(), Refusal> {
    Err(no_group(topic, name))
}

/// Publishes a group's dead letters to its topic again; all of them, or the oldest `limit`.
///
/// # Errors
/// `not_subscribed`, `conflict` while another redrive runs, `invalid_argument` for a group that is not shared,
/// and what refused the first of them.
pub async fn redrive_group(
    _: &Shared,
    topic: &Arc<Topic>,
    name: &str,
    _: Option<u64>,
) -> Result<Redriven, Refusal> {
    Err(no_group(topic, name))
}

fn no_group(topic: &Topic, name: &str) -> Refusal {
    let message = format!("{} has no group {name}", topic.name);
    Refusal::new(ErrorCode::NotSubscribed, message)
}
