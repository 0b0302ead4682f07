//! What comes from a Callboard, counted.

use super::{
    super::{
        Failure,
        dialect::{self, Seen},
        wire::{FrameReader, LineCounter, LineSplitter, Opcode, Piece, push_client_message},
    },
    Subprotocol,
    duty::Doer,
};

const ERROR: &[u8] = br#"{"type":"error""#;
const PAYLOAD: &[u8] = b"\"payload\":";

/// Takes the frames of one socket apart.
pub struct Reader {
    frames: FrameReader,
    counter: LineCounter,
    lines: LineSplitter,
    counts: Counts,
    /// Where the payload of a `message` was found last; those of a run are mostly alike.
    payload_at: usize,
    role: Role,
}

/// What is one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// A line.
    Lines,
    /// A message: nothing has to be searched for line ends.
    Messages,
}

enum Role {
    Publisher,
    /// One that also looks for refusals.
    FirstSubscriber,
    Subscriber,
    Worker(Box<Doer>, Subprotocol),
}

impl Reader {
    pub fn publisher(frames: FrameReader) -> Self {
        Self::new(frames, Role::Publisher)
    }

    pub fn first_subscriber(frames: FrameReader) -> Self {
        Self::new(frames, Role::FirstSubscriber)
    }

    pub fn subscriber(frames: FrameReader) -> Self {
        Self::new(frames, Role::Subscriber)
    }

    pub fn worker(frames: FrameReader, doer: Doer, subprotocol: Subprotocol) -> Self {
        Self::new(frames, Role::Worker(Box::new(doer), subprotocol))
    }

    fn new(frames: FrameReader, role: Role) -> Self {
        Self {
            frames,
            counter: LineCounter::default(),
            lines: LineSplitter::default(),
            counts: Counts::Lines,
            payload_at: 0,
            role,
        }
    }

    /// The same, where frames are told apart otherwise than by lines.
    pub fn counting(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    fn count(&mut self, chunk: &mut [u8]) {
        let counter = &mut self.counter;
        match self.counts {
            Counts::Lines => self.frames.feed(chunk, |piece| match piece {
                Piece::Text(text) => counter.text(text),
                Piece::End => counter.end(),
                Piece::Close => {}
            }),
            Counts::Messages => self.frames.feed(chunk, |piece| {
                if piece == Piece::End {
                    counter.message();
                }
            }),
        }
    }

    /// Hands out each line, and fails if one of them is an error.
    fn look(&mut self, chunk: &mut [u8], mut look: impl FnMut(&mut Role, &[u8])) -> Result<(), Failure> {
        let Self {
            frames,
            counter,
            lines,
            counts,
            role,
            ..
        } = self;
        let mut error = None;
        let mut line = |line: &[u8]| {
            if line.starts_with(ERROR) && error.is_none() {
                error = Some(String::from_utf8_lossy(line).into_owned());
            }
            look(role, line);
        };
        match counts {
            Counts::Lines => frames.feed(chunk, |piece| match piece {
                Piece::Text(text) => {
                    counter.text(text);
                    lines.text(text, &mut line);
                }
                Piece::End => {
                    counter.end();
                    lines.end(&mut line);
                }
                Piece::Close => {}
            }),
            Counts::Messages => frames.feed(chunk, |piece| match piece {
                Piece::Text(text) => lines.part(text),
                Piece::End => {
                    counter.message();
                    lines.end(&mut line);
                }
                Piece::Close => {}
            }),
        }
        match error {
            Some(error) => Err(Failure::new(format!("the server refused: {error}"))),
            None => Ok(()),
        }
    }

    /// Sends what a worker wrote, and counts.
    fn settle(&mut self, reply: &mut Vec<u8>, seen: &mut Seen) {
        let lines = self.counter.lines();
        match &mut self.role {
            Role::Publisher => seen.answers = lines,
            Role::FirstSubscriber | Role::Subscriber => seen.messages = lines,
            Role::Worker(doer, subprotocol) => {
                seen.messages = doer.taken();
                seen.settled = doer.settled();
                doer.drain(|lines| match subprotocol {
                    Subprotocol::Ndjson => push_client_message(reply, Opcode::Text, lines),
                    Subprotocol::Json => lines
                        .split(|&byte| byte == b'\n')
                        .filter(|line| !line.is_empty())
                        .for_each(|line| push_client_message(reply, Opcode::Text, line)),
                });
            }
        }
    }
}

impl dialect::Reader for Reader {
    fn take(&mut self, chunk: &mut [u8], reply: &mut Vec<u8>, seen: &mut Seen) -> Result<(), Failure> {
        if let Role::Subscriber = self.role {
            self.count(chunk);
        } else {
            self.look(chunk, |role, line| {
                if let Role::Worker(doer, _) = role {
                    doer.take(line);
                }
            })?;
        }
        self.settle(reply, seen);
        Ok(())
    }

    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        reply: &mut Vec<u8>,
        seen: &mut Seen,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let mut at = self.payload_at;
        self.look(chunk, |role, line| {
            if let Role::Worker(doer, _) = role {
                doer.take(line);
            }
            if let Some(found) = payload_in(line, &mut at) {
                payload(found);
            }
        })?;
        self.payload_at = at;
        self.settle(reply, seen);
        Ok(())
    }

    fn finish(&mut self, reply: &mut Vec<u8>, seen: &mut Seen) {
        if let Role::Worker(doer, _) = &mut self.role {
            doer.finish();
        }
        self.settle(reply, seen);
    }
}

/// Payload and what follows it in a line that has one.
fn payload_in<'a>(line: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let is_there = |at: usize| line.get(at..).and_then(|rest| rest.strip_prefix(PAYLOAD));
    if let Some(payload) = is_there(*at) {
        return Some(payload);
    }
    *at = memchr::memmem::find(line, PAYLOAD)?;
    is_there(*at)
}
