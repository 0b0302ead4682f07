//! Exchanges as clients see them: over WebSocket, REST and the command line, against a real broker process.

mod cli;
mod rest;
mod routing;
mod survival;

use serde_json::{Value, json};

use crate::{socket::Socket, support::Broker};

/// A client that numbers what it asks.
struct Asker {
    socket: Socket,
    id: u64,
}

impl Asker {
    fn new(broker: &Broker) -> Self {
        Self {
            socket: broker.connect(),
            id: 0,
        }
    }

    fn ask(&mut self, mut frame: Value) -> Value {
        self.id += 1;
        frame["id"] = self.id.into();
        self.socket.ask(&frame.to_string())
    }

    /// Asks what must be `ok`.
    fn ok(&mut self, frame: Value) {
        let answer = self.ask(frame.clone());
        assert_eq!(answer["type"], "ok", "{frame}: {answer}");
    }

    /// Asks what must be refused.
    fn refused(&mut self, frame: Value, code: &str) -> Value {
        let answer = self.ask(frame.clone());
        assert_eq!(
            (answer["type"].as_str(), answer["code"].as_str()),
            (Some("error"), Some(code)),
            "{frame}: {answer}"
        );
        answer
    }

    fn declare(&mut self, exchange: &str, kind: &str) {
        self.ok(json!({"type": "declare", "exchange": exchange, "kind": kind}));
    }

    fn bind(&mut self, exchange: &str, topic: &str, routing_key: &str) {
        self.ok(json!({"type": "bind", "exchange": exchange, "topic": topic, "routing_key": routing_key}));
    }

    /// The topics in which a record that goes this way was stored.
    fn routed(&mut self, exchange: &str, routing_key: &str) -> Vec<String> {
        let answer = self.ask(
            json!({"type": "publish", "exchange": exchange, "routing_key": routing_key, "payload": routing_key}),
        );
        assert_eq!(answer["type"], "published", "{answer}");
        assert_eq!(answer["exchange"], exchange);
        topics(&answer)
    }
}

/// The topics of an answer that has `routes`.
fn topics(answer: &Value) -> Vec<String> {
    let routes = answer["routes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let topic = |route: &Value| route["topic"].as_str().unwrap().to_owned();
    routes.iter().map(topic).collect()
}

/// How many records partition 0 of a topic has had.
fn stored(broker: &Broker, topic: &str) -> u64 {
    let topic = broker.get(&format!("/api/v1/topics/{topic}")).expect(200);
    topic["partitions"][0]["next_offset"].as_u64().unwrap()
}
