//! After the restart: everything is read back through the public protocol and held against the ledger.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    later::{self, List, Scheduled},
    ledger::{Ledger, Spot},
    load::{check_bytes, spot_in},
    record::{Kind, LATER, Number, ROUTED, Record, TOPICS, Topic},
    writer::{Asked, Writer},
};
use crate::{
    broker::Broker,
    chance::Chance,
    websocket::{Ended, Frame, WebSocket},
};

/// Records with a message id that are sent once more, in each topic.
const REPEATS: usize = 20;
/// Records in a page.
const PAGE: u64 = 1000;

/// How long the flush of a record may take that is due.
const ON_ITS_WAY_MAX: Duration = Duration::from_secs(20);

/// Reads everything back.
pub struct Verifier<'a> {
    broker: &'a Broker,
    address: String,
    /// Timestamps of the records of the topic that is being read.
    timestamps: HashMap<Number, u64>,
    ledger: &'a mut Ledger,
    chance: &'a mut Chance,
    /// What was found.
    pub violations: Vec<String>,
}

impl<'a> Verifier<'a> {
    /// Looks at what `broker` kept.
    pub fn new(broker: &'a Broker, ledger: &'a mut Ledger, chance: &'a mut Chance) -> Self {
        Self {
            broker,
            address: broker.address().to_owned(),
            timestamps: HashMap::new(),
            ledger,
            chance,
            violations: Vec::new(),
        }
    }

    /// Publishes once more what was not answered before the kill, in the order in which it was sent.
    pub fn repeat_unanswered(&mut self, unanswered: Vec<Asked>) {
        let writer = Writer::new(self.ledger.seed, self.chance.split(), u64::from(u32::MAX));
        match writer.repeat(&self.address, unanswered) {
            Ok(seen) => self.violations.extend(self.ledger.take_over(seen)),
            Err(ended) => self
                .violations
                .push(format!("repeating what was unanswered: {ended}")),
        }
    }

    /// Checks all topics and says how many records there are.
    pub fn everything(&mut self) -> u64 {
        let mut count = 0;
        for (topic, Topic { name, .. }) in TOPICS.iter().enumerate() {
            match self.topic(topic) {
                Ok(found) => count += found,
                Err(ended) => self.violations.push(format!("{name}: {ended}")),
            }
        }
        let routed = TOPICS.iter().zip(&self.ledger.topics);
        let routed = routed.filter(|(topic, _)| topic.kind == Kind::Routed);
        let found: Vec<_> = routed
            .map(|(_, ledger)| ledger.promised.values().copied().collect())
            .collect();
        debug_assert!(
            TOPICS[ROUTED..ROUTED + found.len()]
                .iter()
                .all(|topic| topic.kind == Kind::Routed)
        );
        self.violations.extend(later::halves(&found));
        count
    }

    /// What is due later, if the topic is the one for that.
    fn list(&mut self, topic: usize) -> List {
        if topic != LATER {
            return List::new();
        }
        later::list(self.broker).unwrap_or_else(|failure| {
            self.violations.push(failure.to_string());
            List::new()
        })
    }

    fn topic(&mut self, topic: usize) -> Result<u64, Ended> {
        let next_offsets = self.resume(topic)?;
        let listed = self.list(topic);
        self.timestamps.clear();
        let mut socket = WebSocket::connect(&self.address, "callboard.v1.json")?;
        let mut found = Vec::new();
        let mut ends = Vec::new();
        for partition in 0..TOPICS[topic].partitions {
            let start = Spot { partition, offset: 0 };
            let next_offset = self.partition(&mut socket, topic, start, &mut found)?;
            ends.push(next_offset);
            let told = next_offsets.get(partition as usize).copied();
            // Scheduled records go on coming.
            let is_end = told == Some(next_offset) || (topic == LATER && told < Some(next_offset));
            if !is_end {
                let name = TOPICS[topic].name;
                self.violations.push(format!(
                    "{name}: partition {partition} ends at {next_offset}, subscribers are told {next_offsets:?}"
                ));
            }
        }
        if topic == LATER {
            self.await_those_on_their_way(&mut socket, &listed, ends, &mut found)?;
        }
        let violations = self.ledger.topics[topic].settle(self.ledger.seed, topic, &found);
        self.violations.extend(violations);
        self.repeats(&mut socket, topic)?;
        if topic == LATER {
            let after = self.list(topic);
            let violations = self.ledger.later.settle(&self.timestamps, listed, &after);
            self.violations.extend(violations);
            self.repeats_of_scheduled(&mut socket)?;
        }
        if self.chance.once_in(2) {
            self.stream(topic, &found)?;
        }
        Ok(found.len() as u64)
    }

    /// Resumes by epoch and offsets as a client does whose broker went away, and returns where each partition ends.
    fn resume(&mut self, topic: usize) -> Result<Vec<u64>, Ended> {
        let (name, is_durable) = (TOPICS[topic].name, TOPICS[topic].is_durable());
        let mut socket = WebSocket::connect(&self.address, "callboard.v1.json")?;
        let ledger = &mut self.ledger.topics[topic];
        let old = ledger.epoch.take().unwrap_or_default();
        // The position after the newest record that was promised in each partition.
        let asked: Vec<String> = (0..TOPICS[topic].partitions)
            .map(|partition| {
                let of_partition = Spot { partition, offset: 0 }..=Spot {
                    partition,
                    offset: u64::MAX,
                };
                let next = ledger
                    .promised
                    .range(of_partition)
                    .next_back()
                    .map_or(0, |(spot, _)| spot.offset + 1);
                format!(r#""{partition}":{next}"#)
            })
            .collect();
        let asked = asked.join(",");
        let resumed = socket.ask(
            1,
            &format!(
                r#"{{"type":"subscribe","id":1,"topic":"{name}","from":{{"offsets":{{{asked}}},"epoch":"{old}"}}}}"#
            ),
        )?;
        let epoch = resumed.value["epoch"].as_str().unwrap_or_default().to_owned();
        let recovered = resumed.value["recovered"].as_bool();
        if is_durable && (epoch != old || recovered != Some(true)) {
            self.violations.push(format!(
                "{name}: resuming {{{asked}}} in {old} was answered {}",
                resumed.value
            ));
        }
        if !is_durable && (epoch == old || recovered != Some(false)) {
            self.violations.push(format!(
                "{name}: kept in memory, but {old} resumes as {}",
                resumed.value
            ));
        }
        ledger.epoch = Some(epoch);
        socket.ask(2, &format!(r#"{{"type":"unsubscribe","id":2,"topic":"{name}"}}"#))?;
        let latest = socket.ask(
            3,
            &format!(r#"{{"type":"subscribe","id":3,"topic":"{name}","from":"latest"}}"#),
        )?;
        let offsets = latest.value["offsets"].as_object().cloned().unwrap_or_default();
        Ok((0..TOPICS[topic].partitions)
            .filter_map(|partition| offsets.get(&partition.to_string()).and_then(Value::as_u64))
            .collect())
    }

    /// Reads on from `ends` while a record is due that is no longer listed and not shown yet: it is being flushed.
    fn await_those_on_their_way(
        &mut self,
        socket: &mut WebSocket,
        listed: &List,
        mut ends: Vec<u64>,
        found: &mut Vec<(Spot, Number)>,
    ) -> Result<(), Ended> {
        let deadline = Instant::now() + ON_ITS_WAY_MAX;
        while self.ledger.later.is_one_on_its_way(&self.timestamps, listed) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            for (partition, end) in (0..).zip(&mut ends) {
                let start = Spot {
                    partition,
                    offset: *end,
                };
                *end = self.partition(socket, LATER, start, found)?;
            }
        }
        Ok(())
    }

    /// Reads a partition from `start` to its end, which it returns.
    fn partition(
        &mut self,
        socket: &mut WebSocket,
        topic: usize,
        start: Spot,
        found: &mut Vec<(Spot, Number)>,
    ) -> Result<u64, Ended> {
        let name = TOPICS[topic].name;
        let partition = start.partition;
        let (mut offset, mut timestamp) = (start.offset, 0);
        loop {
            let page = socket.ask(
                7,
                &format!(
                    r#"{{"type":"fetch","id":7,"topic":"{name}","partition":{partition},"offset":{offset},"limit":{PAGE}}}"#
                ),
            )?;
            let Some(next_offset) = page.value["next_offset"].as_u64() else {
                return Err(Ended::Broken(format!(
                    "fetching from {offset} was answered {}",
                    page.value
                )));
            };
            if page.kind == "error" && page.value["code"] == "expired" && TOPICS[topic].is_brief() {
                offset = next_offset;
                continue;
            }
            let records = page.records()?;
            if records.is_empty() && (next_offset == offset || !TOPICS[topic].is_brief()) {
                return Ok(next_offset);
            }
            for shown in &records {
                let spot = Spot {
                    partition,
                    offset: shown.value["offset"].as_u64().unwrap_or(u64::MAX),
                };
                let is_dense = spot.offset == offset || (TOPICS[topic].is_brief() && spot.offset > offset);
                if !is_dense {
                    self.violations
                        .push(format!("{name}: {spot:?} comes where {offset} was to come"));
                }
                offset = spot.offset + 1;
                let now = shown.value["timestamp"].as_u64().unwrap_or_default();
                if now < timestamp {
                    self.violations
                        .push(format!("{name}: {spot:?} is older than the record before it"));
                }
                timestamp = now;
                match check_bytes(self.ledger.seed, topic, &shown.payload, &shown.value) {
                    Ok(number) => {
                        found.push((spot, number));
                        self.timestamps.insert(number, now);
                    }
                    Err(violation) => self.violations.push(violation),
                }
            }
            offset = offset.max(next_offset);
        }
    }

    /// Repeats of what was acked before the kill are answered with the first offset.
    fn repeats(&mut self, socket: &mut WebSocket, topic: usize) -> Result<(), Ended> {
        let name = TOPICS[topic].name;
        for (number, spot) in self.ledger.topics[topic].take_repeats(REPEATS) {
            let mut frame = format!(r#"{{"type":"publish","id":9,"topic":"{name}","#);
            Record::new(self.ledger.seed, topic, number).write_members(&mut frame);
            frame.push('}');
            let reply = socket.ask(9, &frame)?;
            if reply.value["duplicate"] != Value::Bool(true) || spot_in(&reply.value) != Some(spot) {
                self.violations.push(format!(
                    "{name}: the repeat of {number} at {spot:?} was answered {}",
                    reply.value
                ));
            }
        }
        Ok(())
    }

    /// Repeats of what is due later are answered with the first one's turn, or with its place when it has come.
    fn repeats_of_scheduled(&mut self, socket: &mut WebSocket) -> Result<(), Ended> {
        let name = TOPICS[LATER].name;
        for (number, scheduled) in self.ledger.later.repeats(self.ledger.seed, REPEATS) {
            let mut frame = format!(r#"{{"type":"publish","id":9,"topic":"{name}","#);
            Record::new(self.ledger.seed, LATER, number).write_members(&mut frame);
            frame.push('}');
            let reply = socket.ask(9, &frame)?;
            let is_same = match Scheduled::read(&reply.value) {
                Some(again) => again == scheduled,
                None => spot_in(&reply.value).is_some() && later::now_ms() >= scheduled.deliver_at,
            };
            if reply.value["duplicate"] != Value::Bool(true) || !is_same {
                self.violations.push(format!(
                    "{name}: the repeat of {number}, {scheduled:?}, was answered {}",
                    reply.value
                ));
            }
        }
        Ok(())
    }

    /// A subscriber from the earliest offset is shown the same records that `fetch` showed.
    fn stream(&mut self, topic: usize, found: &[(Spot, Number)]) -> Result<(), Ended> {
        let name = TOPICS[topic].name;
        let subprotocol = *self.chance.pick(&["callboard.v1.json", "callboard.v1.ndjson"]);
        let mut socket = WebSocket::connect(&self.address, subprotocol)?;
        socket.send(&format!(
            r#"{{"type":"subscribe","topic":"{name}","from":"earliest"}}"#
        ))?;
        let wanted = found
            .iter()
            .filter(|(_, number)| Record::new(self.ledger.seed, topic, *number).is_kept());
        let mut wanted: Vec<(Spot, Number)> = wanted.copied().collect();
        let ends: HashMap<u64, u64> = wanted
            .iter()
            .map(|(spot, _)| (spot.partition, spot.offset))
            .collect();
        let is_wanted = |spot: Spot| ends.get(&spot.partition).is_some_and(|end| spot.offset <= *end);
        let mut shown = Vec::new();
        while shown.len() < wanted.len() {
            let frame = Frame::read(socket.receive()?)?;
            if frame.kind != "message" {
                continue;
            }
            let record = frame.record()?;
            match (
                check_bytes(self.ledger.seed, topic, &record.payload, &record.value),
                spot_in(&record.value),
            ) {
                // What has come only since then is not among those that were found.
                (Ok(_), Some(spot)) if topic == LATER && !is_wanted(spot) => {}
                (Ok(number), Some(spot)) if Record::new(self.ledger.seed, topic, number).is_kept() => {
                    shown.push((spot, number));
                }
                (Err(violation), _) => self.violations.push(violation),
                _ => {}
            }
        }
        // Partitions come interleaved; within one the order is that of the offsets.
        let is_ordered = (0..TOPICS[topic].partitions).all(|partition| {
            shown
                .iter()
                .filter(|(spot, _)| spot.partition == partition)
                .is_sorted()
        });
        shown.sort_unstable();
        wanted.sort_unstable();
        if !is_ordered || shown != wanted {
            self.violations.push(format!(
                "{name}: a subscriber from the earliest offset is shown something else"
            ));
        }
        Ok(())
    }
}
