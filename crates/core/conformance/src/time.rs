//! Promises of RFC 3339, in and out.

use callboard_protocol::{
    Timestamp,
    time::{format_rfc3339, parse_rfc3339},
};

use crate::random::Random;

pub fn formatted_moments_are_read_back() {
    let mut random = Random::new(1);
    // Every day of the 400 years after which the calendar repeats, then some of the rest.
    let days = (0..146_097)
        .chain((146_097..2_932_896).step_by(89))
        .chain([2_932_896]);
    let mut previous = String::new();
    for day in days {
        let time = Timestamp(day * 86_400_000 + random.below(86_400_000));
        let text = format_rfc3339(time);
        assert_eq!(parse_rfc3339(&text), Some(time), "{text}");
        assert!(previous < text, "{previous} is before {text}");
        previous = text;
    }
    assert_eq!(
        &previous[..10],
        "9999-12-31",
        "every day that RFC 3339 can write was tried"
    );
    assert_eq!(format_rfc3339(Timestamp(u64::MAX)), "9999-12-31T23:59:59.999Z");
}

pub fn known_moments_are_read() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1985-04-12T23:20:50.52Z", 482_196_050_520),
        ("1996-12-19T16:39:57-08:00", 851_042_397_000),
        ("1990-12-31T23:59:60Z", 662_688_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("2026-11-20T08:00:00Z", 1_795_161_600_000),
        ("2026-11-20t08:00:00z", 1_795_161_600_000),
        ("2026-11-20 09:30:00.0019999+01:30", 1_795_161_600_001),
        ("1969-12-31T23:00:00-01:00", 0),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ] {
        assert_eq!(parse_rfc3339(text), Some(Timestamp(expected)), "{text}");
    }
    assert_eq!(
        format_rfc3339(Timestamp(1_795_161_600_001)),
        "2026-11-20T08:00:00.001Z"
    );
}

pub fn what_is_no_moment_is_refused() {
    for text in [
        "",
        "2026-11-20",
        "2026-11-20T08:00Z",
        "2026-11-20T08:00:00",
        "2026-11-20T08:00:00.Z",
        "2026-11-20T08:00:00Z ",
        " 2026-11-20T08:00:00Z",
        "2026-11-20T08:00:00+0100",
        "2026-11-20T08:00:00+24:00",
        "2026-11-20T08:00:00+01:60",
        "2026-11-20T24:00:00Z",
        "2026-11-20T08:60:00Z",
        "2026-11-20T08:00:61Z",
        "2026-00-20T08:00:00Z",
        "2026-13-20T08:00:00Z",
        "2026-11-00T08:00:00Z",
        "2026-11-31T08:00:00Z",
        "2026-02-29T08:00:00Z",
        "2100-02-29T08:00:00Z",
        "2200-02-29T08:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "+026-11-20T08:00:00Z",
        "2026-+1-20T08:00:00Z",
        "２０２６-11-20T08:00:00Z",
        "20261120T080000Z",
        "1795161600000",
    ] {
        assert_eq!(parse_rfc3339(text), None, "{text:?}");
    }
}
