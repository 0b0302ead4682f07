//! Frames that a client sends, decoded and borrowed from the message they came in.
//!
//! `publish` is read in the same pass that checks the JSON: payloads stay the bytes they came as. The
//! other frames are rare and small; they are checked by the scanner and then read by serde.

use std::{borrow::Cow, collections::BTreeMap};

use base64::Engine as _;
use serde::Deserialize;

use crate::{
    Epoch, ErrorCode, FrameId, Offset, PartitionId, TopicName,
    error::Refusal,
    json::{self, JsonError, Scanner},
    limits::{
        FRAME_ID_BYTES_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX,
        PUBLISH_RECORDS_MAX,
    },
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
    Publish(Box<Publish<'a>>),
    /// Follow a topic or a pattern.
    Subscribe(Box<Subscribe>),
    /// Stop following.
    Unsubscribe(Target),
    /// Let a subscription have more records.
    Credit(Credit),
    /// Read a page.
    Fetch(Fetch),
    /// Create a topic, or confirm that it is as said.
    Declare(Declare),
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
}

/// A `publish` frame.
#[derive(Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub topic: Cow<'a, str>,
    /// When to answer.
    pub ack: Ack,
    /// What.
    pub records: Records<'a>,
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
    pub key: Option<Cow<'a, str>>,
    /// The partition itself; wins over the key.
    pub partition: Option<PartitionId>,
    /// A JSON object of strings, one line.
    pub headers: Option<Cow<'a, str>>,
    /// Milliseconds to live; 0 is for live subscribers only.
    pub ttl_ms: Option<u64>,
    /// Names the record for deduplication.
    pub message_id: Option<Cow<'a, str>>,
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a record carries.
#[derive(Debug)]
pub enum Payload<'a> {
    /// JSON text, one line, otherwise byte for byte as it came.
    Json(Cow<'a, str>),
    /// Bytes, from `payload_base64`.
    Binary(Vec<u8>),
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Self::Json(Cow::Borrowed("null"))
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

/// Names a subscription of the session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// A topic or a pattern.
    pub topic: String,
    /// Its group, if it has one.
    pub group: Option<String>,
}

/// A `subscribe` frame without a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// A topic or a pattern.
    pub topic: String,
    /// Where to begin.
    pub from: From,
    /// Most records to be given before `credit` allows more.
    pub credit: Option<u64>,
    /// What happens to a subscriber that is slower than its topic.
    pub overflow: Overflow,
}

/// What happens to a subscriber that is slower than its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It reads on from the log.
    #[default]
    Read,
    /// It jumps to the newest record.
    Skip,
    /// It gets the newest record of each key.
    Conflate,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// After the newest record.
    Latest,
    /// At the first record kept.
    Earliest,
    /// At the newest so many of the whole topic.
    Last(u64),
    /// At the first record of this time; RFC 3339.
    Time(String),
    /// Where it was.
    Resume(Resume),
    /// Where it was in each topic of a pattern.
    Topics(BTreeMap<String, Resume>),
}

/// A position to come back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Resume {
    /// The next offset of each partition.
    pub offsets: BTreeMap<PartitionId, Offset>,
    /// The epoch in which they mean something.
    pub epoch: Option<Epoch>,
}

/// A `credit` frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Credit {
    /// Which subscription.
    #[serde(flatten)]
    pub target: Target,
    /// How many records more.
    pub add: u64,
}

/// A `fetch` frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fetch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset.
    pub offset: Offset,
    /// Most records to return.
    pub limit: Option<u64>,
}

/// A `declare` frame for a topic; every other field is configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    /// The topic.
    pub topic: String,
    /// The fields besides `type`, `id` and `topic`, as a JSON object.
    pub config: String,
}

/// The fields of a frame as text, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    frame_type: Option<&'a str>,
    id: Option<&'a str>,
    topic: Option<&'a str>,
    exchange: Option<&'a str>,
    ack: Option<&'a str>,
    later: Option<&'a str>,
    record: RecordFields<'a>,
    messages: Option<Vec<Result<RecordFields<'a>, Refusal>>>,
}

#[derive(Default)]
struct RecordFields<'a> {
    key: Option<&'a str>,
    partition: Option<&'a str>,
    headers: Option<&'a str>,
    ttl_ms: Option<&'a str>,
    message_id: Option<&'a str>,
    payload: Option<&'a str>,
    payload_base64: Option<&'a str>,
    schedule: Option<&'a str>,
}

impl<'a> RecordFields<'a> {
    /// Takes the value of a record's field; false if `key` is none of them.
    fn take(&mut self, key: &str, value: &'a str) -> bool {
        let field = match key {
            "payload" => &mut self.payload,
            "key" => &mut self.key,
            "partition" => &mut self.partition,
            "headers" => &mut self.headers,
            "ttl_ms" => &mut self.ttl_ms,
            "message_id" => &mut self.message_id,
            "payload_base64" => &mut self.payload_base64,
            "delay_ms" | "deliver_at" => &mut self.schedule,
            _ => return false,
        };
        *field = Some(value);
        true
    }

    fn read(self, has_line_breaks: bool) -> Result<NewRecord<'a>, Refusal> {
        if self.schedule.is_some() {
            return Err(invalid(
                "delay_ms and deliver_at are not available in this version",
            ));
        }
        let payload = match (self.payload, self.payload_base64) {
            (Some(text), None) => Payload::Json(json::one_line(text, has_line_breaks)),
            (None, Some(text)) => Payload::Binary(binary(text)?),
            (None, None) => return Err(bad("a record needs payload or payload_base64")),
            (Some(_), Some(_)) => return Err(bad("a record has payload or payload_base64, not both")),
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
            payload,
        })
    }
}

impl<'a> Fields<'a> {
    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        scanner.object(|scanner, key| {
            if key == "messages" && scanner.peek() == Some(b'[') {
                self.messages = Some(messages(scanner)?);
                return Ok(());
            }
            let value = scanner.value()?;
            if self.record.take(key, value) {
                return Ok(());
            }
            match key {
                "type" => self.frame_type = Some(value),
                "id" => self.id = Some(value),
                "topic" => self.topic = Some(value),
                "ack" => self.ack = Some(value),
                "exchange" => self.exchange = Some(value),
                "notify" => self.later = Some("notify"),
                _ => {}
            }
            Ok(())
        })?;
        scanner.end()
    }

    fn publish(self, has_line_breaks: bool) -> Result<Publish<'a>, Refusal> {
        if self.exchange.is_some() {
            return Err(Refusal::new(
                ErrorCode::ExchangeNotFound,
                "there is no such exchange",
            ));
        }
        if let Some(later) = self.later {
            return Err(invalid(&format!("{later} is not available in this version")));
        }
        let topic = self.topic.ok_or_else(|| bad("publish needs a topic"))?;
        let topic = json::as_text(topic).ok_or_else(|| bad("topic must be a string"))?;
        let ack = match self.ack {
            None | Some("\"durable\"") => Ack::Durable,
            Some("\"accepted\"") => Ack::Accepted,
            Some("\"none\"") => Ack::None,
            Some("\"delivered\"" | "\"processed\"") => {
                return Err(invalid("this ack level is not available in this version"));
            }
            Some(_) => return Err(bad("ack is one of none, accepted, durable")),
        };
        let records = match self.messages {
            None => Records::One(self.record.read(has_line_breaks)?),
            Some(messages) => {
                let read = |fields: Result<RecordFields<'a>, _>| fields.and_then(|f| f.read(has_line_breaks));
                Records::Many(messages.into_iter().map(read).collect())
            }
        };
        Ok(Publish { topic, ack, records })
    }
}

fn messages<'a>(scanner: &mut Scanner<'a>) -> Result<Vec<Result<RecordFields<'a>, Refusal>>, JsonError> {
    let mut records = Vec::new();
    let outcome = scanner.array(|scanner| {
        if scanner.peek() == Some(b'{') {
            let mut fields = RecordFields::default();
            scanner.object::<JsonError>(|scanner, key| {
                let value = scanner.value()?;
                fields.take(key, value);
                Ok(())
            })?;
            records.push(Ok(fields));
        } else {
            scanner.value()?;
            records.push(Err(bad("a message is an object with a payload")));
        }
        Ok::<(), JsonError>(())
    });
    outcome.map(|()| records)
}

impl<'a> ClientFrame<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// [`BadFrame`] with `bad_frame`, `unknown_type`, `invalid_argument` or the code that fits.
    pub fn decode(text: &'a str) -> Result<Self, BadFrame> {
        let mut scanner = Scanner::new(text);
        let mut fields = Fields::default();
        if let Err(error) = fields.scan(&mut scanner) {
            let id = fields.id.and_then(|value| frame_id(value).ok());
            return Err(BadFrame {
                id,
                refusal: bad(&error.to_string()),
            });
        }
        let id = match fields.id.map(frame_id).transpose() {
            Ok(id) => id,
            Err(refusal) => return Err(BadFrame { id: None, refusal }),
        };
        match request(text, fields, scanner.saw_line_break()) {
            Ok(request) => Ok(Self { id, request }),
            Err(refusal) => Err(BadFrame { id, refusal }),
        }
    }
}

fn request<'a>(text: &'a str, fields: Fields<'a>, has_line_breaks: bool) -> Result<Request<'a>, Refusal> {
    let frame_type = fields.frame_type.ok_or_else(|| bad("a frame needs a type"))?;
    match frame_type {
        "\"publish\"" => {
            if fields
                .messages
                .as_ref()
                .is_some_and(|messages| messages.is_empty())
            {
                return Err(bad("messages is empty"));
            }
            if fields
                .messages
                .as_ref()
                .is_some_and(|messages| messages.len() > PUBLISH_RECORDS_MAX)
            {
                return Err(invalid(&format!(
                    "messages has at most {PUBLISH_RECORDS_MAX} entries"
                )));
            }
            fields
                .publish(has_line_breaks)
                .map(Box::new)
                .map(Request::Publish)
        }
        "\"subscribe\"" => read::<SubscribeFields>(text)?
            .read()
            .map(Box::new)
            .map(Request::Subscribe),
        "\"unsubscribe\"" => read(text).map(Request::Unsubscribe),
        "\"credit\"" => read(text).map(Request::Credit),
        "\"fetch\"" => read(text).map(Request::Fetch),
        "\"declare\"" => declare(text).map(Request::Declare),
        "\"ping\"" => Ok(Request::Ping),
        _ => match json::as_text(frame_type) {
            Some(name) => {
                let shown: String = name.chars().take(64).collect();
                Err(Refusal::new(
                    ErrorCode::UnknownType,
                    format!("unknown type {shown:?}"),
                ))
            }
            None => Err(bad("type must be a string")),
        },
    }
}

/// Reads the objects of a REST publish: one object, or an array of them, each as one of `messages`.
///
/// # Errors
/// `bad_frame` when the text is not JSON or not an object or array.
pub fn decode_messages(text: &str) -> Result<Vec<Result<NewRecord<'_>, Refusal>>, Refusal> {
    let mut scanner = Scanner::new(text);
    let syntax = |error: JsonError| bad(&error.to_string());
    let found = match scanner.peek() {
        Some(b'[') => messages(&mut scanner).map_err(syntax)?,
        Some(b'{') => {
            let mut fields = RecordFields::default();
            scanner
                .object::<JsonError>(|scanner, key| {
                    let value = scanner.value()?;
                    fields.take(key, value);
                    Ok(())
                })
                .map_err(syntax)?;
            vec![Ok(fields)]
        }
        _ => return Err(bad("a message object or an array of them is expected")),
    };
    scanner.end().map_err(syntax)?;
    let has_line_breaks = scanner.saw_line_break();
    Ok(found
        .into_iter()
        .map(|fields| fields.and_then(|f| f.read(has_line_breaks)))
        .collect())
}

#[derive(Deserialize)]
struct SubscribeFields {
    topic: String,
    group: Option<String>,
    from: Option<serde_json::Value>,
    credit: Option<u64>,
    #[serde(default)]
    overflow: Overflow,
}

impl SubscribeFields {
    fn read(self) -> Result<Subscribe, Refusal> {
        if self.group.is_some() {
            return Err(invalid("groups are not available in this version"));
        }
        Ok(Subscribe {
            topic: self.topic,
            from: self.from.map_or(Ok(From::Latest), start_from)?,
            credit: self.credit,
            overflow: self.overflow,
        })
    }
}

fn start_from(value: serde_json::Value) -> Result<From, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        last: Option<u64>,
        time: Option<String>,
        offsets: Option<BTreeMap<PartitionId, Offset>>,
        epoch: Option<Epoch>,
        topics: Option<BTreeMap<String, Resume>>,
    }
    let expected = || bad("from is latest, earliest, {last}, {time}, {offsets, epoch} or {topics}");
    match value.as_str() {
        Some("latest") => return Ok(From::Latest),
        Some("earliest") => return Ok(From::Earliest),
        Some(_) => return Err(expected()),
        None => {}
    }
    match Fields::deserialize(value).map_err(|_| expected())? {
        Fields {
            last: Some(count),
            time: None,
            offsets: None,
            epoch: None,
            topics: None,
        } => Ok(From::Last(count)),
        Fields {
            last: None,
            time: Some(time),
            offsets: None,
            epoch: None,
            topics: None,
        } => Ok(From::Time(time)),
        Fields {
            last: None,
            time: None,
            offsets: Some(offsets),
            epoch,
            topics: None,
        } => Ok(From::Resume(Resume { offsets, epoch })),
        Fields {
            last: None,
            time: None,
            offsets: None,
            epoch: None,
            topics: Some(topics),
        } => Ok(From::Topics(topics)),
        _ => Err(expected()),
    }
}

fn declare(text: &str) -> Result<Declare, Refusal> {
    let mut fields: serde_json::Map<String, serde_json::Value> = read(text)?;
    fields.remove("type");
    fields.remove("id");
    if fields.contains_key("exchange") {
        return Err(invalid("exchanges are not available in this version"));
    }
    let topic = match fields.remove("topic") {
        Some(serde_json::Value::String(topic)) => topic,
        _ => return Err(bad("declare needs a topic")),
    };
    Ok(Declare {
        topic,
        config: serde_json::Value::Object(fields).to_string(),
    })
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| bad(&error.to_string()))
}

fn bad(message: &str) -> Refusal {
    Refusal::new(ErrorCode::BadFrame, message)
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, message)
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

fn integer(value: &str, field: &str) -> Result<u64, Refusal> {
    json::as_integer(value).ok_or_else(|| bad(&format!("{field} is an integer from 0 to 2^53-1")))
}

fn partition(value: &str) -> Result<PartitionId, Refusal> {
    let number = integer(value, "partition")?;
    u32::try_from(number).map(PartitionId).map_err(|_| {
        Refusal::new(
            ErrorCode::PartitionOutOfRange,
            "the topic has fewer partitions than that",
        )
    })
}

fn short_text<'a>(value: &'a str, field: &str, min: usize, max: usize) -> Result<Cow<'a, str>, Refusal> {
    let text = json::as_text(value).ok_or_else(|| bad(&format!("{field} must be a string")))?;
    if (min..=max).contains(&text.len()) {
        Ok(text)
    } else {
        Err(invalid(&format!("{field} has {min} to {max} bytes")))
    }
}

fn headers(value: &str, has_line_breaks: bool) -> Result<Cow<'_, str>, Refusal> {
    let mut count = 0;
    let checked = Scanner::new(value).object(|scanner, _| {
        count += 1;
        scanner.string().map(drop)
    });
    if checked.is_err() {
        return Err(bad("headers is an object of strings"));
    }
    if count > HEADERS_MAX || value.len() > HEADERS_BYTES_MAX {
        return Err(invalid(&format!(
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

/// The topic's name, or the refusal that says what a name looks like.
///
/// # Errors
/// `invalid_argument`.
pub fn topic_name(name: &str) -> Result<TopicName, Refusal> {
    TopicName::parse(name).map_err(|error| invalid(&error.to_string()))
}
