//! Every frame that the broker writes is one JSON object of the shape that the protocol's document shows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ErrorCode;

mod groups;
mod published;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    // What stood in the buffer before must stay.
    let mut buffer = b"before".to_vec();
    write(&mut buffer);
    let text = String::from_utf8(buffer).unwrap();
    assert!(!text.contains(['\n', '\r']), "{text}");
    text.strip_prefix("before").unwrap().to_owned()
}

/// Checks the members and their order, which people read; JSON itself gives order no meaning.
fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let text = written(write);
    serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(text, expected);
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn prefix() -> MessagePrefix {
    MessagePrefix::new(&topic(), PartitionId(3))
}

const PLAIN: MessageFields<'_> = MessageFields {
    key: None,
    headers: None,
    payload: b"21.50",
    binary: false,
};
const AT: Timestamp = Timestamp(1_795_146_000_123);

fn stored(offset: u64, durability: DurabilityText) -> Stored {
    Stored {
        offset: Offset(offset),
        duplicate: false,
        durability,
    }
}

#[test]
fn message_shows_what_the_record_has() {
    let fields = MessageFields {
        key: Some("c42"),
        headers: Some(r#"{"a":"b"}"#),
        payload: br#"{"total":12}"#,
        binary: false,
    };
    check(
        |buffer| prefix().message(buffer, Some(Offset(17)), AT, &fields),
        r#"{"type":"message","topic":"orders","partition":3,"offset":17,"timestamp":1795146000123,"key":"c42","headers":{"a":"b"},"payload":{"total":12}}"#,
    );
    check(
        |buffer| prefix().message(buffer, None, AT, &PLAIN),
        r#"{"type":"message","topic":"orders","partition":3,"timestamp":1795146000123,"payload":21.50}"#,
    );
    let binary = MessageFields {
        payload: &[0, 255, 16, 128],
        binary: true,
        ..PLAIN
    };
    check(
        |buffer| push_entry(buffer, Offset(0), AT, &binary),
        r#"{"offset":0,"timestamp":1795146000123,"payload_base64":"AP8QgA=="}"#,
    );
}

#[test]
fn published_says_where_and_what_it_is_worth() {
    check(
        |buffer| prefix().published(buffer, &FrameId::Number(1), &stored(17, "fsync")),
        r#"{"type":"published","id":1,"topic":"orders","partition":3,"offset":17,"durability":"fsync"}"#,
    );
    let repeat = Stored {
        duplicate: true,
        ..stored(4, "os")
    };
    check(
        |buffer| prefix().published(buffer, &FrameId::Text("a\"b".into()), &repeat),
        r#"{"type":"published","id":"a\"b","topic":"orders","partition":3,"offset":4,"duplicate":true,"durability":"os"}"#,
    );
    check(
        |buffer| passed(buffer, Some(&FrameId::Number(2)), &topic(), PartitionId(0)),
        r#"{"type":"published","id":2,"topic":"orders","partition":0,"durability":"memory"}"#,
    );
    check(
        |buffer| passed(buffer, None, &topic(), PartitionId(0)),
        r#"{"topic":"orders","partition":0,"durability":"memory"}"#,
    );
}

#[test]
fn results_stand_in_the_order_sent_under_the_weakest_durability() {
    let refused = RecordResult::Refused(Refusal::new(ErrorCode::TopicFull, "full"));
    let results = [
        RecordResult::Stored(PartitionId(1), stored(4, "fsync")),
        refused.clone(),
        RecordResult::Stored(
            PartitionId(0),
            Stored {
                duplicate: true,
                ..stored(9, "os")
            },
        ),
    ];
    check(
        |buffer| published_many(buffer, Some(&FrameId::Number(2)), &topic(), &results),
        r#"{"type":"published","id":2,"topic":"orders","results":[{"partition":1,"offset":4},{"error":{"code":"topic_full","message":"full","retryable":true,"retry_after_ms":1000}},{"partition":0,"offset":9,"duplicate":true}],"durability":"os"}"#,
    );
    check(
        |buffer| {
            published_many(
                buffer,
                None,
                &topic(),
                &[RecordResult::Passed(PartitionId(2)), results[0].clone()],
            )
        },
        r#"{"topic":"orders","results":[{"partition":2},{"partition":1,"offset":4}],"durability":"memory"}"#,
    );
    let text = written(|buffer| published_many(buffer, None, &topic(), &[refused]));
    assert!(!text.contains("durability"), "{text}");
}

#[test]
fn weaker_durability_wins_in_any_order() {
    let order = ["memory", "os", "fsync", "replicated"];
    for (i, left) in order.into_iter().enumerate() {
        for (j, right) in order.into_iter().enumerate() {
            assert_eq!(super::published::weaker(left, right), order[i.min(j)]);
        }
    }
}

#[test]
fn error_has_its_fields_in_order() {
    let refusal = Refusal::new(ErrorCode::BadFrame, "say \"why\"\n");
    check(
        |buffer| error(buffer, None, &refusal, None),
        r#"{"type":"error","code":"bad_frame","message":"say \"why\"\n","retryable":false}"#,
    );
    let expired = Refusal::new(ErrorCode::Expired, "gone").with_next_offset(Offset(512));
    check(
        |buffer| error(buffer, Some(&FrameId::Number(3)), &expired, Some(2)),
        r#"{"type":"error","id":3,"index":2,"code":"expired","message":"gone","retryable":false,"next_offset":512}"#,
    );
}

#[test]
fn every_code_is_written_with_its_retry_advice() {
    for &code in ErrorCode::ALL {
        let text = written(|buffer| error(buffer, None, &Refusal::new(code, "m"), None));
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["code"], code.as_str());
        assert_eq!(frame["retryable"], code.is_retryable());
        let waits = matches!(
            code,
            ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::TopicFull
        );
        assert_eq!(frame.get("retry_after_ms").is_some(), waits, "{code}");
    }
}

#[test]
fn rare_frames_have_the_shapes_of_the_document() {
    let (epoch, topic) = (Epoch("k3f9".into()), topic());
    let offsets: Offsets = [(PartitionId(0), Offset(10)), (PartitionId(10), Offset(4))].into();
    let followed = FollowedTopic {
        epoch: epoch.clone(),
        offsets: offsets.clone(),
        recovered: None,
    };
    let resumed = FollowedTopic {
        recovered: Some(false),
        ..followed.clone()
    };
    let topics: BTreeMap<TopicName, FollowedTopic> = [
        (TopicName::parse("a.b").unwrap(), followed),
        (topic.clone(), resumed),
    ]
    .into();
    let id = FrameId::Number(5);
    let cases = [
        (
            ServerFrame::welcome("0197".into(), 15_000),
            json!({"type":"welcome","session":"0197","server":concat!("callboard ", env!("CARGO_PKG_VERSION")),
                "heartbeat_ms":15000,"frame_bytes_max":1_048_576,"auth":"none"}),
        ),
        (
            ServerFrame::SubscribedTopic {
                id: Some(&id),
                topic: &topic,
                epoch: &epoch,
                offsets: &offsets,
                recovered: true,
            },
            json!({"type":"subscribed","id":5,"topic":"orders","epoch":"k3f9","offsets":{"0":10,"10":4},"recovered":true}),
        ),
        (
            ServerFrame::SubscribedPattern {
                id: None,
                topic: "*",
                topics: &topics,
            },
            json!({"type":"subscribed","topic":"*","topics":{"a.b":{"epoch":"k3f9","offsets":{"0":10,"10":4}},
                "orders":{"epoch":"k3f9","offsets":{"0":10,"10":4},"recovered":false}}}),
        ),
        (
            ServerFrame::Unsubscribed {
                topic: "orders",
                group: None,
                reason: "topic_deleted",
            },
            json!({"type":"unsubscribed","topic":"orders","reason":"topic_deleted"}),
        ),
        (
            ServerFrame::Skipped {
                topic: &topic,
                partition: PartitionId(0),
                count: 37,
                next_offset: Offset(512),
                reason: "retention",
            },
            json!({"type":"skipped","topic":"orders","partition":0,"count":37,"next_offset":512,"reason":"retention"}),
        ),
        (ServerFrame::Ok { id: &id }, json!({"type":"ok","id":5})),
        (ServerFrame::Pong { id: Some(&id) }, json!({"type":"pong","id":5})),
        (ServerFrame::Pong { id: None }, json!({"type":"pong"})),
        (
            ServerFrame::goaway_shutdown(),
            json!({"type":"goaway","reason":"shutdown","reconnect_ms":1000}),
        ),
    ];
    for (frame, expected) in cases {
        let text = written(|buffer| frame.push(buffer));
        assert!(text.starts_with("{\"type\":\""), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}

#[test]
fn long_keys_with_control_characters_escape_right() {
    let key: String = (0..1024u32).map(|n| char::from_u32(n % 0x80).unwrap()).collect();
    let fields = MessageFields {
        key: Some(&key),
        ..PLAIN
    };
    let text = written(|buffer| prefix().message(buffer, Some(Offset(0)), AT, &fields));
    let frame: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(frame["key"], key.as_str());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_message_reads_back(
        key in proptest::option::of("\\PC{0,60}|[\\x00-\\x7f]{0,60}"),
        offset in proptest::option::of(0..1u64 << 53),
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        id in "\\PC{0,16}",
        message in "\\PC*|[\\x00-\\x7f]*",
    ) {
        let fields = MessageFields { key: key.as_deref(), headers: None, payload: &bytes, binary: true };
        let text = written(|buffer| prefix().message(buffer, offset.map(Offset), AT, &fields));
        let frame: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(frame.get("key").and_then(Value::as_str), key.as_deref());
        prop_assert_eq!(frame.get("offset").and_then(Value::as_u64), offset);
        let encoded = frame["payload_base64"].as_str().unwrap();
        prop_assert_eq!(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(), bytes);
        let refusal = Refusal::new(ErrorCode::Internal, message.as_str());
        let text = written(|buffer| error(buffer, Some(&FrameId::Text(id.as_str().into())), &refusal, None));
        let frame: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(frame["id"].as_str(), Some(id.as_str()));
        prop_assert_eq!(frame["message"].as_str(), Some(message.as_str()));
    }
}
