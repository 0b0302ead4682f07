//! Endpoints that do not take what they get: what is tried again and when, and what becomes of both.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    TOPIC, broker_with, command,
    endpoint::{Endpoint, Reply},
    group, publish, subscribe, until_webhook,
};
use crate::support::{Broker, until};

/// Short waits, so that what takes minutes takes a moment.
fn hasty(attempts_max: u64) -> Value {
    json!({"attempts_max": attempts_max, "retry_backoff_ms": 5, "retry_backoff_ms_max": 5})
}

/// The dead letters of a group, when there are so many.
fn dead_letters(broker: &Broker, name: &str, count: u64) -> Vec<Value> {
    until("dead letters", || {
        Some(group(broker, name)).filter(|group| group["dead_letters"] == count)
    });
    let path = format!("/api/v1/topics/{TOPIC}.{name}.dlq/partitions/0/messages");
    let page = broker.get(&path).expect(200);
    page["messages"].as_array().unwrap().clone()
}

#[test]
fn record_that_had_its_attempts_is_a_dead_letter_that_says_why() {
    for (reply, timeout_ms, reason) in [
        (Reply::Status(500, ""), 10_000, "HTTP 500"),
        (Reply::Status(404, ""), 10_000, "HTTP 404"),
        (Reply::Hang, 150, "timed out after 150 ms"),
        (Reply::Close, 10_000, "no answer: "),
        (Reply::Garbage, 10_000, "no answer: "),
    ] {
        let broker = broker_with(hasty(2));
        let answer = reply.clone();
        let endpoint = Endpoint::start(move |_| answer.clone());
        let webhook = subscribe(&broker, "crew", &endpoint, json!({"timeout_ms": timeout_ms}));
        publish(&broker, 7..8);
        let letters = dead_letters(&broker, "crew", 1);
        assert_eq!(letters[0]["payload"], 7);
        let headers = &letters[0]["headers"];
        assert_eq!(headers["callboard-attempts"], "2");
        let said = headers["callboard-reason"].as_str().unwrap();
        assert!(said.starts_with(reason), "{said} after {reply:?}");
        let calls = endpoint.received();
        let attempts: Vec<u64> = calls.iter().map(|call| call.attempt()).collect();
        assert_eq!(attempts, [1, 2], "{reply:?}");
        assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
        calls[1].assert_signed(webhook["secret"].as_str().unwrap());
        let shown = until_webhook(&broker, &webhook, "two failures", |shown| shown["failed"] == 2);
        assert_eq!(shown["consecutive_failures"], 2);
    }
}

#[test]
fn endpoint_that_nobody_listens_at_fails_with_what_the_system_says() {
    let broker = broker_with(hasty(1));
    let endpoint = Endpoint::good();
    let url = endpoint.url("/hook");
    drop(endpoint);
    let wish = json!({"topic": TOPIC, "group": "crew", "url": url}).to_string();
    let webhook = broker.post("/api/v1/webhooks", &wish).expect(201);
    publish(&broker, 0..1);
    let letters = dead_letters(&broker, "crew", 1);
    let reason = letters[0]["headers"]["callboard-reason"].as_str().unwrap();
    assert!(reason.starts_with("could not connect: "), "{reason}");
    let shown = until_webhook(&broker, &webhook, "a failure", |shown| shown["failed"] == 1);
    assert_eq!(shown["answers"][0]["error"], reason);
    assert_eq!(shown["answers"][0].get("status"), None);
}

#[test]
fn redirect_is_not_followed() {
    let broker = broker_with(hasty(1));
    let elsewhere = Endpoint::good();
    let location: &'static str = format!("location: {}\r\n", elsewhere.url("/")).leak();
    let endpoint = Endpoint::start(move |_| Reply::Status(307, location));
    subscribe(&broker, "crew", &endpoint, json!({}));
    publish(&broker, 0..1);
    let letters = dead_letters(&broker, "crew", 1);
    let reason = &letters[0]["headers"]["callboard-reason"];
    assert_eq!(*reason, "HTTP 307; redirects are not followed");
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn endpoint_that_asks_for_a_pause_gets_it_for_all_its_records() {
    let broker = broker_with(json!({"retry_backoff_ms": 1}));
    let endpoint = Endpoint::start(|call| match call.attempt() {
        1 if call.payload() == 0 => Reply::Status(429, "retry-after: 2\r\n"),
        _ => Reply::Status(204, ""),
    });
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    publish(&broker, 0..3);
    endpoint.wait_for(1);
    let shown = until_webhook(&broker, &webhook, "the pause", |shown| shown["state"] == "paused");
    assert!(shown["retry_at"].is_string(), "{shown}");
    let calls = endpoint.wait_for(4);
    for later in &calls[1..] {
        let waited = later.at.duration_since(calls[0].at);
        assert!(waited >= Duration::from_millis(1_990), "{waited:?}");
    }
    let shown = until_webhook(&broker, &webhook, "three successes", |shown| {
        shown["succeeded"] == 3
    });
    assert_eq!(
        (
            &shown["state"],
            &shown["consecutive_failures"],
            shown.get("retry_at")
        ),
        (&json!("active"), &json!(0), None)
    );
}

#[test]
fn endpoint_that_is_gone_is_called_once_and_its_record_goes_to_others() {
    let broker = broker_with(json!({}));
    let gone = Endpoint::start(|_| Reply::Status(410, ""));
    let webhook = subscribe(&broker, "crew", &gone, json!({}));
    publish(&broker, 0..3);
    let shown = until_webhook(&broker, &webhook, "its end", |shown| shown["state"] == "disabled");
    assert_eq!(shown["disabled_reason"], "gone");
    assert!(shown["disabled_at"].is_string(), "{shown}");
    let good = Endpoint::good();
    subscribe(&broker, "crew", &good, json!({}));
    good.wait_for(3);
    assert_eq!(gone.received().len(), 1);
    assert_eq!(group(&broker, "crew")["members"].as_array().unwrap().len(), 1);
}

#[test]
fn endpoint_that_keeps_failing_is_disabled_and_shown_and_can_be_enabled_again() {
    let broker = broker_with(hasty(1000));
    let endpoint = Endpoint::start(|_| Reply::Status(503, ""));
    let webhook = subscribe(&broker, "crew", &endpoint, json!({"concurrency": 5}));
    publish(&broker, 0..40);
    let shown = until_webhook(&broker, &webhook, "its end", |shown| shown["state"] == "disabled");
    assert_eq!(
        (&shown["disabled_reason"], &shown["consecutive_failures"]),
        (&json!("failing"), &json!(20))
    );
    assert_eq!(shown["answers"].as_array().unwrap().len(), 20);
    let calls = endpoint.received().len();
    // Those that failed together with the third one, and then one at a time.
    assert!((20..=24).contains(&calls), "{calls}");
    until("no member", || {
        Some(group(&broker, "crew")).filter(|group| group["members"] == json!([]))
    });
    let metrics = broker.get("/metrics");
    for series in [
        "callboard_webhooks{state=\"disabled\"} 1.0".to_owned(),
        format!(
            "callboard_webhook_calls_total{{webhook={},topic=\"{TOPIC}\",group=\"crew\",outcome=\"failure\"}} {calls}",
            webhook["id"]
        ),
    ] {
        assert!(metrics.text().contains(&series), "{series} in {}", metrics.text());
    }
    endpoint.behave(|_| Reply::Status(200, ""));
    let shown = command(&broker, &webhook, "enable");
    assert_eq!(
        (
            &shown["state"],
            shown.get("disabled_reason"),
            &shown["consecutive_failures"]
        ),
        (&json!("active"), None, &json!(0))
    );
    let shown = until_webhook(&broker, &webhook, "all of them", |shown| shown["succeeded"] == 40);
    assert_eq!(shown["consecutive_failures"], 0);
    until("nothing unfinished", || {
        Some(group(&broker, "crew")).filter(|group| group["lag"] == 0 && group["dead_letters"] == 0)
    });
}

#[test]
fn failing_endpoint_is_paused_and_tried_one_call_at_a_time() {
    let broker =
        broker_with(json!({"attempts_max": 100, "retry_backoff_ms": 300, "retry_backoff_ms_max": 300}));
    let endpoint = Endpoint::start(|_| Reply::Status(500, ""));
    let webhook = subscribe(&broker, "crew", &endpoint, json!({"concurrency": 10}));
    publish(&broker, 0..100);
    let calls = endpoint.wait_for(14);
    // At most ten were under way when the third one failed; then each waits for the one before.
    for pair in calls[11..].windows(2) {
        let waited = pair[1].at.duration_since(pair[0].at);
        assert!(waited >= Duration::from_millis(290), "{waited:?}");
    }
    let shown = until_webhook(&broker, &webhook, "a pause", |shown| shown["state"] == "paused");
    assert!(shown["consecutive_failures"].as_u64().unwrap() >= 3, "{shown}");
    endpoint.behave(|_| Reply::Status(200, ""));
    until_webhook(&broker, &webhook, "all of them", |shown| {
        shown["succeeded"] == 100 && shown["state"] == "active"
    });
}
