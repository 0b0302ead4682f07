//! NATS core: publishes that nobody answers, over TCP or as frames in binary WebSocket messages.
//!
//! Source: the NATS client protocol.

use callboard_load::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers, Dialect, Progress, Reader, Record, Role, Seen, TOPIC},
    opening::Opening,
    process::Server,
    wire::{FrameReader, Opcode, Piece, push_client_message, push_server_message},
};

use crate::{
    messages::{Found, Messages},
    servers::nats::Transport,
};

/// `verbose` off: with it each publish would be answered, by a server that has stored nothing.
const CONNECT: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"1\"}\r\n";
const REFUSED: &[u8] = b"-ERR";

/// NATS core, as one who measures speaks it.
#[derive(Clone, Copy, Debug)]
pub struct NatsCore(pub Transport);

/// What comes on one connection.
#[derive(Debug)]
pub struct CoreReader {
    /// Where NATS comes in WebSocket messages: what takes those apart.
    frames: Option<FrameReader>,
    messages: Messages,
}

impl CoreReader {
    fn new(transport: Transport, frames: impl FnOnce() -> FrameReader) -> Self {
        Self {
            frames: (transport == Transport::WebSocket).then(frames),
            messages: Messages::default(),
        }
    }
}

impl Reader for CoreReader {
    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        reply: &mut Vec<u8>,
        seen: &mut Seen,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let Self { frames, messages } = self;
        let (mut refused, mut pings) = (None, 0);
        let mut found = |found: Found<'_>| match found {
            Found::Message { payload: bytes, .. } => {
                seen.messages += 1;
                payload(bytes);
            }
            Found::Ping => pings += 1,
            Found::Status(reason) | Found::Refused(reason) => {
                refused.get_or_insert_with(|| String::from_utf8_lossy(reason).into_owned());
            }
        };
        match frames {
            None => messages.feed(chunk, &mut found),
            Some(frames) => frames.feed(chunk, |piece| {
                // The protocol's own lengths say where a message ends; those of WebSocket say nothing.
                if let Piece::Text(bytes) = piece {
                    messages.feed(bytes, &mut found);
                }
            }),
        }
        for _ in 0..pings {
            match frames {
                None => reply.extend_from_slice(b"PONG\r\n"),
                Some(_) => push_client_message(reply, Opcode::Binary, b"PONG\r\n"),
            }
        }
        match refused {
            None => Ok(()),
            Some(reason) => Err(Failure::new(format!("the server refused: {reason}"))),
        }
    }
}

impl NatsCore {
    fn send(self, opening: &mut Opening, lines: &str) -> Result<(), Failure> {
        match self.0 {
            Transport::Tcp => opening.send(lines.as_bytes()),
            Transport::WebSocket => opening.send_message(Opcode::Binary, lines.as_bytes()),
        }
    }
}

impl Dialect for NatsCore {
    type Reader = CoreReader;

    fn prepare(&self, _server: &Server, _topics: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        match plan {
            None => Ok(()),
            Some(_) => Err(Failure::new("NATS core acks nothing, so it has no work queue")),
        }
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<CoreReader, Failure> {
        if self.0 == Transport::WebSocket {
            opening.upgrade("/", None)?;
        }
        let subscribe = match role {
            Role::Publisher { .. } => String::new(),
            Role::Subscriber { topic, .. } => format!("SUB {topic} 1\r\n"),
            Role::Worker { .. } => return Err(Failure::new("NATS core has no work queue")),
        };
        self.send(opening, &format!("{CONNECT}{subscribe}PING\r\n"))?;
        opening.until(b"PONG\r\n", REFUSED)?;
        Ok(CoreReader::new(self.0, || opening.frames()))
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (CoreReader, Vec<u8>) {
        let mut sent = Vec::new();
        for payload in payloads {
            let head = format!("MSG {TOPIC} 1 {}\r\n", payload.len());
            let message = [head.as_bytes(), payload, b"\r\n"].concat();
            match self.0 {
                Transport::Tcp => sent.extend(message),
                Transport::WebSocket => push_server_message(&mut sent, Opcode::Binary, &message),
            }
        }
        (CoreReader::new(self.0, FrameReader::default), sent)
    }

    fn block(&self, _publisher: usize, records: &[Record<'_>]) -> Block {
        let framing = match self.0 {
            Transport::Tcp => Framing::Plain,
            Transport::WebSocket => Framing::OneMessage(Opcode::Binary),
        };
        let publishes = records.iter().map(|record| {
            let head = format!("PUB {} {}\r\n", record.topic, record.payload.len());
            [head.as_bytes(), record.payload, b"\r\n"].concat()
        });
        Block::new(framing, publishes)
    }

    fn answers(&self) -> Answers {
        Answers::None
    }

    fn progress(&self, _server: &Server, _plan: &Plan, _published: u64) -> Result<Progress, Failure> {
        Err(Failure::new("NATS core has no work queue"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::WebSocket];

    #[test]
    fn records_are_counted_and_handed_out_wherever_they_are_cut() {
        let payloads = [b"\"a\"".to_vec(), b"\"\r\n\"".to_vec(), b"\"PING\"".to_vec()];
        for transport in TRANSPORTS {
            let (_, stream) = NatsCore(transport).offline(&payloads);
            for cut in 0..=stream.len() {
                let (mut reader, _) = NatsCore(transport).offline(&[]);
                let (mut reply, mut seen, mut got) = (Vec::new(), Seen::default(), Vec::new());
                for piece in [&stream[..cut], &stream[cut..]] {
                    let outcome =
                        reader.take_payloads(&mut piece.to_vec(), &mut reply, &mut seen, |payload| {
                            got.push(payload.to_vec());
                        });
                    assert!(outcome.is_ok());
                }
                assert_eq!(got, payloads, "{transport:?} cut at {cut}");
                assert_eq!((seen.messages, reply.len()), (3, 0));
            }
        }
    }

    #[test]
    fn block_is_what_a_client_of_nats_sends() {
        let record = Record {
            topic: TOPIC,
            key: Some("not sent"),
            payload: b"\"abc\"",
        };
        let mut tcp = Vec::new();
        NatsCore(Transport::Tcp)
            .block(0, &[record, record])
            .push(&mut tcp, 0..2);
        assert_eq!(tcp, b"PUB bench 5\r\n\"abc\"\r\nPUB bench 5\r\n\"abc\"\r\n");
        let (mut websocket, mut contents) = (Vec::new(), Vec::new());
        NatsCore(Transport::WebSocket)
            .block(0, &[record, record])
            .push(&mut websocket, 1..2);
        FrameReader::default().feed(&mut websocket, |piece| {
            if let Piece::Text(bytes) = piece {
                contents.extend_from_slice(bytes);
            }
        });
        assert_eq!(contents, b"PUB bench 5\r\n\"abc\"\r\n");
    }

    #[test]
    fn ping_is_answered_and_a_refusal_ends_the_run() {
        for transport in TRANSPORTS {
            let (mut reader, _) = NatsCore(transport).offline(&[]);
            let (mut reply, mut seen) = (Vec::new(), Seen::default());
            let mut said = |lines: &[u8]| {
                let mut bytes = Vec::new();
                match transport {
                    Transport::Tcp => bytes.extend_from_slice(lines),
                    Transport::WebSocket => push_server_message(&mut bytes, Opcode::Binary, lines),
                }
                reader.take(&mut bytes, &mut reply, &mut seen)
            };
            assert!(said(b"PING\r\n").is_ok());
            let refusal = said(b"-ERR 'Slow Consumer'\r\n");
            assert!(refusal.is_err_and(|failure| failure.to_string().contains("Slow Consumer")));
            assert!(!reply.is_empty());
        }
    }
}
