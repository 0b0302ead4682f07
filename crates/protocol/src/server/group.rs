//! What only members of groups, and the publishers that wait for them, are told.

use super::{
    MESSAGE_TYPE, MessageFields, MessagePrefix, Stored, push_id, push_integer, push_record, push_refusal,
    push_worth,
};
use crate::{ErrorCode, FrameId, GroupName, Offset, PartitionId, Timestamp, TopicName, error::Refusal};

/// What a `message` says of the lease that it comes under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number, unique in its session.
    pub delivery: u64,
    /// How often the record has been handed out, this time included.
    pub attempt: u32,
    /// When it ends if nothing is said, milliseconds from now.
    pub lease_ms: u64,
}

impl MessagePrefix {
    /// Makes the prefix of one partition as the members of `group` see it.
    ///
    /// A partitioned group's frames are then written by [`MessagePrefix::message`], a shared group's by
    /// [`MessagePrefix::leased`].
    #[must_use]
    pub fn for_group(topic: &TopicName, group: &GroupName, partition: PartitionId) -> Self {
        let message =
            format!("{MESSAGE_TYPE}\"topic\":\"{topic}\",\"group\":\"{group}\",\"partition\":{partition}");
        Self {
            message: message.into_bytes().into(),
            ..Self::new(topic, partition)
        }
    }

    /// Appends a `message` that leases its record.
    pub fn leased(
        &self,
        buffer: &mut Vec<u8>,
        offset: Offset,
        timestamp: Timestamp,
        fields: &MessageFields<'_>,
        lease: Lease,
    ) {
        buffer.extend_from_slice(&self.message);
        buffer.extend_from_slice(b",\"offset\":");
        push_integer(buffer, offset.0);
        buffer.extend_from_slice(b",\"delivery\":");
        push_integer(buffer, lease.delivery);
        buffer.extend_from_slice(b",\"attempt\":");
        push_integer(buffer, u64::from(lease.attempt));
        buffer.extend_from_slice(b",\"lease_ms\":");
        push_integer(buffer, lease.lease_ms);
        push_record(buffer, timestamp, fields);
    }

    /// Appends a `message` without its `type`, as an HTTP endpoint that is a member of the group gets it.
    pub fn pushed(
        &self,
        buffer: &mut Vec<u8>,
        (offset, attempt): (Offset, u32),
        timestamp: Timestamp,
        fields: &MessageFields<'_>,
    ) {
        buffer.push(b'{');
        buffer.extend_from_slice(&self.message[MESSAGE_TYPE.len()..]);
        buffer.extend_from_slice(b",\"offset\":");
        push_integer(buffer, offset.0);
        buffer.extend_from_slice(b",\"attempt\":");
        push_integer(buffer, u64::from(attempt));
        push_record(buffer, timestamp, fields);
    }

    /// Appends the `published` that answers one record with what came of it; `result` is JSON on one line.
    pub fn published_result(&self, buffer: &mut Vec<u8>, id: &FrameId, stored: &Stored, result: &[u8]) {
        buffer.extend_from_slice(b"{\"type\":\"published\",\"id\":");
        push_id(buffer, id);
        buffer.extend_from_slice(&self.published);
        push_integer(buffer, stored.offset.0);
        push_worth(buffer, stored);
        buffer.extend_from_slice(b",\"result\":");
        buffer.extend_from_slice(result);
        buffer.push(b'}');
    }
}

/// Appends the `error` that answers an `ack`, `nack` or `extend` of which some deliveries could not be settled;
/// the others are.
pub fn error_failed(
    buffer: &mut Vec<u8>,
    id: Option<&FrameId>,
    refusal: &Refusal,
    failed: &[(u64, ErrorCode)],
) {
    buffer.extend_from_slice(b"{\"type\":\"error\",");
    if let Some(id) = id {
        buffer.extend_from_slice(b"\"id\":");
        push_id(buffer, id);
        buffer.push(b',');
    }
    push_refusal(buffer, refusal);
    buffer.extend_from_slice(b",\"failed\":[");
    for (index, (delivery, code)) in failed.iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(b"{\"delivery\":");
        push_integer(buffer, *delivery);
        buffer.extend_from_slice(b",\"code\":\"");
        buffer.extend_from_slice(code.as_str().as_bytes());
        buffer.extend_from_slice(b"\"}");
    }
    buffer.extend_from_slice(b"]}");
}
