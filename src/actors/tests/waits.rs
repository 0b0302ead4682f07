//! Publishers that wait for a delivery or a worker: they are answered exactly then, and hold nothing up.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use callboard_protocol::{
    ErrorCode, Offset, PartitionId,
    client::{Ack, NewRecord, Payload},
    server::RecordResult,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{
    PATIENCE, Running,
    failing::{FailingStore, Mode},
    raw::{RawClient, TEXT},
    sessions::create,
};
use crate::{
    actors::{
        append::Asked,
        directory::PartitionRef,
        gateway,
        partition::{InjectPanic, Processed, ProcessedOutcome},
    },
    store::journal::{JournalOptions, JournalStore},
};

/// A client whose frames are taken one by one, whatever messages they came in.
pub struct Talker {
    client: RawClient,
    came: VecDeque<Value>,
}

impl Talker {
    pub async fn connect(broker: &Running) -> Self {
        Self {
            client: RawClient::connect(&broker.url, b"").await,
            came: VecDeque::new(),
        }
    }

    pub async fn say(&mut self, frame: Value) {
        self.say_text(frame.to_string()).await;
    }

    /// Sends a frame whose fields stand in the order in which they are written here.
    pub async fn say_text(&mut self, frame: String) {
        self.client.text(frame).await;
    }

    async fn read(&mut self) {
        let (first, body) = self.client.next_frame().await.expect("the connection ended");
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&body));
        let lines = body.split(|byte| *byte == b'\n');
        self.came
            .extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
    }

    pub async fn next(&mut self) -> Value {
        while self.came.is_empty() {
            self.read().await;
        }
        self.came.pop_front().unwrap()
    }

    /// The answer to a frame; everything else that comes is kept.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(index) = self.came.iter().position(|frame| frame["id"] == id) {
                return self.came.remove(index).unwrap();
            }
            self.read().await;
        }
    }

    pub async fn ask(&mut self, frame: Value) -> Value {
        let id = frame["id"].as_u64().unwrap();
        self.say(frame).await;
        self.answer(id).await
    }

    /// Everything that the broker has said by the time it answers a ping.
    pub async fn said(&mut self) -> Vec<Value> {
        self.say(json!({"type": "ping", "id": 999_999})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["id"] == 999_999 {
                return frames;
            }
            frames.push(frame);
        }
    }
}

pub fn part(broker: &Running, topic: &str) -> Arc<PartitionRef> {
    broker.shared.directory.get(topic).unwrap().partitions()[0].clone()
}

/// Looks until `done` says so.
pub async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

fn publish(id: u64, ack: &str) -> Value {
    json!({"type": "publish", "id": id, "topic": "jobs", "payload": id, "ack": ack})
}

#[actix_rt::test]
async fn delivered_answers_when_a_live_subscriber_was_sent_the_record() {
    let broker = Running::start().await;
    let mut subscriber = Talker::connect(&broker).await;
    subscriber
        .ask(json!({"type": "subscribe", "id": 1, "topic": "jobs"}))
        .await;
    let mut publisher = Talker::connect(&broker).await;
    for id in 1..=20 {
        let answer = publisher.ask(publish(id, "delivered")).await;
        assert_eq!(answer["type"], "published", "{answer}");
        assert_eq!(answer["offset"], id - 1);
        let message = subscriber.next().await;
        assert_eq!(message["payload"], id);
    }
    assert_eq!(part(&broker, "jobs").waits.delivered(), 0);
}

#[actix_rt::test]
async fn delivered_waits_for_a_subscriber_that_reads_the_record_later() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    // Everything else of the session goes on meanwhile.
    assert_eq!(publisher.ask(publish(2, "durable")).await["offset"], 1);
    let page = json!({"type": "fetch", "id": 3, "topic": "jobs", "partition": 0, "offset": 0});
    let page = publisher.ask(page).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 2);
    let mut late = Talker::connect(&broker).await;
    late.ask(json!({"type": "subscribe", "id": 1, "topic": "jobs"}))
        .await;
    assert_eq!(publisher.ask(publish(4, "delivered")).await["offset"], 2);
    assert!(
        publisher.said().await.is_empty(),
        "a page and later records are no delivery"
    );
    let mut reader = Talker::connect(&broker).await;
    reader
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "from": "earliest"}))
        .await;
    let answer = publisher.answer(1).await;
    assert_eq!(
        answer,
        json!({"type": "published", "id": 1, "topic": "jobs", "partition": 0, "offset": 0, "durability": "memory"})
    );
}

#[actix_rt::test]
async fn delivered_is_as_durable_as_its_topic() {
    let directory = tempfile::tempdir().unwrap();
    let store = JournalStore::open(directory.path(), JournalOptions::default()).unwrap();
    let broker = Running::start_durable(Arc::new(store)).await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    assert_eq!(publisher.ask(publish(2, "durable")).await["durability"], "fsync");
    assert!(publisher.said().await.is_empty());
    let mut subscriber = Talker::connect(&broker).await;
    subscriber
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "from": "earliest"}))
        .await;
    let answer = publisher.answer(1).await;
    assert_eq!(
        (&answer["offset"], &answer["durability"]),
        (&json!(0), &json!("fsync"))
    );
    // Live, so that it is sent the record as soon as it is durable.
    for id in 3..30 {
        assert_eq!(
            publisher.ask(publish(id, "delivered")).await["durability"],
            "fsync"
        );
    }
    broker.shared.store.shutdown().await.unwrap().unwrap();
}

#[actix_rt::test]
async fn event_stream_delivers_too() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    assert!(publisher.said().await.is_empty());
    let address = broker.url.trim_start_matches("ws://").trim_end_matches("/ws");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/v1/topics/jobs/events?from=earliest HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(publisher.answer(1).await["offset"], 0);
}

#[actix_rt::test]
async fn time_to_wait_ends_with_the_place_of_the_record() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    for (id, ack) in [(1, "delivered"), (2, "processed")] {
        let mut frame = publish(id, ack);
        frame["timeout_ms"] = json!(20);
        let answer = publisher.ask(frame).await;
        assert_eq!(answer["code"], "timeout", "{answer}");
        assert_eq!(
            (&answer["partition"], &answer["offset"]),
            (&json!(0), &json!(id - 1))
        );
    }
    let mut frame = publish(3, "delivered");
    frame["timeout_ms"] = json!(9_007_199_254_740_991_u64);
    publisher.say(frame).await;
    until(|| part(&broker, "jobs").next_offset() == Offset(3)).await;
    assert!(publisher.said().await.is_empty());
}

#[actix_rt::test]
async fn worker_answers_the_publisher() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher
        .say(
            json!({"type": "publish", "id": 1, "topic": "jobs", "ack": "processed",
            "messages": [{"payload": 1}, {"payload": 2}, {"payload": 3}]}),
        )
        .await;
    publisher.say(publish(2, "processed")).await;
    publisher.say(publish(3, "processed")).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    until(|| part.waits.processed() == 5).await;
    let acked = |result: Option<&'static str>| ProcessedOutcome::Acked(result.map(Into::into));
    let addr = part.addr().unwrap();
    addr.do_send(Processed(vec![
        (Offset(4), acked(None)),
        (Offset(2), acked(Some("{\"product\":42}"))),
    ]));
    let answer = publisher.answer(3).await;
    assert_eq!(
        answer,
        json!({"type": "published", "id": 3, "topic": "jobs", "partition": 0, "offset": 4, "durability": "memory"})
    );
    addr.do_send(Processed(vec![
        (Offset(3), acked(Some("[1]"))),
        (Offset(0), acked(None)),
    ]));
    assert_eq!(publisher.answer(2).await["result"], json!([1]));
    let dead = ProcessedOutcome::DeadLettered("no such product".to_owned());
    addr.do_send(Processed(vec![(Offset(1), dead)]));
    let answer = publisher.answer(1).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"partition": 0, "offset": 0}));
    let error = &results[1]["error"];
    assert_eq!(error["code"], "dead_lettered");
    assert_eq!(error["message"], "no such product");
    assert_eq!((&error["partition"], &error["offset"]), (&json!(0), &json!(1)));
    assert_eq!(results[2]["result"], json!({"product": 42}));
    assert_eq!(part.waits.processed(), 0);
}

#[actix_rt::test]
async fn session_has_so_much_waiting_and_no_more() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    for id in 1..=1030 {
        publisher.say(publish(id, "delivered")).await;
    }
    let said = publisher.said().await;
    assert_eq!(said.len(), 6, "{said:?}");
    for answer in &said {
        assert_eq!(answer["code"], "overloaded", "{answer}");
        assert!(answer["retry_after_ms"].is_u64());
    }
    let jobs = part(&broker, "jobs");
    until(|| jobs.next_offset() == Offset(1024)).await;
    assert_eq!(publisher.ask(publish(2000, "durable")).await["type"], "published");
    let mut subscriber = Talker::connect(&broker).await;
    subscriber
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "from": "earliest"}))
        .await;
    for _ in 0..1024 {
        assert_eq!(publisher.next().await["type"], "published");
    }
    assert_eq!(
        publisher.ask(publish(2001, "delivered")).await["type"],
        "published"
    );
    // The same in bytes, over all topics.
    let large = "x".repeat(400_000);
    for topic in ["one", "two", "three"] {
        publisher
            .say(json!({"type": "publish", "id": 1, "topic": topic, "payload": large, "ack": "processed"}))
            .await;
    }
    let answer = publisher.next().await;
    assert_eq!(answer["code"], "overloaded", "{answer}");
    assert!(publisher.said().await.is_empty());
    assert_eq!(part(&broker, "three").next_offset(), Offset(0));
}

#[actix_rt::test]
async fn deleted_topic_answers_who_waits() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    publisher.say(publish(2, "processed")).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    until(|| (part.waits.delivered(), part.waits.processed()) == (1, 1)).await;
    gateway::delete_topic(&broker.shared, "jobs").await.unwrap();
    for id in 1..=2 {
        assert_eq!(publisher.answer(id).await["code"], "topic_not_found");
    }
}

#[actix_rt::test]
async fn session_that_ends_waits_no_longer() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    publisher.say(publish(2, "processed")).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    until(|| (part.waits.delivered(), part.waits.processed()) == (1, 1)).await;
    drop(publisher);
    until(|| part.waits.delivered() + part.waits.processed() == 0).await;
}

#[actix_rt::test]
async fn panicking_partition_answers_who_waits() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    part.addr().unwrap().do_send(InjectPanic);
    let answer = publisher.answer(1).await;
    assert_eq!(
        (&answer["code"], &answer["retryable"]),
        (&json!("internal"), &json!(true))
    );
    assert_eq!(part.waits.delivered(), 0);
}

#[actix_rt::test]
async fn repeat_is_answered_as_a_repeat_while_the_first_one_waits() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    for id in 1..=2 {
        let mut frame = publish(id, "processed");
        frame["message_id"] = json!("m1");
        publisher.say(frame).await;
    }
    let answer = publisher.answer(2).await;
    assert_eq!(
        (&answer["offset"], &answer["duplicate"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(part(&broker, "jobs").waits.processed(), 1);
    // What was answered as a repeat is not counted as waiting.
    for id in 3..1100 {
        let mut frame = publish(id, "processed");
        frame["message_id"] = json!("m1");
        assert_eq!(publisher.ask(frame).await["duplicate"], true);
    }
}

#[actix_rt::test]
async fn record_that_is_not_stored_can_not_be_waited_for() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    let mut frame = publish(1, "delivered");
    frame["ttl_ms"] = json!(0);
    assert_eq!(publisher.ask(frame).await["code"], "invalid_argument");
}

#[actix_rt::test]
async fn caller_is_answered_when_each_of_its_records_was() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"partitions": 2})).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    let records = (0..4).map(|number| {
        Ok(NewRecord {
            partition: Some(PartitionId(number % 2)),
            payload: Payload::Json("1".into()),
            ..NewRecord::default()
        })
    });
    let asked = Asked {
        ack: Ack::Processed,
        timeout_ms: Some(30),
    };
    let addr = topic.partitions()[1].addr().unwrap();
    let publishing = gateway::publish(&broker.shared, &topic, records.collect(), asked);
    let working = async {
        let part = topic.partitions()[1].clone();
        until(|| part.waits.processed() == 2).await;
        let acked = ProcessedOutcome::Acked(Some("7".into()));
        addr.do_send(Processed(vec![(Offset(1), acked)]));
    };
    let (results, ()) = futures_util::future::join(publishing, working).await;
    let results = results.unwrap();
    for (index, result) in results.iter().enumerate() {
        match result {
            RecordResult::Processed(PartitionId(1), stored, result) => {
                assert_eq!((index, stored.offset, &result[..]), (3, Offset(1), &b"7"[..]));
            }
            RecordResult::Refused(refusal) => {
                assert_eq!(refusal.code, ErrorCode::Timeout);
                let place = (PartitionId(index as u32 % 2), Offset(index as u64 / 2));
                assert_eq!(refusal.place, Some(place));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[actix_rt::test]
async fn broker_that_shuts_down_answers_who_waits_before_the_session_ends() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    publisher.say(publish(2, "processed")).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    until(|| (part.waits.delivered(), part.waits.processed()) == (1, 1)).await;
    gateway::shut_down(&broker.shared).await;
    for (id, offset) in [(1, 0), (2, 1)] {
        let answer = publisher.answer(id).await;
        assert_eq!(
            (&answer["code"], &answer["offset"]),
            (&json!("shutting_down"), &json!(offset))
        );
    }
    assert_eq!(publisher.client.close_code().await, Some(1001));
}

#[actix_rt::test]
async fn record_that_could_not_be_stored_is_not_waited_for() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({"records_max": 100})).await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    let part = part(&broker, "jobs");
    until(|| part.next_offset() == Offset(1)).await;
    store.set(Mode::Refuse);
    let answer = publisher.ask(publish(2, "delivered")).await;
    assert_eq!(answer["code"], "storage_failed");
    assert!(answer.get("offset").is_none(), "{answer}");
    assert_eq!(part.waits.delivered(), 1);
    store.set(Mode::Hold);
    let mut short = publish(3, "processed");
    short["timeout_ms"] = json!(0);
    publisher.say(short).await;
    publisher.say(publish(4, "delivered")).await;
    until(|| store.held() == 2 && part.waits.processed() == 1).await;
    assert!(
        publisher.said().await.is_empty(),
        "nobody can say yet that it is stored"
    );
    store.fail();
    for id in 3..=4 {
        let answer = publisher.answer(id).await;
        assert_eq!(answer["code"], "storage_failed");
        assert!(answer.get("offset").is_none(), "{answer}");
    }
    store.set(Mode::Store);
    assert_eq!((part.waits.delivered(), part.waits.processed()), (1, 0));
    // The first one is stored and is still waited for.
    let mut subscriber = Talker::connect(&broker).await;
    subscriber
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "from": "earliest"}))
        .await;
    assert_eq!(publisher.answer(1).await["offset"], 0);
    assert_eq!(publisher.ask(publish(5, "delivered")).await["offset"], 1);
}

#[actix_rt::test]
async fn worker_of_a_group_answers_delivered_and_processed() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "processed")).await;
    publisher.say(publish(2, "delivered")).await;
    assert!(publisher.said().await.is_empty());
    let mut worker = Talker::connect(&broker).await;
    worker
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "group": "workers", "mode": "shared"}))
        .await;
    assert_eq!(publisher.answer(2).await["type"], "published");
    worker.answer(1).await;
    let job = worker.next().await;
    assert_eq!(job["offset"], 0, "{job}");
    assert!(publisher.said().await.is_empty(), "delivered is not processed");
    let ack = json!({"type": "ack", "id": 2, "topic": "jobs", "group": "workers",
        "deliveries": [job["delivery"]], "result": {"product": 42}});
    assert_eq!(worker.ask(ack).await["type"], "ok");
    assert_eq!(publisher.answer(1).await["result"], json!({"product": 42}));
    // One that can not be done.
    worker.next().await;
    publisher.say(publish(3, "processed")).await;
    let job = worker.next().await;
    let nack = json!({"type": "nack", "id": 3, "topic": "jobs", "group": "workers",
        "deliveries": [job["delivery"]], "dead_letter": true, "reason": "no such product"});
    worker.say(nack).await;
    let answer = publisher.answer(3).await;
    assert_eq!(
        (&answer["code"], &answer["offset"]),
        (&json!("dead_lettered"), &json!(2))
    );
    assert_eq!(answer["message"], "no such product");
}

#[actix_rt::test]
async fn owner_of_a_partition_answers_delivered() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(1, "delivered")).await;
    assert!(publisher.said().await.is_empty());
    let mut member = Talker::connect(&broker).await;
    member
        .say(
            json!({"type": "subscribe", "id": 1, "topic": "jobs", "group": "billing", "mode": "partitioned"}),
        )
        .await;
    assert_eq!(publisher.answer(1).await["offset"], 0);
    for id in 2..10 {
        assert_eq!(publisher.ask(publish(id, "delivered")).await["offset"], id - 1);
    }
}
