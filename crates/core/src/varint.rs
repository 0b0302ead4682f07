//! Numbers of seven bits a byte, as the logs of groups and of schedules hold them.
//!
//! Source: unsigned LEB128, DWARF Debugging Information Format version 5, section 7.6.

/// Bytes that hold no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// They end within it.
    Truncated,
    /// It is larger than 64 bits hold.
    TooLarge,
}

/// Appends a number: the lowest bits first; all bytes but the last have the highest bit set.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front of `bytes`.
pub(crate) fn take(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(VarintError::Truncated)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits {
            return Err(VarintError::TooLarge);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(VarintError::TooLarge)
}
