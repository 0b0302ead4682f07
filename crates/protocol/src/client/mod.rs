//! Frames that a client sends, decoded and borrowed from the message they came in.
//!
//! One pass over the text checks the JSON and finds the fields. `publish` is read from what that pass
//! found, so that payloads stay the bytes they came as, and so is `ack`, of which a worker sends one a record;
//! the other frames are rare and small, and are read a second time by serde. Reads only: whether a topic
//! exists or an offset is in range is not known here.
//!
//! - [`publish`]: records and how they are read.
//! - [`repeated`]: a publish that is like the one before.
//! - [`rare`]: what few records ask for: delivery later, a notice.
//! - [`exchange`]: `declare` of an exchange, `bind` and `unbind`.
//! - [`settle`]: `ack`, `nack` and `extend`.
//! - [`group`]: what `subscribe` says of a group, `commit` and `release`.
//! - [`control`]: every other frame.

pub mod control;
pub mod exchange;
pub mod group;
pub mod publish;
pub mod rare;
pub mod repeated;
pub mod settle;

use std::borrow::Cow;

pub use control::{Credit, Declare, Fetch, From, Overflow, Resume, Subscribe, Target};
pub use exchange::{Bind, BindTo, DeclareExchange, exchange_kind, exchange_name};
pub use group::{Commit, GroupSubscribe, OrderingText, Release, decode_seek};
pub use publish::{Ack, NewRecord, Payload, Posted, Publish, Records, To, decode_messages};
pub use rare::{Due, Notify};
pub use repeated::Repeated;
pub use settle::{Deliveries, Settle, SettleAction};

use publish::{Messages, RecordFields};

use crate::{
    ErrorCode, FrameId, PartitionId, TopicName,
    error::Refusal,
    json::{self, JsonError, Scanner},
    limits::FRAME_ID_BYTES_MAX,
};

/// One client frame.
#[derive(Debug)]
pub struct ClientFrame<'a> {
    /// What the reply must carry.
    pub id: Option<FrameId>,
    /// What is asked.
    pub request: Request<'a>,
}

/// What a frame asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// Store records.
    Publish(Publish<'a>),
    /// Follow a topic or a pattern.
    Subscribe(Box<Subscribe>),
    /// Stop following.
    Unsubscribe(Target),
    /// Let a subscription have more records.
    Credit(Credit),
    /// Say how far a member has come.
    Commit(Commit),
    /// Give partitions back.
    Release(Release),
    /// Say what became of leased records.
    Settle(Settle<'a>),
    /// Read a page.
    Fetch(Fetch),
    /// Create a topic, or confirm that it is as said.
    Declare(Declare),
    /// Create an exchange, or confirm that it is as said.
    DeclareExchange(DeclareExchange),
    /// Add a binding.
    Bind(Bind),
    /// Take a binding away.
    Unbind(Bind),
    /// Answer with `pong`.
    Ping,
}

/// A frame that could not be read, with the id it had.
#[derive(Debug)]
pub struct BadFrame {
    /// What the error must carry, as far as it could be read.
    pub id: Option<FrameId>,
    /// Why.
    pub refusal: Refusal,
}

impl<'a> ClientFrame<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// [`BadFrame`] with `bad_frame`, `unknown_type`, `invalid_argument` or the code that fits.
    pub fn decode(text: &'a str) -> Result<Self, BadFrame> {
        if let Some(request) = settle::plain_ack(text) {
            return Ok(Self { id: None, request });
        }
        let mut scanner = Scanner::new(text);
        let mut fields = Fields::default();
        let scanned = fields.scan(&mut scanner);
        let id = match (fields.id.map(frame_id).transpose(), scanned) {
            (Ok(id), Ok(())) => id,
            (id, Err(error)) => {
                return Err(BadFrame {
                    id: id.ok().flatten(),
                    refusal: bad(error.to_string()),
                });
            }
            (Err(refusal), Ok(())) => return Err(BadFrame { id: None, refusal }),
        };
        match fields.request(text, scanner.saw_line_break()) {
            Ok(request) => Ok(Self { id, request }),
            Err(refusal) => Err(BadFrame { id, refusal }),
        }
    }
}

/// The fields of a frame as text, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    frame_type: Option<&'a str>,
    id: Option<&'a str>,
    topic: Option<&'a str>,
    ack: Option<&'a str>,
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
    timeout_ms: Option<&'a str>,
    deliveries: Option<&'a str>,
    result: Option<&'a str>,
    record: RecordFields<'a>,
    messages: Option<Messages<'a>>,
    /// A value that is nested too deep; the rest was read all the same, for the `id` it may hold.
    too_deep: Option<JsonError>,
}

impl<'a> Fields<'a> {
    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        scanner.object(|scanner, key| self.member(scanner, key))?;
        scanner.end()
    }

    fn member(&mut self, scanner: &mut Scanner<'a>, key: &'a str) -> Result<(), JsonError> {
        if key == "messages" {
            self.messages = Some(Messages::scan(scanner)?);
            return Ok(());
        }
        let value = match scanner.value() {
            Ok(value) => value,
            Err(error @ JsonError::TooDeep(_)) => {
                self.too_deep = Some(error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.take(key, value)
            && let Some(name) = json::unescaped_name(key)
        {
            self.take(&name, value);
        }
        Ok(())
    }

    /// Takes the value of a field that some frame knows; false if `key` is none of them.
    fn take(&mut self, key: &str, value: &'a str) -> bool {
        match key {
            "type" => self.frame_type = Some(value),
            "id" => self.id = Some(value),
            "topic" => self.topic = json::not_null(value),
            "ack" => self.ack = json::not_null(value),
            "exchange" => self.exchange = json::not_null(value),
            "routing_key" => self.routing_key = json::not_null(value),
            "timeout_ms" => self.timeout_ms = json::not_null(value),
            "deliveries" => self.deliveries = Some(value),
            "result" => self.result = json::not_null(value),
            _ => return self.record.take(key, value),
        }
        true
    }

    fn request(&mut self, text: &'a str, has_line_breaks: bool) -> Result<Request<'a>, Refusal> {
        if let Some(error) = &self.too_deep {
            return Err(bad(error.to_string()));
        }
        let frame_type = self.frame_type.ok_or_else(|| bad("a frame needs a type"))?;
        if frame_type == "\"publish\"" {
            return self.publish(has_line_breaks);
        }
        let name = json::as_text(frame_type).ok_or_else(|| bad("type must be a string"))?;
        match name.as_ref() {
            "publish" => self.publish(has_line_breaks),
            "subscribe" => control::subscribe(text),
            "ack" => settle::ack(self.deliveries, self.result, has_line_breaks),
            "nack" => settle::nack(text),
            "extend" => settle::extend(text),
            "commit" => group::commit(text),
            "release" => group::release(text),
            "unsubscribe" => control::unsubscribe(text),
            "credit" => control::credit(text),
            "fetch" => control::fetch(text),
            "declare" => control::declare(text),
            "bind" => exchange::bind(text),
            "unbind" => exchange::unbind(text),
            "ping" => Ok(Request::Ping),
            _ => {
                let shown: String = name.chars().take(64).collect();
                Err(Refusal::new(
                    ErrorCode::UnknownType,
                    format!("unknown type {shown:?}"),
                ))
            }
        }
    }

    fn publish(&mut self, has_line_breaks: bool) -> Result<Request<'a>, Refusal> {
        let to = self.to()?;
        let ack = self.ack.map_or(Ok(Ack::default()), publish::ack)?;
        let timeout_ms = self
            .timeout_ms
            .map(|value| publish::integer(value, "timeout_ms"))
            .transpose()?;
        let records = match self.messages.take() {
            None => Records::One(self.record.read(has_line_breaks)?),
            Some(_) if !self.record.is_empty() => {
                return Err(bad("the fields of a record stand inside messages, not beside it"));
            }
            Some(messages) => Records::Many(messages.read(has_line_breaks)?),
        };
        Ok(Request::Publish(Publish {
            to,
            ack,
            timeout_ms,
            records,
        }))
    }

    #[inline]
    fn to(&self) -> Result<To<'a>, Refusal> {
        let text = |value, name| json::as_text(value).ok_or_else(|| bad(format!("{name} must be a string")));
        match (self.topic, self.exchange) {
            (Some(topic), None) => Ok(To::Topic(text(topic, "topic")?)),
            (None, Some(exchange)) => {
                let routing_key = self.routing_key.map(publish::routing_key).transpose()?;
                Ok(To::Exchange {
                    exchange: text(exchange, "exchange")?,
                    routing_key: routing_key.unwrap_or_default(),
                })
            }
            (None, None) => Err(bad("publish needs a topic or an exchange")),
            (Some(_), Some(_)) => Err(bad("a publish goes to a topic or to an exchange, not to both")),
        }
    }
}

/// The topic's name, or the refusal that says what a name looks like.
///
/// # Errors
/// `invalid_argument`.
pub fn topic_name(name: &str) -> Result<TopicName, Refusal> {
    TopicName::parse(name).map_err(|error| invalid(error.to_string()))
}

fn frame_id(value: &str) -> Result<FrameId, Refusal> {
    if let Some(number) = json::as_integer(value) {
        return Ok(FrameId::Number(number));
    }
    match json::as_text(value) {
        Some(text) if text.len() <= FRAME_ID_BYTES_MAX => Ok(FrameId::Text(text.as_ref().into())),
        _ => Err(bad(
            "id is an integer from 0 to 2^53-1 or a string of at most 64 bytes",
        )),
    }
}

fn partition_id(number: u64) -> Result<PartitionId, Refusal> {
    u32::try_from(number).map(PartitionId).map_err(|_| {
        Refusal::new(
            ErrorCode::PartitionOutOfRange,
            "the topic has fewer partitions than that",
        )
    })
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::BadFrame, message)
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, message)
}

/// A string's content, borrowed where it has no escape.
type Text<'a> = Cow<'a, str>;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod properties;
