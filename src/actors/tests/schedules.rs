//! Records that are due later, through panics, a store that refuses, a topic that is full and a memory that is
//! small.

use std::{sync::Arc, time::Duration};

use callboard_protocol::Offset;
use serde_json::{Value, json};

use super::{
    Running,
    failing::{FailingStore, Mode},
    sessions::create,
    waits::{Talker, part, until},
};
use crate::actors::{
    directory::PartitionRef,
    gateway::{self, schedules},
    partition::{InjectPanic, ListScheduled, ListedSchedules},
};

fn later(id: u64, delay_ms: u64, payload: &Value) -> Value {
    json!({"type": "publish", "id": id, "topic": "later", "delay_ms": delay_ms, "payload": payload})
}

async fn subscribe(broker: &Running) -> Talker {
    let mut subscriber = Talker::connect(broker).await;
    let asked = json!({"type": "subscribe", "id": 1, "topic": "later", "from": "earliest"});
    assert_eq!(subscriber.ask(asked).await["type"], "subscribed");
    subscriber
}

/// Schedules until it is taken, and returns its id.
async fn schedule(publisher: &mut Talker, id: u64, delay_ms: u64, payload: &Value) -> String {
    loop {
        let answer = publisher.ask(later(id, delay_ms, payload)).await;
        match answer["scheduled"].as_str() {
            Some(id) => return id.to_owned(),
            None => assert_eq!(answer["retryable"], true, "{answer}"),
        }
    }
}

async fn list(part: &PartitionRef) -> ListedSchedules {
    let asked = ListScheduled {
        after: None,
        limit: 10_000,
    };
    part.addr().unwrap().send(asked).await.unwrap()
}

#[actix_rt::test]
async fn panics_lose_no_schedule_and_deliver_none_twice() {
    let broker = Running::start().await;
    create(&broker, "later", json!({})).await;
    let mut subscriber = subscribe(&broker).await;
    let mut publisher = Talker::connect(&broker).await;
    let part = part(&broker, "later");
    for number in 0..60_u64 {
        let mut asked = later(1, 20 + number % 7 * 30, &json!(number));
        // What is answered with `internal` may have been scheduled all the same.
        asked["message_id"] = json!(format!("id-{number}"));
        loop {
            let answer = publisher.ask(asked.clone()).await;
            if answer["type"] == "published" {
                break;
            }
            assert_eq!(answer["retryable"], true, "{answer}");
        }
        if number % 12 == 0 {
            // The actor of the next line may be the one that is dying.
            part.addr().unwrap().do_send(InjectPanic);
        }
    }
    let mut came = Vec::new();
    while came.len() < 60 {
        let frame = subscriber.next().await;
        assert_eq!(frame["offset"], came.len());
        came.push(frame["payload"].as_u64().unwrap());
    }
    came.sort_unstable();
    assert_eq!(came, (0..60).collect::<Vec<_>>(), "each once");
    until(|| part.scheduled() == 0).await;
    assert_eq!(part.next_offset(), Offset(60));
}

#[actix_rt::test]
async fn what_is_due_while_the_store_refuses_comes_when_it_does_not() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    let mut subscriber = subscribe(&broker).await;
    let mut publisher = Talker::connect(&broker).await;
    for number in 0..3 {
        schedule(&mut publisher, 1, 150, &json!(number)).await;
    }
    let with_id = json!({
        "type": "publish", "id": 2, "topic": "later", "delay_ms": 151, "message_id": "a", "payload": 3,
    });
    assert!(publisher.ask(with_id).await["scheduled"].is_string());
    store.set(Mode::Refuse);
    let refused = publisher.ask(later(1, 10, &json!("refused"))).await;
    assert_eq!(refused["code"], "storage_failed", "{refused}");
    let part = part(&broker, "later");
    let listed = list(&part).await;
    assert!(listed.waiting.len() <= 4);
    // The time that passes is what is tested: all are due, and tried.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(part.next_offset(), Offset(0), "nothing is stored");
    store.set(Mode::Store);
    for number in 0..4 {
        let frame = subscriber.next().await;
        assert_eq!(
            (&frame["payload"], &frame["offset"]),
            (&json!(number), &json!(number))
        );
    }
    until(|| part.scheduled() == 0).await;
    assert_eq!(part.next_offset(), Offset(4), "what was refused never comes");
}

#[actix_rt::test]
async fn failed_flush_brings_due_records_back() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    let mut subscriber = subscribe(&broker).await;
    let mut publisher = Talker::connect(&broker).await;
    for number in 0..2 {
        let asked = json!({
            "type": "publish", "id": 2, "topic": "later", "delay_ms": 200, "message_id": format!("id-{number}"),
            "payload": number,
        });
        assert!(publisher.ask(asked).await["scheduled"].is_string());
    }
    store.set(Mode::Hold);
    until(|| store.held() >= 2).await;
    // A repeat is answered by what it repeats, and that is never stored.
    publisher
        .say(json!({
            "type": "publish", "id": 3, "topic": "later", "delay_ms": 9000, "message_id": "id-0", "payload": 0,
        }))
        .await;
    assert!(publisher.said().await.is_empty());
    let cancelled = publisher_cancel(&broker, "s-0-0").await;
    assert!(!cancelled, "it is on its way already");
    store.set(Mode::Store);
    store.fail();
    assert_eq!(publisher.answer(3).await["code"], "storage_failed");
    for number in 0..2 {
        let frame = subscriber.next().await;
        assert_eq!(
            (&frame["payload"], &frame["offset"]),
            (&json!(number), &json!(number))
        );
    }
    assert!(subscriber.said().await.is_empty());
    until(|| part(&broker, "later").scheduled() == 0).await;
}

async fn publisher_cancel(broker: &Running, id: &str) -> bool {
    let topic = gateway::topic(&broker.shared, "later").unwrap();
    schedules::cancel(&broker.shared, &topic, id).await.unwrap()
}

#[actix_rt::test]
async fn refused_schedule_is_told_and_forgotten() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    let mut publisher = Talker::connect(&broker).await;
    let id = schedule(&mut publisher, 1, 60_000, &json!(1)).await;
    store.set(Mode::Hold);
    publisher.say(later(2, 60_000, &json!(2))).await;
    until(|| store.held() == 1).await;
    store.set(Mode::Store);
    store.fail();
    let refused = publisher.answer(2).await;
    assert_eq!(refused["code"], "storage_failed", "{refused}");
    let listed = list(&part(&broker, "later")).await;
    assert_eq!(listed.waiting.len(), 1);
    assert!(publisher_cancel(&broker, &id).await);
    assert!(!publisher_cancel(&broker, &id).await);
    assert!(list(&part(&broker, "later")).await.waiting.is_empty());
}

/// What is due waits in order for room in a topic that is full, and nothing that was scheduled counts before.
#[actix_rt::test]
async fn due_records_wait_for_room() {
    let broker = Running::start().await;
    create(&broker, "later", json!({"records_max": 2})).await;
    let mut worker = Talker::connect(&broker).await;
    let join = json!({
        "type": "subscribe", "id": 1, "topic": "later", "group": "workers", "mode": "shared", "credit": 1,
    });
    assert_eq!(worker.ask(join).await["type"], "subscribed");
    let mut publisher = Talker::connect(&broker).await;
    for number in 0..7 {
        schedule(&mut publisher, 1, 100, &json!(number)).await;
    }
    let part = part(&broker, "later");
    until(|| part.next_offset() == Offset(2)).await;
    let full = publisher
        .ask(json!({"type": "publish", "id": 2, "topic": "later", "payload": 0}))
        .await;
    assert_eq!(full["code"], "topic_full");
    for number in 0..7 {
        let frame = worker.next().await;
        assert_eq!(frame["payload"], number);
        assert!(part.next_offset() <= Offset(number + 2), "more than fits");
        worker
            .say(json!({"type": "ack", "deliveries": [frame["delivery"]]}))
            .await;
    }
    until(|| part.scheduled() == 0 && !part.waits.for_room()).await;
}

#[actix_rt::test]
async fn record_that_is_not_kept_is_passed_on_when_it_is_due() {
    let broker = Running::start().await;
    let mut subscriber = subscribe(&broker).await;
    let mut publisher = Talker::connect(&broker).await;
    let mut brief = later(1, 50, &json!("brief"));
    brief["ttl_ms"] = json!(0);
    assert!(publisher.ask(brief).await["scheduled"].is_string());
    schedule(&mut publisher, 2, 60, &json!("kept")).await;
    let frame = subscriber.next().await;
    assert_eq!(
        (&frame["payload"], &frame["offset"]),
        (&json!("brief"), &Value::Null)
    );
    let frame = subscriber.next().await;
    assert_eq!((&frame["payload"], &frame["offset"]), (&json!("kept"), &json!(0)));
    until(|| part(&broker, "later").scheduled() == 0).await;
}

/// Six times as much is due at once as is loaded ahead.
#[actix_rt::test]
async fn more_is_due_than_fits_into_memory() {
    let broker = Running::start().await;
    let mut subscriber = subscribe(&broker).await;
    let mut publisher = Talker::connect(&broker).await;
    let padding = "x".repeat(2000);
    for number in (0..200_u64).rev() {
        let payload = json!([number, padding]);
        schedule(&mut publisher, 1, 700 + number % 10, &payload).await;
    }
    let mut came = Vec::new();
    let mut last = 0;
    while came.len() < 200 {
        let frame = subscriber.next().await;
        assert!(frame["timestamp"].as_u64().unwrap() >= last);
        last = frame["timestamp"].as_u64().unwrap();
        came.push(frame["payload"][0].as_u64().unwrap());
    }
    came.sort_unstable();
    assert_eq!(came, (0..200).collect::<Vec<_>>());
}

/// A few records stay long while many come and go: the log keeps the few and gives the space of the others back.
#[actix_rt::test]
async fn log_is_cut_although_the_oldest_record_still_waits() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    let kept = schedule(&mut publisher, 1, 3_600_000, &json!("kept")).await;
    assert_eq!(kept, "s-0-0");
    let padding = "x".repeat(20_000);
    for number in 0..200 {
        schedule(&mut publisher, 2, 1, &json!([number, padding])).await;
    }
    let part = part(&broker, "later");
    until(|| part.scheduled() == 1).await;
    let moved = async {
        loop {
            let listed = list(&part).await;
            if listed.waiting[0].place > Offset(0) && listed.log.unwrap().first_offset() > Offset(0) {
                break;
            }
            // The log is cut with what is written next.
            schedule(&mut publisher, 2, 1, &json!(padding)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, moved).await.unwrap();
    // Its number is the same, and it is still there after the log was replayed from where it begins now.
    part.addr().unwrap().do_send(InjectPanic);
    schedule(&mut publisher, 3, 1, &json!("after")).await;
    until(|| part.scheduled() == 1).await;
    let topic = gateway::topic(&broker.shared, "later").unwrap();
    let page = schedules::scheduled(&broker.shared, &topic, 10, None)
        .await
        .unwrap();
    assert_eq!(page.scheduled[0].id, kept);
    assert_eq!(page.scheduled[0].payload.as_ref().unwrap().get(), "\"kept\"");
    assert!(publisher_cancel(&broker, &kept).await);
}

#[actix_rt::test]
async fn partition_in_memory_takes_no_more_than_it_may_keep() {
    let broker = Running::start().await;
    let mut publisher = Talker::connect(&broker).await;
    let padding = json!("x".repeat(400_000));
    for number in 0..100 {
        let answer = publisher.ask(later(number, 3_600_000, &padding)).await;
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "overloaded", "{answer}");
            assert!(number >= 20, "refused after {number}");
            return;
        }
    }
    panic!("40 MB were taken");
}
