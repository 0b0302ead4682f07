//! uWebSockets' publish and subscribe, as `servers/uwebsockets.js` offers it.
//!
//! A publisher's message is the topic, a space and the record; a subscriber's message is the record. There is nothing
//! else to it, so a browser's code would look the same.

use callboard_load::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers, Dialect, Progress, Reader, Record, Role, Seen},
    opening::Opening,
    process::Server,
    wire::{FrameReader, Opcode, Piece, push_server_message},
};

use crate::groupless::no_groups;

const NAME: &str = "uWebSockets";
/// What the server says when it has made a socket what its address asks for.
const READY: &[u8] = b"ready";
/// What it never says.
const REFUSAL: &[u8] = b"refused";

/// uWebSockets, as one who measures speaks it.
#[derive(Clone, Copy, Debug)]
pub struct UWebSockets;

/// What comes on one connection: each message is a record.
#[derive(Debug, Default)]
pub struct MessageReader {
    frames: FrameReader,
    /// The record that has not ended, where records are handed out.
    record: Vec<u8>,
}

impl Reader for MessageReader {
    fn take(&mut self, chunk: &mut [u8], _reply: &mut Vec<u8>, seen: &mut Seen) -> Result<(), Failure> {
        self.frames.feed(chunk, |piece| {
            seen.messages += u64::from(piece == Piece::End);
        });
        Ok(())
    }

    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        _reply: &mut Vec<u8>,
        seen: &mut Seen,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let Self { frames, record } = self;
        frames.feed(chunk, |piece| match piece {
            Piece::Text(bytes) => record.extend_from_slice(bytes),
            Piece::End => {
                seen.messages += 1;
                payload(record);
                record.clear();
            }
            Piece::Close => {}
        });
        Ok(())
    }
}

impl Dialect for UWebSockets {
    type Reader = MessageReader;

    fn prepare(&self, _server: &Server, _topics: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        no_groups(NAME, plan)
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<MessageReader, Failure> {
        let path = match role {
            Role::Publisher { .. } => "/".to_owned(),
            Role::Subscriber { topic, .. } => format!("/?{topic}"),
            Role::Worker { plan, .. } => {
                no_groups(NAME, Some(plan))?;
                return Ok(MessageReader::default());
            }
        };
        opening.upgrade(&path, None)?;
        opening.until(READY, REFUSAL)?;
        Ok(MessageReader {
            frames: opening.frames(),
            record: Vec::new(),
        })
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (MessageReader, Vec<u8>) {
        let mut stream = Vec::new();
        for payload in payloads {
            push_server_message(&mut stream, Opcode::Text, payload);
        }
        (MessageReader::default(), stream)
    }

    fn block(&self, _publisher: usize, records: &[Record<'_>]) -> Block {
        let messages = records
            .iter()
            .map(|record| [record.topic.as_bytes(), b" ", record.payload].concat());
        Block::new(Framing::Messages(Opcode::Text), messages)
    }

    fn answers(&self) -> Answers {
        Answers::None
    }

    fn progress(&self, _server: &Server, plan: &Plan, _published: u64) -> Result<Progress, Failure> {
        no_groups(NAME, Some(plan)).map(|()| Progress::Settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::{Taken, take_in_pieces};

    #[test]
    fn records_are_counted_and_handed_out_wherever_they_are_cut() {
        let payloads = [b"\"a\"".to_vec(), vec![b'x'; 300]];
        let (_, stream) = UWebSockets.offline(&payloads);
        for size in 1..=stream.len() {
            let Taken { mut reply, seen, got } = take_in_pieces(&UWebSockets, &payloads, size);
            let (mut counting, mut stream) = UWebSockets.offline(&payloads);
            let mut counted = Seen::default();
            for piece in stream.chunks_mut(size) {
                assert!(counting.take(piece, &mut reply, &mut counted).is_ok());
            }
            assert_eq!(got, payloads, "in pieces of {size}");
            assert_eq!((seen.messages, counted), (2, seen));
        }
    }
}
