//! Small appends that are in a partition's mailbox together: one batch, and each is answered for itself.

use std::sync::Arc;

use callboard_protocol::{Offset, PartitionId, client::NewRecord, server::RecordResult};
use serde_json::{Value, json};

use super::{Running, sessions::create, waits::Talker};
use crate::{
    actors::{append::Asked, directory::PartitionRef, gateway, partition::Stall},
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
    let go = stall(part).await;
    let mut running = Vec::new();
    for list in lists {
        let shared = broker.shared.clone();
        running.push(actix_rt::spawn(async move {
            let topic = shared.directory.get("jobs").unwrap();
            let records = list.into_iter().map(Ok).collect();
            gateway::publish(&shared, &topic, records, Asked::DURABLE)
                .await
                .unwrap()
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
    let (broker, part) = durable(&directory, json!({})).await;
    create(&broker, "other", json!({})).await;
    let mut client = Talker::connect(&broker).await;
    client
        .ask(json!({"type": "declare", "id": 1, "exchange": "both", "kind": "fanout"}))
        .await;
    for topic in ["jobs", "other"] {
        client
            .ask(json!({"type": "bind", "id": 2, "exchange": "both", "topic": topic, "routing_key": ""}))
            .await;
    }
    let go = stall(&part).await;
    let plain = |id: u64| json!({"type": "publish", "id": id, "topic": "jobs", "payload": id});
    let routed =
        |id: u64| json!({"type": "publish", "id": id, "exchange": "both", "routing_key": "k", "payload": id});
    for frame in [plain(3), plain(4), routed(5), plain(6)] {
        client.say(frame).await;
    }
    go.send(()).unwrap();
    for (id, offset) in [(3, 0), (4, 1), (6, 3)] {
        assert_eq!(client.answer(id).await["offset"], offset);
    }
    assert_eq!(client.answer(5).await["routes"][0]["offset"], 2);
}
