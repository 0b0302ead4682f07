//! What happens at a broker in one round, from a client's bytes to those that come back.
//!
//! A scene is set up and played a few times before it is counted: buffers have their size then, topics are known to
//! the sessions, and the broker's own events are told. Frames that ask for no answer are followed by one that does,
//! so that a round ends when everything in it is done.

use std::sync::Arc;

use callboard::actors::{directory::Topic, wire::Format};

use crate::{
    records::{self, Answer, BATCH, TOPIC},
    stand::{Client, OneThread, websocket},
};

/// Rounds before the one that counts; also, its offsets have three digits then.
const WARM: usize = 8;
/// Rounds for which a scene has bytes.
const ROUNDS: usize = WARM + 1;

/// Somebody publishes a batch.
pub struct Publishing {
    broker: OneThread,
    topic: Arc<Topic>,
    publisher: Client,
    /// What is sent with one write each …
    writes: Vec<Vec<u8>>,
    /// … and how many frames answer it.
    answers: usize,
    rounds: u64,
}

impl Publishing {
    /// One message of `callboard.v1.ndjson`.
    #[must_use]
    pub fn lines(partitions: u32, answer: Answer) -> Self {
        let message = websocket(&lines(answer));
        Self::new(Format::Ndjson, partitions, vec![message], answers(answer)).warm()
    }

    /// A message of `callboard.v1.json` for each record, all in one read.
    #[must_use]
    pub fn frames(answer: Answer) -> Self {
        let messages = lines(answer).lines().flat_map(websocket).collect();
        Self::new(Format::Json, 1, vec![messages], answers(answer)).warm()
    }

    /// The same, each record when the one before is answered.
    #[must_use]
    pub fn one_by_one() -> Self {
        let messages = lines(Answer::Accepted).lines().map(websocket).collect();
        Self::new(Format::Json, 1, messages, 1).warm()
    }

    fn new(format: Format, partitions: u32, writes: Vec<Vec<u8>>, answers: usize) -> Self {
        let broker = OneThread::start();
        let topic = broker.topic(TOPIC, &format!(r#"{{"partitions":{partitions}}}"#));
        let publisher = broker.connect(format);
        Self {
            broker,
            topic,
            publisher,
            writes,
            answers,
            rounds: 0,
        }
    }

    fn warm(mut self) -> Self {
        for _ in 0..WARM {
            self.round();
        }
        self
    }

    /// Publishes, and waits for the answers.
    pub fn round(&mut self) {
        self.broker.run(async {
            for bytes in &self.writes {
                self.publisher.send(bytes).await;
                self.publisher.receive(self.answers).await;
            }
        });
        self.rounds += 1;
    }

    /// Sees to it that everything was stored.
    ///
    /// # Panics
    /// When it was not, and so something else was counted.
    pub fn check(self) {
        let stored: u64 = self
            .topic
            .partitions()
            .iter()
            .map(|part| part.next_offset().0)
            .sum();
        assert_eq!(stored, self.rounds * BATCH);
    }
}

/// Somebody publishes a batch to many who follow.
pub struct FanOut {
    publishing: Publishing,
    subscribers: Vec<Client>,
}

impl FanOut {
    /// So many who speak `format`.
    #[must_use]
    pub fn new(format: Format, subscribers: usize) -> Self {
        let message = websocket(&lines(Answer::Never));
        let publishing = Publishing::new(Format::Ndjson, 1, vec![message], answers(Answer::Never));
        let broker = &publishing.broker;
        let subscribe = format!(r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}"}}"#);
        let subscribers = (0..subscribers)
            .map(|_| {
                let mut subscriber = broker.connect(format);
                broker.run(subscriber.ask(&subscribe));
                subscriber
            })
            .collect();
        let mut fan_out = Self {
            publishing,
            subscribers,
        };
        for _ in 0..WARM {
            fan_out.round();
            fan_out.take();
        }
        fan_out
    }

    /// Publishes. When the answer is there every subscriber's socket has taken the batch: that is the hub's order.
    pub fn round(&mut self) {
        self.publishing.round();
    }

    /// Reads what came, which is the subscribers' work and not counted.
    fn take(&mut self) {
        for subscriber in &mut self.subscribers {
            self.publishing.broker.run(subscriber.receive(BATCH as usize));
        }
    }

    /// Sees to it that each was written everything by the end of the round.
    ///
    /// # Panics
    /// When somebody was not.
    pub fn check(mut self) {
        for conn in self.publishing.broker.conns() {
            assert_eq!(conn.buffered_bytes(), 0, "everything has left");
        }
        self.take();
        self.publishing.check();
    }
}

/// Somebody publishes a batch to a group with one member, which says what it has done with it.
pub struct Working {
    publishing: Publishing,
    member: Client,
    /// What the member says in each round, the last of it with an `id`.
    done: Vec<Vec<u8>>,
}

impl Working {
    /// A worker that acks each record of its own.
    #[must_use]
    pub fn shared() -> Self {
        let mode = r#""group":"workers","mode":"shared","credit":256"#;
        let done = (0..ROUNDS as u64).map(|round| {
            // A session's deliveries are numbered from 1.
            let acks = (1..=BATCH).map(|number| {
                let id = if number == BATCH { r#""id":7,"# } else { "" };
                format!(
                    r#"{{"type":"ack",{id}"deliveries":[{}]}}"#,
                    round * BATCH + number
                )
            });
            websocket(&acks.collect::<Vec<_>>().join("\n"))
        });
        // `subscribed`.
        Self::new(mode, 1, done.collect())
    }

    /// The owner of the partition, which commits once a batch.
    #[must_use]
    pub fn partitioned() -> Self {
        let mode = r#""group":"billing","mode":"partitioned","credit":256"#;
        let done = (1..=ROUNDS as u64).map(|round| {
            let next = round * BATCH;
            websocket(&format!(
                r#"{{"type":"commit","id":7,"topic":"{TOPIC}","group":"billing","offsets":{{"0":{next}}}}}"#
            ))
        });
        // `subscribed` and `assigned`.
        Self::new(mode, 2, done.collect())
    }

    fn new(mode: &str, answers_to_subscribe: usize, done: Vec<Vec<u8>>) -> Self {
        let message = websocket(&lines(Answer::Never));
        let publishing = Publishing::new(Format::Ndjson, 1, vec![message], answers(Answer::Never));
        let broker = &publishing.broker;
        let mut member = broker.connect(Format::Ndjson);
        let subscribe = format!(r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}",{mode}}}"#);
        broker.run(async {
            member.send(&websocket(&subscribe)).await;
            member.receive(answers_to_subscribe).await;
        });
        let mut working = Self {
            publishing,
            member,
            done,
        };
        for _ in 0..WARM {
            working.round();
        }
        working
    }

    /// Publishes, takes every record and says what became of it, until the broker has confirmed all that.
    pub fn round(&mut self) {
        let Self {
            publishing,
            member,
            done,
        } = self;
        let round = publishing.rounds as usize;
        publishing.round();
        publishing.broker.run(async {
            member.receive(BATCH as usize).await;
            member.send(&done[round]).await;
            member.receive(1).await;
        });
    }

    /// Sees to it that everything was stored. That it was taken and settled shows in the rounds: a member with
    /// nothing settled has no credit for a fourth one.
    ///
    /// # Panics
    /// When it was not.
    pub fn check(self) {
        self.publishing.check();
    }
}

/// A batch, one a line, of which at least the last is answered.
fn lines(answer: Answer) -> String {
    let last = records::publish_frame(BATCH - 1, Answer::Accepted);
    let before = (0..BATCH - 1).map(|number| records::publish_frame(number, answer));
    before.chain([last]).collect::<Vec<_>>().join("\n")
}

/// How many frames answer it.
fn answers(answer: Answer) -> usize {
    match answer {
        Answer::Accepted => BATCH as usize,
        Answer::Never => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_store_every_record() {
        for mut scene in [
            Publishing::lines(1, Answer::Accepted),
            Publishing::lines(8, Answer::Accepted),
            Publishing::lines(1, Answer::Never),
            Publishing::frames(Answer::Accepted),
            Publishing::frames(Answer::Never),
            Publishing::one_by_one(),
        ] {
            scene.round();
            scene.check();
        }
    }

    #[test]
    fn fan_out_has_written_everything_when_the_publisher_is_answered() {
        for format in [Format::Json, Format::Ndjson] {
            let mut scene = FanOut::new(format, 10);
            let written = |scene: &FanOut| -> Vec<u64> {
                let conns = scene.publishing.broker.conns();
                conns.iter().map(|conn| conn.sent_bytes.get()).collect()
            };
            let before: u64 = written(&scene).iter().sum();
            scene.round();
            let records: u64 = (0..BATCH)
                .map(|number| records::payload(number).len() as u64)
                .sum();
            let after: u64 = written(&scene).iter().sum();
            assert!(after - before > 10 * records, "{before} {after}");
            scene.check();
        }
    }

    #[test]
    fn members_settle_every_record() {
        for mut scene in [Working::shared(), Working::partitioned()] {
            scene.round();
            scene.check();
        }
    }
}
