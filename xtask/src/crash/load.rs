//! The load: connections that publish as a crowd would, and one that consumes, until the broker is gone.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    thread::JoinHandle,
};

use serde_json::Value;

use super::{
    ledger::{Ledger, Seen, Spot},
    record::{self, Number, Record, TOPICS},
};
use crate::{
    broker::Broker,
    chance::Chance,
    shell::Failure,
    websocket::{Ended, Frame, WebSocket},
};

const SUBPROTOCOLS: [&str; 2] = ["callboard.v1.json", "callboard.v1.ndjson"];
/// Publishing connections.
const WRITERS: u64 = 4;
/// Most frames of one connection that wait for their reply.
const IN_FLIGHT_MAX: usize = 48;
/// Most records of one connection, so that reading everything back stays short.
const RECORDS_MAX: u64 = 12_000;

/// Declares the topics, the same each time, and notes their epochs.
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
        ..nothing_seen(true)
    };
    workers
        .into_iter()
        .map(|worker| worker.join().unwrap_or_else(panicked))
        .collect()
}

fn nothing_seen(is_consumer: bool) -> Seen {
    Seen {
        sent: Vec::new(),
        promised: Vec::new(),
        is_consumer,
        violations: Vec::new(),
    }
}

/// The kill ends a connection; all else is the broker's fault.
fn note_end(violations: &mut Vec<String>, ended: Ended) {
    match ended {
        Ended::Gone(None) => {}
        other => violations.push(format!("a connection ended: {other}")),
    }
}

/// One publishing connection.
struct Writer {
    seed: u64,
    chance: Chance,
    next: Number,
    last: Number,
    next_id: u64,
    in_flight: HashMap<u64, (usize, Vec<Number>)>,
    recent: VecDeque<(usize, Number)>,
    places: HashMap<Number, Spot>,
    seen: Seen,
}

impl Writer {
    fn new(seed: u64, chance: Chance, writer: u64) -> Self {
        let next = record::first_number(writer);
        Self {
            seed,
            chance,
            next,
            last: next + RECORDS_MAX,
            next_id: 1,
            in_flight: HashMap::new(),
            recent: VecDeque::new(),
            places: HashMap::new(),
            seen: nothing_seen(false),
        }
    }

    fn live(mut self, address: &str, subprotocol: &str) -> Seen {
        if let Err(ended) = self.publish(address, subprotocol) {
            note_end(&mut self.seen.violations, ended);
        }
        self.seen
    }

    fn publish(&mut self, address: &str, subprotocol: &str) -> Result<(), Ended> {
        let mut socket = WebSocket::connect(address, subprotocol)?;
        let lines_max = if subprotocol == SUBPROTOCOLS[1] { 8 } else { 1 };
        loop {
            if self.in_flight.len() < IN_FLIGHT_MAX && self.next < self.last {
                let mut message = String::new();
                for _ in 0..self.chance.between(1, lines_max) {
                    self.write_frame(&mut message);
                }
                socket.send(message.trim_end())?;
            } else {
                let frame = Frame::read(socket.receive()?)?;
                self.take(&frame)?;
            }
            while socket.has_more() {
                let frame = Frame::read(socket.receive()?)?;
                self.take(&frame)?;
            }
        }
    }

    fn write_frame(&mut self, out: &mut String) {
        let topic = self.chance.below(TOPICS.len() as u64) as usize;
        let ack = *self.chance.pick(&[
            "",
            "",
            "",
            "",
            r#""ack":"durable","#,
            r#""ack":"accepted","#,
            r#""ack":"none","#,
        ]);
        let count = match self.chance.below(20) {
            0..12 => 1,
            12..19 => self.chance.between(2, 20),
            _ => self.chance.between(50, 150),
        };
        let numbers: Vec<Number> = (0..count).map(|_| self.number_for(topic)).collect();
        let id = self.next_id;
        self.next_id += 1;
        let _ = write!(
            out,
            r#"{{"type":"publish","id":{id},{ack}"topic":"{}","#,
            TOPICS[topic].name
        );
        if let [number] = numbers[..] {
            Record::new(self.seed, topic, number).write_members(out);
        } else {
            out.push_str(r#""messages":["#);
            for number in &numbers {
                out.push('{');
                Record::new(self.seed, topic, *number).write_members(out);
                out.push_str("},");
            }
            out.pop();
            out.push(']');
        }
        out.push_str("}\n");
        self.seen
            .sent
            .extend(numbers.iter().map(|number| (topic, *number)));
        if !ack.contains("none") {
            self.in_flight.insert(id, (topic, numbers));
        }
    }

    /// A new number; now and then a recent one of the same topic once more, if it has a message id.
    fn number_for(&mut self, topic: usize) -> Number {
        if self.chance.once_in(12)
            && let Some((_, number)) = self.recent.iter().rev().find(|(other, _)| *other == topic)
        {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        if Record::new(self.seed, topic, number).message_id.is_some() {
            self.recent.push_back((topic, number));
            if self.recent.len() > 64 {
                self.recent.pop_front();
            }
        }
        number
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Ended> {
        match frame.kind.as_str() {
            "welcome" => return Ok(()),
            "published" => {}
            _ => return Err(Ended::Broken(format!("a publisher was told {}", frame.value))),
        }
        let Some((topic, numbers)) = frame.id.and_then(|id| self.in_flight.remove(&id)) else {
            return Err(Ended::Broken(format!(
                "a reply to nothing that was asked: {}",
                frame.value
            )));
        };
        let durability = frame.value["durability"].as_str().unwrap_or_default();
        match frame.value["results"].as_array() {
            None => self.placed(topic, numbers[0], &frame.value, durability),
            Some(results) if results.len() == numbers.len() => {
                for (number, result) in numbers.iter().zip(results) {
                    self.placed(topic, *number, result, durability);
                }
            }
            Some(results) => {
                let (sent, told) = (numbers.len(), results.len());
                self.seen
                    .violations
                    .push(format!("{sent} records in a batch, {told} results"));
            }
        }
        Ok(())
    }

    /// A record has its place. With a durability that outlives the process this is a promise.
    fn placed(&mut self, topic: usize, number: Number, result: &Value, durability: &str) {
        let is_stored = Record::new(self.seed, topic, number).ttl_ms != Some(0);
        let spot = spot_in(result);
        let (Some(spot), true) = (spot, is_stored) else {
            if spot.is_some() || is_stored {
                self.seen
                    .violations
                    .push(format!("{}: {number} was answered {result}", TOPICS[topic].name));
            }
            return;
        };
        // A repeat is told where the first one lies.
        if let Some(before) = self.places.insert(number, spot)
            && before != spot
        {
            let name = TOPICS[topic].name;
            self.seen.violations.push(format!(
                "{name}: {number} is told to lie at {before:?} and at {spot:?}"
            ));
        }
        if TOPICS[topic].is_durable() && durability != "memory" {
            self.seen.promised.push((topic, spot, number));
        }
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
    let mut seen = nothing_seen(true);
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
