//! The only place where the actors ask what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use callboard_protocol::Timestamp;

/// The time now.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_epoch.as_millis() as u64)
}
