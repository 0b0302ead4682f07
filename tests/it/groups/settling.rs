//! Acks and nacks: when a record comes again, and what is said of deliveries that cannot be settled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, describe, until_group};
use crate::support::Broker;

fn broker_with(config: Value) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(config);
    (broker, client)
}

fn worker(broker: &Broker, more: Value) -> Client {
    let mut client = Client::new(broker);
    client.work(more);
    client
}

#[test]
fn nack_without_delay_comes_again_at_once() {
    let (broker, mut publisher) = broker_with(json!({"retry_backoff_ms":60_000,"attempts_max":100}));
    let mut worker = worker(&broker, json!({}));
    publisher.publish(0, 0..1);
    for attempt in 1..=10 {
        let message = worker.message();
        assert_eq!(message["attempt"], attempt);
        worker.nack(&message, json!({"delay_ms":0,"reason":"once more"}));
    }
    let message = worker.message();
    assert_eq!(message["attempt"], 11);
    worker.ack(&message);
}

#[test]
fn nack_with_a_delay_waits_and_others_go_on() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut worker = worker(&broker, json!({"credit":1}));
    publisher.publish(0, 0..2);
    let first = worker.message();
    let began = Instant::now();
    worker.nack(&first, json!({"delay_ms":400}));
    let second = worker.message();
    assert_eq!(second["payload"], 1);
    worker.ack(&second);
    let waiting = describe(&broker);
    assert_eq!(waiting["partitions"][0]["waiting"], 1, "{waiting}");
    let again = worker.message();
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((&again["payload"], &again["attempt"]), (&json!(0), &json!(2)));
}

#[test]
fn waits_between_attempts_grow_up_to_their_maximum() {
    let (broker, mut publisher) =
        broker_with(json!({"retry_backoff_ms":200,"retry_backoff_ms_max":500,"attempts_max":10}));
    let mut worker = worker(&broker, json!({}));
    publisher.publish(0, 0..1);
    let mut message = worker.message();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let began = Instant::now();
        worker.nack(&message, json!({}));
        message = worker.message();
        waits.push(began.elapsed());
    }
    for (wait, at_least) in waits.iter().zip([200, 400, 500, 500]) {
        assert!(*wait >= Duration::from_millis(at_least), "{waits:?}");
    }
    // Without its maximum it would be 1600 ms.
    assert!(waits[3] < Duration::from_millis(1500), "{waits:?}");
}

#[test]
fn what_can_be_settled_is_and_the_rest_is_listed() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut worker = worker(&broker, json!({}));
    publisher.publish(0, 0..3);
    let leased = worker.messages(3);
    let deliveries: Vec<u64> = leased
        .iter()
        .map(|message| message["delivery"].as_u64().unwrap())
        .collect();
    let strange = deliveries[2] + 100;
    worker.ack(&leased[0]);
    let reply = worker.refused(
        json!({"type":"ack","deliveries":[deliveries[0],deliveries[1],strange]}),
        "unknown_delivery",
    );
    assert_eq!(
        reply["failed"],
        json!([
            {"delivery":deliveries[0],"code":"unknown_delivery"},
            {"delivery":strange,"code":"unknown_delivery"}
        ])
    );
    assert_eq!(describe(&broker)["acked"], 2);
    for kind in ["nack", "extend"] {
        let reply = worker.refused(
            json!({"type":kind,"deliveries":[strange],"lease_ms":1000}),
            "unknown_delivery",
        );
        assert_eq!(reply["failed"][0]["delivery"], strange);
    }
    worker.ack(&leased[2]);
}

#[test]
fn only_the_session_that_has_a_delivery_may_settle_it() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut owner = worker(&broker, json!({}));
    publisher.publish(0, 0..1);
    let leased = owner.message();
    let mut other = worker(&broker, json!({}));
    let ack = json!({"type":"ack","deliveries":[leased["delivery"]]});
    other.refused(ack.clone(), "unknown_delivery");
    publisher.refused(ack, "unknown_delivery");
    owner.ack(&leased);
    assert_eq!(describe(&broker)["acked"], 1);
}

#[test]
fn settling_without_an_id_is_answered_only_when_it_fails() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut worker = worker(&broker, json!({"credit":1}));
    publisher.publish(0, 0..3);
    for _ in 0..3 {
        let message = worker.message();
        worker.send(&json!({"type":"ack","deliveries":[message["delivery"]]}));
    }
    until_group(&broker, "three acks", |group| group["acked"] == 3);
    assert!(worker.has_none("ok"));
    worker.send(&json!({"type":"ack","deliveries":[1]}));
    assert_eq!(worker.of_type("error")["code"], "unknown_delivery");
}

#[test]
fn one_session_may_work_in_several_groups() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut client = worker(&broker, json!({}));
    client.expect(
        json!({"type":"subscribe","topic":"jobs","group":"others","mode":"shared"}),
        "subscribed",
    );
    publisher.publish(0, 0..1);
    let both = client.messages(2);
    assert_ne!(both[0]["group"], both[1]["group"]);
    assert_ne!(both[0]["delivery"], both[1]["delivery"]);
    for message in &both {
        client.ack(message);
    }
    let listed = broker.get("/api/v1/topics/jobs/groups").expect(200);
    let acked: Vec<&Value> = listed["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["acked"])
        .collect();
    assert_eq!(acked, [&json!(1), &json!(1)]);
}
