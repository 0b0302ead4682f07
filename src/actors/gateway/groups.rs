//! What REST asks of groups.

use std::{collections::BTreeMap, sync::Arc};

use callboard_protocol::{ErrorCode, GroupMode, Offset, PartitionId, client::From, error::Refusal};
use serde::Serialize;

use super::internal;
use crate::actors::{
    Shared,
    broker::RemoveGroup,
    clock,
    directory::Topic,
    group::{
        describe::{GroupState, MemberState},
        handle::GroupRef,
        mailbox::{Describe, Redrive, Seek},
    },
    pages,
    topic::groups::no_group,
};

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
    /// Records out: leased, or given and not committed.
    pub out: u64,
}

impl std::convert::From<MemberState> for MemberInfo {
    fn from(state: MemberState) -> Self {
        Self {
            member: state.label,
            session: state.session.to_string(),
            connected: state.is_connected,
            partitions: state.partitions,
            revoking: state.revoking,
            credit: state.credit,
            out: state.out,
        }
    }
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
pub async fn groups(shared: &Shared, topic: &Arc<Topic>) -> Result<Vec<GroupInfo>, Refusal> {
    let mut all = Vec::new();
    for group in topic.groups() {
        all.push(describe(shared, topic, &group).await?);
    }
    Ok(all)
}

/// One group.
///
/// # Errors
/// `not_subscribed` if there is none of that name.
pub async fn group(shared: &Shared, topic: &Arc<Topic>, name: &str) -> Result<GroupInfo, Refusal> {
    let group = find(topic, name)?;
    describe(shared, topic, &group).await
}

fn find(topic: &Topic, name: &str) -> Result<Arc<GroupRef>, Refusal> {
    topic
        .group(name)
        .ok_or_else(|| no_group(topic.name.as_str(), name))
}

fn absent() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "the group is starting; try again")
}

async fn describe(shared: &Shared, topic: &Arc<Topic>, group: &GroupRef) -> Result<GroupInfo, Refusal> {
    let addr = group.addr().ok_or_else(absent)?;
    let state = addr.send(Describe).await.map_err(|_| absent())?;
    let asked = topic.clone();
    let positions: Vec<_> = state
        .partitions
        .iter()
        .map(|part| (part.partition, part.position, part.unfinished))
        .collect();
    // A disk may have to be asked for the oldest unfinished record.
    let ages = shared.readers.run(move || ages(&asked, &positions));
    let ages = ages.await.map_err(internal)?;
    Ok(info(topic, group, state, &ages))
}

/// The age of the oldest unfinished record of each partition, milliseconds.
fn ages(topic: &Topic, positions: &[(PartitionId, Option<Offset>, u64)]) -> BTreeMap<PartitionId, u64> {
    let now = clock::now();
    let parts = topic.partitions();
    let age = |partition: PartitionId, position: Option<Offset>| {
        let log = parts.get(partition.0 as usize)?.log()?;
        let from = position.unwrap_or_default().max(log.first_offset());
        // What can not be read has no age; the lag in records says that it is there.
        let page = log.read(from, 1).ok()?;
        page.batches.first().map(|batch| now.since(batch.timestamp))
    };
    positions
        .iter()
        .filter(|(_, _, unfinished)| *unfinished > 0)
        .filter_map(|(partition, position, _)| Some((*partition, age(*partition, *position)?)))
        .collect()
}

fn info(topic: &Topic, group: &GroupRef, state: GroupState, ages: &BTreeMap<PartitionId, u64>) -> GroupInfo {
    let parts = topic.partitions();
    let partitions: Vec<GroupPartitionInfo> = state
        .partitions
        .into_iter()
        .map(|part| {
            let known = parts.get(part.partition.0 as usize);
            let first = known.and_then(|known| known.log()).map(|log| log.first_offset());
            GroupPartitionInfo {
                partition: part.partition,
                committed: part.position.or(first).unwrap_or_default(),
                next_offset: known.map(|known| known.next_offset()).unwrap_or_default(),
                lag: part.unfinished,
                lag_ms: ages.get(&part.partition).copied().unwrap_or_default(),
                member: part.owner,
                leased: part.leased,
                waiting: part.waiting,
            }
        })
        .collect();
    let counts = state.counts;
    GroupInfo {
        group: group.name.to_string(),
        mode: state.mode,
        generation: state.generation.0,
        members: state.members.into_iter().map(Into::into).collect(),
        lag: partitions.iter().map(|part| part.lag).sum(),
        lag_ms: partitions
            .iter()
            .map(|part| part.lag_ms)
            .max()
            .unwrap_or_default(),
        partitions,
        acked: counts.acked,
        dead_lettered: counts.dead_lettered,
        redriven: counts.redriven,
        dead_letters: counts.dead_lettered.saturating_sub(counts.redriven),
        dead_letter_topic: topic.config().dead_letter_topic_for(&topic.name, &group.name),
    }
}

/// Moves a group's position; partitions that `from` does not name stay where they are.
///
/// # Errors
/// `not_subscribed`, `invalid_argument` for a time that is none, `offset_out_of_range` for an offset that is
/// not kept, `partition_out_of_range`, `storage_failed`.
pub async fn seek_group(
    shared: &Shared,
    topic: &Arc<Topic>,
    name: &str,
    from: From,
) -> Result<GroupInfo, Refusal> {
    let group = find(topic, name)?;
    let offsets = match from {
        From::Resume(position) => {
            let other_epoch = position.epoch.is_some_and(|epoch| epoch != topic.epoch);
            if other_epoch {
                let message = format!("the epoch of {} is {}", topic.name, topic.epoch);
                return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
            }
            check_range(topic, &position.offsets)?;
            position.offsets
        }
        From::Last(_) | From::Topics(_) => {
            let message = "a group is moved to earliest, latest, a time or offsets";
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        from => {
            let asked = topic.clone();
            let starts = shared
                .readers
                .run(move || match pages::starts_now(&asked, &from) {
                    Some(starts) => Ok(starts),
                    None => pages::starts(&asked, &from),
                });
            starts.await.map_err(internal)??.offsets
        }
    };
    let addr = group.addr().ok_or_else(absent)?;
    addr.send(Seek(offsets)).await.map_err(|_| absent())??;
    describe(shared, topic, &group).await
}

fn check_range(topic: &Topic, offsets: &BTreeMap<PartitionId, Offset>) -> Result<(), Refusal> {
    let parts = topic.partitions();
    for (partition, offset) in offsets {
        let log = parts.get(partition.0 as usize).and_then(|part| part.log());
        let Some(log) = log else {
            let message = format!("{} has no partition {partition}", topic.name);
            return Err(Refusal::new(ErrorCode::PartitionOutOfRange, message));
        };
        let (first, next) = (log.first_offset(), log.next_offset());
        if *offset < first || *offset > next {
            let message = format!("partition {partition} keeps {first} to {next}; {offset} is none of them");
            return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
        }
    }
    Ok(())
}

/// Deletes a group with its position; its members are told.
///
/// # Errors
/// `not_subscribed`, `storage_failed`.
pub async fn delete_group(shared: &Shared, topic: &Arc<Topic>, name: &str) -> Result<(), Refusal> {
    let message = RemoveGroup {
        topic: topic.name.clone(),
        name: name.to_owned(),
    };
    shared.broker().send(message).await.map_err(internal)?
}

/// Publishes a group's dead letters to its topic again; all of them, or the oldest `limit`.
///
/// # Errors
/// `not_subscribed`, `conflict` while another redrive runs, `invalid_argument` for a group that is not shared,
/// and what refused the first of them.
pub async fn redrive_group(
    shared: &Shared,
    topic: &Arc<Topic>,
    name: &str,
    limit: Option<u64>,
) -> Result<Redriven, Refusal> {
    let group = find(topic, name)?;
    let addr = group.addr().ok_or_else(absent)?;
    let limit = limit.unwrap_or(u64::MAX);
    let redriven = addr.send(Redrive { limit }).await.map_err(|_| absent())??;
    let left = describe(shared, topic, &group).await?.dead_letters;
    Ok(Redriven {
        redriven,
        dead_letters: left,
    })
}
