//! WebSocket frames as they come from a client, read and unmasked where they lie in the buffer.
//!
//! Most publishers send one small frame a record, and hundreds of them come in one read: nothing here takes
//! memory or counts a reference. Called by the session's reading only.

use std::ops::Range;

use callboard_protocol::limits::MESSAGE_BYTES_MAX;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// A control frame carries no more.
const CONTROL_BYTES_MAX: usize = 125;
const MASK_BYTES: usize = 4;

/// What kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn parse(code: u8) -> Option<Self> {
        match code {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a connection can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a message has at most {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("no extension was agreed on that uses the reserved bits")]
    ReservedBits,
    #[error("a client masks its frames")]
    NotMasked,
    #[error("unknown opcode")]
    UnknownOpcode,
    #[error("control frames come in one piece of at most {CONTROL_BYTES_MAX} bytes")]
    Control,
}

/// A frame that is there as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub is_final: bool,
    pub opcode: Opcode,
    /// Where its body lies.
    pub body: Range<usize>,
    mask: [u8; MASK_BYTES],
}

impl Frame {
    /// The frame at the start of `data`; none if it has not all come.
    ///
    /// Source: RFC 6455, section 5.2.
    ///
    /// # Errors
    /// [`Fault`], as soon as the header shows it.
    pub fn read(data: &[u8]) -> Result<Option<Self>, Fault> {
        let Some(&[first, second]) = data.first_chunk() else {
            return Ok(None);
        };
        let (header_bytes, body_bytes) = match second & LENGTH {
            LENGTH_16 => match data[2..].first_chunk() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            LENGTH_64 => match data[2..].first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            length => (2, u64::from(length)),
        };
        let body_bytes = match usize::try_from(body_bytes) {
            Ok(body_bytes) if body_bytes <= MESSAGE_BYTES_MAX => body_bytes,
            _ => return Err(Fault::TooLarge),
        };
        if first & RESERVED != 0 {
            return Err(Fault::ReservedBits);
        }
        if second & MASKED == 0 {
            return Err(Fault::NotMasked);
        }
        let opcode = Opcode::parse(first & OPCODE).ok_or(Fault::UnknownOpcode)?;
        let is_final = first & FINAL != 0;
        if opcode.is_control() && (!is_final || body_bytes > CONTROL_BYTES_MAX) {
            return Err(Fault::Control);
        }
        let start = header_bytes + MASK_BYTES;
        if data.len() < start + body_bytes {
            return Ok(None);
        }
        let mask = data[header_bytes..]
            .first_chunk()
            .expect("the whole frame is there");
        Ok(Some(Self {
            is_final,
            opcode,
            body: start..start + body_bytes,
            mask: *mask,
        }))
    }

    /// How many bytes must come at least before [`Self::read`] can say more of the frame that begins with `data`.
    pub fn lacking(data: &[u8]) -> usize {
        let (header_bytes, body_bytes) = match data.get(1).map(|second| second & LENGTH) {
            None => (2, 0),
            Some(LENGTH_16) => {
                let length = data.get(2..4).and_then(<[u8]>::first_chunk);
                (
                    4,
                    length.map_or(0, |length| u64::from(u16::from_be_bytes(*length))),
                )
            }
            Some(LENGTH_64) => {
                let length = data.get(2..10).and_then(<[u8]>::first_chunk);
                (10, length.map_or(0, |length| u64::from_be_bytes(*length)))
            }
            Some(length) => (2, u64::from(length)),
        };
        let whole = (header_bytes + MASK_BYTES as u64).saturating_add(body_bytes);
        usize::try_from(whole)
            .unwrap_or(usize::MAX)
            .saturating_sub(data.len())
            .max(1)
    }

    /// Takes the mask off the frame's body, which lies in `data` as [`Self::read`] saw it.
    pub fn unmask<'a>(&self, data: &'a mut [u8]) -> Body<'a> {
        let bytes = &mut data[self.body.clone()];
        let is_ascii = unmask(bytes, self.mask);
        Body { bytes, is_ascii }
    }
}

/// What a frame carries.
pub struct Body<'a> {
    pub bytes: &'a [u8],
    is_ascii: bool,
}

impl<'a> Body<'a> {
    /// The body as text; none if it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        if self.is_ascii {
            // SAFETY: `unmask` saw no byte with the high bit, and ASCII is UTF-8.
            return Some(unsafe { std::str::from_utf8_unchecked(self.bytes) });
        }
        std::str::from_utf8(self.bytes).ok()
    }
}

/// Takes the mask off, eight bytes at a time, which compiles to vector instructions; whether all of it is ASCII,
/// which costs next to nothing here and another walk over the bytes elsewhere.
fn unmask(bytes: &mut [u8], mask: [u8; MASK_BYTES]) -> bool {
    let wide = u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001;
    let (words, rest) = bytes.as_chunks_mut();
    let mut seen = 0;
    for word in words {
        let plain = u64::from_ne_bytes(*word) ^ wide;
        seen |= plain;
        *word = plain.to_ne_bytes();
    }
    // A word has two masks' length, so the rest begins where the mask does.
    for (index, byte) in rest.iter_mut().enumerate() {
        *byte ^= mask[index % MASK_BYTES];
        seen |= u64::from(*byte);
    }
    seen & 0x8080_8080_8080_8080 == 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0xb4, 0x56, 0xf8];

    fn frame(first: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match body.len() {
            0..126 => bytes.push(MASKED | body.len() as u8),
            126..=0xffff => {
                bytes.push(MASKED | LENGTH_16);
                bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
            }
            _ => {
                bytes.push(MASKED | LENGTH_64);
                bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes.extend(body.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
        bytes
    }

    #[test]
    fn every_length_at_every_place_comes_out_as_it_went_in() {
        for length in (0..300).chain([0xffff, 0x1_0000]) {
            for text in ["x", "ä"] {
                let body = text.repeat(length);
                for before in 0..9 {
                    let mut data = vec![b'#'; before];
                    data.extend(frame(0x81, body.as_bytes()));
                    let data = &mut data[before..];
                    let found = Frame::read(data).unwrap().unwrap();
                    assert_eq!((found.is_final, found.opcode), (true, Opcode::Text));
                    assert_eq!(found.body.end, data.len());
                    assert_eq!(found.unmask(data).text(), Some(body.as_str()));
                }
            }
        }
    }

    #[test]
    fn frame_that_is_cut_anywhere_is_waited_for() {
        for length in [0, 5, 125, 126, 0xffff, 0x1_0000] {
            let whole = frame(0x82, &vec![7; length]);
            for end in (0..whole.len()).take(20).chain([whole.len() - 1]) {
                assert_eq!(Frame::read(&whole[..end]), Ok(None), "{length} at {end}");
            }
        }
    }

    #[test]
    fn what_a_frame_lacks_is_never_more_than_its_rest() {
        for length in [0, 5, 125, 126, 0xffff, 0x1_0000] {
            let whole = frame(0x82, &vec![7; length]);
            for end in (0..whole.len()).take(20).chain([whole.len() - 1]) {
                let lacking = Frame::lacking(&whole[..end]);
                assert!((1..=whole.len() - end).contains(&lacking), "{length} at {end}");
                if end >= 14 {
                    assert_eq!(lacking, whole.len() - end, "{length} at {end}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_no_text_wherever_it_stands() {
        for place in 0..40 {
            let mut body = vec![b'x'; 40];
            body[place] = 0xff;
            let mut data = frame(0x81, &body);
            let found = Frame::read(&data).unwrap().unwrap();
            let unmasked = found.unmask(&mut data);
            assert_eq!(unmasked.text(), None);
            assert_eq!(unmasked.bytes, body);
        }
    }

    #[test]
    fn faults_show_in_the_header() {
        let refused = |data: &[u8]| Frame::read(data).unwrap_err();
        assert_eq!(refused(b"\x81\x02{}"), Fault::NotMasked);
        assert_eq!(refused(&frame(0xc1, b"{}")), Fault::ReservedBits);
        assert_eq!(refused(&frame(0x83, b"")), Fault::UnknownOpcode);
        assert_eq!(refused(&frame(0x09, b"")), Fault::Control);
        assert_eq!(refused(&frame(0x89, &[0; 126])), Fault::Control);
        let mut huge = vec![0x81, MASKED | LENGTH_64];
        huge.extend_from_slice(&(MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes());
        assert_eq!(refused(&huge), Fault::TooLarge);
        huge[2] = 0xff;
        assert_eq!(refused(&huge), Fault::TooLarge);
    }
}
