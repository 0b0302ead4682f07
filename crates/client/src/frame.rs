//! The broker's frames, decoded from one line each.
//!
//! A payload stays the text it came as ([`RawValue`]), so numbers keep their digits and objects their
//! order. Types of frames that this client does not know are [`ServerFrame::Unknown`], never an error:
//! a newer broker must not break an older client.

use std::{borrow::Cow, collections::BTreeMap};

use callboard_protocol::{Epoch, FrameId, Offset, PartitionId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::ServerError;

mod group;
mod published;
pub use group::{Assigned, Revoked, Unsettled};
pub use published::{Notice, Published, RecordResult, Route, Scheduled};

/// The next offset of each partition of one topic.
pub type Offsets = BTreeMap<PartitionId, Offset>;

/// The first frame of a session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Welcome {
    /// The session's id.
    pub session: String,
    /// Name and version of the broker.
    pub server: String,
    /// Quiet time after which the broker sends a Ping, milliseconds.
    pub heartbeat_ms: u64,
    /// Largest frame and message that it takes, bytes.
    pub frame_bytes_max: usize,
    /// `none` or `required`.
    #[serde(default)]
    pub auth: String,
}

/// A record, as `message` frames and `fetch` pages show it.
///
/// Serializes to the frame that it came from, byte for byte as far as the payload goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its topic; empty in a [`Page`], which names it once.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub topic: Box<str>,
    /// Its partition; 0 in a [`Page`], which names it once.
    #[serde(default)]
    pub partition: PartitionId,
    /// Its place in the partition; none if it was never stored (`ttl_ms` 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// When it got its offset.
    pub timestamp: Timestamp,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Box<str>>,
    /// Its headers, a JSON object of strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Box<RawValue>>,
    /// Its payload, if it is JSON.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub payload: Option<Box<RawValue>>,
    /// Its payload, if it is bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<Box<str>>,
    /// The group that it came through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
    /// The number under which it is leased, in a shared group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<u64>,
    /// How often it has been handed out, in a shared group; 1 the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How long it is leased, in a shared group; milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
}

/// A payload of `null` is a payload; plain `Option` would take it for none.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// A value as the text that it came as.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(|value| Some(value.into()))
}

/// Where a pattern reads one of its topics from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FollowedTopic {
    /// The topic's epoch.
    pub epoch: Epoch,
    /// The next offset of each partition.
    pub offsets: Offsets,
    /// False if records between what was asked and this are gone.
    #[serde(default)]
    pub recovered: Option<bool>,
}

/// A `subscribed` frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Subscribed {
    /// The frame that it answers; none when it tells of new partitions or new matches.
    #[serde(default)]
    pub id: Option<FrameId>,
    /// The topic or the pattern.
    pub topic: String,
    /// The topic's epoch.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// The next offset of each partition.
    #[serde(default)]
    pub offsets: Offsets,
    /// False if records between what was asked and this are gone.
    #[serde(default)]
    pub recovered: Option<bool>,
    /// The topics of a pattern.
    #[serde(default)]
    pub topics: BTreeMap<String, FollowedTopic>,
    /// The group; `offsets` are where it stands.
    #[serde(default)]
    pub group: Option<String>,
    /// `partitioned` or `shared`, of a group.
    #[serde(default)]
    pub mode: Option<String>,
}

/// A `skipped` frame: records were left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Skipped {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// How many offsets.
    pub count: u64,
    /// Where it goes on.
    pub next_offset: Offset,
    /// `retention`, `overflow` or `corrupt`.
    pub reason: String,
    /// The group that they were left out for.
    #[serde(default)]
    pub group: Option<String>,
}

/// An `unsubscribed` frame: the broker ended a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Unsubscribed {
    /// The topic.
    pub topic: String,
    /// The group.
    #[serde(default)]
    pub group: Option<String>,
    /// Why.
    pub reason: String,
}

/// A `messages` frame: one page of a `fetch`.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// The frame that it answers.
    #[serde(default)]
    pub id: Option<FrameId>,
    /// Where the next page begins.
    pub next_offset: Offset,
    /// The records, without topic and partition.
    pub messages: Vec<Message>,
}

/// A `goaway` frame: the broker will close the session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Goaway {
    /// Why.
    pub reason: String,
    /// When to come back, milliseconds.
    #[serde(default)]
    pub reconnect_ms: u64,
}

/// An `ok` or a `pong`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Done {
    /// The frame that it answers.
    #[serde(default)]
    pub id: Option<FrameId>,
}

/// Any frame of the broker.
#[derive(Clone, Debug)]
pub enum ServerFrame {
    /// The first of a session.
    Welcome(Welcome),
    /// A record.
    Message(Message),
    /// A `publish` is answered.
    Published(Published),
    /// A subscription begins, or covers more.
    Subscribed(Subscribed),
    /// A subscription ended.
    Unsubscribed(Unsubscribed),
    /// What a publisher wanted to be told of a record.
    Notice(Notice),
    /// Records were left out.
    Skipped(Skipped),
    /// A member of a group gained partitions.
    Assigned(Assigned),
    /// A member of a group loses partitions.
    Revoked(Revoked),
    /// A `fetch` is answered.
    Messages(Page),
    /// Something without a result is done.
    Ok(Done),
    /// A `ping` is answered.
    Pong(Done),
    /// The session will be closed.
    Goaway(Goaway),
    /// Something was refused.
    Error(ServerError),
    /// A type that this client does not know.
    Unknown,
}

/// How every `message` of the broker begins; saves looking for the type of the most frequent frame.
const MESSAGE_PREFIX: &str = r#"{"type":"message","#;

impl ServerFrame {
    /// Reads one line.
    ///
    /// # Errors
    /// The line is not a JSON object with a `type`, or a field is not of its type.
    pub fn decode(line: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        if line.starts_with(MESSAGE_PREFIX) {
            return serde_json::from_str(line).map(Self::Message);
        }
        let head: Head<'_> = serde_json::from_str(line)?;
        Ok(match head.kind.as_ref() {
            "welcome" => Self::Welcome(serde_json::from_str(line)?),
            "message" => Self::Message(serde_json::from_str(line)?),
            "published" => Self::Published(serde_json::from_str(line)?),
            "subscribed" => Self::Subscribed(serde_json::from_str(line)?),
            "unsubscribed" => Self::Unsubscribed(serde_json::from_str(line)?),
            "notice" => Self::Notice(serde_json::from_str(line)?),
            "skipped" => Self::Skipped(serde_json::from_str(line)?),
            "assigned" => Self::Assigned(serde_json::from_str(line)?),
            "revoked" => Self::Revoked(serde_json::from_str(line)?),
            "messages" => Self::Messages(serde_json::from_str(line)?),
            "ok" => Self::Ok(serde_json::from_str(line)?),
            "pong" => Self::Pong(serde_json::from_str(line)?),
            "goaway" => Self::Goaway(serde_json::from_str(line)?),
            "error" => Self::Error(serde_json::from_str(line)?),
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn payload_of(line: &str) -> String {
        match ServerFrame::decode(line).unwrap() {
            ServerFrame::Message(message) => message.payload.unwrap().get().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn payload_keeps_its_bytes() {
        for payload in [
            "999999996000000004",
            "1.10",
            r#"{"b":1,"a":  2}"#,
            "null",
            r#""\u0041""#,
            "1e400",
        ] {
            let line = format!(
                r#"{{"type":"message","topic":"t","partition":3,"offset":17,"timestamp":5,"key":"c","payload":{payload}}}"#
            );
            assert_eq!(payload_of(&line), payload);
        }
    }

    #[test]
    fn type_is_found_wherever_it_stands() {
        let line = r#"{"topic":"t","partition":3,"offset":17,"timestamp":5,"payload":[1],"type":"message"}"#;
        assert_eq!(payload_of(line), "[1]");
    }

    #[test]
    fn message_serializes_to_the_fields_it_came_with() {
        let line = r#"{"topic":"t","partition":3,"offset":17,"timestamp":5,"key":"c","headers":{"a":"b"},"payload":1.10}"#;
        let message: Message = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), line);
    }

    #[test]
    fn every_frame_of_the_broker_is_understood() {
        let lines = [
            r#"{"type":"welcome","session":"0197","server":"callboard 0.1.0","heartbeat_ms":15000,"frame_bytes_max":1048576,"auth":"none"}"#,
            r#"{"type":"published","id":1,"topic":"orders","partition":3,"offset":17,"durability":"fsync"}"#,
            r#"{"type":"published","id":2,"topic":"orders","results":[{"partition":1,"offset":4},{"error":{"code":"topic_full","message":"m","retryable":true}}],"durability":"fsync"}"#,
            r#"{"type":"subscribed","id":5,"topic":"orders","epoch":"k3f9","offsets":{"0":10,"1":4},"recovered":true}"#,
            r#"{"type":"subscribed","id":8,"topic":"orders.*.created","topics":{"orders.eu.created":{"epoch":"k3f9","offsets":{"0":10}}}}"#,
            r#"{"type":"unsubscribed","topic":"orders","reason":"topic_deleted"}"#,
            r#"{"type":"published","id":4,"topic":"jobs","partition":0,"offset":3,"durability":"fsync","result":{"product":42}}"#,
            r#"{"type":"subscribed","id":6,"topic":"orders","group":"billing","mode":"partitioned","epoch":"k3f9","offsets":{"0":10},"recovered":true}"#,
            r#"{"type":"unsubscribed","topic":"orders","group":"billing","reason":"group_deleted"}"#,
            r#"{"type":"assigned","topic":"orders","group":"billing","generation":5,"offsets":{"0":12,"2":0}}"#,
            r#"{"type":"revoked","topic":"orders","group":"billing","generation":6,"partitions":[2],"grace_ms":1000}"#,
            r#"{"type":"message","topic":"jobs","group":"workers","partition":0,"offset":3,"delivery":991,"attempt":1,"lease_ms":30000,"timestamp":5,"payload":[6,7]}"#,
            r#"{"type":"error","id":12,"code":"lease_expired","message":"m","failed":[{"delivery":991,"code":"lease_expired"}]}"#,
            r#"{"type":"notice","correlation_id":"c-17","on":"delivered","topic":"orders","partition":3,"offset":17}"#,
            r#"{"type":"notice","correlation_id":"c-19","on":"processed","topic":"jobs","error":{"code":"dead_lettered","message":"m","retryable":false,"partition":0,"offset":4}}"#,
            r#"{"type":"skipped","topic":"orders","partition":0,"count":37,"next_offset":512,"reason":"retention"}"#,
            r#"{"type":"ok","id":12}"#,
            r#"{"type":"messages","id":17,"topic":"orders","partition":0,"next_offset":100,"messages":[{"offset":1,"timestamp":2,"payload":null}]}"#,
            r#"{"type":"pong","id":"a"}"#,
            r#"{"type":"goaway","reason":"shutdown","reconnect_ms":1000}"#,
            r#"{"type":"error","id":3,"code":"unroutable","message":"no binding","retryable":false}"#,
        ];
        for line in lines {
            let frame = ServerFrame::decode(line).unwrap();
            assert!(!matches!(frame, ServerFrame::Unknown), "{line}");
        }
        let frame = ServerFrame::decode(r#"{"type":"weather","on":"delivered"}"#).unwrap();
        assert!(matches!(frame, ServerFrame::Unknown));
    }

    #[test]
    fn result_of_a_job_keeps_its_bytes() {
        for result in ["1.10", "null", r#"{"b":1,"a":  2}"#] {
            let line = format!(r#"{{"type":"published","id":4,"durability":"fsync","result":{result}}}"#);
            let ServerFrame::Published(published) = ServerFrame::decode(&line).unwrap() else {
                panic!("not published")
            };
            assert_eq!(published.result.as_deref(), Some(result));
        }
    }

    #[test]
    fn refusal_keeps_what_it_says_about_time() {
        let line = r#"{"type":"error","id":3,"code":"overloaded","message":"m","retryable":true,"retry_after_ms":250}"#;
        let ServerFrame::Error(error) = ServerFrame::decode(line).unwrap() else {
            panic!("not an error")
        };
        assert_eq!(
            error.known_code(),
            Some(callboard_protocol::ErrorCode::Overloaded)
        );
        assert_eq!((error.retryable, error.retry_after_ms), (true, Some(250)));
    }
}
