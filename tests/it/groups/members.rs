//! Who owns which partition, as members come, go, are lost and come back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, TOPIC, committed, describe, joining, until_group};
use crate::{socket::connect_narrow, support::Broker};

/// A time that no test sees the end of.
const FOR_EVER_MS: &str = "600000";

fn broker_with(partitions: u64) -> (Broker, Client) {
    patient_broker(partitions, &[])
}

/// The same with options of `serve`.
fn patient_broker(partitions: u64, options: &[&str]) -> (Broker, Client) {
    let broker = Broker::start_with(options);
    let mut client = Client::new(&broker);
    client.declare(json!({"partitions":partitions}));
    (broker, client)
}

fn member(broker: &Broker, more: Value) -> Client {
    let mut client = Client::new(broker);
    client.join(more);
    client
}

/// All partitions that these members own, each of which must have one owner.
fn all_owned(members: &[&Client]) -> Vec<u64> {
    let mut all: Vec<u64> = members.iter().flat_map(|member| member.partitions()).collect();
    all.sort_unstable();
    all
}

#[test]
fn members_share_partitions_and_only_what_moves_is_mentioned() {
    let (broker, mut publisher) = broker_with(4);
    for partition in 0..4 {
        publisher.publish(partition, 0..3);
    }
    let mut first = Client::new(&broker);
    let subscribed = first.join(json!({}));
    assert_eq!(subscribed["group"], "crew");
    assert_eq!(subscribed["mode"], "partitioned");
    assert_eq!(first.owns(4), [0, 1, 2, 3]);
    let assigned = first.of_type("assigned");
    assert_eq!(assigned["offsets"], json!({"0":0,"1":0,"2":0,"3":0}));
    assert!(assigned["id"].is_null(), "{assigned}");
    first.messages(12);
    first.commit(json!({"0":3,"1":3,"2":3,"3":3}));

    let mut second = member(&broker, json!({}));
    let moved = second.owns(2);
    let kept = first.owns(2);
    assert_eq!(all_owned(&[&first, &second]), [0, 1, 2, 3]);
    let revoked = first.of_type("revoked");
    assert_eq!(revoked["partitions"], json!(moved));
    assert_eq!(revoked["grace_ms"], 1000);
    for partition in &moved {
        assert_eq!(
            second.began_at(*partition),
            3,
            "it goes on where the first committed"
        );
    }

    let mut third = member(&broker, json!({}));
    third.owns(1);
    first.catch_up();
    second.catch_up();
    assert_eq!(all_owned(&[&first, &second, &third]), [0, 1, 2, 3]);
    let stayed = |before: &[u64], now: &Client| {
        now.partitions()
            .iter()
            .all(|partition| before.contains(partition))
    };
    assert!(
        stayed(&kept, &first) && stayed(&moved, &second),
        "one partition moved"
    );

    let (of_first, of_second) = (first.partitions(), second.partitions());
    third.leave();
    until_group(&broker, "two members of two", |group| {
        let sizes = group["members"].as_array().unwrap().iter();
        let sizes: Vec<usize> = sizes
            .map(|member| member["partitions"].as_array().unwrap().len())
            .collect();
        sizes == [2, 2]
    });
    first.catch_up();
    second.catch_up();
    assert_eq!(all_owned(&[&first, &second]), [0, 1, 2, 3]);
    assert!(
        of_first
            .iter()
            .all(|partition| first.partitions().contains(partition))
    );
    assert!(
        of_second
            .iter()
            .all(|partition| second.partitions().contains(partition))
    );
}

#[test]
fn idle_member_is_told_so_and_takes_over() {
    let (broker, _) = broker_with(1);
    let mut owner = member(&broker, json!({}));
    owner.owns(1);
    let mut standby = member(&broker, json!({}));
    assert_eq!(standby.of_type("assigned")["offsets"], json!({}));
    assert!(owner.has_none("revoked"));
    drop(owner);
    assert_eq!(standby.owns(1), [0]);
}

#[test]
fn unnamed_member_is_replaced_at_once() {
    let (broker, _) = patient_broker(4, &["--rejoin-grace-ms", FOR_EVER_MS]);
    let mut lost = member(&broker, json!({}));
    lost.owns(4);
    let mut other = member(&broker, json!({}));
    other.owns(2);
    drop(lost);
    other.owns(4);
}

#[test]
fn named_member_that_comes_back_in_time_gets_its_partitions_back() {
    let (broker, mut publisher) = patient_broker(4, &["--rejoin-grace-ms", FOR_EVER_MS]);
    let mut named = member(&broker, json!({"member":"a"}));
    named.owns(4);
    let mut other = member(&broker, json!({}));
    let of_other = other.owns(2);
    let of_named = named.owns(2);
    let generation = named.generation();
    publisher.publish(of_named[0], 0..5);
    named.messages(5);
    named.commit(json!({of_named[0].to_string():2}));
    drop(named);
    until_group(&broker, "a member that is lost", |group| {
        let mut members = group["members"].as_array().unwrap().iter();
        members.any(|member| member["member"] == "a" && member["connected"] == false)
    });
    let mut back = member(&broker, json!({"member":"a"}));
    assert_eq!(back.owns(2), of_named);
    assert_eq!(back.began_at(of_named[0]), 2);
    assert!(back.generation() > generation);
    assert_eq!(back.message()["offset"], 2);
    assert!(other.has_none("revoked"));
    assert_eq!(other.partitions(), of_other);
}

#[test]
fn named_member_that_stays_away_is_replaced_after_its_grace() {
    const GRACE: Duration = Duration::from_millis(700);
    let (broker, _) = patient_broker(2, &["--rejoin-grace-ms", "700"]);
    let mut named = member(&broker, json!({"member":"a"}));
    named.owns(2);
    let mut other = member(&broker, json!({}));
    other.owns(1);
    let began = Instant::now();
    drop(named);
    assert_eq!(other.owns(2), [0, 1]);
    assert!(began.elapsed() >= GRACE, "{:?}", began.elapsed());
}

#[test]
fn member_whose_socket_takes_nothing_is_out() {
    let (broker, mut publisher) = patient_broker(2, &["--member-timeout-ms", "500"]);
    let mut hung = Client::on(connect_narrow(broker.address()));
    hung.join(json!({"credit":1_000_000}));
    hung.owns(2);
    let mut other = member(&broker, json!({"credit":1_000_000}));
    other.owns(1);
    hung.owns(1);
    // Far more than all buffers between the two take.
    let fill = "x".repeat(20_000);
    for _ in 0..100 {
        let messages: Vec<Value> = (0..8)
            .map(|place| json!({"partition":place % 2,"payload":fill}))
            .collect();
        publisher.expect(
            json!({"type":"publish","topic":TOPIC,"messages":messages}),
            "published",
        );
        other.messages(4);
    }
    assert_eq!(other.owns(2), [0, 1]);
    let told = hung.of_type("unsubscribed");
    assert_eq!(told["reason"], "member_timeout");
}

#[test]
fn newer_member_of_the_same_name_replaces_the_older() {
    let (broker, _) = broker_with(2);
    let mut older = member(&broker, json!({"member":"a"}));
    older.owns(2);
    let mut newer = member(&broker, json!({"member":"a"}));
    assert_eq!(newer.owns(2), [0, 1]);
    let told = older.of_type("unsubscribed");
    assert_eq!(
        (&told["group"], &told["reason"]),
        (&json!("crew"), &json!("replaced"))
    );
    older.refused(super::client::committing(json!({"0":0})), "not_subscribed");
    assert_eq!(describe(&broker)["members"].as_array().unwrap().len(), 1);
}

#[test]
fn exclusive_member_refuses_a_second() {
    let (broker, _) = broker_with(2);
    let mut only = member(&broker, json!({"exclusive":true,"member":"a"}));
    only.owns(2);
    let mut second = Client::new(&broker);
    second.refused(joining("partitioned", json!({})), "conflict");
    second.refused(joining("partitioned", json!({"exclusive":true})), "conflict");
    assert!(only.has_none("revoked"));
    let mut renewed = member(&broker, json!({"exclusive":true,"member":"a"}));
    assert_eq!(renewed.owns(2), [0, 1]);
    renewed.leave();
    let mut plain = member(&broker, json!({}));
    plain.owns(2);
    second.refused(joining("partitioned", json!({"exclusive":true})), "conflict");
}

#[test]
fn group_has_one_mode_and_a_new_one_must_name_it() {
    let (broker, _) = broker_with(1);
    let mut client = Client::new(&broker);
    let nameless = json!({"type":"subscribe","topic":TOPIC,"group":"crew"});
    client.refused(nameless.clone(), "invalid_argument");
    client.join(json!({}));
    let mut other = Client::new(&broker);
    other.refused(joining("shared", json!({})), "conflict");
    other.expect(nameless, "subscribed");
    client.refused(joining("partitioned", json!({})), "conflict");
}

#[test]
fn partitions_that_are_added_are_assigned() {
    let (broker, mut publisher) = broker_with(2);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    let mut second = member(&broker, json!({}));
    second.owns(1);
    first.owns(1);
    let raised = broker
        .request("PATCH", "/api/v1/topics/jobs")
        .json(r#"{"partitions":6}"#)
        .send();
    assert_eq!(raised.status, 200, "{}", raised.text());
    first.owns(3);
    second.owns(3);
    assert_eq!(all_owned(&[&first, &second]), [0, 1, 2, 3, 4, 5]);
    publisher.publish(5, 0..1);
    let owner = if first.partitions().contains(&5) {
        &mut first
    } else {
        &mut second
    };
    let message = owner.message();
    assert_eq!(
        (&message["partition"], &message["offset"]),
        (&json!(5), &json!(0))
    );
}

#[test]
fn released_partition_moves_before_its_grace_is_over() {
    let (broker, mut publisher) = patient_broker(2, &["--revoke-grace-ms", FOR_EVER_MS]);
    publisher.publish(0, 0..3);
    publisher.publish(1, 0..3);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    first.messages(6);
    let mut second = member(&broker, json!({}));
    let revoked = first.of_type("revoked");
    assert_eq!(revoked["grace_ms"], 600_000);
    first.expect(
        json!({"type":"release","topic":TOPIC,"group":"crew","partitions":revoked["partitions"]}),
        "ok",
    );
    let moved = second.owns(1);
    assert_eq!(json!(moved), revoked["partitions"]);
    assert_eq!(second.began_at(moved[0]), 0, "nothing was committed");
    assert_eq!(second.message()["offset"], 0);
}

#[test]
fn commit_of_all_that_is_out_ends_the_grace() {
    let (broker, mut publisher) = patient_broker(2, &["--revoke-grace-ms", FOR_EVER_MS]);
    publisher.publish(0, 0..3);
    publisher.publish(1, 0..3);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    first.messages(6);
    let mut second = member(&broker, json!({}));
    let revoked = first.of_type("revoked");
    let moving = revoked["partitions"][0].to_string();
    first.commit(json!({moving.clone():3}));
    let moved = second.owns(1);
    assert_eq!(moved[0].to_string(), moving);
    assert_eq!(second.began_at(moved[0]), 3, "all was committed");
    assert!(second.has_none("message"));
}

#[test]
fn grace_that_ends_moves_what_was_not_committed() {
    let (broker, mut publisher) = broker_with(2);
    publisher.publish(0, 0..3);
    publisher.publish(1, 0..3);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    first.messages(6);
    let mut second = member(&broker, json!({}));
    let moving = first.of_type("revoked")["partitions"][0].to_string();
    let began = Instant::now();
    // Part of it; the rest is what the next owner gets again.
    first.commit(json!({moving.clone():1}));
    let moved = second.owns(1);
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(second.began_at(moved[0]), 1);
    let again: Vec<Value> = second.messages(2);
    assert_eq!((&again[0]["offset"], &again[1]["offset"]), (&json!(1), &json!(2)));
    first.refused(super::client::committing(json!({moving:3})), "not_owner");
    assert_eq!(committed(&broker, usize::try_from(moved[0]).unwrap()), 1);
}
