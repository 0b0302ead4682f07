//! Callboard's contract as types: names, ids, limits, frames and error codes.
//!
//! Everything a client and a broker must agree on lives here and nothing else: no I/O, no clock,
//! no decisions. Builds for wasm32, so that a browser speaks from the same source.
//!
//! Layout:
//! - [`id`]: newtypes for offsets, partitions, epochs, timestamps and frame ids.
//! - [`name`]: names of topics, groups, members and exchanges, and topic patterns.
//! - [`limits`]: every limit of the protocol, with its unit.
//! - [`error`]: the error codes and what each one means to a client and to HTTP.
//! - [`json`]: a validating scanner that finds a frame's fields without building a tree.
//! - [`client`]: frames that a client sends, decoded and borrowed from the message.
//! - [`server`]: frames that the broker sends, encoded straight into a buffer.
//! - [`time`]: RFC 3339 to and from milliseconds since the Unix epoch.

pub mod client;
pub mod error;
pub mod id;
pub mod json;
pub mod limits;
pub mod name;
pub mod server;
pub mod time;

pub use error::ErrorCode;
pub use id::{Epoch, FrameId, Offset, PartitionId, ScheduleId, Timestamp};
pub use name::{ExchangeKind, ExchangeName, GroupMode, GroupName, MemberName, NameError, Pattern, TopicName};
