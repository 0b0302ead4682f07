//! When records expire: of one batch, and which batches in memory are due.
//!
//! Decides nothing about files. Each batch is looked at once, when it is new, and remembered only if it will expire
//! as a whole; so asking what is due costs what is due, and not what is kept.

use std::collections::BTreeSet;

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::tail::Tail;

/// So many batches are looked at while the tail's owner waits for its lock.
const LOOK_MAX: usize = 16 * 1024;

/// When the last record of a batch expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// When.
    pub at: Timestamp,
    /// The batch's timestamp if one of its records has a message id, which may be needed longer; else 0.
    pub ids_at: Timestamp,
}

impl Expiry {
    /// Of what has expired already.
    pub const PAST: Self = Self {
        at: Timestamp(0),
        ids_at: Timestamp(0),
    };

    /// Of a batch; `None` if one of its records never expires.
    pub fn of(batch: &Batch) -> Option<Self> {
        let mut expiry = Self::PAST;
        for (_, record) in batch.iter() {
            expiry.at = expiry.at.max(batch.timestamp.plus_ms(record.ttl_ms?));
            if record.message_id.is_some() {
                expiry.ids_at = batch.timestamp;
            }
        }
        Some(expiry)
    }

    /// When the batch may go, if message ids are needed for `ids_ms`.
    pub fn may_go_at(self, ids_ms: Option<u64>) -> Timestamp {
        match ids_ms {
            Some(ids_ms) if self.ids_at.0 > 0 => self.at.max(self.ids_at.plus_ms(ids_ms)),
            _ => self.at,
        }
    }
}

/// What must be known of a batch without reading it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// `None` if one of its records never expires.
    pub expiry: Option<Expiry>,
    /// The batch's timestamp if one of its records has a message id; else 0.
    pub ids_at: Timestamp,
}

impl Contents {
    /// Of what nobody can read any more.
    pub const LOST: Self = Self {
        expiry: None,
        ids_at: Timestamp(0),
    };
    /// Of what has expired already.
    pub const PAST: Self = Self {
        expiry: Some(Expiry::PAST),
        ids_at: Timestamp(0),
    };

    /// Of a batch.
    pub fn of(batch: &Batch) -> Self {
        let has_id = batch.iter().any(|(_, record)| record.message_id.is_some());
        Self {
            expiry: Expiry::of(batch),
            ids_at: if has_id { batch.timestamp } else { Timestamp(0) },
        }
    }
}

/// Whether a look has seen everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Up to the tail's end.
    AtAll,
    /// There is more.
    AtSome,
}

/// When the batches of a tail expire.
#[derive(Debug, Default)]
pub struct Expiries {
    /// What lies before was looked at.
    looked: Offset,
    /// The batches that will expire, by when they may go.
    due: BTreeSet<(Timestamp, Offset)>,
}

impl Expiries {
    /// Looks at batches that are new.
    pub fn look(&mut self, tail: &Tail, ids_ms: Option<u64>) -> Looked {
        let from = self.looked.max(tail.first_offset());
        let mut seen = 0;
        for batch in tail.since(from).take(LOOK_MAX) {
            if let Some(expiry) = Expiry::of(batch) {
                self.due.insert((expiry.may_go_at(ids_ms), batch.base_offset));
            }
            self.looked = batch.next_offset();
            seen += 1;
        }
        if seen == LOOK_MAX {
            return Looked::AtSome;
        }
        if self.due.len() > 2 * tail.len() + LOOK_MAX {
            let first = tail.first_offset();
            self.due.retain(|(_, base)| *base >= first);
        }
        Looked::AtAll
    }

    /// When the next batch may go that was looked at.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(may_go_at, _)| *may_go_at)
    }

    /// The batches that may go at `now`, by where they begin. Said once.
    pub fn take_due(&mut self, tail: &Tail, now: Timestamp, ids_ms: Option<u64>) -> Vec<Offset> {
        let later = self.due.split_off(&(now.plus_ms(1), Offset::ZERO));
        let reached = std::mem::replace(&mut self.due, later);
        let mut due = Vec::new();
        for (_, base) in reached {
            let expiry = tail.at(base).and_then(|batch| Expiry::of(batch));
            match expiry.map(|expiry| expiry.may_go_at(ids_ms)) {
                Some(may_go_at) if may_go_at <= now => due.push(base),
                // Message ids are needed for longer by now.
                Some(may_go_at) => drop(self.due.insert((may_go_at, base))),
                None => {}
            }
        }
        due.sort_unstable();
        due
    }
}
