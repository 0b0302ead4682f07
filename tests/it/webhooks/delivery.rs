//! What endpoints get: every record, signed, in the format that was asked for, and no more at once than they want.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    ALLOWED, TOPIC, broker_with, describe,
    endpoint::{Endpoint, Gate, Reply},
    group, publish, subscribe, until_webhook,
};
use crate::support::{Broker, until};

fn numbers(endpoint: &Endpoint) -> BTreeSet<u64> {
    let received = endpoint.received();
    received
        .iter()
        .map(|call| call.payload().as_u64().unwrap())
        .collect()
}

#[test]
fn record_comes_once_signed_and_says_where_it_is() {
    let broker = broker_with(json!({"partitions": 2}));
    let endpoint = Endpoint::good();
    let webhook = subscribe(&broker, "billing", &endpoint, json!({}));
    let record = json!({"payload": {"total": 1.5}, "key": "c42", "headers": {"kind": "a"}, "partition": 1});
    let path = format!("/api/v1/topics/{TOPIC}/messages");
    let stored = broker.post(&path, &record.to_string()).expect(200);
    let calls = endpoint.wait_for(1);
    let call = &calls[0];
    call.assert_signed(webhook["secret"].as_str().unwrap());
    assert_eq!(call.target, "/hook");
    assert_eq!(call.header("host"), endpoint.address().to_string());
    assert!(call.header("user-agent").starts_with("callboard/"), "{call:?}");
    for (name, value) in [
        ("content-type", "application/json"),
        ("callboard-topic", TOPIC),
        ("callboard-partition", "1"),
        ("callboard-offset", "0"),
        ("callboard-attempt", "1"),
        ("callboard-key", "c42"),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
    let body = call.json();
    let expected = json!({
        "topic": TOPIC, "group": "billing", "partition": 1, "offset": stored["offset"], "attempt": 1,
        "timestamp": body["timestamp"], "key": "c42", "headers": {"kind": "a"}, "payload": {"total": 1.5},
    });
    assert_eq!(body, expected);
    let shown = until_webhook(&broker, &webhook, "one success", |shown| shown["succeeded"] == 1);
    assert_eq!(
        (&shown["state"], &shown["failed"], &shown["in_flight"]),
        (&json!("active"), &json!(0), &json!(0))
    );
    assert_eq!(shown.get("secret"), None);
    let answer = &shown["answers"][0];
    assert_eq!(
        (
            &answer["status"],
            &answer["partition"],
            &answer["offset"],
            &answer["attempt"]
        ),
        (&json!(200), &json!(1), &json!(0), &json!(1))
    );
    until("nothing unfinished", || {
        Some(group(&broker, "billing")).filter(|group| group["lag"] == 0)
    });
}

#[test]
fn hung_and_failing_endpoints_delay_no_other() {
    let broker = broker_with(json!({"retry_backoff_ms": 50, "retry_backoff_ms_max": 200}));
    let bad = [
        Endpoint::start(|_| Reply::Hang),
        Endpoint::start(|_| Reply::Status(500, "")),
        Endpoint::start(|_| Reply::Status(429, "retry-after: 1\r\n")),
        Endpoint::start(|_| Reply::Status(410, "")),
        Endpoint::start(|_| Reply::Close),
    ];
    let good: Vec<Endpoint> = (0..5).map(|_| Endpoint::good()).collect();
    for (number, endpoint) in bad.iter().chain(&good).enumerate() {
        let more = json!({"concurrency": 4, "timeout_ms": 60_000});
        subscribe(&broker, &format!("group-{number}"), endpoint, more);
    }
    for endpoint in &bad {
        publish(&broker, 1000..1001);
        endpoint.wait_for(1);
    }
    publish(&broker, 0..200);
    for endpoint in &good {
        endpoint.wait_for(205);
        assert_eq!(numbers(endpoint).len(), 201);
    }
    // Nothing that went wrong elsewhere made them fail.
    for (number, _) in good.iter().enumerate() {
        let name = format!("group-{}", number + bad.len());
        until("nothing unfinished", || {
            Some(group(&broker, &name)).filter(|group| group["lag"] == 0)
        });
    }
}

#[test]
fn hung_endpoint_takes_nothing_from_the_others_of_its_group() {
    let broker = broker_with(json!({}));
    let hung = Endpoint::start(|_| Reply::Hang);
    let good = Endpoint::good();
    subscribe(&broker, "crew", &hung, json!({"timeout_ms": 300_000}));
    publish(&broker, 0..1);
    hung.wait_for(1);
    subscribe(&broker, "crew", &good, json!({}));
    publish(&broker, 1..50);
    good.wait_for(49);
    assert_eq!(numbers(&good), (1..50).collect());
    let members = group(&broker, "crew")["members"].clone();
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");
}

#[test]
fn no_more_calls_at_once_than_the_endpoint_wants() {
    let broker = broker_with(json!({}));
    let gate = Gate::default();
    let held = gate.clone();
    let endpoint = Endpoint::start(move |_| Reply::Held(200, held.clone()));
    let webhook = subscribe(&broker, "crew", &endpoint, json!({"concurrency": 3}));
    publish(&broker, 0..20);
    endpoint.wait_for(3);
    let shown = describe(&broker, &webhook);
    assert_eq!(shown["in_flight"], 3);
    let member = &group(&broker, "crew")["members"][0];
    assert_eq!(
        (&member["member"], &member["credit"], &member["out"]),
        (&webhook["id"], &json!(3), &json!(3))
    );
    gate.open();
    endpoint.wait_for(20);
    assert_eq!(endpoint.most_open(), 3);
    assert_eq!(numbers(&endpoint), (0..20).collect());
    // The connections are used again.
    assert_eq!(endpoint.connections(), 3);
}

#[test]
fn record_is_sent_in_the_format_that_was_asked_for() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let path = format!("/api/v1/topics/{TOPIC}/messages");
    let record = json!({"payload_base64": "AP8K", "key": "k", "headers": {"ce-type": "io.example.a"}});
    broker.post(&path, &record.to_string()).expect(200);
    for (number, format) in ["payload", "cloudevents", "cloudevents_binary"]
        .into_iter()
        .enumerate()
    {
        let webhook = subscribe(&broker, format, &endpoint, json!({"format": format}));
        assert_eq!(webhook["format"], format);
        let call = endpoint.wait_for(number + 1).remove(number);
        call.assert_signed(webhook["secret"].as_str().unwrap());
        match format {
            "payload" => {
                assert_eq!(call.header("content-type"), "application/octet-stream");
                assert_eq!(call.body, [0, 255, 10]);
            }
            "cloudevents" => {
                assert_eq!(call.header("content-type"), "application/cloudevents+json");
                let event = call.json();
                assert_eq!(event["specversion"], "1.0");
                assert_eq!(event["source"], format!("/topics/{TOPIC}/partitions/0"));
                assert_eq!(
                    (&event["type"], &event["subject"], &event["data_base64"]),
                    (&json!("io.example.a"), &json!("k"), &json!("AP8K"))
                );
            }
            _ => {
                assert_eq!(call.header("ce-specversion"), "1.0");
                assert_eq!(call.header("ce-type"), "io.example.a");
                assert_eq!(call.header("ce-subject"), "k");
                assert_eq!(call.body, [0, 255, 10]);
            }
        }
    }
}

#[test]
fn body_without_an_end_does_not_hold_the_endpoint_up() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::start(|_| Reply::Endless);
    let webhook = subscribe(&broker, "crew", &endpoint, json!({"timeout_ms": 60_000}));
    publish(&broker, 0..3);
    until_webhook(&broker, &webhook, "three successes", |shown| {
        shown["succeeded"] == 3
    });
    assert_eq!(numbers(&endpoint), (0..3).collect());
}

#[test]
fn publisher_hears_when_the_endpoint_has_taken_its_record() {
    let broker = Broker::start_with(ALLOWED);
    let endpoint = Endpoint::good();
    subscribe(&broker, "crew", &endpoint, json!({}));
    let path = format!("/api/v1/topics/{TOPIC}/messages?ack=processed&timeout_ms=60000");
    let published: Value = broker.post(&path, r#"{"payload":1}"#).expect(200);
    assert_eq!(published["offset"], 0);
    assert_eq!(numbers(&endpoint), BTreeSet::from([1]));
}
