//! What a commit changes, what it refuses, what it survives; and what a member may have out.

use serde_json::{Value, json};

use super::client::{Client, GROUP, TOPIC, committed, committing, describe, until_group, with};
use crate::{socket::connect_narrow, support::Broker};

fn broker_with(config: Value) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(config);
    (broker, client)
}

fn member(broker: &Broker, more: Value) -> Client {
    let mut client = Client::new(broker);
    client.join(more);
    client
}

fn offsets(messages: &[Value]) -> Vec<u64> {
    let offset = |message: &Value| message["offset"].as_u64().unwrap();
    messages.iter().map(offset).collect()
}

#[test]
fn message_of_a_group_names_it_and_keeps_the_order_of_its_partition() {
    let (broker, mut publisher) = broker_with(json!({"partitions":2}));
    publisher.publish(0, 0..100);
    let mut member = member(&broker, json!({}));
    publisher.publish(0, 100..150);
    let messages = member.messages(150);
    assert_eq!(offsets(&messages), (0..150).collect::<Vec<_>>());
    assert_eq!(messages[0]["group"], GROUP);
    assert!(messages[0]["delivery"].is_null(), "{}", messages[0]);
}

#[test]
fn commit_of_what_was_not_delivered_is_refused_and_an_older_one_changes_nothing() {
    let (broker, mut publisher) = broker_with(json!({}));
    publisher.publish(0, 0..10);
    let mut member = member(&broker, json!({"credit":5}));
    member.messages(5);
    member.refused(committing(json!({"0":6})), "offset_out_of_range");
    assert_eq!(committed(&broker, 0), 0);
    member.commit(json!({"0":4}));
    member.commit(json!({"0":2}));
    assert_eq!(committed(&broker, 0), 4);
}

#[test]
fn commit_for_a_partition_of_somebody_else_changes_nothing_at_all() {
    let (broker, mut publisher) = broker_with(json!({"partitions":2}));
    publisher.publish(0, 0..3);
    publisher.publish(1, 0..3);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    first.messages(6);
    first.commit(json!({"0":1,"1":1}));
    let mut second = member(&broker, json!({}));
    let moved = second.owns(1)[0];
    let kept = first.owns(1)[0];
    let both = json!({kept.to_string():3,moved.to_string():3});
    first.refused(committing(both), "not_owner");
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (1, 1));
    publisher.refused(committing(json!({"0":1})), "not_subscribed");
}

#[test]
fn commit_of_a_generation_before_the_partition_was_lost_is_stale() {
    let (broker, mut publisher) = broker_with(json!({"partitions":2}));
    publisher.publish(0, 0..5);
    publisher.publish(1, 0..5);
    let mut first = member(&broker, json!({}));
    first.owns(2);
    first.messages(10);
    first.commit(json!({"0":2,"1":2}));
    let old = first.generation();
    let mut second = member(&broker, json!({}));
    let moved = second.owns(1)[0];
    let kept = first.owns(1)[0];
    second.leave();
    first.owns(2);
    let stale = json!({moved.to_string():4});
    first.refused(
        with(committing(stale.clone()), json!({"generation":old})),
        "stale_generation",
    );
    assert_eq!(committed(&broker, usize::try_from(moved).unwrap()), 2);
    // The partition that stayed is still that of the old generation.
    let of_kept = json!({kept.to_string():4});
    first.expect(with(committing(of_kept), json!({"generation":old})), "ok");
    // It has what was out once more, and commits that.
    let again: Vec<Value> = (0..3).map(|_| first.message()).collect();
    assert_eq!(offsets(&again), [2, 3, 4]);
    let now = first.generation();
    first.expect(with(committing(stale), json!({"generation":now})), "ok");
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (4, 4));
}

#[test]
fn committed_offsets_survive_kill_9() {
    for durability in ["fsync", "os"] {
        let (mut broker, mut publisher) = broker_with(json!({"partitions":2,"durability":durability}));
        publisher.publish(0, 0..10);
        publisher.publish(1, 0..10);
        let mut before = member(&broker, json!({}));
        before.owns(2);
        before.messages(20);
        before.commit(json!({"0":7}));
        before.commit(json!({"1":4}));
        let generation = before.generation();
        broker.kill();
        broker.restart();
        assert_eq!(describe(&broker)["mode"], "partitioned");
        let mut after = Client::new(&broker);
        let subscribed = after.join(json!({"from":"latest"}));
        assert_eq!(subscribed["offsets"], json!({"0":7,"1":4}), "{durability}");
        after.owns(2);
        assert_eq!((after.began_at(0), after.began_at(1)), (7, 4), "{durability}");
        assert!(after.generation() > generation);
        let mut rest: Vec<(u64, u64)> = after
            .messages(9)
            .iter()
            .map(|message| {
                (
                    message["partition"].as_u64().unwrap(),
                    message["offset"].as_u64().unwrap(),
                )
            })
            .collect();
        rest.sort_unstable();
        let expected = (7..10).map(|offset| (0, offset));
        let expected: Vec<(u64, u64)> = expected.chain((4..10).map(|offset| (1, offset))).collect();
        assert_eq!(rest, expected);
    }
}

#[test]
fn credit_bounds_what_is_out_and_commits_free_it() {
    let (broker, mut publisher) = broker_with(json!({"partitions":2}));
    publisher.publish(0, 0..10);
    publisher.publish(1, 0..10);
    let mut member = member(&broker, json!({"credit":3}));
    let first = member.messages(3);
    assert!(member.has_none("message"), "more is out than its credit");
    // Each partition's position behind what came of it.
    let mut next = [0, 0];
    let mut note = |messages: &[Value]| {
        for message in messages {
            let partition = usize::try_from(message["partition"].as_u64().unwrap()).unwrap();
            assert_eq!(message["offset"], next[partition]);
            next[partition] += 1;
        }
        json!({"0":next[0],"1":next[1]})
    };
    member.commit(note(&first));
    let second = member.messages(3);
    member.send(&json!({"type":"credit","topic":TOPIC,"group":GROUP,"add":2}));
    let third = member.messages(2);
    until_group(&broker, "the new limit", |group| {
        group["members"][0]["credit"] == 5
    });
    assert!(member.has_none("message"));
    note(&second);
    member.commit(note(&third));
    // The rest is more than one credit, so it takes one more commit.
    let fourth = member.messages(5);
    member.commit(note(&fourth));
    let last = member.messages(5);
    note(&last);
    assert!(member.has_none("message"), "the last two wait for a commit");
}

#[test]
fn revoked_partition_frees_the_credit_that_it_used() {
    let (broker, mut publisher) = broker_with(json!({"partitions":2}));
    publisher.publish(0, 0..4);
    publisher.publish(1, 0..4);
    let mut first = member(&broker, json!({"credit":6}));
    first.owns(2);
    let mut had = first.messages(6);
    assert!(first.has_none("message"));
    // Of either partition at least two are out, so the one that stays needs what the other one used.
    let mut second = member(&broker, json!({}));
    let moved = second.owns(1)[0];
    while had.iter().filter(|message| message["partition"] != moved).count() < 4 {
        had.push(first.message());
    }
    assert_eq!(offsets(&second.messages(4)), [0, 1, 2, 3]);
}

#[test]
fn member_with_a_full_outbox_loses_nothing() {
    const RECORDS: u64 = 10_000;
    const BATCH: u64 = 100;
    let broker = Broker::start_with(&["--member-timeout-ms", "600000"]);
    let mut publisher = Client::new(&broker);
    publisher.declare(json!({"durability":"os"}));
    let mut slow = Client::on(connect_narrow(broker.address()));
    slow.join(json!({"credit":RECORDS}));
    slow.owns(1);
    let fill = "x".repeat(2_000);
    for batch in 0..RECORDS / BATCH {
        let messages: Vec<Value> = (0..BATCH)
            .map(|index| json!({"payload":{"n":batch * BATCH + index,"fill":fill}}))
            .collect();
        publisher.expect(
            json!({"type":"publish","topic":TOPIC,"messages":messages}),
            "published",
        );
    }
    for number in 0..RECORDS {
        let message = slow.message();
        assert_eq!(message["offset"], number);
        assert_eq!(message["payload"]["n"], number);
    }
    slow.commit(json!({"0":RECORDS}));
    assert_eq!(describe(&broker)["lag"], 0);
}
