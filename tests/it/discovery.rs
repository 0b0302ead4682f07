//! What a broker tells of itself in `$events`, topics that come and go with their subscribers, and records
//! that wait for a consumer: real sockets against a real broker process.

mod events;
mod hold;
mod silence;
mod temporary;

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::{groups::client::Client, support::Broker};

/// A reader of `$events` from its first record on.
struct Watcher {
    client: Client,
    seen: VecDeque<Value>,
}

impl Watcher {
    fn new(broker: &Broker) -> Self {
        let mut client = Client::new(broker);
        client.expect(
            json!({"type":"subscribe","topic":"$events","from":"earliest"}),
            "subscribed",
        );
        Self {
            client,
            seen: VecDeque::new(),
        }
    }

    /// The next event of this name that has these members, and `at`, when it was told; those before it are
    /// dropped.
    fn until(&mut self, event: &str, members: &Value) -> Value {
        loop {
            let payload = self.seen.pop_front().unwrap_or_else(|| self.read());
            let fits = |(name, value): (&String, &Value)| payload[name] == *value;
            if payload["event"] == event && members.as_object().unwrap().iter().all(fits) {
                return payload;
            }
        }
    }

    fn read(&mut self) -> Value {
        let message = self.client.message();
        let mut payload = message["payload"].clone();
        payload["at"] = message["timestamp"].clone();
        payload
    }
}
