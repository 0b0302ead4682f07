//! RFC 3339 to and from [`Timestamp`]: the one form in which people write a moment to the broker.
//!
//! Pure arithmetic on the proleptic Gregorian calendar: no clock, no time zones other than the
//! offset that the text itself gives, no locale.

use crate::Timestamp;

const DAY_MS: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;

/// Reads a moment such as `2026-11-20T08:00:00Z` or `2026-11-20t09:00:00.25+01:00`.
///
/// A fraction of any length is cut to milliseconds. A leap second (`:60`) is the first moment of the
/// next minute. `T` and `Z` may be small letters, and a space may stand for `T`. `None` for anything
/// else, for a date that does not exist and for a moment before 1970.
///
/// Source: RFC 3339, section 5.6.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    one_of(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    one_of(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    one_of(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let second = number(&mut rest, 2)?;
    let fraction_ms = fraction_ms(&mut rest)?;
    let offset_minutes = offset_minutes(&mut rest)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !rest.is_empty() || !in_range {
        return None;
    }
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    u64::try_from((minutes * 60 + second) * 1000 + fraction_ms)
        .ok()
        .map(Timestamp)
}

/// Writes a moment as `2026-11-20T08:00:00.000Z`.
///
/// What lies beyond the year 9999, which RFC 3339 has no form for, comes out as its last millisecond.
#[must_use]
pub fn format_rfc3339(timestamp: Timestamp) -> String {
    let total_ms = timestamp.0.min(LAST_MS);
    let (year, month, day) = date_of((total_ms / DAY_MS).cast_signed());
    let in_day_ms = total_ms % DAY_MS;
    let (hour, minute) = (in_day_ms / 3_600_000, in_day_ms / 60_000 % 60);
    let (second, ms) = (in_day_ms / 1000 % 60, in_day_ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Takes exactly `digits` decimal digits.
fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    head.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn one_of(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (&byte, tail) = rest.split_first()?;
    *rest = tail;
    allowed.contains(&byte).then_some(byte)
}

/// Takes a fraction of a second, if there is one; in milliseconds.
fn fraction_ms(rest: &mut &[u8]) -> Option<i64> {
    let Some(tail) = rest.strip_prefix(b".") else {
        return Some(0);
    };
    let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    *rest = &tail[digits..];
    let digit = |place: usize| {
        if place < digits {
            i64::from(tail[place] - b'0')
        } else {
            0
        }
    };
    (digits > 0).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// Takes `Z` or an offset from UTC; in minutes, east positive.
fn offset_minutes(rest: &mut &[u8]) -> Option<i64> {
    let sign = match one_of(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = number(rest, 2)?;
    one_of(rest, b":")?;
    let minutes = number(rest, 2)?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the date; negative before it.
///
/// Counts in years that begin in March, so that the leap day is the last of its year, and in eras of
/// 400 years, after which the calendar repeats.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year, month and day that many days after 1970-01-01; the inverse of [`days_since_epoch`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
