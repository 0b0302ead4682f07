//! A record as the call that carries it: headers, body, signature.
//!
//! Payloads go into bodies as the bytes that they are; nothing here looks into one.
//!
//! Sources: the Standard Webhooks specification; CloudEvents 1.0 with its JSON format and its HTTP binding.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use callboard_core::record::RecordParts;
use callboard_protocol::{
    Epoch, Offset, PartitionId, Timestamp, json::push_text, server::MessagePrefix, time::format_rfc3339,
};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::settings::{BodyFormat, WebhookSettings};
use crate::actors::wire;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const CLOUDEVENT: &str = "application/cloudevents+json";
/// What a record is to CloudEvents unless its headers say otherwise.
const CLOUDEVENT_TYPE: &str = "callboard.message";

/// Which record is sent, and for which time.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The epoch of its topic.
    pub epoch: &'a Epoch,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it got that.
    pub timestamp: Timestamp,
    /// How often it was handed out, with this time.
    pub attempt: u32,
    /// What it is.
    pub parts: &'a RecordParts<'a>,
}

/// The headers and the body of a call at `now`.
pub fn compose(webhook: &WebhookSettings, delivery: &Delivery<'_>, now: Timestamp) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let (content_type, body) = match webhook.format {
        BodyFormat::Message => (JSON, message(webhook, delivery)),
        BodyFormat::Payload => (media(delivery.parts), payload(delivery.parts)),
        BodyFormat::CloudEvents => (
            CLOUDEVENT,
            Event::new(webhook, delivery).structured(delivery.parts),
        ),
        BodyFormat::CloudEventsBinary => {
            Event::new(webhook, delivery).push_headers(&mut headers);
            (media(delivery.parts), payload(delivery.parts))
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    place(&mut headers, webhook, delivery);
    sign(&mut headers, webhook, delivery, (now, &body));
    (headers, body)
}

fn message(webhook: &WebhookSettings, delivery: &Delivery<'_>) -> Bytes {
    let mut body = Vec::with_capacity(delivery.parts.payload.len() + 256);
    let prefix = MessagePrefix::for_group(&webhook.topic, &webhook.group, delivery.partition);
    let which = (delivery.offset, delivery.attempt);
    prefix.pushed(
        &mut body,
        which,
        delivery.timestamp,
        &wire::fields(delivery.parts),
    );
    body.into()
}

fn payload(parts: &RecordParts<'_>) -> Bytes {
    Bytes::copy_from_slice(parts.payload)
}

fn media(parts: &RecordParts<'_>) -> &'static str {
    if parts.binary { BYTES } else { JSON }
}

/// Says where the record is, for those that read no bodies.
fn place(headers: &mut HeaderMap, webhook: &WebhookSettings, delivery: &Delivery<'_>) {
    let mut add = |name: &'static str, value: &str| insert(headers, name, value);
    add("callboard-topic", webhook.topic.as_str());
    add("callboard-partition", &delivery.partition.to_string());
    add("callboard-offset", &delivery.offset.to_string());
    add("callboard-attempt", &delivery.attempt.to_string());
    // As it is or not at all: a key that was changed to fit would be another one.
    let is_printable =
        |key: &&str| key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && key.trim() == *key;
    if let Some(key) = delivery.parts.key.filter(is_printable) {
        add("callboard-key", key);
    }
}

/// The same for every attempt of one record in one group, and for nothing else ever. Without a full stop, which
/// parts what is signed.
fn message_id(webhook: &WebhookSettings, delivery: &Delivery<'_>) -> String {
    format!(
        "msg_{}_{}_{}_{}",
        delivery.epoch, delivery.partition, delivery.offset, webhook.group
    )
}

fn sign(
    headers: &mut HeaderMap,
    webhook: &WebhookSettings,
    delivery: &Delivery<'_>,
    (now, body): (Timestamp, &Bytes),
) {
    let id = message_id(webhook, delivery);
    let seconds = now.0 / 1000;
    insert(headers, "webhook-id", &id);
    insert(headers, "webhook-timestamp", &seconds.to_string());
    let signature = webhook.secret.sign(&id, seconds, body);
    insert(headers, "webhook-signature", &signature);
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("what goes into a header has printable letters only");
    headers.insert(HeaderName::from_static(name), value);
}

/// The attributes of a record as a CloudEvent.
struct Event<'a> {
    id: String,
    kind: Cow<'a, str>,
    source: String,
    subject: Option<Cow<'a, str>>,
    time: String,
}

impl<'a> Event<'a> {
    fn new(webhook: &WebhookSettings, delivery: &Delivery<'a>) -> Self {
        let mut own = own_attributes(delivery.parts.headers);
        let source = || format!("/topics/{}/partitions/{}", webhook.topic, delivery.partition);
        let subject = own.remove("ce-subject").map(Cow::Owned);
        Self {
            id: format!("{}-{}-{}", delivery.epoch, delivery.partition, delivery.offset),
            kind: own
                .remove("ce-type")
                .map_or(Cow::Borrowed(CLOUDEVENT_TYPE), Cow::Owned),
            source: own.remove("ce-source").unwrap_or_else(source),
            subject: subject.or_else(|| {
                let key = delivery.parts.key.filter(|key| !key.is_empty());
                key.map(Cow::Borrowed)
            }),
            time: format_rfc3339(delivery.timestamp),
        }
    }

    fn structured(&self, parts: &RecordParts<'_>) -> Bytes {
        let mut body = Vec::with_capacity(parts.payload.len() + 256);
        body.extend_from_slice(b"{\"specversion\":\"1.0\"");
        let mut add = |name: &str, value: &str| {
            body.extend_from_slice(format!(",\"{name}\":").as_bytes());
            push_text(&mut body, value);
        };
        add("id", &self.id);
        add("source", &self.source);
        add("type", &self.kind);
        if let Some(subject) = &self.subject {
            add("subject", subject);
        }
        add("time", &self.time);
        add("datacontenttype", media(parts));
        if parts.binary {
            add("data_base64", &STANDARD.encode(parts.payload));
        } else {
            body.extend_from_slice(b",\"data\":");
            body.extend_from_slice(parts.payload);
        }
        body.push(b'}');
        body.into()
    }

    fn push_headers(&self, headers: &mut HeaderMap) {
        insert(headers, "ce-specversion", "1.0");
        insert(headers, "ce-id", &self.id);
        insert(headers, "ce-source", &header_text(&self.source));
        insert(headers, "ce-type", &header_text(&self.kind));
        if let Some(subject) = &self.subject {
            insert(headers, "ce-subject", &header_text(subject));
        }
        insert(headers, "ce-time", &self.time);
    }
}

/// What a record's headers say of it as a CloudEvent; an attribute may not be empty.
fn own_attributes(headers: Option<&str>) -> BTreeMap<String, String> {
    let Some(headers) = headers.filter(|headers| headers.contains("ce-")) else {
        return BTreeMap::new();
    };
    // Headers were checked when they came; should they not be strings after all, they say nothing.
    let mut all: BTreeMap<String, String> = serde_json::from_str(headers).unwrap_or_default();
    all.retain(|name, value| name.starts_with("ce-") && !value.is_empty());
    all
}

/// A text as a header holds it. Source: CloudEvents HTTP binding 1.0, section 3.1.3.2.
fn header_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '!'..='~') && !matches!(letter, '"' | '%') {
            escaped.push(letter);
            continue;
        }
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            write!(escaped, "%{byte:02X}").expect("writing to memory does not fail");
        }
    }
    escaped
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::{GroupName, TopicName};
    use serde_json::{Value, json};

    use super::*;
    use crate::actors::push::sign::Secret;

    const NOW: Timestamp = Timestamp(1_795_146_007_999);

    fn webhook(format: BodyFormat) -> WebhookSettings {
        WebhookSettings {
            topic: TopicName::parse("plant.boiler").unwrap(),
            group: GroupName::parse("hooks").unwrap(),
            url: "https://hooks.example/a".into(),
            secret: Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
            concurrency: 1,
            timeout_ms: 1,
            format,
        }
    }

    fn compose_as(format: BodyFormat, parts: &RecordParts<'_>, attempt: u32) -> (HeaderMap, Bytes) {
        let delivery = Delivery {
            epoch: &Epoch("k3f9".into()),
            partition: PartitionId(3),
            offset: Offset(17),
            timestamp: Timestamp(1_795_146_000_123),
            attempt,
            parts,
        };
        compose(&webhook(format), &delivery, NOW)
    }

    fn header(headers: &HeaderMap, name: &str) -> Option<String> {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    fn json_record<'a>(headers: Option<&'a str>, key: Option<&'a str>) -> RecordParts<'a> {
        RecordParts {
            key,
            headers,
            payload: b"{\"total\":1.10}",
            ..RecordParts::default()
        }
    }

    #[test]
    fn message_is_the_record_with_its_group_and_attempt() {
        let parts = json_record(Some(r#"{"kind":"a"}"#), Some("c42"));
        let (headers, body) = compose_as(BodyFormat::Message, &parts, 2);
        let expected = concat!(
            r#"{"topic":"plant.boiler","group":"hooks","partition":3,"offset":17,"attempt":2,"#,
            r#""timestamp":1795146000123,"key":"c42","headers":{"kind":"a"},"payload":{"total":1.10}}"#
        );
        assert_eq!(body, expected);
        for (name, value) in [
            ("content-type", "application/json"),
            ("callboard-topic", "plant.boiler"),
            ("callboard-partition", "3"),
            ("callboard-offset", "17"),
            ("callboard-attempt", "2"),
            ("callboard-key", "c42"),
            ("webhook-id", "msg_k3f9_3_17_hooks"),
            ("webhook-timestamp", "1795146007"),
        ] {
            assert_eq!(header(&headers, name).as_deref(), Some(value), "{name}");
        }
        let signed = webhook(BodyFormat::Message)
            .secret
            .sign("msg_k3f9_3_17_hooks", 1_795_146_007, &body);
        assert_eq!(header(&headers, "webhook-signature"), Some(signed));
    }

    #[test]
    fn another_attempt_has_the_same_id() {
        let parts = json_record(None, None);
        let (first, _) = compose_as(BodyFormat::Payload, &parts, 1);
        let (second, body) = compose_as(BodyFormat::Payload, &parts, 2);
        assert_eq!(first["webhook-id"], second["webhook-id"]);
        assert_ne!(first["callboard-attempt"], second["callboard-attempt"]);
        assert_eq!(body, parts.payload);
        assert_eq!(header(&second, "callboard-key"), None);
    }

    #[test]
    fn keys_that_no_header_holds_are_left_out() {
        for key in ["a\nb: c", "\u{e4}", " a", "a\u{7f}", "\r"] {
            let parts = json_record(None, Some(key));
            let (headers, _) = compose_as(BodyFormat::Payload, &parts, 1);
            assert_eq!(header(&headers, "callboard-key"), None, "{key:?}");
        }
    }

    #[test]
    fn structured_cloudevent_has_its_attributes_and_its_data() {
        let parts = json_record(None, Some("c \"42\""));
        let (headers, body) = compose_as(BodyFormat::CloudEvents, &parts, 1);
        assert!(
            std::str::from_utf8(&body)
                .unwrap()
                .ends_with(r#""data":{"total":1.10}}"#)
        );
        let event: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "k3f9-3-17",
            "source": "/topics/plant.boiler/partitions/3",
            "type": "callboard.message",
            "subject": "c \"42\"",
            "time": "2026-11-20T03:40:00.123Z",
            "datacontenttype": "application/json",
            "data": {"total": 1.10},
        });
        assert_eq!(event, expected);
        assert_eq!(
            header(&headers, "content-type").as_deref(),
            Some("application/cloudevents+json")
        );
    }

    #[test]
    fn bytes_are_base64_in_a_structured_cloudevent_and_themselves_in_a_binary_one() {
        let parts = RecordParts {
            binary: true,
            payload: &[0, 255, 10],
            ..RecordParts::default()
        };
        let (_, body) = compose_as(BodyFormat::CloudEvents, &parts, 1);
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["data_base64"], "AP8K");
        assert_eq!(event["datacontenttype"], "application/octet-stream");
        assert!(event.get("data").is_none() && event.get("subject").is_none());
        let (headers, body) = compose_as(BodyFormat::CloudEventsBinary, &parts, 1);
        assert_eq!(body, parts.payload);
        assert_eq!(
            header(&headers, "content-type").as_deref(),
            Some("application/octet-stream")
        );
        assert_eq!(header(&headers, "ce-subject"), None);
    }

    #[test]
    fn headers_of_the_record_name_the_event() {
        let own = r#"{"ce-type":"io.example.boiler \u00e4","ce-source":"/plants/7","ce-subject":"x%","ce-id":"no","a":"b"}"#;
        let parts = json_record(Some(own), Some("key"));
        let (headers, _) = compose_as(BodyFormat::CloudEventsBinary, &parts, 1);
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "k3f9-3-17"),
            ("ce-type", "io.example.boiler%20%C3%A4"),
            ("ce-source", "/plants/7"),
            ("ce-subject", "x%25"),
            ("ce-time", &format_rfc3339(Timestamp(1_795_146_000_123))),
        ] {
            assert_eq!(header(&headers, name).as_deref(), Some(value), "{name}");
        }
        let (_, body) = compose_as(BodyFormat::CloudEvents, &parts, 1);
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&event["type"], &event["source"]),
            (&json!("io.example.boiler \u{e4}"), &json!("/plants/7"))
        );
        // An attribute must not be empty.
        let parts = json_record(Some(r#"{"ce-type":""}"#), None);
        let (headers, _) = compose_as(BodyFormat::CloudEventsBinary, &parts, 1);
        assert_eq!(header(&headers, "ce-type").as_deref(), Some("callboard.message"));
    }
}
