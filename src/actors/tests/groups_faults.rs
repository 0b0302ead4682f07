//! Faults of groups that were found once and must not come back.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Running,
    failing::{FailingStore, Mode},
    groups::{group, join, next_of, publish},
    sessions::create,
    waits::{Talker, until},
};
use crate::actors::{gateway, partition::InjectPanic};

/// What the first session of the broker is subscribed to.
async fn subscriptions(broker: &Running) -> Vec<String> {
    let sessions = gateway::sessions(&broker.shared).await;
    sessions
        .into_iter()
        .flat_map(|session| session.subscriptions)
        .collect()
}

async fn subscriptions_until(broker: &Running, count: usize) {
    let wait = async {
        while subscriptions(broker).await.len() != count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, wait).await.unwrap();
}

/// The group's actor dies, and the next one waits for its log.
async fn restart_held(broker: &Running, store: &FailingStore) {
    let died = group(broker, "jobs", "crew").addr().unwrap();
    store.hold_opens();
    died.do_send(InjectPanic);
    until(|| store.held_opens() > 0).await;
    assert_ne!(group(broker, "jobs", "crew").addr().unwrap(), died);
}

fn unsubscribe(id: u64) -> Value {
    json!({"type": "unsubscribe", "id": id, "topic": "jobs", "group": "crew"})
}

#[actix_rt::test]
async fn member_whose_records_fill_a_buffer_gets_the_rest_of_its_credit() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    let large = "x".repeat(100_000);
    for id in 0..9 {
        let frame = json!({"type": "publish", "id": id, "topic": "jobs", "payload": large});
        assert_eq!(publisher.ask(frame).await["type"], "published");
    }
    let mut worker = Talker::connect(&broker).await;
    worker.say(join(1, "shared")).await;
    // It acks nothing before it has all of them.
    for offset in 0..9 {
        assert_eq!(next_of(&mut worker, "message").await["offset"], offset);
    }
}

#[actix_rt::test]
async fn refused_release_leaves_what_is_held_as_it_was() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut member = Talker::connect(&broker).await;
    member.ask(join(1, "partitioned")).await;
    next_of(&mut member, "assigned").await;
    let release = json!({"type": "release", "id": 2, "topic": "jobs", "group": "crew", "partitions": [0, 7]});
    assert_eq!(member.ask(release).await["code"], "not_owner");
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    assert_eq!(next_of(&mut member, "message").await["offset"], 0);
}

#[actix_rt::test]
async fn member_that_comes_while_its_group_starts_again_is_one_member() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut first = Talker::connect(&broker).await;
    first.ask(join(1, "shared")).await;
    first.ask(unsubscribe(2)).await;
    subscriptions_until(&broker, 0).await;
    restart_held(&broker, &store).await;
    let mut worker = Talker::connect(&broker).await;
    worker.say(join(1, "shared")).await;
    subscriptions_until(&broker, 1).await;
    store.open_held();
    assert_eq!(worker.answer(1).await["type"], "subscribed");
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..8).await;
    for _ in 0..8 {
        next_of(&mut worker, "message").await;
    }
    let topic = broker.shared.directory.get("jobs").unwrap();
    let crew = gateway::groups::group(&broker.shared, &topic, "crew")
        .await
        .unwrap();
    assert_eq!(crew.members.len(), 1);
}

#[actix_rt::test]
async fn member_that_leaves_while_its_group_starts_again_is_answered() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    restart_held(&broker, &store).await;
    worker.say(unsubscribe(2)).await;
    worker.said().await;
    store.open_held();
    assert_eq!(worker.answer(2).await["type"], "ok");
}

#[actix_rt::test]
async fn worker_that_has_settled_what_it_had_when_it_left_is_forgotten() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let message = next_of(&mut worker, "message").await;
    assert_eq!(worker.ask(unsubscribe(2)).await["type"], "ok");
    assert_eq!(subscriptions(&broker).await.len(), 1);
    let ack = json!({"type": "ack", "id": 3, "deliveries": [message["delivery"]]});
    assert_eq!(worker.ask(ack).await["type"], "ok");
    subscriptions_until(&broker, 0).await;
}

#[actix_rt::test]
async fn members_of_a_dead_group_hear_that_it_is_deleted() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let crew = group(&broker, "jobs", "crew");
    crew.addr().unwrap().do_send(InjectPanic);
    let topic = broker.shared.directory.get("jobs").unwrap();
    gateway::groups::delete_group(&broker.shared, &topic, "crew")
        .await
        .unwrap();
    assert_eq!(
        next_of(&mut worker, "unsubscribed").await["reason"],
        "group_deleted"
    );
    assert_eq!(worker.ask(join(2, "partitioned")).await["type"], "subscribed");
}

#[actix_rt::test]
async fn subscribe_to_a_group_that_is_deleted_meanwhile_is_answered() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut first = Talker::connect(&broker).await;
    first.ask(join(1, "shared")).await;
    first.ask(unsubscribe(2)).await;
    subscriptions_until(&broker, 0).await;
    restart_held(&broker, &store).await;
    let mut worker = Talker::connect(&broker).await;
    worker.say(join(1, "shared")).await;
    subscriptions_until(&broker, 1).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    gateway::groups::delete_group(&broker.shared, &topic, "crew")
        .await
        .unwrap();
    assert_eq!(worker.answer(1).await["code"], "not_subscribed");
    store.open_held();
    assert_eq!(worker.ask(join(2, "partitioned")).await["type"], "subscribed");
}

#[actix_rt::test]
async fn ack_that_waits_when_its_group_is_deleted_is_told_why() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let message = next_of(&mut worker, "message").await;
    store.set(Mode::Hold);
    let ack = json!({"type": "ack", "id": 2, "deliveries": [message["delivery"]]});
    worker.say(ack).await;
    until(|| store.held() > 0).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    gateway::groups::delete_group(&broker.shared, &topic, "crew")
        .await
        .unwrap();
    assert_eq!(worker.answer(2).await["code"], "not_subscribed");
}

#[actix_rt::test]
async fn reason_as_long_as_a_frame_does_not_keep_a_record_from_the_dead_letters() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    let message = next_of(&mut worker, "message").await;
    let reason = "\u{e9}".repeat((1 << 19) - 60);
    let nack = json!({"type": "nack", "id": 2, "deliveries": [message["delivery"]], "dead_letter": true, "reason": reason});
    assert_eq!(worker.ask(nack).await["type"], "ok");
    let stored = || {
        let letters = broker.shared.directory.get("jobs.crew.dlq");
        letters.is_some_and(|letters| letters.partitions()[0].next_offset().0 == 1)
    };
    until(stored).await;
    let page = json!({"type": "fetch", "id": 3, "topic": "jobs.crew.dlq", "partition": 0, "offset": 0});
    let page = worker.ask(page).await;
    let kept = &page["messages"][0]["headers"]["callboard-reason"];
    assert_eq!(*kept, "\u{e9}".repeat(2048));
}

#[actix_rt::test]
async fn dead_letters_of_a_topic_that_was_made_again_are_moved_back() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    let mut publisher = Talker::connect(&broker).await;
    let mut worker = Talker::connect(&broker).await;
    worker.ask(join(1, "shared")).await;
    for id in 0..2 {
        publish(&mut publisher, id..id + 1).await;
        let message = next_of(&mut worker, "message").await;
        assert_eq!(message["payload"], id);
        let nack = json!({"type": "nack", "id": 9, "deliveries": [message["delivery"]], "dead_letter": true});
        assert_eq!(worker.ask(nack).await["type"], "ok");
        let stored = || {
            let letters = broker.shared.directory.get("jobs.crew.dlq");
            letters.is_some_and(|letters| letters.partitions()[0].next_offset().0 == 1)
        };
        until(stored).await;
        let moved = gateway::groups::redrive_group(&broker.shared, &topic, "crew", None).await;
        assert_eq!(moved.unwrap().redriven, 1);
        let message = next_of(&mut worker, "message").await;
        assert_eq!(message["payload"], id);
        let ack = json!({"type": "ack", "id": 10, "deliveries": [message["delivery"]]});
        worker.ask(ack).await;
        gateway::delete_topic(&broker.shared, "jobs.crew.dlq")
            .await
            .unwrap();
    }
}

#[actix_rt::test]
async fn commit_behind_a_gap_frees_no_more_than_it_commits() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({"retention_bytes": 4000})).await;
    let mut first = Talker::connect(&broker).await;
    first.ask(join(1, "partitioned")).await;
    first.ask(unsubscribe(2)).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..500).await;
    let mut member = Talker::connect(&broker).await;
    let subscribe = json!({"type": "subscribe", "id": 1, "topic": "jobs", "group": "crew", "credit": 2});
    member.say(subscribe).await;
    assert_eq!(next_of(&mut member, "skipped").await["reason"], "retention");
    let offset = next_of(&mut member, "message").await["offset"].as_u64().unwrap();
    next_of(&mut member, "message").await;
    let offsets = json!({"0": offset + 1});
    let commit = json!({"type": "commit", "id": 2, "topic": "jobs", "group": "crew", "offsets": offsets});
    assert_eq!(member.ask(commit).await["type"], "ok");
    let more: Vec<_> = member
        .said()
        .await
        .into_iter()
        .map(|frame| frame["offset"].as_u64())
        .collect();
    assert_eq!(more, [Some(offset + 2)]);
}

#[actix_rt::test]
async fn worker_that_comes_again_under_its_name_takes_the_place_of_the_older() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    let named = |id: u64| {
        let mut frame = join(id, "shared");
        frame["member"] = json!("a");
        frame["exclusive"] = json!(true);
        frame
    };
    let mut older = Talker::connect(&broker).await;
    older.ask(named(1)).await;
    assert_eq!(next_of(&mut older, "message").await["attempt"], 1);
    let mut newer = Talker::connect(&broker).await;
    assert_eq!(newer.ask(named(1)).await["type"], "subscribed");
    assert_eq!(next_of(&mut older, "unsubscribed").await["reason"], "replaced");
    assert_eq!(next_of(&mut newer, "message").await["attempt"], 2);
    let mut other = join(2, "shared");
    other["member"] = json!("b");
    let mut third = Talker::connect(&broker).await;
    assert_eq!(third.ask(other).await["code"], "conflict");
}
