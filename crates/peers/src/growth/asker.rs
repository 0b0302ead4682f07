//! One session that asks a broker many things, some of them at a time.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use callboard_load::{
    Failure,
    opening::{Opening, ReceiveBuffer, SETUP_TIMEOUT},
    wire::{FrameReader, LineSplitter, Opcode, Piece, push_client_message},
};

/// Every frame carries this, so that answers can be counted.
pub(crate) const ID: &str = r#""id":7"#;
const ERROR: &[u8] = br#"{"type":"error""#;
/// A message is sent when it holds so much; the broker takes at most 1 MiB.
const MESSAGE_BYTES: usize = 256 << 10;

/// See the module.
pub(crate) struct Asker {
    stream: TcpStream,
    frames: FrameReader,
    lines: LineSplitter,
    scratch: Vec<u8>,
    outgoing: Vec<u8>,
}

/// What has come since it was asked for last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    /// Answers to what was asked.
    pub answers: u64,
    /// All else.
    pub others: u64,
}

impl Asker {
    /// Opens a session.
    pub(crate) fn open(address: &str) -> Result<Self, Failure> {
        let mut opening = Opening::connect(address, ReceiveBuffer::Default)?;
        opening.upgrade("/ws", Some("callboard.v1.ndjson"))?;
        opening.until(br#""type":"welcome""#, ERROR)?;
        let frames = opening.frames();
        let stream = TcpStream::from(opening.into_stream()?);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SETUP_TIMEOUT))?;
        Ok(Self {
            stream,
            frames,
            lines: LineSplitter::default(),
            scratch: vec![0; 64 << 10],
            outgoing: Vec::new(),
        })
    }

    /// Asks `frames`, each of which has the [`ID`], with at most `window` of them unanswered; returns when all are
    /// answered.
    ///
    /// # Errors
    /// The broker refuses one.
    pub(crate) fn ask_all(
        &mut self,
        window: usize,
        frames: impl IntoIterator<Item = String>,
    ) -> Result<(), Failure> {
        let mut frames = frames.into_iter().peekable();
        let mut open = 0_u64;
        while open > 0 || frames.peek().is_some() {
            let mut message = String::new();
            while open < window as u64 && message.len() < MESSAGE_BYTES {
                let Some(frame) = frames.next() else { break };
                message.push_str(&frame);
                message.push('\n');
                open += 1;
            }
            if !message.is_empty() {
                self.outgoing.clear();
                push_client_message(&mut self.outgoing, Opcode::Text, message.as_bytes());
                self.stream.write_all(&self.outgoing)?;
            }
            // Half of it may be open still when more goes out, so that the broker never waits for us.
            let refill = if frames.peek().is_some() {
                window as u64 / 2
            } else {
                0
            };
            while open > refill {
                open = open.saturating_sub(self.read()?.answers);
            }
        }
        Ok(())
    }

    /// Asks one thing.
    pub(crate) fn ask(&mut self, frame: String) -> Result<(), Failure> {
        self.ask_all(1, [frame])
    }

    /// Waits for whatever comes next.
    pub(crate) fn read(&mut self) -> Result<Came, Failure> {
        let count = self.stream.read(&mut self.scratch)?;
        if count == 0 {
            return Err(Failure::new("the broker closed a connection"));
        }
        let (mut came, mut refusal) = (Came::default(), None);
        let lines = &mut self.lines;
        let mut line = |line: &[u8]| {
            if line.starts_with(ERROR) {
                refusal = Some(String::from_utf8_lossy(line).into_owned());
            } else if is_answer(line) {
                came.answers += 1;
            } else {
                came.others += 1;
            }
        };
        self.frames.feed(&mut self.scratch[..count], |piece| match piece {
            Piece::Text(text) => lines.text(text, &mut line),
            Piece::End => lines.end(&mut line),
            Piece::Close => {}
        });
        match refusal {
            Some(refusal) => Err(Failure::new(refusal)),
            None => Ok(came),
        }
    }
}

/// Answers have the id right behind their type.
fn is_answer(line: &[u8]) -> bool {
    let head = &line[..line.len().min(48)];
    memchr::memmem::find(head, ID.as_bytes()).is_some()
}

/// The frame of one publish, with a payload of `payload_bytes`.
pub(crate) fn publish(topic: &str, payload_bytes: usize) -> String {
    let payload = "x".repeat(payload_bytes.saturating_sub(2));
    format!(r#"{{"type":"publish",{ID},"topic":"{topic}","payload":"{payload}"}}"#)
}

/// The frame that makes a topic.
pub(crate) fn declare(topic: &str, partitions: u64, durability: &str) -> String {
    format!(
        r#"{{"type":"declare",{ID},"topic":"{topic}","partitions":{partitions},"durability":"{durability}"}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_messages_that_quote_them() {
        assert!(is_answer(br#"{"type":"ok","id":7}"#));
        assert!(is_answer(
            br#"{"type":"published","id":7,"topic":"a","partition":0,"offset":1}"#
        ));
        let message = br#"{"type":"message","topic":"orders","partition":0,"offset":1,"payload":{"id":7}}"#;
        assert!(!is_answer(message));
    }

    #[test]
    fn publish_has_a_payload_of_the_asked_length() {
        assert!(publish("a", 16).ends_with(r#""payload":"xxxxxxxxxxxxxx"}"#));
        assert!(publish("a", 16).contains(ID));
    }
}
