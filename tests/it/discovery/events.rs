//! `$events`: what is said, once, to whoever reads it, also later.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::Watcher;
use crate::{
    groups::client::Client,
    support::{Broker, until},
};

const EVENTS: &str = "/api/v1/topics/$events";

/// All events that are kept, oldest first.
fn kept(broker: &Broker) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let path = format!("{EVENTS}/partitions/0/messages?offset={}&limit=1000", all.len());
        let page = broker.get(&path).expect(200);
        let messages = page["messages"].as_array().unwrap();
        if messages.is_empty() {
            return all;
        }
        for message in messages {
            assert_eq!(message["offset"], all.len(), "nothing is missing");
            all.push(message.clone());
        }
    }
}

fn of_type<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    let payloads = events.iter().map(|message| &message["payload"]);
    payloads.filter(move |payload| payload["event"] == name)
}

#[test]
fn late_comer_learns_every_topic_once() {
    let broker = Broker::start();
    for number in 0..40 {
        let path = format!("/api/v1/topics/made.{number}/messages");
        broker.post(&path, r#"[{"payload":1},{"payload":2}]"#).expect(200);
    }
    let mut client = Client::new(&broker);
    client.declare(json!({"partitions":3}));
    client.declare(json!({"partitions":3}));
    broker.delete("/api/v1/topics/made.7").expect(204);
    client.expect(json!({"type":"subscribe","topic":"made.7"}), "subscribed");
    broker
        .post("/api/v1/topics", r#"{"name":"last","durability":"memory"}"#)
        .expect(201);

    let mut late = Watcher::new(&broker);
    let mut created: Vec<String> = Vec::new();
    loop {
        let event = late.until("topic_created", &json!({}));
        created.push(event["topic"].as_str().unwrap().to_owned());
        if event["topic"] == "last" {
            break;
        }
    }
    let distinct: HashSet<_> = created.iter().collect();
    assert_eq!(distinct.len(), 42, "{created:?}");
    assert_eq!(
        created.len(),
        43,
        "only the one that was made again is there twice"
    );
    let all = kept(&broker);
    let deleted: Vec<_> = of_type(&all, "topic_deleted").collect();
    assert_eq!(deleted, [&json!({"event":"topic_deleted","topic":"made.7"})]);
    for message in &all {
        let payload = &message["payload"];
        if payload["event"] == "topic_created" {
            assert_eq!(message["key"], payload["topic"], "{message}");
        }
    }
}

#[test]
fn killed_client_is_missed_by_its_session_its_group_and_its_partitions() {
    let broker = Broker::start();
    let mut watcher = Watcher::new(&broker);
    let mut first = Client::new(&broker);
    first.declare(json!({"partitions":4}));
    first.join(json!({"member":"first"}));
    first.owns(4);
    let mut second = Client::new(&broker);
    second.join(json!({}));
    second.owns(2);

    let group = json!({"topic":"jobs","group":"crew"});
    let joined = watcher.until("member_joined", &json!({"member":"first"}));
    assert_eq!(joined["topic"], "jobs");
    assert_eq!(joined["group"], "crew");
    let doomed = watcher.until("member_joined", &group);
    let session = doomed["session"].clone();
    assert_eq!(
        doomed["member"],
        format!("{}/0", session.as_str().unwrap()),
        "named as the group's description names it"
    );
    let shared = watcher.until("group_rebalanced", &group);

    drop(second);
    first.owns(4);
    watcher.until("session_left", &json!({"session":session}));
    // Told by another thread, so in no order with the one above.
    let mut watcher = Watcher::new(&broker);
    let left = watcher.until("member_left", &group);
    assert_eq!(left["session"], session);
    assert_eq!(left["member"], doomed["member"]);
    let alone = watcher.until("group_rebalanced", &group);
    assert!(alone["generation"].as_u64() > shared["generation"].as_u64());
    let all = kept(&broker);
    assert_eq!(of_type(&all, "member_joined").count(), 2);
    assert_eq!(of_type(&all, "member_left").count(), 1);
}

#[test]
fn lost_named_member_is_one_until_its_grace_has_ended() {
    let broker = Broker::start_with(&["--rejoin-grace-ms", "300"]);
    let mut client = Client::new(&broker);
    client.declare(json!({}));
    let mut watcher = Watcher::new(&broker);
    let mut member = Client::new(&broker);
    member.join(json!({"member":"only"}));
    member.owns(1);
    let joined = watcher.until("member_joined", &json!({"member":"only"}));
    drop(member);
    let session = json!({"session":joined["session"]});
    watcher.until("session_left", &session);
    watcher.until("member_left", &session);
}

#[test]
fn group_that_is_deleted_has_no_members() {
    let broker = Broker::start();
    let mut watcher = Watcher::new(&broker);
    let mut worker = Client::new(&broker);
    worker.declare(json!({}));
    worker.work(json!({}));
    watcher.until("member_joined", &json!({"group":"crew"}));
    broker.delete("/api/v1/topics/jobs/groups/crew").expect(204);
    watcher.until("member_left", &json!({"group":"crew","topic":"jobs"}));
}

#[test]
fn session_is_told_with_address_and_name() {
    let broker = Broker::start();
    let sessions = || broker.get("/api/v1/sessions").expect(200)["sessions"].clone();
    let mut watcher = Watcher::new(&broker);
    let shown = sessions()[0].clone();
    let joined = watcher.until("session_joined", &json!({"session":shown["id"]}));
    assert_eq!(joined["remote"], shown["remote"]);
    assert_eq!(joined["client"], shown["client"]);
}

#[test]
fn events_outlive_the_broker() {
    let mut broker = Broker::start();
    broker
        .post("/api/v1/topics/orders/messages", r#"{"payload":1}"#)
        .expect(200);
    let before = until("the event to be stored", || {
        let all = kept(&broker);
        let is_there = of_type(&all, "topic_created").count() == 1;
        is_there.then_some(all)
    });
    broker.kill();
    broker.restart();
    let after = until("the start to be told", || {
        let all = kept(&broker);
        (of_type(&all, "broker_started").count() == 2).then_some(all)
    });
    assert_eq!(after[..before.len()], before);
    let restarted = &after[before.len()..];
    let starts: Vec<_> = of_type(restarted, "broker_started").collect();
    assert_eq!(starts.len(), 1, "{restarted:?}");
    assert_eq!(of_type(restarted, "topic_created").count(), 0, "it was there");
    let mut client = Client::new(&broker);
    client.declare(json!({}));
    let mut watcher = Watcher::new(&broker);
    watcher.until("topic_created", &json!({"topic":"orders"}));
    watcher.until("broker_started", &json!({}));
    watcher.until("topic_created", &json!({"topic":"jobs","temporary":false}));
}

#[test]
fn events_are_the_broker_s_own_to_write_change_and_delete() {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    for frame in [
        json!({"type":"publish","topic":"$events","payload":1}),
        json!({"type":"declare","topic":"$events"}),
        json!({"type":"declare","topic":"$mine"}),
        json!({"type":"subscribe","topic":"$mine"}),
    ] {
        client.refused(frame, "forbidden");
    }
    broker
        .post(&format!("{EVENTS}/messages"), r#"{"payload":1}"#)
        .expect_problem(403, "forbidden");
    let patch = broker.request("PATCH", EVENTS).json(r#"{"retention_bytes":1}"#);
    patch.send().expect_problem(403, "forbidden");
    broker.delete(EVENTS).expect_problem(403, "forbidden");
    broker
        .post("/api/v1/topics", r#"{"name":"$events"}"#)
        .expect_problem(403, "forbidden");
    assert_eq!(broker.get(EVENTS).expect(200)["config"]["durability"], "os");
}

#[test]
fn pattern_of_everything_leaves_events_out() {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    let all = client.expect(
        json!({"type":"subscribe","topic":"#","from":"earliest"}),
        "subscribed",
    );
    assert_eq!(all["topics"], json!({}));
    let own = client.expect(
        json!({"type":"subscribe","topic":"$#","from":"earliest"}),
        "subscribed",
    );
    assert!(own["topics"]["$events"].is_object(), "{own}");
    assert_eq!(client.message()["topic"], "$events");
}

#[test]
fn dead_letters_of_a_group_on_events_can_be_read() {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.expect(
        json!({"type":"subscribe","topic":"$events","group":"audit","mode":"shared","credit":1}),
        "subscribed",
    );
    let first = client.message();
    client.expect(
        json!({"type":"nack","deliveries":[first["delivery"]],"dead_letter":true}),
        "ok",
    );
    let path = "/api/v1/topics/events.audit.dlq/partitions/0/messages?offset=0";
    until("the dead letter", || {
        let answer = broker.get(path);
        let letters = (answer.status == 200).then(|| answer.json()["messages"].clone())?;
        let letter = letters.get(0)?.clone();
        assert_eq!(letter["payload"], first["payload"]);
        Some(letter)
    });
}

#[test]
fn memory_broker_tells_as_well() {
    let broker = Broker::start_with(&["--store", "memory"]);
    let mut client = Client::new(&broker);
    client.declare(json!({}));
    let mut watcher = Watcher::new(&broker);
    watcher.until("topic_created", &json!({"topic":"jobs"}));
    assert_eq!(broker.get(EVENTS).expect(200)["config"]["durability"], "memory");
}
