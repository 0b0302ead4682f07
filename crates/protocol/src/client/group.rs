//! What a client says about a group: how it joins, how far it has come, and what it gives back.
//!
//! A combination that could only mean something other than it says is refused here, so that nobody believes
//! to have what a group does not give.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Overflow, Request, Target, bad,
    control::{From, Whole, offsets, read, start_from},
    invalid, partition_id,
};
use crate::{
    GroupName, MemberName, Offset, PartitionId, Pattern,
    error::Refusal,
    limits::{LEASE_MS_MAX, LEASE_MS_MIN},
    name::GroupMode,
};

/// What a `subscribe` says of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSubscribe {
    /// The group.
    pub group: GroupName,
    /// How it shares the topic's work; needed when the group is new.
    pub mode: Option<GroupMode>,
    /// The name to come back under.
    pub member: Option<MemberName>,
    /// Whether a second member is refused.
    pub exclusive: bool,
    /// The order in which a shared group hands records out.
    pub ordering: OrderingText,
    /// How long a record is leased, milliseconds; the topic's `lease_ms` if it is not said.
    pub lease_ms: Option<u64>,
}

/// The order in which a shared group hands records out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderingText {
    /// `best_effort`: as they lie, and again as they come back.
    #[default]
    BestEffort,
    /// `key`: those of one key one after the other.
    Key,
}

/// A `commit` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose; its group is there.
    pub target: Target,
    /// The next offset of each partition.
    pub offsets: BTreeMap<PartitionId, Offset>,
    /// The assignment that it was processed under; the present one if it is not said.
    pub generation: Option<u64>,
}

/// A `release` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Whose; its group is there.
    pub target: Target,
    /// What is given back.
    pub partitions: Vec<PartitionId>,
}

/// The fields of a `subscribe` that are about a group.
#[derive(Deserialize)]
pub(super) struct Fields {
    group: Option<String>,
    mode: Option<String>,
    member: Option<String>,
    exclusive: Option<bool>,
    ordering: Option<String>,
    lease_ms: Option<Whole>,
}

impl Fields {
    pub(super) fn read(self) -> Result<Option<GroupSubscribe>, Refusal> {
        let Some(group) = &self.group else {
            return self.without_group().map(|()| None);
        };
        let group = GroupName::parse(group).map_err(|error| invalid(error.to_string()))?;
        let mode = match self.mode.as_deref().map(GroupMode::parse) {
            Some(None) => return Err(invalid("mode is partitioned or shared")),
            mode => mode.flatten(),
        };
        let member = match self.member.as_deref().map(MemberName::parse).transpose() {
            Ok(member) => member,
            Err(error) => return Err(invalid(error.to_string())),
        };
        let ordering = match self.ordering.as_deref() {
            None | Some("best_effort") => OrderingText::BestEffort,
            Some("key") if mode == Some(GroupMode::Shared) => OrderingText::Key,
            Some("key") => return Err(invalid("ordering key goes with mode shared")),
            Some(_) => return Err(invalid("ordering is best_effort or key")),
        };
        if self.lease_ms.is_some() && mode == Some(GroupMode::Partitioned) {
            return Err(invalid("lease_ms goes with mode shared"));
        }
        Ok(Some(GroupSubscribe {
            group,
            mode,
            member,
            exclusive: self.exclusive.unwrap_or_default(),
            ordering,
            lease_ms: self.lease_ms.map(|Whole(lease_ms)| lease(lease_ms)).transpose()?,
        }))
    }

    /// Whoever asks for what a group gives must not believe to have it because the group was forgotten.
    fn without_group(&self) -> Result<(), Refusal> {
        let says_more = self.mode.is_some()
            || self.member.is_some()
            || self.ordering.is_some()
            || self.lease_ms.is_some();
        if says_more {
            Err(invalid("mode, member, ordering and lease_ms go with a group"))
        } else {
            Ok(())
        }
    }
}

/// Refuses what a subscription in a group cannot have.
pub(super) fn fits(topic: &str, from: Option<&From>, overflow: Option<Overflow>) -> Result<(), Refusal> {
    if Pattern::is_pattern(topic) {
        return Err(invalid("a group belongs to one topic, not to a pattern"));
    }
    if matches!(from, Some(From::Topics(_))) {
        return Err(invalid("from.topics goes with a pattern"));
    }
    if overflow.is_some_and(|overflow| overflow != Overflow::Read) {
        return Err(invalid(
            "overflow goes with a subscription without a group: a group leaves nothing out",
        ));
    }
    Ok(())
}

/// A lease that is neither over at once nor for ever.
pub(super) fn lease(lease_ms: u64) -> Result<u64, Refusal> {
    if (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
        Ok(lease_ms)
    } else {
        Err(invalid(format!("lease_ms is {LEASE_MS_MIN} to {LEASE_MS_MAX}")))
    }
}

/// Reads where a group is to be sought by REST: `{"from":…}` as in `subscribe`, or `offsets` or `time` by itself.
///
/// # Errors
/// `bad_frame` for what is none of these or more than one; `invalid_argument` for a place that only a
/// subscription can begin at.
pub fn decode_seek(text: &str) -> Result<From, Refusal> {
    let fields: serde_json::Map<String, serde_json::Value> = read(text)?;
    let mut said = ["from", "to", "offsets", "time"]
        .into_iter()
        .filter_map(|name| Some((name, fields.get(name).filter(|value| !value.is_null())?)));
    let expected = || bad("one of from, offsets and time says where to: earliest, latest, a time or offsets");
    let (Some((name, value)), None) = (said.next(), said.next()) else {
        return Err(expected());
    };
    let from = match name {
        "from" | "to" => start_from(value.clone())?,
        name => start_from(serde_json::json!({ name: value }))?,
    };
    match from {
        From::Last(_) | From::Topics(_) => Err(invalid(
            "a group is sought to earliest, latest, a time or offsets",
        )),
        from => Ok(from),
    }
}

pub(super) fn commit<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        topic: String,
        group: String,
        #[serde(deserialize_with = "offsets")]
        offsets: BTreeMap<PartitionId, Offset>,
        generation: Option<Whole>,
    }
    let fields: Fields = read(text)?;
    Ok(Request::Commit(Commit {
        target: Target {
            topic: fields.topic,
            group: Some(fields.group),
        },
        offsets: fields.offsets,
        generation: fields.generation.map(|generation| generation.0),
    }))
}

pub(super) fn release<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        topic: String,
        group: String,
        partitions: Vec<Whole>,
    }
    let fields: Fields = read(text)?;
    let partitions = fields
        .partitions
        .into_iter()
        .map(|Whole(number)| partition_id(number));
    Ok(Request::Release(Release {
        target: Target {
            topic: fields.topic,
            group: Some(fields.group),
        },
        partitions: partitions.collect::<Result<_, _>>()?,
    }))
}
