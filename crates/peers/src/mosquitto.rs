//! MQTT over WebSocket, at most once.
//!
//! Each packet is a binary WebSocket message of its own, as the clients for browsers send it.

use callboard_load::{
    Failure,
    block::{Block, Framing},
    crew::Plan,
    dialect::{Answers, Dialect, Progress, Reader, Record, Role, Seen, TOPIC},
    opening::Opening,
    process::Server,
    wire::{FrameReader, Opcode, Piece, push_server_message},
};

use crate::{
    groupless::no_groups,
    mqtt::{Found, Packets, push_connect, push_publish, push_subscribe},
};

const NAME: &str = "MQTT 3.1.1";

/// mosquitto looks for new WebSockets ten times a second, so that each takes a tenth of one to open, but all that
/// wait are taken at once.
const OPENERS: usize = 100;
const CONNECTED: &[u8] = b"\x20\x02\x00\x00";
/// Not authorised.
const NOT_CONNECTED: &[u8] = b"\x20\x02\x00\x05";
const SUBSCRIBED: &[u8] = b"\x90\x03\x00\x01\x00";
const NOT_SUBSCRIBED: &[u8] = b"\x90\x03\x00\x01\x80";

/// MQTT, as one who measures speaks it.
#[derive(Clone, Copy, Debug)]
pub struct Mqtt;

/// What comes on one connection.
#[derive(Debug, Default)]
pub struct PacketReader {
    frames: FrameReader,
    packets: Packets,
}

impl Reader for PacketReader {
    fn take_payloads(
        &mut self,
        chunk: &mut [u8],
        _reply: &mut Vec<u8>,
        seen: &mut Seen,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let Self { frames, packets } = self;
        frames.feed(chunk, |piece| {
            if let Piece::Text(bytes) = piece {
                packets.feed(bytes, |found| {
                    // Nothing is refused any more: there is no answer to what is published at most once.
                    if let Found::Record(bytes) = found {
                        seen.messages += 1;
                        payload(bytes);
                    }
                });
            }
        });
        Ok(())
    }
}

impl Dialect for Mqtt {
    type Reader = PacketReader;

    fn openers(&self) -> usize {
        OPENERS
    }

    fn prepare(&self, _server: &Server, _topics: &[String], plan: Option<&Plan>) -> Result<(), Failure> {
        no_groups(NAME, plan)
    }

    fn open(&self, opening: &mut Opening, role: Role<'_>) -> Result<PacketReader, Failure> {
        if let Role::Worker { plan, .. } = role {
            no_groups(NAME, Some(plan))?;
        }
        opening.upgrade("/mqtt", Some("mqtt"))?;
        let mut packet = Vec::new();
        push_connect(&mut packet);
        opening.send_message(Opcode::Binary, &packet)?;
        opening.until(CONNECTED, NOT_CONNECTED)?;
        if let Role::Subscriber { topic, .. } = role {
            packet.clear();
            push_subscribe(&mut packet, topic);
            opening.send_message(Opcode::Binary, &packet)?;
            opening.until(SUBSCRIBED, NOT_SUBSCRIBED)?;
        }
        Ok(PacketReader {
            frames: opening.frames(),
            packets: Packets::default(),
        })
    }

    fn offline(&self, payloads: &[Vec<u8>]) -> (PacketReader, Vec<u8>) {
        let mut stream = Vec::new();
        for payload in payloads {
            let mut packet = Vec::new();
            push_publish(&mut packet, TOPIC, payload);
            push_server_message(&mut stream, Opcode::Binary, &packet);
        }
        (PacketReader::default(), stream)
    }

    fn block(&self, _publisher: usize, records: &[Record<'_>]) -> Block {
        let packets = records.iter().map(|record| {
            let mut packet = Vec::new();
            push_publish(&mut packet, record.topic, record.payload);
            packet
        });
        Block::new(Framing::Messages(Opcode::Binary), packets)
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
        let (_, stream) = Mqtt.offline(&payloads);
        for size in 1..=stream.len() {
            let Taken { reply, seen, got } = take_in_pieces(&Mqtt, &payloads, size);
            assert_eq!(got, payloads, "in pieces of {size}");
            assert_eq!((seen.messages, seen.answers, reply.len()), (2, 0, 0));
        }
    }
}
