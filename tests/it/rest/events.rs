//! Server-Sent Events.

use std::{
    io::{BufRead as _, BufReader},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Broker, Stream, until};

const EVENTS: &str = "/api/v1/topics/orders/events";
const MESSAGES: &str = "/api/v1/topics/orders/messages";

/// A client as a browser has it: dispatches events, and remembers the last id.
struct EventSource {
    lines: BufReader<Stream>,
    last_id: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: String,
}

impl EventSource {
    /// Connects, and returns when the broker has said where the stream is.
    fn open(broker: &Broker, path: &str, last_id: Option<&str>) -> Self {
        let mut request = broker.request("GET", path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let stream = request.open();
        assert_eq!(stream.status, 200);
        let media = ("content-type".to_owned(), "text/event-stream".to_owned());
        assert!(stream.headers.contains(&media));
        let mut source = Self {
            lines: BufReader::new(stream),
            last_id: String::new(),
        };
        while source.last_id.is_empty() {
            source.line().unwrap();
        }
        source
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        if let Some(id) = line.strip_prefix("id: ") {
            self.last_id = id.trim_end().to_owned();
        }
        (count > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// The next event; `None` when the broker has ended the stream.
    fn next(&mut self) -> Option<Event> {
        let (mut name, mut data) = ("message".to_owned(), String::new());
        loop {
            let line = self.line()?;
            if let Some(given) = line.strip_prefix("event: ") {
                name = given.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = text.to_owned();
            } else if line.is_empty() && !data.is_empty() {
                return Some(Event { name, data });
            }
        }
    }

    /// The next record.
    fn record(&mut self) -> Value {
        let event = self.next().unwrap();
        assert_eq!(event.name, "message", "{event:?}");
        serde_json::from_str(&event.data).unwrap()
    }

    fn payloads(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| self.record()["payload"].as_u64().unwrap())
            .collect()
    }
}

fn publish(broker: &Broker, payloads: std::ops::Range<u64>) {
    let records: Vec<_> = payloads
        .map(|payload| format!(r#"{{"payload":{payload}}}"#))
        .collect();
    broker
        .post(MESSAGES, &format!("[{}]", records.join(",")))
        .expect(200);
}

#[test]
fn stream_gives_what_comes_and_begins_where_it_is_asked_to() {
    let broker = Broker::start();
    publish(&broker, 0..3);
    let mut latest = EventSource::open(&broker, EVENTS, None);
    let mut earliest = EventSource::open(&broker, &format!("{EVENTS}?from=earliest"), None);
    let mut last = EventSource::open(&broker, &format!("{EVENTS}?from=last:1"), None);
    let mut time = EventSource::open(&broker, &format!("{EVENTS}?from=time:2999-01-01T00:00:00Z"), None);
    broker.post(MESSAGES, r#"{"key":"k","payload":3}"#).expect(200);
    assert_eq!(earliest.payloads(4), [0, 1, 2, 3]);
    assert_eq!(last.payloads(2), [2, 3]);
    assert_eq!(time.payloads(1), [3]);
    let mut record = latest.record();
    assert!(record["timestamp"].take().is_u64());
    let expected = json!({"topic":"orders","partition":0,"offset":3,"timestamp":null,"key":"k","payload":3});
    assert_eq!(record, expected);
    for query in ["?from=now", "?from=last:x", "?from=time:x", "?last_event_id=x"] {
        broker
            .get(&format!("{EVENTS}{query}"))
            .expect_problem(400, "invalid_argument");
    }
}

#[test]
fn payload_of_an_event_is_byte_for_byte() {
    let broker = Broker::start();
    let mut source = EventSource::open(&broker, EVENTS, None);
    let payload = "{\"b\":1.10, \"a\":999999996000000004,\"c\":\"\\u2028\u{2028}\"}";
    broker
        .post(MESSAGES, &format!(r#"{{"payload":{payload}}}"#))
        .expect(200);
    let event = source.next().unwrap();
    assert!(
        event.data.ends_with(&format!(",\"payload\":{payload}}}")),
        "{}",
        event.data
    );
}

#[test]
fn stream_creates_its_topic_as_a_subscription_does() {
    let broker = Broker::start();
    let mut source = EventSource::open(&broker, EVENTS, None);
    publish(&broker, 0..1);
    assert_eq!(source.payloads(1), [0]);
}

#[test]
fn resumed_stream_goes_on_exactly_behind_the_last_event_over_all_partitions() {
    let mut broker = Broker::start();
    broker
        .post("/api/v1/topics", r#"{"name":"orders","partitions":3}"#)
        .expect(201);
    for payload in 0..60 {
        publish(&broker, payload..payload + 1);
    }
    let mut seen = Vec::new();
    let mut last_id = String::new();
    // Lost after every few events, once with the broker itself.
    for round in 0..12 {
        let (path, id) = match round {
            0 => (format!("{EVENTS}?from=earliest"), None),
            // A page that kept the position can not set the header.
            1 => (format!("{EVENTS}?from=latest&last_event_id={last_id}"), None),
            _ => (EVENTS.to_owned(), Some(last_id.as_str())),
        };
        let mut source = EventSource::open(&broker, &path, id);
        seen.extend(source.payloads(5));
        last_id = source.last_id;
        if round == 6 {
            broker.kill();
            broker.restart();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn position_before_the_first_record_misses_none() {
    let broker = Broker::start();
    publish(&broker, 0..2);
    let source = EventSource::open(&broker, EVENTS, None);
    let id = source.last_id.clone();
    drop(source);
    publish(&broker, 2..4);
    assert_eq!(EventSource::open(&broker, EVENTS, Some(&id)).payloads(2), [2, 3]);
}

#[test]
fn what_is_gone_before_a_resume_is_said() {
    let broker = Broker::start();
    let config = r#"{"name":"orders","durability":"memory","retention_bytes":20000}"#;
    broker.post("/api/v1/topics", config).expect(201);
    let mut source = EventSource::open(&broker, EVENTS, None);
    publish(&broker, 0..1);
    assert_eq!(source.payloads(1), [0]);
    let id = source.last_id.clone();
    drop(source);
    for _ in 0..20 {
        publish(&broker, 0..1000);
    }
    let mut source = EventSource::open(&broker, EVENTS, Some(&id));
    let skipped = source.next().unwrap();
    assert_eq!(skipped.name, "skipped");
    let skipped: Value = serde_json::from_str(&skipped.data).unwrap();
    assert_eq!(skipped["reason"], "retention");
    let next = skipped["next_offset"].as_u64().unwrap();
    assert_eq!(skipped["count"].as_u64().unwrap(), next - 1);
    assert_eq!(source.record()["offset"].as_u64().unwrap(), next);
}

#[test]
fn topic_that_was_made_anew_is_read_from_its_begin_and_said_to_be_another() {
    let broker = Broker::start();
    publish(&broker, 0..5);
    let mut source = EventSource::open(&broker, &format!("{EVENTS}?from=earliest"), None);
    source.payloads(5);
    let id = source.last_id.clone();
    broker.delete("/api/v1/topics/orders").expect(204);
    let ended = source.next().unwrap();
    assert_eq!(ended.name, "unsubscribed");
    assert_eq!(ended.data, r#"{"reason":"topic_deleted","topic":"orders"}"#);
    assert_eq!(source.next(), None);
    // Who comes back by itself does not bring the topic back.
    broker
        .request("GET", EVENTS)
        .header("last-event-id", &id)
        .send()
        .expect_problem(404, "topic_not_found");
    publish(&broker, 7..9);
    let mut source = EventSource::open(&broker, EVENTS, Some(&id));
    let skipped = source.next().unwrap();
    assert_eq!(skipped.name, "skipped");
    assert_eq!(
        skipped.data,
        r#"{"topic":"orders","partition":0,"next_offset":0,"reason":"epoch"}"#
    );
    assert_eq!(source.payloads(2), [7, 8]);
}

#[test]
fn partitions_that_come_later_are_followed() {
    let broker = Broker::start();
    publish(&broker, 0..1);
    let mut source = EventSource::open(&broker, EVENTS, None);
    broker
        .request("PATCH", "/api/v1/topics/orders")
        .json(r#"{"partitions":3}"#)
        .send()
        .expect(200);
    broker
        .post(MESSAGES, r#"{"payload":1,"partition":2}"#)
        .expect(200);
    let record = source.record();
    assert_eq!((&record["partition"], &record["payload"]), (&json!(2), &json!(1)));
    // Its place in the position came with it.
    let id = source.last_id.clone();
    drop(source);
    broker
        .post(MESSAGES, r#"{"payload":2,"partition":2}"#)
        .expect(200);
    assert_eq!(EventSource::open(&broker, EVENTS, Some(&id)).payloads(1), [2]);
}

#[test]
fn records_that_are_never_stored_reach_a_live_stream_without_an_id() {
    let broker = Broker::start();
    let mut source = EventSource::open(&broker, EVENTS, None);
    let id = source.last_id.clone();
    // The partition may not have heard of the stream when the first ones come.
    let event = std::thread::scope(|scope| {
        let reader = scope.spawn(|| source.next().unwrap());
        until("the event", || {
            broker
                .post(MESSAGES, r#"{"payload":"now","ttl_ms":0}"#)
                .expect(200);
            reader.is_finished().then_some(())
        });
        reader.join().unwrap()
    });
    let mut data: Value = serde_json::from_str(&event.data).unwrap();
    assert!(data["timestamp"].take().is_u64());
    assert_eq!(
        data,
        json!({"topic":"orders","partition":0,"timestamp":null,"payload":"now"})
    );
    assert_eq!(source.last_id, id);
}

#[test]
fn quiet_stream_has_heartbeats() {
    let broker = Broker::start_with(&["--heartbeat-ms", "100"]);
    let mut source = EventSource::open(&broker, EVENTS, None);
    let mut comments = 0;
    while comments < 3 {
        comments += usize::from(source.line().unwrap().starts_with(':'));
    }
    publish(&broker, 0..1);
    assert_eq!(source.payloads(1), [0]);
}

#[test]
fn slow_reader_delays_nobody_and_gets_everything() {
    const COUNT: usize = 400;
    let broker = Broker::start();
    let mut slow = EventSource::open(&broker, EVENTS, None);
    let mut quick = EventSource::open(&broker, EVENTS, None);
    // Far more than sockets and buffers between them hold.
    let padding = "x".repeat(50_000);
    for number in 0..COUNT / 10 {
        let record = |index| format!(r#"{{"payload":{{"n":{},"p":"{padding}"}}}}"#, number * 10 + index);
        let records: Vec<_> = (0..10).map(record).collect();
        broker
            .post(MESSAGES, &format!("[{}]", records.join(",")))
            .expect(200);
        for index in 0..10 {
            assert_eq!(quick.record()["payload"]["n"], number * 10 + index);
        }
    }
    for number in 0..COUNT {
        assert_eq!(slow.record()["payload"]["n"], number);
    }
}

#[test]
fn shutdown_says_goodbye_to_streams_and_does_not_wait_for_them() {
    let mut broker = Broker::start();
    let mut sources: Vec<_> = (0..20)
        .map(|_| EventSource::open(&broker, EVENTS, None))
        .collect();
    let (status, took) = broker.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for source in &mut sources {
        assert_eq!(source.next().unwrap().name, "goaway");
        assert_eq!(source.next(), None);
    }
}
