//! WebSocket framing by hand, as little of it as both ends of a measurement need.
//!
//! The generator must not be what is measured, so nothing here parses JSON or allocates a frame.

use std::ops::Range;

/// Masks what the generator sends. Not zero, so that the server has to undo it as for any client.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// Longest header that a server writes, bytes.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;
/// Set in the first byte of a frame that ends its message.
const FINAL: u8 = 0x80;
/// Opcodes from here on are control frames.
const CONTROL_MIN: u8 = 8;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
}

/// The request that opens a WebSocket.
pub fn handshake(host: &str, path: &str, subprotocol: Option<&str>) -> String {
    let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        subprotocol.unwrap_or_default()
    )
}

fn header(opcode: Opcode, length: usize, mask_bit: u8, bytes: &mut [u8; 14]) -> usize {
    bytes[0] = FINAL | opcode as u8;
    match length {
        0..=125 => {
            bytes[1] = mask_bit | length as u8;
            2
        }
        126..=0xFFFF => {
            bytes[1] = mask_bit | 126;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = mask_bit | 127;
            bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    }
}

/// Appends the header of a masked message of `length` bytes, which were masked as those from `phase` on of
/// something longer.
pub fn push_client_header(buffer: &mut Vec<u8>, opcode: Opcode, length: usize, phase: usize) {
    let mut bytes = [0; 14];
    let end = header(opcode, length, 0x80, &mut bytes);
    buffer.extend_from_slice(&bytes[..end]);
    buffer.extend_from_slice(&turned(MASK, phase));
}

/// Appends a masked message.
pub fn push_client_message(buffer: &mut Vec<u8>, opcode: Opcode, contents: &[u8]) {
    push_client_header(buffer, opcode, contents.len(), 0);
    let start = buffer.len();
    buffer.extend_from_slice(contents);
    mask(&mut buffer[start..]);
}

/// Masks contents as they stand behind [`push_client_header`].
pub fn mask(contents: &mut [u8]) {
    unmask(contents, MASK, 0);
}

/// Appends a message as a server sends it.
pub fn push_server_message(buffer: &mut Vec<u8>, opcode: Opcode, contents: &[u8]) {
    let mut bytes = [0; 14];
    let end = header(opcode, contents.len(), 0, &mut bytes);
    buffer.extend_from_slice(&bytes[..end]);
    buffer.extend_from_slice(contents);
}

fn turned(mask: [u8; 4], phase: usize) -> [u8; 4] {
    std::array::from_fn(|place| mask[(place + phase) % 4])
}

/// Writes the header of a server's message right before its text, which begins at
/// [`SERVER_HEADER_BYTES_MAX`] of `frame`; returns where the frame begins.
pub fn put_server_header(frame: &mut [u8]) -> usize {
    let mut bytes = [0; 14];
    let end = header(Opcode::Text, frame.len() - SERVER_HEADER_BYTES_MAX, 0, &mut bytes);
    let start = SERVER_HEADER_BYTES_MAX - end;
    frame[start..SERVER_HEADER_BYTES_MAX].copy_from_slice(&bytes[..end]);
    start
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
    let turned = turned(mask, phase);
    let word = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let plain = u64::from_ne_bytes((&*chunk).try_into().expect("a chunk has eight bytes")) ^ word;
        chunk.copy_from_slice(&plain.to_ne_bytes());
    }
    for (place, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= turned[place % 4];
    }
}

/// What [`FrameReader::feed`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Part of a message's text.
    Text(&'a [u8]),
    /// The message is whole.
    End,
    /// A close frame came.
    Close,
}

/// Takes a stream of frames apart, wherever it is cut.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; 14],
    header_filled: usize,
    /// Payload bytes that are still to come; meaningful once the header is whole.
    left: u64,
    taken: usize,
    in_payload: bool,
}

impl FrameReader {
    fn header_length(&self) -> usize {
        if self.header_filled < 2 {
            return 2;
        }
        let extended = match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        match self.header[1] & 0x7F {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => u64::from_be_bytes(self.header[2..10].try_into().expect("eight bytes")),
            short => u64::from(short),
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        let end = self.header_length();
        (self.header[1] & 0x80 != 0).then(|| self.header[end - 4..end].try_into().expect("four bytes"))
    }

    /// Reads what came; `found` is called for each piece. Masked text is unmasked in place.
    pub fn feed(&mut self, chunk: &mut [u8], mut found: impl FnMut(Piece<'_>)) {
        let mut at = 0;
        while at < chunk.len() {
            if !self.in_payload {
                // Twice at most: the first two bytes say how many more there are.
                let missing = self.header_length() - self.header_filled;
                let take = missing.min(chunk.len() - at);
                let end = self.header_filled + take;
                self.header[self.header_filled..end].copy_from_slice(&chunk[at..at + take]);
                self.header_filled = end;
                at += take;
                if self.header_filled < self.header_length() {
                    continue;
                }
                self.left = self.payload_length();
                self.taken = 0;
                self.in_payload = true;
            }
            let take = usize::try_from(self.left).map_or(chunk.len() - at, |left| left.min(chunk.len() - at));
            self.payload(&mut chunk[at..at + take], &mut found);
            at += take;
        }
    }

    fn payload(&mut self, bytes: &mut [u8], found: &mut impl FnMut(Piece<'_>)) {
        let is_control = self.header[0] & 0x0F >= CONTROL_MIN;
        if !is_control && !bytes.is_empty() {
            if let Some(mask) = self.mask() {
                unmask(bytes, mask, self.taken);
            }
            found(Piece::Text(bytes));
        }
        self.taken += bytes.len();
        self.left -= bytes.len() as u64;
        if self.left > 0 {
            return;
        }
        self.in_payload = false;
        self.header_filled = 0;
        match self.header[0] & 0x0F {
            CONTROL_MIN => found(Piece::Close),
            opcode if opcode > CONTROL_MIN => {}
            _ if self.header[0] & 0x80 != 0 => found(Piece::End),
            _ => {}
        }
    }
}

/// Counts lines in messages; the last line of a message needs no line end.
#[derive(Debug, Default)]
pub struct LineCounter {
    is_open: bool,
    lines: u64,
}

impl LineCounter {
    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn text(&mut self, text: &[u8]) {
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
        self.is_open = text.last() != Some(&b'\n');
    }

    pub fn end(&mut self) {
        self.lines += u64::from(std::mem::take(&mut self.is_open));
    }

    /// Counts a message that is one line, whose text was not given.
    pub fn message(&mut self) {
        self.lines += 1;
    }
}

/// Puts lines together that are cut by the stream, and hands each out whole.
#[derive(Debug, Default)]
pub struct LineSplitter {
    carry: Vec<u8>,
}

impl LineSplitter {
    pub fn text(&mut self, text: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest: Range<usize> = 0..text.len();
        for end in memchr::memchr_iter(b'\n', text) {
            let piece = &text[rest.start..end];
            rest.start = end + 1;
            if self.carry.is_empty() {
                if !piece.is_empty() {
                    line(piece);
                }
            } else {
                self.carry.extend_from_slice(piece);
                line(&self.carry);
                self.carry.clear();
            }
        }
        self.carry.extend_from_slice(&text[rest]);
    }

    /// Takes text in which no line ends.
    pub fn part(&mut self, text: &[u8]) {
        self.carry.extend_from_slice(text);
    }

    pub fn end(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.carry.is_empty() {
            line(&self.carry);
            self.carry.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(text: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_server_message(&mut frame, Opcode::Text, text);
        frame
    }

    /// Feeds `stream` in pieces of `size` and returns the whole messages.
    fn messages(stream: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut reader = FrameReader::default();
        let (mut whole, mut current) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            reader.feed(&mut chunk.to_vec(), |piece| match piece {
                Piece::Text(text) => current.extend_from_slice(text),
                Piece::End => whole.push(std::mem::take(&mut current)),
                Piece::Close => whole.push(b"close".to_vec()),
            });
        }
        whole
    }

    #[test]
    fn frames_of_every_length_survive_every_cut() {
        let texts: Vec<Vec<u8>> = [0, 1, 125, 126, 300, 70_000]
            .map(|length| (0..length).map(|place| (place % 251) as u8).collect())
            .to_vec();
        let mut masked = Vec::new();
        let mut plain = Vec::new();
        for text in &texts {
            push_client_message(&mut masked, Opcode::Binary, text);
            plain.extend(server_frame(text));
        }
        for size in [1, 2, 3, 7, 64, 1 << 20] {
            assert_eq!(messages(&masked, size), texts, "masked in pieces of {size}");
            assert_eq!(messages(&plain, size), texts, "plain in pieces of {size}");
        }
    }

    #[test]
    fn control_frames_are_no_text() {
        let mut stream = vec![0x89, 3, b'a', b'\n', b'b'];
        stream.extend(server_frame(b"x"));
        stream.extend([0x88, 2, 3, 0xE8]);
        assert_eq!(messages(&stream, 2), [b"x".to_vec(), b"close".to_vec()]);
    }

    #[test]
    fn lines_are_counted_with_and_without_a_last_line_end() {
        for (stream, expected) in [
            (vec!["a\nb\nc", ""], 3),
            (vec!["a\nb\n", "c\n"], 3),
            (vec!["", "", "a"], 1),
        ] {
            for size in [1, 2, 100] {
                let mut counter = LineCounter::default();
                for message in &stream {
                    message
                        .as_bytes()
                        .chunks(size)
                        .for_each(|piece| counter.text(piece));
                    counter.end();
                }
                assert_eq!(counter.lines(), expected, "{stream:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn cut_lines_are_put_together() {
        for size in 1..8 {
            let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
            for message in ["one\ntwo", "three\n"] {
                for piece in message.as_bytes().chunks(size) {
                    splitter.text(piece, |line| lines.push(line.to_vec()));
                }
                splitter.end(|line| lines.push(line.to_vec()));
            }
            assert_eq!(lines, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        }
    }
}
