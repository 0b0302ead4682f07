//! Clients that come back after kill -9.

use serde_json::Value;

use crate::process::Broker;

fn subscribe_from(
    broker: &Broker,
    topic: &str,
    offset: u64,
    epoch: &Value,
) -> (Value, crate::socket::Socket) {
    let mut client = broker.connect();
    let subscribed = client.ask(&format!(
        r#"{{"type":"subscribe","id":1,"topic":"{topic}","from":{{"offsets":{{"0":{offset}}},"epoch":{epoch}}}}}"#
    ));
    (subscribed, client)
}

/// A topic with three records; returns its epoch.
fn three_records(broker: &Broker, topic: &str, durability: &str) -> Value {
    let mut client = broker.connect();
    client.ask(&format!(
        r#"{{"type":"declare","id":1,"topic":"{topic}","durability":"{durability}"}}"#
    ));
    let subscribed = client.ask(&format!(r#"{{"type":"subscribe","id":2,"topic":"{topic}"}}"#));
    for n in 0..3 {
        let reply = client.ask(&format!(
            r#"{{"type":"publish","id":3,"topic":"{topic}","payload":{n}}}"#
        ));
        assert_eq!(reply["durability"], durability);
        assert_eq!(reply["offset"], n);
    }
    subscribed["epoch"].clone()
}

#[test]
fn durable_topics_resume_where_they_were_after_kill_9() {
    let data = tempfile::tempdir().unwrap();
    for durability in ["fsync", "os"] {
        let broker = Broker::start(data.path(), &[]);
        let epoch = three_records(&broker, durability, durability);
        broker.kill();
        let broker = Broker::start(data.path(), &[]);
        let (subscribed, mut client) = subscribe_from(&broker, durability, 1, &epoch);
        assert_eq!(subscribed["recovered"], true);
        assert_eq!(subscribed["epoch"], epoch);
        assert_eq!(subscribed["offsets"]["0"], 1);
        for n in 1..3 {
            let frame = client.frame();
            assert_eq!(
                (&frame["offset"], &frame["payload"]),
                (&Value::from(n), &Value::from(n))
            );
        }
        let reply = broker.connect().ask(&format!(
            r#"{{"type":"publish","id":3,"topic":"{durability}","payload":3}}"#
        ));
        assert_eq!(reply["offset"], 3);
        assert_eq!(client.frame()["offset"], 3);
    }
}

#[test]
fn memory_topic_says_that_it_lost_its_records() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let epoch = three_records(&broker, "brief", "memory");
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let (subscribed, mut client) = subscribe_from(&broker, "brief", 3, &epoch);
    assert_eq!(subscribed["recovered"], false);
    assert_ne!(subscribed["epoch"], epoch);
    assert_eq!(subscribed["offsets"]["0"], 0);
    assert_eq!(
        client.ask(r#"{"type":"publish","id":9,"topic":"brief","payload":"new"}"#)["offset"],
        0
    );
}

#[test]
fn topic_that_was_deleted_and_made_again_is_another_one() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let epoch = three_records(&broker, "again", "fsync");
    let status = crate::socket::request(broker.address(), "DELETE /api/v1/topics/again");
    assert!(status.starts_with("HTTP/1.1 204"), "{status}");
    three_records(&broker, "again", "fsync");
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let (subscribed, _client) = subscribe_from(&broker, "again", 2, &epoch);
    assert_eq!(subscribed["recovered"], false);
    assert_ne!(subscribed["epoch"], epoch);
    assert_eq!(subscribed["offsets"]["0"], 0);
}

#[test]
fn repeat_after_kill_9_is_answered_with_the_first_offset() {
    let data = tempfile::tempdir().unwrap();
    let publish = r#"{"type":"publish","id":1,"topic":"once","message_id":"m1","key":"k","payload":1}"#;
    let broker = Broker::start(data.path(), &[]);
    assert_eq!(broker.connect().ask(publish)["offset"], 0);
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let reply = broker.connect().ask(publish);
    assert_eq!(
        (&reply["offset"], &reply["duplicate"]),
        (&Value::from(0), &Value::from(true))
    );
}
