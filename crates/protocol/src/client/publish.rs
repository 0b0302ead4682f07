//! `publish`: records on their way in, borrowed from the frame.
//!
//! A record of `messages` that cannot be read is refused alone and leaves its neighbours as they are;
//! only what is not JSON at all refuses the frame.

use base64::Engine as _;

use super::{
    Text, bad, invalid,
    rare::{Due, Notify, RareFields},
};
use crate::{
    PartitionId,
    error::Refusal,
    json::{self, JsonError, Scanner},
    limits::{HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX, PUBLISH_RECORDS_MAX},
    name::check_routing_key,
};

/// When a publish is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// Never, on success.
    None,
    /// When the records have offsets.
    Accepted,
    /// When the records have what their topic's durability promises.
    #[default]
    Durable,
    /// When at least one subscription of any kind has been sent each of them.
    Delivered,
    /// When a shared group has acked each of them.
    Processed,
}

impl Ack {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Accepted,
        Self::Durable,
        Self::Delivered,
        Self::Processed,
    ];

    /// The level that `text` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ack| ack.as_str() == text)
    }

    /// The level as it stands in a frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Accepted => "accepted",
            Self::Durable => "durable",
            Self::Delivered => "delivered",
            Self::Processed => "processed",
        }
    }
}

/// A `publish` frame.
#[derive(Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub to: To<'a>,
    /// When to answer.
    pub ack: Ack,
    /// How long to wait for `delivered` or `processed`, milliseconds; without it as long as the session lives.
    pub timeout_ms: Option<u64>,
    /// What.
    pub records: Records<'a>,
}

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// To a topic of this name.
    Topic(Text<'a>),
    /// Wherever an exchange routes it.
    Exchange {
        /// Its name as it came; empty for the default exchange, which routes by topic name.
        exchange: Text<'a>,
        /// What it is routed by: checked, and empty if the frame has none.
        routing_key: Text<'a>,
    },
}

/// The records of a publish; those that could not be read stand alone.
#[derive(Debug)]
pub enum Records<'a> {
    /// The frame is the record.
    One(NewRecord<'a>),
    /// `messages`.
    Many(Vec<Result<NewRecord<'a>, Refusal>>),
}

/// A record on its way in.
#[derive(Debug, Default)]
pub struct NewRecord<'a> {
    /// Picks the partition.
    pub key: Option<Text<'a>>,
    /// The partition itself; wins over the key.
    pub partition: Option<PartitionId>,
    /// A JSON object of strings, one line.
    pub headers: Option<Text<'a>>,
    /// Milliseconds to live; 0 is for live subscribers only.
    pub ttl_ms: Option<u64>,
    /// Names the record for deduplication.
    pub message_id: Option<Text<'a>>,
    /// When it is to be delivered, if not at once.
    pub due: Option<Due>,
    /// What its publisher wants to be told of it.
    pub notify: Option<Box<Notify>>,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a record carries.
#[derive(Debug)]
pub enum Payload<'a> {
    /// JSON text, one line, otherwise byte for byte as it came.
    Json(Text<'a>),
    /// Bytes, from `payload_base64`.
    Binary(Vec<u8>),
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Self::Json(Text::Borrowed("null"))
    }
}

impl Payload<'_> {
    /// The bytes to keep.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Json(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Whether the bytes are not JSON.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

/// The body of a REST publish.
#[derive(Debug)]
pub struct Posted<'a> {
    /// When to answer, if the body says so; only a single record's can.
    pub ack: Option<Ack>,
    /// How long to wait for that, milliseconds; as `ack`.
    pub timeout_ms: Option<u64>,
    /// What an exchange routes it by, checked; as `ack`.
    pub routing_key: Option<Text<'a>>,
    /// One or several records; those that could not be read stand alone.
    pub records: Vec<Result<NewRecord<'a>, Refusal>>,
}

/// Reads the body of a REST publish: one object, or an array of them, each as one of `messages`.
///
/// # Errors
/// `bad_frame` when the text is not JSON or not an object or a filled array; `invalid_argument` when the
/// array is too long.
pub fn decode_messages(text: &str) -> Result<Posted<'_>, Refusal> {
    let mut scanner = Scanner::new(text);
    let syntax = |error: JsonError| bad(error.to_string());
    let (mut said_ack, mut said_timeout, mut said_key) = (None, None, None);
    let messages = match scanner.peek() {
        Some(b'[') => Messages::scan(&mut scanner).map_err(syntax)?,
        Some(b'{') => {
            let record = RecordFields::scan_with(&mut scanner, |key, value| match key {
                "ack" => said_ack = json::not_null(value),
                "timeout_ms" => said_timeout = json::not_null(value),
                "routing_key" => said_key = json::not_null(value),
                _ => {}
            });
            Messages::List(vec![record.map_err(syntax)?])
        }
        _ => return Err(bad("a message object or an array of them is expected")),
    };
    scanner.end().map_err(syntax)?;
    Ok(Posted {
        ack: said_ack.map(ack).transpose()?,
        timeout_ms: said_timeout
            .map(|value| integer(value, "timeout_ms"))
            .transpose()?,
        routing_key: said_key.map(routing_key).transpose()?,
        records: messages.read(scanner.saw_line_break())?,
    })
}

/// The value of `messages` as it was found.
pub(super) enum Messages<'a> {
    /// One entry an element, a refusal where the element cannot be a record.
    List(Vec<Result<RecordFields<'a>, Refusal>>),
    /// Not an array.
    Other,
}

impl<'a> Messages<'a> {
    pub(super) fn scan(scanner: &mut Scanner<'a>) -> Result<Self, JsonError> {
        if scanner.peek() != Some(b'[') {
            scanner.value()?;
            return Ok(Self::Other);
        }
        let mut records = Vec::new();
        scanner.array(|scanner| {
            let mut has_routing_key = false;
            let record = RecordFields::scan_with(scanner, |key, _| has_routing_key |= key == "routing_key")?;
            // Not ignored as what nobody knows: the record would go elsewhere than its sender thinks.
            records.push(if has_routing_key {
                Err(bad(
                    "records that come together have one routing_key, which stands beside them",
                ))
            } else {
                record
            });
            Ok::<(), JsonError>(())
        })?;
        Ok(Self::List(records))
    }

    pub(super) fn read(self, has_line_breaks: bool) -> Result<Vec<Result<NewRecord<'a>, Refusal>>, Refusal> {
        match self {
            Self::Other => Err(bad("messages must be an array")),
            Self::List(records) if records.is_empty() => Err(bad("messages is empty")),
            Self::List(records) if records.len() > PUBLISH_RECORDS_MAX => Err(invalid(format!(
                "messages has at most {PUBLISH_RECORDS_MAX} entries"
            ))),
            Self::List(records) => Ok(records
                .into_iter()
                .map(|fields| fields?.read(has_line_breaks))
                .collect()),
        }
    }
}

/// The fields of a record as text.
#[derive(Default)]
pub(super) struct RecordFields<'a> {
    key: Option<&'a str>,
    partition: Option<&'a str>,
    headers: Option<&'a str>,
    ttl_ms: Option<&'a str>,
    message_id: Option<&'a str>,
    payload: Option<&'a str>,
    payload_base64: Option<&'a str>,
    rare: Option<Box<RareFields<'a>>>,
}

impl<'a> RecordFields<'a> {
    /// Passes one element of `messages`, and gives `other` the fields that are no record's.
    fn scan_with(
        scanner: &mut Scanner<'a>,
        mut other: impl FnMut(&str, &'a str),
    ) -> Result<Result<Self, Refusal>, JsonError> {
        if scanner.peek() != Some(b'{') {
            return match scanner.value() {
                Ok(_) | Err(JsonError::TooDeep(_)) => Ok(Err(bad("a message is an object with a payload"))),
                Err(error) => Err(error),
            };
        }
        let mut fields = Self::default();
        let mut too_deep = None;
        scanner.object(|scanner, key| {
            match scanner.value() {
                Ok(value) => {
                    if !fields.take(key, value) {
                        match json::unescaped_name(key) {
                            Some(name) if fields.take(&name, value) => {}
                            Some(name) => other(&name, value),
                            None => other(key, value),
                        }
                    }
                }
                Err(error @ JsonError::TooDeep(_)) => too_deep = Some(error),
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(match too_deep {
            None => Ok(fields),
            Some(error) => Err(bad(error.to_string())),
        })
    }

    /// Takes the value of a record's field; false if `key` is none of them.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> bool {
        let field = match key {
            "payload" => {
                self.payload = Some(value);
                return true;
            }
            "key" => &mut self.key,
            "partition" => &mut self.partition,
            "headers" => &mut self.headers,
            "ttl_ms" => &mut self.ttl_ms,
            "message_id" => &mut self.message_id,
            "payload_base64" => &mut self.payload_base64,
            _ => return RareFields::take(&mut self.rare, key, value),
        };
        *field = json::not_null(value);
        true
    }

    /// Whether none of a record's fields was there.
    pub(super) fn is_empty(&self) -> bool {
        matches!(
            self,
            Self {
                key: None,
                partition: None,
                headers: None,
                ttl_ms: None,
                message_id: None,
                payload: None,
                payload_base64: None,
                rare: None,
            }
        )
    }

    #[inline]
    pub(super) fn read(&self, has_line_breaks: bool) -> Result<NewRecord<'a>, Refusal> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(text), None) => Payload::Json(json::one_line(text, has_line_breaks)),
            (None, Some(text)) => Payload::Binary(binary(text)?),
            (None, None) => return Err(bad("a record needs payload or payload_base64")),
            (Some(_), Some(_)) => return Err(bad("a record has payload or payload_base64, not both")),
        };
        let (due, notify) = match &self.rare {
            None => (None, None),
            Some(rare) => rare.read()?,
        };
        Ok(NewRecord {
            key: self
                .key
                .map(|value| short_text(value, "key", 0, KEY_BYTES_MAX))
                .transpose()?,
            partition: self.partition.map(partition).transpose()?,
            headers: self
                .headers
                .map(|value| headers(value, has_line_breaks))
                .transpose()?,
            ttl_ms: self.ttl_ms.map(|value| integer(value, "ttl_ms")).transpose()?,
            message_id: self
                .message_id
                .map(|value| short_text(value, "message_id", 1, MESSAGE_ID_BYTES_MAX))
                .transpose()?,
            due,
            notify,
            payload,
        })
    }
}

pub(super) fn ack(value: &str) -> Result<Ack, Refusal> {
    json::as_text(value)
        .and_then(|text| Ack::parse(&text))
        .ok_or_else(|| bad("ack is one of none, accepted, durable, delivered, processed"))
}

pub(super) fn routing_key(value: &str) -> Result<Text<'_>, Refusal> {
    let key = json::as_text(value).ok_or_else(|| bad("routing_key must be a string"))?;
    check_routing_key(&key).map_err(|error| invalid(error.to_string()))?;
    Ok(key)
}

pub(super) fn integer(value: &str, field: &str) -> Result<u64, Refusal> {
    json::as_integer(value).ok_or_else(|| bad(format!("{field} is an integer from 0 to 2^53-1")))
}

fn partition(value: &str) -> Result<PartitionId, Refusal> {
    super::partition_id(integer(value, "partition")?)
}

fn short_text<'a>(value: &'a str, field: &str, min: usize, max: usize) -> Result<Text<'a>, Refusal> {
    let text = json::as_text(value).ok_or_else(|| bad(format!("{field} must be a string")))?;
    if (min..=max).contains(&text.len()) {
        Ok(text)
    } else {
        Err(invalid(format!("{field} has {min} to {max} bytes")))
    }
}

fn headers(value: &str, has_line_breaks: bool) -> Result<Text<'_>, Refusal> {
    let mut count = 0;
    let checked = Scanner::new(value).object(|scanner, _| {
        count += 1;
        scanner.string().map(drop)
    });
    if checked.is_err() {
        return Err(bad("headers is an object of strings"));
    }
    if count > HEADERS_MAX || value.len() > HEADERS_BYTES_MAX {
        return Err(invalid(format!(
            "at most {HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes together"
        )));
    }
    Ok(json::one_line(value, has_line_breaks))
}

fn binary(value: &str) -> Result<Vec<u8>, Refusal> {
    json::as_text(value)
        .and_then(|text| {
            base64::engine::general_purpose::STANDARD
                .decode(text.as_bytes())
                .ok()
        })
        .ok_or_else(|| bad("payload_base64 is a string of padded standard base64"))
}
