//! What a publisher is told of its records: at once, and later on if it asked for it.

use callboard_protocol::{FrameId, Offset, PartitionId, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ServerError;

/// What became of one record of a `publish` with several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum RecordResult {
    /// It is stored.
    Stored {
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// Whether an earlier record with its `message_id` was.
        #[serde(default)]
        duplicate: bool,
    },
    /// It was given to live subscribers and is not stored (`ttl_ms` 0).
    Passed {
        /// Its partition.
        partition: PartitionId,
    },
    /// It is delivered later.
    Scheduled {
        /// Names it until then.
        scheduled: String,
        /// When.
        deliver_at: Timestamp,
        /// Whether an earlier record with its `message_id` is.
        #[serde(default)]
        duplicate: bool,
    },
    /// It went through an exchange.
    Routed {
        /// Where to.
        routes: Vec<Route>,
    },
    /// It is not stored.
    Refused {
        /// Why.
        error: ServerError,
    },
}

/// What became of a record in one of the topics that an exchange led it to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// The topic.
    pub topic: String,
    /// The partition.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// The offset; none if it was never stored or is delivered later.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// Whether an earlier record with the same `message_id` was stored instead.
    #[serde(default)]
    pub duplicate: bool,
    /// Names it until it is delivered, if that is later.
    #[serde(default)]
    pub scheduled: Option<String>,
    /// When it is delivered, if that is later.
    #[serde(default)]
    pub deliver_at: Option<Timestamp>,
    /// What a worker answered, as JSON text; with `processed`.
    #[serde(default, deserialize_with = "text")]
    pub result: Option<Box<str>>,
    /// What was waited for and did not happen; the record is stored all the same if it has an offset.
    #[serde(default)]
    pub error: Option<ServerError>,
}

/// A `published` frame: what became of a `publish`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// The frame that it answers.
    #[serde(default)]
    pub id: Option<FrameId>,
    /// The partition of a single record.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// The offset of a single record; none if it was never stored (`ttl_ms` 0) or is delivered later.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// Whether an earlier record with the same `message_id` was stored instead.
    #[serde(default)]
    pub duplicate: bool,
    /// Names a single record until it is delivered, if that is later.
    #[serde(default)]
    pub scheduled: Option<String>,
    /// When it is delivered, if that is later.
    #[serde(default)]
    pub deliver_at: Option<Timestamp>,
    /// One entry for each topic that an exchange led a single record to.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// One entry a record of a batch, in the order sent.
    #[serde(default)]
    pub results: Vec<RecordResult>,
    /// What is true now: `memory`, `os`, `fsync` or `replicated`; of several the weakest.
    #[serde(default)]
    pub durability: String,
    /// What a worker answered to a single record, as JSON text; with `processed`.
    #[serde(default, deserialize_with = "text")]
    pub result: Option<Box<str>>,
}

/// A `notice` frame: what a publisher asked to be told of a record has happened, or never will.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Notice {
    /// As the publisher called it.
    pub correlation_id: String,
    /// What it waited for: `accepted`, `durable`, `delivered` or `processed`.
    pub on: String,
    /// The record's topic.
    pub topic: String,
    /// Its partition, if what was waited for has happened.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// Its offset, if what was waited for has happened.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// What a worker answered, as JSON text; with `processed`.
    #[serde(default, deserialize_with = "text")]
    pub result: Option<Box<str>>,
    /// Why it will not happen.
    #[serde(default)]
    pub error: Option<ServerError>,
}

/// A value as the text that it came as.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(|value| Some(value.into()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::frame::ServerFrame;

    fn published(line: &str) -> Published {
        match ServerFrame::decode(line).unwrap() {
            ServerFrame::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn result_of_a_job_keeps_its_bytes() {
        for result in ["1.10", "null", r#"{"b":1,"a":  2}"#] {
            let line = format!(r#"{{"type":"published","id":4,"durability":"fsync","result":{result}}}"#);
            assert_eq!(published(&line).result.as_deref(), Some(result));
            let line = format!(
                r#"{{"type":"notice","correlation_id":"c","on":"processed","topic":"t","partition":0,"offset":3,"result":{result}}}"#
            );
            let ServerFrame::Notice(notice) = ServerFrame::decode(&line).unwrap() else {
                panic!("{line}")
            };
            assert_eq!(notice.result.as_deref(), Some(result));
        }
    }

    #[test]
    fn every_outcome_of_a_record_is_told_from_the_others() {
        let answer = published(
            r#"{"type":"published","id":4,"topic":"t","results":[{"partition":1,"offset":4,"duplicate":true},{"partition":2},{"scheduled":"s-0-41","deliver_at":9},{"routes":[{"topic":"a","partition":0,"offset":5},{"topic":"b","scheduled":"s-1-2","deliver_at":9},{"topic":"c","error":{"code":"timeout","message":"m","retryable":true,"partition":0,"offset":5}}]},{"error":{"code":"topic_full","message":"m","retryable":true}}],"durability":"fsync"}"#,
        );
        let (partition, offset, deliver_at) = (PartitionId(1), Offset(4), Timestamp(9));
        let [stored, passed, scheduled, routed, refused] = &answer.results[..] else {
            panic!("{answer:?}")
        };
        let duplicate = true;
        assert_eq!(
            *stored,
            RecordResult::Stored {
                partition,
                offset,
                duplicate
            }
        );
        let partition = PartitionId(2);
        assert_eq!(*passed, RecordResult::Passed { partition });
        assert!(matches!(scheduled, RecordResult::Scheduled { scheduled, .. } if scheduled == "s-0-41"));
        assert!(matches!(refused, RecordResult::Refused { error } if error.code == "topic_full"));
        let RecordResult::Routed { routes } = routed else {
            panic!("{routed:?}")
        };
        assert_eq!((&*routes[0].topic, routes[0].offset), ("a", Some(Offset(5))));
        assert_eq!(routes[1].deliver_at, Some(deliver_at));
        assert_eq!(routes[2].error.as_ref().unwrap().offset, Some(Offset(5)));
    }
}
