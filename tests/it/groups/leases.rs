//! Shared groups: a record is with one worker at a time, comes again when it must, and attempts are counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, describe, joining, until_group};
use crate::support::Broker;

fn broker_with(config: Value) -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = Client::new(&broker);
    client.declare(config);
    (broker, client)
}

fn worker(broker: &Broker, more: Value) -> Client {
    let mut client = Client::new(broker);
    client.work(more);
    client
}

#[test]
fn acked_record_is_done_and_does_not_come_again() {
    let (mut broker, mut publisher) = broker_with(json!({}));
    publisher.publish(0, 0..3);
    let mut first = worker(&broker, json!({}));
    let leased = first.messages(3);
    for (number, message) in leased.iter().enumerate() {
        assert_eq!(message["payload"], number);
        assert_eq!(
            (&message["group"], &message["attempt"], &message["lease_ms"]),
            (&json!("crew"), &json!(1), &json!(30_000))
        );
    }
    assert_ne!(leased[0]["delivery"], leased[1]["delivery"]);
    first.expect(
        json!({"type":"ack","deliveries":[leased[0]["delivery"],leased[2]["delivery"]]}),
        "ok",
    );
    assert_eq!(describe(&broker)["acked"], 2);
    assert_eq!(describe(&broker)["lag"], 1);
    // Acked is acked, whatever happens.
    broker.kill();
    broker.restart();
    let mut second = worker(&broker, json!({}));
    assert_eq!(second.message()["payload"], 1);
    publisher = Client::new(&broker);
    publisher.publish(0, 3..4);
    assert_eq!(second.message()["payload"], 3, "nothing else came between");
}

#[test]
fn each_record_is_with_one_worker_and_credit_is_kept() {
    let (broker, mut publisher) = broker_with(json!({"partitions":3}));
    let mut workers: Vec<Client> = (0..4).map(|_| worker(&broker, json!({"credit":2}))).collect();
    for partition in 0..3 {
        publisher.publish(partition, 0..4);
    }
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let mut place = |message: &Value| {
        seen.push((
            message["partition"].as_u64().unwrap(),
            message["offset"].as_u64().unwrap(),
        ));
    };
    for worker in &mut workers {
        let leased = worker.messages(2);
        leased.iter().for_each(&mut place);
        assert!(worker.has_none("message"), "more is out than its credit");
        worker.ack(&leased[0]);
        worker.ack(&leased[1]);
    }
    // Whoever acked may have got the rest.
    let rest = until_group(&broker, "the last four leased", |group| {
        let out = group["members"].as_array().unwrap().iter();
        out.map(|member| member["out"].as_u64().unwrap()).sum::<u64>() == 4
    });
    for (worker, member) in workers.iter_mut().zip(rest["members"].as_array().unwrap()) {
        assert!(member["out"].as_u64().unwrap() <= 2);
        worker.catch_up();
    }
    for worker in &mut workers {
        while !worker.has_none("message") {
            let message = worker.message();
            place(&message);
            worker.ack(&message);
        }
    }
    seen.sort_unstable();
    let all: Vec<(u64, u64)> = (0..3)
        .flat_map(|partition| (0..4).map(move |offset| (partition, offset)))
        .collect();
    assert_eq!(seen, all);
    until_group(&broker, "all acked", |group| {
        group["acked"] == 12 && group["lag"] == 0
    });
}

#[test]
fn worker_with_one_credit_that_is_busy_holds_up_nobody() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut busy = worker(&broker, json!({"credit":1}));
    let mut quick = worker(&broker, json!({"credit":1}));
    publisher.publish(0, 0..10);
    let held = busy.message();
    let mut numbers = vec![held["payload"].as_u64().unwrap()];
    for _ in 0..9 {
        let message = quick.message();
        numbers.push(message["payload"].as_u64().unwrap());
        quick.ack(&message);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert!(busy.has_none("message"));
    busy.ack(&held);
    assert_eq!(describe(&broker)["acked"], 10);
}

#[test]
fn few_records_are_spread_over_many_workers() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut workers: Vec<Client> = (0..4).map(|_| worker(&broker, json!({}))).collect();
    publisher.publish(0, 0..8);
    // One worker could take them all; each must get some.
    for worker in &mut workers {
        worker.message();
    }
}

#[test]
fn lease_that_runs_out_returns_its_record_and_an_extended_one_does_not() {
    let (broker, mut publisher) = broker_with(json!({"lease_ms":400,"retry_backoff_ms":0}));
    let mut worker = worker(&broker, json!({}));
    publisher.publish(0, 0..2);
    let leased = worker.messages(2);
    assert_eq!(leased[0]["lease_ms"], 400);
    worker.expect(
        json!({"type":"extend","deliveries":[leased[0]["delivery"]],"lease_ms":60_000}),
        "ok",
    );
    let again = worker.message();
    assert_eq!(
        (&again["payload"], &again["attempt"]),
        (&leased[1]["payload"], &json!(2))
    );
    let late = worker.refused(
        json!({"type":"ack","deliveries":[leased[1]["delivery"]]}),
        "lease_expired",
    );
    assert_eq!(
        late["failed"],
        json!([{"delivery":leased[1]["delivery"],"code":"lease_expired"}])
    );
    // Its own time is over, too, but for the extension.
    worker.ack(&leased[0]);
    worker.ack(&again);
    assert_eq!(describe(&broker)["acked"], 2);
}

#[test]
fn subscription_says_how_long_its_leases_last() {
    let (broker, mut publisher) = broker_with(json!({}));
    let mut short = worker(&broker, json!({"lease_ms":300}));
    publisher.publish(0, 0..1);
    let began = Instant::now();
    let leased = short.message();
    assert_eq!(leased["lease_ms"], 300);
    let again = short.message();
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(again["attempt"], 2);
    short.ack(&again);
}

#[test]
fn attempts_are_exact_through_worker_deaths_and_a_clean_restart() {
    // A wait that nobody would see the end of: what a worker that goes had comes back at once.
    let (mut broker, mut publisher) = broker_with(json!({"attempts_max":10,"retry_backoff_ms":60_000}));
    publisher.publish(0, 0..1);
    for attempt in 1..=3 {
        let mut worker = worker(&broker, json!({}));
        assert_eq!(worker.message()["attempt"], attempt);
    }
    let mut last = worker(&broker, json!({}));
    assert_eq!(last.message()["attempt"], 4);
    let (status, _) = broker.terminate();
    assert!(status.success(), "{status}");
    broker.restart();
    let mut worker = worker(&broker, json!({}));
    let message = worker.message();
    assert_eq!(message["attempt"], 5);
    worker.ack(&message);
}

#[test]
fn record_that_was_out_at_kill_9_comes_again_and_was_not_tried_more_often_than_it_was() {
    let (mut broker, mut publisher) = broker_with(json!({}));
    publisher.publish(0, 0..20);
    let mut before = worker(&broker, json!({}));
    let leased = before.messages(20);
    for message in &leased[..10] {
        before.ack(message);
    }
    broker.kill();
    broker.restart();
    let mut after = worker(&broker, json!({}));
    let mut numbers = Vec::new();
    for message in after.messages(10) {
        numbers.push(message["payload"].as_u64().unwrap());
        assert!(
            (1..=2).contains(&message["attempt"].as_u64().unwrap()),
            "{message}"
        );
        after.ack(&message);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    assert_eq!(describe(&broker)["lag"], 0);
}

#[test]
fn exclusive_worker_refuses_a_second() {
    let (broker, _) = broker_with(json!({}));
    let mut only = worker(&broker, json!({"exclusive":true}));
    let mut second = Client::new(&broker);
    second.refused(joining("shared", json!({})), "conflict");
    only.leave();
    second.work(json!({}));
    only.refused(joining("shared", json!({"exclusive":true})), "conflict");
}

#[test]
fn leases_may_be_settled_after_their_subscription_ended() {
    let (broker, mut publisher) = broker_with(json!({}));
    publisher.publish(0, 0..2);
    let mut leaving = worker(&broker, json!({}));
    let leased = leaving.messages(2);
    leaving.leave();
    publisher.publish(0, 2..3);
    leaving.ack(&leased[0]);
    leaving.nack(&leased[1], json!({"delay_ms":0}));
    assert!(leaving.has_none("message"), "it has left");
    let mut next = worker(&broker, json!({}));
    let mut numbers: Vec<u64> = next
        .messages(2)
        .iter()
        .map(|message| message["payload"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}
