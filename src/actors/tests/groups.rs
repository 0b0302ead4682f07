//! What must hold of groups when actors panic and stores refuse: members go on, nothing is lost.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Running,
    failing::{FailingStore, Mode},
    sessions::create,
    waits::{Talker, until},
};
use crate::{
    actors::{
        broker::PanicTopic,
        group::handle::GroupRef,
        hub::{Census, TakeCensus},
        partition::InjectPanic,
    },
    store::journal::{JournalOptions, JournalStore},
};

pub fn group(broker: &Running, topic: &str, name: &str) -> Arc<GroupRef> {
    broker.shared.directory.get(topic).unwrap().group(name).unwrap()
}

pub async fn publish(talker: &mut Talker, ids: std::ops::Range<u64>) {
    for id in ids {
        let frame = json!({"type": "publish", "id": 1000 + id, "topic": "jobs", "payload": id});
        assert_eq!(talker.ask(frame).await["type"], "published");
    }
}

pub fn join(id: u64, mode: &str) -> Value {
    json!({"type": "subscribe", "id": id, "topic": "jobs", "group": "crew", "mode": mode})
}

/// The next frame of a type; those of other types are passed over.
pub async fn next_of(talker: &mut Talker, frame_type: &str) -> Value {
    loop {
        let frame = talker.next().await;
        if frame["type"] == frame_type {
            return frame;
        }
    }
}

async fn census(broker: &Running) -> Census {
    let mut all = Census::default();
    for worker in broker.shared.workers().iter() {
        all = all.and(worker.hub.send(TakeCensus).await.unwrap());
    }
    all
}

#[actix_rt::test]
async fn commit_that_nobody_waits_for_is_kept_without_other_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let store = JournalStore::open(directory.path(), JournalOptions::default()).unwrap();
    let broker = Running::start_durable(Arc::new(store)).await;
    create(&broker, "jobs", json!({})).await;
    let mut member = Talker::connect(&broker).await;
    member.ask(join(1, "partitioned")).await;
    next_of(&mut member, "assigned").await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    next_of(&mut member, "message").await;
    let commit = json!({"type": "commit", "topic": "jobs", "group": "crew", "offsets": {"0": 1}});
    member.say(commit).await;
    // Behind the commit, which is in flight until the group's log has it.
    member.ask(json!({"type": "ping", "id": 2})).await;
    while census(&broker).await.in_flight_bytes > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[actix_rt::test]
async fn members_of_a_partitioned_group_that_panics_join_again_where_they_were() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"partitions": 2})).await;
    let mut member = Talker::connect(&broker).await;
    assert_eq!(member.ask(join(1, "partitioned")).await["type"], "subscribed");
    let assigned = next_of(&mut member, "assigned").await;
    assert_eq!(assigned["offsets"], json!({"0": 0, "1": 0}));
    let mut publisher = Talker::connect(&broker).await;
    let frame = json!({"type": "publish", "id": 1, "topic": "jobs", "payload": 1, "partition": 0});
    publisher.ask(frame).await;
    next_of(&mut member, "message").await;
    let commit = json!({"type": "commit", "id": 2, "topic": "jobs", "group": "crew", "offsets": {"0": 1}});
    assert_eq!(member.ask(commit).await["type"], "ok");
    let died = group(&broker, "jobs", "crew").addr().unwrap();
    died.do_send(InjectPanic);
    assert_eq!(next_of(&mut member, "revoked").await["partitions"], json!([0, 1]));
    let again = next_of(&mut member, "assigned").await;
    assert_eq!(again["offsets"], json!({"0": 1, "1": 0}));
    assert!(again["generation"].as_u64() > assigned["generation"].as_u64());
    assert_ne!(group(&broker, "jobs", "crew").addr().unwrap(), died);
    let frame = json!({"type": "publish", "id": 3, "topic": "jobs", "payload": 3, "partition": 0});
    publisher.ask(frame).await;
    assert_eq!(next_of(&mut member, "message").await["offset"], 1);
}

#[actix_rt::test]
async fn leases_of_a_shared_group_that_panics_come_again_as_the_next_attempt() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..3).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(next_of(&mut worker, "message").await["delivery"].clone());
    }
    let ack = json!({"type": "ack", "id": 2, "deliveries": [deliveries[0]]});
    assert_eq!(worker.ask(ack).await["type"], "ok");
    for attempt in 2..4 {
        group(&broker, "jobs", "crew")
            .addr()
            .unwrap()
            .do_send(InjectPanic);
        for payload in 1..3 {
            let message = next_of(&mut worker, "message").await;
            assert_eq!(
                (&message["payload"], &message["attempt"]),
                (&json!(payload), &json!(attempt))
            );
            deliveries.push(message["delivery"].clone());
        }
    }
    // Those of before are nobody's any more, and those of now count.
    let stale = json!({"type": "ack", "id": 3, "deliveries": [deliveries[1]]});
    assert_eq!(worker.ask(stale).await["code"], "unknown_delivery");
    let last = &deliveries[deliveries.len() - 2..];
    let ack = json!({"type": "ack", "id": 4, "deliveries": last});
    assert_eq!(worker.ask(ack).await["type"], "ok");
    group(&broker, "jobs", "crew")
        .addr()
        .unwrap()
        .do_send(InjectPanic);
    publish(&mut publisher, 3..4).await;
    assert_eq!(next_of(&mut worker, "message").await["payload"], 3);
}

#[actix_rt::test]
async fn ack_that_the_store_refuses_says_so_and_its_record_comes_again() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let message = next_of(&mut worker, "message").await;
    store.set(Mode::Refuse);
    let ack = json!({"type": "ack", "id": 2, "deliveries": [message["delivery"]]});
    let answer = worker.ask(ack).await;
    assert_eq!(answer["code"], "storage_failed", "{answer}");
    store.set(Mode::Store);
    let again = next_of(&mut worker, "message").await;
    assert_eq!((&again["offset"], &again["attempt"]), (&json!(0), &json!(2)));
    let ack = json!({"type": "ack", "id": 3, "deliveries": [again["delivery"]]});
    assert_eq!(worker.ask(ack).await["type"], "ok");
}

#[actix_rt::test]
async fn ack_whose_flush_fails_is_refused_and_never_ok() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let message = next_of(&mut worker, "message").await;
    store.set(Mode::Hold);
    worker
        .say(json!({"type": "ack", "id": 2, "deliveries": [message["delivery"]]}))
        .await;
    until(|| store.held() > 0).await;
    assert!(worker.said().await.is_empty());
    store.set(Mode::Store);
    store.fail();
    assert_eq!(worker.answer(2).await["code"], "storage_failed");
    let again = next_of(&mut worker, "message").await;
    assert_eq!((&again["offset"], &again["attempt"]), (&json!(0), &json!(2)));
}

#[actix_rt::test]
async fn topic_that_panics_keeps_its_groups() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let before = group(&broker, "jobs", "crew").addr().unwrap();
    broker
        .shared
        .broker()
        .send(PanicTopic("jobs".to_owned()))
        .await
        .unwrap();
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let message = next_of(&mut worker, "message").await;
    assert_eq!(group(&broker, "jobs", "crew").addr().unwrap(), before);
    // Its next death is the new topic's matter.
    before.do_send(InjectPanic);
    let again = next_of(&mut worker, "message").await;
    assert_eq!(
        (&again["offset"], &again["attempt"]),
        (&message["offset"], &json!(2))
    );
}

#[actix_rt::test]
async fn sessions_that_end_leave_nothing_of_their_groups_behind() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"partitions": 4})).await;
    for round in 0..5 {
        let mut member = Talker::connect(&broker).await;
        member.ask(join(1, "partitioned")).await;
        let other =
            json!({"type": "subscribe", "id": 2, "topic": "jobs", "group": "workers", "mode": "shared"});
        member.ask(other).await;
        if round % 2 == 0 {
            let leave = json!({"type": "unsubscribe", "id": 3, "topic": "jobs", "group": "crew"});
            assert_eq!(member.ask(leave).await["type"], "ok");
        }
    }
    let empty = Census::default();
    while census(&broker).await != empty {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    until(|| group(&broker, "jobs", "crew").addr().is_some()).await;
}
