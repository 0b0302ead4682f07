//! Faults of sessions that were found once and must not come back.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use callboard_client::{From, Publish, Subscribe};
use futures_util::future::select;
use serde_json::{Value, json};

use super::{
    PATIENCE, Running,
    cold::ColdStore,
    next_payload, publish,
    raw::{CLOSE, PING, RawClient, TEXT, frame},
};
use crate::{
    actors::{
        broker::Want,
        gateway::{self, SessionInfo},
        hub::{Census, TakeCensus},
        partition::{InjectPanic, Stall},
    },
    store::memory::MemoryStore,
};

pub async fn create(broker: &Running, topic: &str, config: Value) {
    let config = config.to_string();
    gateway::topic_or_new(&broker.shared, topic, Want::New { config })
        .await
        .unwrap();
}

/// Looks at the sessions until `done` says so.
async fn sessions_until(broker: &Running, done: impl Fn(&[SessionInfo]) -> bool) {
    let wait = async {
        while !done(&gateway::sessions(&broker.shared).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

/// The most that waited for a session's socket, until it has not changed for a while.
async fn buffered_bytes_max(broker: &Running) -> usize {
    let (mut most, mut last, mut same) = (0, 0, 0);
    while same < 40 {
        let buffered = gateway::sessions(&broker.shared).await[0].buffered_bytes;
        most = most.max(buffered);
        same = if buffered == last && buffered > 0 {
            same + 1
        } else {
            0
        };
        last = buffered;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    most
}

#[actix_rt::test]
async fn replies_that_are_not_read_are_bounded() {
    let broker = Running::start().await;
    let user = broker.client().await;
    let large = format!("\"{}\"", "x".repeat(900_000));
    publish(&user, "jobs", &large).await;
    drop(user);
    sessions_until(&broker, |all| all.is_empty()).await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    let fetch = "{\"type\":\"fetch\",\"id\":1,\"topic\":\"jobs\",\"partition\":0,\"offset\":0}\n";
    let bad = "x\n";
    client
        .text(format!("{}{}", fetch.repeat(50), bad.repeat(100_000)))
        .await;
    client.text(r#"{"type":"ping","id":7}"#).await;
    let most = buffered_bytes_max(&broker).await;
    assert!(
        most < 2 << 20,
        "{most} bytes wait for a client that does not read"
    );
    // And nothing was forgotten.
    assert_eq!(client.until_pong(7).await.len(), 100_050);
}

#[actix_rt::test]
async fn pages_read_for_a_session_that_does_not_read_are_bounded() {
    let broker = Running::start_on(Arc::<ColdStore>::default(), true).await;
    create(&broker, "jobs", json!({"partitions": 256})).await;
    let user = broker.client().await;
    let large = format!("\"{}\"", "x".repeat(120_000));
    for _ in 0..256 {
        user.publish(Publish::json("jobs", &large).unwrap())
            .await
            .unwrap();
    }
    drop(user);
    sessions_until(&broker, |all| all.is_empty()).await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client
        .text(r#"{"type":"subscribe","id":1,"topic":"jobs","from":"earliest"}"#)
        .await;
    let most = buffered_bytes_max(&broker).await;
    assert!(
        most < 1 << 20,
        "{most} bytes wait for a client that does not read"
    );
    assert_eq!(client.next().await["type"], "subscribed");
    for _ in 0..256 {
        assert_eq!(client.next().await["type"], "message");
    }
}

#[actix_rt::test]
async fn closed_session_that_goes_on_sending_is_dropped() {
    let broker = Running::start_on(Arc::new(MemoryStore::new()), true).await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client.send(0x82, b"binary").await;
    assert_eq!(client.close_code().await, Some(1003));
    let flood = async {
        let ping = frame(PING, b"");
        while tokio::io::AsyncWriteExt::write_all(&mut client.stream, &ping)
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("never dropped");
    sessions_until(&broker, |all| all.is_empty()).await;
}

#[actix_rt::test]
async fn topic_deleted_while_a_subscribe_waits_is_not_followed() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    let go = hold_readers(&broker);
    client
        .text(r#"{"type":"subscribe","id":1,"topic":"jobs","from":{"last":1}}"#)
        .await;
    sessions_until(&broker, |all| all[0].received == 1).await;
    gateway::delete_topic(&broker.shared, "jobs").await.unwrap();
    // Every hub has heard of it before the readers go on.
    gateway::sessions(&broker.shared).await;
    go.send(()).unwrap();
    assert_eq!(client.next().await["code"], "topic_not_found");
}

#[actix_rt::test]
async fn partition_added_while_a_subscribe_waits_is_followed() {
    let store = Arc::<ColdStore>::default();
    let gate = store.gate();
    let broker = Running::start_on(store, true).await;
    let user = broker.client().await;
    publish(&user, "jobs", "4").await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    let go = gate.hold();
    client
        .text(r#"{"type":"subscribe","id":1,"topic":"jobs","from":{"last":1}}"#)
        .await;
    sessions_until(&broker, |_| gate.is_reached()).await;
    gateway::patch_topic(&broker.shared, "jobs", r#"{"partitions":2}"#.to_owned())
        .await
        .unwrap();
    // Every hub has heard of it before the read goes on.
    gateway::sessions(&broker.shared).await;
    go.send(()).unwrap();
    assert_eq!(client.next().await["offsets"], json!({"0": 0}));
    assert_eq!(client.next().await["offsets"], json!({"1": 0}));
    client
        .text(r#"{"type":"publish","topic":"jobs","partition":1,"payload":5}"#)
        .await;
    let mut payloads = vec![
        client.next().await["payload"].clone(),
        client.next().await["payload"].clone(),
    ];
    payloads.sort_by_key(Value::as_u64);
    assert_eq!(payloads, [4, 5]);
}

/// Keeps the only reader thread busy until something is sent.
fn hold_readers(broker: &Running) -> mpsc::Sender<()> {
    let (go, may_go) = mpsc::channel();
    broker.shared.readers.spawn(move || may_go.recv().unwrap());
    go
}

#[actix_rt::test]
async fn changes_of_one_topic_at_the_same_time_are_all_kept() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let patch = |patch: &str| gateway::patch_topic(&broker.shared, "jobs", patch.to_owned());
    // Both are on their way before the first is done.
    let (one, other) = tokio::join!(biased; patch(r#"{"partitions":3}"#), patch(r#"{"ttl_ms":60000}"#));
    one.unwrap();
    let config = other.unwrap().config();
    assert_eq!((config.partitions, config.ttl_ms), (3, Some(60_000)));
}

/// Blocks the thread of a topic's first partition until something is sent; returns when it is blocked.
async fn stall(broker: &Running, topic: &str) -> mpsc::Sender<()> {
    let (go, may_go) = mpsc::channel();
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let part = broker.shared.directory.get(topic).unwrap().partitions()[0].clone();
    part.addr().unwrap().do_send(Stall { blocked, may_go });
    is_blocked.await.unwrap();
    go
}

/// A session on another thread than the first partition of `topic`, while that is stalled.
async fn session_elsewhere(broker: &Running) -> RawClient {
    // Connections are dealt out to the threads in turn, and a stalled one does not answer.
    let (first, second) = (
        Box::pin(RawClient::connect(&broker.url, b"")),
        Box::pin(RawClient::connect(&broker.url, b"")),
    );
    select(first, second).await.factor_first().0
}

#[actix_rt::test]
async fn full_mailbox_makes_a_session_wait_and_keeps_the_order() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let go = stall(&broker, "jobs").await;
    let mut client = session_elsewhere(&broker).await;
    let mut sent = 0;
    let mut waits = false;
    while !waits && sent < 64 {
        sent += 1;
        let ack = ["durable", "accepted", "none"][sent % 3];
        client
            .text(format!(
                "{{\"type\":\"publish\",\"id\":{sent},\"topic\":\"jobs\",\"payload\":{sent},\"ack\":\"{ack}\"}}\n\
                 {{\"type\":\"ping\",\"id\":{sent}}}"
            ))
            .await;
        waits = client.is_silent(Duration::from_millis(300)).await;
        if !waits {
            client.until_pong(sent as u64).await;
        }
    }
    assert!(waits, "a full mailbox did not hold the session back");
    for number in sent + 1..sent + 20 {
        client
            .text(format!(
                "{{\"type\":\"publish\",\"topic\":\"jobs\",\"payload\":{number}}}"
            ))
            .await;
    }
    client.text(r#"{"type":"ping","id":1000}"#).await;
    go.send(()).unwrap();
    let replies = client.until_pong(1000).await;
    let answered = replies
        .iter()
        .filter(|frame| frame["type"] == "published")
        .count();
    assert!(answered > 0, "{replies:?}");
    client
        .text(r#"{"type":"subscribe","id":1001,"topic":"jobs","from":"earliest"}"#)
        .await;
    let mut seen = Vec::new();
    while seen.len() < sent + 19 {
        let (_, body) = client.next_frame().await.unwrap();
        for line in body.split(|byte| *byte == b'\n') {
            let frame: Value = serde_json::from_slice(line).unwrap();
            if frame["type"] == "message" {
                seen.push(frame["payload"].as_u64().unwrap() as usize);
            }
        }
    }
    assert_eq!(seen, (1..sent + 20).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn publish_before_one_to_a_missing_topic_is_answered_though_the_mailbox_was_full() {
    let broker = Running::start_on(Arc::new(MemoryStore::new()), false).await;
    create(&broker, "jobs", json!({})).await;
    let go = stall(&broker, "jobs").await;
    let mut client = session_elsewhere(&broker).await;
    let mut sent = 0;
    // Each on its own, so that each is a message of its own to the partition.
    while sent < 32 && !client.is_silent(Duration::from_millis(100)).await || sent == 0 {
        if sent > 0 {
            assert_eq!(client.next().await["code"], "topic_not_found");
        }
        sent += 1;
        client
            .text(format!(
                "{{\"type\":\"publish\",\"id\":{sent},\"topic\":\"jobs\",\"payload\":1}}\n\
                 {{\"type\":\"publish\",\"topic\":\"nowhere\",\"payload\":1}}"
            ))
            .await;
    }
    go.send(()).unwrap();
    let mut published = 0;
    while published < sent {
        let (_, body) = client.next_frame().await.unwrap();
        for line in body.split(|byte| *byte == b'\n') {
            let frame: Value = serde_json::from_slice(line).unwrap();
            if frame["type"] == "published" {
                published += 1;
                assert_eq!(frame["id"], published);
                assert_eq!(frame["offset"], published - 1);
            }
        }
    }
}

#[actix_rt::test]
async fn closed_sessions_leave_nothing_behind() {
    let broker = Running::start().await;
    for topic in ["one", "two.a", "two.b"] {
        create(&broker, topic, json!({"partitions": 2})).await;
    }
    let frames = [
        r#"{"type":"subscribe","id":1,"topic":"one","from":"earliest"}"#,
        r#"{"type":"subscribe","id":2,"topic":"two.*","overflow":"conflate","credit":3}"#,
        r#"{"type":"publish","id":3,"topic":"one","payload":1}"#,
        r#"{"type":"publish","id":4,"topic":"two.a","messages":[{"payload":1},{"payload":2}]}"#,
        r#"{"type":"ping","id":5}"#,
    ]
    .join("\n");
    let behind = frame(TEXT, frames.as_bytes());
    for round in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(RawClient::connect(&broker.url, &behind).await);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            match (number + round) % 3 {
                0 => {
                    client.until_pong(5).await;
                }
                1 => client.send(CLOSE, &1000u16.to_be_bytes()).await,
                _ => {}
            }
        }
    }
    let wait = async {
        loop {
            if census(&broker).await == Census::default() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("something is left");
}

/// What all hubs hold together.
async fn census(broker: &Running) -> Census {
    let mut all = Census::default();
    for worker in broker.shared.workers().iter() {
        all = all.and(worker.hub.send(TakeCensus).await.unwrap());
    }
    all
}

/// The HTTP library's own setting is not applied to a listener of HTTP/1 alone, and then each record waited
/// up to 40 ms for the acknowledgement of the one before.
#[actix_rt::test]
async fn no_socket_holds_small_messages_back() {
    let broker = Running::start().await;
    let clients = [broker.client().await, broker.client().await];
    let all = census(&broker).await;
    assert_eq!((all.conns, all.conns_holding_back), (clients.len(), 0));
}

#[actix_rt::test]
async fn unsubscribed_and_subscribed_again_gets_each_record_once() {
    let broker = Running::start_on(Arc::<ColdStore>::default(), true).await;
    let user = broker.client().await;
    for number in 0..50 {
        publish(&user, "jobs", &number.to_string()).await;
    }
    let mut client = RawClient::connect(&broker.url, b"").await;
    for round in 0..20u64 {
        let frames = "{\"type\":\"subscribe\",\"id\":1,\"topic\":\"jobs\",\"from\":\"earliest\"}\n\
             {\"type\":\"unsubscribe\",\"id\":2,\"topic\":\"jobs\"}\n\
             {\"type\":\"subscribe\",\"id\":3,\"topic\":\"jobs\",\"from\":\"earliest\"}";
        client.text(frames).await;
        let mut offsets: Option<Vec<u64>> = None;
        let mut ended = false;
        let wanted = 50 + round as usize;
        while offsets.as_ref().is_none_or(|seen| seen.len() < wanted) {
            let (_, body) = client.next_frame().await.unwrap();
            for line in body.split(|byte| *byte == b'\n') {
                let frame: Value = serde_json::from_slice(line).unwrap();
                match (&frame["type"], &mut offsets) {
                    (kind, _) if kind == "ok" => ended = true,
                    (kind, _) if kind == "subscribed" && frame["id"] == 3 => offsets = Some(Vec::new()),
                    (kind, Some(seen)) if kind == "message" => seen.push(frame["offset"].as_u64().unwrap()),
                    (kind, None) if kind == "message" => assert!(!ended, "a record after the ok"),
                    _ => {}
                }
            }
        }
        assert_eq!(offsets.unwrap(), (0..wanted as u64).collect::<Vec<_>>());
        publish(&user, "jobs", "0").await;
        let live = client.next().await;
        assert_eq!(live["offset"], wanted);
        client.text(r#"{"type":"unsubscribe","topic":"jobs"}"#).await;
    }
}

#[actix_rt::test]
async fn pattern_goes_on_when_a_topic_is_deleted_and_created_again() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client
        .subscribe(Subscribe::topic("jobs.*").from(From::Earliest))
        .await
        .unwrap();
    for round in 0..10 {
        publish(&client, "jobs.a", &round.to_string()).await;
        assert_eq!(next_payload(&mut subscription).await, round.to_string());
        gateway::delete_topic(&broker.shared, "jobs.a").await.unwrap();
    }
}

#[actix_rt::test]
async fn subscriber_of_a_partition_that_is_back_does_not_wait_for_the_others() {
    let store = Arc::<ColdStore>::default();
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({"partitions": 2})).await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client.text(r#"{"type":"subscribe","id":1,"topic":"jobs"}"#).await;
    assert_eq!(client.next().await["type"], "subscribed");
    store.refuse_others();
    for part in broker
        .shared
        .directory
        .get("jobs")
        .unwrap()
        .partitions()
        .iter()
        .rev()
    {
        part.addr().unwrap().do_send(InjectPanic);
    }
    let user = broker.client().await;
    let record = || {
        Publish::json("jobs", "5")
            .unwrap()
            .with_partition(callboard_protocol::PartitionId(0))
    };
    while user.publish(record()).await.is_err() {}
    assert_eq!(client.next().await["payload"], 5);
}

#[actix_rt::test]
async fn skipping_subscriber_skips_also_what_came_while_its_newest_was_read() {
    let store = Arc::<ColdStore>::default();
    let gate = store.gate();
    let broker = Running::start_on(store, true).await;
    let user = broker.client().await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client
        .text(r#"{"type":"subscribe","id":1,"topic":"jobs","overflow":"skip","credit":1}"#)
        .await;
    assert_eq!(client.next().await["type"], "subscribed");
    for number in 0..6 {
        publish(&user, "jobs", &number.to_string()).await;
    }
    assert_eq!(client.next().await["offset"], 0);
    // The hub has heard of all of them before the session reads on.
    gateway::sessions(&broker.shared).await;
    let go = gate.hold();
    client.text(r#"{"type":"credit","topic":"jobs","add":100}"#).await;
    sessions_until(&broker, |_| gate.is_reached()).await;
    for number in 6..10 {
        publish(&user, "jobs", &number.to_string()).await;
    }
    // The hub has heard of them before the read goes on.
    gateway::sessions(&broker.shared).await;
    go.send(()).unwrap();
    for expected in [
        json!(["skipped", 4, 5, null]),
        json!(["message", null, null, 5]),
        json!(["skipped", 3, 9, null]),
        json!(["message", null, null, 9]),
    ] {
        let frame = client.next().await;
        let seen = json!([
            frame["type"],
            frame["count"],
            frame["next_offset"],
            frame["offset"]
        ]);
        assert_eq!(seen, expected);
    }
}

#[actix_rt::test]
async fn small_records_in_flight_count_with_what_goes_along() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let go = stall(&broker, "jobs").await;
    let mut client = session_elsewhere(&broker).await;
    let records = vec![json!({"payload": 1}); 10_000];
    let publish = json!({"type": "publish", "id": 1, "topic": "jobs", "messages": records}).to_string();
    client
        .text(format!("{publish}\n{{\"type\":\"ping\",\"id\":1}}"))
        .await;
    client.until_pong(1).await;
    // Only the hub of the session's thread answers.
    let workers = broker.shared.workers();
    let (one, other) = (
        Box::pin(workers[0].hub.send(TakeCensus)),
        Box::pin(workers[1].hub.send(TakeCensus)),
    );
    let census = select(one, other).await.factor_first().0.unwrap();
    go.send(()).unwrap();
    // A reply each waits with them, which is several words.
    assert!(census.in_flight_bytes > 10_000 * 64, "{census:?}");
}

#[actix_rt::test]
async fn publish_in_flight_at_shutdown_is_answered_before_the_close() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let go = stall(&broker, "jobs").await;
    let mut client = session_elsewhere(&broker).await;
    client
        .text(
            "{\"type\":\"publish\",\"id\":1,\"topic\":\"jobs\",\"payload\":1}\n{\"type\":\"ping\",\"id\":2}",
        )
        .await;
    client.until_pong(2).await;
    let shared = broker.shared.clone();
    let down = actix_rt::spawn(async move { gateway::shut_down(&shared).await });
    assert_eq!(client.next().await["type"], "goaway");
    go.send(()).unwrap();
    assert_eq!(client.next().await["id"], 1);
    assert_eq!(client.close_code().await, Some(1001));
    down.await.unwrap();
}
