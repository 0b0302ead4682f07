//! Small appends that are in a partition's mailbox together: one batch, and each is answered for itself.

use std::sync::Arc;

use callboard_protocol::{
    Offset, PartitionId,
    client::{Ack, NewRecord},
    server::RecordResult,
};
use serde_json::{Value, json};

use super::{Running, sessions::create, waits::Talker};
use crate::{
    actors::{
        append::{Asked, Origin, Reply, Settlement, Slot},
        directory::PartitionRef,
        gateway,
        intake::{Intake, Open, Placing},
        partition::Stall,
        push::AllowPrivate,
    },
    store::journal::{JournalOptions, JournalStore},
};

async fn durable(directory: &tempfile::TempDir, config: Value) -> (Running, Arc<PartitionRef>) {
    let store = JournalStore::open(directory.path(), JournalOptions::default()).unwrap();
    let broker = Running::start_durable(Arc::new(store)).await;
    create(&broker, "jobs", config).await;
    let part = broker.shared.directory.get("jobs").unwrap().partitions()[0].clone();
    (broker, part)
}

/// Blocks the partition until something is sent; what comes meanwhile is in its mailbox.
async fn stall(part: &PartitionRef) -> std::sync::mpsc::Sender<()> {
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    part.addr().unwrap().do_send(Stall { blocked, may_go });
    is_blocked.await.unwrap();
    go
}

fn record(message_id: Option<&str>, bytes: usize) -> NewRecord<'static> {
    NewRecord {
        message_id: message_id.map(|id| id.to_owned().into()),
        payload: callboard_protocol::client::Payload::Json(format!("\"{}\"", "x".repeat(bytes)).into()),
        ..NewRecord::default()
    }
}

/// Publishes each list of records as somebody of its own, while the partition is blocked.
async fn at_once(
    broker: &Running,
    part: &PartitionRef,
    lists: Vec<Vec<NewRecord<'static>>>,
) -> Vec<Vec<RecordResult>> {
    at_once_asking(broker, part, lists, Asked::DURABLE).await
}

async fn at_once_asking(
    broker: &Running,
    part: &PartitionRef,
    lists: Vec<Vec<NewRecord<'static>>>,
    asked: Asked,
) -> Vec<Vec<RecordResult>> {
    let go = stall(part).await;
    let mut running = Vec::new();
    for list in lists {
        let shared = broker.shared.clone();
        running.push(actix_rt::spawn(async move {
            let topic = shared.directory.get("jobs").unwrap();
            let records = list.into_iter().map(Ok).collect();
            gateway::publish(&shared, &topic, records, asked).await.unwrap()
        }));
        // It sends what it has before the next one does.
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let mut results = Vec::new();
    for one in running {
        results.push(one.await.unwrap());
    }
    results
}

fn offsets(results: &[RecordResult]) -> Vec<(u64, bool)> {
    let offset = |result: &RecordResult| match result {
        RecordResult::Stored(PartitionId(0), stored) => (stored.offset.0, stored.duplicate),
        other => panic!("{other:?}"),
    };
    results.iter().map(offset).collect()
}

fn durability(results: &[RecordResult]) -> &'static str {
    match &results[0] {
        RecordResult::Stored(_, stored) => stored.durability,
        other => panic!("{other:?}"),
    }
}

fn counts(part: &PartitionRef) -> Vec<u32> {
    let page = part.log().unwrap().read(Offset(0), 1 << 20).unwrap();
    page.batches.iter().map(|batch| batch.count).collect()
}

#[actix_rt::test]
async fn appends_that_came_together_are_one_batch_and_answered_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({"dedup_window_ms": 60_000})).await;
    let lists = vec![
        vec![record(Some("a"), 1), record(Some("b"), 1)],
        vec![record(Some("b"), 1), record(None, 1)],
        vec![record(None, 1)],
    ];
    let results = at_once(&broker, &part, lists).await;
    assert_eq!(offsets(&results[0]), [(0, false), (1, false)]);
    assert_eq!(offsets(&results[1]), [(1, true), (2, false)]);
    assert_eq!(offsets(&results[2]), [(3, false)]);
    assert_eq!(counts(&part), [4]);
    // Nothing of it is new: no batch, and the same offsets.
    let lists = vec![vec![record(Some("a"), 1)], vec![record(Some("b"), 1)]];
    let results = at_once(&broker, &part, lists).await;
    assert_eq!(offsets(&results[0]), [(0, true)]);
    assert_eq!(offsets(&results[1]), [(1, true)]);
    assert_eq!(counts(&part), [4]);
}

#[actix_rt::test]
async fn repeat_of_one_leaves_the_early_answers_of_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({"dedup_window_ms": 60_000})).await;
    let accepted = Asked {
        ack: Ack::Accepted,
        timeout_ms: None,
    };
    let lists = || {
        vec![
            vec![record(None, 1)],
            vec![record(Some("a"), 1)],
            vec![record(None, 1)],
        ]
    };
    at_once_asking(&broker, &part, lists(), accepted).await;
    let results = at_once_asking(&broker, &part, lists(), accepted).await;
    assert_eq!(offsets(&results[0]), [(3, false)]);
    assert_eq!(offsets(&results[1]), [(1, true)]);
    assert_eq!(offsets(&results[2]), [(4, false)]);
    assert_eq!(durability(&results[0]), "memory");
    assert_eq!(durability(&results[2]), "memory");
}

#[actix_rt::test]
async fn records_that_expire_are_not_put_together_with_others() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({})).await;
    let short = || NewRecord {
        ttl_ms: Some(60_000),
        ..record(None, 1)
    };
    let lists = vec![
        vec![short()],
        vec![short()],
        vec![record(None, 1)],
        vec![record(None, 1)],
    ];
    at_once(&broker, &part, lists).await;
    assert_eq!(counts(&part), [2, 2]);
}

#[actix_rt::test]
async fn no_more_are_put_together_than_may() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({})).await;
    past_the_mailbox(&broker, &part, (100, 1)).await;
    assert_eq!(counts(&part), [64, 36]);
    past_the_mailbox(&broker, &part, (10, 15_000)).await;
    assert_eq!(counts(&part)[2..], [4, 4, 2]);
}

/// Has so many appends of one record in the mailbox at once, more than sessions may.
async fn past_the_mailbox(broker: &Running, part: &PartitionRef, (count, bytes): (usize, usize)) {
    let go = stall(part).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    let (caller, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut intake = Intake::of_caller(AllowPrivate::Yes);
    for _ in 0..count {
        let reply = Reply {
            id: None,
            slot: Slot::Alone,
            silent: false,
        };
        let mut placing = Placing::new(topic.clone());
        let added = intake.add(&mut placing, &record(None, bytes), Asked::DURABLE, reply);
        assert!(added.is_ok());
        for open in intake.take() {
            let Open::Draft(draft) = open else {
                panic!("it has one route")
            };
            let (part, append) = draft.into_append(Origin::Caller(caller.clone()));
            part.addr().unwrap().do_send(append);
        }
    }
    go.send(()).unwrap();
    for _ in 0..count {
        let answered = answers.recv().await.unwrap();
        assert!(matches!(answered.settlement, Settlement::AllStored { .. }));
    }
}

#[actix_rt::test]
async fn what_is_refused_of_one_leaves_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({"record_bytes_max": 100})).await;
    let lists = vec![
        vec![record(None, 1)],
        vec![record(None, 200), record(None, 1)],
        vec![record(None, 1)],
    ];
    let results = at_once(&broker, &part, lists).await;
    assert_eq!(offsets(&results[0]), [(0, false)]);
    assert!(matches!(&results[1][0], RecordResult::Refused(_)), "{results:?}");
    assert_eq!(offsets(&results[1][1..]), [(1, false)]);
    assert_eq!(offsets(&results[2]), [(2, false)]);
}

#[actix_rt::test]
async fn large_appends_are_batches_of_their_own_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, part) = durable(&directory, json!({})).await;
    let lists = vec![
        vec![record(None, 1)],
        vec![record(None, 1)],
        vec![record(None, 20_000)],
        vec![record(None, 1)],
    ];
    let results = at_once(&broker, &part, lists).await;
    for (index, result) in results.iter().enumerate() {
        assert_eq!(offsets(result), [(index as u64, false)]);
    }
    assert_eq!(counts(&part), [2, 1, 1]);
}

#[actix_rt::test]
async fn what_is_routed_behind_comes_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _) = durable(&directory, json!({})).await;
    let mut client = Talker::connect(&broker).await;
    client
        .ask(json!({"type": "declare", "id": 1, "exchange": "all", "kind": "fanout"}))
        .await;
    // Of several topics some are on the session's own thread, where all of it is in the mailbox at once.
    let topics = ["a", "b", "c", "d"];
    for topic in topics {
        create(&broker, topic, json!({})).await;
        client
            .ask(json!({"type": "bind", "id": 2, "exchange": "all", "topic": topic, "routing_key": ""}))
            .await;
    }
    for round in 0..20 {
        let first = 4 * round;
        let plain = |id: u64, topic| json!({"type": "publish", "id": id, "topic": topic, "payload": id});
        let routed = json!({"type": "publish", "id": 9, "exchange": "all", "routing_key": "k", "payload": 9});
        let before = topics.map(|topic| format!("{}\n{}\n", plain(3, topic), plain(4, topic)));
        let behind = topics.map(|topic| format!("\n{}", plain(6, topic)));
        client
            .say_text(format!("{}{routed}{}", before.concat(), behind.concat()))
            .await;
        for (id, offset) in [(3, first), (4, first + 1), (6, first + 3)] {
            for _ in topics {
                assert_eq!(client.answer(id).await["offset"], offset);
            }
        }
        let routes = client.answer(9).await["routes"].clone();
        let routes = routes.as_array().unwrap();
        assert!(
            routes.iter().all(|route| route["offset"] == first + 2),
            "{routes:?}"
        );
    }
}
