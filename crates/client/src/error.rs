//! What can go wrong between a client and its broker.

use callboard_protocol::{ErrorCode, FrameId, Offset, PartitionId};
use serde::Deserialize;

use crate::frame::Unsettled;

/// An `error` frame: the broker refused something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServerError {
    /// The frame that it answers.
    #[serde(default)]
    pub id: Option<FrameId>,
    /// The stable code, also one that this client does not know yet.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// Whether the same request may succeed later without a change.
    #[serde(default)]
    pub retryable: bool,
    /// When to try again, milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// Where reading can go on, with `expired`.
    #[serde(default)]
    pub next_offset: Option<Offset>,
    /// Which record of a batch without `id` was refused.
    #[serde(default)]
    pub index: Option<usize>,
    /// Where the record is stored, with `timeout` and `dead_lettered`.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// Its offset, with `timeout` and `dead_lettered`.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// The deliveries that could not be settled; the others of the same frame are.
    #[serde(default)]
    pub failed: Vec<Unsettled>,
}

impl ServerError {
    /// The code as one of those that this client knows.
    #[must_use]
    pub fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == self.code)
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is not one that this client can reach.
    #[error("{url} is not a broker's address: {reason}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection came about.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where to.
        url: String,
        /// What the socket or the handshake said.
        reason: String,
    },
    /// The broker refused; nothing was done.
    #[error("{0}")]
    Refused(Box<ServerError>),
    /// The connection was lost before the reply: what was asked may or may not have been done.
    #[error("the connection was lost before the reply ({reason}); it may or may not have been done")]
    Disconnected {
        /// What ended it.
        reason: String,
    },
    /// The frame is larger than the broker takes; it was not sent.
    #[error("the frame has {bytes} bytes, the broker takes at most {bytes_max}")]
    FrameTooLarge {
        /// Its length, bytes.
        bytes: usize,
        /// The broker's `frame_bytes_max`.
        bytes_max: usize,
    },
    /// The payload is not JSON, or nested too deep; it was not sent.
    #[error("the payload is {0}")]
    Payload(#[from] callboard_protocol::json::JsonError),
    /// Another subscription of this client covers some of the same topics.
    #[error("{topic} overlaps with the subscription to {other}; use a second client for it")]
    Overlap {
        /// The new one.
        topic: String,
        /// The one that is there.
        other: String,
    },
    /// The group is joined already by this client.
    #[error("this client is a member of {group} of {topic} already; use a second client for another one")]
    Joined {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
    },
    /// The delivery is not this connection's, or was settled before: the record may be with somebody else.
    #[error("the delivery is unknown: it was settled before, or came over a connection that is gone")]
    UnknownDelivery,
    /// The topic's configuration is not one; it was not sent.
    #[error("a topic's configuration is a JSON object of its fields: {reason}")]
    Configuration {
        /// What is wrong with it.
        reason: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}
