//! Callboard as a client speaks it: JSON frames over WebSocket.
//!
//! Lines are counted, not parsed; what is looked at is found by searching for bytes.

pub mod duty;
mod progress;
mod reader;

pub use reader::Reader;

use super::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers, Dialect, Progress, Record, Role, TOPIC},
    http,
    opening::{Opening, ReceiveBuffer},
    process::Server,
    wire::{Opcode, push_server_message},
};
use duty::{Doer, GROUP};
use reader::Counts;

/// What a record's ack stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ack {
    /// Records are not answered
    None,
    /// Answered once they have an offset
    Accepted,
    /// Answered once they are as durable as the topic promises
    Durable,
}

impl Ack {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Accepted => "accepted",
            Self::Durable => "durable",
        }
    }

    /// What the durability of a topic is asked with: all that it promises.
    pub fn for_durability(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Accepted,
            Durability::Os | Durability::Fsync => Self::Durable,
        }
    }
}

/// What an acked record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Nothing
    Memory,
    /// The end of the process
    Os,
    /// The end of the machine
    Fsync,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }
}

/// How frames stand in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// `callboard.v1.json`: a frame a message.
    Json,
    /// `callboard.v1.ndjson`: all frames that are sent at once are lines of one message.
    Ndjson,
}

impl Subprotocol {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "callboard.v1.json",
            Self::Ndjson => "callboard.v1.ndjson",
        }
    }

    fn counts(self) -> Counts {
        match self {
            Self::Json => Counts::Messages,
            Self::Ndjson => Counts::Lines,
        }
    }
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Latest,
    Earliest,
}

/// How a Callboard is spoken to.
#[derive(Clone, Copy, Debug)]
pub struct Callboard {
    pub subprotocol: Subprotocol,
    pub ack: Ack,
    /// Of its topics.
    pub durability: Durability,
    /// Of its topics; records take them in turn, unless they have keys.
    pub partitions: usize,
}

impl Callboard {
    /// Topics of one partition, frames as lines, and answers when a record is as durable as it gets.
    pub const fn new(durability: Durability) -> Self {
        Self {
            subprotocol: Subprotocol::Ndjson,
            ack: Ack::Durable,
            durability,
            partitions: 1,
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// The server refuses, as when the topic is there with another configuration.
    pub fn declare(&self, server: &Server, topics: &[String]) -> Result<(), Failure> {
        let mut opening = Opening::connect(&server.address, ReceiveBuffer::Default)?;
        self.greet(&mut opening)?;
        let (partitions, durability) = (self.partitions, self.durability.as_str());
        for topic in topics {
            let frame = format!(
                r#"{{"type":"declare","id":1,"topic":"{topic}","partitions":{partitions},"durability":"{durability}"}}"#
            );
            opening.send_message(Opcode::Text, frame.as_bytes())?;
            opening.until(br#""type":"ok""#, ERROR)?;
        }
        Ok(())
    }

    /// Subscribes.
    ///
    /// # Errors
    /// The server refuses.
    pub fn follow(&self, opening: &mut Opening, topic: &str, start: Start) -> Result<(), Failure> {
        let start = match start {
            Start::Latest => "latest",
            Start::Earliest => "earliest",
        };
        let frame = format!(r#"{{"type":"subscribe","id":1,"topic":"{topic}","from":"{start}"}}"#);
        self.subscribe(opening, &frame)
    }

    fn subscribe(&self, opening: &mut Opening, frame: &str) -> Result<(), Failure> {
        self.greet(opening)?;
        opening.send_message(Opcode::Text, frame.as_bytes())?;
        opening.until(br#""type":"subscribed""#, ERROR)?;
        Ok(())
    }

    fn greet(&self, opening: &mut Opening) -> Result<(), Failure> {
        opening.upgrade("/ws", Some(self.subprotocol.name()))?;
        opening.until(br#""type":"welcome""#, ERROR)?;
        Ok(())
    }

    /// The `publish` frame of one record, with the end of its line.
    fn publish(&self, id: usize, record: &Record<'_>) -> Vec<u8> {
        let topic = record.topic;
        let mut frame = format!(r#"{{"type":"publish","id":{id},"topic":"{topic}","#);
        if let Some(key) = record.key {
            frame.push_str(&format!(r#""key":"{key}","#));
        }
        if self.ack != Ack::Durable {
            frame.push_str(&format!(r#""ack":"{}","#, self.ack.as_str()));
        }
        frame.push_str(r#""payload":"#);
        let end: &[u8] = match self.subprotocol {
            Subprotocol::Json => b"}",
            Subprotocol::Ndjson => b"}\n",
        };
        [frame.as_bytes(), record.payload, end].concat()
    }
}

/// What a refusal holds.
const ERROR: &[u8] = br#""type":"error""#;
/// Ids have four digits, so that all frames of a block are of one length; two records that are in flight at once
/// share none while fewer than [`IN_FLIGHT_MAX`] are.
const FIRST_ID: usize = 1000;
/// Most records of one publisher in flight.
pub const IN_FLIGHT_MAX: usize = 9000;

impl Dialect for Callboard {
    type Reader = Reader;

    fn prepare(&self, server: &Server, topics: &[String], _: Option<&Plan>) -> Result<(), Failure> {
        self.declare(server, topics)
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<Reader, Failure> {
        let reader = match role {
            Role::Publisher { .. } => {
                self.greet(opening)?;
                Reader::publisher(opening.frames())
            }
            Role::Subscriber { index, topic } => {
                self.follow(opening, topic, Start::Latest)?;
                match index {
                    0 => Reader::first_subscriber(opening.frames()),
                    _ => Reader::subscriber(opening.frames()),
                }
            }
            Role::Worker { plan, .. } => {
                let (mode, credit) = (plan.duty.mode(), plan.credit);
                let frame = format!(
                    r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","group":"{GROUP}","mode":"{mode}","from":"earliest","credit":{credit}}}"#
                );
                self.subscribe(opening, &frame)?;
                let doer = Doer::new(plan.duty);
                Reader::worker(opening.frames(), doer, self.subprotocol)
            }
        };
        Ok(reader.counting(self.subprotocol.counts()))
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (Reader, Vec<u8>) {
        let frame = |offset: usize, payload: &[u8]| {
            let head = format!(
                r#"{{"type":"message","topic":"{TOPIC}","partition":0,"offset":{},"timestamp":1795146000123,"payload":"#,
                1_000_000 + offset
            );
            [head.as_bytes(), payload, b"}"].concat()
        };
        let frames = payloads
            .iter()
            .enumerate()
            .map(|(offset, payload)| frame(offset, payload));
        let mut sent = Vec::new();
        match self.subprotocol {
            Subprotocol::Json => {
                frames.for_each(|frame| push_server_message(&mut sent, Opcode::Text, &frame));
            }
            Subprotocol::Ndjson => {
                let lines: Vec<u8> = frames
                    .flat_map(|frame| [frame, b"\n".to_vec()].concat())
                    .collect();
                push_server_message(&mut sent, Opcode::Text, &lines);
            }
        }
        let reader = Reader::subscriber(Default::default());
        (reader.counting(self.subprotocol.counts()), sent)
    }

    fn block(&self, _: usize, records: &[Record<'_>]) -> Block {
        let framing = match self.subprotocol {
            Subprotocol::Json => Framing::Messages(Opcode::Text),
            Subprotocol::Ndjson => Framing::OneMessage(Opcode::Text),
        };
        let id = |place: usize| FIRST_ID + place % IN_FLIGHT_MAX;
        let frames = records.iter().enumerate();
        Block::new(
            framing,
            frames.map(|(place, record)| self.publish(id(place), record)),
        )
    }

    fn answers(&self) -> Answers {
        match self.ack {
            Ack::None => Answers::None,
            Ack::Accepted | Ack::Durable => Answers::Each,
        }
    }

    fn progress(&self, server: &Server, plan: &Plan, published: u64) -> Result<Progress, Failure> {
        progress::of(server, plan, published)
    }
}

/// A server with no broker in it that speaks as much of Callboard's protocol as the load needs; see
/// [`bare`](super::bare).
#[derive(Clone, Copy, Debug)]
pub struct Bare(pub Callboard);

impl Dialect for Bare {
    type Reader = Reader;

    fn prepare(&self, _: &Server, _: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        match plan {
            None => Ok(()),
            Some(_) => Err(Failure::new("the bare server has no groups to measure")),
        }
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<Reader, Failure> {
        // Whatever was asked for, it sends all records of a chunk as lines of one message.
        Ok(self.0.open(opening, role)?.counting(Counts::Lines))
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (Reader, Vec<u8>) {
        self.0.offline(payloads)
    }

    fn block(&self, publisher: usize, records: &[Record<'_>]) -> Block {
        self.0.block(publisher, records)
    }

    fn answers(&self) -> Answers {
        self.0.answers()
    }

    fn progress(&self, _: &Server, _: &Plan, _: u64) -> Result<Progress, Failure> {
        Err(Failure::new("the bare server has no groups to measure"))
    }
}

/// Deletes the topics of a run, so that a broker that was there before gets back the state it had.
///
/// # Errors
/// The broker refuses.
pub fn delete_topics(server: &Server, topics: &[String]) -> Result<(), Failure> {
    for topic in topics {
        let path = format!("/api/v1/topics/{topic}");
        let (status, answer) = http::request("DELETE", &server.address, &path)?;
        if !(200..300).contains(&status) {
            return Err(Failure::new(format!("DELETE {path}: HTTP {status} {answer}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
