//! Records that a group could not process: where they go, what they say, and how they come back.

use serde_json::{Value, json};

use super::client::{Client, GROUP_PATH, TOPIC, describe, until_group};
use crate::support::Broker;

/// Where the group's dead letters go as long as nothing else is configured.
const DEAD_LETTERS: &str = "jobs.crew.dlq";

fn broker_with(config: Value) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(config);
    (broker, client)
}

fn worker(broker: &Broker) -> Client {
    let mut client = Client::new(broker);
    client.work(json!({}));
    client
}

/// The dead letters of a topic, as they come.
fn reader(broker: &Broker, topic: &str) -> Client {
    let mut client = Client::new(broker);
    client.expect(
        json!({"type":"subscribe","topic":topic,"from":"earliest"}),
        "subscribed",
    );
    client
}

#[test]
fn record_that_had_its_attempts_becomes_a_dead_letter_that_says_why() {
    let (broker, mut publisher) = broker_with(json!({"attempts_max":2,"partitions":2}));
    let mut worker = worker(&broker);
    let stored = publisher.publish_one(json!({
        "partition":1,"key":"c42","headers":{"kind":"order"},"payload":{"total":1.5}
    }));
    for attempt in 1..=2 {
        let message = worker.message();
        assert_eq!(message["attempt"], attempt);
        let reason = format!("database away, {attempt}");
        worker.nack(&message, json!({"delay_ms":0,"reason":reason}));
    }
    let dead = reader(&broker, DEAD_LETTERS).message();
    assert_eq!(
        (&dead["key"], &dead["payload"]),
        (&json!("c42"), &json!({"total":1.5}))
    );
    let headers = &dead["headers"];
    let expected = json!({
        "kind":"order",
        "callboard-topic":TOPIC,
        "callboard-partition":"1",
        "callboard-offset":stored["offset"].to_string(),
        "callboard-group":"crew",
        "callboard-attempts":"2",
        "callboard-reason":"database away, 2",
        "callboard-failed-at":headers["callboard-failed-at"],
    });
    assert_eq!(*headers, expected);
    let failed_at = headers["callboard-failed-at"].as_str().unwrap();
    assert!(
        failed_at.len() >= 20 && failed_at.contains('T') && failed_at.ends_with('Z'),
        "{failed_at}"
    );
    let group = until_group(&broker, "one dead letter", |group| group["dead_letters"] == 1);
    assert_eq!(
        (
            &group["dead_lettered"],
            &group["dead_letter_topic"],
            &group["lag"]
        ),
        (&json!(1), &json!(DEAD_LETTERS), &json!(0))
    );
    assert!(worker.has_none("message"));
}

#[test]
fn worker_may_send_a_record_to_the_dead_letters_at_once() {
    let (broker, mut publisher) = broker_with(json!({"dead_letter_topic":"graveyard"}));
    let mut worker = worker(&broker);
    publisher.publish(0, 0..2);
    let leased = worker.messages(2);
    worker.nack(&leased[0], json!({"dead_letter":true,"reason":"not a number"}));
    let dead = reader(&broker, "graveyard").message();
    assert_eq!(dead["payload"], 0);
    assert_eq!(dead["headers"]["callboard-reason"], "not a number");
    assert_eq!(dead["headers"]["callboard-attempts"], "1");
    worker.ack(&leased[1]);
    assert!(worker.has_none("message"));
}

#[test]
fn workers_that_die_of_a_record_do_not_do_so_for_ever() {
    let (broker, mut publisher) = broker_with(json!({"attempts_max":3}));
    publisher.publish(0, 0..1);
    for attempt in 1..=3 {
        assert_eq!(worker(&broker).message()["attempt"], attempt);
    }
    let dead = reader(&broker, DEAD_LETTERS).message();
    assert_eq!(dead["headers"]["callboard-attempts"], "3");
    assert!(
        dead["headers"]["callboard-reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{dead}"
    );
    assert!(worker(&broker).has_none("message"));
}

#[test]
fn lease_that_runs_out_for_the_last_time_is_a_dead_letter() {
    let (broker, mut publisher) = broker_with(json!({"attempts_max":1,"lease_ms":200}));
    let mut worker = worker(&broker);
    publisher.publish(0, 0..1);
    worker.message();
    let dead = reader(&broker, DEAD_LETTERS).message();
    assert_eq!(dead["headers"]["callboard-attempts"], "1");
    assert!(worker.has_none("message"));
}

#[test]
fn dead_letters_survive_kill_9_and_come_once() {
    let (mut broker, mut publisher) = broker_with(json!({"attempts_max":1}));
    publisher.publish(0, 0..10);
    let mut killed = worker(&broker);
    for message in killed.messages(10) {
        killed.nack(&message, json!({"delay_ms":0}));
    }
    broker.kill();
    broker.restart();
    let mut letters = reader(&broker, DEAD_LETTERS);
    let mut offsets: Vec<u64> = letters
        .messages(10)
        .iter()
        .map(|letter| {
            let offset = letter["headers"]["callboard-offset"].as_str().unwrap();
            offset.parse().unwrap()
        })
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    until_group(&broker, "nothing unfinished", |group| group["lag"] == 0);
    assert!(letters.has_none("message"), "a dead letter is stored twice");
    assert!(worker(&broker).has_none("message"));
}

#[test]
fn redriven_dead_letters_are_worked_on_once_more() {
    let (broker, mut publisher) = broker_with(json!({"attempts_max":1}));
    let mut worker = worker(&broker);
    publisher.publish(0, 0..3);
    for message in worker.messages(3) {
        worker.nack(&message, json!({"delay_ms":0}));
    }
    until_group(&broker, "three dead letters", |group| group["dead_letters"] == 3);
    let redrive = format!("{GROUP_PATH}/redrive");
    let first = broker.post(&redrive, r#"{"limit":1}"#).expect(200);
    assert_eq!(first, json!({"redriven":1,"dead_letters":2}));
    let again = worker.message();
    assert_eq!((&again["payload"], &again["attempt"]), (&json!(0), &json!(1)));
    worker.ack(&again);
    let rest = broker.post(&redrive, "").expect(200);
    assert_eq!(rest, json!({"redriven":2,"dead_letters":0}));
    for message in worker.messages(2) {
        worker.ack(&message);
    }
    let none = broker.post(&redrive, "").expect(200);
    assert_eq!(none, json!({"redriven":0,"dead_letters":0}));
    until_group(&broker, "all acked", |group| group["lag"] == 0);
    let group = describe(&broker);
    assert_eq!((&group["acked"], &group["redriven"]), (&json!(3), &json!(3)));
}
