//! SIGTERM and SIGINT: goodbye to all, everything kept, gone in five seconds.

use std::time::Duration;

use crate::{
    process::{Broker, raise_file_limit},
    socket::{Incoming, Socket},
};

const CLIENTS: usize = 1_000;
const RECORDS: u64 = 1_000;
const STOP_MAX: Duration = Duration::from_secs(5);

fn stops_in_order(signal: i32) {
    raise_file_limit();
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut clients: Vec<Socket> = (0..CLIENTS).map(|_| broker.connect()).collect();
    for client in &mut clients {
        client.send(r#"{"type":"subscribe","id":1,"topic":"kept"}"#);
    }
    for client in &mut clients {
        assert_eq!(client.frame()["type"], "subscribed");
    }
    let mut publisher = broker.connect();
    let entries: Vec<String> = (0..RECORDS).map(|n| format!(r#"{{"payload":{n}}}"#)).collect();
    let frame = format!(
        r#"{{"type":"publish","id":1,"topic":"kept","messages":[{}]}}"#,
        entries.join(",")
    );
    assert_eq!(
        publisher.ask(&frame)["results"].as_array().unwrap().len() as u64,
        RECORDS
    );

    broker.signal(signal);
    let (status, took) = broker.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_MAX, "it took {took:?}");
    for client in &mut clients {
        let (last, code) = client.ending();
        let last = last.unwrap();
        assert_eq!(
            (last["type"].as_str(), last["reason"].as_str()),
            (Some("goaway"), Some("shutdown"))
        );
        assert!(last["reconnect_ms"].is_u64(), "{last}");
        assert_eq!(code, Some(1001));
    }

    let broker = Broker::start(data.path(), &[]);
    let page = broker
        .connect()
        .ask(r#"{"type":"fetch","id":2,"topic":"kept","partition":0,"offset":0,"limit":1000}"#);
    let records = page["messages"].as_array().unwrap();
    assert_eq!(records.len() as u64, RECORDS);
    assert!(
        records
            .iter()
            .zip(0..)
            .all(|(record, n): (_, u64)| record["offset"] == n && record["payload"] == n)
    );
}

#[test]
fn sigterm_says_goodbye_to_a_thousand_clients_and_keeps_everything() {
    stops_in_order(libc::SIGTERM);
}

#[test]
fn sigint_does_the_same() {
    stops_in_order(libc::SIGINT);
}

#[test]
fn hung_client_does_not_hold_the_end_up() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut hung = broker.connect();
    hung.ask(r#"{"type":"subscribe","id":1,"topic":"busy"}"#);
    let mut publisher = broker.connect();
    publisher.ask(r#"{"type":"declare","id":1,"topic":"busy","durability":"memory"}"#);
    let payload = "x".repeat(900_000);
    for _ in 0..20 {
        publisher.ask(&format!(
            r#"{{"type":"publish","id":1,"topic":"busy","payload":"{payload}"}}"#
        ));
    }
    broker.signal(libc::SIGTERM);
    let (status, took) = broker.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_MAX, "it took {took:?}");
    assert_eq!(publisher.ending().1, Some(1001));
}

#[test]
fn end_of_the_process_ends_event_streams_and_open_requests() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    broker.connect().ask(r#"{"type":"declare","id":1,"topic":"t"}"#);
    let mut events = crate::socket::open(broker.address(), "GET /api/v1/topics/t/events");
    let mut half = crate::socket::open(broker.address(), "POST /api/v1/topics/t/messages");
    broker.signal(libc::SIGTERM);
    let (status, took) = broker.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < STOP_MAX, "it took {took:?}");
    crate::socket::read_to_end(&mut events);
    crate::socket::read_to_end(&mut half);
    // Nobody listens there any more, so a client that comes late knows at once.
    assert!(matches!(hung_up(&data), Incoming::End));
}

/// The data directory is free again at once.
fn hung_up(data: &tempfile::TempDir) -> Incoming {
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    broker.kill();
    client.next()
}
