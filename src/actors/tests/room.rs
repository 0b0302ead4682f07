//! Topics that are full: what does not fit is refused, or waits while everything else answers.

use std::sync::Arc;

use callboard_protocol::Offset;
use serde_json::{Value, json};

use super::{
    Running,
    sessions::create,
    waits::{Talker, part, until},
};
use crate::actors::{
    clock,
    directory::PartitionRef,
    gateway,
    group::handle::GroupPart,
    partition::{InjectPanic, RoomMade},
};

fn publish(id: u64) -> Value {
    json!({"type": "publish", "id": id, "topic": "jobs", "payload": id})
}

/// What a group's actor does when records were finished.
fn finish(part: &PartitionRef, finished: u64) {
    part.set_groups(Arc::new([GroupPart::detached(&part.topic, finished)]));
    if part.waits.for_room() {
        part.addr().unwrap().do_send(RoomMade);
    }
}

async fn full(config: Value) -> (Running, Talker) {
    let broker = Running::start().await;
    create(&broker, "jobs", config).await;
    let mut publisher = Talker::connect(&broker).await;
    for id in 1..=3 {
        assert_eq!(publisher.ask(publish(id)).await["type"], "published");
    }
    (broker, publisher)
}

#[actix_rt::test]
async fn full_topic_refuses_until_a_group_has_finished_records() {
    let (broker, mut publisher) = full(json!({"records_max": 3})).await;
    let answer = publisher.ask(publish(4)).await;
    assert_eq!(answer["code"], "topic_full");
    assert!(answer["retry_after_ms"].is_u64());
    let part = part(&broker, "jobs");
    finish(&part, 1);
    assert_eq!(publisher.ask(publish(5)).await["offset"], 3);
    assert_eq!(publisher.ask(publish(6)).await["code"], "topic_full");
    // The group that has most left to do decides.
    part.set_groups(Arc::new([
        GroupPart::detached(&part.topic, 0),
        GroupPart::detached(&part.topic, 4),
    ]));
    assert_eq!(publisher.ask(publish(7)).await["code"], "topic_full");
    part.set_groups(Arc::new([]));
    assert_eq!(
        publisher.ask(publish(8)).await["code"],
        "topic_full",
        "4 are kept"
    );
}

#[actix_rt::test]
async fn full_topic_makes_only_its_publishers_wait() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    for id in 4..=7 {
        publisher.say(publish(id)).await;
    }
    assert!(publisher.said().await.is_empty());
    // Another publisher queues behind, and everything else answers.
    let mut other = Talker::connect(&broker).await;
    other.say(publish(8)).await;
    let page = json!({"type": "fetch", "id": 9, "topic": "jobs", "partition": 0, "offset": 0});
    assert_eq!(other.ask(page).await["messages"].as_array().unwrap().len(), 3);
    let subscribe = json!({"type": "subscribe", "id": 10, "topic": "jobs"});
    assert_eq!(other.ask(subscribe).await["type"], "subscribed");
    let elsewhere = json!({"type": "publish", "id": 11, "topic": "others", "payload": 1});
    assert_eq!(publisher.ask(elsewhere).await["type"], "published");
    let part = part(&broker, "jobs");
    until(|| part.waits.for_room()).await;
    finish(&part, 2);
    assert_eq!(publisher.answer(4).await["offset"], 3);
    assert_eq!(publisher.answer(5).await["offset"], 4);
    assert!(publisher.said().await.is_empty());
    assert_eq!(part.next_offset(), Offset(5));
    finish(&part, 5);
    for id in 6..=7 {
        assert_eq!(publisher.answer(id).await["offset"], id - 1);
    }
    assert_eq!(other.answer(8).await["offset"], 7);
    assert!(!part.waits.for_room());
}

#[actix_rt::test]
async fn publish_with_several_records_is_stored_as_far_as_there_is_room() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"records_max": 3, "when_full": "wait"})).await;
    let mut publisher = Talker::connect(&broker).await;
    let records: Vec<_> = (0..10).map(|number| json!({"payload": number})).collect();
    publisher
        .say(json!({"type": "publish", "id": 1, "topic": "jobs", "messages": records, "ack": "processed"}))
        .await;
    publisher
        .say(json!({"type": "publish", "id": 2, "topic": "jobs", "messages": records}))
        .await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    for finished in [1, 2, 3, 7] {
        finish(&part, finished);
        until(|| part.next_offset() == Offset(finished + 3)).await;
        assert_eq!(part.waits.processed(), (finished + 3).min(10));
    }
    finish(&part, 17);
    let answer = publisher.answer(2).await;
    let offsets: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["offset"].as_u64())
        .collect();
    assert_eq!(offsets, (10..20).map(Some).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn retention_makes_room() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    publisher.say(publish(4)).await;
    assert!(publisher.said().await.is_empty());
    gateway::patch_topic(&broker.shared, "jobs", json!({"retention_bytes": 1}).to_string())
        .await
        .unwrap();
    broker.shared.store.retain(clock::now());
    assert_eq!(publisher.answer(4).await["offset"], 3);
}

#[actix_rt::test]
async fn changed_topic_lets_in_or_refuses_who_waits() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    publisher.say(publish(4)).await;
    publisher.say(publish(5)).await;
    assert!(publisher.said().await.is_empty());
    let patch = |patch: Value| gateway::patch_topic(&broker.shared, "jobs", patch.to_string());
    patch(json!({"records_max": 4})).await.unwrap();
    assert_eq!(publisher.answer(4).await["offset"], 3);
    patch(json!({"when_full": "refuse"})).await.unwrap();
    assert_eq!(publisher.answer(5).await["code"], "topic_full");
    assert!(!part(&broker, "jobs").waits.for_room());
}

#[actix_rt::test]
async fn what_waits_too_long_for_room_is_not_stored() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    let mut frame = publish(4);
    frame["timeout_ms"] = json!(20);
    let answer = publisher.ask(frame).await;
    assert_eq!(answer["code"], "timeout");
    assert!(answer.get("offset").is_none(), "{answer}");
    let part = part(&broker, "jobs");
    finish(&part, 3);
    assert_eq!(publisher.ask(publish(5)).await["offset"], 3);
}

#[actix_rt::test]
async fn waiting_for_room_is_bounded_by_session_and_by_partition() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    let records: Vec<_> = (0..1030).map(|number| json!({"payload": number})).collect();
    publisher
        .say(json!({"type": "publish", "topic": "jobs", "messages": records}))
        .await;
    for index in 1024..1030 {
        let answer = publisher.next().await;
        assert_eq!(
            (&answer["code"], &answer["index"]),
            (&json!("overloaded"), &json!(index))
        );
    }
    // Of five such publishers one is too many for the partition, and the others wait on.
    let mut large = publish(1);
    large["payload"] = json!("x".repeat(900_000));
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut other = Talker::connect(&broker).await;
        other.say(large.clone()).await;
        others.push(other);
    }
    let answers = others.iter_mut().map(|other| Box::pin(other.next()));
    let (answer, refused, _) = futures_util::future::select_all(answers).await;
    assert_eq!(answer["code"], "overloaded");
    others.remove(refused);
    let part = part(&broker, "jobs");
    finish(&part, 3 + 1024 + 1);
    for other in &mut others {
        assert_eq!(other.next().await["type"], "published");
    }
}

#[actix_rt::test]
async fn session_that_ends_and_topic_that_is_deleted_give_up_what_waits_for_room() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    publisher.say(publish(4)).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    until(|| part.waits.for_room()).await;
    drop(publisher);
    until(|| !part.waits.for_room()).await;
    let mut publisher = Talker::connect(&broker).await;
    publisher.say(publish(5)).await;
    assert!(publisher.said().await.is_empty());
    gateway::delete_topic(&broker.shared, "jobs").await.unwrap();
    assert_eq!(publisher.answer(5).await["code"], "topic_not_found");
}

#[actix_rt::test]
async fn panicking_partition_answers_who_waits_for_room() {
    let (broker, mut publisher) = full(json!({"records_max": 3, "when_full": "wait"})).await;
    publisher.say(publish(4)).await;
    assert!(publisher.said().await.is_empty());
    let part = part(&broker, "jobs");
    part.addr().unwrap().do_send(InjectPanic);
    assert_eq!(publisher.answer(4).await["code"], "internal");
    assert!(!part.waits.for_room());
}

#[actix_rt::test]
async fn records_are_counted_over_all_partitions() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"records_max": 100, "partitions": 8})).await;
    let mut publishers = Vec::new();
    for _ in 0..4 {
        let mut publisher = Talker::connect(&broker).await;
        for id in 1..=60 {
            publisher.say(publish(id)).await;
        }
        publishers.push(publisher);
    }
    let mut stored = 0;
    for publisher in &mut publishers {
        for _ in 1..=60 {
            let answer = publisher.next().await;
            if answer["type"] == "published" {
                stored += 1;
            } else {
                assert_eq!(answer["code"], "topic_full");
            }
        }
    }
    assert_eq!(stored, 100);
}

#[actix_rt::test]
async fn workers_make_room() {
    let broker = Running::start().await;
    create(
        &broker,
        "jobs",
        json!({"records_max": 2, "when_full": "wait", "partitions": 2}),
    )
    .await;
    let mut worker = Talker::connect(&broker).await;
    let subscribe =
        json!({"type": "subscribe", "id": 1, "topic": "jobs", "group": "workers", "mode": "shared"});
    assert_eq!(worker.ask(subscribe).await["type"], "subscribed");
    let mut publisher = Talker::connect(&broker).await;
    for id in 1..=20 {
        publisher.say(publish(id)).await;
    }
    let mut done = 0;
    while done < 20 {
        let job = worker.next().await;
        if job["type"] == "message" {
            done += 1;
            let ack =
                json!({"type": "ack", "topic": "jobs", "group": "workers", "deliveries": [job["delivery"]]});
            worker.say(ack).await;
        }
    }
    for id in 1..=20 {
        assert_eq!(publisher.answer(id).await["type"], "published");
    }
}
