//! Frames that are wrong as JSON or as frames: an error with a code, the connection goes on.

use crate::{process::Broker, socket::Socket};

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// A broker, somebody who sends nonsense, and somebody else who must not notice.
struct Scene {
    _data: tempfile::TempDir,
    broker: Broker,
    witness: Socket,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::start(data.path(), &[]);
        let mut witness = broker.connect();
        witness.send(r#"{"type":"subscribe","id":1,"topic":"witness"}"#);
        assert_eq!(witness.frame()["type"], "subscribed");
        Self {
            _data: data,
            broker,
            witness,
        }
    }

    /// The other client publishes, and is shown what it published.
    fn nobody_else_noticed(&mut self) {
        self.witness
            .send(r#"{"type":"publish","id":2,"topic":"witness","payload":"still here"}"#);
        let mut seen = [self.witness.frame(), self.witness.frame()];
        seen.sort_by_key(|frame| frame["type"].to_string());
        assert_eq!(seen[0]["payload"], "still here");
        assert_eq!(seen[1]["type"], "published");
    }
}

#[test]
fn wrong_frame_gets_an_error_and_the_connection_goes_on() {
    let mut scene = Scene::new();
    let mut client = scene.broker.connect();
    let deep = format!(
        r#"{{"type":"publish","id":7,"topic":"t","payload":{}}}"#,
        nested(129)
    );
    let deep_elsewhere = format!(r#"{{"type":"ping","id":7,"more":{}}}"#, nested(100_000));
    let wrong: [(&str, &[&str]); 16] = [
        ("", &["bad_frame"]),
        ("no json at all", &["bad_frame"]),
        (r#"{"type":"ping","id":7"#, &["bad_frame"]),
        ("[1,2]", &["bad_frame"]),
        ("null", &["bad_frame"]),
        (r#"{"id":7}"#, &["bad_frame"]),
        (r#"{"type":7,"id":7}"#, &["bad_frame"]),
        (r#"{"type":"dance","id":7}"#, &["unknown_type"]),
        (&deep, &["bad_frame"]),
        (&deep_elsewhere, &["bad_frame"]),
        (
            r#"{"type":"publish","id":7,"topic":5,"payload":1}"#,
            &["bad_frame", "invalid_argument"],
        ),
        (
            r#"{"type":"publish","id":7,"topic":"no such\nname","payload":1}"#,
            &["bad_frame", "invalid_argument"],
        ),
        (
            r#"{"type":"publish","id":7,"topic":"t"}"#,
            &["bad_frame", "invalid_argument"],
        ),
        (
            r#"{"type":"publish","id":7,"topic":"t","payload":01}"#,
            &["bad_frame"],
        ),
        (
            r#"{"type":"ping","id":1e400}"#,
            &["bad_frame", "invalid_argument"],
        ),
        (
            r#"{"type":"fetch","id":7,"topic":"t","partition":0,"offset":123456789012345678901234567890}"#,
            &["bad_frame", "invalid_argument"],
        ),
    ];
    for (frame, codes) in wrong {
        client.send(frame);
        let error = client.frame();
        let shown: String = frame.chars().take(100).collect();
        assert_eq!(error["type"], "error", "{shown}: {error}");
        assert!(
            codes.contains(&error["code"].as_str().unwrap()),
            "{shown}: {error}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty(), "{shown}: {error}");
        assert_eq!(client.ask(r#"{"type":"ping","id":"after"}"#)["type"], "pong");
    }
    scene.nobody_else_noticed();
}

#[test]
fn error_carries_the_id_where_it_can_be_read() {
    let scene = Scene::new();
    let mut client = scene.broker.connect();
    for frame in [
        r#"{"type":"dance","id":"step-1"}"#,
        r#"{"id":"step-1","type":"publish","topic":"t"}"#,
        r#"{"type":"publish","id":"step-1","topic":"t","partition":9,"payload":1}"#,
    ] {
        client.send(frame);
        let error = client.frame();
        assert_eq!(
            (error["type"].as_str(), error["id"].as_str()),
            (Some("error"), Some("step-1")),
            "{error}"
        );
    }
}

#[test]
fn huge_number_passes_as_a_payload_byte_for_byte() {
    let scene = Scene::new();
    let mut client = scene.broker.connect();
    let digits = "9".repeat(10_000);
    for payload in ["1e999999", "-0", "1.10", "999999996000000004", digits.as_str()] {
        client.send(&format!(
            r#"{{"type":"publish","id":1,"topic":"t","payload":{payload}}}"#
        ));
        assert_eq!(client.frame()["type"], "published");
    }
    // The text itself is looked at, because a JSON reader would round what it is about.
    let mut page = scene.broker.connect();
    page.send(r#"{"type":"fetch","id":2,"topic":"t","partition":0,"offset":0}"#);
    let text = page.text();
    for payload in ["1e999999", "-0", "1.10", "999999996000000004", digits.as_str()] {
        assert!(
            text.contains(&format!(r#""payload":{payload}}}"#)),
            "{payload:.40} in {text:.400}"
        );
    }
}

#[test]
fn error_in_a_batch_leaves_its_neighbours_alone() {
    let scene = Scene::new();
    let mut client = scene.broker.connect();
    let reply = client.ask(
        r#"{"type":"publish","id":1,"topic":"t","messages":[{"payload":1},{"payload":2,"partition":5},{"payload":3}]}"#,
    );
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results[0]["offset"], 0);
    assert_eq!(results[1]["error"]["code"], "partition_out_of_range");
    assert_eq!(results[2]["offset"], 1);
}
