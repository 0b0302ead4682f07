//! Exchanges over REST.

use serde_json::{Value, json};

use super::{stored, topics};
use crate::support::Broker;

fn create(broker: &Broker, exchange: &Value) -> Value {
    broker
        .post("/api/v1/exchanges", &exchange.to_string())
        .expect(201)
}

fn bind(broker: &Broker, exchange: &str, binding: &Value) -> Value {
    let path = format!("/api/v1/exchanges/{exchange}/bindings");
    broker.post(&path, &binding.to_string()).expect(201)
}

#[test]
fn exchanges_are_made_looked_at_and_deleted() {
    let broker = Broker::start();
    assert_eq!(
        broker.get("/api/v1/exchanges").expect(200),
        json!({"exchanges": []})
    );
    create(&broker, &json!({"name": "lost", "type": "fanout"}));
    let made = broker.post(
        "/api/v1/exchanges",
        r#"{"name":"readings","type":"topic","alternate":"lost"}"#,
    );
    assert_eq!(made.header("location"), Some("/api/v1/exchanges/readings"));
    let expected = json!({"name": "readings", "type": "topic", "alternate": "lost", "bindings": 0, "unroutable": 0,
        "rates": {"publishes_per_s": 0.0}});
    assert_eq!(made.expect(201), expected);
    assert_eq!(broker.get("/api/v1/exchanges/readings").expect(200), expected);
    let list = broker.get("/api/v1/exchanges").expect(200);
    let names: Vec<_> = list["exchanges"].as_array().unwrap().iter().collect();
    assert_eq!((&names[0]["name"], &names[1]), (&json!("lost"), &&expected));
    broker.delete("/api/v1/exchanges/lost").expect(204);
    let left = broker.get("/api/v1/exchanges/readings").expect(200);
    assert_eq!(left.get("alternate"), None);
    broker
        .delete("/api/v1/exchanges/lost")
        .expect_problem(404, "exchange_not_found");
    broker
        .get("/api/v1/exchanges/lost")
        .expect_problem(404, "exchange_not_found");
}

#[test]
fn what_is_no_exchange_is_refused() {
    let broker = Broker::start();
    create(&broker, &json!({"name": "there", "type": "direct"}));
    for (body, status, code) in [
        (r#"{"name":"there","type":"direct"}"#, 409, "conflict"),
        (r#"{"name":"there","type":"topic"}"#, 409, "conflict"),
        (r#"{"name":"e"}"#, 400, "bad_frame"),
        (r#"{"type":"topic"}"#, 400, "bad_frame"),
        (r#"["e","topic"]"#, 400, "bad_frame"),
        (r#"{"name":5,"type":"topic"}"#, 400, "bad_frame"),
        (r#"{"name":"e","type":"headers"}"#, 400, "invalid_argument"),
        (r#"{"name":"$e","type":"topic"}"#, 400, "invalid_argument"),
        (r#"{"name":"","type":"topic"}"#, 400, "invalid_argument"),
        (
            r#"{"name":"e","type":"topic","durable":true}"#,
            400,
            "invalid_argument",
        ),
        (
            r#"{"name":"e","type":"topic","alternate":"nowhere"}"#,
            404,
            "exchange_not_found",
        ),
    ] {
        let problem = broker.post("/api/v1/exchanges", body);
        assert_eq!(problem.status, status, "{body}: {}", problem.text());
        problem.expect_problem(status, code);
    }
}

#[test]
fn bindings_have_ids_and_make_their_topics() {
    let broker = Broker::start();
    create(&broker, &json!({"name": "readings", "type": "topic"}));
    create(&broker, &json!({"name": "alarms", "type": "fanout"}));
    let plant = json!({"topic": "plant", "routing_key": "plant.#"});
    let made = bind(&broker, "readings", &plant);
    assert_eq!(
        made,
        json!({"id": made["id"], "topic": "plant", "routing_key": "plant.#", "rates": {"publishes_per_s": 0.0}})
    );
    assert_eq!(bind(&broker, "readings", &plant)["id"], made["id"]);
    broker.get("/api/v1/topics/plant").expect(200);
    let other = bind(
        &broker,
        "readings",
        &json!({"exchange": "alarms", "routing_key": "#.alarm"}),
    );
    assert_eq!((&other["exchange"], other.get("topic")), (&json!("alarms"), None));
    let list = broker.get("/api/v1/exchanges/readings/bindings").expect(200);
    assert_eq!(list, json!({"bindings": [made, other]}));
    let path = |id: &Value| format!("/api/v1/exchanges/readings/bindings/{}", id.as_str().unwrap());
    broker.delete(&path(&made["id"])).expect(204);
    for gone in [made["id"].clone(), json!("b-999"), json!("nonsense")] {
        broker
            .delete(&path(&gone))
            .expect_problem(404, "invalid_argument");
    }
    // A binding belongs to its exchange and goes with what it leads to.
    let elsewhere = format!(
        "/api/v1/exchanges/alarms/bindings/{}",
        other["id"].as_str().unwrap()
    );
    broker.delete(&elsewhere).expect_problem(404, "invalid_argument");
    broker.delete("/api/v1/exchanges/alarms").expect(204);
    let list = broker.get("/api/v1/exchanges/readings/bindings").expect(200);
    assert_eq!(list, json!({"bindings": []}));
    bind(&broker, "readings", &plant);
    broker.delete("/api/v1/topics/plant").expect(204);
    let list = broker.get("/api/v1/exchanges/readings/bindings").expect(200);
    assert_eq!(list, json!({"bindings": []}));
}

#[test]
fn what_is_no_binding_is_refused() {
    let broker = Broker::start_with(&["--no-auto-create"]);
    create(&broker, &json!({"name": "e", "type": "direct"}));
    let path = "/api/v1/exchanges/e/bindings";
    for (body, status, code) in [
        ("{}", 400, "bad_frame"),
        (r#"{"topic":"t","exchange":"e"}"#, 400, "bad_frame"),
        (r#"{"topic":5}"#, 400, "bad_frame"),
        (r#"{"topic":"a..b"}"#, 400, "invalid_argument"),
        (r#"{"topic":"t","key":"k"}"#, 400, "invalid_argument"),
        (r#"{"exchange":"nowhere"}"#, 404, "exchange_not_found"),
        (r#"{"exchange":"e"}"#, 409, "conflict"),
        (r#"{"topic":"$events"}"#, 403, "forbidden"),
        (r#"{"topic":"t","routing_key":"k"}"#, 404, "topic_not_found"),
    ] {
        let problem = broker.post(path, body);
        assert_eq!(problem.status, status, "{body}: {}", problem.text());
        problem.expect_problem(status, code);
    }
    broker
        .post("/api/v1/exchanges/nowhere/bindings", r#"{"topic":"t"}"#)
        .expect_problem(404, "exchange_not_found");
    broker.post("/api/v1/topics", r#"{"name":"t"}"#).expect(201);
    broker
        .post(path, r#"{"topic":"t","routing_key":"a.*"}"#)
        .expect_problem(400, "invalid_argument");
}

#[test]
fn a_dry_run_says_where_and_stores_nothing() {
    let broker = Broker::start();
    create(&broker, &json!({"name": "lost", "type": "fanout"}));
    create(
        &broker,
        &json!({"name": "readings", "type": "topic", "alternate": "lost"}),
    );
    let plant = bind(
        &broker,
        "readings",
        &json!({"topic": "plant", "routing_key": "plant.#"}),
    );
    let found = bind(&broker, "lost", &json!({"topic": "found"}));
    let route = |key: &str| {
        let path = format!("/api/v1/exchanges/readings/route?routing_key={key}");
        broker.get(&path).expect(200)
    };
    assert_eq!(
        route("plant.boiler"),
        json!({"routes": [{"topic": "plant"}], "bindings": [plant["id"]], "exchanges": ["readings"], "alternate": false})
    );
    assert_eq!(
        route("ship"),
        json!({"routes": [{"topic": "found"}], "bindings": [found["id"]], "exchanges": ["readings", "lost"],
            "alternate": true})
    );
    broker.delete("/api/v1/exchanges/lost").expect(204);
    let nowhere = route("ship");
    assert_eq!(
        (&nowhere["routes"], &nowhere["bindings"]),
        (&json!([]), &json!([]))
    );
    assert_eq!((stored(&broker, "plant"), stored(&broker, "found")), (0, 0));
    assert_eq!(
        broker.get("/api/v1/unroutable").expect(200),
        json!({"unroutable": []})
    );
    broker
        .get("/api/v1/exchanges/readings/route?routing_key=a.*")
        .expect_problem(400, "invalid_argument");
    broker
        .get("/api/v1/exchanges/nowhere/route?routing_key=a")
        .expect_problem(404, "exchange_not_found");
}

#[test]
fn records_are_published_through_an_exchange() {
    let broker = Broker::start();
    create(&broker, &json!({"name": "e", "type": "topic"}));
    bind(&broker, "e", &json!({"topic": "a", "routing_key": "k.#"}));
    bind(&broker, "e", &json!({"topic": "b", "routing_key": "*.b"}));
    let path = "/api/v1/exchanges/e/messages";
    let one = broker
        .post(path, r#"{"payload":1.10,"routing_key":"k.b"}"#)
        .expect(200);
    assert_eq!(
        one,
        json!({"exchange": "e", "routes": [{"topic": "a", "partition": 0, "offset": 0},
            {"topic": "b", "partition": 0, "offset": 0}], "durability": "fsync"})
    );
    // The query wins over the body.
    let query = format!("{path}?routing_key=k&ack=accepted");
    let routed = broker
        .post(&query, r#"{"payload":2,"routing_key":"x.b"}"#)
        .expect(200);
    assert_eq!(
        (topics(&routed), &routed["durability"]),
        (vec!["a".to_owned()], &json!("memory"))
    );
    let many = broker
        .post(
            &format!("{path}?routing_key=x.b"),
            r#"[{"payload":3},{"key":5,"payload":4},{"payload":5}]"#,
        )
        .expect(200);
    assert_eq!(many["results"][0]["routes"][0]["topic"], "b");
    assert_eq!(many["results"][1]["error"]["code"], "bad_frame");
    assert_eq!(many["results"][2]["routes"][0]["offset"], 2);
    let stored = broker
        .get("/api/v1/topics/a/partitions/0/messages")
        .text()
        .to_owned();
    assert!(stored.contains(r#""payload":1.10"#), "{stored}");
    for (body, status, code) in [
        (r#"{"payload":1,"routing_key":"nowhere"}"#, 422, "unroutable"),
        (r#"{"payload":1}"#, 422, "unroutable"),
        (r#"{"payload":1,"routing_key":"k.*"}"#, 400, "invalid_argument"),
        (r#"{"routing_key":"k"}"#, 400, "bad_frame"),
    ] {
        broker.post(path, body).expect_problem(status, code);
    }
    broker
        .post("/api/v1/exchanges/nowhere/messages", r#"{"payload":1}"#)
        .expect_problem(404, "exchange_not_found");
}

#[test]
fn what_rest_could_not_route_is_shown_with_who_sent_it() {
    let broker = Broker::start();
    create(&broker, &json!({"name": "e", "type": "direct"}));
    broker
        .request("POST", "/api/v1/exchanges/e/messages?routing_key=k")
        .header("user-agent", "sensor/1.0")
        .json(r#"[{"payload":1},{"payload":2}]"#)
        .send()
        .expect_problem(422, "unroutable");
    let known = broker.get("/api/v1/unroutable").expect(200)["unroutable"][0].clone();
    assert_eq!(
        (
            &known["exchange"],
            &known["routing_key"],
            &known["count"],
            &known["client"]
        ),
        (&json!("e"), &json!("k"), &json!(2), &json!("sensor/1.0"))
    );
    assert!(
        known["remote"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{known}"
    );
    assert!(
        known.get("session").is_none() && known["at"].as_str().unwrap().ends_with('Z'),
        "{known}"
    );
    assert_eq!(broker.get("/api/v1/exchanges/e").expect(200)["unroutable"], 2);
}
