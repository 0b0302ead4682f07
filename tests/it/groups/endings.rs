//! What ends a group or moves it from outside: its topic deleted, itself deleted, a seek, a clean restart.

use serde_json::json;

use super::client::{Client, GROUP, GROUP_PATH, TOPIC, committed, committing, describe};
use crate::support::Broker;

fn broker_with_records(partitions: u64) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(json!({"partitions":partitions}));
    for partition in 0..partitions {
        client.publish(partition, 0..5);
    }
    (broker, client)
}

#[test]
fn deleted_topic_ends_its_groups_and_says_so() {
    let (broker, mut publisher) = broker_with_records(1);
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(5);
    let mut worker = Client::new(&broker);
    worker.expect(
        json!({"type":"subscribe","topic":TOPIC,"group":"workers","mode":"shared"}),
        "subscribed",
    );
    let leased = worker.messages(5);
    broker.delete("/api/v1/topics/jobs").expect(204);
    for (client, group) in [(&mut member, GROUP), (&mut worker, "workers")] {
        let told = client.of_type("unsubscribed");
        assert_eq!(
            (&told["topic"], &told["group"], &told["reason"]),
            (&json!(TOPIC), &json!(group), &json!("topic_deleted"))
        );
    }
    worker.refused(
        json!({"type":"ack","deliveries":[leased[0]["delivery"]]}),
        "unknown_delivery",
    );
    member.refused(committing(json!({"0":5})), "not_subscribed");
    // A topic of the same name has nothing of the old one's groups.
    publisher.declare(json!({}));
    publisher.publish(0, 0..2);
    let subscribed = member.join(json!({}));
    assert_eq!(subscribed["offsets"], json!({"0":0}));
    assert_eq!(member.message()["payload"], 0);
}

#[test]
fn deleted_group_begins_anew() {
    let (broker, _) = broker_with_records(1);
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(5);
    member.commit(json!({"0":5}));
    broker.delete(GROUP_PATH).expect(204);
    let told = member.of_type("unsubscribed");
    assert_eq!(
        (&told["group"], &told["reason"]),
        (&json!(GROUP), &json!("group_deleted"))
    );
    broker.get(GROUP_PATH).expect_problem(404, "not_subscribed");
    broker.delete(GROUP_PATH).expect_problem(404, "not_subscribed");
    // It may come again, also in the other mode, and knows nothing.
    let subscribed = member.work(json!({}));
    assert_eq!(subscribed["mode"], "shared");
    assert_eq!(subscribed["offsets"], json!({"0":0}));
    assert_eq!(member.messages(5)[4]["attempt"], 1);
}

#[test]
fn deleted_group_stays_deleted_after_kill_9() {
    let (mut broker, _) = broker_with_records(1);
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(5);
    member.commit(json!({"0":5}));
    broker.delete(GROUP_PATH).expect(204);
    broker.kill();
    broker.restart();
    broker.get(GROUP_PATH).expect_problem(404, "not_subscribed");
    let mut member = Client::new(&broker);
    assert_eq!(member.join(json!({}))["offsets"], json!({"0":0}));
}

#[test]
fn seek_moves_a_live_group_under_a_new_generation() {
    let (broker, mut publisher) = broker_with_records(1);
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(5);
    member.commit(json!({"0":5}));
    let generation = member.generation();
    let seek = |body: &str| broker.post(&format!("{GROUP_PATH}/offsets"), body);
    let group = seek(r#"{"from":{"offsets":{"0":3}}}"#).expect(200);
    assert_eq!(group["partitions"][0]["committed"], 3);
    assert_eq!(group["lag"], 2);
    let again = member.messages(2);
    assert_eq!((&again[0]["offset"], &again[1]["offset"]), (&json!(3), &json!(4)));
    assert!(member.generation() > generation);
    assert_eq!(committed(&broker, 0), 3);
    seek(r#"{"from":"latest"}"#).expect(200);
    publisher.publish(0, 5..6);
    assert_eq!(member.message()["offset"], 5);
    seek(r#"{"from":"earliest"}"#).expect(200);
    assert_eq!(member.message()["offset"], 0);
    seek(r#"{"from":{"offsets":{"0":7}}}"#).expect_problem(400, "offset_out_of_range");
}

#[test]
fn seek_of_a_shared_group_ends_its_leases() {
    let (broker, _) = broker_with_records(1);
    let mut worker = Client::new(&broker);
    worker.work(json!({}));
    let leased = worker.messages(5);
    worker.ack(&leased[4]);
    broker
        .post(&format!("{GROUP_PATH}/offsets"), r#"{"from":"earliest"}"#)
        .expect(200);
    let again = worker.messages(5);
    let mut offsets: Vec<u64> = again
        .iter()
        .map(|message| message["offset"].as_u64().unwrap())
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    let reply = worker.ask(json!({"type":"ack","deliveries":[leased[0]["delivery"]]}));
    assert_eq!(reply["type"], "error", "{reply}");
    for message in &again {
        worker.ack(message);
    }
    assert_eq!(describe(&broker)["lag"], 0);
}

#[test]
fn groups_are_there_after_a_clean_restart() {
    let (mut broker, _) = broker_with_records(2);
    let mut member = Client::new(&broker);
    member.join(json!({}));
    member.messages(10);
    member.commit(json!({"0":5,"1":2}));
    let (status, _) = broker.terminate();
    assert!(status.success(), "{status}");
    broker.restart();
    let listed = broker.get("/api/v1/topics/jobs/groups").expect(200);
    assert_eq!(listed["groups"][0]["group"], GROUP);
    let group = describe(&broker);
    assert_eq!(group["lag"], 3);
    assert_eq!(group["members"], json!([]));
    assert_eq!(group["partitions"][1]["next_offset"], 5);
}
