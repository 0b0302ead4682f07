//! Frames that the broker sends, written straight into a buffer.
//!
//! Every function appends one JSON object without a line end. What is the same for every record of a
//! partition is made once as a [`MessagePrefix`].

mod group;
mod notice;
mod published;

use base64::Engine as _;
use serde::Serialize;

use crate::{
    Epoch, FrameId, Offset, PartitionId, Timestamp, TopicName,
    error::Refusal,
    json::push_text,
    limits::{FRAME_BYTES_MAX, RETRY_AFTER_MS},
    name::{GroupMode, GroupName},
};

pub use group::{Lease, error_failed};
pub use notice::{Notice, NoticeForm, NoticeOutcome, notice};
pub use published::{
    RecordResult, RouteResult, RoutedResult, Scheduled, passed, published_many, published_routes,
    published_routes_many, scheduled,
};

/// What is true of a record when its reply is sent; the text of `durability`.
pub type DurabilityText = &'static str;

/// The parts of a record that a `message` shows.
#[derive(Clone, Copy, Debug)]
pub struct MessageFields<'a> {
    /// Its key.
    pub key: Option<&'a str>,
    /// Its headers as a JSON object.
    pub headers: Option<&'a str>,
    /// JSON text, or bytes.
    pub payload: &'a [u8],
    /// Whether `payload` is bytes.
    pub binary: bool,
}

/// What a `message` has and its event has not.
pub const MESSAGE_TYPE: &str = "{\"type\":\"message\",";

/// The begin of every `message` and `published` of one partition.
#[derive(Clone, Debug)]
pub struct MessagePrefix {
    message: Box<[u8]>,
    published: Box<[u8]>,
}

impl MessagePrefix {
    /// Makes the prefix of one partition.
    #[must_use]
    pub fn new(topic: &TopicName, partition: PartitionId) -> Self {
        let place = format!("\"topic\":\"{topic}\",\"partition\":{partition}");
        Self {
            message: format!("{MESSAGE_TYPE}{place}").into_bytes().into(),
            published: format!(",{place},\"offset\":").into_bytes().into(),
        }
    }

    /// Appends a `message`; a record that was never stored has no offset.
    pub fn message(
        &self,
        buffer: &mut Vec<u8>,
        offset: Option<Offset>,
        timestamp: Timestamp,
        fields: &MessageFields<'_>,
    ) {
        buffer.extend_from_slice(&self.message);
        if let Some(offset) = offset {
            buffer.extend_from_slice(b",\"offset\":");
            push_integer(buffer, offset.0);
        }
        push_record(buffer, timestamp, fields);
    }

    /// Appends a `message` without its `type`, as an event's data.
    pub fn event(
        &self,
        buffer: &mut Vec<u8>,
        offset: Offset,
        timestamp: Timestamp,
        fields: &MessageFields<'_>,
    ) {
        buffer.push(b'{');
        buffer.extend_from_slice(&self.message[MESSAGE_TYPE.len()..]);
        buffer.extend_from_slice(b",\"offset\":");
        push_integer(buffer, offset.0);
        push_record(buffer, timestamp, fields);
    }

    /// Appends the `published` that answers one record.
    pub fn published(&self, buffer: &mut Vec<u8>, id: &FrameId, stored: &Stored) {
        buffer.extend_from_slice(b"{\"type\":\"published\",\"id\":");
        push_id(buffer, id);
        buffer.extend_from_slice(&self.published);
        push_integer(buffer, stored.offset.0);
        push_worth(buffer, stored);
        buffer.push(b'}');
    }
}

/// Appends what follows the offset in a `published`, without the closing brace.
fn push_worth(buffer: &mut Vec<u8>, stored: &Stored) {
    if stored.duplicate {
        buffer.extend_from_slice(b",\"duplicate\":true");
    }
    buffer.extend_from_slice(b",\"durability\":\"");
    buffer.extend_from_slice(stored.durability.as_bytes());
    buffer.push(b'"');
}

/// Where a record was stored and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its offset, or that of its first occurrence.
    pub offset: Offset,
    /// Whether it was a repeat.
    pub duplicate: bool,
    /// What is true of it now.
    pub durability: DurabilityText,
}

/// Appends `,"timestamp":…` and the rest of a record, with the closing brace.
fn push_record(buffer: &mut Vec<u8>, timestamp: Timestamp, fields: &MessageFields<'_>) {
    buffer.extend_from_slice(b",\"timestamp\":");
    push_integer(buffer, timestamp.0);
    if let Some(key) = fields.key {
        buffer.extend_from_slice(b",\"key\":");
        push_text(buffer, key);
    }
    if let Some(headers) = fields.headers {
        buffer.extend_from_slice(b",\"headers\":");
        buffer.extend_from_slice(headers.as_bytes());
    }
    if fields.binary {
        buffer.extend_from_slice(b",\"payload_base64\":\"");
        push_base64(buffer, fields.payload);
        buffer.push(b'"');
    } else {
        buffer.extend_from_slice(b",\"payload\":");
        buffer.extend_from_slice(fields.payload);
    }
    buffer.push(b'}');
}

/// Appends one entry of `messages`: a `message` without `type`, `topic` and `partition`.
pub fn push_entry(buffer: &mut Vec<u8>, offset: Offset, timestamp: Timestamp, fields: &MessageFields<'_>) {
    buffer.extend_from_slice(b"{\"offset\":");
    push_integer(buffer, offset.0);
    push_record(buffer, timestamp, fields);
}

/// Appends a whole number.
pub fn push_integer(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_base64(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let start = buffer.len();
    buffer.resize(start + bytes.len().div_ceil(3) * 4, 0);
    base64::engine::general_purpose::STANDARD
        .encode_slice(bytes, &mut buffer[start..])
        .expect("the buffer was sized for padded base64");
}

/// Appends an id as JSON.
pub fn push_id(buffer: &mut Vec<u8>, id: &FrameId) {
    match id {
        FrameId::Number(number) => push_integer(buffer, *number),
        FrameId::Text(text) => push_text(buffer, text),
    }
}

/// Appends an `error` frame; `index` names the record of a publish without `id`.
pub fn error(buffer: &mut Vec<u8>, id: Option<&FrameId>, refusal: &Refusal, index: Option<usize>) {
    buffer.extend_from_slice(b"{\"type\":\"error\",");
    if let Some(id) = id {
        buffer.extend_from_slice(b"\"id\":");
        push_id(buffer, id);
        buffer.push(b',');
    }
    if let Some(index) = index {
        buffer.extend_from_slice(b"\"index\":");
        push_integer(buffer, index as u64);
        buffer.push(b',');
    }
    push_refusal(buffer, refusal);
    buffer.push(b'}');
}

/// Appends `"code":…,"message":…,"retryable":…` and what else the refusal says, without braces.
pub fn push_refusal(buffer: &mut Vec<u8>, refusal: &Refusal) {
    buffer.extend_from_slice(b"\"code\":\"");
    buffer.extend_from_slice(refusal.code.as_str().as_bytes());
    buffer.extend_from_slice(b"\",\"message\":");
    push_text(buffer, &refusal.message);
    buffer.extend_from_slice(b",\"retryable\":");
    buffer.extend_from_slice(if refusal.code.is_retryable() {
        b"true"
    } else {
        b"false"
    });
    if let Some(retry_after_ms) = refusal.retry_after_ms {
        buffer.extend_from_slice(b",\"retry_after_ms\":");
        push_integer(buffer, retry_after_ms);
    }
    if let Some(next_offset) = refusal.next_offset {
        buffer.extend_from_slice(b",\"next_offset\":");
        push_integer(buffer, next_offset.0);
    }
    if let Some((partition, offset)) = refusal.place {
        buffer.extend_from_slice(b",\"partition\":");
        push_integer(buffer, u64::from(partition.0));
        buffer.extend_from_slice(b",\"offset\":");
        push_integer(buffer, offset.0);
    }
}

/// Appends a `messages` up to and with the opening bracket; entries and `]}` follow. Without `id` it is
/// the REST form, which has no `type`.
pub fn messages(
    buffer: &mut Vec<u8>,
    id: Option<&FrameId>,
    topic: &TopicName,
    partition: PartitionId,
    next_offset: Offset,
) {
    buffer.push(b'{');
    if let Some(id) = id {
        buffer.extend_from_slice(b"\"type\":\"messages\",\"id\":");
        push_id(buffer, id);
        buffer.push(b',');
    }
    let rest = format!(
        "\"topic\":\"{topic}\",\"partition\":{partition},\"next_offset\":{next_offset},\"messages\":["
    );
    buffer.extend_from_slice(rest.as_bytes());
}

/// Offsets of the partitions of one topic, as `{"0":10,"1":4}`.
pub type Offsets = std::collections::BTreeMap<PartitionId, Offset>;

/// A topic that a pattern follows.
#[derive(Clone, Debug, Serialize)]
pub struct FollowedTopic {
    /// Its epoch.
    pub epoch: Epoch,
    /// Where it is read from.
    pub offsets: Offsets,
    /// False if records between what was asked and this are gone; only on a resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
}

/// The frames that are rare enough to be written by serde.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The first frame of a session.
    Welcome {
        /// The session's id.
        session: String,
        /// Name and version.
        server: &'a str,
        /// Quiet time before a Ping, milliseconds.
        heartbeat_ms: u64,
        /// Largest frame, bytes.
        frame_bytes_max: usize,
        /// Whether a token is needed.
        auth: &'a str,
    },
    /// Answers `subscribe` for a topic, and tells of new partitions (then without `id`).
    #[serde(rename = "subscribed")]
    SubscribedTopic {
        /// The frame that it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        /// The topic.
        topic: &'a TopicName,
        /// Its epoch.
        epoch: &'a Epoch,
        /// The next offset of each partition.
        offsets: &'a Offsets,
        /// Whether everything from the asked offsets on is there.
        recovered: bool,
    },
    /// Answers `subscribe` in a group.
    #[serde(rename = "subscribed")]
    SubscribedGroup {
        /// The frame that it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        /// The topic.
        topic: &'a TopicName,
        /// The group.
        group: &'a GroupName,
        /// How it shares the topic's work.
        mode: GroupMode,
        /// The topic's epoch.
        epoch: &'a Epoch,
        /// The group's position in each partition.
        offsets: &'a Offsets,
        /// Whether everything from the asked offsets on is there.
        recovered: bool,
    },
    /// A member of a partitioned group gained partitions, or (with none) idles.
    Assigned {
        /// The topic.
        topic: &'a TopicName,
        /// The group.
        group: &'a GroupName,
        /// The assignment's number.
        generation: u64,
        /// Where each goes on.
        offsets: &'a Offsets,
    },
    /// A member of a partitioned group loses partitions.
    Revoked {
        /// The topic.
        topic: &'a TopicName,
        /// The group.
        group: &'a GroupName,
        /// The assignment's number.
        generation: u64,
        /// Which.
        partitions: &'a [PartitionId],
        /// How long commits for them are still taken, milliseconds.
        grace_ms: u64,
    },
    /// Answers `subscribe` for a pattern, and tells of new matches (then without `id`).
    #[serde(rename = "subscribed")]
    SubscribedPattern {
        /// The frame that it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        /// The pattern.
        topic: &'a str,
        /// The topics that match.
        topics: &'a std::collections::BTreeMap<TopicName, FollowedTopic>,
    },
    /// A subscription ended by the broker.
    Unsubscribed {
        /// The topic.
        topic: &'a str,
        /// Its group, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<&'a GroupName>,
        /// Why.
        reason: &'a str,
    },
    /// Records were left out.
    Skipped {
        /// The topic.
        topic: &'a TopicName,
        /// The partition.
        partition: PartitionId,
        /// How many offsets.
        count: u64,
        /// Where it goes on.
        next_offset: Offset,
        /// `retention`, `overflow` or `corrupt`.
        reason: &'a str,
    },
    /// Done.
    Ok {
        /// The frame that it answers.
        id: &'a FrameId,
    },
    /// Answers `ping`.
    Pong {
        /// The frame that it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
    },
    /// The session will be closed; come back later.
    Goaway {
        /// Why.
        reason: &'a str,
        /// When, milliseconds.
        reconnect_ms: u64,
    },
}

impl ServerFrame<'_> {
    /// The first frame of a session.
    #[must_use]
    pub fn welcome(session: String, heartbeat_ms: u64) -> Self {
        ServerFrame::Welcome {
            session,
            server: concat!("callboard ", env!("CARGO_PKG_VERSION")),
            heartbeat_ms,
            frame_bytes_max: FRAME_BYTES_MAX,
            auth: "none",
        }
    }

    /// The last frame before a shutdown.
    #[must_use]
    pub fn goaway_shutdown() -> Self {
        ServerFrame::Goaway {
            reason: "shutdown",
            reconnect_ms: RETRY_AFTER_MS,
        }
    }

    /// Appends the frame.
    pub fn push(&self, buffer: &mut Vec<u8>) {
        serde_json::to_writer(buffer, self).expect("a frame of strings and numbers always serializes");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
