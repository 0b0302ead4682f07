//! MQTT 3.1.1: the few packets that publish, subscribe and arrive at most once.
//!
//! Source: the OASIS standard, version 3.1.1, chapters 2 and 3. Packets stand in binary WebSocket messages and need
//! not keep to their borders.

use crate::carry::Carry;

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
/// A return code of `SUBACK` from here on is a refusal.
const SUBACK_REFUSED: u8 = 0x80;

/// Appends a packet of `first` byte: the remaining length is written as its variable number.
fn push_packet(buffer: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    buffer.push(first);
    let mut left = parts.iter().map(|part| part.len()).sum::<usize>();
    loop {
        let low = (left & 0x7F) as u8;
        left >>= 7;
        buffer.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
}

fn prefixed(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("names of the load are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// Appends `CONNECT` of a clean session without keep-alive, whose client gets its name from the server.
pub fn push_connect(buffer: &mut Vec<u8>) {
    push_packet(buffer, 0x10, &[b"\x00\x04MQTT\x04\x02\x00\x00", &prefixed("")]);
}

/// Appends `SUBSCRIBE` with QoS 0.
pub fn push_subscribe(buffer: &mut Vec<u8>, topic: &str) {
    push_packet(buffer, 0x82, &[&[0, 1], &prefixed(topic), &[0]]);
}

/// Appends `PUBLISH` with QoS 0.
pub fn push_publish(buffer: &mut Vec<u8>, topic: &str, payload: &[u8]) {
    push_packet(buffer, 0x30, &[&prefixed(topic), payload]);
}

/// What [`Packets::feed`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// `CONNECT` or `SUBSCRIBE` was accepted.
    Accepted,
    /// It was not; the packet says why.
    Refused(&'a [u8]),
    /// A record came.
    Record(&'a [u8]),
}

/// Takes the packets of one connection apart.
#[derive(Debug, Default)]
pub struct Packets(Carry);

impl Packets {
    /// Reads what came, without the frames of WebSocket.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Found<'_>)) {
        self.0.feed(bytes, |bytes| {
            let (body_at, whole) = extent(bytes)?;
            let body = bytes.get(body_at..whole)?;
            match bytes[0] >> 4 {
                PUBLISH => found(Found::Record(payload(bytes[0], body))),
                CONNACK if body.get(1) == Some(&0) => found(Found::Accepted),
                SUBACK if body.last().is_some_and(|code| *code < SUBACK_REFUSED) => found(Found::Accepted),
                CONNACK | SUBACK => found(Found::Refused(body)),
                _ => {}
            }
            Some(whole)
        });
    }
}

/// Where the packet's body begins and ends, if its head is whole.
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for place in 1..5 {
        let byte = *bytes.get(place)?;
        length |= usize::from(byte & 0x7F) << (7 * (place - 1));
        if byte & 0x80 == 0 {
            return Some((place + 1, place + 1 + length));
        }
    }
    panic!("the server sent a remaining length of more than four bytes");
}

fn payload(first: u8, body: &[u8]) -> &[u8] {
    let has_id = first & 0x06 != 0;
    let topic = body
        .get(..2)
        .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let start = 2 + usize::from(topic) + if has_id { 2 } else { 0 };
    body.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_understood_wherever_they_are_cut() {
        let mut stream = vec![0x20, 2, 0, 0, 0x90, 3, 0, 1, 0, 0xD0, 0, 0x20, 2, 0, 5];
        let payloads = [0, 1, 120, 300, 20_000].map(|length| vec![b'x'; length]);
        for payload in &payloads {
            push_publish(&mut stream, "bench", payload);
        }
        // QoS 1 has a packet identifier before the payload.
        stream.extend(*b"\x32\x06\x00\x01t\x00\x09p");
        for size in (1..200).chain([stream.len() - 1, stream.len()]) {
            let (mut packets, mut said, mut records) = (Packets::default(), Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                packets.feed(piece, |found| match found {
                    Found::Accepted => said.push(true),
                    Found::Refused(_) => said.push(false),
                    Found::Record(payload) => records.push(payload.to_vec()),
                });
            }
            assert_eq!(said, [true, true, false], "in pieces of {size}");
            assert_eq!(records[..5], payloads, "in pieces of {size}");
            assert_eq!(records[5], b"p");
        }
    }

    #[test]
    fn packets_that_are_sent_are_those_of_the_standard() {
        let mut buffer = Vec::new();
        push_connect(&mut buffer);
        push_subscribe(&mut buffer, "ab");
        push_publish(&mut buffer, "ab", b"hey");
        assert_eq!(
            buffer,
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x82\x07\x00\x01\x00\x02ab\x00\x30\x07\x00\x02abhey"
        );
    }
}
