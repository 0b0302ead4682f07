//! Every client frame decodes to what it says, and every refusal has its code and its id.

mod exchanges;
mod groups;
mod rare;

use super::*;
use crate::{Epoch, Offset};

fn request(text: &str) -> Request<'_> {
    match ClientFrame::decode(text) {
        Ok(frame) => frame.request,
        Err(bad) => panic!("{text}: {}", bad.refusal),
    }
}

fn published(text: &str) -> Publish<'_> {
    match request(text) {
        Request::Publish(publish) => publish,
        other => panic!("{text}: {other:?}"),
    }
}

pub(super) fn record(text: &str) -> NewRecord<'_> {
    match published(text).records {
        Records::One(record) => record,
        Records::Many(_) => panic!("{text}: several records"),
    }
}

fn subscribed(text: &str) -> Subscribe {
    match request(text) {
        Request::Subscribe(subscribe) => *subscribe,
        other => panic!("{text}: {other:?}"),
    }
}

/// The code of the refusal, and the id that it carries as JSON.
fn refusal(text: &str) -> (ErrorCode, Option<String>) {
    let bad = ClientFrame::decode(text).expect_err(text);
    assert!(!bad.refusal.message.is_empty(), "{text}");
    (
        bad.refusal.code,
        bad.id.map(|id| serde_json::to_string(&id).unwrap()),
    )
}

fn payload(text: &str) -> String {
    let frame = format!(r#"{{"type":"publish","topic":"t","payload":{text},"key":"k"}}"#);
    let record = record(&frame);
    assert!(!record.payload.is_binary());
    String::from_utf8(record.payload.bytes().to_vec()).unwrap()
}

fn refused_record(fields: &str) -> ErrorCode {
    let (code, id) = refusal(&format!(r#"{{"type":"publish","id":3,"topic":"t",{fields}}}"#));
    assert_eq!(id.as_deref(), Some("3"), "{fields}");
    code
}

#[test]
fn publish_takes_every_field() {
    let publish = published(
        r#"{"type":"publish","id":1,"topic":"orders","key":"c42","partition":3,"headers":{"a":"\u0062"},
            "ttl_ms":0,"message_id":"m-1","ack":"accepted","payload":{"total":12},"unknown":[1,{}]}"#,
    );
    assert_eq!(publish.to, To::Topic("orders".into()));
    assert_eq!(publish.ack, Ack::Accepted);
    let Records::One(record) = publish.records else {
        panic!("one record")
    };
    assert_eq!(record.key.as_deref(), Some("c42"));
    assert_eq!(record.partition, Some(PartitionId(3)));
    assert_eq!(record.headers.as_deref(), Some(r#"{"a":"\u0062"}"#));
    assert_eq!(record.ttl_ms, Some(0));
    assert_eq!(record.message_id.as_deref(), Some("m-1"));
    assert_eq!(record.payload.bytes(), br#"{"total":12}"#);
}

#[test]
fn publish_needs_no_more_than_a_topic_and_a_payload() {
    let publish = published(r#"{"type":"publish","topic":"t","payload":null}"#);
    assert_eq!(publish.ack, Ack::Durable);
    let Records::One(record) = publish.records else {
        panic!("one record")
    };
    assert_eq!(record.payload.bytes(), b"null");
    assert!(record.key.is_none() && record.partition.is_none() && record.headers.is_none());
    assert!(record.ttl_ms.is_none() && record.message_id.is_none());
    assert_eq!(
        published(r#"{"type":"publish","topic":"t","payload":1,"ack":"none"}"#).ack,
        Ack::None
    );
}

#[test]
fn null_says_the_same_as_leaving_an_optional_field_out() {
    let record = record(
        r#"{"type":"publish","topic":"t","payload":1,"key":null,"partition":null,"headers":null,"ttl_ms":null,
            "message_id":null,"payload_base64":null,"ack":null,"notify":null,"exchange":null,"delay_ms":null,
            "deliver_at":null,"routing_key":null,"timeout_ms":null}"#,
    );
    assert!(record.due.is_none() && record.notify.is_none());
    assert!(record.key.is_none() && record.headers.is_none() && record.message_id.is_none());
    assert_eq!(record.payload.bytes(), b"1");
    let subscribe = subscribed(
        r#"{"type":"subscribe","topic":"t","group":null,"from":null,"credit":null,"overflow":null,"mode":null,
            "member":null,"exclusive":null,"ordering":null,"lease_ms":null}"#,
    );
    assert_eq!((subscribe.from, subscribe.group), (None, None));
}

#[test]
fn names_spelled_with_escapes_are_the_same_names() {
    let publish =
        published(r#"{"\u0074ype":"pub\u006cish","topi\u0063":"\u0074","\u0070ayload":1,"ack":"n\u006fne"}"#);
    assert_eq!((publish.to, publish.ack), (To::Topic("t".into()), Ack::None));
    let publish = published(r#"{"type":"publish","topic":"t","messages":[{"payl\u006fad":2}]}"#);
    let Records::Many(records) = publish.records else {
        panic!("several records")
    };
    assert_eq!(records[0].as_ref().unwrap().payload.bytes(), b"2");
}

#[test]
fn payloads_stay_the_bytes_they_came_as() {
    for text in [
        "999999996000000004",
        "1.10",
        "-0.0",
        "1E+400",
        "123456789012345678901234567890",
        r#"{"b":1,"a":2,"b":3}"#,
        r#""\u00e9é\/\\ \ud83d\ude00 \ud800""#,
        "\"😀\u{2028}\u{7f}\"",
        "[ 1 ,\t2 ]",
        "{}",
        "true",
        r#"{"payload":{"type":"subscribe"}}"#,
    ] {
        assert_eq!(payload(text), text);
    }
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    assert_eq!(payload("{\r\n\"a\":\n1.10}"), "{  \"a\": 1.10}");
    assert_eq!(payload("\n[\r1\n]\n"), "[ 1 ]");
    let text = "{\"type\":\"publish\",\n\"topic\":\"t\",\"headers\":{\n\"a\":\"1\"},\"payload\":\"a\\nb\"}";
    let record = record(text);
    assert_eq!(record.headers.as_deref(), Some("{ \"a\":\"1\"}"));
    assert_eq!(record.payload.bytes(), b"\"a\\nb\"");
}

#[test]
fn base64_payloads_are_bytes() {
    let record = record(r#"{"type":"publish","topic":"t","payload_base64":"AP8QgA=="}"#);
    assert!(record.payload.is_binary());
    assert_eq!(record.payload.bytes(), [0, 255, 16, 128]);
    for bad in [
        r#""AP8QgA""#,
        r#""AP8Qg===""#,
        r#""A*==""#,
        "5",
        r#""AP_-""#,
        r#""AP8Q gA==""#,
    ] {
        assert_eq!(
            refused_record(&format!(r#""payload_base64":{bad}"#)),
            ErrorCode::BadFrame,
            "{bad}"
        );
    }
}

#[test]
fn a_record_that_is_not_as_it_should_be_is_refused_with_its_code() {
    let long = |length: usize| "k".repeat(length);
    for (fields, code) in [
        (String::new() + r#""x":1"#, ErrorCode::BadFrame),
        (
            r#""payload":1,"payload_base64":"AA==""#.into(),
            ErrorCode::BadFrame,
        ),
        (r#""payload":1,"key":5"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"key":"\ud800""#.into(), ErrorCode::BadFrame),
        (
            format!(r#""payload":1,"key":"{}""#, long(1025)),
            ErrorCode::InvalidArgument,
        ),
        (
            r#""payload":1,"message_id":"""#.into(),
            ErrorCode::InvalidArgument,
        ),
        (
            format!(r#""payload":1,"message_id":"{}""#, long(129)),
            ErrorCode::InvalidArgument,
        ),
        (r#""payload":1,"message_id":7"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"partition":-1"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"partition":1.0"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"partition":"1""#.into(), ErrorCode::BadFrame),
        (
            r#""payload":1,"partition":4294967296"#.into(),
            ErrorCode::PartitionOutOfRange,
        ),
        (r#""payload":1,"partition":1e400"#.into(), ErrorCode::BadFrame),
        (
            r#""payload":1,"ttl_ms":9007199254740992"#.into(),
            ErrorCode::BadFrame,
        ),
        (r#""payload":1,"ttl_ms":true"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"headers":[]"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"headers":{"a":1}"#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"headers":{"a":null}"#.into(), ErrorCode::BadFrame),
        (
            r#""payload":1,"headers":{"a":{"b":"c"}}"#.into(),
            ErrorCode::BadFrame,
        ),
        (
            format!(r#""payload":1,"headers":{{"a":"{}"}}"#, long(16 << 10)),
            ErrorCode::InvalidArgument,
        ),
        (r#""payload":1,"ack":"never""#.into(), ErrorCode::BadFrame),
        (r#""payload":1,"ack":1"#.into(), ErrorCode::BadFrame),
        (
            r#""payload":1,"ack":"processed","timeout_ms":-1"#.into(),
            ErrorCode::BadFrame,
        ),
        (
            r#""payload":1,"exchange":"e","routing_key":"a.b""#.into(),
            ErrorCode::BadFrame,
        ),
        (r#""messages":[]"#.into(), ErrorCode::BadFrame),
        (r#""messages":{"payload":1}"#.into(), ErrorCode::BadFrame),
        (
            r#""messages":[{"payload":1}],"payload":2"#.into(),
            ErrorCode::BadFrame,
        ),
        (
            r#""messages":[{"payload":1}],"key":"k""#.into(),
            ErrorCode::BadFrame,
        ),
    ] {
        assert_eq!(refused_record(&fields), code, "{fields}");
    }
}

#[test]
fn limits_themselves_are_allowed() {
    let many = |count: usize| {
        let headers: Vec<String> = (0..count).map(|n| format!(r#""h{n}":"v""#)).collect();
        format!(r#"{{{}}}"#, headers.join(","))
    };
    let frame = format!(
        r#"{{"type":"publish","topic":"t","payload":1,"key":"{}","message_id":"{}","headers":{},"partition":4294967295,"ttl_ms":9007199254740991}}"#,
        "é".repeat(512),
        "m".repeat(128),
        many(64),
    );
    assert_eq!(record(&frame).key.map(|key| key.len()), Some(1024));
    assert_eq!(
        refused_record(&format!(r#""payload":1,"headers":{}"#, many(65))),
        ErrorCode::InvalidArgument
    );
    let messages = |count: usize| {
        format!(
            r#"{{"type":"publish","id":1,"topic":"t","messages":[{}]}}"#,
            vec![r#"{"payload":1}"#; count].join(",")
        )
    };
    assert!(ClientFrame::decode(&messages(10_000)).is_ok());
    assert_eq!(refusal(&messages(10_001)).0, ErrorCode::InvalidArgument);
}

#[test]
fn a_bad_message_does_not_touch_its_neighbours() {
    let deep = "[".repeat(129) + &"]".repeat(129);
    let text = format!(
        r#"{{"type":"publish","topic":"t","id":"b","messages":[{{"key":"a","payload":1.0}},5,{{}},{{"payload":1,"key":[]}},
            {{"payload":{deep}}},{deep},{{"payload":1,"message_id":""}},{{"payload_base64":"!"}},{{"payload":2,"partition":0}}]}}"#
    );
    let Records::Many(records) = published(&text).records else {
        panic!("several records")
    };
    let outcomes: Vec<Result<&[u8], ErrorCode>> = records
        .iter()
        .map(|record| {
            record
                .as_ref()
                .map(|r| r.payload.bytes())
                .map_err(|refusal| refusal.code)
        })
        .collect();
    use ErrorCode::{BadFrame, InvalidArgument};
    assert_eq!(
        outcomes,
        [
            Ok(b"1.0".as_slice()),
            Err(BadFrame),
            Err(BadFrame),
            Err(BadFrame),
            Err(BadFrame),
            Err(BadFrame),
            Err(InvalidArgument),
            Err(BadFrame),
            Ok(b"2".as_slice()),
        ]
    );
    assert_eq!(records[8].as_ref().unwrap().partition, Some(PartitionId(0)));
}

#[test]
fn rest_bodies_are_one_message_or_several() {
    let one = decode_messages(" {\"payload\":\n1,\"key\":\"k\"} ").unwrap();
    assert_eq!((one.ack, one.timeout_ms), (None, None));
    let one = one.records;
    assert_eq!(one[0].as_ref().unwrap().key.as_deref(), Some("k"));
    let two = decode_messages(r#"[{"payload":1},{"payload":[]},7]"#)
        .unwrap()
        .records;
    assert_eq!(two[1].as_ref().unwrap().payload.bytes(), b"[]");
    assert_eq!(two[2].as_ref().unwrap_err().code, ErrorCode::BadFrame);
    for bad in [
        "",
        "5",
        "[]",
        "{\"payload\":1}x",
        "[{\"payload\":1}",
        "nonsense",
        "[{]",
    ] {
        assert_eq!(
            decode_messages(bad).unwrap_err().code,
            ErrorCode::BadFrame,
            "{bad}"
        );
    }
    let many = format!("[{}]", vec![r#"{"payload":1}"#; 10_001].join(","));
    assert_eq!(
        decode_messages(&many).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
}

#[test]
fn subscribe_begins_where_it_says() {
    let from = |from: &str| {
        subscribed(&format!(
            r#"{{"type":"subscribe","id":5,"topic":"orders","from":{from}}}"#
        ))
        .from
        .unwrap()
    };
    assert_eq!(from(r#""latest""#), From::Latest);
    assert_eq!(from(r#""earliest""#), From::Earliest);
    assert_eq!(from(r#"{"last":20}"#), From::Last(20));
    assert_eq!(
        from(r#"{"time":"2026-11-20T08:00:00Z"}"#),
        From::Time("2026-11-20T08:00:00Z".into())
    );
    let resume = |epoch: Option<&str>| Resume {
        offsets: [(PartitionId(0), Offset(12)), (PartitionId(10), Offset(0))].into(),
        epoch: epoch.map(|epoch| Epoch(epoch.into())),
    };
    assert_eq!(
        from(r#"{"offsets":{"0":12,"10":0},"epoch":"k3f9"}"#),
        From::Resume(resume(Some("k3f9")))
    );
    assert_eq!(from(r#"{"offsets":{"0":12,"10":0}}"#), From::Resume(resume(None)));
    assert_eq!(
        from(
            r#"{"topics":{"orders.eu.created":{"epoch":"k3f9","offsets":{"0":12,"10":0},"recovered":true}}}"#
        ),
        From::Topics([("orders.eu.created".into(), resume(Some("k3f9")))].into())
    );
}

#[test]
fn control_frames_decode_to_what_they_say() {
    let subscribe = subscribed(r#"{"type":"subscribe","topic":"a.*","credit":100,"overflow":"conflate"}"#);
    assert_eq!((subscribe.topic.as_str(), subscribe.credit), ("a.*", Some(100)));
    assert_eq!(
        (subscribe.overflow, subscribe.start()),
        (Overflow::Conflate, From::Latest)
    );
    let skip = subscribed(r#"{"type":"subscribe","topic":"a","overflow":"skip"}"#);
    assert_eq!(skip.overflow, Overflow::Skip);
    let target = Target {
        topic: "orders".into(),
        group: Some("billing".into()),
    };
    let text = r#"{"type":"unsubscribe","id":9,"topic":"orders","group":"billing"}"#;
    assert!(matches!(request(text), Request::Unsubscribe(found) if found == target));
    let text = r#"{"type":"credit","topic":"orders","group":"billing","add":100}"#;
    assert!(matches!(request(text), Request::Credit(found) if found == Credit { target, add: 100 }));
    let fetch = Fetch {
        topic: "o".into(),
        partition: PartitionId(2),
        offset: Offset(7),
        limit: Some(9),
    };
    let text = r#"{"type":"fetch","id":17,"topic":"o","partition":2,"offset":7,"limit":9}"#;
    assert!(matches!(request(text), Request::Fetch(found) if found == fetch));
    let text = r#"{"type":"declare","id":18,"topic":"orders","partitions":3,"durability":"os"}"#;
    let Request::Declare(declare) = request(text) else {
        panic!("declare")
    };
    assert_eq!(declare.topic, "orders");
    let config: serde_json::Value = serde_json::from_str(&declare.config).unwrap();
    assert_eq!(config, serde_json::json!({"partitions":3,"durability":"os"}));
    assert!(matches!(request(r#"{"type":"ping"}"#), Request::Ping));
}

#[test]
fn control_frames_are_refused_with_their_code_and_id() {
    use ErrorCode::{BadFrame, PartitionOutOfRange};
    for (fields, code) in [
        (r#""type":"subscribe""#, BadFrame),
        (r#""type":"subscribe","topic":5"#, BadFrame),
        (r#""type":"subscribe","topic":"t","from":"newest""#, BadFrame),
        (r#""type":"subscribe","topic":"t","from":{"last":-1}"#, BadFrame),
        (
            r#""type":"subscribe","topic":"t","from":{"last":1,"time":"x"}"#,
            BadFrame,
        ),
        (r#""type":"subscribe","topic":"t","from":{"epoch":"e"}"#, BadFrame),
        (
            r#""type":"subscribe","topic":"t","from":{"offsets":{"a":1}}"#,
            BadFrame,
        ),
        (
            r#""type":"subscribe","topic":"t","from":{"offsets":{"0":9007199254740992}}"#,
            BadFrame,
        ),
        (
            r#""type":"subscribe","topic":"t","from":{"offsets":{"4294967296":0}}"#,
            BadFrame,
        ),
        (r#""type":"subscribe","topic":"t","from":{}"#, BadFrame),
        (r#""type":"subscribe","topic":"t","from":7"#, BadFrame),
        (
            r#""type":"subscribe","topic":"t","credit":9007199254740992"#,
            BadFrame,
        ),
        (r#""type":"subscribe","topic":"t","overflow":"drop""#, BadFrame),
        (r#""type":"unsubscribe""#, BadFrame),
        (r#""type":"credit","topic":"t""#, BadFrame),
        (
            r#""type":"credit","topic":"t","add":18446744073709551615"#,
            BadFrame,
        ),
        (r#""type":"fetch","topic":"t","partition":0"#, BadFrame),
        (
            r#""type":"fetch","topic":"t","partition":0,"offset":"0""#,
            BadFrame,
        ),
        (
            r#""type":"fetch","topic":"t","partition":0,"offset":9007199254740992"#,
            BadFrame,
        ),
        (
            r#""type":"fetch","topic":"t","partition":4294967296,"offset":0"#,
            PartitionOutOfRange,
        ),
        (r#""type":"declare","partitions":3"#, BadFrame),
    ] {
        let (found, id) = refusal(&format!(r#"{{{fields},"id":"x\n"}}"#));
        assert_eq!((found, id.as_deref()), (code, Some(r#""x\n""#)), "{fields}");
    }
}

#[test]
fn unknown_types_are_said_under_their_id() {
    for name in ["auth", "binds", "Publish", "acks", "", "é"] {
        let text = format!(r#"{{"id":7,"type":"{name}","topic":"t"}}"#);
        assert_eq!(
            refusal(&text),
            (ErrorCode::UnknownType, Some("7".into())),
            "{name}"
        );
    }
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(100_000));
    assert!(ClientFrame::decode(&long).unwrap_err().refusal.message.len() < 100);
}

#[test]
fn what_is_no_frame_is_bad_with_the_id_that_was_readable() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (text, id) in [
        (String::new(), None),
        ("[]".into(), None),
        ("5".into(), None),
        ("{}".into(), None),
        ("nonsense".into(), None),
        (r#"{"id":4}"#.into(), Some("4")),
        (r#"{"id":4,"type":5}"#.into(), Some("4")),
        (r#"{"id":4,"type":"ping""#.into(), Some("4")),
        (r#"{"id":4,"type":"ping"} {"type":"ping"}"#.into(), Some("4")),
        (r#"{"type":"ping",nonsense,"id":4}"#.into(), None),
        (r#"{"type":"publish","id":4,"payload":1}"#.into(), Some("4")),
        (
            r#"{"type":"publish","id":4,"topic":1,"payload":1}"#.into(),
            Some("4"),
        ),
        (
            format!(
                r#"{{"type":"publish","topic":"t","payload":{},"id":4}}"#,
                deep(129)
            ),
            Some("4"),
        ),
        (
            format!(
                r#"{{"type":"publish","topic":"t","payload":{},"id":4}}"#,
                deep(200_000)
            ),
            Some("4"),
        ),
        (
            format!(
                r#"{{"type":"publish","topic":"t","id":4,"payload":{}"#,
                "[".repeat(200_000)
            ),
            Some("4"),
        ),
    ] {
        let (code, found) = refusal(&text);
        assert_eq!(
            (code, found.as_deref()),
            (ErrorCode::BadFrame, id),
            "{:.80}",
            text
        );
    }
}

#[test]
fn ids_are_integers_below_2_to_53_or_short_strings() {
    for (id, good) in [
        ("0", true),
        ("9007199254740991", true),
        (r#""""#, true),
        (r#""\u0061\"""#, true),
        ("9007199254740992", false),
        ("-1", false),
        ("1.0", false),
        ("1e3", false),
        ("null", false),
        ("true", false),
        ("[1]", false),
        (r#""\ud800""#, false),
    ] {
        let text = format!(r#"{{"id":{id},"type":"ping"}}"#);
        match ClientFrame::decode(&text) {
            Ok(frame) => assert!(good && frame.id.is_some(), "{id}"),
            Err(bad) => assert!(
                !good && bad.id.is_none() && bad.refusal.code == ErrorCode::BadFrame,
                "{id}"
            ),
        }
    }
    let text = |length: usize| format!(r#"{{"id":"{}","type":"ping"}}"#, "i".repeat(length));
    assert!(ClientFrame::decode(&text(64)).is_ok());
    assert_eq!(refusal(&text(65)), (ErrorCode::BadFrame, None));
}
