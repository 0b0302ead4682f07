//! How often an actor died lately, and how long to wait before it is started again.

use std::time::Duration;

use callboard_protocol::Timestamp;

/// An actor that died is started again after this long, doubled each time up to the maximum.
const RESTART_DELAY: Duration = Duration::from_millis(10);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// So long without dying, and the next death counts as the first.
const RAN_WELL_MS: u64 = 60_000;

/// The deaths of one actor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaths {
    /// How many followed one another.
    count: u32,
    last_at: Timestamp,
}

impl Deaths {
    /// It died again; returns how long to wait.
    pub fn died(&mut self, now: Timestamp) -> Duration {
        // One that ran well for long is not made to wait for what it did then.
        let ran_well = now.since(self.last_at) >= RAN_WELL_MS;
        self.count = if ran_well { 1 } else { self.count + 1 };
        self.last_at = now;
        (RESTART_DELAY * 2u32.saturating_pow(self.count - 1)).min(RESTART_DELAY_MAX)
    }
}
