//! `"ordering":"key"`: at most one record of a key is out, in order, and other keys go on.

use serde_json::{Value, json};

use super::client::{Client, TOPIC};
use crate::support::Broker;

fn broker_with_keys(keys: &str) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(json!({"attempts_max":2,"retry_backoff_ms":0}));
    if !keys.is_empty() {
        publish(&mut client, keys);
    }
    (broker, client)
}

/// One record a letter, whose key it is; the payload is its place.
fn publish(client: &mut Client, keys: &str) {
    let messages: Vec<Value> = keys
        .char_indices()
        .map(|(place, key)| json!({"key":key.to_string(),"payload":place}))
        .collect();
    client.expect(
        json!({"type":"publish","topic":TOPIC,"messages":messages}),
        "published",
    );
}

fn payloads(messages: &[Value]) -> Vec<u64> {
    let mut payloads: Vec<u64> = messages
        .iter()
        .map(|message| message["payload"].as_u64().unwrap())
        .collect();
    payloads.sort_unstable();
    payloads
}

#[test]
fn one_record_of_a_key_is_out_and_the_next_follows_its_ack() {
    let (broker, _publisher) = broker_with_keys("aaabbc");
    let mut worker = Client::new(&broker);
    worker.work(json!({"ordering":"key"}));
    let first = worker.messages(3);
    assert_eq!(payloads(&first), [0, 3, 5]);
    assert!(worker.has_none("message"), "a second record of a key is out");
    for expected in 1..3 {
        let of_a = if expected == 1 {
            first[0].clone()
        } else {
            worker.message()
        };
        assert_eq!(of_a["payload"], expected - 1);
        worker.ack(&of_a);
    }
    assert_eq!(worker.message()["payload"], 2);
    worker.ack(&first[1]);
    assert_eq!(worker.message()["payload"], 4);
}

#[test]
fn key_waits_for_its_delayed_record_and_other_keys_do_not() {
    let (broker, _publisher) = broker_with_keys("abab");
    let mut worker = Client::new(&broker);
    worker.work(json!({"ordering":"key"}));
    let first = worker.messages(2);
    assert_eq!(payloads(&first), [0, 1]);
    let of = |key: &str| first.iter().find(|message| message["key"] == key).unwrap();
    worker.nack(of("a"), json!({"delay_ms":300}));
    worker.ack(of("b"));
    let second_b = worker.message();
    assert_eq!(second_b["payload"], 3, "the key that is not delayed goes on");
    let again = worker.message();
    assert_eq!((&again["payload"], &again["attempt"]), (&json!(0), &json!(2)));
    worker.ack(&again);
    assert_eq!(worker.message()["payload"], 2);
}

#[test]
fn dead_letter_lets_the_next_of_its_key_go() {
    let (broker, _publisher) = broker_with_keys("aa");
    let mut worker = Client::new(&broker);
    worker.work(json!({"ordering":"key"}));
    for attempt in 1..=2 {
        let message = worker.message();
        assert_eq!(
            (&message["payload"], &message["attempt"]),
            (&json!(0), &json!(attempt))
        );
        worker.nack(&message, json!({"delay_ms":0}));
    }
    assert_eq!(worker.message()["payload"], 1);
}

#[test]
fn keys_stay_in_order_when_their_worker_goes() {
    let (broker, mut publisher) = broker_with_keys("");
    let mut lost = Client::new(&broker);
    lost.work(json!({"ordering":"key","credit":1}));
    publish(&mut publisher, "aaaa");
    assert_eq!(lost.message()["payload"], 0);
    let mut next = Client::new(&broker);
    next.work(json!({"ordering":"key"}));
    assert!(next.has_none("message"), "the key is out");
    drop(lost);
    for expected in 0..4 {
        let message = next.message();
        assert_eq!(message["payload"], expected);
        next.ack(&message);
    }
}

#[test]
fn records_without_a_key_are_not_held_back() {
    let (broker, mut publisher) = broker_with_keys("");
    publisher.publish(0, 0..5);
    let mut worker = Client::new(&broker);
    worker.work(json!({"ordering":"key"}));
    assert_eq!(payloads(&worker.messages(5)), [0, 1, 2, 3, 4]);
}
