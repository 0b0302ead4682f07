//! Records: publish, and read without consuming.

use serde_json::{Value, json};

use crate::support::{Broker, until};

const MESSAGES: &str = "/api/v1/topics/orders/messages";

fn read(broker: &Broker, query: &str) -> crate::support::Answer {
    broker.get(&format!("/api/v1/topics/orders/partitions/0/messages{query}"))
}

fn offsets(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["offset"].as_u64().unwrap())
        .collect()
}

#[test]
fn payload_comes_back_byte_for_byte() {
    let broker = Broker::start();
    let payloads = [
        "999999996000000004",
        "-0.0",
        "1.10",
        "1E+2",
        r#""\u00e9\ud83d\ude00 é😀""#,
        r#"{"b":1,"a":2,"b":3}"#,
        r#"[ 1 , {"x" :	null} ]"#,
        "null",
        "0.1000000000000000055511151231257827021181583404541015625",
    ];
    for (offset, payload) in payloads.into_iter().enumerate() {
        let body = format!(r#"{{"payload":{payload},"key":"k\"1","headers":{{"a":"b"}}}}"#);
        let published = broker.post(MESSAGES, &body).expect(200);
        let expected = json!({"topic": "orders", "partition": 0, "offset": offset, "durability": "fsync"});
        assert_eq!(published, expected);
    }
    let page = read(&broker, "");
    for payload in payloads {
        let entry = format!(r#","key":"k\"1","headers":{{"a":"b"}},"payload":{payload}}}"#);
        assert!(page.text().contains(&entry), "{payload} in {}", page.text());
    }
    let page = page.expect(200);
    assert_eq!(
        (&page["topic"], &page["partition"]),
        (&json!("orders"), &json!(0))
    );
    assert_eq!(page["next_offset"], payloads.len());
}

#[test]
fn line_breaks_become_spaces_and_bytes_stay_base64() {
    let broker = Broker::start();
    broker.post(MESSAGES, "{\"payload\":{\"a\":\r\n1}}").expect(200);
    broker.post(MESSAGES, r#"{"payload_base64":"AAH/"}"#).expect(200);
    let page = read(&broker, "");
    assert!(
        page.text().contains("\"payload\":{\"a\":  1}}"),
        "{}",
        page.text()
    );
    assert!(
        page.text().contains(r#""payload_base64":"AAH/"}"#),
        "{}",
        page.text()
    );
}

#[test]
fn each_record_of_an_array_stands_alone() {
    let broker = Broker::start();
    broker
        .post("/api/v1/topics", r#"{"name":"orders","record_bytes_max":20}"#)
        .expect(201);
    let body = r#"[{"payload":1},{"payload":2,"partition":7},{"pay":3},{"payload":"12345678901234567890"},
        {"payload":4,"ttl_ms":0},7,{"payload":5}]"#;
    let published = broker.post(MESSAGES, body).expect(200);
    let codes: Vec<_> = published["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| match result["error"]["code"].as_str() {
            Some(code) => code.to_owned(),
            None => format!("{}", result["offset"]),
        })
        .collect();
    let expected = [
        "0",
        "partition_out_of_range",
        "bad_frame",
        "record_too_large",
        "null",
        "bad_frame",
        "1",
    ];
    assert_eq!(codes, expected);
    // The weakest of those that went through: one was never stored.
    assert_eq!(published["durability"], "memory");
    assert_eq!(offsets(&read(&broker, "").expect(200)), [0, 1]);
}

#[test]
fn single_refused_record_is_a_problem_and_stores_nothing() {
    let broker = Broker::start();
    broker
        .post(
            "/api/v1/topics",
            r#"{"name":"orders","record_bytes_max":20,"records_max":1}"#,
        )
        .expect(201);
    let post = |body: &str| broker.post(MESSAGES, body);
    post(r#"{"payload":1,"partition":1}"#).expect_problem(400, "partition_out_of_range");
    post(r#"{"payload":"12345678901234567890"}"#).expect_problem(413, "record_too_large");
    post(r#"{"payload":1,"payload_base64":""}"#).expect_problem(400, "bad_frame");
    post(r#"{"key":"a"}"#).expect_problem(400, "bad_frame");
    post(r#"{"payload":1,"message_id":""}"#).expect_problem(400, "invalid_argument");
    assert_eq!(offsets(&read(&broker, "").expect(200)), [0; 0]);
    post(r#"{"payload":1}"#).expect(200);
    let full = post(r#"{"payload":2}"#).expect_problem(429, "topic_full");
    assert_eq!(full["retryable"], true);
}

#[test]
fn bodies_that_are_no_records_are_refused() {
    let broker = Broker::start();
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    for body in [
        "",
        "7",
        "{",
        "[",
        "[]",
        "{}",
        r#"{"payload":1}x"#,
        r#"{"payload":01}"#,
        &deep,
    ] {
        broker.post(MESSAGES, body).expect_problem(400, "bad_frame");
    }
    let post = |media: &str, body: &[u8]| {
        broker
            .request("POST", MESSAGES)
            .header("content-type", media)
            .body(body)
            .send()
    };
    post("application/json", b"{\"payload\":\"\xff\"}").expect_problem(400, "bad_frame");
    post("multipart/form-data; boundary=x", b"{\"payload\":1}").expect_problem(400, "invalid_argument");
    post("application/xml", b"{\"payload\":1}").expect_problem(400, "invalid_argument");
    broker
        .request("POST", MESSAGES)
        .header("content-encoding", "gzip")
        .json(r#"{"payload":1}"#)
        .send()
        .expect_problem(400, "invalid_argument");
    // What a shell sends by itself.
    post("application/x-www-form-urlencoded", b"{\"payload\":1}").expect(200);
    broker
        .request("POST", MESSAGES)
        .body(b" {\"payload\":1}")
        .send()
        .expect(200);
    for query in ["?ack=maybe", "?timeout_ms=soon"] {
        let path = format!("{MESSAGES}{query}");
        broker
            .post(&path, r#"{"payload":1}"#)
            .expect_problem(400, "invalid_argument");
    }
    for ack in ["none", "accepted", "durable"] {
        let published = broker
            .post(&format!("{MESSAGES}?ack={ack}"), r#"{"payload":1}"#)
            .expect(200);
        assert!(published["offset"].is_u64(), "{published}");
    }
}

#[test]
fn array_may_be_larger_than_a_frame_and_an_object_may_not() {
    let broker = Broker::start();
    let record = format!(r#"{{"payload":"{}"}}"#, "x".repeat(300 << 10));
    let array = format!("[{}]", [record.as_str(); 10].join(","));
    let published = broker.post(MESSAGES, &array).expect(200);
    assert_eq!(published["results"].as_array().unwrap().len(), 10);
    let huge = format!(r#"{{"payload":"{}"}}"#, "x".repeat(1 << 20));
    broker
        .post(MESSAGES, &huge)
        .expect_problem(413, "frame_too_large");
    let array = format!("[{}]", [record.as_str(); 30].join(","));
    broker
        .post(MESSAGES, &array)
        .expect_problem(413, "frame_too_large");
    let config = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
    broker
        .post("/api/v1/topics", &config)
        .expect_problem(413, "frame_too_large");
    assert_eq!(offsets(&read(&broker, "?last=1").expect(200)), [9]);
}

#[test]
fn repeat_of_a_message_id_answers_with_the_first_offset() {
    let broker = Broker::start();
    let body = r#"{"payload":1,"message_id":"m-1"}"#;
    assert_eq!(broker.post(MESSAGES, body).expect(200).get("duplicate"), None);
    let repeat = broker.post(MESSAGES, body).expect(200);
    assert_eq!(
        (&repeat["duplicate"], &repeat["offset"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(offsets(&read(&broker, "").expect(200)), [0]);
}

#[test]
fn pages_are_read_by_offset_time_and_last() {
    let broker = Broker::start();
    for _ in 0..3 {
        broker
            .post(MESSAGES, &format!("[{}]", vec![r#"{"payload":1}"#; 40].join(",")))
            .expect(200);
    }
    let all: Vec<u64> = (0..120).collect();
    let page = |query: &str| read(&broker, query).expect(200);
    assert_eq!(offsets(&page("")), all[..100]);
    assert_eq!(offsets(&page("?limit=5000")), all);
    assert_eq!(offsets(&page("?offset=118")), [118, 119]);
    let end = page("?offset=120");
    assert_eq!((offsets(&end), &end["next_offset"]), (vec![], &json!(120)));
    assert_eq!(offsets(&page("?offset=7&limit=2")), [7, 8]);
    assert_eq!(offsets(&page("?limit=0")), [0; 0]);
    assert_eq!(offsets(&page("?last=110")), all[10..]);
    assert_eq!(offsets(&page("?last=5000")), all);
    assert_eq!(offsets(&page("?last=3&limit=1")), [117]);
    assert_eq!(offsets(&page("?time=1999-01-01T00:00:00Z&limit=1")), [0]);
    assert_eq!(offsets(&page("?time=2999-01-01T00:00:00%2B01:00")), [0; 0]);
    read(&broker, "?offset=121").expect_problem(400, "offset_out_of_range");
    for query in [
        "?offset=-1",
        "?offset=x",
        "?last=1&offset=1",
        "?time=yesterday",
        "?limit=-1",
        "?last=1&last=2",
    ] {
        read(&broker, query).expect_problem(400, "invalid_argument");
    }
    let elsewhere = |path: &str| broker.get(&format!("/api/v1/topics/{path}/messages"));
    elsewhere("orders/partitions/1").expect_problem(400, "partition_out_of_range");
    elsewhere("orders/partitions/x").expect_problem(400, "invalid_argument");
    elsewhere("nothing/partitions/0").expect_problem(404, "topic_not_found");
}

#[test]
fn time_begins_with_the_first_record_of_that_time() {
    let broker = Broker::start();
    let publish = || {
        broker.post(MESSAGES, r#"{"payload":1}"#).expect(200);
        let page = read(&broker, "?last=1").expect(200);
        page["messages"][0].clone()
    };
    let first = publish()["timestamp"].as_u64().unwrap();
    let later = until("a later millisecond", || {
        let record = publish();
        (record["timestamp"].as_u64().unwrap() > first).then_some(record)
    });
    let timestamp = callboard_protocol::Timestamp(later["timestamp"].as_u64().unwrap());
    let time = callboard_protocol::time::format_rfc3339(timestamp);
    let page = read(&broker, &format!("?time={time}&limit=1")).expect(200);
    assert_eq!(page["messages"][0], later);
}

#[test]
fn expired_record_is_gone_for_who_names_it_and_left_out_for_others() {
    let broker = Broker::start();
    broker
        .post(MESSAGES, r#"[{"payload":1,"ttl_ms":1},{"payload":2}]"#)
        .expect(200);
    let problem = until("the record to expire", || {
        Some(read(&broker, "?offset=0")).filter(|answer| answer.status != 200)
    });
    assert_eq!(problem.expect_problem(410, "expired")["next_offset"], 1);
    assert_eq!(offsets(&read(&broker, "").expect(200)), [1]);
    assert_eq!(offsets(&read(&broker, "?last=2").expect(200)), [1]);
}

#[test]
fn what_was_acked_is_there_after_a_kill() {
    let mut broker = Broker::start();
    for offset in 0..20 {
        let published = broker
            .post(MESSAGES, &format!(r#"{{"payload":{offset}}}"#))
            .expect(200);
        assert_eq!(published["durability"], "fsync");
    }
    let before = read(&broker, "").expect(200);
    let topic = broker.get("/api/v1/topics/orders").expect(200);
    broker.kill();
    broker.restart();
    assert_eq!(read(&broker, "").expect(200), before);
    assert_eq!(
        broker.get("/api/v1/topics/orders").expect(200)["epoch"],
        topic["epoch"]
    );
}
