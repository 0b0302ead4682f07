//! A record's encoding under inputs that proptest makes up and makes small when one breaks it. The same
//! promises run on WebAssembly too, with fixed seeds, in `callboard-core-conformance`.

use callboard_core::record::{RecordError, RecordParts, verify};
use proptest::{
    collection::vec,
    option, prop_assert, prop_assert_eq, proptest,
    test_runner::{Config, RngSeed},
};

proptest! {
    #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

    #[test]
    fn record_comes_out_as_it_went_in(
        key in option::of("\\PC{0,300}"),
        headers in option::of("\\PC{0,300}"),
        message_id in option::of("[ -~]{1,128}"),
        ttl_ms: Option<u64>,
        binary: bool,
        payload in vec(0_u8.., 0..3000),
        rest in vec(0_u8.., 0..20),
    ) {
        let parts = RecordParts {
            key: key.as_deref(),
            headers: headers.as_deref(),
            message_id: message_id.as_deref(),
            ttl_ms,
            binary,
            payload: &payload,
        };
        let mut buffer = Vec::new();
        let size = parts.encode(&mut buffer);
        prop_assert_eq!(size, buffer.len());
        buffer.extend_from_slice(&rest);
        prop_assert_eq!(verify(&buffer), Ok(size));
        prop_assert_eq!(RecordParts::decode(&buffer), Ok((parts, size)));
        prop_assert_eq!(verify(&buffer[..size - 1]), Err(RecordError::Truncated));
    }

    #[test]
    fn arbitrary_bytes_are_read_within_their_bounds(bytes in vec(0_u8.., 0..200)) {
        prop_assert!(verify(&bytes).is_err());
        if let Ok((parts, size)) = RecordParts::decode(&bytes) {
            prop_assert!(size <= bytes.len() && parts.content_bytes() < size);
        }
    }

    #[test]
    fn arbitrary_body_of_its_length_is_read_within_its_bounds(body in vec(0_u8.., 0..200)) {
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&body);
        if let Ok((parts, size)) = RecordParts::decode(&bytes) {
            prop_assert!(size == bytes.len() && parts.content_bytes() < body.len());
        }
    }
}
