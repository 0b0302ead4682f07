//! Where publishes go over WebSocket.

use serde_json::json;

use super::{Asker, stored, topics};
use crate::support::Broker;

#[test]
fn each_kind_compares_keys_in_its_own_way() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    for kind in ["direct", "fanout", "topic"] {
        client.declare(kind, kind);
        client.bind(kind, "boiler", "plant.boiler");
        client.bind(kind, "other", "plant.pump");
    }
    client.bind("topic", "plant", "plant.#");
    client.bind("topic", "temperatures", "*.*.temp");
    assert_eq!(client.routed("direct", "plant.boiler"), ["boiler"]);
    assert_eq!(client.routed("fanout", "anything"), ["boiler", "other"]);
    assert_eq!(client.routed("topic", "plant"), ["plant"]);
    assert_eq!(client.routed("topic", "plant.boiler"), ["boiler", "plant"]);
    assert_eq!(
        client.routed("topic", "plant.boiler.temp"),
        ["plant", "temperatures"]
    );
    for (exchange, key) in [
        ("direct", "plant"),
        ("direct", "plant.#"),
        ("topic", "plan"),
        ("topic", ""),
    ] {
        let code = if key.contains('#') {
            "invalid_argument"
        } else {
            "unroutable"
        };
        client.refused(
            json!({"type": "publish", "exchange": exchange, "routing_key": key, "payload": 1}),
            code,
        );
    }
}

#[test]
fn a_topic_gets_a_record_once_however_many_ways_lead_there() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    for exchange in ["first", "second"] {
        client.declare(exchange, "topic");
    }
    for key in ["#", "a.*", "*.b"] {
        client.bind("first", "t", key);
    }
    client.bind("second", "t", "#");
    client.ok(json!({"type": "bind", "exchange": "first", "to_exchange": "second", "routing_key": "a.b"}));
    assert_eq!(client.routed("first", "a.b"), ["t"]);
    assert_eq!(stored(&broker, "t"), 1);
}

#[test]
fn declare_and_bind_again_change_nothing_and_another_kind_is_a_conflict() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.declare("lost", "fanout");
    let readings = json!({"type": "declare", "exchange": "readings", "kind": "topic", "alternate": "lost"});
    client.ok(readings.clone());
    client.ok(readings);
    client.refused(
        json!({"type": "declare", "exchange": "readings", "kind": "direct"}),
        "conflict",
    );
    client.refused(
        json!({"type": "declare", "exchange": "readings", "kind": "topic"}),
        "conflict",
    );
    client.refused(
        json!({"type": "declare", "exchange": "new", "kind": "topic", "alternate": "nowhere"}),
        "exchange_not_found",
    );
    client.bind("readings", "plant", "plant.#");
    client.bind("readings", "plant", "plant.#");
    let unbind =
        json!({"type": "unbind", "exchange": "readings", "topic": "plant", "routing_key": "plant.#"});
    client.ok(unbind.clone());
    let known = broker.get("/api/v1/exchanges/readings/bindings").expect(200);
    assert_eq!(known["bindings"], json!([]));
    client.refused(unbind, "invalid_argument");
    for (frame, code) in [
        (
            json!({"type": "bind", "exchange": "nowhere", "topic": "t"}),
            "exchange_not_found",
        ),
        (
            json!({"type": "bind", "exchange": "readings", "topic": "$events"}),
            "forbidden",
        ),
        (
            json!({"type": "bind", "exchange": "readings", "topic": "t", "routing_key": "a*"}),
            "invalid_argument",
        ),
        (
            json!({"type": "bind", "exchange": "lost", "topic": "t", "routing_key": "a.#"}),
            "invalid_argument",
        ),
        (
            json!({"type": "publish", "exchange": "nowhere", "payload": 1}),
            "exchange_not_found",
        ),
    ] {
        client.refused(frame, code);
    }
}

#[test]
fn an_exchange_never_leads_back_to_itself() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    for exchange in ["a", "b", "c"] {
        client.declare(exchange, "topic");
    }
    let bind = |from: &str, to: &str| json!({"type": "bind", "exchange": from, "to_exchange": to, "routing_key": "#"});
    client.ok(bind("a", "b"));
    client.ok(bind("b", "c"));
    for (from, to) in [("c", "a"), ("b", "a"), ("a", "a")] {
        client.refused(bind(from, to), "conflict");
    }
    client.bind("c", "t", "#");
    assert_eq!(client.routed("a", "x"), ["t"]);
    let dry_run = broker.get("/api/v1/exchanges/a/route?routing_key=x").expect(200);
    assert_eq!(dry_run["exchanges"], json!(["a", "b", "c"]));
}

#[test]
fn what_matches_nothing_goes_to_the_alternate_or_is_shown_with_its_sender() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.declare("lost", "fanout");
    client.ok(json!({"type": "declare", "exchange": "readings", "kind": "direct", "alternate": "lost"}));
    client.bind("readings", "plant", "k");
    // An alternate without a binding takes nothing.
    let nowhere = json!({"type": "publish", "exchange": "readings", "routing_key": "x", "payload": 1});
    let answer = client.refused(nowhere, "unroutable");
    assert_eq!(answer["retryable"], false);
    client.bind("lost", "found", "");
    assert_eq!(client.routed("readings", "x"), ["found"]);
    assert_eq!(client.routed("readings", "k"), ["plant"]);
    client.declare("deaf", "topic");
    let records = json!([{"payload": 1}, {"payload": 2}, {"payload": 3}]);
    let frame = json!({"type": "publish", "exchange": "deaf", "routing_key": "a.b", "messages": records});
    client.refused(frame, "unroutable");
    let known = broker.get("/api/v1/unroutable").expect(200)["unroutable"].clone();
    let known = known.as_array().unwrap();
    assert_eq!(known.len(), 2, "{known:?}");
    let (newest, oldest) = (&known[0], &known[1]);
    assert_eq!(
        (&newest["exchange"], &newest["routing_key"], &newest["count"]),
        (&json!("deaf"), &json!("a.b"), &json!(3))
    );
    assert_eq!(oldest["exchange"], "readings");
    let sessions = broker.get("/api/v1/sessions").expect(200);
    assert_eq!(newest["session"], sessions["sessions"][0]["id"]);
    assert_eq!(newest["remote"], sessions["sessions"][0]["remote"]);
    assert_eq!(broker.get("/api/v1/exchanges/deaf").expect(200)["unroutable"], 3);
}

#[test]
fn the_exchange_without_a_name_routes_by_the_name_of_the_topic() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    assert_eq!(client.routed("", "orders.eu"), ["orders.eu"]);
    assert_eq!(client.routed("", "orders.eu"), ["orders.eu"]);
    assert_eq!(stored(&broker, "orders.eu"), 2);
    let publish = |key: &str| json!({"type": "publish", "exchange": "", "routing_key": key, "payload": 1});
    for key in ["$events", "", "a..b"] {
        client.refused(publish(key), "invalid_argument");
    }
    for frame in [
        json!({"type": "declare", "exchange": "", "kind": "direct"}),
        json!({"type": "bind", "exchange": "", "topic": "t"}),
    ] {
        client.refused(frame, "invalid_argument");
    }
    let strict = Broker::start_with(&["--no-auto-create"]);
    Asker::new(&strict).refused(publish("orders"), "topic_not_found");
}

#[test]
fn one_full_topic_among_the_routes_refuses_all() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.ok(json!({"type": "declare", "topic": "small", "records_max": 2}));
    client.ok(json!({"type": "declare", "topic": "wide", "partitions": 3}));
    client.declare("all", "fanout");
    for topic in ["large", "small", "wide"] {
        client.bind("all", topic, "");
    }
    let publish =
        |payload: u64| json!({"type": "publish", "exchange": "all", "key": "k", "payload": payload});
    for payload in 0..2 {
        let answer = client.ask(publish(payload));
        assert_eq!(topics(&answer), ["large", "small", "wide"]);
        assert_eq!(answer["durability"], "fsync");
    }
    client.refused(publish(2), "topic_full");
    let out_of_range = json!({"type": "publish", "exchange": "all", "partition": 2, "payload": 3});
    client.refused(out_of_range, "partition_out_of_range");
    let records = json!([{"payload": 4}, {"payload": 5}]);
    let many = client.ask(json!({"type": "publish", "exchange": "all", "messages": records}));
    for result in many["results"].as_array().unwrap() {
        assert_eq!(result["error"]["code"], "topic_full", "{many}");
    }
    assert_eq!((stored(&broker, "large"), stored(&broker, "small")), (2, 2));
    let wide = broker.get("/api/v1/topics/wide").expect(200);
    let parts = wide["partitions"].as_array().unwrap();
    let records: u64 = parts
        .iter()
        .map(|part| part["next_offset"].as_u64().unwrap())
        .sum();
    assert_eq!(records, 2);
    // Nobody is in the way of what comes next.
    let alone = client.ask(json!({"type": "publish", "topic": "large", "payload": 6}));
    assert_eq!(alone["offset"], 2);
}

#[test]
fn routed_records_reach_whoever_subscribes_to_their_topics() {
    let broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.declare("readings", "topic");
    for (topic, key) in [("plant", "plant.#"), ("alarms", "#.alarm")] {
        client.bind("readings", topic, key);
        client.ask(json!({"type": "subscribe", "topic": topic}));
    }
    let mut publisher = broker.connect();
    publisher.send(r#"{"type":"publish","exchange":"readings","routing_key":"plant.boiler.alarm","key":"k","payload":{"v": 1.10}}"#);
    let mut came: Vec<String> = (0..2)
        .map(|_| {
            let message = client.socket.frame();
            assert_eq!(
                (&message["type"], &message["key"]),
                (&json!("message"), &json!("k")),
                "{message}"
            );
            message["topic"].as_str().unwrap().to_owned()
        })
        .collect();
    came.sort();
    assert_eq!(came, ["alarms", "plant"]);
}
