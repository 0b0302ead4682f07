//! When a partition was last heard, for the one who listens whether its topic falls silent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use callboard_protocol::Timestamp;

/// Written by one thread, with each batch; read by the topic's.
#[derive(Default)]
pub struct Hearing {
    /// 0 if there was none.
    last_ms: AtomicU64,
    is_awaited: AtomicBool,
}

impl Hearing {
    /// A record came at this time; whether somebody waited to hear that.
    pub(in crate::actors) fn note(&self, at: Timestamp) -> bool {
        self.last_ms.store(at.0, Ordering::Release);
        // Exchanged and not only read: either the one who waits has seen the time, or this sees that it waits.
        self.is_awaited.swap(false, Ordering::AcqRel)
    }

    /// The newest record that is kept came at this time.
    pub(in crate::actors) fn restore(&self, at: Timestamp) {
        self.last_ms.fetch_max(at.0, Ordering::AcqRel);
    }

    /// When the newest record came, if there was one.
    pub(in crate::actors) fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last_ms.load(Ordering::Acquire))).filter(|last| last.0 > 0)
    }

    /// Wants to hear of the next record.
    pub(in crate::actors) fn listen(&self) {
        self.is_awaited.swap(true, Ordering::AcqRel);
    }
}
