//! What a publisher that asked for it is told of a record later on.

use super::{push_integer, push_refusal};
use crate::{Offset, PartitionId, TopicName, client::Ack, error::Refusal, json::push_text};

/// What a publisher is told of a record.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// As the publisher said it.
    pub correlation_id: &'a str,
    /// What it waited for.
    pub on: Ack,
    /// The record's topic.
    pub topic: &'a TopicName,
    /// Whether that happened.
    pub outcome: NoticeOutcome<'a>,
}

/// Whether what a publisher waited for happened.
#[derive(Clone, Copy, Debug)]
pub enum NoticeOutcome<'a> {
    /// It did.
    Reached {
        /// The record's partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// What the group that processed it says of it: JSON on one line.
        result: Option<&'a [u8]>,
    },
    /// It will not.
    Failed(&'a Refusal),
}

/// Where a notice is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeForm {
    /// To the publisher's connection, as a frame.
    Frame,
    /// To an HTTP endpoint, as the body of a request: without `type`.
    Body,
}

/// Appends a notice.
pub fn notice(buffer: &mut Vec<u8>, form: NoticeForm, notice: &Notice<'_>) {
    buffer.extend_from_slice(match form {
        NoticeForm::Frame => b"{\"type\":\"notice\",\"correlation_id\":".as_slice(),
        NoticeForm::Body => b"{\"correlation_id\":",
    });
    push_text(buffer, notice.correlation_id);
    let what = format!(
        ",\"on\":\"{}\",\"topic\":\"{}\"",
        notice.on.as_str(),
        notice.topic
    );
    buffer.extend_from_slice(what.as_bytes());
    match &notice.outcome {
        NoticeOutcome::Reached {
            partition,
            offset,
            result,
        } => {
            buffer.extend_from_slice(b",\"partition\":");
            push_integer(buffer, u64::from(partition.0));
            buffer.extend_from_slice(b",\"offset\":");
            push_integer(buffer, offset.0);
            if let Some(result) = result {
                buffer.extend_from_slice(b",\"result\":");
                buffer.extend_from_slice(result);
            }
        }
        NoticeOutcome::Failed(refusal) => {
            buffer.extend_from_slice(b",\"error\":{");
            push_refusal(buffer, refusal);
            buffer.push(b'}');
        }
    }
    buffer.push(b'}');
}
