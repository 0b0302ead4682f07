//! Publishes that are ready to send: made once, masked once, sent in parts.

use std::ops::Range;

use super::wire::{Opcode, mask, push_client_header, push_client_message};

/// How records stand on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One behind the other, with nothing around them.
    Plain,
    /// Each is a WebSocket message of its own.
    Messages(Opcode),
    /// All that are sent at once are one WebSocket message.
    OneMessage(Opcode),
}

/// Publishes, in order, as bytes.
#[derive(Debug)]
pub struct Block {
    framing: Framing,
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<usize>,
}

impl Block {
    /// The publishes of `records`, each as the protocol has it without WebSocket headers.
    pub fn new<R: AsRef<[u8]>>(framing: Framing, records: impl IntoIterator<Item = R>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for record in records {
            match framing {
                Framing::Messages(opcode) => push_client_message(&mut bytes, opcode, record.as_ref()),
                Framing::Plain | Framing::OneMessage(_) => bytes.extend_from_slice(record.as_ref()),
            }
            ends.push(bytes.len());
        }
        if let Framing::OneMessage(_) = framing {
            mask(&mut bytes);
        }
        Self { framing, bytes, ends }
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.ends.len()
    }

    /// Appends the publishes of `records`, of which there is at least one.
    pub fn push(&self, buffer: &mut Vec<u8>, records: Range<usize>) {
        let start = records.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends[records.end - 1];
        if let Framing::OneMessage(opcode) = self.framing {
            // All was masked as one text: a part of it has the mask turned by where it begins.
            push_client_header(buffer, opcode, end - start, start);
        }
        buffer.extend_from_slice(&self.bytes[start..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameReader, Piece};

    fn texts(bytes: &mut [u8]) -> Vec<String> {
        let (mut texts, mut text) = (Vec::new(), String::new());
        FrameReader::default().feed(bytes, |piece| match piece {
            Piece::Text(part) => text.push_str(&String::from_utf8_lossy(part)),
            Piece::End => texts.push(std::mem::take(&mut text)),
            Piece::Close => {}
        });
        texts
    }

    #[test]
    fn any_part_can_be_sent() {
        let records = ["a\n", "bcd\n", "ef\n", "ghijk\n"];
        for range in (0..4).flat_map(|start| (start + 1..=4).map(move |end| start..end)) {
            let sent = |framing| {
                let mut buffer = b"before".to_vec();
                Block::new(framing, records).push(&mut buffer, range.clone());
                buffer.split_off(6)
            };
            let expected = &records[range.clone()];
            assert_eq!(sent(Framing::Plain), expected.concat().as_bytes(), "{range:?}");
            assert_eq!(
                texts(&mut sent(Framing::Messages(Opcode::Text))),
                expected,
                "{range:?}"
            );
            assert_eq!(
                texts(&mut sent(Framing::OneMessage(Opcode::Binary))),
                [expected.concat()],
                "{range:?}"
            );
        }
    }
}
