//! Promises of a topic's configuration and of the partition of a key.

use callboard_core::{
    hash::xxh64,
    topic::{Durability, MEMORY_RETENTION_BYTES, TopicConfig, WhenFull, partition_for_key},
};
use callboard_protocol::{ErrorCode, GroupName, PartitionId, TopicName, limits::FRAME_BYTES_MAX};

use crate::random::Random;

/// Digests by the reference implementation, version 0.8.
const DIGESTS: &[(&[u8], u64)] = &[
    (b"", 0xef46_db37_51d8_e999),
    (b"a", 0xd24e_c4f1_a98c_6e5b),
    (b"abc", 0x44bc_2cf5_ad77_0999),
    (b"c42", 0x9a42_9a66_c612_7504),
    (b"order-1", 0x3baf_4120_aa43_a0ad),
    (b"symbol-AAPL", 0x9e08_acd0_3620_0331),
    (b"0123456789abcdef0123456789abcde", 0x1fdf_c63f_ebac_fde7),
    (b"0123456789abcdef0123456789abcdef", 0x642a_9495_8e71_e6c5),
    (&[b'k'; 1024], 0xcd52_3bee_5129_bb14),
];

pub fn hash_is_xxh64() {
    for (input, digest) in DIGESTS {
        assert_eq!(xxh64(input), *digest, "{}", String::from_utf8_lossy(input));
    }
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(xxh64(&every_byte), 0x1fac_be84_06cd_904b);
}

pub fn keys_land_where_the_document_says() {
    for (key, in_3, in_8, in_1024) in [
        ("", 2, 7, 957),
        ("a", 2, 6, 841),
        ("c42", 1, 4, 617),
        ("order-1", 0, 1, 238),
        ("symbol-AAPL", 1, 4, 632),
    ] {
        for (partitions, expected) in [(1, 0), (3, in_3), (8, in_8), (1024, in_1024)] {
            let partition = partition_for_key(key.as_bytes(), partitions);
            assert_eq!(partition, PartitionId(expected), "{key:?} of {partitions}");
        }
    }
}

pub fn keys_spread_evenly_over_partitions() {
    const KEYS: u32 = 30_000;
    for partitions in [2, 3, 7, 8, 16, 100] {
        for shape in ["c", "order-", "3f2b8a10-77aa-4c1e-9d0b-"] {
            let mut counts = vec![0_u32; partitions as usize];
            for number in 0..KEYS {
                let partition = partition_for_key(format!("{shape}{number}").as_bytes(), partitions);
                counts[partition.0 as usize] += 1;
            }
            let expected = f64::from(KEYS) / f64::from(partitions);
            let chi_square: f64 = counts
                .iter()
                .map(|&count| (f64::from(count) - expected).powi(2) / expected)
                .sum();
            // Five standard deviations above what a fair die gives; the keys are fixed, so it never flakes.
            let freedom = f64::from(partitions - 1);
            assert!(
                chi_square < freedom + 5.0 * (2.0 * freedom).sqrt(),
                "{shape} over {partitions}: {chi_square}"
            );
        }
    }
}

fn random_config(random: &mut Random) -> TopicConfig {
    let durability = *random.pick(&Durability::ALL);
    let mut optional = || random.chance(1, 2).then(|| 1 + random.below(1 << 53 >> 1));
    let (retention_ms, retention_bytes, ttl_ms, records_max) =
        (optional(), optional(), optional(), optional());
    TopicConfig {
        partitions: 1 + random.below(1024) as u32,
        durability,
        retention_ms,
        retention_bytes: match durability {
            Durability::Memory => retention_bytes.or(Some(MEMORY_RETENTION_BYTES)),
            _ => retention_bytes,
        },
        ttl_ms,
        dedup_window_ms: random.below(1 << 40),
        records_max,
        when_full: *random.pick(&[WhenFull::Refuse, WhenFull::Wait]),
        record_bytes_max: 1 + random.below(FRAME_BYTES_MAX as u64),
        attempts_max: 1 + random.below(1000) as u32,
        lease_ms: 100 + random.below(86_400_000 - 99),
        retry_backoff_ms: random.below(1 << 40),
        retry_backoff_ms_max: random.below(1 << 40),
        dead_letter_topic: random.chance(1, 2).then(|| "jobs.dead".to_owned()),
        temporary: random.chance(1, 2),
        silent_after_ms: random.chance(1, 2).then(|| 100 + random.below(1 << 40)),
    }
}

pub fn configuration_comes_back_from_its_json() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let (config, other) = (random_config(&mut random), random_config(&mut random));
        let json = config.to_json();
        assert_eq!(
            TopicConfig::from_json(&json, &TopicConfig::default()),
            Ok(config.clone()),
            "seed {seed}"
        );
        assert_eq!(
            TopicConfig::from_json(&json, &other),
            Ok(config),
            "seed {seed}: whatever the defaults"
        );
    }
}

pub fn configuration_takes_defaults_for_what_is_not_given() {
    let from = |json: &str, defaults: &TopicConfig| TopicConfig::from_json(json, defaults).expect(json);
    let defaults = TopicConfig::default();
    assert_eq!(
        defaults.to_json(),
        concat!(
            r#"{"partitions":1,"durability":"fsync","retention_ms":null,"retention_bytes":null,"ttl_ms":null,"#,
            r#""dedup_window_ms":120000,"records_max":null,"when_full":"refuse","record_bytes_max":1048576,"#,
            r#""attempts_max":5,"lease_ms":30000,"retry_backoff_ms":1000,"retry_backoff_ms_max":60000,"#,
            r#""dead_letter_topic":null,"temporary":false,"silent_after_ms":null}"#
        )
    );
    assert_eq!(from("{}", &defaults), defaults);
    assert_eq!(
        from(r#" {"partitions" : 3} "#, &defaults),
        TopicConfig {
            partitions: 3,
            ..defaults.clone()
        }
    );
    let memory = from(r#"{"durability":"memory"}"#, &defaults);
    assert_eq!(
        memory.retention_bytes,
        Some(64 << 20),
        "nothing else bounds memory"
    );
    assert_eq!(
        from(r#"{"durability":"memory","retention_bytes":null}"#, &defaults),
        memory
    );
    assert_eq!(
        from(r#"{"durability":"memory","retention_bytes":9}"#, &defaults).retention_bytes,
        Some(9)
    );
    assert_eq!(from("{}", &memory), memory);
    assert_eq!(
        from(r#"{"durability":"os"}"#, &memory).retention_bytes,
        None,
        "a disk is not so small"
    );
    let week = TopicConfig {
        retention_ms: Some(604_800_000),
        ..defaults
    };
    assert_eq!(from("{}", &week).retention_ms, Some(604_800_000));
    assert_eq!(from(r#"{"retention_ms":null}"#, &week).retention_ms, None);
}

pub fn dead_letters_of_each_group_have_a_topic() {
    let topic = TopicName::parse("orders.eu").expect("a topic's name");
    let group = GroupName::parse("billing").expect("a group's name");
    let of = |json: &str| {
        let config = TopicConfig::from_json(json, &TopicConfig::default()).expect(json);
        config.dead_letter_topic_for(&topic, &group)
    };
    assert_eq!(of("{}"), "orders.eu.billing.dlq");
    assert_eq!(of(r#"{"dead_letter_topic":"dead"}"#), "dead");
    assert_eq!(of(r#"{"dead_letter_topic":null}"#), "orders.eu.billing.dlq");
}

pub fn invalid_configuration_is_refused_by_its_field() {
    let defaults = TopicConfig::default();
    for (field, values) in [
        (
            "partitions",
            &[
                "0",
                "1025",
                "-1",
                "1.5",
                "1.0",
                "\"3\"",
                "null",
                "[1]",
                "99999999999999999999",
            ][..],
        ),
        (
            "durability",
            &["\"disk\"", "\"Fsync\"", "1", "null", "\"replicated\""],
        ),
        ("retention_ms", &["0", "-5", "\"1h\"", "9007199254740992", "true"]),
        ("retention_bytes", &["0", "1e3", "{}"]),
        ("ttl_ms", &["0", "0.5"]),
        ("dedup_window_ms", &["-1", "null"]),
        ("records_max", &["0", "\"many\""]),
        ("record_bytes_max", &["0", "1048577", "null"]),
        ("when_full", &["\"drop\"", "\"Wait\"", "true", "null"]),
        ("attempts_max", &["0", "1001", "4294967297", "null"]),
        ("lease_ms", &["99", "86400001", "null"]),
        ("retry_backoff_ms", &["-1", "9007199254740992", "null"]),
        ("retry_backoff_ms_max", &["-1", "\"1m\"", "null"]),
        (
            "dead_letter_topic",
            &[
                "\"\"",
                "\"a..b\"",
                "\"a b\"",
                "\"$dead\"",
                "\"jobs.*\"",
                "3",
                "[\"a\"]",
            ],
        ),
        ("partition", &["3"]),
        ("temporary", &["null", "1", "\"yes\""]),
        ("silent_after_ms", &["99", "0", "\"1m\"", "9007199254740992"]),
        ("", &["1"]),
    ] {
        for value in values {
            let json = format!(r#"{{"partitions":2,"{field}":{value}}}"#);
            for refused in [TopicConfig::from_json(&json, &defaults), defaults.patched(&json)] {
                let refusal = refused.expect_err(&json);
                assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{json}: {refusal}");
                assert!(refusal.message.contains(field), "{json}: {refusal}");
            }
        }
    }
    for json in [
        "",
        "[]",
        "3",
        "null",
        "{\"partitions\":1",
        "{} {}",
        "{'partitions':1}",
    ] {
        let refusal = TopicConfig::from_json(json, &defaults).expect_err(json);
        assert_eq!(refusal.code, ErrorCode::BadFrame, "{json}");
    }
    let long = format!(r#"{{"{}":1}}"#, "é".repeat(5000));
    let refusal = TopicConfig::from_json(&long, &defaults).expect_err("no such field");
    assert!(
        refusal.message.len() < 300,
        "a refusal does not repeat what is long"
    );
}

pub fn patch_changes_only_what_it_names() {
    let config = TopicConfig {
        partitions: 3,
        retention_ms: Some(5),
        ttl_ms: Some(6),
        ..TopicConfig::default()
    };
    assert_eq!(config.patched("{}"), Ok(config.clone()));
    let patched = config.patched(r#"{"partitions":4,"ttl_ms":null,"durability":"os","dedup_window_ms":0}"#);
    let expected = TopicConfig {
        partitions: 4,
        ttl_ms: None,
        durability: Durability::Os,
        dedup_window_ms: 0,
        ..config
    };
    assert_eq!(patched, Ok(expected));
    let memory = TopicConfig::from_json(
        r#"{"durability":"memory","retention_bytes":5}"#,
        &TopicConfig::default(),
    );
    let reset = memory.and_then(|memory| memory.patched(r#"{"retention_bytes":null}"#));
    assert_eq!(
        reset.map(|config| config.retention_bytes),
        Ok(Some(MEMORY_RETENTION_BYTES))
    );
}

pub fn patch_that_would_lose_records_is_a_conflict() {
    for (from, patch, is_allowed) in [
        (r#"{"partitions":3}"#, r#"{"partitions":2}"#, false),
        (r#"{"partitions":3}"#, r#"{"partitions":3}"#, true),
        (r#"{"durability":"fsync"}"#, r#"{"durability":"memory"}"#, false),
        (r#"{"durability":"os"}"#, r#"{"durability":"memory"}"#, false),
        (r#"{"durability":"memory"}"#, r#"{"durability":"os"}"#, false),
        (r#"{"durability":"memory"}"#, r#"{"durability":"fsync"}"#, false),
        (r#"{"durability":"memory"}"#, r#"{"durability":"memory"}"#, true),
        (r#"{"durability":"fsync"}"#, r#"{"durability":"os"}"#, true),
        (r#"{"durability":"os"}"#, r#"{"durability":"fsync"}"#, true),
    ] {
        let config = TopicConfig::from_json(from, &TopicConfig::default()).expect(from);
        let patched = config.patched(patch).map_err(|refusal| refusal.code);
        assert_eq!(patched.is_ok(), is_allowed, "{from} {patch}");
        assert_eq!(
            patched.err(),
            (!is_allowed).then_some(ErrorCode::Conflict),
            "{from} {patch}"
        );
    }
}

pub fn durability_is_ordered_weakest_first() {
    assert!(Durability::Memory < Durability::Os && Durability::Os < Durability::Fsync);
    for durability in Durability::ALL {
        let json = format!("\"{}\"", durability.as_str());
        assert_eq!(serde_json::to_string(&durability).ok(), Some(json.clone()));
        assert_eq!(serde_json::from_str::<Durability>(&json).ok(), Some(durability));
    }
}
