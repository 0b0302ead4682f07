//! Webhooks against real HTTP endpoints: some do what they should, and some do the worst that they can.

mod delivery;
mod endpoint;
mod failing;
mod life;
mod rest;
mod tls;

use serde_json::{Value, json};

use self::endpoint::Endpoint;
use crate::{
    groups::client::with,
    support::{Broker, until},
};

/// The topic of every test; each has a broker of its own.
const TOPIC: &str = "orders";
/// A broker that may call this machine.
const ALLOWED: &[&str] = &["--webhook-allow-private"];

/// A broker that may call the endpoints of a test, with a topic of this configuration.
fn broker_with(config: Value) -> Broker {
    let broker = Broker::start_with(ALLOWED);
    let topic = with(json!({"name": TOPIC}), config);
    broker.post("/api/v1/topics", &topic.to_string()).expect(201);
    broker
}

/// Makes a webhook of a group, with more fields; what the broker answers.
fn subscribe(broker: &Broker, group: &str, endpoint: &Endpoint, more: Value) -> Value {
    let wish = json!({"topic": TOPIC, "group": group, "url": endpoint.url("/hook")});
    broker
        .post("/api/v1/webhooks", &with(wish, more).to_string())
        .expect(201)
}

/// Publishes numbers.
fn publish(broker: &Broker, numbers: std::ops::Range<u64>) {
    let records: Vec<Value> = numbers.map(|number| json!({"payload": number})).collect();
    let path = format!("/api/v1/topics/{TOPIC}/messages");
    let stored = broker.post(&path, &Value::from(records).to_string()).expect(200);
    assert!(stored["results"].is_array(), "{stored}");
}

/// What the broker says of a webhook.
fn describe(broker: &Broker, webhook: &Value) -> Value {
    let id = webhook["id"].as_str().unwrap();
    broker.get(&format!("/api/v1/webhooks/{id}")).expect(200)
}

/// Waits until what it says is as it must be.
fn until_webhook(broker: &Broker, webhook: &Value, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(describe(broker, webhook)).filter(&holds))
}

/// Does something to a webhook.
fn command(broker: &Broker, webhook: &Value, verb: &str) -> Value {
    let id = webhook["id"].as_str().unwrap();
    broker
        .post(&format!("/api/v1/webhooks/{id}/{verb}"), "")
        .expect(200)
}

/// What the broker says of a group.
fn group(broker: &Broker, name: &str) -> Value {
    let path = format!("/api/v1/topics/{TOPIC}/groups/{name}");
    broker.get(&path).expect(200)
}
