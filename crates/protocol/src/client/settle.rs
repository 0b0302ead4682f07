//! `ack`, `nack` and `extend`: what became of records that were leased to this session.
//!
//! A worker sends an `ack` for each record, so it is read from what the one pass over the frame found, and
//! one delivery without a result allocates nothing. The other two are for what went wrong, and serde reads
//! them.

use std::slice;

use serde::Deserialize;

use super::{
    Request, Text, bad,
    control::{Whole, read},
    group, invalid,
};
use crate::{error::Refusal, json, limits::DELIVERIES_MAX};

/// An `ack`, `nack` or `extend` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle<'a> {
    /// What it is about.
    pub deliveries: Deliveries,
    /// What became of it.
    pub action: SettleAction<'a>,
}

/// The numbers of deliveries as `message` frames gave them, in the order said; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deliveries {
    /// The one that nearly every frame has, without an allocation.
    One(u64),
    /// Several.
    Many(Vec<u64>),
}

impl Deliveries {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(delivery) => slice::from_ref(delivery),
            Self::Many(deliveries) => deliveries,
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.as_slice().iter().copied()
    }
}

/// What became of a leased record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleAction<'a> {
    /// It was processed.
    Ack {
        /// What came of it, JSON on one line, for a publisher that waits.
        result: Option<Text<'a>>,
    },
    /// It could not be processed.
    Nack {
        /// When it comes again, milliseconds; as the topic's configuration says if it is not said.
        delay_ms: Option<u64>,
        /// Whether it goes to the dead letters instead.
        dead_letter: bool,
        /// Why, for people.
        reason: Option<Text<'a>>,
    },
    /// It takes longer.
    Extend {
        /// How long from now on, milliseconds.
        lease_ms: u64,
    },
}

/// Reads the `ack` of one delivery as nearly every worker writes it, without looking for fields; none if it is anything
/// else.
#[inline]
pub(super) fn plain_ack<'a>(text: &str) -> Option<Request<'a>> {
    let digits = text
        .strip_prefix(r#"{"type":"ack","deliveries":["#)?
        .strip_suffix("]}")?;
    // No number in JSON, which only a scanner would see.
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some(Request::Settle(Settle {
        deliveries: Deliveries::One(json::as_integer(digits)?),
        action: SettleAction::Ack { result: None },
    }))
}

pub(super) fn ack<'a>(
    deliveries: Option<&'a str>,
    result: Option<&'a str>,
    has_line_breaks: bool,
) -> Result<Request<'a>, Refusal> {
    let deliveries = deliveries.ok_or_else(|| bad("ack needs deliveries"))?;
    Ok(Request::Settle(Settle {
        deliveries: scanned_deliveries(deliveries)?,
        action: SettleAction::Ack {
            result: result.map(|value| json::one_line(value, has_line_breaks)),
        },
    }))
}

pub(super) fn nack(text: &str) -> Result<Request<'_>, Refusal> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        deliveries: Vec<Whole>,
        delay_ms: Option<Whole>,
        dead_letter: Option<bool>,
        #[serde(borrow)]
        reason: Option<Text<'a>>,
    }
    let fields: Fields<'_> = read(text)?;
    let dead_letter = fields.dead_letter.unwrap_or_default();
    if dead_letter && fields.delay_ms.is_some() {
        return Err(invalid(
            "what goes to the dead letters does not come again: leave delay_ms out",
        ));
    }
    Ok(Request::Settle(Settle {
        deliveries: listed_deliveries(fields.deliveries)?,
        action: SettleAction::Nack {
            delay_ms: fields.delay_ms.map(|delay_ms| delay_ms.0),
            dead_letter,
            reason: fields.reason,
        },
    }))
}

pub(super) fn extend<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        deliveries: Vec<Whole>,
        lease_ms: Whole,
    }
    let fields: Fields = read(text)?;
    Ok(Request::Settle(Settle {
        deliveries: listed_deliveries(fields.deliveries)?,
        action: SettleAction::Extend {
            lease_ms: group::lease(fields.lease_ms.0)?,
        },
    }))
}

/// Reads an array that the scanner has passed, so whatever lies between two commas and is no number (part of a
/// string, of another array) is no delivery.
fn scanned_deliveries(value: &str) -> Result<Deliveries, Refusal> {
    let inner = value
        .strip_prefix('[')
        .and_then(|value| value.strip_suffix(']'))
        .ok_or_else(not_deliveries)?;
    if let Some(delivery) = json::as_integer(inner.trim_ascii()) {
        return Ok(Deliveries::One(delivery));
    }
    let deliveries: Option<Vec<Whole>> = inner
        .split(',')
        .map(|number| json::as_integer(number.trim_ascii()).map(Whole))
        .collect();
    listed_deliveries(deliveries.ok_or_else(not_deliveries)?)
}

fn listed_deliveries(deliveries: Vec<Whole>) -> Result<Deliveries, Refusal> {
    match &deliveries[..] {
        [] => Err(not_deliveries()),
        [Whole(delivery)] => Ok(Deliveries::One(*delivery)),
        _ if deliveries.len() > DELIVERIES_MAX => Err(invalid(format!(
            "deliveries has at most {DELIVERIES_MAX} entries"
        ))),
        _ => Ok(Deliveries::Many(
            deliveries.into_iter().map(|delivery| delivery.0).collect(),
        )),
    }
}

fn not_deliveries() -> Refusal {
    bad("deliveries is a filled array of delivery numbers, as messages carry them")
}
