//! Redis streams: `XADD` pipelined, `XREAD BLOCK` for those who follow, a consumer group for those who share work.
//!
//! A follower asks again as soon as it has an answer, from the last id that it got. A worker reads as many records as
//! its credit says, acks each with an `XACK` of its own, and sends the next read behind the acks.

use callboard_load::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers as Answered, Dialect, Progress, Reader, Record, Role, Seen, TOPIC},
    opening::{Opening, ReceiveBuffer},
    process::Server,
};

use crate::resp::{Answers, Found, push_command};

const GROUP: &[u8] = b"bench";
/// The field of a record that has its payload.
const FIELD: &[u8] = b"p";
/// Most records that a follower takes at once.
const READ_RECORDS_MAX: &[u8] = b"1000";
/// Before a stream's first record.
const BEGINNING: &[u8] = b"0-0";

/// Redis, as one who measures speaks it.
#[derive(Clone, Copy, Debug)]
pub struct Redis;

/// What comes on one connection, and what follows from it.
#[derive(Debug)]
pub struct Following {
    answers: Answers,
    then: Then,
    last_id: Vec<u8>,
}

#[derive(Debug)]
enum Then {
    /// A publisher counts.
    Count,
    /// Who follows a stream reads on behind the last record.
    ReadOn { topic: Vec<u8> },
    /// A worker acks each record and reads the next ones.
    AckAndRead { read: Vec<u8> },
}

impl Then {
    fn push_read(&self, last_id: &[u8], reply: &mut Vec<u8>) {
        match self {
            Self::Count => {}
            Self::ReadOn { topic } => push_command(
                reply,
                &[
                    b"XREAD",
                    b"COUNT",
                    READ_RECORDS_MAX,
                    b"BLOCK",
                    b"0",
                    b"STREAMS",
                    topic,
                    last_id,
                ],
            ),
            Self::AckAndRead { read } => reply.extend_from_slice(read),
        }
    }
}

impl Following {
    fn new(then: Then, last_id: &[u8]) -> Self {
        Self {
            answers: Answers::default(),
            then,
            last_id: last_id.to_vec(),
        }
    }

    fn read(&self) -> Vec<u8> {
        let mut read = Vec::new();
        self.then.push_read(&self.last_id, &mut read);
        read
    }
}

impl Reader for Following {
    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        reply: &mut Vec<u8>,
        seen: &mut Seen,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let Self {
            answers,
            then,
            last_id,
        } = self;
        let mut refusal = None;
        answers.feed(chunk, |found| match found {
            // A worker's are those to its acks.
            Found::Answer => seen.answers += u64::from(matches!(then, Then::Count)),
            Found::Refused(reason) => {
                refusal.get_or_insert_with(|| String::from_utf8_lossy(reason).into_owned());
            }
            Found::Record { id, payload: bytes } => {
                seen.messages += 1;
                payload(bytes);
                if let Then::AckAndRead { .. } = then {
                    push_command(reply, &[b"XACK", TOPIC.as_bytes(), GROUP, id]);
                    seen.settled += 1;
                } else {
                    last_id.clear();
                    last_id.extend_from_slice(id);
                }
            }
            Found::ReadDone => then.push_read(last_id, reply),
        });
        match refusal {
            None => Ok(()),
            Some(reason) => Err(Failure::new(format!("the server refused: {reason}"))),
        }
    }
}

impl Dialect for Redis {
    type Reader = Following;

    fn prepare(&self, server: &Server, _topics: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        // A stream comes with its first record; only a group has to be made.
        if plan.is_some() {
            ask(
                server,
                &[b"XGROUP", b"CREATE", TOPIC.as_bytes(), GROUP, b"$", b"MKSTREAM"],
            )?;
        }
        Ok(())
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<Following, Failure> {
        let following = match role {
            Role::Publisher { .. } => return Ok(Following::new(Then::Count, BEGINNING)),
            Role::Subscriber { topic, .. } => {
                let topic = topic.as_bytes().to_vec();
                let newest = exchange(opening, &[b"XREVRANGE", &topic, b"+", b"-", b"COUNT", b"1"])?;
                Following::new(Then::ReadOn { topic }, newest_id(&newest).as_bytes())
            }
            Role::Worker { index, plan } => {
                let name = name_of(index);
                let create: [&[u8]; 5] = [
                    b"XGROUP",
                    b"CREATECONSUMER",
                    TOPIC.as_bytes(),
                    GROUP,
                    name.as_bytes(),
                ];
                exchange(opening, &create)?;
                let read = read_of_worker(index, plan.credit);
                Following::new(Then::AckAndRead { read }, BEGINNING)
            }
        };
        opening.send(&following.read())?;
        Ok(following)
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (Following, Vec<u8>) {
        let topic = TOPIC.as_bytes().to_vec();
        let following = Following::new(Then::ReadOn { topic }, BEGINNING);
        (following, answer_to_read(payloads))
    }

    fn block(&self, _publisher: usize, records: &[Record<'_>]) -> Block {
        let commands = records.iter().map(|record| {
            let mut command = Vec::new();
            push_command(
                &mut command,
                &[b"XADD", record.topic.as_bytes(), b"*", FIELD, record.payload],
            );
            command
        });
        Block::new(Framing::Plain, commands)
    }

    fn answers(&self) -> Answered {
        Answered::Each
    }

    fn progress(&self, server: &Server, plan: &Plan, published: u64) -> Result<Progress, Failure> {
        let said = ask(server, &[b"XINFO", b"GROUPS", TOPIC.as_bytes()])?;
        Ok(progress_in(&said, plan.members as u64, published))
    }
}

fn name_of(worker: usize) -> String {
    format!("w{worker}")
}

/// The read of a worker, which is the same each time: whatever nobody has got yet.
fn read_of_worker(index: usize, credit: usize) -> Vec<u8> {
    let (name, count) = (name_of(index), credit.to_string());
    let mut read = Vec::new();
    push_command(
        &mut read,
        &[
            b"XREADGROUP",
            b"GROUP",
            GROUP,
            name.as_bytes(),
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            b"0",
            b"STREAMS",
            TOPIC.as_bytes(),
            b">",
        ],
    );
    read
}

/// What the server answers to a read that finds `payloads`.
fn answer_to_read(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut answer = format!(
        "*1\r\n*2\r\n${}\r\n{TOPIC}\r\n*{}\r\n",
        TOPIC.len(),
        payloads.len()
    )
    .into_bytes();
    for (index, payload) in payloads.iter().enumerate() {
        let id = format!("1795146000123-{index}");
        answer.extend_from_slice(b"*2\r\n");
        answer.extend_from_slice(format!("${}\r\n{id}\r\n", id.len()).as_bytes());
        push_command(&mut answer, &[FIELD, payload]);
    }
    answer
}

/// A question beside the load, on a connection of its own.
fn ask(server: &Server, words: &[&[u8]]) -> Result<String, Failure> {
    exchange(
        &mut Opening::connect(&server.address, ReceiveBuffer::Default)?,
        words,
    )
}

/// Sends a command, and returns what is answered as it came.
fn exchange(opening: &mut Opening, words: &[&[u8]]) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    push_command(&mut bytes, words);
    // What follows says that the answer is whole.
    push_command(&mut bytes, &[b"PING"]);
    opening.send(&bytes)?;
    let said = opening.until(b"+PONG\r\n", b"-ERR")?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The id of the record in an answer to `XREVRANGE`.
fn newest_id(said: &str) -> String {
    let id = said.split("\r\n").nth(3).filter(|_| !said.starts_with("*0"));
    id.unwrap_or("0-0").to_owned()
}

/// The number that stands behind `name` in an answer to `XINFO`.
fn number_after(said: &str, name: &str) -> Option<u64> {
    let mut lines = said.split("\r\n").skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix(':')?.parse().ok()
}

fn progress_in(said: &str, members: u64, published: u64) -> Progress {
    let of = |name| number_after(said, name);
    if of("consumers") != Some(members) {
        return Progress::Gathering(said.to_owned());
    }
    // `entries-read` stays null until a first record was read.
    if of("entries-read").unwrap_or(0) == published && of("pending") == Some(0) {
        Progress::Settled
    } else {
        Progress::Working(said.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Taken, take_in_pieces};

    fn said(commands: &[u8]) -> String {
        String::from_utf8_lossy(commands).replace("\r\n", " ")
    }

    #[test]
    fn follower_reads_on_behind_the_last_record_wherever_the_answer_is_cut() {
        let payloads = [b"\"a\"".to_vec(), b"\"\r\n\"".to_vec()];
        let (_, answer) = Redis.offline(&payloads);
        for size in 1..=answer.len() {
            let Taken { reply, seen, got } = take_in_pieces(&Redis, &payloads, size);
            assert_eq!(got, payloads, "in pieces of {size}");
            assert_eq!(seen.messages, 2);
            assert!(
                said(&reply).ends_with("$7 STREAMS $5 bench $15 1795146000123-1 "),
                "{}",
                said(&reply)
            );
        }
    }

    #[test]
    fn worker_acks_each_record_and_then_reads_the_next_ones() {
        let read = read_of_worker(3, 256);
        let mut worker = Following::new(Then::AckAndRead { read: read.clone() }, BEGINNING);
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        let mut answer = answer_to_read(&[b"1".to_vec(), b"2".to_vec()]);
        assert!(worker.take(&mut answer, &mut reply, &mut seen).is_ok());
        let mut expected = Vec::new();
        for id in [b"1795146000123-0", b"1795146000123-1"] {
            push_command(&mut expected, &[b"XACK", b"bench", b"bench", id]);
        }
        expected.extend(read);
        assert_eq!(said(&reply), said(&expected));
        assert_eq!((seen.messages, seen.settled), (2, 2));
        assert!(
            worker
                .take(&mut b":1\r\n:1\r\n".to_vec(), &mut reply, &mut seen)
                .is_ok()
        );
        assert_eq!(seen.answers, 0, "an answer to an ack is none to a publish");
        assert!(
            worker
                .take(&mut b"-NOGROUP gone\r\n".to_vec(), &mut reply, &mut seen)
                .is_err()
        );
    }

    #[test]
    fn publisher_counts_what_is_answered() {
        let mut publisher = Following::new(Then::Count, BEGINNING);
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        let mut answers = b"$3\r\n1-0\r\n$3\r\n1-1\r\n".to_vec();
        assert!(publisher.take(&mut answers, &mut reply, &mut seen).is_ok());
        assert_eq!((seen.answers, reply.len()), (2, 0));
    }

    #[test]
    fn newest_record_is_where_a_follower_begins() {
        assert_eq!(newest_id("*0\r\n+PONG\r\n"), "0-0");
        let said = "*1\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\np\r\n$1\r\nx\r\n+PONG\r\n";
        assert_eq!(newest_id(said), "7-1");
    }

    #[test]
    fn group_has_settled_what_it_read_and_acked() {
        let of = |consumers: u64, pending: u64, read: &str| {
            let said = format!(
                "*1\r\n*12\r\n$4\r\nname\r\n$5\r\nbench\r\n$9\r\nconsumers\r\n:{consumers}\r\n$7\r\npending\r\n:{pending}\r\n\
                 $12\r\nentries-read\r\n{read}\r\n$3\r\nlag\r\n:0\r\n"
            );
            progress_in(&said, 8, 9)
        };
        assert!(matches!(of(7, 0, ":9"), Progress::Gathering(_)));
        assert!(matches!(of(8, 1, ":9"), Progress::Working(_)));
        assert!(matches!(of(8, 0, ":8"), Progress::Working(_)));
        assert!(matches!(of(8, 0, "$-1"), Progress::Working(_)));
        assert_eq!(of(8, 0, ":9"), Progress::Settled);
    }
}
