//! Publishers that wait for a consumer: `ack` `delivered` and `processed`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, TOPIC};
use crate::support::Broker;

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

fn publish(ack: &str, more: Value) -> Value {
    super::client::with(
        json!({"type":"publish","topic":TOPIC,"payload":[6,7],"ack":ack}),
        more,
    )
}

#[test]
fn publisher_gets_the_result_of_the_worker() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut worker = worker(&broker);
    let waiting = publisher.begin(publish("processed", json!({})));
    let message = worker.message();
    // Its other frames go on meanwhile, also to the same partition.
    publisher.publish_one(json!({"payload":"next"}));
    assert!(publisher.has_none("published"), "nobody has acked it yet");
    worker.expect(
        json!({"type":"ack","deliveries":[message["delivery"]],"result":{"product":42}}),
        "ok",
    );
    let reply = publisher.reply(waiting);
    assert_eq!(
        (&reply["type"], &reply["offset"], &reply["durability"]),
        (&json!("published"), &json!(0), &json!("fsync"))
    );
    assert_eq!(reply["result"], json!({"product":42}));
}

#[test]
fn ack_without_a_result_answers_without_one() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut worker = worker(&broker);
    let waiting = publisher.begin(publish("processed", json!({})));
    let message = worker.message();
    worker.ack(&message);
    let reply = publisher.reply(waiting);
    assert_eq!(
        (&reply["type"], &reply["result"]),
        (&json!("published"), &Value::Null)
    );
}

#[test]
fn publisher_is_told_that_its_record_is_dead() {
    let (broker, mut publisher) = broker_with(json!({"attempts_max":1}));
    let mut worker = worker(&broker);
    let waiting = publisher.begin(publish("processed", json!({})));
    let message = worker.message();
    worker.nack(&message, json!({"reason":"seven is not even"}));
    let reply = publisher.reply(waiting);
    assert_eq!(
        (&reply["type"], &reply["code"], &reply["retryable"]),
        (&json!("error"), &json!("dead_lettered"), &json!(false))
    );
    assert_eq!((&reply["partition"], &reply["offset"]), (&json!(0), &json!(0)));
    let message = reply["message"].as_str().unwrap();
    assert!(message.contains("seven is not even"), "{message}");
}

#[test]
fn publisher_that_waited_long_enough_is_told_where_its_record_is() {
    let (broker, mut publisher) = broker_with(json!({}));
    for ack in ["processed", "delivered"] {
        let began = Instant::now();
        let reply = publisher.refused(publish(ack, json!({"timeout_ms":300})), "timeout");
        assert!(
            began.elapsed() >= Duration::from_millis(300),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(reply["retryable"], true);
        assert_eq!(reply["partition"], 0);
        assert!(reply["offset"].is_u64(), "{reply}");
    }
    // It is stored all the same.
    let mut late = worker(&broker);
    assert_eq!(late.messages(2)[1]["payload"], json!([6, 7]));
}

#[test]
fn delivered_is_answered_when_the_first_consumer_has_been_sent_it() {
    let (broker, mut publisher) = broker_with(json!({}));
    let waiting = publisher.begin(publish("delivered", json!({})));
    let stored = publisher.publish_one(json!({"payload":"durable"}));
    assert_eq!(stored["offset"], 1);
    assert!(publisher.has_none("published"), "there is no consumer yet");
    let mut consumer = Client::new(&broker);
    consumer.expect(
        json!({"type":"subscribe","topic":TOPIC,"from":"earliest"}),
        "subscribed",
    );
    let reply = publisher.reply(waiting);
    assert_eq!(
        (&reply["type"], &reply["offset"]),
        (&json!("published"), &json!(0))
    );
    // A group's member is a consumer like any other, live or not.
    consumer.expect(json!({"type":"unsubscribe","topic":TOPIC}), "ok");
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(2);
    publisher.expect(publish("delivered", json!({})), "published");
}
