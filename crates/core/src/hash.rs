//! XXH64 with seed 0: the hash that decides which partition a key belongs to.
//!
//! Where a key's records are kept depends on it, so it may never change. It was chosen because it is
//! specified, has implementations in every language (a client can tell a key's partition by itself),
//! and is as fast on keys of a few bytes as on long ones.
//!
//! Source: xxHash fast digest algorithm, `xxhash_spec.md` version 0.2.0, section "XXH64 algorithm".

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// The XXH64 digest of `input` with seed 0.
#[must_use]
pub fn xxh64(input: &[u8]) -> u64 {
    let (stripes, mut rest) = input.as_chunks::<32>();
    let start = if stripes.is_empty() {
        PRIME_5
    } else {
        long_part(stripes)
    };
    let mut digest = start.wrapping_add(input.len() as u64);

    while let Some((lane, tail)) = rest.split_first_chunk::<8>() {
        digest ^= round(0, u64::from_le_bytes(*lane));
        digest = digest.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
        rest = tail;
    }
    if let Some((lane, tail)) = rest.split_first_chunk::<4>() {
        digest ^= u64::from(u32::from_le_bytes(*lane)).wrapping_mul(PRIME_1);
        digest = digest.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        rest = tail;
    }
    for &byte in rest {
        digest ^= u64::from(byte).wrapping_mul(PRIME_5);
        digest = digest.rotate_left(11).wrapping_mul(PRIME_1);
    }

    digest = (digest ^ (digest >> 33)).wrapping_mul(PRIME_2);
    digest = (digest ^ (digest >> 29)).wrapping_mul(PRIME_3);
    digest ^ (digest >> 32)
}

/// Folds the whole 32-byte stripes of a long input into one value.
fn long_part(stripes: &[[u8; 32]]) -> u64 {
    let mut lanes = [
        PRIME_1.wrapping_add(PRIME_2),
        PRIME_2,
        0,
        0_u64.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        for (lane, bytes) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*bytes));
        }
    }
    let mut folded = 0_u64;
    for (lane, turn) in lanes.iter().zip([1, 7, 12, 18]) {
        folded = folded.wrapping_add(lane.rotate_left(turn));
    }
    for lane in lanes {
        folded = (folded ^ round(0, lane))
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    folded
}

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}
