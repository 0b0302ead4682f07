//! The broker's decisions as pure state machines: no I/O, no clock, no randomness, no threads.
//!
//! Time and chance come in as arguments, so that thousands of schedules can be played in virtual time
//! and the same core runs in the server and, compiled to WebAssembly, in a browser tab. Its tests are
//! the crate `callboard-core-conformance` beside it, because they run in both places too.
//!
//! Layout:
//! - [`record`]: a record's encoding and the batch, the unit of everything after admission.
//! - [`topic`]: a topic's configuration, and which partition a key belongs to.
//! - [`hash`]: the stable hash behind that.
//! - [`partition`]: gives offsets, refuses what does not fit, knows repeats and what is visible.
//! - [`subscription`]: where one plain subscriber stands in one partition, pushed to or reading on.
//! - [`position`]: where a subscription begins: latest, earliest, last, time, offsets.
//! - [`member`]: what groups of both kinds know their members by.
//! - [`group`]: partitioned groups: who owns which partition, when it moves, how far it is committed.
//! - [`group_log`]: what happened in a group, as the entries of its log.
//! - [`lease`]: shared groups, where each record is leased to one member.
//! - [`schedule`]: records that are due later, when to wake for them, and the log that keeps them.
//! - [`silence`]: whether a source that should speak has fallen silent.
//! - [`exchange`]: exchanges and their bindings: which topics a routing key reaches.
//! - [`patterns`]: which of many subscribers' patterns a topic's name matches.

mod checksum;
mod dedup;
pub mod exchange;
pub mod group;
pub mod group_log;
pub mod hash;
pub mod lease;
pub mod member;
pub mod partition;
pub mod patterns;
pub mod position;
pub mod record;
pub mod schedule;
pub mod silence;
pub mod subscription;
pub mod topic;
mod varint;
