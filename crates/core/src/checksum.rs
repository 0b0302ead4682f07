//! CRC-32C of a record.
//!
//! Most records are short, and for those the crate that is made for long buffers spends more on finding its way than
//! on the sum. What both say is the same number.

/// From here on several streams at once win.
const SHORT_BYTES_MAX: usize = 512;

/// The checksum of `length`, little endian, and of `body` behind it.
pub fn of_record(length: u32, body: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if body.len() <= SHORT_BYTES_MAX && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions.
        return unsafe { short(length, body) };
    }
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn short(length: u32, body: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let (words, rest) = body.as_chunks();
    let begin = u64::from(_mm_crc32_u32(!0, length));
    let sum = words
        .iter()
        .fold(begin, |sum, word| _mm_crc32_u64(sum, u64::from_le_bytes(*word)));
    let (halves, rest) = rest.as_chunks();
    let sum = halves.iter().fold(sum as u32, |sum, half| {
        _mm_crc32_u32(sum, u32::from_le_bytes(*half))
    });
    !rest.iter().fold(sum, |sum, byte| _mm_crc32_u8(sum, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_sum_that_the_crate_gives() {
        let bytes: Vec<u8> = (0..2 * SHORT_BYTES_MAX as u32)
            .map(|at| ((at * 37) >> 3) as u8)
            .collect();
        for length in 0..bytes.len() {
            let body = &bytes[length % 9..length.max(length % 9)];
            let whole = [&(length as u32).to_le_bytes(), body].concat();
            assert_eq!(of_record(length as u32, body), crc32c::crc32c(&whole), "{length}");
        }
    }
}
