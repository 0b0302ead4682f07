//! What became of the records of a publish.
//!
//! Without an `id` each of these is the form that REST answers with, which has no `type`.

use super::{DurabilityText, Stored, push_id, push_integer, push_refusal};
use crate::{FrameId, PartitionId, Timestamp, TopicName, error::Refusal, id::ScheduleId};

/// One entry of `results`.
#[derive(Clone, Debug)]
pub enum RecordResult {
    /// It was stored.
    Stored(PartitionId, Stored),
    /// It was stored, and the group that processed it says this of it: JSON on one line.
    Processed(PartitionId, Stored, Box<[u8]>),
    /// It was given to live subscribers and not stored.
    Passed(PartitionId),
    /// It is kept to be delivered later.
    Scheduled(Scheduled),
    /// It was refused and nothing is stored.
    Refused(Refusal),
}

/// A record that is to be delivered later, and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Names it until it is delivered.
    pub id: ScheduleId,
    /// When it is due.
    pub deliver_at: Timestamp,
    /// Whether it was a repeat.
    pub duplicate: bool,
    /// What is true of it now.
    pub durability: DurabilityText,
}

/// What became of a record in one of the topics that an exchange routed it to.
#[derive(Clone, Debug)]
pub struct RouteResult {
    /// The topic.
    pub topic: TopicName,
    /// What became of it there.
    pub result: RecordResult,
}

/// What became of one record of a publish to an exchange.
#[derive(Clone, Debug)]
pub enum RoutedResult {
    /// It was stored in each of these topics.
    Routes(Vec<RouteResult>),
    /// It was refused and is stored nowhere.
    Refused(Refusal),
}

impl RecordResult {
    /// What is true of the record; nothing of one that was refused.
    fn durability(&self) -> Option<DurabilityText> {
        match self {
            Self::Stored(_, stored) | Self::Processed(_, stored, _) => Some(stored.durability),
            Self::Passed(_) => Some("memory"),
            Self::Scheduled(scheduled) => Some(scheduled.durability),
            Self::Refused(_) => None,
        }
    }
}

/// Appends the `published` that answers a publish with `messages`.
pub fn published_many(
    buffer: &mut Vec<u8>,
    id: Option<&FrameId>,
    topic: &TopicName,
    results: &[RecordResult],
) {
    push_begin(buffer, id);
    buffer.extend_from_slice(b"\"topic\":\"");
    buffer.extend_from_slice(topic.as_str().as_bytes());
    buffer.extend_from_slice(b"\",\"results\":");
    push_list(buffer, results, |buffer, result| {
        buffer.push(b'{');
        push_result(buffer, result);
    });
    push_end(buffer, weakest(results.iter()));
}

/// Appends the `published` that answers a publish of one record to an exchange.
pub fn published_routes(buffer: &mut Vec<u8>, id: Option<&FrameId>, exchange: &str, routes: &[RouteResult]) {
    push_exchange(buffer, id, exchange);
    push_routes(buffer, routes);
    push_end(buffer, weakest(routes.iter().map(|route| &route.result)));
}

/// Appends the `published` that answers a publish with `messages` to an exchange.
pub fn published_routes_many(
    buffer: &mut Vec<u8>,
    id: Option<&FrameId>,
    exchange: &str,
    results: &[RoutedResult],
) {
    push_exchange(buffer, id, exchange);
    buffer.extend_from_slice(b"\"results\":");
    push_list(buffer, results, |buffer, result| {
        buffer.push(b'{');
        match result {
            RoutedResult::Routes(routes) => push_routes(buffer, routes),
            RoutedResult::Refused(refusal) => push_error(buffer, refusal),
        }
        buffer.push(b'}');
    });
    let routes = results.iter().flat_map(|result| match result {
        RoutedResult::Routes(routes) => &routes[..],
        RoutedResult::Refused(_) => &[],
    });
    push_end(buffer, weakest(routes.map(|route| &route.result)));
}

/// Appends the `published` of one record that is to be delivered later.
pub fn scheduled(buffer: &mut Vec<u8>, id: Option<&FrameId>, topic: &TopicName, scheduled: &Scheduled) {
    push_begin(buffer, id);
    buffer.extend_from_slice(format!("\"topic\":\"{topic}\",").as_bytes());
    push_scheduled(buffer, scheduled);
    push_end(buffer, Some(scheduled.durability));
}

/// Appends the `published` of one record that was given to live subscribers and not stored.
pub fn passed(buffer: &mut Vec<u8>, id: Option<&FrameId>, topic: &TopicName, partition: PartitionId) {
    push_begin(buffer, id);
    buffer.extend_from_slice(format!("\"topic\":\"{topic}\",\"partition\":{partition}").as_bytes());
    push_end(buffer, Some("memory"));
}

fn push_begin(buffer: &mut Vec<u8>, id: Option<&FrameId>) {
    buffer.push(b'{');
    if let Some(id) = id {
        buffer.extend_from_slice(b"\"type\":\"published\",\"id\":");
        push_id(buffer, id);
        buffer.push(b',');
    }
}

/// The default exchange has an empty name and every other one needs no escaping, as a topic's.
fn push_exchange(buffer: &mut Vec<u8>, id: Option<&FrameId>, exchange: &str) {
    push_begin(buffer, id);
    buffer.extend_from_slice(b"\"exchange\":");
    crate::json::push_text(buffer, exchange);
    buffer.push(b',');
}

fn push_end(buffer: &mut Vec<u8>, durability: Option<DurabilityText>) {
    if let Some(durability) = durability {
        buffer.extend_from_slice(b",\"durability\":\"");
        buffer.extend_from_slice(durability.as_bytes());
        buffer.push(b'"');
    }
    buffer.push(b'}');
}

fn push_list<T>(buffer: &mut Vec<u8>, items: &[T], mut push: impl FnMut(&mut Vec<u8>, &T)) {
    buffer.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        push(buffer, item);
    }
    buffer.push(b']');
}

fn push_routes(buffer: &mut Vec<u8>, routes: &[RouteResult]) {
    buffer.extend_from_slice(b"\"routes\":");
    push_list(buffer, routes, |buffer, route| {
        buffer.extend_from_slice(b"{\"topic\":\"");
        buffer.extend_from_slice(route.topic.as_str().as_bytes());
        buffer.extend_from_slice(b"\",");
        push_result(buffer, &route.result);
    });
}

/// Appends the members of an entry and its closing brace.
fn push_result(buffer: &mut Vec<u8>, result: &RecordResult) {
    match result {
        RecordResult::Stored(partition, stored) => push_place(buffer, *partition, stored),
        RecordResult::Processed(partition, stored, result) => {
            push_place(buffer, *partition, stored);
            buffer.extend_from_slice(b",\"result\":");
            buffer.extend_from_slice(result);
        }
        RecordResult::Passed(partition) => {
            buffer.extend_from_slice(b"\"partition\":");
            push_integer(buffer, u64::from(partition.0));
        }
        RecordResult::Scheduled(scheduled) => push_scheduled(buffer, scheduled),
        RecordResult::Refused(refusal) => push_error(buffer, refusal),
    }
    buffer.push(b'}');
}

/// Appends where a record is.
fn push_place(buffer: &mut Vec<u8>, partition: PartitionId, stored: &Stored) {
    buffer.extend_from_slice(b"\"partition\":");
    push_integer(buffer, u64::from(partition.0));
    buffer.extend_from_slice(b",\"offset\":");
    push_integer(buffer, stored.offset.0);
    if stored.duplicate {
        buffer.extend_from_slice(b",\"duplicate\":true");
    }
}

fn push_scheduled(buffer: &mut Vec<u8>, scheduled: &Scheduled) {
    let named = format!("\"scheduled\":\"{}\",\"deliver_at\":", scheduled.id);
    buffer.extend_from_slice(named.as_bytes());
    push_integer(buffer, scheduled.deliver_at.0);
    if scheduled.duplicate {
        buffer.extend_from_slice(b",\"duplicate\":true");
    }
}

fn push_error(buffer: &mut Vec<u8>, refusal: &Refusal) {
    buffer.extend_from_slice(b"\"error\":{");
    push_refusal(buffer, refusal);
    buffer.push(b'}');
}

/// The weakest durability of those that were not refused.
fn weakest<'a>(results: impl Iterator<Item = &'a RecordResult>) -> Option<DurabilityText> {
    results.filter_map(RecordResult::durability).reduce(weaker)
}

/// The weaker of two durabilities.
pub(super) fn weaker(left: DurabilityText, right: DurabilityText) -> DurabilityText {
    let rank = |text: DurabilityText| {
        ["memory", "os", "fsync", "replicated"]
            .iter()
            .position(|t| *t == text)
    };
    if rank(left) <= rank(right) { left } else { right }
}
