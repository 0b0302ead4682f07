//! A client of groups that loses no frame: replies are found among what else comes, and the rest waits.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::{
    socket::{Incoming, Socket},
    support::{Broker, until},
};

/// The topic of every test; each has a broker of its own.
pub const TOPIC: &str = "jobs";
/// Their group.
pub const GROUP: &str = "crew";
/// Where the broker describes it.
pub const GROUP_PATH: &str = "/api/v1/topics/jobs/groups/crew";

/// One session.
pub struct Client {
    socket: Socket,
    /// What came and was not taken yet, in the order in which it came.
    inbox: VecDeque<Value>,
    next_id: u64,
    /// What `assigned` and `revoked` say that it owns, with the offsets that it began at.
    owned: BTreeMap<u64, u64>,
    generation: u64,
}

impl Client {
    /// Connects to a broker.
    pub fn new(broker: &Broker) -> Self {
        Self::on(broker.connect())
    }

    /// The same on a socket that is open already.
    pub fn on(socket: Socket) -> Self {
        Self {
            socket,
            inbox: VecDeque::new(),
            next_id: 1,
            owned: BTreeMap::new(),
            generation: 0,
        }
    }

    /// Sends a frame as it is.
    pub fn send(&mut self, frame: &Value) {
        self.socket.send(&frame.to_string());
    }

    /// Sends a frame under a new id, which is returned.
    pub fn begin(&mut self, mut frame: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        frame["id"] = id.into();
        self.send(&frame);
        id
    }

    /// Sends a frame and waits for its reply.
    pub fn ask(&mut self, frame: Value) -> Value {
        let id = self.begin(frame);
        self.reply(id)
    }

    /// Waits for the reply to an id.
    pub fn reply(&mut self, id: u64) -> Value {
        self.take(|frame| frame["id"] == id)
    }

    /// The same, which must be of this type.
    pub fn expect(&mut self, frame: Value, kind: &str) -> Value {
        let shown = frame.to_string();
        let reply = self.ask(frame);
        assert_eq!(reply["type"], kind, "{shown} was answered {reply}");
        reply
    }

    /// The same, which must be an error with this code.
    pub fn refused(&mut self, frame: Value, code: &str) -> Value {
        let shown = frame.to_string();
        let reply = self.expect(frame, "error");
        assert_eq!(reply["code"], code, "{shown} was answered {reply}");
        reply
    }

    /// The first frame of this type that was not taken yet.
    pub fn of_type(&mut self, kind: &str) -> Value {
        self.take(|frame| frame["type"] == kind)
    }

    /// The next record.
    pub fn message(&mut self) -> Value {
        self.of_type("message")
    }

    /// The next records.
    pub fn messages(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.message()).collect()
    }

    fn take(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(place) = self.inbox.iter().position(&wanted) {
                return self.inbox.remove(place).unwrap();
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let frame = match self.socket.next() {
            Incoming::Frame(frame) => frame,
            other => panic!("{other:?} instead of a frame; waiting: {:?}", self.inbox),
        };
        match frame["type"].as_str().unwrap() {
            "assigned" => {
                for (partition, offset) in frame["offsets"].as_object().unwrap() {
                    let before = self
                        .owned
                        .insert(partition.parse().unwrap(), offset.as_u64().unwrap());
                    assert_eq!(before, None, "{frame} names what it has already");
                }
                self.generation = frame["generation"].as_u64().unwrap();
            }
            "revoked" => {
                for partition in frame["partitions"].as_array().unwrap() {
                    let had = self.owned.remove(&partition.as_u64().unwrap());
                    assert!(had.is_some(), "{frame} names what it does not have");
                }
                self.generation = frame["generation"].as_u64().unwrap();
            }
            "unsubscribed" => self.owned.clear(),
            _ => {}
        }
        self.inbox.push_back(frame);
    }

    /// Reads all that was sent before the answer to a ping.
    pub fn catch_up(&mut self) {
        let id = self.begin(json!({"type":"ping"}));
        self.reply(id);
    }

    /// Whether nothing of this type came and was not taken, as far as the broker has spoken.
    pub fn has_none(&mut self, kind: &str) -> bool {
        self.catch_up();
        !self.inbox.iter().any(|frame| frame["type"] == kind)
    }

    /// The partitions that it owns, after having been told of so many.
    pub fn owns(&mut self, count: usize) -> Vec<u64> {
        while self.owned.len() != count {
            self.read();
        }
        self.partitions()
    }

    /// The partitions that it owns as far as it knows.
    pub fn partitions(&self) -> Vec<u64> {
        self.owned.keys().copied().collect()
    }

    /// Where a partition that it owns began.
    pub fn began_at(&self, partition: u64) -> u64 {
        self.owned[&partition]
    }

    /// The generation that it heard of last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the topic, with more fields of its configuration.
    pub fn declare(&mut self, config: Value) {
        self.expect(with(json!({"type":"declare","topic":TOPIC}), config), "ok");
    }

    /// Publishes numbers from `from` on to one partition, in one frame.
    pub fn publish(&mut self, partition: u64, numbers: std::ops::Range<u64>) {
        let messages: Vec<Value> = numbers
            .map(|number| json!({"partition":partition,"payload":number}))
            .collect();
        let count = messages.len();
        let reply = self.expect(
            json!({"type":"publish","topic":TOPIC,"messages":messages}),
            "published",
        );
        let stored = reply["results"].as_array().unwrap().iter();
        assert_eq!(
            stored.filter(|result| result["offset"].is_u64()).count(),
            count,
            "{reply}"
        );
    }

    /// Publishes one record.
    pub fn publish_one(&mut self, record: Value) -> Value {
        self.expect(with(json!({"type":"publish","topic":TOPIC}), record), "published")
    }

    /// Joins the partitioned group, with more fields.
    pub fn join(&mut self, more: Value) -> Value {
        self.expect(joining("partitioned", more), "subscribed")
    }

    /// Joins the shared group, with more fields.
    pub fn work(&mut self, more: Value) -> Value {
        self.expect(joining("shared", more), "subscribed")
    }

    /// Leaves the group.
    pub fn leave(&mut self) {
        self.expect(json!({"type":"unsubscribe","topic":TOPIC,"group":GROUP}), "ok");
        self.owned.clear();
    }

    /// Commits positions and waits for the answer.
    pub fn commit(&mut self, offsets: Value) {
        self.expect(committing(offsets), "ok");
    }

    /// Acks a record and waits for the answer.
    pub fn ack(&mut self, message: &Value) {
        self.expect(json!({"type":"ack","deliveries":[message["delivery"]]}), "ok");
    }

    /// Nacks a record, with more fields, and waits for the answer.
    pub fn nack(&mut self, message: &Value, more: Value) {
        let frame = json!({"type":"nack","deliveries":[message["delivery"]]});
        self.expect(with(frame, more), "ok");
    }
}

/// A frame that joins the group.
pub fn joining(mode: &str, more: Value) -> Value {
    with(
        json!({"type":"subscribe","topic":TOPIC,"group":GROUP,"mode":mode}),
        more,
    )
}

/// A frame that commits.
pub fn committing(offsets: Value) -> Value {
    json!({"type":"commit","topic":TOPIC,"group":GROUP,"offsets":offsets})
}

/// An object with more fields.
pub fn with(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("{more} is no object")
    };
    object.as_object_mut().unwrap().extend(more);
    object
}

/// What the broker says of the group.
pub fn describe(broker: &Broker) -> Value {
    broker.get(GROUP_PATH).expect(200)
}

/// Waits until the group's description is as it must be.
pub fn until_group(broker: &Broker, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(describe(broker)).filter(&holds))
}

/// The position that is committed in a partition.
pub fn committed(broker: &Broker, partition: usize) -> u64 {
    let group = describe(broker);
    assert_eq!(group["partitions"][partition]["partition"], partition, "{group}");
    group["partitions"][partition]["committed"].as_u64().unwrap()
}
