//! Events as the lines of `text/event-stream`.
//!
//! Source: WHATWG HTML, section 9.2, "Server-sent events". Data are frames of the protocol without their
//! `type`, which is the event's name here; they are one line each, so one `data:` carries one.

use bytes::Bytes;
use callboard_protocol::{
    Offset, PartitionId, TopicName,
    limits::RETRY_AFTER_MS,
    server::{MESSAGE_TYPE, push_integer},
};
use serde::Serialize;

use crate::actors::wire;

/// A comment that keeps proxies and clients from giving the connection up.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// Appends how long a client waits before it comes back.
pub fn push_retry(chunk: &mut Vec<u8>, retry_ms: u64) {
    chunk.extend_from_slice(b"retry: ");
    push_integer(chunk, retry_ms);
    chunk.push(b'\n');
}

/// Appends the position after the event that follows.
pub fn push_id(chunk: &mut Vec<u8>, id: &str) {
    chunk.extend_from_slice(b"id: ");
    chunk.extend_from_slice(id.as_bytes());
    chunk.push(b'\n');
}

/// Appends an event's data and its end.
pub fn push_data(chunk: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    chunk.extend_from_slice(b"data: ");
    write(chunk);
    chunk.extend_from_slice(b"\n\n");
}

fn push_named(chunk: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    chunk.extend_from_slice(b"event: ");
    chunk.extend_from_slice(name.as_bytes());
    chunk.push(b'\n');
    push_data(chunk, |buffer| {
        serde_json::to_writer(buffer, data).expect("strings and numbers always have a JSON form");
    });
}

#[derive(Serialize)]
struct Skipped<'a> {
    topic: &'a TopicName,
    partition: PartitionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    next_offset: Offset,
    reason: &'a str,
}

/// Appends that records were left out: how many if that is known, where it goes on, and why.
pub fn push_skipped(
    chunk: &mut Vec<u8>,
    topic: &TopicName,
    partition: PartitionId,
    (count, next_offset, reason): (Option<u64>, Offset, &str),
) {
    let skipped = Skipped {
        topic,
        partition,
        count,
        next_offset,
        reason,
    };
    push_named(chunk, "skipped", &skipped);
}

/// The topic was deleted, and the stream ends.
pub fn unsubscribed(topic: &TopicName) -> Bytes {
    let mut chunk = Vec::new();
    let data = serde_json::json!({ "topic": topic, "reason": "topic_deleted" });
    push_named(&mut chunk, "unsubscribed", &data);
    chunk.into()
}

/// The broker shuts down, and the stream ends.
pub fn goaway() -> Bytes {
    let mut chunk = Vec::new();
    let data = serde_json::json!({ "reason": "shutdown", "reconnect_ms": RETRY_AFTER_MS });
    push_named(&mut chunk, "goaway", &data);
    chunk.into()
}

/// Records that are not stored, from the bytes that live subscribers of `callboard.v1.json` get. They have
/// no offset, and their events no id.
pub fn live(frames: &[u8]) -> Bytes {
    let mut chunk = Vec::with_capacity(frames.len());
    for frame in wire::bodies(frames) {
        if let Some(rest) = frame.strip_prefix(MESSAGE_TYPE.as_bytes()) {
            push_data(&mut chunk, |buffer| {
                buffer.push(b'{');
                buffer.extend_from_slice(rest);
            });
        }
    }
    chunk.into()
}
