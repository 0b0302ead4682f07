//! Records to publish.

use std::{collections::BTreeMap, time::Duration};

use callboard_protocol::{
    PartitionId, Timestamp,
    json::{self, JsonError},
    time::format_rfc3339,
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
#[serde(untagged)]
enum Due {
    After { delay_ms: u64 },
    At { deliver_at: String },
}

/// What the publisher is told of a record later on.
#[derive(Clone, Debug, Serialize)]
struct Notify {
    on: Ack,
    correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(flatten)]
    due: Option<Due>,
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
        Self {
            to: To::Topic { topic: topic.into() },
            key: None,
            partition: None,
            headers: BTreeMap::new(),
            ttl_ms: None,
            message_id: None,
            due: None,
            notify: None,
            ack: Ack::Durable,
            timeout_ms: None,
            payload,
        }
    }

    /// A record for every topic that `exchange` leads `routing_key` to: in all of them, or in none.
    #[must_use]
    pub fn routed(exchange: impl Into<String>, routing_key: impl Into<String>, payload: Payload) -> Self {
        Self::new(String::new(), payload).through(exchange, routing_key)
    }

    /// A record whose payload is the JSON text `json`, byte for byte.
    ///
    /// # Errors
    /// The text is not one JSON value, or is nested too deep.
    pub fn json(topic: impl Into<String>, json: &str) -> Result<Self, JsonError> {
        Ok(Self::new(topic, Payload::json(json)?))
    }

    /// Sends it through an exchange, which routes it by its key, instead of to a topic.
    #[must_use]
    pub fn through(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.to = To::Exchange {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        };
        self
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

    /// Names it, so that a repeat is not stored again; also lets the client send it again by itself
    /// after a lost connection.
    #[must_use]
    pub fn with_message_id(mut self, message_id: impl Into<String>) -> Self {
        self.message_id = Some(message_id.into());
        self
    }

    /// Has it delivered so much later.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.due = Some(Due::After {
            delay_ms: whole_ms(delay),
        });
        self
    }

    /// Has it delivered at this moment, or at once if that has passed.
    #[must_use]
    pub fn with_deliver_at(mut self, moment: Timestamp) -> Self {
        self.due = Some(Due::At {
            deliver_at: format_rfc3339(moment),
        });
        self
    }

    /// Has the broker say when the record has come so far, whatever was answered before; `on` is not
    /// [`Ack::None`]. The notice carries this `correlation_id` of 1 to 128 bytes. It comes to
    /// [`Client::notices`](crate::Client::notices), and on this connection only: if that is lost, so is the notice.
    #[must_use]
    pub fn with_notify(mut self, on: Ack, correlation_id: impl Into<String>) -> Self {
        let correlation_id = correlation_id.into();
        self.notify = Some(Notify {
            on,
            correlation_id,
            url: None,
        });
        self
    }

    /// Has the broker POST the notice to `url`, http or https, instead; else as [`Self::with_notify`].
    #[must_use]
    pub fn with_notify_to(self, url: impl Into<String>, on: Ack, correlation_id: impl Into<String>) -> Self {
        let mut publish = self.with_notify(on, correlation_id);
        if let Some(notify) = &mut publish.notify {
            notify.url = Some(url.into());
        }
        publish
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
    use callboard_protocol::client::{self, ClientFrame, Due, Records, Request};

    use super::*;

    /// What the broker reads of what is written here.
    fn read(record: &Publish, look: impl FnOnce(client::Publish<'_>)) {
        let mut frame = serde_json::to_value(record).unwrap();
        frame["type"] = "publish".into();
        let text = frame.to_string();
        match ClientFrame::decode(&text).unwrap().request {
            Request::Publish(publish) => look(publish),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_asked_of_a_record_is_read_by_the_broker() {
        let plain = Publish::json("orders", "1.10").unwrap();
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"topic":"orders","payload":1.10}"#
        );
        let routed = plain
            .clone()
            .through("readings", "plant.boiler")
            .with_delay(Duration::from_millis(1500));
        read(&routed, |publish| {
            let to = client::To::Exchange {
                exchange: "readings".into(),
                routing_key: "plant.boiler".into(),
            };
            assert_eq!(publish.to, to);
            let Records::One(record) = publish.records else {
                panic!("one record")
            };
            assert_eq!(record.due, Some(Due::After(1500)));
        });
        let moment = Timestamp(1_795_146_000_123);
        let told = plain.with_deliver_at(moment).with_notify(Ack::Processed, "c-17");
        read(&told, |publish| {
            let Records::One(record) = publish.records else {
                panic!("one record")
            };
            assert_eq!(record.due, Some(Due::At(moment)));
            let notify = record.notify.unwrap();
            assert_eq!(
                (notify.on, &*notify.correlation_id, notify.url),
                (client::Ack::Processed, "c-17", None)
            );
        });
        let routed = Publish::routed("readings", "", Payload::json("1").unwrap());
        let posted = routed.with_notify_to("http://h/x", Ack::Delivered, "c-18");
        read(&posted, |publish| {
            assert!(matches!(publish.to, client::To::Exchange { .. }));
            let Records::One(record) = publish.records else {
                panic!("one record")
            };
            assert_eq!(record.notify.unwrap().url.as_deref(), Some("http://h/x"));
        });
    }
}
