//! Holds `docs/protocol.md` against a live broker: each client frame in it gets the answer it says, and each
//! server frame in it looks as a real one does.

use serde_json::{Value, json};

use crate::{
    process::Broker,
    protocol_doc::{DOCUMENT, Example, client_frames, examples, refused},
    socket::{Incoming, Socket, request},
};

const SUBPROTOCOLS: [&str; 2] = ["callboard.v1.json", "callboard.v1.ndjson"];

/// What answers a client frame of the document; `None` for one that is not answered when all is well.
fn expected(frame: &Value) -> Option<&'static str> {
    if refused(frame).is_some() {
        return Some("error");
    }
    frame.get("id")?;
    Some(match frame["type"].as_str().unwrap() {
        "publish" => "published",
        "subscribe" => "subscribed",
        "unsubscribe" | "declare" | "bind" | "unbind" => "ok",
        "fetch" => "messages",
        "ping" => "pong",
        other => panic!("no answer is known for {other}"),
    })
}

/// Looks at the answer to the client frame that stands in `example`.
fn assert_answers(answer: &Value, example: &Example<'_>, frame: &Value) {
    let line = example.line;
    assert_eq!(answer["type"].as_str(), expected(frame), "line {line}: {answer}");
    assert_eq!(answer.get("id"), frame.get("id"), "line {line}: {answer}");
    if let Some(code) = refused(frame) {
        assert_eq!(answer["code"], code.to_string(), "line {line}: {answer}");
        assert_eq!(answer["retryable"], code.is_retryable(), "line {line}: {answer}");
    } else if let Some(topic) = frame.get("topic").filter(|_| answer["type"] != "ok") {
        assert_eq!(&answer["topic"], topic, "line {line}: {answer}");
    }
}

/// The document's own `declare`s and the binding that its publish goes by come first: after the first publish the
/// topic would be there with defaults, and without them it would find no exchange.
fn declare_first(client: &mut Socket) {
    for (kind, field) in [
        ("declare", "partitions"),
        ("declare", "exchange"),
        ("bind", "topic"),
    ] {
        let says = |text: &str, word: &str| text.contains(&format!("\"{word}\""));
        let frame = client_frames()
            .into_iter()
            .find(|example| says(example.text, kind) && says(example.text, field))
            .unwrap();
        assert_eq!(client.ask(frame.text)["type"], "ok", "{}", frame.text);
    }
}

/// The next frame that answers one; what is published reaches the subscriptions on its way, and members are told
/// what is theirs.
fn answer(client: &mut Socket) -> Value {
    let frames = std::iter::repeat_with(|| client.frame());
    let mut answers = frames.filter(|frame| {
        let unasked = ["message", "assigned", "revoked", "notice"];
        !unasked.contains(&frame["type"].as_str().unwrap())
    });
    answers.next().unwrap()
}

#[test]
fn every_client_frame_of_the_document_is_answered_as_it_says() {
    for subprotocol in SUBPROTOCOLS {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::start(data.path(), &[]);
        let mut client = Socket::speak(broker.address(), subprotocol);
        assert_eq!(client.frame()["type"], "welcome");
        declare_first(&mut client);
        for example in client_frames() {
            let frame: Value = serde_json::from_str(example.text).unwrap();
            client.send(example.text);
            if expected(&frame).is_some() {
                assert_answers(&answer(&mut client), &example, &frame);
            }
            // Nothing more came, neither a second answer nor one to a frame that gets none.
            client.send(r#"{"type":"ping","id":"fence"}"#);
            let fence = answer(&mut client);
            assert_eq!(
                (&fence["type"], &fence["id"]),
                (&json!("pong"), &json!("fence")),
                "line {}: {fence}",
                example.line
            );
        }
    }
}

#[test]
fn all_client_frames_of_the_document_in_one_ndjson_message_are_each_answered() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut client = Socket::speak(broker.address(), "callboard.v1.ndjson");
    assert_eq!(client.frame()["type"], "welcome");
    declare_first(&mut client);
    let examples = client_frames();
    let lines: Vec<&str> = examples.iter().map(|example| example.text).collect();
    client.send(&lines.join("\n"));
    let frames: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answered = frames.iter().filter(|frame| expected(frame).is_some());
    let mut answers: Vec<Value> = Vec::new();
    for _ in answered {
        answers.push(answer(&mut client));
    }
    // A publish is answered when it is stored, so its reply may come after those to later frames.
    for (frame, example) in frames.iter().zip(&examples) {
        if expected(frame).is_some() {
            let answer = answers.iter().find(|answer| answer["id"] == frame["id"]);
            assert_answers(answer.expect(example.text), example, frame);
        }
    }
}

/// How a value looks: names of members and kinds of values. What is under `offsets` and `topics` has names
/// that are data.
fn shape(name: &str, value: &Value) -> Value {
    match value {
        _ if ["payload", "result"].contains(&name) => json!("any"),
        Value::Object(members) if ["offsets", "topics"].contains(&name) => {
            json!({"*": members.values().next().map(|value| shape("", value))})
        }
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shape(name, value)))
            .collect(),
        Value::Array(values) => json!([values.first().map(|value| shape("", value))]),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("boolean"),
        Value::Null => json!("null"),
    }
}

/// The server frames of the document.
fn server_frames() -> Vec<(usize, Value)> {
    examples(DOCUMENT)
        .into_iter()
        .filter(|example| example.heading == "Server frames")
        .map(|example| (example.line, serde_json::from_str(example.text).unwrap()))
        .collect()
}

/// A client, and all that it was told.
struct Conversation {
    client: Socket,
    heard: Vec<Value>,
}

impl Conversation {
    /// Listens until a frame of this type comes.
    fn hear(&mut self, until: &str) {
        loop {
            let frame = self.client.frame();
            self.heard.push(frame);
            if self.heard.last().is_some_and(|frame| frame["type"] == until) {
                return;
            }
        }
    }

    fn say(&mut self, frame: &str, until: &str) {
        self.client.send(frame);
        self.hear(until);
    }
}

/// Makes a broker say what it says to members of groups, and to those who wait for them.
fn groups_said(talk: &mut Conversation, (address, subprotocol): (&str, &str)) {
    talk.say(
        r#"{"type":"declare","id":20,"topic":"jobs","partitions":2}"#,
        "ok",
    );
    let join = r#"{"type":"subscribe","id":21,"topic":"jobs","group":"workers","mode":"shared"}"#;
    talk.say(join, "subscribed");
    let job = r#"{"type":"publish","id":22,"topic":"jobs","payload":[6,7],"ack":"processed"}"#;
    talk.say(job, "message");
    let delivery = talk.heard.last().unwrap()["delivery"].clone();
    // Without an id, so that what it is answered with is what the publisher waits for.
    let ack = format!(r#"{{"type":"ack","deliveries":[{delivery}],"result":{{"product":42}}}}"#);
    talk.say(&ack, "published");
    let again = format!(r#"{{"type":"ack","id":23,"deliveries":[{delivery}]}}"#);
    talk.say(&again, "error");
    let job =
        r#"{"type":"publish","id":24,"topic":"jobs","key":"c","payload":1,"ack":"processed","timeout_ms":1}"#;
    talk.say(job, "error");
    let join = r#"{"type":"subscribe","id":25,"topic":"jobs","group":"billing","mode":"partitioned"}"#;
    talk.say(join, "assigned");
    // The one record with a key.
    while talk.heard.last().unwrap().get("key").is_none() {
        talk.hear("message");
    }
    let mut second = Socket::speak(address, subprotocol);
    second.send(join);
    talk.hear("revoked");
    let deleted = request(address, "DELETE /api/v1/topics/jobs");
    assert!(deleted.starts_with("HTTP/1.1 204"), "{deleted}");
    talk.hear("unsubscribed");
}

/// Makes a broker say what it says of routes, of records that are due later, and to those who asked for notices.
fn routed_said(talk: &mut Conversation) {
    talk.say(
        r#"{"type":"declare","id":40,"exchange":"all","kind":"fanout"}"#,
        "ok",
    );
    talk.say(
        r#"{"type":"bind","id":41,"exchange":"all","topic":"plant"}"#,
        "ok",
    );
    let routed = r#"{"type":"publish","id":42,"exchange":"all","payload":21.5}"#;
    talk.say(routed, "published");
    let later = r#"{"type":"publish","id":43,"topic":"reminders","payload":1,"delay_ms":3600000}"#;
    talk.say(later, "published");
    let told = |on: &str| {
        format!(
            r#"{{"type":"publish","topic":"told","payload":1,"ack":"none","notify":{{"on":"{on}","correlation_id":"c"}}}}"#
        )
    };
    talk.say(r#"{"type":"subscribe","id":44,"topic":"told"}"#, "subscribed");
    talk.say(&told("delivered"), "notice");
    // After its answer no record comes that could be taken for one of a group.
    talk.say(r#"{"type":"unsubscribe","id":45,"topic":"told"}"#, "ok");
    let join =
        r#"{"type":"subscribe","id":46,"topic":"told","group":"workers","mode":"shared","from":"latest"}"#;
    talk.say(join, "subscribed");
    for settle in [
        r#""type":"ack","result":{}"#,
        r#""type":"nack","dead_letter":true"#,
    ] {
        talk.say(&told("processed"), "message");
        let delivery = talk.heard.last().unwrap()["delivery"].clone();
        talk.say(&format!(r#"{{{settle},"deliveries":[{delivery}]}}"#), "notice");
    }
    let leave = r#"{"type":"unsubscribe","id":47,"topic":"told","group":"workers"}"#;
    talk.say(leave, "ok");
}

/// Makes a broker say all that it can say to a client.
fn everything_said(subprotocol: &str) -> Vec<Value> {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let client = Socket::speak(broker.address(), subprotocol);
    let mut talk = Conversation {
        client,
        heard: Vec::new(),
    };
    talk.hear("welcome");
    talk.say(r#"{"type":"declare","id":1,"topic":"busy","partitions":2}"#, "ok");
    let one = r#"{"type":"publish","id":2,"topic":"busy","partition":0,"key":"c","payload":{"total":12}}"#;
    let two = r#"{"type":"publish","id":3,"topic":"busy","messages":[{"payload":1},{"payload":2}]}"#;
    talk.say(two, "published");
    talk.say(r#"{"type":"subscribe","id":4,"topic":"*"}"#, "subscribed");
    talk.say(r#"{"type":"unsubscribe","id":5,"topic":"*"}"#, "ok");
    talk.say(
        r#"{"type":"subscribe","id":6,"topic":"busy","credit":1,"overflow":"skip"}"#,
        "subscribed",
    );
    for _ in 0..3 {
        talk.say(one, "published");
    }
    // It had credit for the first of the three, and now the second is left out.
    talk.say(r#"{"type":"credit","topic":"busy","add":5}"#, "skipped");
    talk.say(
        r#"{"type":"fetch","id":7,"topic":"busy","partition":0,"offset":99}"#,
        "error",
    );
    talk.say(r#"{"type":"ping","id":8}"#, "pong");
    talk.say(r#"{"type":"declare","id":9,"topic":"empty"}"#, "ok");
    talk.say(
        r#"{"type":"fetch","id":10,"topic":"empty","partition":0,"offset":0}"#,
        "messages",
    );
    routed_said(&mut talk);
    groups_said(&mut talk, (broker.address(), subprotocol));
    let deleted = request(broker.address(), "DELETE /api/v1/topics/busy");
    assert!(deleted.starts_with("HTTP/1.1 204"), "{deleted}");
    talk.hear("unsubscribed");
    broker.signal(libc::SIGTERM);
    talk.hear("goaway");
    assert_eq!(talk.client.next(), Incoming::Close(Some(1001)));
    talk.heard
}

#[test]
fn every_server_frame_of_the_document_looks_as_a_real_one() {
    for subprotocol in SUBPROTOCOLS {
        let seen = everything_said(subprotocol);
        for (line, frame) in server_frames() {
            let wanted = shape("", &frame);
            let same_type: Vec<&Value> = seen.iter().filter(|real| real["type"] == frame["type"]).collect();
            assert!(
                same_type.iter().any(|real| shape("", real) == wanted),
                "{subprotocol}, line {line}: {frame} is not among {same_type:#?}"
            );
        }
    }
}
