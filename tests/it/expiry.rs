//! Records that have outlived their time to live: not shown, and their memory and disk come back.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    socket::Socket,
    support::{Broker, until},
};

/// Longer than publishing takes on a busy machine.
const TTL_MS: u64 = 12_000;
const RECORDS: u64 = 300;
const PAYLOAD_BYTES: usize = 80_000;
/// One of so many never expires.
const STAYS: u64 = 10;

/// Publishes records, most of which expire.
fn publish_all(client: &mut Socket, topic: &str) {
    let payload = "p".repeat(PAYLOAD_BYTES);
    for number in 0..RECORDS {
        let ttl = if number % STAYS == 0 {
            String::new()
        } else {
            format!(r#","ttl_ms":{TTL_MS}"#)
        };
        let frame = format!(r#"{{"type":"publish","id":1,"topic":"{topic}","payload":"{payload}"{ttl}}}"#);
        assert_eq!(client.ask(&frame)["offset"], number);
    }
}

/// Bytes of all files below a directory.
fn directory_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It was removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

fn topic_bytes(broker: &Broker, topic: &str) -> u64 {
    let topic = broker.get(&format!("/api/v1/topics/{topic}")).expect(200);
    topic["partitions"][0]["bytes"].as_u64().unwrap()
}

fn fetch(client: &mut Socket, topic: &str, offset: u64) -> Value {
    client.ask(&format!(
        r#"{{"type":"fetch","id":2,"topic":"{topic}","partition":0,"offset":{offset},"limit":3}}"#
    ))
}

fn check_reads(client: &mut Socket, topic: &str) {
    for offset in [1, 5, 9, 291] {
        // The last ones expire when most are gone already.
        let refused = until("the record to expire", || {
            Some(fetch(client, topic, offset)).filter(|answer| answer["code"].is_string())
        });
        let lives = (offset / STAYS + 1) * STAYS;
        assert_eq!(
            (&refused["code"], &refused["next_offset"]),
            (&json!("expired"), &json!(lives)),
            "{topic} {offset}: {refused}"
        );
    }
    let page = fetch(client, topic, 20);
    let offsets: Vec<_> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["offset"])
        .collect();
    assert_eq!(offsets, [20, 30, 40], "{topic}");
}

#[test]
fn expired_records_give_memory_and_disk_back() {
    let mut broker = Broker::start_with(&["--journal-file-bytes", "1048576"]);
    let mut client = broker.connect();
    client.ask(r#"{"type":"declare","id":1,"topic":"kept.in.memory","durability":"memory"}"#);
    let began = Instant::now();
    let at_first = broker.resident_bytes();
    let all = RECORDS * PAYLOAD_BYTES as u64;
    for topic in ["on.disk", "kept.in.memory"] {
        publish_all(&mut client, topic);
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(TTL_MS),
        "published too slowly to measure: {took:?}"
    );
    let (memory, disk) = (broker.resident_bytes(), directory_bytes(broker.data()));
    assert!(topic_bytes(&broker, "on.disk") > all && topic_bytes(&broker, "kept.in.memory") > all);
    assert!(disk > all, "{disk} bytes on disk");
    assert!(
        memory - at_first > 2 * all,
        "{memory} bytes of memory, {at_first} at first"
    );
    for topic in ["on.disk", "kept.in.memory"] {
        let left = until("the topic's bytes to fall", || {
            Some(topic_bytes(&broker, topic)).filter(|bytes| *bytes < all / 4)
        });
        assert!(left > all / STAYS, "{topic} has lost what does not expire");
        check_reads(&mut client, topic);
    }
    let disk_after = until("the disk to come back", || {
        Some(directory_bytes(broker.data())).filter(|bytes| *bytes < disk / 3)
    });
    let memory_after = until("the memory to come back", || {
        Some(broker.resident_bytes()).filter(|bytes| *bytes < at_first + (memory - at_first) / 3)
    });
    println!(
        "{} MB published: directory {} MB, then {}; resident memory {} MB at first, {} MB, then {}",
        2 * all / 1_000_000,
        disk / 1_000_000,
        disk_after / 1_000_000,
        at_first / 1_000_000,
        memory / 1_000_000,
        memory_after / 1_000_000
    );
    broker.kill();
    broker.restart();
    let mut client = broker.connect();
    check_reads(&mut client, "on.disk");
    let next = client.ask(r#"{"type":"publish","id":1,"topic":"on.disk","payload":1}"#);
    assert_eq!(next["offset"], RECORDS, "no offset is given twice");
}

#[test]
fn expired_records_are_passed_over_without_a_word() {
    let broker = Broker::start_with(&[]);
    let mut client = broker.connect();
    for number in 0..30 {
        let ttl = if number % STAYS == 0 { "" } else { r#","ttl_ms":1"# };
        client.ask(&format!(
            r#"{{"type":"publish","id":1,"topic":"t","key":"k","payload":{number}{ttl}}}"#
        ));
    }
    until("what has expired to be forgotten", || {
        let bytes = topic_bytes(&broker, "t");
        (bytes < 300).then_some(())
    });
    client.send(r#"{"type":"subscribe","id":3,"topic":"t","from":{"offsets":{"0":0}}}"#);
    assert_eq!(client.frame()["type"], "subscribed");
    for offset in [0, 10, 20] {
        let frame = client.frame();
        assert_eq!(
            (&frame["type"], &frame["offset"]),
            (&json!("message"), &json!(offset)),
            "{frame}"
        );
    }
    let mut worker = broker.connect();
    worker.send(
        r#"{"type":"subscribe","id":4,"topic":"t","group":"g","mode":"shared","from":"earliest","credit":10}"#,
    );
    assert_eq!(worker.frame()["type"], "subscribed");
    for offset in [0, 10, 20] {
        assert_eq!(worker.frame()["offset"], offset);
    }
    let mut member = broker.connect();
    member.send(
        r#"{"type":"subscribe","id":5,"topic":"t","group":"p","mode":"partitioned","from":"earliest"}"#,
    );
    assert_eq!(member.frame()["type"], "subscribed");
    let offsets = std::iter::repeat_with(|| member.frame()).filter(|frame| frame["type"] != "assigned");
    let offsets: Vec<_> = offsets.take(3).map(|frame| frame["offset"].clone()).collect();
    assert_eq!(offsets, [0, 10, 20]);
}

#[test]
fn repeat_of_an_expired_record_is_known_also_after_a_restart() {
    let mut broker = Broker::start_with(&[]);
    let mut client = broker.connect();
    let once = r#"{"type":"publish","id":1,"topic":"t","message_id":"m-1","payload":1,"ttl_ms":1}"#;
    let other = r#"{"type":"publish","id":1,"topic":"t","payload":2,"ttl_ms":1}"#;
    assert_eq!(client.ask(once)["offset"], 0);
    let before = topic_bytes(&broker, "t");
    assert_eq!(client.ask(other)["offset"], 1);
    until("the other one to be forgotten", || {
        (topic_bytes(&broker, "t") <= before).then_some(())
    });
    assert_eq!(fetch(&mut client, "t", 0)["code"], "expired");
    for _ in 0..2 {
        let again = client.ask(once);
        assert_eq!(
            (&again["offset"], &again["duplicate"]),
            (&json!(0), &json!(true)),
            "{again}"
        );
        broker.kill();
        broker.restart();
        client = broker.connect();
    }
}
