//! What `Retry-After` says.

use std::time::UNIX_EPOCH;

use callboard_protocol::Timestamp;

/// Nobody may make the broker wait longer than a day.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 3600 * 1000;

/// How long to wait, in milliseconds: a number of seconds, or until a date of HTTP; none if it is neither.
///
/// Source: RFC 9110, section 10.2.3.
pub fn retry_after_ms(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim();
    let ms = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more than the most.
        value.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        let at_ms = at.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64;
        Timestamp(at_ms).since(now)
    };
    Some(ms.min(RETRY_AFTER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_nothing_else() {
        let now = Timestamp(1_445_412_480_000);
        for (value, expected) in [
            ("0", Some(0)),
            ("2", Some(2_000)),
            (" 120 ", Some(120_000)),
            ("86400", Some(RETRY_AFTER_MS_MAX)),
            ("86401", Some(RETRY_AFTER_MS_MAX)),
            ("99999999999999999999999", Some(RETRY_AFTER_MS_MAX)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30_000)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("Fri, 21 Oct 2044 07:28:00 GMT", Some(RETRY_AFTER_MS_MAX)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("2015-10-21T07:28:00Z", None),
        ] {
            assert_eq!(retry_after_ms(value, now), expected, "{value}");
        }
    }
}
