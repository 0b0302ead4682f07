//! The frame decoder under arbitrary bytes.
//!
//! Holds that nothing panics, that the scanner accepts exactly the JSON that `serde_json` accepts (up to the
//! limit of depth), that a record which was decoded, written as a `message` and published again is the
//! same bytes, that what settles deliveries names a bounded number of them and is one line, and that what was let
//! through of routing keys, delays and notices is within its limits.

#![no_main]

use callboard_protocol::{
    Offset, PartitionId, Timestamp, TopicName,
    client::{ClientFrame, Due, NewRecord, Records, Request, Settle, SettleAction, To, decode_messages},
    json::{self, JsonError},
    limits::{CORRELATION_ID_BYTES_MAX, DELAY_MS_MAX, DELIVERIES_MAX, NOTIFY_URL_BYTES_MAX},
    name::check_routing_key,
    server::{MessageFields, MessagePrefix},
};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    agrees_with_serde_json(text);
    let decoded = ClientFrame::decode(text);
    if serde_json::from_str::<&RawValue>(text).is_err() {
        assert!(decoded.is_err(), "a frame that is not JSON was taken");
    }
    match decoded.map(|frame| frame.request) {
        Ok(Request::Publish(publish)) => {
            if let To::Exchange { routing_key, .. } = &publish.to {
                assert!(check_routing_key(routing_key).is_ok(), "a routing key was not checked");
            }
            match publish.records {
                Records::One(record) => is_sound(&record),
                Records::Many(records) => records.iter().flatten().for_each(is_sound),
            }
        }
        Ok(Request::Settle(settle)) => is_bounded(&settle),
        _ => {}
    }
    if let Ok(posted) = decode_messages(text) {
        posted.records.iter().flatten().for_each(is_sound);
    }
});

fn is_bounded(settle: &Settle<'_>) {
    let count = settle.deliveries.as_slice().len();
    assert!((1..=DELIVERIES_MAX).contains(&count), "{count} deliveries");
    if let SettleAction::Ack { result: Some(result) } = &settle.action {
        let again = json::check(result).expect("a result is JSON");
        assert_eq!(again, *result, "a result is one line");
    }
}

fn agrees_with_serde_json(text: &str) {
    let reference = serde_json::from_str::<&RawValue>(text);
    match json::check(text) {
        Ok(checked) => {
            let raw = reference.expect("serde_json refuses what the scanner accepts").get();
            assert_eq!(*checked, raw.replace(['\n', '\r'], " "), "the payload was changed");
        }
        Err(JsonError::TooDeep(_)) => {}
        Err(error) => assert!(reference.is_err(), "serde_json accepts, the scanner says {error}"),
    }
}

fn is_sound(record: &NewRecord<'_>) {
    if let Some(Due::After(delay_ms)) = record.due {
        assert!(delay_ms <= DELAY_MS_MAX, "{delay_ms} ms");
    }
    if let Some(notify) = &record.notify {
        let id_bytes = notify.correlation_id.len();
        assert!((1..=CORRELATION_ID_BYTES_MAX).contains(&id_bytes), "{id_bytes} bytes of id");
        let url_bytes = notify.url.as_ref().map_or(0, |url| url.len());
        assert!(url_bytes <= NOTIFY_URL_BYTES_MAX, "{url_bytes} bytes of URL");
    }
    comes_back(record);
}

/// Writes the record as a subscriber would see it, publishes that, and compares.
fn comes_back(record: &NewRecord<'_>) {
    let topic = TopicName::parse("t").expect("a good name");
    let fields = MessageFields {
        key: record.key.as_deref(),
        headers: record.headers.as_deref(),
        payload: record.payload.bytes(),
        binary: record.payload.is_binary(),
    };
    let mut message = Vec::new();
    MessagePrefix::new(&topic, PartitionId(0)).message(&mut message, Some(Offset(0)), Timestamp(0), &fields);
    assert!(!message.contains(&b'\n') && !message.contains(&b'\r'), "a frame is one line");
    let message = String::from_utf8(message).expect("frames are UTF-8");
    let again = message.replacen("\"type\":\"message\"", "\"type\":\"publish\"", 1);
    let frame = ClientFrame::decode(&again).expect("what a message shows can be published");
    let Request::Publish(publish) = frame.request else {
        panic!("another type came back");
    };
    let Records::One(back) = publish.records else {
        panic!("one record went out");
    };
    assert_eq!(back.payload.bytes(), record.payload.bytes());
    assert_eq!(back.payload.is_binary(), record.payload.is_binary());
    assert_eq!(back.key, record.key);
    assert_eq!(back.headers, record.headers);
}
