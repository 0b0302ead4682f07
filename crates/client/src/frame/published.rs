//! What a publisher is told: at once, and of what it asked to be told later.

use callboard_protocol::{FrameId, Offset, PartitionId, Timestamp};
use serde::Deserialize;

use super::text;
use crate::error::ServerError;

/// What became of one record of a `publish` with several.
///
/// Tried in this order, so the one with the fewest fields comes last.
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
    /// It is kept to be delivered later.
    Scheduled(Scheduled),
    /// It went through an exchange.
    Routed {
        /// What became of it in each topic.
        routes: Vec<Route>,
    },
    /// It is not stored.
    Refused {
        /// Why.
        error: ServerError,
    },
    /// It went to live subscribers only (`ttl_ms` 0).
    Passed {
        /// Its partition.
        partition: PartitionId,
    },
}

/// A record that is kept to be delivered later.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Scheduled {
    /// Names it until it is delivered.
    #[serde(rename = "scheduled")]
    pub id: String,
    /// When that is.
    pub deliver_at: Timestamp,
    /// Whether an earlier record with its `message_id` was.
    #[serde(default)]
    pub duplicate: bool,
}

/// What became of a record in one of the topics that an exchange routed it to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// The topic.
    pub topic: String,
    /// What became of it there.
    #[serde(flatten)]
    pub result: RecordResult,
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
    /// The offset of a single record; none if it was never stored (`ttl_ms` 0).
    #[serde(default)]
    pub offset: Option<Offset>,
    /// Whether an earlier record with the same `message_id` was stored instead.
    #[serde(default)]
    pub duplicate: bool,
    /// One entry a record of a batch, in the order sent.
    #[serde(default)]
    pub results: Vec<RecordResult>,
    /// What is true now: `memory`, `os`, `fsync` or `replicated`; of several the weakest.
    #[serde(default)]
    pub durability: String,
    /// What a worker answered to a single record, as JSON text; with `processed`.
    #[serde(default, deserialize_with = "text")]
    pub result: Option<Box<str>>,
    /// One entry a topic of a single record that went through an exchange.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Names a single record that is kept to be delivered later; no partition and offset then.
    #[serde(default)]
    pub scheduled: Option<String>,
    /// When that is.
    #[serde(default)]
    pub deliver_at: Option<Timestamp>,
}

/// A `notice` frame: what a publisher wanted to be told of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Notice {
    /// As the publisher said it.
    pub correlation_id: String,
    /// What it waited for: `accepted`, `durable`, `delivered` or `processed`.
    pub on: String,
    /// The record's topic.
    pub topic: String,
    /// Its partition, if that happened.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// Its offset, if that happened.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// What a worker answered, as JSON text; with `processed`.
    #[serde(default, deserialize_with = "text")]
    pub result: Option<Box<str>>,
    /// Why it will not happen.
    #[serde(default)]
    pub error: Option<ServerError>,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_of_a_record_is_told_from_the_others() {
        let outcome = |text: &str| serde_json::from_str::<RecordResult>(text).unwrap();
        let (partition, offset) = (PartitionId(1), Offset(4));
        assert_eq!(
            outcome(r#"{"partition":1,"offset":4,"duplicate":true}"#),
            RecordResult::Stored {
                partition,
                offset,
                duplicate: true
            }
        );
        assert_eq!(outcome(r#"{"partition":1}"#), RecordResult::Passed { partition });
        let scheduled = Scheduled {
            id: "s-0-41".into(),
            deliver_at: Timestamp(5),
            duplicate: false,
        };
        assert_eq!(
            outcome(r#"{"scheduled":"s-0-41","deliver_at":5}"#),
            RecordResult::Scheduled(scheduled)
        );
        let RecordResult::Routed { routes } = outcome(
            r#"{"routes":[{"topic":"a","partition":1,"offset":4},{"topic":"b","partition":1},
                {"topic":"c","error":{"code":"timeout","message":"m"}},{"topic":"d","scheduled":"s-0-1","deliver_at":5}]}"#,
        ) else {
            panic!("not routed")
        };
        let stored = RecordResult::Stored {
            partition,
            offset,
            duplicate: false,
        };
        assert_eq!((routes[0].topic.as_str(), &routes[0].result), ("a", &stored));
        assert_eq!(routes[1].result, RecordResult::Passed { partition });
        assert!(matches!(&routes[2].result, RecordResult::Refused { error } if error.code == "timeout"));
        assert!(matches!(&routes[3].result, RecordResult::Scheduled(_)));
        assert!(matches!(
            outcome(r#"{"error":{"code":"unroutable","message":"m"}}"#),
            RecordResult::Refused { .. }
        ));
    }

    #[test]
    fn a_single_record_says_its_routes_or_its_schedule() {
        let published = |text: &str| serde_json::from_str::<Published>(text).unwrap();
        let routed = published(
            r#"{"id":3,"exchange":"e","routes":[{"topic":"plant","partition":1,"offset":4}],"durability":"fsync"}"#,
        );
        assert_eq!(routed.routes.len(), 1);
        assert!(routed.partition.is_none() && routed.scheduled.is_none());
        let later =
            published(r#"{"id":5,"topic":"t","scheduled":"s-0-41","deliver_at":7,"durability":"fsync"}"#);
        assert_eq!(later.scheduled.as_deref(), Some("s-0-41"));
        assert_eq!(later.deliver_at, Some(Timestamp(7)));
    }
}
