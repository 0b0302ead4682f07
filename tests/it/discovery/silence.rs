//! Sources that fall silent and come back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Watcher;
use crate::{
    groups::client::{Client, TOPIC},
    support::Broker,
};

const PATH: &str = "/api/v1/topics/jobs";
const SILENT_MS: u64 = 600;

fn source(broker: &Broker, config: Value) -> Client {
    let mut client = Client::new(broker);
    client.declare(config);
    client
}

fn silent(watcher: &mut Watcher) -> Value {
    watcher.until("source_silent", &json!({"topic":TOPIC}))
}

#[test]
fn source_is_said_to_be_silent_once_and_to_be_back_at_once() {
    let broker = Broker::start();
    let mut watcher = Watcher::new(&broker);
    // Not on a disk: one that stands still for a while makes a silence of its own.
    let config = json!({"silent_after_ms":SILENT_MS,"partitions":3,"durability":"memory"});
    let mut source = source(&broker, config);
    let first = silent(&mut watcher);
    assert_eq!(first["last_timestamp"], Value::Null, "{first}");
    assert!(first["silent_ms"].as_u64().unwrap() >= SILENT_MS, "{first}");

    // Its partitions speak in turn, each less often than the topic may be silent.
    let began = Instant::now();
    let mut partition = 0;
    let (mut spoke_at, mut longest_pause) = (began, Duration::ZERO);
    while began.elapsed().as_millis() < 2000 {
        source.publish(partition % 3, 0..1);
        partition += 1;
        longest_pause = longest_pause.max(spoke_at.elapsed());
        spoke_at = Instant::now();
        std::thread::sleep(Duration::from_millis(SILENT_MS / 6));
    }
    let message = broker
        .get(&format!(
            "{PATH}/partitions/{}/messages?last=1",
            (partition - 1) % 3
        ))
        .expect(200);
    let last = message["messages"][0]["timestamp"].clone();
    watcher.until("source_back", &json!({"topic":TOPIC}));
    let mut second = silent(&mut watcher);
    while second["last_timestamp"] != last {
        // Unless this machine itself stood still for so long, and then it was.
        assert!(
            longest_pause.as_millis() >= u128::from(SILENT_MS / 2),
            "it was not silent between the two: {second}"
        );
        second = silent(&mut watcher);
    }

    // What is never stored is heard as well.
    source.publish_one(json!({"payload":1,"ttl_ms":0}));
    watcher.until("source_back", &json!({"topic":TOPIC}));
    let third = silent(&mut watcher);
    assert!(third["last_timestamp"].as_u64() > last.as_u64(), "{third}");
}

#[test]
fn topic_is_listened_to_from_when_it_is_asked_for() {
    let broker = Broker::start();
    let mut watcher = Watcher::new(&broker);
    let mut source = source(&broker, json!({}));
    source.publish(0, 0..1);
    let patch = |json: &str| broker.request("PATCH", PATH).json(json).send().expect(200);
    let config = patch(r#"{"silent_after_ms":200}"#)["config"].clone();
    assert_eq!(config["silent_after_ms"], 200);
    assert!(silent(&mut watcher)["last_timestamp"].is_u64());
    // A partition that comes while the topic is silent is heard.
    patch(r#"{"partitions":2}"#);
    source.publish(1, 0..1);
    watcher.until("source_back", &json!({"topic":TOPIC}));
    silent(&mut watcher);
    patch(r#"{"silent_after_ms":null}"#);
    source.publish(0, 1..2);
    patch(r#"{"silent_after_ms":100}"#);
    let again = watcher.client.message()["payload"].clone();
    assert_eq!(
        again["event"], "source_silent",
        "nothing was told meanwhile: {again}"
    );
    broker
        .request("PATCH", PATH)
        .json(r#"{"silent_after_ms":99}"#)
        .send()
        .expect_problem(400, "invalid_argument");
}

#[test]
fn silence_counts_from_the_restart() {
    let mut broker = Broker::start();
    let mut source = source(&broker, json!({"silent_after_ms":SILENT_MS}));
    source.publish(0, 0..1);
    let before = silent(&mut Watcher::new(&broker));
    let last = before["last_timestamp"].as_u64().unwrap();
    broker.kill();
    broker.restart();
    let mut watcher = Watcher::new(&broker);
    watcher.until("broker_started", &json!({}));
    watcher.until("broker_started", &json!({}));
    let told = silent(&mut watcher);
    assert_eq!(told["last_timestamp"], last);
    let age_ms = told["at"].as_u64().unwrap() - last;
    assert!(
        told["silent_ms"].as_u64().unwrap() + SILENT_MS <= age_ms,
        "the record was older than that when the broker ended: {told}"
    );
}
