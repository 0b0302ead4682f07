//! Holds `docs/protocol.md` against the code: what it shows can be read, and what it lists is so.

use callboard_protocol::{
    Epoch, ErrorCode, FrameId, GroupMode, GroupName, Offset, PartitionId, ScheduleId, Timestamp, TopicName,
    client::{Ack, ClientFrame},
    error::Refusal,
    limits,
    server::{
        self, Lease, MessageFields, MessagePrefix, Notice, NoticeForm, NoticeOutcome, RecordResult,
        RouteResult, Scheduled, ServerFrame, Stored,
    },
};
use serde_json::Value;

/// The document.
pub const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// A line of a JSON block, with the heading that it stands under.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// The nearest heading above, without its `#`s.
    pub heading: &'a str,
    /// From 1.
    pub line: usize,
    /// One JSON value.
    pub text: &'a str,
}

/// Every line of every JSON block of a document.
pub fn examples(document: &str) -> Vec<Example<'_>> {
    let (mut heading, mut in_json, mut found) = ("", false, Vec::new());
    for (index, text) in document.lines().enumerate() {
        match text.trim() {
            "```json" => in_json = true,
            "```" => in_json = false,
            _ if in_json => found.push(Example {
                heading,
                line: index + 1,
                text,
            }),
            title if title.starts_with('#') => heading = title.trim_start_matches('#').trim(),
            _ => {}
        }
    }
    found
}

/// The client frames of the document.
pub fn client_frames() -> Vec<Example<'static>> {
    examples(DOCUMENT)
        .into_iter()
        .filter(|example| example.heading == "Client frames")
        .collect()
}

/// The cells of each row of the table whose first header is `header`.
fn table(header: &str) -> Vec<Vec<&'static str>> {
    let begin = format!("| {header} |");
    DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with(&begin))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What the document says is not in this version yet: how the row begins, and the answer.
fn later(frame: &Value) -> Option<(&'static str, ErrorCode)> {
    (frame["type"] == "auth").then_some(("frame `auth`", ErrorCode::UnknownType))
}

/// What a broker refuses to a session that sends the document's frames one after the other, and nothing else:
/// it commits to a group that it has left, and settles deliveries that nobody gave it.
pub fn refused(frame: &Value) -> Option<ErrorCode> {
    if let Some((_, code)) = later(frame) {
        return Some(code);
    }
    match frame["type"].as_str().unwrap_or_default() {
        "commit" | "release" => Some(ErrorCode::NotSubscribed),
        "ack" | "nack" | "extend" => Some(ErrorCode::UnknownDelivery),
        // Its worker is the session itself, which does not ack it.
        "publish" if frame["ack"] == "processed" => Some(ErrorCode::Timeout),
        _ => None,
    }
}

#[test]
fn every_json_line_of_the_document_is_json() {
    let found = examples(DOCUMENT);
    assert!(found.len() > 50, "{} examples", found.len());
    for Example { line, text, .. } in found {
        serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("line {line}: {error}: {text}"));
    }
}

#[test]
fn every_client_frame_of_the_document_is_read_or_refused_as_it_says() {
    let rows = table("what");
    for Example { line, text, .. } in client_frames() {
        let frame: Value = serde_json::from_str(text).unwrap();
        let expected = later(&frame);
        if let Some((begin, code)) = expected {
            let row = rows.iter().find(|row| row[0].starts_with(begin)).expect(begin);
            assert!(
                row[1].contains(&format!("`{code}`")),
                "line {line}: the table says {}",
                row[1]
            );
        }
        let expected = expected.map(|(_, code)| code);
        let id = |id: Option<FrameId>| serde_json::to_value(id).unwrap();
        let (found, carried) = match ClientFrame::decode(text) {
            Ok(frame) => (None, id(frame.id)),
            Err(bad) => (Some(bad.refusal.code), id(bad.id)),
        };
        assert_eq!(found, expected, "line {line}: {text}");
        assert_eq!(
            &carried,
            frame.get("id").unwrap_or(&Value::Null),
            "line {line}: {text}"
        );
    }
}

#[test]
fn the_document_shows_frames_as_they_are_written() {
    let topic = TopicName::parse("orders").unwrap();
    let at = |partition| MessagePrefix::new(&topic, PartitionId(partition));
    let stored = |offset| Stored {
        offset: Offset(offset),
        duplicate: false,
        durability: "fsync",
    };
    let id = FrameId::Number;
    let epoch = Epoch("k3f9".into());
    let offsets = [(PartitionId(0), Offset(10)), (PartitionId(1), Offset(4))].into();
    let message = MessageFields {
        key: Some("c42"),
        headers: None,
        payload: br#"{"total":12}"#,
        binary: false,
    };
    let results = [
        RecordResult::Stored(PartitionId(1), stored(4)),
        RecordResult::Stored(PartitionId(0), stored(9)),
    ];
    let refusal = Refusal::new(
        ErrorCode::Unroutable,
        "no binding of readings matches plant.boiler.temp",
    );
    let push = |frame: ServerFrame<'_>| {
        let mut buffer = Vec::new();
        frame.push(&mut buffer);
        buffer
    };
    let write = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut buffer = Vec::new();
        write(&mut buffer);
        buffer
    };
    let written = [
        push(ServerFrame::welcome("0197…".into(), limits::HEARTBEAT_MS)),
        push(ServerFrame::goaway_shutdown()),
        push(ServerFrame::Ok { id: &id(12) }),
        push(ServerFrame::Pong { id: Some(&id(23)) }),
        push(ServerFrame::SubscribedTopic {
            id: Some(&id(5)),
            topic: &topic,
            epoch: &epoch,
            offsets: &offsets,
            recovered: true,
        }),
        push(ServerFrame::Skipped {
            topic: &topic,
            partition: PartitionId(0),
            count: 37,
            next_offset: Offset(512),
            reason: "retention",
        }),
        write(&|buffer| at(3).published(buffer, &id(1), &stored(17))),
        write(&|buffer| server::published_many(buffer, Some(&id(2)), &topic, &results)),
        write(&|buffer| at(3).message(buffer, Some(Offset(17)), Timestamp(1_795_146_000_123), &message)),
        write(&|buffer| server::error(buffer, Some(&id(3)), &refusal, None)),
    ];
    for frame in written {
        let frame = String::from_utf8(frame).unwrap();
        assert!(
            DOCUMENT.lines().any(|line| line == frame),
            "not in the document: {frame}"
        );
    }
}

#[test]
fn the_document_shows_frames_of_groups_as_they_are_written() {
    let (orders, jobs) = (
        TopicName::parse("orders").unwrap(),
        TopicName::parse("jobs").unwrap(),
    );
    let (billing, workers) = (
        GroupName::parse("billing").unwrap(),
        GroupName::parse("workers").unwrap(),
    );
    let at = Timestamp(1_795_146_000_123);
    let fields = |key, payload| MessageFields {
        key,
        headers: None,
        payload,
        binary: false,
    };
    let positions = |first, second: (u32, u64)| {
        [
            (PartitionId(0), Offset(first)),
            (PartitionId(second.0), Offset(second.1)),
        ]
        .into()
    };
    let frames = [
        ServerFrame::SubscribedGroup {
            id: Some(&FrameId::Number(6)),
            topic: &orders,
            group: &billing,
            mode: GroupMode::Partitioned,
            epoch: &Epoch("k3f9".into()),
            offsets: &positions(12, (1, 4)),
            recovered: true,
        },
        ServerFrame::Assigned {
            topic: &orders,
            group: &billing,
            generation: 5,
            offsets: &positions(12, (2, 0)),
        },
        ServerFrame::Revoked {
            topic: &orders,
            group: &billing,
            generation: 6,
            partitions: &[PartitionId(2)],
            grace_ms: 1000,
        },
        ServerFrame::Unsubscribed {
            topic: "orders",
            group: Some(&billing),
            reason: "group_deleted",
        },
    ];
    let mut written: Vec<Vec<u8>> = Vec::new();
    let mut write = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut buffer = Vec::new();
        write(&mut buffer);
        written.push(buffer);
    };
    for frame in &frames {
        write(&|buffer| frame.push(buffer));
    }
    let first = PartitionId(0);
    let owned = fields(Some("c42"), br#"{"total":12}"#);
    write(&|buffer| {
        MessagePrefix::for_group(&orders, &billing, first).message(buffer, Some(Offset(12)), at, &owned);
    });
    let lease = Lease {
        delivery: 991,
        attempt: 1,
        lease_ms: 30_000,
    };
    let job = fields(None, b"[6,7]");
    write(&|buffer| {
        MessagePrefix::for_group(&jobs, &workers, first).leased(buffer, Offset(3), at, &job, lease);
    });
    let stored = Stored {
        offset: Offset(3),
        duplicate: false,
        durability: "fsync",
    };
    let id = FrameId::Number(4);
    write(&|buffer| {
        MessagePrefix::new(&jobs, first).published_result(buffer, &id, &stored, br#"{"product":42}"#);
    });
    let timeout = Refusal::new(ErrorCode::Timeout, "no group has processed the record yet");
    let timeout = timeout.with_place(first, Offset(3));
    write(&|buffer| server::error(buffer, Some(&id), &timeout, None));
    let code = ErrorCode::LeaseExpired;
    let late = Refusal::new(code, "the lease of delivery 991 has ended");
    let settled = FrameId::Number(12);
    write(&|buffer| server::error_failed(buffer, Some(&settled), &late, &[(991, code)]));
    for frame in written {
        let frame = String::from_utf8(frame).unwrap();
        assert!(
            DOCUMENT.lines().any(|line| line == frame),
            "not in the document: {frame}"
        );
    }
}

#[test]
fn the_document_shows_what_later_and_routed_records_are_answered() {
    let topic = |name| TopicName::parse(name).unwrap();
    let (plant, later, orders, jobs) = (topic("plant"), topic("reminders"), topic("orders"), topic("jobs"));
    let stored = Stored {
        offset: Offset(5),
        duplicate: false,
        durability: "fsync",
    };
    let routes = [RouteResult {
        topic: plant,
        result: RecordResult::Stored(PartitionId(0), stored),
    }];
    let scheduled = Scheduled {
        id: ScheduleId::parse("s-0-41").unwrap(),
        deliver_at: Timestamp(1_795_146_000_123),
        duplicate: false,
        durability: "fsync",
    };
    let refusal = Refusal::new(ErrorCode::DeadLettered, "not a number");
    let refusal = refusal.with_place(PartitionId(0), Offset(4));
    let reached = |partition, offset, result| NoticeOutcome::Reached {
        partition: PartitionId(partition),
        offset: Offset(offset),
        result,
    };
    let notices = [
        ("c-17", Ack::Delivered, &orders, reached(3, 17, None)),
        (
            "c-18",
            Ack::Processed,
            &jobs,
            reached(0, 3, Some(br#"{"product":42}"#.as_slice())),
        ),
        ("c-19", Ack::Processed, &jobs, NoticeOutcome::Failed(&refusal)),
    ];
    let mut written = vec![Vec::new(), Vec::new()];
    server::published_routes(&mut written[0], Some(&FrameId::Number(3)), "readings", &routes);
    server::scheduled(&mut written[1], Some(&FrameId::Number(24)), &later, &scheduled);
    for (correlation_id, on, topic, outcome) in notices {
        let notice = Notice {
            correlation_id,
            on,
            topic,
            outcome,
        };
        let mut buffer = Vec::new();
        server::notice(&mut buffer, NoticeForm::Frame, &notice);
        written.push(buffer);
    }
    for frame in written {
        let frame = String::from_utf8(frame).unwrap();
        assert!(
            DOCUMENT.lines().any(|line| line == frame),
            "not in the document: {frame}"
        );
    }
}

#[test]
fn the_table_of_error_codes_is_the_codes() {
    let rows: Vec<(String, String, &str)> = table("code | HTTP")
        .into_iter()
        .map(|row| (row[0].replace('`', ""), row[1].to_owned(), row[2]))
        .collect();
    let codes: Vec<(String, String, &str)> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            (code.to_string(), code.http_status().to_string(), retryable)
        })
        .collect();
    assert_eq!(rows, codes);
}

#[test]
fn the_table_of_limits_is_the_limits() {
    const SOURCE: &str = include_str!("../../crates/protocol/src/limits.rs");
    let rows: Vec<(String, u64)> = table("limit")
        .into_iter()
        .map(|row| (row[0].replace('`', ""), row[1].parse().unwrap()))
        .collect();
    let limits: [(&str, u64); 30] = [
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX as u64),
        ("MESSAGE_BYTES_MAX", limits::MESSAGE_BYTES_MAX as u64),
        ("PAYLOAD_DEPTH_MAX", limits::PAYLOAD_DEPTH_MAX as u64),
        ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX as u64),
        ("MESSAGE_ID_BYTES_MAX", limits::MESSAGE_ID_BYTES_MAX as u64),
        ("TOPIC_NAME_BYTES_MAX", limits::TOPIC_NAME_BYTES_MAX as u64),
        ("ROUTING_KEY_BYTES_MAX", limits::ROUTING_KEY_BYTES_MAX as u64),
        ("GROUP_NAME_BYTES_MAX", limits::GROUP_NAME_BYTES_MAX as u64),
        ("GROUP_CREDIT_DEFAULT", limits::GROUP_CREDIT_DEFAULT),
        ("LEASE_MS_MIN", limits::LEASE_MS_MIN),
        ("LEASE_MS_MAX", limits::LEASE_MS_MAX),
        ("DELIVERIES_MAX", limits::DELIVERIES_MAX as u64),
        ("FRAME_ID_BYTES_MAX", limits::FRAME_ID_BYTES_MAX as u64),
        ("PARTITIONS_MAX", u64::from(limits::PARTITIONS_MAX)),
        ("PUBLISH_RECORDS_MAX", limits::PUBLISH_RECORDS_MAX as u64),
        ("DELAY_MS_MAX", limits::DELAY_MS_MAX),
        (
            "CORRELATION_ID_BYTES_MAX",
            limits::CORRELATION_ID_BYTES_MAX as u64,
        ),
        ("NOTIFY_URL_BYTES_MAX", limits::NOTIFY_URL_BYTES_MAX as u64),
        ("FETCH_RECORDS_MAX", limits::FETCH_RECORDS_MAX),
        ("FETCH_RECORDS_DEFAULT", limits::FETCH_RECORDS_DEFAULT),
        ("FETCH_BYTES_MAX", limits::FETCH_BYTES_MAX as u64),
        ("HEADERS_MAX", limits::HEADERS_MAX as u64),
        ("HEADERS_BYTES_MAX", limits::HEADERS_BYTES_MAX as u64),
        ("HEARTBEAT_MS", limits::HEARTBEAT_MS),
        ("SESSION_TIMEOUT_MS", limits::SESSION_TIMEOUT_MS),
        ("MEMBER_TIMEOUT_MS", limits::MEMBER_TIMEOUT_MS),
        ("REJOIN_GRACE_MS", limits::REJOIN_GRACE_MS),
        ("REVOKE_GRACE_MS", limits::REVOKE_GRACE_MS),
        ("RETRY_AFTER_MS", limits::RETRY_AFTER_MS),
        ("SUBSCRIPTIONS_MAX", limits::SUBSCRIPTIONS_MAX as u64),
    ];
    assert_eq!(rows, limits.map(|(name, value)| (name.to_owned(), value)));
    let declared = SOURCE
        .lines()
        .filter(|line| line.starts_with("pub const "))
        .count();
    assert_eq!(declared, rows.len(), "a limit is missing in the document");
}

#[test]
fn examples_are_found_with_their_heading_and_line() {
    let document = "# A\n```json\n{}\n[1]\n```\ntext\n## B c\n```\nnot json\n```\n```json\n2\n```\n";
    let found: Vec<_> = examples(document)
        .into_iter()
        .map(|e| (e.heading, e.line, e.text))
        .collect();
    assert_eq!(found, [("A", 3, "{}"), ("A", 4, "[1]"), ("B c", 12, "2")]);
}
