//! A webhook's life: through restarts of the broker, and to its end with its topic, its group or by request.

use serde_json::json;

use super::{
    ALLOWED, TOPIC, broker_with, command, describe,
    endpoint::{Endpoint, Gate, Reply},
    group, publish, subscribe, until_webhook,
};
use crate::support::until;

#[test]
fn webhooks_survive_kill_9_and_go_on_where_they_were() {
    let mut broker = broker_with(json!({}));
    let (endpoint, other) = (Endpoint::good(), Endpoint::start(|_| Reply::Status(410, "")));
    let webhook = subscribe(
        &broker,
        "crew",
        &endpoint,
        json!({"concurrency": 4, "format": "payload"}),
    );
    let ended = subscribe(&broker, "others", &other, json!({}));
    publish(&broker, 0..10);
    until_webhook(&broker, &webhook, "ten successes", |shown| {
        shown["succeeded"] == 10
    });
    until("nothing unfinished", || {
        Some(group(&broker, "crew")).filter(|group| group["lag"] == 0)
    });
    until_webhook(&broker, &ended, "its end", |shown| shown["state"] == "disabled");
    broker.kill();
    broker.restart();
    let shown = describe(&broker, &webhook);
    for field in [
        "id",
        "topic",
        "group",
        "url",
        "format",
        "concurrency",
        "timeout_ms",
        "created_at",
    ] {
        assert_eq!(shown[field], webhook[field], "{field}");
    }
    assert_eq!(describe(&broker, &ended)["disabled_reason"], "gone");
    publish(&broker, 10..20);
    let calls = endpoint.wait_for(20);
    assert_eq!(calls.len(), 20);
    calls[19].assert_signed(webhook["secret"].as_str().unwrap());
    assert_eq!(other.received().len(), 1);
}

#[test]
fn calls_under_way_end_before_the_broker_does() {
    let mut broker = broker_with(json!({}));
    let gate = Gate::default();
    let held = gate.clone();
    let endpoint = Endpoint::start(move |_| Reply::Held(200, held.clone()));
    subscribe(&broker, "crew", &endpoint, json!({"concurrency": 2}));
    publish(&broker, 0..2);
    endpoint.wait_for(2);
    // The broker is told to end while both are open, and they are answered a moment later.
    let opener = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        gate.open();
    });
    let (status, _) = broker.terminate();
    opener.join().unwrap();
    assert!(status.success());
    broker.restart();
    until("nothing unfinished", || {
        Some(group(&broker, "crew")).filter(|group| group["lag"] == 0)
    });
    assert_eq!(endpoint.received().len(), 2);
}

#[test]
fn call_that_hangs_when_the_broker_ends_is_made_again() {
    let mut broker = broker_with(json!({}));
    let endpoint = Endpoint::start(|_| Reply::Hang);
    subscribe(&broker, "crew", &endpoint, json!({"timeout_ms": 300_000}));
    publish(&broker, 0..1);
    endpoint.wait_for(1);
    let (status, took) = broker.terminate();
    assert!(status.success());
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    endpoint.behave(|_| Reply::Status(200, ""));
    broker.restart();
    let calls = endpoint.wait_for(2);
    assert_eq!(calls[1].attempt(), 2);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
}

#[test]
fn webhook_of_a_deleted_topic_is_kept_and_makes_it_again_when_it_is_enabled() {
    let mut broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    broker.delete(&format!("/api/v1/topics/{TOPIC}")).expect(204);
    let gone = |shown: &serde_json::Value| shown["disabled_reason"] == "topic_deleted";
    let shown = until_webhook(&broker, &webhook, "its end", gone);
    assert_eq!(shown["state"], "disabled");
    broker.kill();
    broker.restart();
    assert!(gone(&describe(&broker, &webhook)));
    assert_eq!(broker.get(&format!("/api/v1/topics/{TOPIC}")).status, 404);
    command(&broker, &webhook, "enable");
    publish(&broker, 0..1);
    endpoint.wait_for(1);
    until_webhook(&broker, &webhook, "a success", |shown| shown["succeeded"] == 1);
}

#[test]
fn events_tell_what_becomes_of_a_webhook() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::start(|_| Reply::Status(410, ""));
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    publish(&broker, 0..1);
    until_webhook(&broker, &webhook, "its end", |shown| shown["state"] == "disabled");
    endpoint.behave(|_| Reply::Status(200, ""));
    command(&broker, &webhook, "enable");
    broker
        .delete(&format!("/api/v1/webhooks/{}", webhook["id"].as_str().unwrap()))
        .expect(204);
    let about = |kind: &str| {
        let mut event = json!({"event": kind, "webhook": webhook["id"], "topic": TOPIC, "group": "crew"});
        if kind != "webhook_deleted" {
            event["url"] = webhook["url"].clone();
        }
        if kind == "webhook_disabled" {
            event["reason"] = json!("gone");
        }
        event
    };
    let expected = [
        "webhook_created",
        "webhook_disabled",
        "webhook_enabled",
        "webhook_deleted",
    ]
    .map(about);
    until("four events", || {
        let page = broker
            .get("/api/v1/topics/$events/partitions/0/messages?offset=0&limit=1000")
            .expect(200);
        let events = page["messages"].as_array().unwrap().iter();
        let of_it: Vec<_> = events
            .filter(|event| event["key"] == webhook["id"])
            .map(|event| event["payload"].clone())
            .collect();
        (of_it.len() == 4).then(|| assert_eq!(of_it, expected))
    });
}

#[test]
fn webhook_of_a_deleted_group_is_disabled() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    broker
        .delete(&format!("/api/v1/topics/{TOPIC}/groups/crew"))
        .expect(204);
    until_webhook(&broker, &webhook, "its end", |shown| {
        shown["disabled_reason"] == "group_deleted"
    });
}

#[test]
fn webhook_to_this_machine_rests_while_the_broker_may_not_call_it() {
    let mut broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    broker.kill();
    broker.restart_with(&[]);
    until_webhook(&broker, &webhook, "its rest", |shown| {
        (&shown["state"], &shown["disabled_reason"]) == (&json!("disabled"), &json!("forbidden"))
    });
    let path = format!("/api/v1/webhooks/{}/enable", webhook["id"].as_str().unwrap());
    broker.post(&path, "").expect_problem(403, "forbidden");
    publish(&broker, 0..1);
    assert_eq!(endpoint.connections(), 0);
    broker.kill();
    broker.restart_with(ALLOWED);
    endpoint.wait_for(1);
    until_webhook(&broker, &webhook, "a success", |shown| {
        shown["state"] == "active" && shown["succeeded"] == 1
    });
}

#[test]
fn disabled_webhook_calls_nobody_until_it_is_enabled() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let webhook = subscribe(&broker, "crew", &endpoint, json!({}));
    let shown = command(&broker, &webhook, "disable");
    assert_eq!(
        (&shown["state"], &shown["disabled_reason"]),
        (&json!("disabled"), &json!("requested"))
    );
    until("no member", || {
        Some(group(&broker, "crew")).filter(|group| group["members"] == json!([]))
    });
    publish(&broker, 0..5);
    assert_eq!(endpoint.connections(), 0);
    command(&broker, &webhook, "enable");
    endpoint.wait_for(5);
}

#[test]
fn deleted_webhook_is_gone_and_what_it_had_goes_to_others() {
    let mut broker = broker_with(json!({}));
    let hung = Endpoint::start(|_| Reply::Hang);
    let webhook = subscribe(&broker, "crew", &hung, json!({"timeout_ms": 300_000}));
    publish(&broker, 0..1);
    hung.wait_for(1);
    let good = Endpoint::good();
    subscribe(&broker, "crew", &good, json!({}));
    let path = format!("/api/v1/webhooks/{}", webhook["id"].as_str().unwrap());
    broker.delete(&path).expect(204);
    let calls = good.wait_for(1);
    assert_eq!((calls[0].payload(), calls[0].attempt()), (json!(0), 2));
    broker.get(&path).expect_problem(404, "invalid_argument");
    broker.delete(&path).expect_problem(404, "invalid_argument");
    broker.kill();
    broker.restart();
    broker.get(&path).expect_problem(404, "invalid_argument");
    let all = broker.get("/api/v1/webhooks").expect(200);
    assert_eq!(all["webhooks"].as_array().unwrap().len(), 1);
}
