//! The load: connections that publish as a crowd would, and one that consumes, until the broker is gone.

use std::{collections::HashMap, thread::JoinHandle};

use serde_json::Value;

use super::{
    later,
    ledger::{Ledger, Seen, Spot},
    record::{self, BINDINGS, EXCHANGE, LATER, Number, Record, TOPICS},
    writer::Writer,
};
use crate::{
    broker::Broker,
    chance::Chance,
    shell::Failure,
    websocket::{Ended, Frame, WebSocket},
};

/// The two ways to put frames into messages.
pub const SUBPROTOCOLS: [&str; 2] = ["callboard.v1.json", "callboard.v1.ndjson"];
/// Publishing connections.
const WRITERS: u64 = 4;

/// Declares the topics, the exchange and its bindings, the same each time, and notes the topics' epochs.
///
/// # Errors
/// When the broker refuses.
pub fn declare_topics(broker: &Broker, ledger: &mut Ledger) -> Result<(), Failure> {
    let failed = |ended: Ended| Failure::new(format!("declaring the topics: {ended}"));
    let mut socket = WebSocket::connect(broker.address(), SUBPROTOCOLS[0]).map_err(failed)?;
    for (topic, ledger) in TOPICS.iter().zip(&mut ledger.topics) {
        let (name, partitions, durability) = (topic.name, topic.partitions, topic.durability);
        let declare = format!(
            r#"{{"type":"declare","id":1,"topic":"{name}","partitions":{partitions},"durability":"{durability}"}}"#
        );
        let subscribe = format!(r#"{{"type":"subscribe","id":2,"topic":"{name}"}}"#);
        for (id, frame, expected) in [(1, declare, "ok"), (2, subscribe, "subscribed")] {
            let reply = socket.ask(id, &frame).map_err(failed)?;
            if reply.kind != expected {
                return Err(Failure::new(format!("{frame} was answered {}", reply.value)));
            }
            if let Some(epoch) = reply.value["epoch"].as_str() {
                ledger.epoch = Some(epoch.to_owned());
            }
        }
    }
    let declare = format!(r#"{{"type":"declare","id":3,"exchange":"{EXCHANGE}","kind":"topic"}}"#);
    let bind = |(topic, key): &(usize, &str)| {
        let topic = TOPICS[*topic].name;
        format!(r#"{{"type":"bind","id":3,"exchange":"{EXCHANGE}","topic":"{topic}","routing_key":"{key}"}}"#)
    };
    for frame in std::iter::once(declare).chain(BINDINGS.iter().map(bind)) {
        let reply = socket.ask(3, &frame).map_err(failed)?;
        if reply.kind != "ok" {
            return Err(Failure::new(format!("{frame} was answered {}", reply.value)));
        }
    }
    Ok(())
}

/// Starts the connections. `run` makes their records' numbers unique.
pub fn start(broker: &Broker, ledger: &Ledger, chance: &mut Chance, run: u64) -> Vec<JoinHandle<Seen>> {
    let mut workers = Vec::new();
    for index in 0..WRITERS {
        let writer = Writer::new(ledger.seed, chance.split(), run * WRITERS + index);
        let address = broker.address().to_owned();
        let subprotocol = SUBPROTOCOLS[(index % 2) as usize];
        workers.push(std::thread::spawn(move || writer.live(&address, subprotocol)));
    }
    let (seed, mut chance) = (ledger.seed, chance.split());
    let address = broker.address().to_owned();
    workers.push(std::thread::spawn(move || consume(&address, seed, &mut chance)));
    workers
}

/// Waits for the connections' end. A worker that panics counts as a violation.
pub fn join(workers: Vec<JoinHandle<Seen>>) -> Vec<Seen> {
    let panicked = |_| Seen {
        violations: vec!["a connection of the load panicked".into()],
        is_consumer: true,
        ..Seen::default()
    };
    workers
        .into_iter()
        .map(|worker| worker.join().unwrap_or_else(panicked))
        .collect()
}

/// The kill ends a connection; all else is the broker's fault.
pub fn note_end(violations: &mut Vec<String>, ended: Ended) {
    match ended {
        Ended::Gone(None) => {}
        other => violations.push(format!("a connection ended: {other}")),
    }
}

/// Partition and offset, where an answer or a record has both.
pub fn spot_in(value: &Value) -> Option<Spot> {
    Some(Spot {
        partition: value["partition"].as_u64()?,
        offset: value["offset"].as_u64()?,
    })
}

/// Subscribes to everything and notes what is shown: it is durable, or it must not be shown.
fn consume(address: &str, seed: u64, chance: &mut Chance) -> Seen {
    let mut seen = Seen {
        is_consumer: true,
        ..Seen::default()
    };
    let from = *chance.pick(&["latest", "earliest"]);
    if let Err(ended) = consume_into(&mut seen, address, seed, from) {
        note_end(&mut seen.violations, ended);
    }
    seen
}

fn consume_into(seen: &mut Seen, address: &str, seed: u64, from: &str) -> Result<(), Ended> {
    let mut socket = WebSocket::connect(address, SUBPROTOCOLS[1])?;
    for topic in &TOPICS {
        socket.send(&format!(
            r#"{{"type":"subscribe","topic":"{}","from":"{from}"}}"#,
            topic.name
        ))?;
    }
    let mut newest: HashMap<(usize, u64), u64> = HashMap::new();
    loop {
        let frame = Frame::read(socket.receive()?)?;
        if frame.kind != "message" {
            if !matches!(frame.kind.as_str(), "welcome" | "subscribed") {
                seen.violations
                    .push(format!("a consumer was told {}", frame.value));
            }
            continue;
        }
        let shown = frame.record()?;
        let name = shown.value["topic"].as_str().unwrap_or_default().to_owned();
        let Some(topic) = TOPICS.iter().position(|topic| topic.name == name) else {
            return Err(Ended::Broken(format!(
                "a record of {name:?}, which nobody asked for"
            )));
        };
        let number = match check_bytes(seed, topic, &shown.payload, &shown.value) {
            Ok(number) => number,
            Err(violation) => {
                seen.violations.push(violation);
                continue;
            }
        };
        let Some(spot) = spot_in(&shown.value) else {
            continue;
        };
        let before = newest.insert((topic, spot.partition), spot.offset);
        if let Some(before) = before.filter(|before| *before >= spot.offset) {
            seen.violations
                .push(format!("{name}: offset {} was shown after {before}", spot.offset));
        }
        if topic == LATER {
            let timestamp = shown.value["timestamp"].as_u64().unwrap_or_default();
            seen.later.shown.push((number, timestamp, later::now_ms()));
        }
        if TOPICS[topic].is_durable() {
            seen.promised.push((topic, spot, number));
        }
    }
}

/// The number of a record that came back, if it is byte for byte what was sent under that number.
///
/// # Errors
/// Says what differs.
pub fn check_bytes(seed: u64, topic: usize, payload: &str, value: &Value) -> Result<Number, String> {
    let name = TOPICS[topic].name;
    let Some(number) = record::number_in(payload) else {
        return Err(format!("{name}: a payload that nobody sent: {payload:.200}"));
    };
    let record = Record::new(seed, topic, number);
    if record.payload != payload {
        return Err(format!("{name}: {number} came back as {payload:.200}"));
    }
    if record.key.as_deref() != value["key"].as_str() {
        return Err(format!(
            "{name}: {number} came back with the key {}",
            value["key"]
        ));
    }
    Ok(number)
}
