//! Every limit of the protocol, with its unit last in the name.

/// Largest client frame: one JSON object, or one line in `callboard.v1.ndjson`.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest WebSocket message; an ndjson message may hold several frames up to this together.
pub const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Deepest nesting of a payload; an empty array is 1 deep.
pub const PAYLOAD_DEPTH_MAX: usize = 128;
/// Longest record key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest `message_id`; the shortest is 1.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
/// Longest topic or exchange name.
pub const TOPIC_NAME_BYTES_MAX: usize = 255;
/// Longest routing key, and longest key of a binding.
pub const ROUTING_KEY_BYTES_MAX: usize = 255;
/// Longest group or member name.
pub const GROUP_NAME_BYTES_MAX: usize = 64;
/// Deliveries that a member of a group has out at most, unless it says otherwise.
pub const GROUP_CREDIT_DEFAULT: u64 = 256;
/// Shortest lease that can be asked for.
pub const LEASE_MS_MIN: u64 = 100;
/// Longest lease that can be asked for: a day.
pub const LEASE_MS_MAX: u64 = 86_400_000;
/// Most deliveries that one `ack`, `nack` or `extend` settles.
pub const DELIVERIES_MAX: usize = 10_000;
/// Longest textual frame id.
pub const FRAME_ID_BYTES_MAX: usize = 64;
/// Most partitions of one topic.
pub const PARTITIONS_MAX: u32 = 1024;
/// Most records in one `publish` with `messages`.
pub const PUBLISH_RECORDS_MAX: usize = 10_000;
/// Longest wait for a record that is delivered later, by `delay_ms` or `deliver_at`: 100 years.
pub const DELAY_MS_MAX: u64 = 100 * 31_557_600_000;
/// Longest `correlation_id` of a notice; the shortest is 1.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;
/// Longest URL that a notice goes to.
pub const NOTIFY_URL_BYTES_MAX: usize = 2048;
/// Most records that one `fetch` returns; a larger `limit` is cut to this.
pub const FETCH_RECORDS_MAX: u64 = 1000;
/// `fetch` without `limit`.
pub const FETCH_RECORDS_DEFAULT: u64 = 100;
/// A `fetch` page ends after this many bytes, but has at least one record.
pub const FETCH_BYTES_MAX: usize = 1 << 20;
/// Most headers of one record.
pub const HEADERS_MAX: usize = 64;
/// Most bytes of one record's headers as JSON.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Quiet time after which the broker sends a Ping.
pub const HEARTBEAT_MS: u64 = 15_000;
/// A session ends when nothing came and its socket took nothing for this long.
pub const SESSION_TIMEOUT_MS: u64 = 120_000;
/// A member of a group whose socket takes nothing for so long is out.
pub const MEMBER_TIMEOUT_MS: u64 = 30_000;
/// How long a named member's partitions wait for it to come back.
pub const REJOIN_GRACE_MS: u64 = 5_000;
/// How long a member may commit what it was given of a partition that it loses.
pub const REVOKE_GRACE_MS: u64 = 1_000;
/// What `goaway` and `overloaded` suggest to wait.
pub const RETRY_AFTER_MS: u64 = 1_000;
/// Most subscriptions of one session.
pub const SUBSCRIPTIONS_MAX: usize = 1024;
