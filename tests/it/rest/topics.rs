//! Topics: list, create, look at, change, delete.

use serde_json::json;

use crate::support::Broker;

const TOPICS: &str = "/api/v1/topics";
const ORDERS: &str = "/api/v1/topics/orders";

#[test]
fn topic_is_created_changed_and_deleted_once() {
    let broker = Broker::start();
    let created = broker.post(TOPICS, r#"{"name":"orders","partitions":2,"retention_ms":60000}"#);
    assert_eq!(created.header("location"), Some(ORDERS));
    let created = created.expect(201);
    assert_eq!(created["name"], "orders");
    assert!(created["epoch"].is_string());
    assert_eq!(created["partitions"].as_array().unwrap().len(), 2);
    let empty = json!({"records_in_per_s": 0.0, "bytes_in_per_s": 0.0});
    let partition = json!({"partition": 1, "first_offset": 0, "next_offset": 0, "bytes": 0, "rates": empty});
    assert_eq!(created["partitions"][1], partition);
    assert_eq!(created["config"]["durability"], "fsync");
    assert_eq!(created["config"]["retention_ms"], 60000);
    broker
        .post(TOPICS, r#"{"name":"orders"}"#)
        .expect_problem(409, "topic_exists");
    assert_eq!(broker.get(ORDERS).expect(200), created);

    let patch = |body: &str| broker.request("PATCH", ORDERS).json(body).send();
    let changed = patch(r#"{"partitions":3,"retention_ms":null}"#).expect(200);
    assert_eq!(changed["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(changed["config"]["retention_ms"], json!(null));
    assert_eq!(changed["epoch"], created["epoch"]);
    patch(r#"{"partitions":2}"#).expect_problem(409, "conflict");
    patch(r#"{"durability":"memory"}"#).expect_problem(409, "conflict");
    patch(r#"{"retention":1}"#).expect_problem(400, "invalid_argument");
    patch(r#"{"dead_letter_topic":"orders"}"#).expect_problem(400, "invalid_argument");
    patch("[]").expect_problem(400, "bad_frame");

    let deleted = broker.delete(ORDERS);
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    broker.delete(ORDERS).expect_problem(404, "topic_not_found");
    broker.get(ORDERS).expect_problem(404, "topic_not_found");
    patch("{}").expect_problem(404, "topic_not_found");
    let again = broker.post(TOPICS, r#"{"name":"orders"}"#).expect(201);
    assert_ne!(again["epoch"], created["epoch"]);
}

#[test]
fn wrong_topics_are_refused_and_say_why() {
    let broker = Broker::start();
    for (body, status, code) in [
        (r#"{"name":"a..b"}"#, 400, "invalid_argument"),
        (r#"{"name":""}"#, 400, "invalid_argument"),
        (r#"{"name":"a b"}"#, 400, "invalid_argument"),
        (r#"{"name":"orders.*"}"#, 400, "invalid_argument"),
        (r#"{"name":"$mine"}"#, 403, "forbidden"),
        (r#"{"name":"a","partitions":0}"#, 400, "invalid_argument"),
        (r#"{"name":"a","partitions":1025}"#, 400, "invalid_argument"),
        (r#"{"name":"a","partitions":1.5}"#, 400, "invalid_argument"),
        (r#"{"name":"a","durability":"best"}"#, 400, "invalid_argument"),
        (r#"{"name":"a","colour":"red"}"#, 400, "invalid_argument"),
        (r#"{"partitions":1}"#, 400, "bad_frame"),
        (r#"{"name":7}"#, 400, "bad_frame"),
        ("[]", 400, "bad_frame"),
        ("", 400, "bad_frame"),
        ("{", 400, "bad_frame"),
    ] {
        broker.post(TOPICS, body).expect_problem(status, code);
    }
    let list = broker.get(TOPICS).expect(200);
    let names: Vec<_> = list["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| &topic["name"])
        .collect();
    assert_eq!(names, ["$events"], "nothing but the broker's own");
}

#[test]
fn pages_of_the_list_join_up() {
    let broker = Broker::start();
    for name in ["c", "a", "e", "b", "d"] {
        let body = format!(r#"{{"name":"{name}","durability":"memory"}}"#);
        broker.post(TOPICS, &body).expect(201);
    }
    let mut names = Vec::new();
    let mut path = format!("{TOPICS}?limit=2");
    loop {
        let page = broker.get(&path).expect(200);
        let topics = page["topics"].as_array().unwrap();
        names.extend(
            topics
                .iter()
                .map(|topic| topic["name"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("{TOPICS}?limit=2&next={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e", "$events"]);
}

#[test]
fn names_in_paths_are_percent_decoded() {
    let broker = Broker::start();
    broker.post(TOPICS, r#"{"name":"orders.eu-1_x"}"#).expect(201);
    let topic = broker.get("/api/v1/topics/%6Frders%2eeu%2D1_x").expect(200);
    assert_eq!(topic["name"], "orders.eu-1_x");
    broker
        .get("/api/v1/topics/a%2Fb")
        .expect_problem(404, "topic_not_found");
    broker
        .post("/api/v1/topics/a%2Fb/messages", r#"{"payload":1}"#)
        .expect_problem(400, "invalid_argument");
    broker
        .get("/api/v1/topics/%ff")
        .expect_problem(404, "topic_not_found");
}

#[test]
fn nothing_is_created_by_publishing_where_that_is_turned_off() {
    let broker = Broker::start_with(&["--no-auto-create"]);
    broker
        .post("/api/v1/topics/orders/messages", r#"{"payload":1}"#)
        .expect_problem(404, "topic_not_found");
    broker
        .get("/api/v1/topics/orders/events")
        .expect_problem(404, "topic_not_found");
    broker.post(TOPICS, r#"{"name":"orders"}"#).expect(201);
    broker
        .post("/api/v1/topics/orders/messages", r#"{"payload":1}"#)
        .expect(200);
}

#[test]
fn own_topics_can_not_be_written() {
    let broker = Broker::start();
    let name = "/api/v1/topics/$stats";
    broker
        .post(&format!("{name}/messages"), r#"{"payload":1}"#)
        .expect_problem(403, "forbidden");
    broker.delete(name).expect_problem(403, "forbidden");
}
