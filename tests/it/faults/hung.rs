//! A subscriber that hangs beside nine that do not.

use std::time::{Duration, Instant};

use crate::{
    process::{Broker, PATIENCE},
    socket::{Incoming, Socket, connect_narrow},
};

/// Records that are published; far more bytes than all buffers between the two take.
const RECORDS: u64 = 12_000;
/// Bytes of each.
const PAYLOAD_BYTES: usize = 2_000;
/// Records in a publish frame.
const BATCH: u64 = 100;

fn subscribe(client: &mut Socket) {
    assert_eq!(
        client.ask(r#"{"type":"subscribe","id":1,"topic":"busy"}"#)["type"],
        "subscribed"
    );
}

fn publish_all(publisher: &mut Socket) {
    let fill = "x".repeat(PAYLOAD_BYTES);
    for batch in 0..RECORDS / BATCH {
        let entries: Vec<String> = (0..BATCH)
            .map(|index| {
                format!(
                    r#"{{"payload":{{"n":{},"fill":"{fill}"}}}}"#,
                    batch * BATCH + index
                )
            })
            .collect();
        let frame = format!(
            r#"{{"type":"publish","id":1,"topic":"busy","messages":[{}]}}"#,
            entries.join(",")
        );
        assert_eq!(publisher.ask(&frame)["type"], "published");
    }
}

fn takes_everything(client: &mut Socket) {
    for expected in 0..RECORDS {
        let frame = client.frame();
        assert_eq!(frame["offset"], expected, "{:.200}", frame.to_string());
        assert_eq!(frame["payload"]["n"], expected);
    }
}

#[test]
fn hung_subscriber_delays_nobody_and_has_every_record_when_it_wakes() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut publisher = broker.connect();
    publisher.ask(r#"{"type":"declare","id":1,"topic":"busy","durability":"os"}"#);
    let mut hung = connect_narrow(broker.address());
    subscribe(&mut hung);
    let good: Vec<_> = (0..9)
        .map(|_| {
            let mut client = broker.connect();
            subscribe(&mut client);
            std::thread::spawn(move || takes_everything(&mut client))
        })
        .collect();
    let before = broker.resident_bytes();
    publish_all(&mut publisher);
    for client in good {
        client.join().unwrap();
    }
    // The log's memory is bounded by the records that there are; the hung one adds no copy of them.
    let records_bytes = RECORDS * PAYLOAD_BYTES as u64;
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(
        grown < 3 * records_bytes,
        "{grown} bytes beside {records_bytes} bytes of records"
    );
    takes_everything(&mut hung);
    // Live again: what comes now comes at once.
    publisher.ask(r#"{"type":"publish","id":1,"topic":"busy","payload":"after"}"#);
    assert_eq!(hung.frame()["payload"], "after");
}

#[test]
fn silent_session_that_takes_nothing_is_dropped() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(
        data.path(),
        &["--heartbeat-ms", "200", "--session-timeout-ms", "1000"],
    );
    let mut publisher = broker.connect();
    publisher.ask(r#"{"type":"declare","id":1,"topic":"busy","durability":"memory"}"#);
    let mut hung = connect_narrow(broker.address());
    subscribe(&mut hung);
    publish_all(&mut publisher);
    let deadline = Instant::now() + PATIENCE;
    // The publisher is still asked and answers, so it stays; of the hung one nothing is left.
    while sessions(broker.address()) > 1 {
        assert_eq!(publisher.ask(r#"{"type":"ping","id":1}"#)["type"], "pong");
        assert!(Instant::now() < deadline, "the hung session is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut count = 0;
    while let Incoming::Frame(_) = hung.next() {
        count += 1;
    }
    assert!(count < RECORDS, "it was dropped although it took everything");
}

/// A session is there for four times as long as it may be silent, and does no more than `heartbeat` at each
/// Ping: the time passes by the broker's own heartbeats.
fn outlives_the_limit(heartbeat: impl Fn(&mut Socket)) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(
        data.path(),
        &["--heartbeat-ms", "100", "--session-timeout-ms", "500"],
    );
    let mut quiet = broker.connect();
    for _ in 0..20 {
        heartbeat(&mut quiet);
    }
    assert_eq!(quiet.ask(r#"{"type":"ping","id":1}"#)["type"], "pong");
}

#[test]
fn quiet_session_that_answers_pings_stays() {
    outlives_the_limit(Socket::answer_ping);
}

/// The contract: a client need send nothing, not even Pongs, as long as its socket takes what comes.
#[test]
fn session_that_only_takes_pings_stays() {
    outlives_the_limit(|quiet| drop(quiet.take_ping()));
}

fn sessions(address: &str) -> usize {
    let answer = crate::socket::get(address, "/api/v1/sessions");
    let list: serde_json::Value = serde_json::from_str(&answer).unwrap();
    list["sessions"].as_array().unwrap().len()
}
