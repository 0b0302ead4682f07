//! JetStream: publishes that are acked once they are stored, consumers that push to those who follow, and one from
//! which workers pull.
//!
//! Pulling is what NATS recommends for shared work; a consumer that pushes to a queue group measured the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use callboard_load::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers, Dialect, Progress, Reader, Record, Role, Seen, TOPIC},
    opening::{Opening, ReceiveBuffer},
    process::Server,
};
use serde_json::{Value, json};

use crate::messages::{Found, Messages};

/// The durable consumer whose records the workers share.
const CONSUMER: &str = "workers";
const CONNECT: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";
/// Longer than any run.
const PULL_EXPIRES_NS: u64 = 600_000_000_000;
const REFUSED: &[u8] = b"\"error\":{";

/// JetStream, as one who measures speaks it.
#[derive(Clone, Copy, Debug)]
pub struct JetStream;

/// What comes on one connection, and what follows from it.
#[derive(Debug)]
pub struct Inbox {
    messages: Messages,
    then: Then,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    /// A publisher counts the acks of the stream.
    CountAcks,
    /// Who follows a stream counts records.
    CountRecords,
    /// A worker acks each record, and asks for more.
    Ack(Asking),
}

/// When a worker asks for more records, and with what: first for as many as it may have out, then for half of them
/// whenever it has acked so many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asking {
    request: Vec<u8>,
    every: usize,
    since: usize,
}

impl Asking {
    /// The first request, and the others.
    fn new(worker: usize, credit: usize) -> (Vec<u8>, Self) {
        let request = |batch: usize| {
            let body = format!("{{\"batch\":{batch},\"expires\":{PULL_EXPIRES_NS}}}");
            let inbox = pulled_by(worker);
            format!(
                "PUB $JS.API.CONSUMER.MSG.NEXT.{TOPIC}.{CONSUMER} {inbox} {}\r\n{body}\r\n",
                body.len()
            )
            .into_bytes()
        };
        let every = (credit / 2).max(1);
        let asking = Self {
            request: request(every),
            every,
            since: 0,
        };
        (request(credit), asking)
    }

    fn acked(&mut self, answer: &mut Vec<u8>) {
        self.since += 1;
        if self.since == self.every {
            self.since = 0;
            answer.extend_from_slice(&self.request);
        }
    }
}

impl Inbox {
    fn new(then: Then) -> Self {
        Self {
            messages: Messages::default(),
            then,
        }
    }
}

impl Reader for Inbox {
    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        answer: &mut Vec<u8>,
        seen: &mut Seen,
        mut record: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let Self { messages, then } = self;
        let mut refusal = None;
        let mut refuse = |reason: &[u8]| {
            refusal.get_or_insert_with(|| String::from_utf8_lossy(reason).into_owned());
        };
        messages.feed(chunk, |found| match found {
            Found::Message { payload, .. } if *then == Then::CountAcks => {
                if payload.starts_with(b"{\"error\"") {
                    refuse(payload);
                }
                seen.answers += 1;
            }
            Found::Message { reply, payload } => {
                seen.messages += 1;
                record(payload);
                if let Then::Ack(asking) = then {
                    answer.extend_from_slice(b"PUB ");
                    answer.extend_from_slice(reply);
                    answer.extend_from_slice(b" 4\r\n+ACK\r\n");
                    seen.settled += 1;
                    asking.acked(answer);
                }
            }
            Found::Ping => answer.extend_from_slice(b"PONG\r\n"),
            // Nobody listens to what was published, as when its stream is gone.
            Found::Status(reason) | Found::Refused(reason) => refuse(reason),
        });
        match refusal {
            None => Ok(()),
            Some(reason) => Err(Failure::new(format!("the server refused: {reason}"))),
        }
    }
}

impl Dialect for JetStream {
    type Reader = Inbox;

    fn prepare(&self, server: &Server, topics: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        for topic in topics {
            // What is acked stays, as in the topics and streams of the others; with `workqueue` it measured slower.
            let stream =
                json!({"name": topic, "subjects": [topic], "storage": "file", "retention": "limits"});
            ask(server, &format!("STREAM.CREATE.{topic}"), &stream)?;
        }
        if let Some(plan) = plan {
            let consumer = json!({"stream_name": TOPIC, "config": {
                "durable_name": CONSUMER, "ack_policy": "explicit",
                "max_ack_pending": plan.members * plan.credit,
            }});
            ask(server, &format!("CONSUMER.CREATE.{TOPIC}.{CONSUMER}"), &consumer)?;
        }
        Ok(())
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<Inbox, Failure> {
        greet(opening)?;
        let then = match role {
            Role::Publisher { index } => {
                follow(opening, &acks_of(index))?;
                Then::CountAcks
            }
            Role::Subscriber { topic, .. } => {
                // Ephemeral consumers of all loads of a run need places of their own.
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                let place = format!("_push.{}", NEXT.fetch_add(1, Ordering::Relaxed));
                follow(opening, &place)?;
                let consumer = json!({"stream_name": topic, "config": {
                    "ack_policy": "none", "deliver_policy": "new", "deliver_subject": place,
                }});
                request(opening, &format!("CONSUMER.CREATE.{topic}"), &consumer)?;
                Then::CountRecords
            }
            Role::Worker { index, plan } => {
                follow(opening, &pulled_by(index))?;
                let (first, asking) = Asking::new(index, plan.credit);
                opening.send(&first)?;
                Then::Ack(asking)
            }
        };
        Ok(Inbox::new(then))
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (Inbox, Vec<u8>) {
        let mut stream = Vec::new();
        for payload in payloads {
            stream.extend_from_slice(format!("MSG {TOPIC} 1 {}\r\n", payload.len()).as_bytes());
            stream.extend_from_slice(payload);
            stream.extend_from_slice(b"\r\n");
        }
        (Inbox::new(Then::CountRecords), stream)
    }

    fn block(&self, publisher: usize, records: &[Record<'_>]) -> Block {
        let acks = acks_of(publisher);
        let publishes = records.iter().map(|record| {
            let head = format!("PUB {} {acks} {}\r\n", record.topic, record.payload.len());
            [head.as_bytes(), record.payload, b"\r\n"].concat()
        });
        Block::new(Framing::Plain, publishes)
    }

    fn answers(&self) -> Answers {
        Answers::Each
    }

    fn progress(&self, server: &Server, plan: &Plan, published: u64) -> Result<Progress, Failure> {
        let info = ask(server, &format!("CONSUMER.INFO.{TOPIC}.{CONSUMER}"), &Value::Null)?;
        Ok(progress_in(&info, plan.members, published))
    }
}

/// Where a publisher is told that its records are stored.
fn acks_of(publisher: usize) -> String {
    format!("_acks.{publisher}")
}

/// Where a worker that pulls gets its records.
fn pulled_by(worker: usize) -> String {
    format!("_pull.{worker}")
}

fn greet(opening: &mut Opening) -> Result<(), Failure> {
    opening.send(CONNECT.as_bytes())?;
    opening.send(b"PING\r\n")?;
    opening.until(b"PONG\r\n", b"-ERR").map(drop)
}

/// Subscribes, and waits until the server has done it.
fn follow(opening: &mut Opening, subject: &str) -> Result<(), Failure> {
    opening.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes())?;
    opening.until(b"PONG\r\n", b"-ERR").map(drop)
}

/// A request to JetStream's interface beside the load, on a connection of its own.
fn ask(server: &Server, what: &str, body: &Value) -> Result<Value, Failure> {
    let mut opening = Opening::connect(&server.address, ReceiveBuffer::Default)?;
    greet(&mut opening)?;
    request(&mut opening, what, body)
}

fn request(opening: &mut Opening, what: &str, body: &Value) -> Result<Value, Failure> {
    // Each socket asks for one thing only, so that one name is enough; it is in nobody else's way.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let inbox = format!("_ask.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let bytes = format!(
        "SUB {inbox} 2\r\nPUB $JS.API.{what} {inbox} {}\r\n{body}\r\n",
        body.len()
    );
    opening.send(bytes.as_bytes())?;
    let said = opening
        .until(b"}\r\n", REFUSED)
        .map_err(|reason| Failure::new(format!("{what}: {reason}")))?;
    let json = memchr::memchr(b'{', &said).map_or(&said[..0], |start| &said[start..]);
    serde_json::from_slice(json).map_err(|error| Failure::new(format!("{what}: {error}")))
}

fn progress_in(info: &Value, members: usize, published: u64) -> Progress {
    // Once there are records, fewer wait.
    if published == 0 && info["num_waiting"] != members {
        return Progress::Gathering(info.to_string());
    }
    let is_settled = info["ack_floor"]["stream_seq"] == published
        && info["num_ack_pending"] == 0
        && info["num_pending"] == 0
        && info["num_redelivered"] == 0;
    if is_settled {
        Progress::Settled
    } else {
        Progress::Working(info.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Taken, take_in_pieces};

    #[test]
    fn records_are_counted_and_handed_out_wherever_they_are_cut() {
        let payloads = [b"\"a\"".to_vec(), b"\"\r\n\"".to_vec()];
        let (_, stream) = JetStream.offline(&payloads);
        for size in 1..=stream.len() {
            let Taken { reply, seen, got } = take_in_pieces(&JetStream, &payloads, size);
            assert_eq!(got, payloads, "in pieces of {size}");
            assert_eq!((seen.messages, reply.len()), (2, 0));
        }
    }

    #[test]
    fn publisher_counts_acks_and_stops_at_a_refusal() {
        let mut publisher = Inbox::new(Then::CountAcks);
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        let mut acks = b"MSG _acks.0 1 26\r\n{\"stream\":\"bench\",\"seq\":1}\r\nPING\r\n".to_vec();
        assert!(publisher.take(&mut acks, &mut reply, &mut seen).is_ok());
        assert_eq!((seen.answers, &reply[..]), (1, &b"PONG\r\n"[..]));
        let mut refusal = b"MSG _acks.0 1 22\r\n{\"error\":{\"code\":503}}\r\n".to_vec();
        assert!(publisher.take(&mut refusal, &mut reply, &mut seen).is_err());
        let mut nobody = b"HMSG _acks.0 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".to_vec();
        assert!(publisher.take(&mut nobody, &mut reply, &mut seen).is_err());
    }

    #[test]
    fn worker_acks_each_record_where_the_record_says() {
        let mut worker = Inbox::new(Then::Ack(Asking::new(0, 256).1));
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        let mut records = b"MSG bench 1 $JS.ACK.a 1\r\nx\r\nMSG bench 1 $JS.ACK.b 1\r\ny\r\n".to_vec();
        assert!(worker.take(&mut records, &mut reply, &mut seen).is_ok());
        assert_eq!(reply, b"PUB $JS.ACK.a 4\r\n+ACK\r\nPUB $JS.ACK.b 4\r\n+ACK\r\n");
        assert_eq!((seen.messages, seen.settled), (2, 2));
    }

    #[test]
    fn worker_that_pulls_asks_again_when_half_is_acked() {
        let (first, asking) = Asking::new(3, 4);
        let first = String::from_utf8_lossy(&first).into_owned();
        assert!(
            first.starts_with("PUB $JS.API.CONSUMER.MSG.NEXT.bench.workers _pull.3 34\r\n{\"batch\":4,"),
            "{first}"
        );
        let mut worker = Inbox::new(Then::Ack(asking));
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        for acked in 1..=4 {
            reply.clear();
            let mut record = b"MSG bench 1 $JS.ACK.a 1\r\nx\r\n".to_vec();
            assert!(worker.take(&mut record, &mut reply, &mut seen).is_ok());
            let asks = String::from_utf8_lossy(&reply).contains("{\"batch\":2,");
            assert_eq!(asks, acked % 2 == 0, "after {acked}");
        }
    }

    #[test]
    fn work_is_settled_when_the_consumer_says_so() {
        let of = |floor: u64, out: u64, again: u64| {
            let info = json!({"ack_floor": {"stream_seq": floor},
                "num_ack_pending": out, "num_pending": 0, "num_redelivered": again});
            progress_in(&info, 8, 9)
        };
        assert_eq!(of(9, 0, 0), Progress::Settled);
        assert!(matches!(of(8, 0, 0), Progress::Working(_)));
        assert!(matches!(of(9, 1, 0), Progress::Working(_)));
        assert!(matches!(of(9, 0, 1), Progress::Working(_)), "one came twice");
        let of = |waiting: usize| progress_in(&json!({"num_waiting": waiting}), 8, 0);
        assert!(matches!(of(7), Progress::Gathering(_)));
        assert!(matches!(of(8), Progress::Working(_)));
    }
}
