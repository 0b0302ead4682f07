//! Whether a source that should speak has fallen silent.
//!
//! Decides from when its last record came and how long it may say nothing; told once each way. Has no clock
//! and sees no record. Called by the topic whose configuration asks for it.

use callboard_protocol::Timestamp;

/// What is to be said of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has said nothing for so long.
    Silent {
        /// Milliseconds since it was last heard, or since it was first listened to.
        silent_ms: u64,
    },
    /// It speaks again.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Speaking,
    Silent,
}

/// One source.
#[derive(Clone, Debug)]
pub struct Silence {
    after_ms: u64,
    /// Since when it is listened to; what came before does not count.
    since: Timestamp,
    state: State,
}

impl Silence {
    /// A source that is silent when nothing came for `after_ms` from `now` on.
    #[must_use]
    pub fn new(now: Timestamp, after_ms: u64) -> Self {
        Self {
            after_ms,
            since: now,
            state: State::Speaking,
        }
    }

    /// How long it may say nothing.
    #[must_use]
    pub fn after_ms(&self) -> u64 {
        self.after_ms
    }

    /// Changes that, from `now` on. One that is silent stays so until it is heard.
    pub fn set_after(&mut self, now: Timestamp, after_ms: u64) {
        if self.after_ms != after_ms {
            self.after_ms = after_ms;
            self.since = now;
        }
    }

    /// Whether its silence was told and has not ended.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.state == State::Silent
    }

    /// Looks whether it is silent at `now`; `last` is when its newest record came, if there is one.
    pub fn look(&mut self, now: Timestamp, last: Option<Timestamp>) -> Option<News> {
        let silent_ms = now.since(self.heard(last));
        if self.is_silent() || silent_ms < self.after_ms {
            return None;
        }
        self.state = State::Silent;
        Some(News::Silent { silent_ms })
    }

    /// A record came at `now`.
    pub fn heard_now(&mut self, now: Timestamp) -> Option<News> {
        if !self.is_silent() {
            return None;
        }
        self.state = State::Speaking;
        self.since = self.since.max(now);
        Some(News::Back)
    }

    /// When to look again; while it is silent not before it is heard.
    #[must_use]
    pub fn next_timeout(&self, last: Option<Timestamp>) -> Option<Timestamp> {
        (!self.is_silent()).then(|| self.heard(last).plus_ms(self.after_ms))
    }

    fn heard(&self, last: Option<Timestamp>) -> Timestamp {
        last.unwrap_or(self.since).max(self.since)
    }
}
