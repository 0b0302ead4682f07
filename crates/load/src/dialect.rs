//! How a server is spoken to, as little as a measurement needs of it.
//!
//! A dialect prepares bytes once and counts what comes; sockets, loops, clocks and figures are the load's and the
//! same for all. Nothing in it may cost more than the server's own work on the same bytes: it parses no more than a
//! count needs, and allocates nothing while a run is measured. Dispatch is static throughout.

use super::{Failure, block::Block, crew::Plan, opening::Opening, process::Server};

/// The topic of every scenario that has only one.
pub const TOPIC: &str = "bench";
/// Payloads begin with a quote and so many digits, so that all are of one length and each says which it is.
pub const SEQUENCE_DIGITS: usize = 10;

/// A server's protocol, as one who measures speaks it.
pub trait Dialect: Sync {
    /// What takes apart what comes on a socket.
    type Reader: Reader + Send;

    /// How many sockets are opened at once. More than one only for servers that let each new one wait.
    fn openers(&self) -> usize {
        1
    }

    /// Makes what a run needs: topics or streams, and for a `plan` what shares the work out.
    ///
    /// # Errors
    /// The server refuses.
    fn prepare(&self, server: &Server, topics: &[String], plan: Option<&Plan>) -> Result<(), Failure>;

    /// Shakes hands on a new socket and makes it what `role` says; returns when the server has confirmed it.
    ///
    /// # Errors
    /// The server refuses, or knows no such role.
    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<Self::Reader, Failure>;

    /// A reader as [`Dialect::open`] gives it to a subscriber of [`TOPIC`], and the bytes by which the server would
    /// send it one record for each of `payloads`: for the load's own ceiling, and for tests.
    fn offline(&self, payloads: &[Vec<u8>]) -> (Self::Reader, Vec<u8>);

    /// The publishes of `records`, in order, as bytes that are ready to send.
    ///
    /// `publisher` is the place of the socket among the publishers, for protocols in which each needs an address
    /// of its own to be answered.
    fn block(&self, publisher: usize, records: &[Record<'_>]) -> Block;

    /// Whether each publish is answered.
    fn answers(&self) -> Answers;

    /// How far those who work by `plan` are, by the server's own count; `published` records were sent in all.
    ///
    /// # Errors
    /// The server does not say, or has no such groups.
    fn progress(&self, server: &Server, plan: &Plan, published: u64) -> Result<Progress, Failure>;
}

/// Takes apart what one socket gets, wherever it is cut.
pub trait Reader {
    /// Counts what came into `seen`, and appends to `reply` what must be said in return: acks, pongs, the next read.
    ///
    /// `chunk` may be changed in place. A reader that can count without finding each payload has a way of its own.
    ///
    /// # Errors
    /// The server refused something; the run is worth nothing then.
    fn take(&mut self, chunk: &mut [u8], reply: &mut Vec<u8>, seen: &mut Seen) -> Result<(), Failure> {
        self.take_payloads(chunk, reply, seen, |_| {})
    }

    /// As [`Reader::take`], and hands out each record's payload; what is handed out may be longer than the payload.
    ///
    /// # Errors
    /// As [`Reader::take`].
    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        reply: &mut Vec<u8>,
        seen: &mut Seen,
        payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure>;

    /// Settles what a worker has and has not settled yet: a run ends.
    fn finish(&mut self, _reply: &mut Vec<u8>, _seen: &mut Seen) {}
}

/// What a socket is for.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// Publishes.
    Publisher {
        /// Its place among the publishers.
        index: usize,
    },
    /// Gets every record of a topic from now on.
    Subscriber {
        /// Its place among the subscribers. All get the same bytes, so that only the first has to look for refusals.
        index: usize,
        topic: &'a str,
    },
    /// Shares the work on the records of [`TOPIC`] with others.
    Worker {
        /// Its place among the workers.
        index: usize,
        plan: &'a Plan,
    },
}

/// One record to publish.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub topic: &'a str,
    /// For servers that know keys.
    pub key: Option<&'a str>,
    /// A JSON string with its quotes, see [`payload`].
    pub payload: &'a [u8],
}

/// What a socket has got so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Publishes of this socket that were answered.
    pub answers: u64,
    /// Records that came.
    pub messages: u64,
    /// Records of them that were acked or committed, as soon as that is on its way.
    pub settled: u64,
}

/// Whether publishes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Each is.
    Each,
    /// None is: what was sent is all that a publisher knows.
    None,
}

/// How far a group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not all members are there, or not each has its share.
    Gathering(String),
    /// All are there, and not everything is settled.
    Working(String),
    /// All records that were published are settled, no more and no fewer.
    Settled,
}

/// A payload of `bytes` with its quotes, which begins with `sequence`.
pub fn payload(sequence: u64, bytes: usize) -> Vec<u8> {
    let filling = bytes.saturating_sub(2 + SEQUENCE_DIGITS);
    format!("\"{sequence:0SEQUENCE_DIGITS$}{}\"", "x".repeat(filling)).into_bytes()
}

/// The number that [`payload`] put at the begin of what was handed out.
pub fn sequence_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(1..=SEQUENCE_DIGITS)?;
    let mut sequence = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        sequence = sequence * 10 + u64::from(digit - b'0');
    }
    Some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_has_the_length_that_was_asked_and_carries_its_place() {
        let payload = payload(42, 128);
        assert_eq!(payload.len(), 128);
        assert_eq!(sequence_of(&payload), Some(42));
        assert_eq!(sequence_of(b"\"short"), None);
        assert_eq!(sequence_of(b"\"00000000x2\""), None);
    }
}
