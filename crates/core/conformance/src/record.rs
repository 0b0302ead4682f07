//! Promises of a record's encoding.

use callboard_core::record::{Batch, RECORD_HEADER_BYTES, RecordError, RecordParts, encoded_len, verify};
use callboard_protocol::{Offset, Timestamp};

use crate::random::Random;

const WORDS: &[&str] = &["", "c42", "é", "\u{1f980} crab", "a longer key with spaces", "0"];

/// The parts that a record of the scenarios is made of.
pub(crate) struct Sample {
    key: Option<String>,
    headers: Option<String>,
    message_id: Option<String>,
    ttl_ms: Option<u64>,
    binary: bool,
    payload: Vec<u8>,
}

impl Sample {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut text = |times: u64| {
            random
                .chance(times, 4)
                .then(|| random.pick(WORDS).repeat(random.below(9) as usize))
        };
        let (key, headers, message_id) = (text(3), text(1), text(2));
        Self {
            key,
            headers,
            message_id,
            ttl_ms: random.chance(1, 4).then(|| random.next()),
            binary: random.chance(1, 2),
            payload: {
                let count = random.below(80);
                random.bytes(count)
            },
        }
    }

    pub(crate) fn parts(&self) -> RecordParts<'_> {
        RecordParts {
            key: self.key.as_deref(),
            headers: self.headers.as_deref(),
            message_id: self.message_id.as_deref(),
            ttl_ms: self.ttl_ms,
            binary: self.binary,
            payload: &self.payload,
        }
    }
}

pub fn records_come_out_as_they_went_in() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let samples: Vec<_> = (0..random.below(6))
            .map(|_| Sample::random(&mut random))
            .collect();
        let mut buffer = Vec::new();
        let sizes: Vec<_> = samples
            .iter()
            .map(|sample| sample.parts().encode(&mut buffer))
            .collect();
        let mut rest = &buffer[..];
        for (sample, size) in samples.iter().zip(sizes) {
            assert_eq!(verify(rest), Ok(size), "seed {seed}");
            assert_eq!(
                RecordParts::decode(rest),
                Ok((sample.parts(), size)),
                "seed {seed}"
            );
            rest = &rest[size..];
        }
        assert!(rest.is_empty(), "seed {seed}: the lengths add up");
    }
}

pub fn every_flipped_bit_is_noticed() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut buffer = Vec::new();
        let size = Sample::random(&mut random).parts().encode(&mut buffer);
        // What follows a record must not make a hurt length look whole.
        Sample::random(&mut random).parts().encode(&mut buffer);
        for bit in 0..size * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&buffer).is_err(), "seed {seed}, bit {bit}");
            // Without its checksum a hurt record may be read wrongly, but never out of its bounds.
            let _ = RecordParts::decode(&buffer);
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(verify(&buffer), Ok(size), "seed {seed}");
    }
}

pub fn every_cut_is_noticed() {
    for seed in 0..200 {
        let mut buffer = Vec::new();
        Sample::random(&mut Random::new(seed)).parts().encode(&mut buffer);
        for cut in 0..buffer.len() {
            assert_eq!(
                verify(&buffer[..cut]),
                Err(RecordError::Truncated),
                "seed {seed}, cut {cut}"
            );
            assert_eq!(
                RecordParts::decode(&buffer[..cut]),
                Err(RecordError::Truncated),
                "seed {seed}, cut {cut}"
            );
        }
    }
}

pub fn hurt_length_near_the_address_space_is_refused() {
    for length in [u32::MAX, u32::MAX - RECORD_HEADER_BYTES as u32 + 1, u32::MAX / 2] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(encoded_len(&bytes), Err(RecordError::Truncated));
        assert_eq!(verify(&bytes), Err(RecordError::Truncated));
    }
    assert_eq!(verify(&[0; 64]), Err(RecordError::Corrupt), "zeros are no record");
}

pub fn unknown_flag_is_corrupt() {
    for bit in 5..8 {
        let mut buffer = Vec::new();
        RecordParts {
            payload: b"1",
            ..RecordParts::default()
        }
        .encode(&mut buffer);
        buffer[RECORD_HEADER_BYTES] |= 1 << bit;
        assert_eq!(
            RecordParts::decode(&buffer),
            Err(RecordError::Corrupt),
            "bit {bit}"
        );
    }
}

pub fn batch_from_an_offset_is_the_rest_of_it() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let samples: Vec<_> = (0..=random.below(8))
            .map(|_| Sample::random(&mut random))
            .collect();
        let mut records = Vec::new();
        for sample in &samples {
            sample.parts().encode(&mut records);
        }
        let base = random.below(100);
        let batch = Batch {
            base_offset: Offset(base),
            timestamp: Timestamp(7),
            count: samples.len() as u32,
            records: records.into(),
        };
        for from in base.saturating_sub(1)..=batch.next_offset().0 + 1 {
            let skipped = from.saturating_sub(base) as usize;
            let expected: Vec<_> = (base..)
                .map(Offset)
                .zip(samples.iter().map(Sample::parts))
                .skip(skipped)
                .collect();
            let rest = batch.starting_at(Offset(from));
            let found: Vec<_> = rest.iter().flat_map(Batch::iter).collect();
            assert_eq!(found, expected, "seed {seed}, from {from}");
            if let Some(rest) = &rest {
                assert_eq!(rest.count as usize, expected.len(), "seed {seed}, from {from}");
                assert_eq!(
                    rest.next_offset(),
                    batch.next_offset(),
                    "seed {seed}, from {from}"
                );
            }
            assert_eq!(rest.is_none(), expected.is_empty(), "seed {seed}, from {from}");
        }
    }
}
