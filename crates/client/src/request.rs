//! What a client asks, and how it is written: one JSON object on one line.

use std::collections::BTreeMap;

use callboard_protocol::{Epoch, Offset, PartitionId, json};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{error::Error, frame::Offsets};

mod exchange;
mod group;
mod publish;
pub use exchange::Binding;
pub(crate) use exchange::DeclareExchange;
use group::Exclusive;
pub(crate) use group::{
    Ack as AckDelivery, AddCredit, Commit, Extend, Join, JoinHow, Release, Settle, Target, whole_ms,
};
pub use group::{CommitTo, MemberOptions, Nack, Ordering, SharedOptions};
pub use publish::{Ack, Payload, Publish};

/// Where a reader was in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The next offset of each partition.
    pub offsets: Offsets,
    /// The epoch in which they mean something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// Where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// After the newest record.
    #[default]
    Latest,
    /// At the first record kept.
    Earliest,
    /// At the newest so many of the whole topic.
    Last(u64),
    /// At the first record of this time; RFC 3339.
    Time(String),
    /// Where it was.
    #[serde(untagged)]
    Offsets(Position),
    /// Where it was in each topic of a pattern.
    #[serde(untagged)]
    Topics {
        /// By topic.
        topics: BTreeMap<String, Position>,
    },
}

/// What happens when the reader is slower than the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It reads on from the log and misses nothing.
    #[default]
    Read,
    /// It jumps to the newest record.
    Skip,
    /// It gets only the newest record of each key.
    Conflate,
}

impl Overflow {
    fn is_default(&self) -> bool {
        *self == Self::Read
    }
}

/// A subscription to a topic or to a pattern.
#[derive(Clone, Debug, Serialize)]
pub struct Subscribe {
    pub(crate) topic: String,
    pub(crate) from: From,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credit: Option<u64>,
    #[serde(skip_serializing_if = "Overflow::is_default")]
    overflow: Overflow,
    #[serde(skip_serializing_if = "Exclusive::is_no")]
    exclusive: Exclusive,
}

impl Subscribe {
    /// Every record of `topic` from now on; a `topic` with `*` or `#` follows all that match.
    #[must_use]
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            from: From::Latest,
            credit: None,
            overflow: Overflow::Read,
            exclusive: Exclusive::No,
        }
    }

    /// Begins elsewhere.
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.from = from;
        self
    }

    /// Lets at most about so many records be under way; the client tops it up as they are taken.
    ///
    /// Without it a subscription that is not read stops the whole connection, replies included.
    /// At least 1.
    #[must_use]
    pub fn with_credit(mut self, credit: u64) -> Self {
        self.credit = Some(credit.max(1));
        self
    }

    /// Says what happens when the reader is slower than the topic.
    #[must_use]
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Wants to be the only subscription of the topic, groups and patterns aside.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = Exclusive::Yes;
        self
    }
}

/// A topic to create, or to find as it is described.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Declare<'a> {
    topic: &'a str,
    #[serde(flatten)]
    config: Map<String, Value>,
}

impl<'a> Declare<'a> {
    /// Reads the configuration: a JSON object of its fields.
    pub(crate) fn new(topic: &'a str, config: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Configuration { reason };
        let config: Map<String, Value> =
            serde_json::from_str(config).map_err(|error| wrong(error.to_string()))?;
        // Next to the frame's own fields these would say something else.
        match ["type", "id", "topic", "exchange"]
            .into_iter()
            .find(|name| config.contains_key(*name))
        {
            Some(name) => Err(wrong(format!("it has no field {name}"))),
            None => Ok(Self { topic, config }),
        }
    }
}

/// A page to read without a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first record.
    pub offset: Offset,
    /// Most records; the broker's default is 100 and it cuts what is above 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// The end of a subscription.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Unsubscribe<'a> {
    pub(crate) topic: &'a str,
}

/// More records for a subscription that counts them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Credit<'a> {
    pub(crate) topic: &'a str,
    pub(crate) add: u64,
}

/// A `ping` says nothing but its type.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ping {}

/// A frame as it is written: one line, without a line end.
pub(crate) fn line(kind: &str, id: Option<u64>, body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Frame<'a, B> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(flatten)]
        body: &'a B,
    }
    let line =
        serde_json::to_string(&Frame { kind, id, body }).expect("strings and numbers always serialize");
    // A payload that did not pass `Publish::json` may still have line breaks between its tokens.
    json::one_line(&line, true).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::client::ClientFrame;

    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn publish_carries_its_payload_byte_for_byte() {
        let publish = Publish::json("orders", r#" {"b":1.10,"a":999999996000000004} "#)
            .unwrap()
            .with_key("c\n42");
        assert_eq!(
            line("publish", Some(7), &publish),
            r#"{"type":"publish","id":7,"topic":"orders","key":"c\n42","payload":{"b":1.10,"a":999999996000000004}}"#
        );
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let raw = RawValue::from_string("{\n\"a\":\r\n1}".to_owned()).unwrap();
        let text = line(
            "publish",
            None,
            &Publish::new("t", Payload::Json(raw)).with_ack(Ack::None),
        );
        assert_eq!(
            text,
            r#"{"type":"publish","topic":"t","ack":"none","payload":{ "a":  1}}"#
        );
    }

    #[test]
    fn payload_that_is_not_json_is_refused_before_it_is_sent() {
        for text in [
            "",
            "{",
            "01",
            "1 2",
            &format!("{}{}", "[".repeat(129), "]".repeat(129)),
        ] {
            assert!(Publish::json("t", text).is_err(), "{text}");
        }
    }

    #[test]
    fn configuration_that_would_say_something_else_is_refused() {
        for config in [
            "",
            "[]",
            "3",
            r#"{"topic":"other"}"#,
            r#"{"partitions":1,"id":4}"#,
        ] {
            let refused = Declare::new("t", config);
            assert!(matches!(refused, Err(Error::Configuration { .. })), "{config}");
        }
    }

    #[test]
    fn every_start_of_a_subscription_is_written_as_the_protocol_says() {
        let position = Position {
            offsets: Offsets::from([(PartitionId(0), Offset(12))]),
            epoch: Some(Epoch("k3f9".to_owned())),
        };
        let table = [
            (From::Latest, r#""latest""#),
            (From::Earliest, r#""earliest""#),
            (From::Last(20), r#"{"last":20}"#),
            (
                From::Time("2026-11-20T08:00:00Z".to_owned()),
                r#"{"time":"2026-11-20T08:00:00Z"}"#,
            ),
            (
                From::Offsets(position.clone()),
                r#"{"offsets":{"0":12},"epoch":"k3f9"}"#,
            ),
            (
                From::Topics {
                    topics: BTreeMap::from([("a.b".to_owned(), position)]),
                },
                r#"{"topics":{"a.b":{"offsets":{"0":12},"epoch":"k3f9"}}}"#,
            ),
        ];
        for (from, expected) in table {
            let text = line("subscribe", Some(1), &Subscribe::topic("t").from(from));
            assert_eq!(
                text,
                format!(r#"{{"type":"subscribe","id":1,"topic":"t","from":{expected}}}"#)
            );
        }
    }

    #[test]
    fn exclusive_is_said_only_by_who_wants_it() {
        let subscribe = Subscribe::topic("t").exclusive();
        let text = line("subscribe", Some(1), &subscribe);
        assert_eq!(
            text,
            r#"{"type":"subscribe","id":1,"topic":"t","from":"latest","exclusive":true}"#
        );
        assert!(ClientFrame::decode(&text).is_ok());
    }

    #[test]
    fn every_request_is_a_frame_that_the_protocol_reads() {
        let subscribe = Subscribe::topic("a.*")
            .with_credit(5)
            .with_overflow(Overflow::Conflate);
        let fetch = Fetch {
            topic: "t".to_owned(),
            partition: PartitionId(1),
            offset: Offset(3),
            limit: Some(9),
        };
        let publish = Publish::json("t", "1")
            .unwrap()
            .with_message_id("m")
            .with_ttl_ms(0)
            .with_header("a", "b");
        let processed = Publish::json("t", "1").unwrap().with_ack(Ack::Processed);
        let processed = processed.with_timeout(Duration::from_secs(5));
        let lines = [
            line(
                "publish",
                Some(1),
                &publish.with_partition(PartitionId(2)).with_ack(Ack::Accepted),
            ),
            line("subscribe", Some(2), &subscribe),
            line("unsubscribe", Some(3), &Unsubscribe { topic: "a.*" }),
            line("credit", None, &Credit { topic: "a.*", add: 3 }),
            line("fetch", Some(4), &fetch),
            line("ping", Some(5), &Ping {}),
            line(
                "declare",
                Some(6),
                &Declare::new("t", r#"{"partitions":3}"#).unwrap(),
            ),
            line("publish", Some(7), &processed),
        ];
        for text in lines {
            assert!(ClientFrame::decode(&text).is_ok(), "{text}");
        }
    }
}
