//! What a member of a group does with each record that it gets: acks it, or commits now and then.
//!
//! Frames are searched and written by hand: a delivery's number goes from the `message` into the `ack` as the
//! digits that it came as. It owns no socket; the reader of its socket gives it lines and sends what it wrote.

use std::io::Write as _;

use super::super::dialect::TOPIC;

/// The group of every scenario.
pub const GROUP: &str = "bench";

const MESSAGE: &[u8] = br#"{"type":"message""#;
const DELIVERY: &[u8] = br#""delivery":"#;
const PARTITION: &[u8] = br#""partition":"#;
const OFFSET: &[u8] = br#","offset":"#;

/// What a member has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// An `ack` frame of its own for each record of a shared group.
    Ack,
    /// A `commit` of where it stands after so many records of a partitioned group.
    Commit { every: u64 },
}

impl Duty {
    /// The group's mode.
    pub fn mode(self) -> &'static str {
        match self {
            Self::Ack => "shared",
            Self::Commit { .. } => "partitioned",
        }
    }
}

/// One member at work.
pub struct Doer {
    duty: Duty,
    /// By partition: the position to commit, if it moved since the last commit.
    positions: Vec<Option<u64>>,
    delivery: memchr::memmem::Finder<'static>,
    partition: memchr::memmem::Finder<'static>,
    /// Records that came.
    taken: u64,
    /// Records of them whose ack or commit was written.
    settled: u64,
    /// Lines for the broker.
    lines: Vec<u8>,
}

impl Doer {
    pub fn new(duty: Duty) -> Self {
        Self {
            duty,
            positions: Vec::new(),
            delivery: memchr::memmem::Finder::new(DELIVERY),
            partition: memchr::memmem::Finder::new(PARTITION),
            taken: 0,
            settled: 0,
            lines: Vec::new(),
        }
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Looks at one line from the broker.
    pub fn take(&mut self, line: &[u8]) {
        if !line.starts_with(MESSAGE) {
            return;
        }
        match self.duty {
            Duty::Ack => {
                let Some(place) = self.delivery.find(line) else {
                    return;
                };
                let digits = digits(&line[place + DELIVERY.len()..]);
                self.lines.extend_from_slice(br#"{"type":"ack","deliveries":["#);
                self.lines.extend_from_slice(digits);
                self.lines.extend_from_slice(b"]}\n");
                self.taken += 1;
                self.settled += 1;
            }
            Duty::Commit { every } => {
                let Some((partition, offset)) = place_of(&self.partition, line) else {
                    return;
                };
                if self.positions.len() <= partition {
                    self.positions.resize(partition + 1, None);
                }
                self.positions[partition] = Some(offset + 1);
                self.taken += 1;
                if self.taken - self.settled >= every {
                    self.commit();
                }
            }
        }
    }

    /// Commits what is left.
    pub fn finish(&mut self) {
        if self.settled < self.taken {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let _ = write!(
            self.lines,
            r#"{{"type":"commit","topic":"{TOPIC}","group":"{GROUP}","offsets":{{"#
        );
        for (partition, position) in self.positions.iter_mut().enumerate() {
            if let Some(position) = position.take() {
                let _ = write!(self.lines, r#""{partition}":{position},"#);
            }
        }
        self.lines.pop();
        self.lines.extend_from_slice(b"}}\n");
        self.settled = self.taken;
    }

    /// What is to be sent, as the lines of one message; empty once it was taken.
    pub fn drain(&mut self, send: impl FnOnce(&[u8])) {
        if !self.lines.is_empty() {
            send(&self.lines);
            self.lines.clear();
        }
    }
}

/// Partition and offset of a `message`.
fn place_of(partition: &memchr::memmem::Finder<'_>, line: &[u8]) -> Option<(usize, u64)> {
    let rest = &line[partition.find(line)? + PARTITION.len()..];
    let (number, rest) = number(rest);
    let (offset, _) = self::number(rest.strip_prefix(OFFSET)?);
    Some((usize::try_from(number).ok()?, offset))
}

fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    &text[..end.unwrap_or(text.len())]
}

/// The number that `text` begins with, and what follows.
fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = digits(text);
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (value, &text[digits.len()..])
}

#[cfg(test)]
mod tests {
    use callboard_protocol::client::ClientFrame;

    use super::*;

    fn written(doer: &mut Doer) -> String {
        let mut text = String::new();
        doer.drain(|lines| text = String::from_utf8_lossy(lines).into_owned());
        for line in text.lines() {
            assert!(ClientFrame::decode(line).is_ok(), "{line}");
        }
        text
    }

    #[test]
    fn each_delivery_is_acked_by_a_frame_of_its_own() {
        let mut worker = Doer::new(Duty::Ack);
        worker.take(br#"{"type":"subscribed","id":1,"topic":"bench","group":"bench"}"#);
        for delivery in [1_u64 << 40 | 7, 1 << 40 | 8] {
            let line = format!(
                r#"{{"type":"message","topic":"bench","partition":0,"offset":3,"timestamp":1,"payload":"x","group":"bench","delivery":{delivery},"attempt":1,"lease_ms":30000}}"#
            );
            worker.take(line.as_bytes());
        }
        assert_eq!((worker.taken(), worker.settled()), (2, 2));
        assert_eq!(
            written(&mut worker),
            "{\"type\":\"ack\",\"deliveries\":[1099511627783]}\n{\"type\":\"ack\",\"deliveries\":[1099511627784]}\n"
        );
        assert_eq!(written(&mut worker), "");
    }

    #[test]
    fn positions_are_committed_after_so_many_records_and_at_the_end() {
        let mut member = Doer::new(Duty::Commit { every: 3 });
        for (partition, offset) in [(4, 10), (0, 5), (4, 11), (0, 6)] {
            let line = format!(
                r#"{{"type":"message","topic":"bench","group":"bench","partition":{partition},"offset":{offset},"timestamp":1,"payload":"x"}}"#
            );
            member.take(line.as_bytes());
        }
        assert_eq!((member.taken(), member.settled()), (4, 3));
        member.finish();
        assert_eq!(member.settled(), 4);
        assert_eq!(
            written(&mut member),
            "{\"type\":\"commit\",\"topic\":\"bench\",\"group\":\"bench\",\"offsets\":{\"0\":6,\"4\":12}}\n\
             {\"type\":\"commit\",\"topic\":\"bench\",\"group\":\"bench\",\"offsets\":{\"0\":7}}\n"
        );
        member.finish();
        assert_eq!(written(&mut member), "");
    }
}
