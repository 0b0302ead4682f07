//! Every frame but `publish`: rare and small, so serde reads them from the text that the scanner checked.
//!
//! A number that could not be an offset or a count (2^53 or more) is refused here, so that nobody behind
//! has to think of overflow.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{GroupSubscribe, Request, bad, exchange, group, invalid, partition_id};
use crate::{Epoch, Offset, PartitionId, Pattern, error::Refusal, id::SAFE_INTEGER_MAX};

/// Names a subscription of the session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// A topic or a pattern.
    pub topic: String,
    /// Its group, if it has one.
    pub group: Option<String>,
}

/// A `subscribe` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// A topic or a pattern.
    pub topic: String,
    /// The group that it joins, if any.
    pub group: Option<GroupSubscribe>,
    /// Where to begin, if it says so.
    pub from: Option<From>,
    /// Without a group: most records to be given before `credit` allows more. In one: most that are out at a
    /// time.
    pub credit: Option<u64>,
    /// What happens to a subscriber that is slower than its topic.
    pub overflow: Overflow,
    /// Without a group: whether the topic may have no other such subscription.
    pub exclusive: bool,
}

impl Subscribe {
    /// Where it begins; in a group only where the group has no position yet.
    ///
    /// Without a word, a plain subscription begins at what comes and a group at what is there: work that was
    /// published before its first worker came must be done.
    #[must_use]
    pub fn start(&self) -> From {
        match (&self.from, &self.group) {
            (Some(from), _) => from.clone(),
            (None, None) => From::Latest,
            (None, Some(_)) => From::Earliest,
        }
    }
}

/// What happens to a subscriber that is slower than its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It reads on from the log.
    #[default]
    Read,
    /// It jumps to the newest record.
    Skip,
    /// It gets the newest record of each key.
    Conflate,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// After the newest record.
    Latest,
    /// At the first record kept.
    Earliest,
    /// At the newest so many of the whole topic.
    Last(u64),
    /// At the first record of this time; RFC 3339.
    Time(String),
    /// Where it was.
    Resume(Resume),
    /// Where it was in each topic of a pattern.
    Topics(BTreeMap<String, Resume>),
}

/// A position to come back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Resume {
    /// The next offset of each partition.
    #[serde(deserialize_with = "offsets")]
    pub offsets: BTreeMap<PartitionId, Offset>,
    /// The epoch in which they mean something.
    pub epoch: Option<Epoch>,
}

/// A `credit` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Which subscription.
    pub target: Target,
    /// How many records more.
    pub add: u64,
}

/// A `fetch` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset.
    pub offset: Offset,
    /// Most records to return.
    pub limit: Option<u64>,
}

/// A `declare` frame for a topic; every other field is configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// The topic.
    pub topic: String,
    /// The fields besides `type`, `id` and `topic`, as a JSON object.
    pub config: String,
}

/// An integer from 0 to 2^53 - 1, as every number of the protocol.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(super) struct Whole(pub(super) u64);

impl TryFrom<u64> for Whole {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number <= SAFE_INTEGER_MAX {
            Ok(Self(number))
        } else {
            Err("a number is below 2^53")
        }
    }
}

pub(super) fn offsets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<PartitionId, Offset>, D::Error> {
    let found = BTreeMap::<PartitionId, Whole>::deserialize(deserializer)?;
    Ok(found
        .into_iter()
        .map(|(partition, next)| (partition, Offset(next.0)))
        .collect())
}

pub(super) fn subscribe<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        topic: String,
        from: Option<serde_json::Value>,
        credit: Option<Whole>,
        overflow: Option<Overflow>,
        exclusive: Option<bool>,
    }
    let fields: Fields = read(text)?;
    let from = fields.from.map(start_from).transpose()?;
    let group = read::<group::Fields>(text)?.read()?;
    let exclusive = fields.exclusive.unwrap_or_default() && group.is_none();
    if exclusive && Pattern::is_pattern(&fields.topic) {
        return Err(invalid("exclusive goes with one topic, not with a pattern"));
    }
    if group.is_some() {
        group::fits(&fields.topic, from.as_ref(), fields.overflow)?;
    }
    Ok(Request::Subscribe(Box::new(Subscribe {
        topic: fields.topic,
        group,
        from,
        credit: fields.credit.map(|credit| credit.0),
        overflow: fields.overflow.unwrap_or_default(),
        exclusive,
    })))
}

pub(super) fn start_from(value: serde_json::Value) -> Result<From, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    enum Object {
        Last(Whole),
        Time(String),
        Topics(BTreeMap<String, Resume>),
    }
    let expected = || bad("from is latest, earliest, {last}, {time}, {offsets, epoch} or {topics}");
    match value.as_str() {
        Some("latest") => return Ok(From::Latest),
        Some("earliest") => return Ok(From::Earliest),
        _ => {}
    }
    if value.get("offsets").is_some() {
        let resume = Resume::deserialize(value).map_err(|_| expected())?;
        return Ok(From::Resume(resume));
    }
    match Object::deserialize(value).map_err(|_| expected())? {
        Object::Last(count) => Ok(From::Last(count.0)),
        Object::Time(time) => Ok(From::Time(time)),
        Object::Topics(topics) => Ok(From::Topics(topics)),
    }
}

pub(super) fn unsubscribe<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    read(text).map(Request::Unsubscribe)
}

pub(super) fn credit<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        topic: String,
        group: Option<String>,
        add: Whole,
    }
    let Fields { topic, group, add } = read(text)?;
    Ok(Request::Credit(Credit {
        target: Target { topic, group },
        add: add.0,
    }))
}

pub(super) fn fetch<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        topic: String,
        partition: Whole,
        offset: Whole,
        limit: Option<Whole>,
    }
    let fields: Fields = read(text)?;
    Ok(Request::Fetch(Fetch {
        topic: fields.topic,
        partition: partition_id(fields.partition.0)?,
        offset: Offset(fields.offset.0),
        limit: fields.limit.map(|limit| limit.0),
    }))
}

pub(super) fn declare<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    let mut fields: serde_json::Map<String, serde_json::Value> = read(text)?;
    fields.remove("type");
    fields.remove("id");
    let exchange = fields.remove("exchange").filter(|value| !value.is_null());
    let topic = match (fields.remove("topic"), exchange) {
        (Some(serde_json::Value::String(topic)), None) => topic,
        (None | Some(serde_json::Value::Null), Some(_)) => return exchange::declare(text),
        (_, None) => return Err(bad("declare needs a topic or an exchange")),
        (Some(_), Some(_)) => return Err(bad("declare is of a topic or of an exchange, not of both")),
    };
    Ok(Request::Declare(Declare {
        topic,
        config: serde_json::Value::Object(fields).to_string(),
    }))
}

pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| bad(error.to_string()))
}
