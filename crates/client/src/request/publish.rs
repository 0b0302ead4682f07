//! A record to publish, and all that can be said about it.

use std::{collections::BTreeMap, time::Duration};

use callboard_protocol::{
    PartitionId,
    json::{self, JsonError},
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::whole_ms;

/// When a `publish` is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Never, unless it is refused.
    None,
    /// Once it has an offset.
    Accepted,
    /// Once it is as durable as its topic promises.
    #[default]
    Durable,
    /// Once it was sent to a subscription of any kind; waits for one.
    Delivered,
    /// Once a worker of a shared group has done it.
    Processed,
}

impl Ack {
    fn is_default(&self) -> bool {
        *self == Self::Durable
    }
}

/// What a record carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A JSON value, sent as the bytes it is.
    Json(Box<RawValue>),
    /// Bytes, as base64.
    Base64(String),
}

impl Payload {
    /// The JSON text `json`, byte for byte.
    ///
    /// # Errors
    /// The text is not one JSON value, or is nested too deep.
    pub fn json(json: &str) -> Result<Self, JsonError> {
        let value = json::check(json)?.into_owned();
        let value =
            RawValue::from_string(value).expect("the protocol's scanner accepts only what serde_json does");
        Ok(Self::Json(value))
    }
}

/// Where a record goes.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum To {
    Topic { topic: String },
    Exchange { exchange: String, routing_key: String },
}

/// When a record is delivered, if not at once.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Due {
    DelayMs(u64),
    DeliverAt(String),
}

/// What a publisher wants to be told of a record.
#[derive(Clone, Debug, Serialize)]
struct Notify {
    on: NotifyOn,
    correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// What must have happened to a record before its publisher is sent a [`Notice`](crate::Notice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyOn {
    /// It has an offset.
    Accepted,
    /// It is as durable as its topic promises.
    Durable,
    /// It was sent to a subscription of any kind.
    Delivered,
    /// A worker of a shared group has done it.
    Processed,
}

/// One record to publish.
#[derive(Clone, Debug, Serialize)]
pub struct Publish {
    #[serde(flatten)]
    to: To,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<PartitionId>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    due: Option<Due>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<Notify>,
    #[serde(skip_serializing_if = "Ack::is_default")]
    ack: Ack,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(flatten, serialize_with = "payload_field")]
    payload: Payload,
}

fn payload_field<S: Serializer>(payload: &Payload, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    match payload {
        Payload::Json(json) => map.serialize_entry("payload", json)?,
        Payload::Base64(text) => map.serialize_entry("payload_base64", text)?,
    }
    map.end()
}

impl Publish {
    /// A record of `topic`; nothing of the payload is changed.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: Payload) -> Self {
        Self::to(To::Topic { topic: topic.into() }, payload)
    }

    /// A record for every topic that `exchange` leads `routing_key` to: in all of them, or in none.
    #[must_use]
    pub fn routed(exchange: impl Into<String>, routing_key: impl Into<String>, payload: Payload) -> Self {
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        Self::to(
            To::Exchange {
                exchange,
                routing_key,
            },
            payload,
        )
    }

    fn to(to: To, payload: Payload) -> Self {
        Self {
            to,
            key: None,
            partition: None,
            headers: BTreeMap::new(),
            ttl_ms: None,
            due: None,
            message_id: None,
            notify: None,
            ack: Ack::Durable,
            timeout_ms: None,
            payload,
        }
    }

    /// A record whose payload is the JSON text `json`, byte for byte.
    ///
    /// # Errors
    /// The text is not one JSON value, or is nested too deep.
    pub fn json(topic: impl Into<String>, json: &str) -> Result<Self, JsonError> {
        Ok(Self::new(topic, Payload::json(json)?))
    }

    /// Gives it a key; the same key lands in the same partition.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Puts it into this partition, whatever its key.
    #[must_use]
    pub fn with_partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Lets it live for so many milliseconds; 0 reaches only who is subscribed now.
    #[must_use]
    pub fn with_ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// Lets it be delivered only after so long; it gets its offset then. At most 100 years.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.due = Some(Due::DelayMs(whole_ms(delay)));
        self
    }

    /// Lets it be delivered only at this time, RFC 3339 as `2026-11-20T08:00:00Z`; it gets its offset then. In place
    /// of [`Self::with_delay`], and at once if the time has passed.
    #[must_use]
    pub fn with_deliver_at(mut self, moment: impl Into<String>) -> Self {
        self.due = Some(Due::DeliverAt(moment.into()));
        self
    }

    /// Names it, so that a repeat is not stored again; also lets the client send it again by itself
    /// after a lost connection.
    #[must_use]
    pub fn with_message_id(mut self, message_id: impl Into<String>) -> Self {
        self.message_id = Some(message_id.into());
        self
    }

    /// Asks for a notice that carries `correlation_id`, 1–128 bytes. It comes to
    /// [`Client::notices`](crate::Client::notices), and on this connection only: if it is lost, so is the notice.
    #[must_use]
    pub fn with_notice(mut self, on: NotifyOn, correlation_id: impl Into<String>) -> Self {
        self.notify = Some(Notify {
            on,
            correlation_id: correlation_id.into(),
            url: None,
        });
        self
    }

    /// Asks for a notice as a POST to `url`, http or https.
    #[must_use]
    pub fn with_notice_to(
        mut self,
        url: impl Into<String>,
        on: NotifyOn,
        correlation_id: impl Into<String>,
    ) -> Self {
        self.notify = Some(Notify {
            on,
            correlation_id: correlation_id.into(),
            url: Some(url.into()),
        });
        self
    }

    /// Says when it is answered.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Bounds the wait of [`Ack::Delivered`] and [`Ack::Processed`]; the record stays stored after it.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(whole_ms(timeout));
        self
    }

    pub(crate) fn ack(&self) -> Ack {
        self.ack
    }

    pub(crate) fn may_repeat(&self) -> bool {
        self.message_id.is_some()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::client::ClientFrame;

    use super::*;
    use crate::request::line;

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
    fn routes_delays_and_notices_are_written_as_the_protocol_says() {
        let one = || Payload::json("1").unwrap();
        let table = [
            (
                Publish::routed("readings", "plant.temp", one()),
                r#""exchange":"readings","routing_key":"plant.temp","payload":1"#,
            ),
            (
                Publish::new("t", one()).with_delay(Duration::from_micros(1_500_001)),
                r#""topic":"t","delay_ms":1500,"payload":1"#,
            ),
            (
                Publish::new("t", one())
                    .with_delay(Duration::from_secs(1))
                    .with_deliver_at("2026-11-20T08:00:00Z"),
                r#""topic":"t","deliver_at":"2026-11-20T08:00:00Z","payload":1"#,
            ),
            (
                Publish::new("t", one()).with_notice(NotifyOn::Processed, "c-1"),
                r#""topic":"t","notify":{"on":"processed","correlation_id":"c-1"},"payload":1"#,
            ),
            (
                Publish::new("t", one()).with_notice_to("http://h/x", NotifyOn::Delivered, "c-1"),
                r#""topic":"t","notify":{"on":"delivered","correlation_id":"c-1","url":"http://h/x"},"payload":1"#,
            ),
        ];
        for (publish, expected) in table {
            let text = line("publish", Some(1), &publish);
            assert_eq!(text, format!(r#"{{"type":"publish","id":1,{expected}}}"#));
            assert!(ClientFrame::decode(&text).is_ok(), "{text}");
        }
    }
}
