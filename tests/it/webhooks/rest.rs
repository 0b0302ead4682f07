//! What REST takes and refuses.

use serde_json::{Value, json};

use super::{ALLOWED, TOPIC, broker_with, endpoint::Endpoint, publish, subscribe, until_webhook};
use crate::{groups::client::with, support::Broker};

fn wish(more: Value) -> String {
    let wish = json!({"topic": TOPIC, "group": "crew", "url": "https://hooks.example/a"});
    with(wish, more).to_string()
}

#[test]
fn webhook_that_is_made_says_all_that_it_is_and_its_secret_once() {
    let broker = Broker::start_with(ALLOWED);
    let answer = broker.post("/api/v1/webhooks", &wish(json!({})));
    let location = answer.header("location").unwrap().to_owned();
    let made = answer.expect(201);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let shown = broker.get(&location).expect(200);
    let expected = json!({
        "id": made["id"], "topic": TOPIC, "group": "crew", "url": "https://hooks.example/a",
        "format": "message", "concurrency": 1, "timeout_ms": 10_000, "state": "active",
        "created_at": made["created_at"], "succeeded": 0, "failed": 0, "consecutive_failures": 0,
        "in_flight": 0, "answers": [],
    });
    assert_eq!(shown, expected);
    let all = broker.get("/api/v1/webhooks").expect(200);
    assert_eq!(all, json!({"webhooks": [shown]}));
    // Its topic and its group are there.
    let group = broker
        .get(&format!("/api/v1/topics/{TOPIC}/groups/crew"))
        .expect(200);
    assert_eq!(group["mode"], "shared");
}

#[test]
fn given_secret_is_the_one_that_calls_are_signed_with() {
    let broker = broker_with(json!({}));
    let endpoint = Endpoint::good();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let webhook = subscribe(&broker, "crew", &endpoint, json!({"secret": secret}));
    assert_eq!(webhook["secret"], secret);
    publish(&broker, 0..1);
    endpoint.wait_for(1)[0].assert_signed(secret);
    until_webhook(&broker, &webhook, "a success", |shown| shown["succeeded"] == 1);
}

#[test]
fn what_is_wrong_with_a_webhook_is_said() {
    let broker = Broker::start_with(ALLOWED);
    for (more, word) in [
        (json!({"topic": ""}), "topic"),
        (json!({"topic": "a b"}), "topic"),
        (json!({"group": "a.b"}), "group"),
        (json!({"url": "hooks.example"}), "url"),
        (json!({"url": "ftp://hooks.example/"}), "http"),
        (json!({"url": "https://me:too@hooks.example/"}), "password"),
        (json!({"secret": "whsec_short"}), "whsec_"),
        (json!({"concurrency": 0}), "concurrency"),
        (json!({"concurrency": 101}), "concurrency"),
        (json!({"timeout_ms": 99}), "timeout_ms"),
        (json!({"timeout_ms": 300_001}), "timeout_ms"),
        (json!({"format": "xml"}), "cloudevents"),
        (json!({"retries": 3}), "retries"),
    ] {
        let problem = broker
            .post("/api/v1/webhooks", &wish(more))
            .expect_problem(400, "invalid_argument");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{detail}");
    }
    broker
        .post("/api/v1/webhooks", "[]")
        .expect_problem(400, "bad_frame");
    assert_eq!(
        broker.get("/api/v1/webhooks").expect(200),
        json!({"webhooks": []})
    );
}

#[test]
fn partitioned_group_has_no_place_for_a_webhook() {
    let broker = Broker::start_with(ALLOWED);
    let mut session = broker.connect();
    let subscribe = json!({"type":"subscribe","id":1,"topic":TOPIC,"group":"crew","mode":"partitioned"});
    session.send(&subscribe.to_string());
    session.next();
    broker
        .post("/api/v1/webhooks", &wish(json!({})))
        .expect_problem(409, "conflict");
}

#[test]
fn addresses_that_are_not_public_are_forbidden_unless_they_are_allowed() {
    let broker = Broker::start();
    for host in [
        "127.0.0.1",
        "[::1]",
        "10.1.2.3",
        "169.254.169.254",
        "2130706433",
        "localhost",
    ] {
        let url = format!("http://{host}:8080/hook");
        broker
            .post("/api/v1/webhooks", &wish(json!({"url": url})))
            .expect_problem(403, "forbidden");
    }
    let broker = Broker::start_with(ALLOWED);
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let url = format!("http://{host}:9/hook");
        broker
            .post("/api/v1/webhooks", &wish(json!({"url": url})))
            .expect(201);
    }
}

#[test]
fn topic_that_may_not_be_made_is_not_made() {
    let broker = Broker::start_with(&["--webhook-allow-private", "--no-auto-create"]);
    broker
        .post("/api/v1/webhooks", &wish(json!({})))
        .expect_problem(404, "topic_not_found");
}
