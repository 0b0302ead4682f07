//! What few records ask for: to be delivered later, and a notice of what became of them.
//!
//! Kept apart from the other fields of a record, so that the many which ask for neither carry no room for it.

use serde::Deserialize;

use super::{Ack, Text, bad, control::read, invalid, publish::integer};
use crate::{
    Timestamp,
    error::Refusal,
    json,
    limits::{CORRELATION_ID_BYTES_MAX, DELAY_MS_MAX, NOTIFY_URL_BYTES_MAX},
    time::parse_rfc3339,
};

/// When a record is to be delivered, if not at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// So many milliseconds from when it came; at most [`DELAY_MS_MAX`].
    After(u64),
    /// At this moment, or at once if it has passed.
    At(Timestamp),
}

impl Due {
    /// The moment, for a record that came at `now`; not earlier than that.
    ///
    /// # Errors
    /// `invalid_argument` if it is more than 100 years away, which is a mistake in units and no plan.
    pub fn moment(self, now: Timestamp) -> Result<Timestamp, Refusal> {
        let moment = match self {
            Self::After(delay_ms) => now.plus_ms(delay_ms),
            Self::At(moment) => moment.max(now),
        };
        if moment.since(now) <= DELAY_MS_MAX {
            Ok(moment)
        } else {
            Err(too_far())
        }
    }
}

/// What a publisher wants to be told of a record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What must have happened; never [`Ack::None`].
    pub on: Ack,
    /// What the notice carries, so that the publisher knows it again; 1–128 bytes.
    pub correlation_id: Box<str>,
    /// Where the notice goes; to the publisher's own connection if it does not say.
    pub url: Option<Box<str>>,
}

/// The fields as text.
#[derive(Default)]
pub(super) struct RareFields<'a> {
    delay_ms: Option<&'a str>,
    deliver_at: Option<&'a str>,
    notify: Option<&'a str>,
}

impl<'a> RareFields<'a> {
    /// Takes the value of one of these fields into `rare`, which is made when the first one says something;
    /// false if `key` is none of them.
    pub(super) fn take(rare: &mut Option<Box<Self>>, key: &str, value: &'a str) -> bool {
        let field: fn(&mut Self) -> &mut Option<&'a str> = match key {
            "delay_ms" => |rare| &mut rare.delay_ms,
            "deliver_at" => |rare| &mut rare.deliver_at,
            "notify" => |rare| &mut rare.notify,
            _ => return false,
        };
        match (json::not_null(value), rare) {
            (None, None) => {}
            (value, rare) => *field(rare.get_or_insert_default()) = value,
        }
        true
    }

    #[cold]
    pub(super) fn read(&self) -> Result<(Option<Due>, Option<Box<Notify>>), Refusal> {
        let due = match (self.delay_ms, self.deliver_at) {
            (None, None) => None,
            (Some(delay_ms), None) => match integer(delay_ms, "delay_ms")? {
                delay_ms if delay_ms > DELAY_MS_MAX => return Err(too_far()),
                delay_ms => Some(Due::After(delay_ms)),
            },
            (None, Some(moment)) => Some(Due::At(deliver_at(moment)?)),
            (Some(_), Some(_)) => return Err(bad("a record has delay_ms or deliver_at, not both")),
        };
        Ok((due, self.notify.map(notify).transpose()?.map(Box::new)))
    }
}

fn deliver_at(value: &str) -> Result<Timestamp, Refusal> {
    let text = json::as_text(value).ok_or_else(|| bad("deliver_at must be a string"))?;
    parse_rfc3339(&text).ok_or_else(|| invalid("deliver_at is RFC 3339, as 2026-11-20T08:00:00Z"))
}

fn too_far() -> Refusal {
    invalid("delay_ms and deliver_at are at most 100 years away")
}

fn notify(value: &str) -> Result<Notify, Refusal> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        on: String,
        #[serde(borrow)]
        correlation_id: Text<'a>,
        #[serde(borrow)]
        url: Option<Text<'a>>,
    }
    let fields: Fields<'_> = read(value).map_err(|refusal| {
        bad(format!(
            "notify is {{on, correlation_id, url}}: {}",
            refusal.message
        ))
    })?;
    let on = match Ack::parse(&fields.on) {
        None | Some(Ack::None) => {
            return Err(bad("notify.on is one of accepted, durable, delivered, processed"));
        }
        Some(on) => on,
    };
    if !(1..=CORRELATION_ID_BYTES_MAX).contains(&fields.correlation_id.len()) {
        return Err(invalid(format!(
            "notify.correlation_id has 1 to {CORRELATION_ID_BYTES_MAX} bytes"
        )));
    }
    if fields.url.as_deref().is_some_and(|url| !is_http_url(url)) {
        return Err(invalid(format!(
            "notify.url is an http or https URL of at most {NOTIFY_URL_BYTES_MAX} bytes"
        )));
    }
    Ok(Notify {
        on,
        correlation_id: fields.correlation_id.into(),
        url: fields.url.map(Into::into),
    })
}

/// Whether it could be an address of an HTTP endpoint; whoever calls it reads it in full.
fn is_http_url(url: &str) -> bool {
    let host = url.split_once("://").and_then(|(scheme, rest)| {
        let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        is_http.then(|| rest.split(['/', '?', '#']).next().unwrap_or_default())
    });
    url.len() <= NOTIFY_URL_BYTES_MAX
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && host.is_some_and(|host| !host.is_empty())
}
