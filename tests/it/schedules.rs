//! Records that are due later, over real sockets: delivered at their time and not before, once, also when the
//! broker dies in between.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{process::Broker, socket::Socket, support};

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Schedules a record; returns its id and when it is due.
fn schedule(client: &mut Socket, topic: &str, delay_ms: u64, payload: &Value) -> (String, u64) {
    let asked = json!({"type": "publish", "id": 1, "topic": topic, "delay_ms": delay_ms, "payload": payload});
    let reply = client.ask(&asked.to_string());
    assert_eq!(reply["type"], "published", "{reply}");
    assert_eq!(
        (&reply["offset"], &reply["duplicate"]),
        (&Value::Null, &Value::Null)
    );
    (
        reply["scheduled"].as_str().unwrap().to_owned(),
        reply["deliver_at"].as_u64().unwrap(),
    )
}

fn subscribe(client: &mut Socket, topic: &str) {
    let asked = json!({"type": "subscribe", "id": 2, "topic": topic, "from": "earliest"});
    let reply = client.ask(&asked.to_string());
    assert_eq!(reply["type"], "subscribed", "{reply}");
}

/// The next record, which must not be early.
fn record(client: &mut Socket) -> Value {
    let frame = client.frame();
    assert_eq!(frame["type"], "message", "{frame}");
    frame
}

#[test]
fn records_come_in_the_order_of_their_times_and_none_early() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    for durability in ["fsync", "os", "memory"] {
        let topic = format!("later.{durability}");
        let mut client = broker.connect();
        client.ask(&format!(
            r#"{{"type":"declare","id":1,"topic":"{topic}","durability":"{durability}"}}"#
        ));
        let mut due = BTreeMap::new();
        for (payload, delay_ms) in [(0, 900), (1, 300), (2, 600), (3, 301)] {
            let before = now_ms();
            let (_, at) = schedule(&mut client, &topic, delay_ms, &json!(payload));
            assert!((before + delay_ms..=now_ms() + delay_ms).contains(&at));
            due.insert(payload, at);
        }
        // What is due now or was due already is a record as any other.
        let asked = json!({"type": "publish", "id": 3, "topic": topic, "delay_ms": 0, "payload": 10});
        assert_eq!(client.ask(&asked.to_string())["offset"], 0);
        let at = "2020-01-01T00:00:00Z";
        let asked = json!({"type": "publish", "id": 3, "topic": topic, "deliver_at": at, "payload": 11});
        assert_eq!(client.ask(&asked.to_string())["offset"], 1);
        subscribe(&mut client, &topic);
        for (offset, payload) in [10, 11, 1, 3, 2, 0].into_iter().enumerate() {
            let frame = record(&mut client);
            assert_eq!(frame["payload"], payload, "{durability}");
            assert_eq!(frame["offset"], offset);
            if let Some(at) = due.get(&payload) {
                assert!(now_ms() >= *at, "early");
                assert!(
                    frame["timestamp"].as_u64().unwrap() >= *at,
                    "it got its offset early"
                );
            }
        }
    }
}

/// Some are due while the broker is dead, some after it has come back; one was cancelled before.
#[test]
fn schedules_survive_kill_9_and_what_was_due_meanwhile_comes_at_once() {
    let mut broker = support::Broker::start();
    let mut client = broker.connect();
    client.ask(r#"{"type":"declare","id":1,"topic":"later","partitions":2}"#);
    let mut expected = Vec::new();
    let mut cancelled = Vec::new();
    for number in 0..200_u64 {
        let delay_ms = if number % 2 == 0 { 1000 } else { 60_000 };
        let (id, at) = schedule(&mut client, "later", delay_ms, &json!(number));
        match number % 10 {
            9 => cancelled.push(id),
            0 | 2 => expected.push((number, at)),
            _ if delay_ms == 1000 => expected.push((number, at)),
            _ => {}
        }
    }
    for id in &cancelled {
        let path = format!("/api/v1/topics/later/scheduled/{id}");
        broker.delete(&path).expect(204);
        assert_eq!(broker.delete(&path).status, 404, "it is cancelled already");
    }
    broker.kill();
    let last = expected.iter().map(|(_, at)| *at).max().unwrap();
    // The time that passes is what is tested.
    std::thread::sleep(Duration::from_millis(last.saturating_sub(now_ms())));
    broker.restart();
    let mut client = broker.connect();
    subscribe(&mut client, "later");
    let mut came = BTreeMap::new();
    while came.len() < expected.len() {
        let frame = record(&mut client);
        let former = came.insert(frame["payload"].as_u64().unwrap(), frame["offset"].clone());
        assert_eq!(former, None, "twice: {frame}");
    }
    assert!(expected.iter().all(|(number, _)| came.contains_key(number)));
    // Once more: what was delivered is no longer scheduled, and what is left is.
    broker.kill();
    broker.restart();
    let page = broker
        .get("/api/v1/topics/later/scheduled?limit=1000")
        .expect(200);
    assert_eq!(page["total"], 80);
    let left = page["scheduled"].as_array().unwrap();
    assert_eq!(left.len(), 80);
    assert!(
        left.iter()
            .all(|entry| entry["payload"].as_u64().unwrap() % 2 == 1)
    );
    let ids: Vec<_> = left.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert!(cancelled.iter().all(|id| !ids.contains(&id.as_str())));
    let dues: Vec<_> = left
        .iter()
        .map(|entry| entry["deliver_at"].as_u64().unwrap())
        .collect();
    assert!(dues.is_sorted());
    let topic = broker.get("/api/v1/topics/later").expect(200);
    assert_eq!(topic["scheduled"], 80);
    let stored: u64 = topic["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["next_offset"].as_u64().unwrap())
        .sum();
    assert_eq!(stored, 100, "each once");
}

/// What is delivered and what still waits change in one write, whenever the broker dies.
#[test]
fn kill_9_while_records_come_due_loses_none_and_doubles_none() {
    const RECORDS: u64 = 3000;
    let mut broker = support::Broker::start();
    let mut client = broker.connect();
    client.ask(r#"{"type":"declare","id":1,"topic":"later","partitions":2}"#);
    let first = now_ms() + 1500;
    for begin in (0..RECORDS).step_by(500) {
        let record = |number: u64| {
            let at = callboard_protocol::time::format_rfc3339(callboard_protocol::Timestamp(first + number));
            json!({"payload": [number, first + number], "deliver_at": at, "partition": number % 2})
        };
        let messages: Vec<_> = (begin..begin + 500).map(record).collect();
        let reply = client
            .ask(&json!({"type": "publish", "id": 1, "topic": "later", "messages": messages}).to_string());
        let results = reply["results"].as_array().unwrap();
        let in_time = |result: &&Value| result["scheduled"].is_string();
        // On a machine that is very slow some are due already.
        let stored = |result: &&Value| result["offset"].is_u64();
        assert_eq!(
            results.iter().filter(in_time).count() + results.iter().filter(stored).count(),
            500
        );
    }
    for round in 1..=4 {
        support::until("some to come", || {
            let scheduled = broker.get("/api/v1/topics/later").expect(200)["scheduled"].as_u64();
            (scheduled? <= RECORDS - RECORDS * round / 5).then_some(())
        });
        broker.kill();
        broker.restart();
    }
    support::until("all to come", || {
        let topic = broker.get("/api/v1/topics/later").expect(200);
        (topic["scheduled"] == 0).then_some(())
    });
    let mut came = Vec::new();
    for partition in 0..2 {
        let mut offset = 0;
        loop {
            let path =
                format!("/api/v1/topics/later/partitions/{partition}/messages?offset={offset}&limit=1000");
            let page = broker.get(&path).expect(200);
            let messages = page["messages"].as_array().unwrap();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                assert!(
                    message["timestamp"].as_u64() >= message["payload"][1].as_u64(),
                    "early: {message}"
                );
                came.push(message["payload"][0].as_u64().unwrap());
            }
            offset = page["next_offset"].as_u64().unwrap();
        }
    }
    came.sort_unstable();
    assert!(came.into_iter().eq(0..RECORDS));
}

#[test]
fn list_shows_records_as_they_came_page_by_page() {
    let broker = support::Broker::start();
    let mut client = broker.connect();
    client.ask(r#"{"type":"declare","id":1,"topic":"later","partitions":3}"#);
    let at = "2099-01-01T00:00:00Z";
    for number in (0..25).rev() {
        let asked = json!({
            "type": "publish", "id": 1, "topic": "later", "deliver_at": format!("2099-01-01T00:00:{number:02}Z"),
            "partition": number % 3, "key": "k", "headers": {"a": "b"}, "payload": 1,
        });
        // Payloads pass through byte for byte.
        let asked = asked
            .to_string()
            .replace("\"payload\":1", &format!("\"payload\":{{\"n\":  {number}.10}}"));
        assert!(client.ask(&asked)["scheduled"].is_string());
    }
    let binary =
        json!({"type": "publish", "id": 1, "topic": "later", "deliver_at": at, "payload_base64": "AP8="});
    assert_eq!(
        client.ask(&binary.to_string())["deliver_at"],
        4_070_908_800_000_u64
    );
    let mut all = Vec::new();
    let mut next = String::new();
    for _ in 0..3 {
        let path = format!("/api/v1/topics/later/scheduled?limit=10{next}");
        let answer = broker.get(&path);
        for number in all.len().saturating_sub(1)..(all.len() + 8).min(25) {
            let text = format!("{{\"n\":  {number}.10}}");
            assert!(answer.text().contains(&text), "{text}: {}", answer.text());
        }
        let page = answer.expect(200);
        assert_eq!(page["total"], 26);
        all.extend(page["scheduled"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(cursor) => next = format!("&next={cursor}"),
            None => break,
        }
    }
    assert_eq!(all.len(), 26);
    let is_binary = |entry: &&Value| entry["payload_base64"] == "AP8=" && entry["payload"].is_null();
    assert_eq!(all.iter().take(2).filter(is_binary).count(), 1);
    let first = &all.iter().find(|entry| entry["payload"].is_object()).unwrap();
    assert_eq!(
        (&first["key"], &first["headers"]["a"]),
        (&json!("k"), &json!("b"))
    );
    assert_eq!(first["partition"], 0);
    assert_eq!(first["id"].as_str().unwrap().split('-').next(), Some("s"));
    broker
        .get("/api/v1/topics/later/scheduled?next=x")
        .expect_problem(400, "invalid_argument");
}

#[test]
fn what_can_not_be_scheduled_is_refused() {
    let broker = support::Broker::start();
    let mut client = broker.connect();
    client.ask(r#"{"type":"declare","id":1,"topic":"later","record_bytes_max":100}"#);
    let ask = |client: &mut Socket, more: &Value| {
        let mut asked =
            json!({"type": "publish", "id": 1, "topic": "later", "delay_ms": 60_000, "payload": 1});
        for (name, value) in more.as_object().unwrap() {
            asked[name] = value.clone();
        }
        client.ask(&asked.to_string())
    };
    for (more, code) in [
        (json!({"ack": "delivered"}), "invalid_argument"),
        (json!({"ack": "processed"}), "invalid_argument"),
        (
            json!({"notify": {"on": "delivered", "correlation_id": "c"}}),
            "invalid_argument",
        ),
        (json!({"payload": "x".repeat(200)}), "record_too_large"),
        (json!({"partition": 1}), "partition_out_of_range"),
    ] {
        let reply = ask(&mut client, &more);
        assert_eq!(
            (&reply["type"], &reply["code"]),
            (&json!("error"), &json!(code)),
            "{reply}"
        );
    }
    let several = json!({
        "type": "publish", "id": 2, "topic": "later",
        "messages": [{"payload": 1}, {"payload": 2, "delay_ms": 60_000}, {"payload": "x".repeat(200), "delay_ms": 9000}],
    });
    let reply = client.ask(&several.to_string());
    assert_eq!(reply["results"][0]["offset"], 0, "{reply}");
    assert!(reply["results"][1]["scheduled"].is_string(), "{reply}");
    assert_eq!(
        reply["results"][2]["error"]["code"], "record_too_large",
        "{reply}"
    );
    assert_eq!(broker.get("/api/v1/topics/later").expect(200)["scheduled"], 1);
}

/// A repeat answers the first one's id while that waits, and its offset when it was delivered; also after kill -9.
#[test]
fn repeat_of_a_scheduled_record_is_scheduled_once() {
    let mut broker = support::Broker::start();
    let mut client = broker.connect();
    let asked = json!({"type": "publish", "id": 1, "topic": "later", "delay_ms": 1500, "message_id": "a", "payload": 1});
    let first = client.ask(&asked.to_string());
    let again = client.ask(&asked.to_string());
    assert_eq!(again["duplicate"], true, "{again}");
    assert_eq!(
        (&again["scheduled"], &again["deliver_at"]),
        (&first["scheduled"], &first["deliver_at"])
    );
    broker.kill();
    broker.restart();
    let mut client = broker.connect();
    let again = client.ask(&asked.to_string());
    // Unless the machine took so long that it was due meanwhile.
    if again["scheduled"].is_string() {
        assert_eq!(again["scheduled"], first["scheduled"], "{again}");
    }
    assert_eq!(again["duplicate"], true, "{again}");
    subscribe(&mut client, "later");
    assert_eq!(record(&mut client)["offset"], 0);
    let again = client.ask(&asked.to_string());
    assert_eq!(
        (&again["offset"], &again["duplicate"]),
        (&json!(0), &json!(true)),
        "{again}"
    );
    assert_eq!(broker.get("/api/v1/topics/later").expect(200)["scheduled"], 0);
}

#[test]
fn deleted_topic_forgets_its_schedules_and_added_partitions_have_their_own() {
    let broker = support::Broker::start();
    let mut client = broker.connect();
    schedule(&mut client, "later", 60_000, &json!(1));
    broker
        .request("PATCH", "/api/v1/topics/later")
        .json(r#"{"partitions":3}"#)
        .send()
        .expect(200);
    for partition in 0..3 {
        let asked = json!({
            "type": "publish", "id": 1, "topic": "later", "delay_ms": 400, "partition": partition, "payload": partition,
        });
        let id = client.ask(&asked.to_string())["scheduled"].clone();
        assert!(
            id.as_str().unwrap().starts_with(&format!("s-{partition}-")),
            "{id}"
        );
    }
    subscribe(&mut client, "later");
    let mut came: Vec<_> = (0..3)
        .map(|_| record(&mut client)["payload"].as_u64().unwrap())
        .collect();
    came.sort_unstable();
    assert_eq!(came, [0, 1, 2]);
    broker.delete("/api/v1/topics/later").expect(204);
    schedule(&mut client, "later", 60_000, &json!(2));
    let page = broker.get("/api/v1/topics/later/scheduled").expect(200);
    assert_eq!(page["total"], 1);
    assert_eq!(page["scheduled"][0]["payload"], 2);
}
