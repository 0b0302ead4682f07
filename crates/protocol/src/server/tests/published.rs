//! What publishers to exchanges and of later records are answered, and notices.

use super::*;
use crate::{client::Ack, id::ScheduleId};

fn route(topic: &str, partition: u32, stored: Stored) -> RouteResult {
    RouteResult {
        topic: TopicName::parse(topic).unwrap(),
        result: RecordResult::Stored(PartitionId(partition), stored),
    }
}

fn later(durability: DurabilityText) -> Scheduled {
    Scheduled {
        id: ScheduleId {
            partition: PartitionId(0),
            number: 41,
        },
        deliver_at: AT,
        duplicate: false,
        durability,
    }
}

#[test]
fn published_names_the_routes_of_one_record() {
    let id = FrameId::Number(3);
    let one = [route("plant", 0, stored(5, "fsync"))];
    check(
        |buffer| published_routes(buffer, Some(&id), "readings", &one),
        r#"{"type":"published","id":3,"exchange":"readings","routes":[{"topic":"plant","partition":0,"offset":5}],"durability":"fsync"}"#,
    );
    let repeat = Stored {
        duplicate: true,
        ..stored(7, "fsync")
    };
    let topic = |topic: &str, result| RouteResult {
        topic: TopicName::parse(topic).unwrap(),
        result,
    };
    let timeout = Refusal::new(ErrorCode::Timeout, "late").with_place(PartitionId(1), Offset(8));
    let several = [
        route("a", 2, repeat),
        topic("b", RecordResult::Scheduled(later("os"))),
        topic(
            "c",
            RecordResult::Processed(PartitionId(0), stored(1, "fsync"), (*b"[1]").into()),
        ),
        topic("d", RecordResult::Refused(timeout)),
    ];
    check(
        |buffer| published_routes(buffer, None, "", &several),
        r#"{"exchange":"","routes":[{"topic":"a","partition":2,"offset":7,"duplicate":true},{"topic":"b","scheduled":"s-0-41","deliver_at":1795146000123},{"topic":"c","partition":0,"offset":1,"result":[1]},{"topic":"d","error":{"code":"timeout","message":"late","retryable":true,"partition":1,"offset":8}}],"durability":"os"}"#,
    );
    let passed = [topic("a", RecordResult::Passed(PartitionId(3))), one[0].clone()];
    check(
        |buffer| published_routes(buffer, None, "e", &passed),
        r#"{"exchange":"e","routes":[{"topic":"a","partition":3},{"topic":"plant","partition":0,"offset":5}],"durability":"memory"}"#,
    );
}

#[test]
fn published_names_the_routes_of_each_record() {
    let results = [
        RoutedResult::Routes(vec![
            route("a", 0, stored(1, "fsync")),
            route("b", 0, stored(2, "os")),
        ]),
        RoutedResult::Refused(Refusal::new(ErrorCode::Unroutable, "no binding")),
    ];
    check(
        |buffer| published_routes_many(buffer, Some(&FrameId::Number(4)), "e", &results),
        r#"{"type":"published","id":4,"exchange":"e","results":[{"routes":[{"topic":"a","partition":0,"offset":1},{"topic":"b","partition":0,"offset":2}]},{"error":{"code":"unroutable","message":"no binding","retryable":false}}],"durability":"os"}"#,
    );
    check(
        |buffer| published_routes_many(buffer, None, "e", &results[1..]),
        r#"{"exchange":"e","results":[{"error":{"code":"unroutable","message":"no binding","retryable":false}}]}"#,
    );
}

#[test]
fn published_names_the_schedule_of_a_record_that_comes_later() {
    check(
        |buffer| scheduled(buffer, Some(&FrameId::Number(5)), &topic(), &later("fsync")),
        r#"{"type":"published","id":5,"topic":"orders","scheduled":"s-0-41","deliver_at":1795146000123,"durability":"fsync"}"#,
    );
    let repeat = Scheduled {
        duplicate: true,
        ..later("memory")
    };
    check(
        |buffer| scheduled(buffer, None, &topic(), &repeat),
        r#"{"topic":"orders","scheduled":"s-0-41","deliver_at":1795146000123,"duplicate":true,"durability":"memory"}"#,
    );
    let results = [
        RecordResult::Scheduled(repeat),
        RecordResult::Stored(PartitionId(0), stored(9, "fsync")),
    ];
    check(
        |buffer| published_many(buffer, None, &topic(), &results),
        r#"{"topic":"orders","results":[{"scheduled":"s-0-41","deliver_at":1795146000123,"duplicate":true},{"partition":0,"offset":9}],"durability":"memory"}"#,
    );
}

#[test]
fn a_notice_says_whether_it_happened() {
    let topic = topic();
    let reached = |on, result| Notice {
        correlation_id: "c-17",
        on,
        topic: &topic,
        outcome: NoticeOutcome::Reached {
            partition: PartitionId(3),
            offset: Offset(17),
            result,
        },
    };
    check(
        |buffer| notice(buffer, NoticeForm::Frame, &reached(Ack::Delivered, None)),
        r#"{"type":"notice","correlation_id":"c-17","on":"delivered","topic":"orders","partition":3,"offset":17}"#,
    );
    let processed = reached(Ack::Processed, Some(br#"{"product":42}"#));
    check(
        |buffer| notice(buffer, NoticeForm::Body, &processed),
        r#"{"correlation_id":"c-17","on":"processed","topic":"orders","partition":3,"offset":17,"result":{"product":42}}"#,
    );
    let refusal = Refusal::new(ErrorCode::DeadLettered, "given up").with_place(PartitionId(0), Offset(4));
    let failed = Notice {
        correlation_id: "a\"\n",
        on: Ack::Processed,
        topic: &topic,
        outcome: NoticeOutcome::Failed(&refusal),
    };
    check(
        |buffer| notice(buffer, NoticeForm::Frame, &failed),
        r#"{"type":"notice","correlation_id":"a\"\n","on":"processed","topic":"orders","error":{"code":"dead_lettered","message":"given up","retryable":false,"partition":0,"offset":4}}"#,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever became of the records, the answer is one JSON object under the weakest of what is stored.
    #[test]
    fn any_answer_reads_back(
        routes in proptest::collection::vec((0..5u8, 0..4usize, 0..1u64 << 53), 0..8),
        correlation_id in "\\PC{1,20}|[\\x00-\\x7f]{1,20}",
    ) {
        let order = ["memory", "os", "fsync", "replicated"];
        let mut durabilities = Vec::new();
        let results: Vec<RouteResult> = routes
            .iter()
            .map(|(which, rank, number)| {
                let stored = stored(*number, order[*rank]);
                let result = match which {
                    0 => RecordResult::Stored(PartitionId(0), stored),
                    1 => RecordResult::Processed(PartitionId(0), stored, (*b"{}").into()),
                    2 => RecordResult::Passed(PartitionId(0)),
                    3 => RecordResult::Scheduled(later(order[*rank])),
                    _ => RecordResult::Refused(Refusal::new(ErrorCode::TopicFull, correlation_id.as_str())),
                };
                match which {
                    4 => {}
                    2 => durabilities.push(0),
                    _ => durabilities.push(*rank),
                }
                RouteResult { topic: topic(), result }
            })
            .collect();
        let weakest = durabilities.into_iter().min().map(|rank| order[rank]);
        let text = written(|buffer| published_routes(buffer, None, "e", &results));
        let answer: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(answer["routes"].as_array().map(Vec::len), Some(routes.len()));
        prop_assert_eq!(answer.get("durability").and_then(Value::as_str), weakest);
        let each: Vec<RoutedResult> = results.iter().map(|route| RoutedResult::Routes(vec![route.clone()])).collect();
        let text = written(|buffer| published_routes_many(buffer, None, "e", &each));
        let answer: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(answer["results"].as_array().map(Vec::len), Some(routes.len()));
        prop_assert_eq!(answer.get("durability").and_then(Value::as_str), weakest);
        let topic = topic();
        let outcome = NoticeOutcome::Reached { partition: PartitionId(0), offset: Offset(0), result: None };
        let told = Notice { correlation_id: &correlation_id, on: Ack::Durable, topic: &topic, outcome };
        let text = written(|buffer| notice(buffer, NoticeForm::Frame, &told));
        let frame: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(frame["correlation_id"].as_str(), Some(correlation_id.as_str()));
    }
}
