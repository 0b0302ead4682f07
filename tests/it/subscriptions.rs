//! What a plain subscription gets and what it does not: where it begins, how it comes back, how it is held back.

use std::collections::{BTreeMap, BTreeSet};

use callboard_protocol::{Timestamp, time::format_rfc3339};
use serde_json::{Value, json};

use crate::{
    process::Broker,
    socket::{Incoming, Socket},
};

/// A broker on fresh data.
fn broker() -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    (data, broker)
}

/// Sends a frame that must succeed.
fn ask(client: &mut Socket, mut frame: Value) -> Value {
    frame["id"] = json!("asked");
    let reply = client.ask(&frame.to_string());
    assert_ne!(reply["type"], "error", "{frame}: {reply}");
    reply
}

fn publish(client: &mut Socket, topic: &str, mut record: Value) -> Value {
    record["type"] = json!("publish");
    record["topic"] = json!(topic);
    ask(client, record)
}

/// The next frame, which must be a record.
fn message(client: &mut Socket) -> Value {
    let frame = client.frame();
    assert_eq!(frame["type"], "message", "{frame}");
    frame
}

/// The payloads of the next records.
fn payloads(client: &mut Socket, count: usize) -> Vec<Value> {
    (0..count).map(|_| message(client)["payload"].clone()).collect()
}

/// Publishes on the session that also subscribes: its thread has seen the records by the time of the answers,
/// which another session's answers say nothing about. Returns the payloads that came, of which there are
/// `expected`.
fn publish_to_itself(client: &mut Socket, records: Vec<Value>, expected: usize) -> Vec<Value> {
    let mut came = Vec::new();
    for mut record in records {
        record["type"] = json!("publish");
        record["topic"] = json!("t");
        record["id"] = json!("itself");
        client.send(&record.to_string());
        loop {
            let frame = client.frame();
            match frame["type"].as_str().unwrap() {
                "published" => break,
                "message" => came.push(frame["payload"].clone()),
                other => panic!("{other}: {frame}"),
            }
        }
    }
    came.extend(payloads(client, expected.saturating_sub(came.len())));
    came
}

/// Nothing more comes for now: what was stored before this call would have been sent before the answer to it.
fn assert_silent(client: &mut Socket) {
    client.send(r#"{"type":"ping","id":"fence"}"#);
    let frame = client.frame();
    assert_eq!(frame["type"], "pong", "{frame}");
}

fn fetch(client: &mut Socket, topic: &str, partition: u32, offset: u64) -> Value {
    let frame = json!({"type": "fetch", "id": 1, "topic": topic, "partition": partition, "offset": offset, "limit": 1000});
    client.ask(&frame.to_string())
}

/// All records of a topic with these partitions, from their pages.
fn stored(client: &mut Socket, topic: &str, partitions: u32) -> Vec<Value> {
    let mut records = Vec::new();
    for partition in 0..partitions {
        let mut offset = 0;
        loop {
            let page = fetch(client, topic, partition, offset);
            let found = page["messages"].as_array().unwrap();
            if found.is_empty() {
                break;
            }
            records.extend(found.iter().map(|record| {
                let mut record = record.clone();
                record["partition"] = json!(partition);
                record
            }));
            offset = page["next_offset"].as_u64().unwrap();
        }
    }
    records
}

#[test]
fn last_is_the_newest_of_the_whole_topic_also_after_kill_9() {
    let (data, broker) = broker();
    let mut client = broker.connect();
    ask(
        &mut client,
        json!({"type": "declare", "topic": "t", "partitions": 3}),
    );
    for n in 0..12 {
        publish(&mut client, "t", json!({"partition": n % 3, "payload": n}));
    }
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    let mut timestamps: Vec<u64> = stored(&mut client, "t", 3)
        .iter()
        .map(|record| record["timestamp"].as_u64().unwrap())
        .collect();
    timestamps.sort_unstable();
    ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "from": {"last": 5}}),
    );
    let records: Vec<Value> = (0..5).map(|_| message(&mut client)).collect();
    let mut found: Vec<u64> = records
        .iter()
        .map(|record| record["timestamp"].as_u64().unwrap())
        .collect();
    found.sort_unstable();
    // Records of one millisecond may stand for each other.
    assert_eq!(found, timestamps[7..]);
    let distinct: BTreeSet<String> = records
        .iter()
        .map(|record| record["payload"].to_string())
        .collect();
    assert_eq!(distinct.len(), 5);
    // Then it goes on, and leaves nothing out on the way.
    publish(
        &mut broker.connect(),
        "t",
        json!({"partition": 1, "payload": "next"}),
    );
    assert_eq!(message(&mut client)["payload"], "next");
}

#[test]
fn time_begins_with_the_first_record_of_that_moment() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    let timestamp = |client: &mut Socket, offset: u64| {
        fetch(client, "t", 0, offset)["messages"][0]["timestamp"]
            .as_u64()
            .unwrap()
    };
    publish(&mut client, "t", json!({"payload": 0}));
    let first = timestamp(&mut client, 0);
    let mut newest = 0;
    while timestamp(&mut client, newest) == first {
        newest += 1;
        publish(&mut client, "t", json!({"payload": newest}));
    }
    let moment = timestamp(&mut client, newest);
    for (from, offset) in [(first, 0), (first + 1, newest), (moment, newest)] {
        let from = json!({"time": format_rfc3339(Timestamp(from))});
        let mut reader = broker.connect();
        let subscribed = ask(
            &mut reader,
            json!({"type": "subscribe", "topic": "t", "from": from}),
        );
        assert_eq!(subscribed["offsets"], json!({"0": offset}));
        assert_eq!(message(&mut reader)["offset"], offset);
    }
    // Nothing is as new as that yet, so it begins at the end.
    let later = json!({"time": "2999-01-01T00:00:00Z"});
    let subscribed = ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "from": later}),
    );
    assert_eq!(subscribed["offsets"], json!({"0": newest + 1}));
}

/// Publishes until the broker is gone; returns what was acked, as partition, offset and payload.
fn publish_until_the_end(mut client: Socket) -> Vec<(u64, u64, u64)> {
    const IN_FLIGHT: u64 = 64;
    let mut acked = Vec::new();
    for n in 0_u64.. {
        client.send(&format!(
            r#"{{"type":"publish","id":{n},"topic":"t","partition":{},"payload":{n}}}"#,
            n % 3
        ));
        if n < IN_FLIGHT {
            continue;
        }
        let Incoming::Frame(reply) = client.next() else {
            break;
        };
        let number = |field: &str| reply[field].as_u64().unwrap();
        acked.push((number("partition"), number("offset"), number("id")));
    }
    acked
}

#[test]
fn subscriber_that_comes_back_after_kill_9_gets_every_record_once() {
    const SEEN_MIN: usize = 500;
    let (data, broker) = broker();
    let mut client = broker.connect();
    ask(
        &mut client,
        json!({"type": "declare", "topic": "t", "partitions": 3}),
    );
    let subscribed = ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "from": "earliest"}),
    );
    let publisher = broker.connect();
    let publishing = std::thread::spawn(move || publish_until_the_end(publisher));
    let mut seen: Vec<Value> = (0..SEEN_MIN).map(|_| message(&mut client)).collect();
    broker.kill();
    while let Incoming::Frame(frame) = client.next() {
        seen.push(frame);
    }
    let acked = publishing.join().unwrap();
    let mut positions: BTreeMap<String, u64> =
        ["0", "1", "2"].map(|partition| (partition.to_owned(), 0)).into();
    for record in &seen {
        positions.insert(
            record["partition"].to_string(),
            record["offset"].as_u64().unwrap() + 1,
        );
    }

    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    let from = json!({"offsets": positions, "epoch": subscribed["epoch"]});
    let resumed = ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "from": from}),
    );
    assert_eq!(resumed["recovered"], true);
    assert_eq!(resumed["epoch"], subscribed["epoch"]);
    assert_eq!(resumed["offsets"], json!(positions));
    for partition in 0..3 {
        publish(
            &mut broker.connect(),
            "t",
            json!({"partition": partition, "payload": "after"}),
        );
    }
    let all = stored(&mut broker.connect(), "t", 3);
    seen.extend((seen.len()..all.len()).map(|_| message(&mut client)));
    assert_silent(&mut client);

    seen.sort_by_key(|record| (record["partition"].as_u64(), record["offset"].as_u64()));
    let pairs = |records: &[Value]| -> Vec<(Value, Value, Value)> {
        let pair = |record: &Value| {
            (
                record["partition"].clone(),
                record["offset"].clone(),
                record["payload"].clone(),
            )
        };
        records.iter().map(pair).collect()
    };
    assert_eq!(pairs(&seen), pairs(&all));
    let found: BTreeSet<_> = all
        .iter()
        .map(|record| {
            (
                record["partition"].as_u64(),
                record["offset"].as_u64(),
                record["payload"].as_u64(),
            )
        })
        .collect();
    assert!(acked.len() >= SEEN_MIN / 2, "{}", acked.len());
    for (partition, offset, payload) in acked {
        assert!(
            found.contains(&(Some(partition), Some(offset), Some(payload))),
            "{payload} was acked"
        );
    }
}

#[test]
fn pattern_resumes_every_topic_where_it_was_and_begins_new_ones_at_their_first_record() {
    let (data, broker) = broker();
    let mut client = broker.connect();
    let mut publisher = broker.connect();
    let pattern = "orders.*.created";
    for topic in ["orders.eu.created", "orders.us.created", "orders.us.deleted"] {
        publish(&mut publisher, topic, json!({"payload": "before"}));
    }
    let subscribed = ask(&mut client, json!({"type": "subscribe", "topic": pattern}));
    let mut topics = subscribed["topics"].clone();
    assert_eq!(topics.as_object().unwrap().len(), 2);
    publish(&mut publisher, "orders.eu.created", json!({"payload": "seen"}));
    let record = message(&mut client);
    assert_eq!(
        (&record["topic"], &record["payload"]),
        (&json!("orders.eu.created"), &json!("seen"))
    );
    topics["orders.eu.created"]["offsets"]["0"] = json!(2);
    broker.kill();

    let broker = Broker::start(data.path(), &[]);
    let mut publisher = broker.connect();
    for topic in [
        "orders.eu.created",
        "orders.us.created",
        "orders.br.created",
        "orders.us.deleted",
    ] {
        publish(&mut publisher, topic, json!({"payload": "missed"}));
    }
    let mut client = broker.connect();
    let resumed = ask(
        &mut client,
        json!({"type": "subscribe", "topic": pattern, "from": {"topics": topics}}),
    );
    let expected: BTreeMap<&str, u64> = [
        ("orders.eu.created", 2),
        ("orders.us.created", 1),
        ("orders.br.created", 0),
    ]
    .into();
    for (topic, offset) in &expected {
        assert_eq!(
            resumed["topics"][topic]["offsets"],
            json!({"0": offset}),
            "{topic}: {resumed}"
        );
    }
    assert_eq!(
        resumed["topics"]["orders.eu.created"]["recovered"], true,
        "{resumed}"
    );
    let records: Vec<Value> = (0..3).map(|_| message(&mut client)).collect();
    let found: BTreeMap<&str, u64> = records
        .iter()
        .map(|record| {
            (
                record["topic"].as_str().unwrap(),
                record["offset"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, expected);

    // One that is made later is announced before its first record.
    publish(&mut publisher, "orders.jp.created", json!({"payload": "first"}));
    let announced = client.frame();
    assert_eq!(announced["type"], "subscribed", "{announced}");
    assert_eq!(
        announced["topics"]["orders.jp.created"]["offsets"],
        json!({"0": 0})
    );
    assert_eq!(message(&mut client)["payload"], "first");
    assert_silent(&mut client);
}

#[test]
fn expired_record_is_named_so_by_fetch_and_passed_over_by_subscribers() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    publish(&mut client, "t", json!({"ttl_ms": 1, "payload": "short"}));
    publish(&mut client, "t", json!({"payload": "long"}));
    let expired = loop {
        let reply = fetch(&mut client, "t", 0, 0);
        if reply["type"] == "error" {
            break reply;
        }
    };
    assert_eq!(
        (&expired["code"], &expired["next_offset"]),
        (&json!("expired"), &json!(1))
    );
    assert_eq!(expired["retryable"], false);
    let page = fetch(&mut client, "t", 0, 1);
    assert_eq!(page["messages"][0]["payload"], "long");
    ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "from": "earliest"}),
    );
    let record = message(&mut client);
    assert_eq!(
        (&record["offset"], &record["payload"]),
        (&json!(1), &json!("long"))
    );
}

#[test]
fn record_that_is_never_stored_reaches_those_who_listen_and_takes_no_offset() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    ask(&mut client, json!({"type": "subscribe", "topic": "t"}));
    let mut publisher = broker.connect();
    let reply = publish(&mut publisher, "t", json!({"ttl_ms": 0, "payload": "now"}));
    assert_eq!(
        (&reply["durability"], reply.get("offset")),
        (&json!("memory"), None)
    );
    let record = message(&mut client);
    assert_eq!((&record["payload"], record.get("offset")), (&json!("now"), None));
    assert_eq!(
        publish(&mut publisher, "t", json!({"payload": "kept"}))["offset"],
        0
    );
    assert_eq!(message(&mut client)["offset"], 0);
}

#[test]
fn subscription_that_was_just_answered_misses_no_record_that_is_never_stored() {
    let (_data, broker) = broker();
    let (mut client, mut publisher) = (broker.connect(), broker.connect());
    // There is no log to read it from, so each topic is one chance to come too late.
    for round in 0..60 {
        let topic = format!("t{round}");
        ask(&mut client, json!({"type": "subscribe", "topic": topic}));
        publish(&mut publisher, &topic, json!({"ttl_ms": 0, "payload": round}));
        assert_eq!(message(&mut client)["payload"], round);
    }
}

#[test]
fn credit_holds_back_and_lets_go_by_the_record_over_all_partitions() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    let mut free = broker.connect();
    ask(
        &mut client,
        json!({"type": "declare", "topic": "t", "partitions": 2}),
    );
    ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "credit": 2}),
    );
    ask(&mut free, json!({"type": "subscribe", "topic": "t"}));
    let mut publisher = broker.connect();
    for n in 0..6 {
        publish(&mut publisher, "t", json!({"partition": n % 2, "payload": n}));
    }
    payloads(&mut free, 6);
    let mut got = payloads(&mut client, 2);
    assert_silent(&mut client);
    client.send(r#"{"type":"credit","topic":"t","add":1}"#);
    got.extend(payloads(&mut client, 1));
    assert_silent(&mut client);
    client.send(r#"{"type":"credit","topic":"t","add":100}"#);
    got.extend(payloads(&mut client, 3));
    for odd in [0, 1] {
        let partition: Vec<u64> = got
            .iter()
            .filter_map(Value::as_u64)
            .filter(|n| n % 2 == odd)
            .collect();
        assert_eq!(partition, [odd, odd + 2, odd + 4]);
    }
}

#[test]
fn skipping_subscriber_goes_on_with_the_newest_record_and_is_told_what_it_missed() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "credit": 1, "overflow": "skip"}),
    );
    let records = (0..6).map(|n| json!({"payload": n})).collect();
    assert_eq!(publish_to_itself(&mut client, records, 1), [0]);
    assert_silent(&mut client);
    client.send(r#"{"type":"credit","topic":"t","add":10}"#);
    let skipped = client.frame();
    let told = json!({"type": "skipped", "topic": "t", "partition": 0, "count": 4, "next_offset": 5, "reason": "overflow"});
    assert_eq!(skipped, told);
    assert_eq!(payloads(&mut client, 1), [5]);
    assert_eq!(
        publish_to_itself(&mut client, vec![json!({"payload": 6})], 1),
        [6]
    );
}

#[test]
fn conflating_subscriber_gets_the_newest_record_of_each_key_in_their_order() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    ask(
        &mut client,
        json!({"type": "subscribe", "topic": "t", "credit": 1, "overflow": "conflate"}),
    );
    let keys = [
        Some("a"),
        Some("a"),
        Some("b"),
        None,
        Some("a"),
        Some("c"),
        Some("b"),
        None,
    ];
    let records = keys.iter().enumerate();
    let records = records
        .map(|(n, key)| json!({"key": key, "payload": n}))
        .collect();
    assert_eq!(publish_to_itself(&mut client, records, 1), [0]);
    assert_silent(&mut client);
    client.send(r#"{"type":"credit","topic":"t","add":10}"#);
    let (mut left_out, mut got) = (0, Vec::new());
    while got.len() < 4 {
        let frame = client.frame();
        match frame["type"].as_str().unwrap() {
            "skipped" => left_out += frame["count"].as_u64().unwrap(),
            _ => got.push(frame["payload"].clone()),
        }
    }
    assert_eq!((got, left_out), (vec![json!(4), json!(5), json!(6), json!(7)], 3));
    let next = vec![json!({"key": "a", "payload": 8})];
    assert_eq!(publish_to_itself(&mut client, next, 1), [8]);
}
