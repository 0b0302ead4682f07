//! Records that wait until a consumer comes: the first one too, and through a restart.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    groups::client::{Client, TOPIC},
    support::Broker,
};

const RECORDS: u64 = 1000;
const PARTITIONS: u64 = 3;

/// Publishes numbers, each to the partition that its remainder names, with nobody there to read them.
fn publish_all(broker: &Broker) {
    let mut publisher = Client::new(broker);
    publisher.declare(json!({"partitions":PARTITIONS}));
    // The first one alone: it makes nothing but itself.
    publisher.publish_one(json!({"partition":0,"payload":0}));
    let messages: Vec<Value> = (1..RECORDS)
        .map(|number| json!({"partition":number % PARTITIONS,"payload":number}))
        .collect();
    for chunk in messages.chunks(100) {
        publisher.expect(
            json!({"type":"publish","topic":TOPIC,"messages":chunk}),
            "published",
        );
    }
}

/// Takes every record once, in order within its partition.
fn take_all(member: &mut Client, mut settle: impl FnMut(&mut Client, &Value)) {
    let mut next: BTreeMap<u64, u64> = (0..PARTITIONS).map(|partition| (partition, partition)).collect();
    for _ in 0..RECORDS {
        let message = member.message();
        let expected = next.get_mut(&message["partition"].as_u64().unwrap()).unwrap();
        assert_eq!(message["payload"], *expected, "{message}");
        *expected += PARTITIONS;
        settle(member, &message);
    }
    assert!(next.values().all(|number| *number >= RECORDS), "{next:?}");
    assert!(member.has_none("message"), "none comes twice");
}

fn check_both_kinds(broker: &Broker) {
    let mut owner = Client::new(broker);
    let joining = |group: &str, mode: &str| json!({"type":"subscribe","topic":TOPIC,"group":group,"mode":mode,"credit":RECORDS});
    owner.expect(joining("readers", "partitioned"), "subscribed");
    take_all(&mut owner, |_, _| {});
    let mut worker = Client::new(broker);
    worker.expect(joining("workers", "shared"), "subscribed");
    take_all(&mut worker, |worker, message| {
        worker.send(&json!({"type":"ack","deliveries":[message["delivery"]]}));
    });
}

#[test]
fn records_wait_for_the_first_consumer_of_either_kind() {
    let broker = Broker::start();
    publish_all(&broker);
    check_both_kinds(&broker);
}

#[test]
fn records_wait_through_a_restart() {
    let mut broker = Broker::start();
    publish_all(&broker);
    broker.kill();
    broker.restart();
    check_both_kinds(&broker);
}
