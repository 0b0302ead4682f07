//! One publishing connection, and what it is told.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
};

use serde_json::Value;

use super::{
    later::{self, Scheduled},
    ledger::{Seen, Spot},
    load::{SUBPROTOCOLS, note_end, spot_in},
    record::{self, EXCHANGE, LATER, Number, ROUTED, Record, TARGETS, TOPICS, topics_of},
};
use crate::{
    chance::Chance,
    websocket::{Ended, Frame, WebSocket},
};

/// Most frames of one connection that wait for their reply.
const IN_FLIGHT_MAX: usize = 48;
/// Most records of one connection, so that reading everything back stays short.
const RECORDS_MAX: u64 = 12_000;

/// Records of one frame, all for the same target.
pub type Asked = (usize, Vec<Number>);

/// One publishing connection.
pub struct Writer {
    seed: u64,
    chance: Chance,
    next: Number,
    last: Number,
    next_id: u64,
    in_flight: BTreeMap<u64, Asked>,
    recent: VecDeque<(usize, Number)>,
    places: HashMap<(usize, Number), Spot>,
    seen: Seen,
}

impl Writer {
    /// The writer of this number, before its first record.
    pub fn new(seed: u64, chance: Chance, writer: u64) -> Self {
        let next = record::first_number(writer);
        Self {
            seed,
            chance,
            next,
            last: next + RECORDS_MAX,
            next_id: 1,
            in_flight: BTreeMap::new(),
            recent: VecDeque::new(),
            places: HashMap::new(),
            seen: Seen::default(),
        }
    }

    /// Publishes until the broker is gone.
    pub fn live(mut self, address: &str, subprotocol: &str) -> Seen {
        if let Err(ended) = self.publish(address, subprotocol) {
            note_end(&mut self.seen.violations, ended);
        }
        self.seen.unanswered.extend(self.in_flight.into_values());
        self.seen
    }

    /// Publishes once more what was not answered and can be told from new by its message id: as a client does that
    /// has lost its broker. Whether a first one was stored or not, in the end each is there once.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn repeat(mut self, address: &str, unanswered: Vec<Asked>) -> Result<Seen, Ended> {
        let mut socket = WebSocket::connect(address, SUBPROTOCOLS[0])?;
        for (target, mut numbers) in unanswered {
            let is_repeated = |number: &Number| {
                let record = Record::new(self.seed, target, *number);
                TOPICS[target].is_durable() && record.message_id.is_some() && record.is_kept()
            };
            numbers.retain(is_repeated);
            if numbers.is_empty() {
                continue;
            }
            let mut frame = String::new();
            self.write_publish(&mut frame, "", target, numbers);
            socket.send(frame.trim_end())?;
            while !self.in_flight.is_empty() {
                let frame = Frame::read(socket.receive()?)?;
                self.take(&frame)?;
            }
        }
        Ok(self.seen)
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
        let target = *self.chance.pick(&TARGETS);
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
        let numbers: Vec<Number> = (0..count).map(|_| self.number_for(target)).collect();
        self.write_publish(out, ack, target, numbers);
    }

    fn write_publish(&mut self, out: &mut String, ack: &str, target: usize, numbers: Vec<Number>) {
        let id = self.next_id;
        self.next_id += 1;
        let _ = write!(out, r#"{{"type":"publish","id":{id},{ack}"#);
        let _ = if target == ROUTED {
            let (routing_key, _) = record::route_of(numbers[0]);
            write!(out, r#""exchange":"{EXCHANGE}","routing_key":"{routing_key}","#)
        } else {
            write!(out, r#""topic":"{}","#, TOPICS[target].name)
        };
        if let [number] = numbers[..] {
            Record::new(self.seed, target, number).write_members(out);
        } else {
            out.push_str(r#""messages":["#);
            for number in &numbers {
                out.push('{');
                Record::new(self.seed, target, *number).write_members(out);
                out.push_str("},");
            }
            out.pop();
            out.push(']');
        }
        out.push_str("}\n");
        let now_ms = later::now_ms();
        for number in &numbers {
            let topics = topics_of(target, *number).into_iter();
            self.seen.sent.extend(topics.map(|topic| (topic, *number)));
            if target == LATER {
                self.seen.later.sent.push((*number, now_ms));
            }
        }
        if !ack.contains("none") {
            self.in_flight.insert(id, (target, numbers));
        }
    }

    /// A new number; now and then a recent one of the same target once more, if it has a message id.
    fn number_for(&mut self, target: usize) -> Number {
        if self.chance.once_in(12)
            && let Some((_, number)) = self.recent.iter().rev().find(|(other, _)| *other == target)
        {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        if Record::new(self.seed, target, number).message_id.is_some() {
            self.recent.push_back((target, number));
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
        let Some((target, numbers)) = frame.id.and_then(|id| self.in_flight.remove(&id)) else {
            return Err(Ended::Broken(format!(
                "a reply to nothing that was asked: {}",
                frame.value
            )));
        };
        let durability = frame.value["durability"].as_str().unwrap_or_default();
        match frame.value["results"].as_array() {
            None => self.answered(target, numbers[0], &frame.value, durability),
            Some(results) if results.len() == numbers.len() => {
                for (number, result) in numbers.iter().zip(results) {
                    self.answered(target, *number, result, durability);
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

    /// What became of one record: its place, or its places if an exchange led it.
    fn answered(&mut self, target: usize, number: Number, result: &Value, durability: &str) {
        if target != ROUTED {
            self.placed(target, number, result, durability);
            return;
        }
        let topics = topics_of(target, number);
        let routes = result["routes"].as_array().map_or(&[][..], Vec::as_slice);
        if routes.len() != topics.len() {
            self.seen
                .violations
                .push(format!("{number} goes to {topics:?}, and was answered {result}"));
        }
        for topic in topics {
            let route = routes.iter().find(|route| route["topic"] == TOPICS[topic].name);
            self.placed(topic, number, route.unwrap_or(&Value::Null), durability);
        }
    }

    /// A record has its place, or its turn. With a durability that outlives the process this is a promise.
    fn placed(&mut self, topic: usize, number: Number, result: &Value, durability: &str) {
        let record = Record::new(self.seed, topic, number);
        let is_promise = TOPICS[topic].is_durable() && durability != "memory";
        if let Some(scheduled) = Scheduled::read(result).filter(|_| record.delay_ms.is_some()) {
            if is_promise {
                let answer = (number, scheduled, later::now_ms());
                self.seen.later.scheduled.push(answer);
            }
            return;
        }
        // What is due later has a place only if its time has come, which its timestamp shows when it is read back.
        let is_stored = record.ttl_ms != Some(0);
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
        if let Some(before) = self.places.insert((topic, number), spot)
            && before != spot
        {
            let name = TOPICS[topic].name;
            self.seen.violations.push(format!(
                "{name}: {number} is told to lie at {before:?} and at {spot:?}"
            ));
        }
        if is_promise {
            self.seen.promised.push((topic, spot, number));
        }
    }
}
