//! The frames of groups decode to what they say, and what a group does not give is refused.

use super::*;
use crate::{GroupMode, GroupName, MemberName};

fn settled(text: &str) -> Settle<'_> {
    match request(text) {
        Request::Settle(settle) => settle,
        other => panic!("{text}: {other:?}"),
    }
}

fn acked(deliveries: Deliveries, result: Option<&str>) -> Settle<'_> {
    Settle {
        deliveries,
        action: SettleAction::Ack {
            result: result.map(Into::into),
        },
    }
}

/// The ack that is compared, and not scanned, comes to the same as with a space in it, which is scanned.
#[test]
fn plain_ack_is_read_as_any_other() {
    for delivery in [
        "0",
        "7",
        "991",
        "9007199254740991",
        "9007199254740992",
        "99999999999999999",
        "007",
        "00",
        "-1",
        "1.0",
        "1e3",
        "",
        " 5",
        "5 ",
        "5,6",
        "[5]",
        "\"5\"",
        "null",
        "5]}",
        "5],\"result\":[1",
        "5]}{",
    ] {
        let plain = format!(r#"{{"type":"ack","deliveries":[{delivery}]}}"#);
        let spaced = format!(r#"{{ "type":"ack","deliveries":[{delivery}]}}"#);
        let read = |text: &str| match ClientFrame::decode(text) {
            Ok(ClientFrame {
                id,
                request: Request::Settle(settle),
            }) => Ok((id, format!("{settle:?}"))),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad.refusal.code),
        };
        assert_eq!(read(&plain), read(&spaced), "{delivery}");
    }
}

#[test]
fn subscribe_says_how_it_joins_its_group() {
    let plain = GroupSubscribe {
        group: GroupName::parse("billing").unwrap(),
        mode: None,
        member: None,
        exclusive: false,
        ordering: OrderingText::BestEffort,
        lease_ms: None,
    };
    let group = |fields: &str| {
        subscribed(&format!(
            r#"{{"type":"subscribe","topic":"orders","group":"billing"{fields}}}"#
        ))
    };
    let least = group("");
    assert_eq!(least.group.as_ref(), Some(&plain));
    assert_eq!((least.from.clone(), least.start()), (None, From::Earliest));
    let latest =
        group(r#","from":"latest","credit":256,"mode":"partitioned","exclusive":true,"overflow":"read""#);
    assert_eq!((latest.start(), latest.credit), (From::Latest, Some(256)));
    let exclusive = GroupSubscribe {
        mode: Some(GroupMode::Partitioned),
        exclusive: true,
        ..plain.clone()
    };
    assert_eq!(latest.group, Some(exclusive));
    let shared = GroupSubscribe {
        mode: Some(GroupMode::Shared),
        member: Some(MemberName::parse("wörker 1").unwrap()),
        ordering: OrderingText::Key,
        lease_ms: Some(30_000),
        ..plain
    };
    let text = r#","mode":"shared","member":"wörker 1","ordering":"key","lease_ms":30000"#;
    assert_eq!(group(text).group, Some(shared));
}

#[test]
fn what_a_group_does_not_give_is_refused() {
    use ErrorCode::{BadFrame, InvalidArgument};
    let long = "g".repeat(65);
    for (fields, code) in [
        (r#""topic":"orders.*","group":"g""#.to_owned(), InvalidArgument),
        (r#""topic":"t","group":"""#.into(), InvalidArgument),
        (r#""topic":"t","group":"a.b""#.into(), InvalidArgument),
        (r#""topic":"t","group":"é""#.into(), InvalidArgument),
        (format!(r#""topic":"t","group":"{long}""#), InvalidArgument),
        (r#""topic":"t","group":5"#.into(), BadFrame),
        (
            r#""topic":"t","group":"g","mode":"other""#.into(),
            InvalidArgument,
        ),
        (r#""topic":"t","group":"g","mode":1"#.into(), BadFrame),
        (r#""topic":"t","group":"g","member":"""#.into(), InvalidArgument),
        (
            r#""topic":"t","group":"g","member":"a\nb""#.into(),
            InvalidArgument,
        ),
        (
            format!(r#""topic":"t","group":"g","member":"{long}""#),
            InvalidArgument,
        ),
        (r#""topic":"t","group":"g","exclusive":"yes""#.into(), BadFrame),
        (
            r#""topic":"t","group":"g","overflow":"skip""#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","overflow":"conflate""#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","ordering":"key""#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","mode":"partitioned","ordering":"key""#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","mode":"shared","ordering":"any""#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","mode":"partitioned","lease_ms":1000"#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","mode":"shared","lease_ms":99"#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","mode":"shared","lease_ms":86400001"#.into(),
            InvalidArgument,
        ),
        (
            r#""topic":"t","group":"g","from":{"topics":{}}"#.into(),
            InvalidArgument,
        ),
        (r#""topic":"t","mode":"shared""#.into(), InvalidArgument),
        (r#""topic":"t.*","exclusive":true"#.into(), InvalidArgument),
        (r#""topic":"t","exclusive":1"#.into(), BadFrame),
        (r#""topic":"t","member":"m""#.into(), InvalidArgument),
    ] {
        let text = format!(r#"{{"type":"subscribe","id":6,{fields}}}"#);
        assert_eq!(refusal(&text), (code, Some("6".into())), "{fields}");
    }
    for (fields, exclusive) in [
        ("", false),
        (r#","exclusive":false"#, false),
        (r#","exclusive":null"#, false),
        (r#","exclusive":true"#, true),
    ] {
        let plain = subscribed(&format!(r#"{{"type":"subscribe","topic":"t"{fields}}}"#));
        assert_eq!((plain.group, plain.exclusive), (None, exclusive), "{fields}");
    }
    let member = subscribed(r#"{"type":"subscribe","topic":"t","group":"g","exclusive":true}"#);
    assert!(!member.exclusive, "it is the group's");
}

#[test]
fn names_of_groups_and_members_have_their_alphabets() {
    for name in ["b", "Billing_2-eu", &"g".repeat(64)] {
        assert_eq!(GroupName::parse(name).unwrap().as_str(), name);
        assert_eq!(MemberName::parse(name).unwrap().as_str(), name);
    }
    for name in ["", "a.b", "a b", "$g", "é", "a/b", &"g".repeat(65)] {
        assert!(GroupName::parse(name).is_err(), "{name}");
    }
    assert_eq!(MemberName::parse("worker 1/é").unwrap().to_string(), "worker 1/é");
    for name in ["", "a\u{1b}[2J", "a\u{85}", &"é".repeat(33)] {
        assert!(MemberName::parse(name).is_err(), "{name}");
    }
}

#[test]
fn commit_and_release_name_their_membership() {
    let target = Target {
        topic: "orders".into(),
        group: Some("billing".into()),
    };
    let commit = Commit {
        target: target.clone(),
        offsets: [(PartitionId(0), Offset(18)), (PartitionId(3), Offset(7))].into(),
        generation: Some(5),
    };
    let text = r#"{"type":"commit","id":10,"topic":"orders","group":"billing","offsets":{"0":18,"3":7},"generation":5}"#;
    assert!(matches!(request(text), Request::Commit(found) if found == commit));
    let text = r#"{"type":"commit","topic":"orders","group":"billing","offsets":{}}"#;
    let Request::Commit(found) = request(text) else {
        panic!("commit")
    };
    assert_eq!((found.offsets.len(), found.generation), (0, None));
    let release = Release {
        target,
        partitions: vec![PartitionId(2), PartitionId(0)],
    };
    let text = r#"{"type":"release","id":11,"topic":"orders","group":"billing","partitions":[2,0]}"#;
    assert!(matches!(request(text), Request::Release(found) if found == release));
}

#[test]
fn one_delivery_is_read_without_a_list() {
    for (text, expected) in [
        (
            r#"{"type":"ack","id":12,"deliveries":[991]}"#,
            acked(Deliveries::One(991), None),
        ),
        (
            r#"{"type":"ack","deliveries":[ 9007199254740991 ],"result":null}"#,
            acked(Deliveries::One(9_007_199_254_740_991), None),
        ),
        (
            r#"{"type":"ack","deliveries":[991,0, 3]}"#,
            acked(Deliveries::Many(vec![991, 0, 3]), None),
        ),
        (
            "{\"type\":\"ack\",\"deliveries\":[\n5],\"result\":{\"product\":\n1.10}}",
            acked(Deliveries::One(5), Some("{\"product\": 1.10}")),
        ),
    ] {
        assert_eq!(settled(text), expected, "{text}");
    }
}

#[test]
fn nack_and_extend_say_what_is_to_come() {
    let expected = |delay_ms, dead_letter, reason: Option<&'static str>| SettleAction::Nack {
        delay_ms,
        dead_letter,
        reason: reason.map(Into::into),
    };
    let cases = [
        ("", expected(None, false, None)),
        (
            r#","delay_ms":0,"dead_letter":false"#,
            expected(Some(0), false, None),
        ),
        (
            r#","delay_ms":500,"reason":"database \"away\"\n""#,
            expected(Some(500), false, Some("database \"away\"\n")),
        ),
        (
            r#","dead_letter":true,"reason":"not a number""#,
            expected(None, true, Some("not a number")),
        ),
    ];
    for (fields, expected) in cases {
        let text = format!(r#"{{"type":"nack","deliveries":[994]{fields}}}"#);
        assert_eq!(settled(&text).action, expected, "{fields}");
    }
    let extend = settled(r#"{"type":"extend","id":16,"deliveries":[996,997],"lease_ms":60000}"#);
    assert_eq!(extend.deliveries.as_slice(), [996, 997]);
    assert_eq!(extend.action, SettleAction::Extend { lease_ms: 60_000 });
}

#[test]
fn frames_of_groups_are_refused_with_their_code_and_id() {
    use ErrorCode::{BadFrame, InvalidArgument, PartitionOutOfRange};
    for (fields, code) in [
        (r#""type":"commit","topic":"t","offsets":{}"#, BadFrame),
        (r#""type":"commit","topic":"t","group":"g""#, BadFrame),
        (
            r#""type":"commit","topic":"t","group":"g","offsets":{"0":9007199254740992}"#,
            BadFrame,
        ),
        (
            r#""type":"commit","topic":"t","group":"g","offsets":{"a":1}"#,
            BadFrame,
        ),
        (
            r#""type":"commit","topic":"t","group":"g","offsets":{},"generation":-1"#,
            BadFrame,
        ),
        (r#""type":"release","topic":"t","group":"g""#, BadFrame),
        (
            r#""type":"release","topic":"t","group":"g","partitions":[4294967296]"#,
            PartitionOutOfRange,
        ),
        (r#""type":"ack""#, BadFrame),
        (r#""type":"ack","deliveries":[]"#, BadFrame),
        (r#""type":"ack","deliveries":[ ]"#, BadFrame),
        (r#""type":"ack","deliveries":5"#, BadFrame),
        (r#""type":"ack","deliveries":null"#, BadFrame),
        (r#""type":"ack","deliveries":"[5]""#, BadFrame),
        (r#""type":"nack""#, BadFrame),
        (r#""type":"nack","deliveries":[]"#, BadFrame),
        (r#""type":"nack","deliveries":[1],"reason":5"#, BadFrame),
        (
            r#""type":"nack","deliveries":[1],"dead_letter":true,"delay_ms":1"#,
            InvalidArgument,
        ),
        (r#""type":"extend","deliveries":[1]"#, BadFrame),
        (
            r#""type":"extend","deliveries":[1],"lease_ms":99"#,
            InvalidArgument,
        ),
        (
            r#""type":"extend","deliveries":[1],"lease_ms":86400001"#,
            InvalidArgument,
        ),
    ] {
        let text = format!(r#"{{{fields},"id":10}}"#);
        assert_eq!(refusal(&text), (code, Some("10".into())), "{fields}");
    }
}

#[test]
fn a_frame_settles_a_bounded_number_of_deliveries() {
    let frame = |kind: &str, count: usize| {
        format!(
            r#"{{"type":"{kind}","lease_ms":100,"deliveries":[{}]}}"#,
            vec!["7"; count].join(",")
        )
    };
    for kind in ["ack", "nack", "extend"] {
        assert_eq!(settled(&frame(kind, 10_000)).deliveries.as_slice().len(), 10_000);
        assert_eq!(refusal(&frame(kind, 10_001)).0, ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_seek_says_where_to_in_one_way() {
    let resume = |offset| {
        From::Resume(Resume {
            offsets: [(PartitionId(0), Offset(offset))].into(),
            epoch: None,
        })
    };
    for (text, from) in [
        (r#"{"from":"earliest"}"#, From::Earliest),
        (r#"{"to":"latest","other":1}"#, From::Latest),
        (
            r#"{"from":{"time":"2026-11-20T08:00:00Z"}}"#,
            From::Time("2026-11-20T08:00:00Z".into()),
        ),
        (
            r#"{"time":"2026-11-20T08:00:00Z","from":null}"#,
            From::Time("2026-11-20T08:00:00Z".into()),
        ),
        (r#"{"from":{"offsets":{"0":12}}}"#, resume(12)),
        (r#"{"offsets":{"0":0}}"#, resume(0)),
    ] {
        assert_eq!(decode_seek(text).unwrap(), from, "{text}");
    }
    for (text, code) in [
        ("", ErrorCode::BadFrame),
        ("[]", ErrorCode::BadFrame),
        ("{}", ErrorCode::BadFrame),
        (r#"{"from":"newest"}"#, ErrorCode::BadFrame),
        (r#"{"from":"earliest","to":"latest"}"#, ErrorCode::BadFrame),
        (r#"{"offsets":{"0":-1}}"#, ErrorCode::BadFrame),
        (r#"{"time":5}"#, ErrorCode::BadFrame),
        (r#"{"from":{"last":5}}"#, ErrorCode::InvalidArgument),
        (r#"{"from":{"topics":{}}}"#, ErrorCode::InvalidArgument),
    ] {
        assert_eq!(decode_seek(text).unwrap_err().code, code, "{text}");
    }
}

#[test]
fn one_record_of_rest_says_itself_when_it_is_answered() {
    let posted =
        decode_messages(r#"{"\u0061ck":"processed","payload":1,"timeout_ms":5,"type":"publish"}"#).unwrap();
    assert_eq!((posted.ack, posted.timeout_ms), (Some(Ack::Processed), Some(5)));
    assert_eq!(posted.records[0].as_ref().unwrap().payload.bytes(), b"1");
    let several = decode_messages(r#"[{"payload":1,"ack":"none","timeout_ms":"?"}]"#).unwrap();
    assert_eq!((several.ack, several.timeout_ms), (None, None));
    for (body, good) in [
        (r#"{"payload":1,"ack":null,"timeout_ms":null}"#, true),
        (r#"{"payload":1,"ack":"never"}"#, false),
        (r#"{"payload":1,"ack":"none","timeout_ms":-1}"#, false),
    ] {
        let code = decode_messages(body).err().map(|refusal| refusal.code);
        assert_eq!(code, (!good).then_some(ErrorCode::BadFrame), "{body}");
    }
}

#[test]
fn publish_waits_for_whom_it_says() {
    let publish =
        published(r#"{"type":"publish","topic":"t","payload":1,"ack":"processed","timeout_ms":5000}"#);
    assert_eq!((publish.ack, publish.timeout_ms), (Ack::Processed, Some(5000)));
    let publish = published(r#"{"type":"publish","topic":"t","messages":[{"payload":1}],"ack":"delivered"}"#);
    assert_eq!((publish.ack, publish.timeout_ms), (Ack::Delivered, None));
}
