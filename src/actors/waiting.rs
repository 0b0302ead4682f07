//! How many publishes wait, for whom and for what: numbers that several threads share.
//!
//! Owns no publish. A session's [`SessionWaits`] bound what waits for it over all partitions; a partition's
//! [`Waits`] say to whoever delivers or finishes records whether anybody must be told of it, so that nothing
//! is sent while nobody waits. Counted by sessions and partitions, taken back by the session's hub.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use callboard_protocol::{ErrorCode, error::Refusal};

/// Most records of one session that wait to be delivered, to be processed or for room.
pub const WAITING_RECORDS_MAX: usize = 1024;
/// Most bytes of them; a single record may be larger.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// A part of what a session has waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Records.
    pub records: usize,
    /// Bytes of them, encoded.
    pub bytes: usize,
}

impl Held {
    /// One record of so many bytes.
    pub fn one(bytes: usize) -> Self {
        Self { records: 1, bytes }
    }

    /// Adds another part.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// What one session has waiting, over all partitions.
#[derive(Debug, Default)]
pub struct SessionWaits {
    records: AtomicUsize,
    bytes: AtomicUsize,
    ended: AtomicBool,
}

impl SessionWaits {
    /// Counts a record of `bytes` that is going to wait.
    ///
    /// # Errors
    /// `overloaded` when the session has as much waiting as it may.
    pub fn hold(&self, bytes: usize) -> Result<Held, Refusal> {
        let held = Held::one(bytes);
        // Counted first and taken back, because several partitions may count for one session at a time.
        let records_before = self.records.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = records_before < WAITING_RECORDS_MAX && bytes_before + bytes <= WAITING_BYTES_MAX;
        if fits || records_before == 0 {
            return Ok(held);
        }
        self.release(held);
        Err(Refusal::new(
            ErrorCode::Overloaded,
            format!(
                "a session has at most {WAITING_RECORDS_MAX} records or {WAITING_BYTES_MAX} bytes waiting"
            ),
        ))
    }

    /// Takes back what no longer waits.
    pub fn release(&self, held: Held) {
        if held.records > 0 {
            self.records.fetch_sub(held.records, Ordering::AcqRel);
            self.bytes.fetch_sub(held.bytes, Ordering::AcqRel);
        }
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    /// The session is over: nobody wants to know any more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// What publishers wait for at one partition. Counted before the records that they wait for can be seen, so
/// whoever sees a record and then finds 0 here has nobody to tell.
#[derive(Debug, Default)]
pub struct Waits {
    delivered: AtomicU64,
    processed: AtomicU64,
    for_room: AtomicBool,
    due_for_room: AtomicBool,
}

impl Waits {
    /// Records whose publishers wait until some subscription was sent them.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// Records whose publishers wait until a shared group finished them.
    pub fn processed(&self) -> u64 {
        self.processed.load(Ordering::Acquire)
    }

    /// Whether publishers, or records that are due, wait for records to be finished because the topic is full.
    pub fn for_room(&self) -> bool {
        self.for_room.load(Ordering::SeqCst) || self.due_for_room.load(Ordering::SeqCst)
    }

    pub(super) fn counter(&self, until: Until) -> &AtomicU64 {
        match until {
            Until::Delivered => &self.delivered,
            Until::Processed => &self.processed,
        }
    }

    pub(super) fn set_for_room(&self, waits: bool) {
        self.for_room.store(waits, Ordering::SeqCst);
    }

    pub(super) fn set_due_for_room(&self, waits: bool) {
        self.due_for_room.store(waits, Ordering::SeqCst);
    }
}

/// What the publisher of a stored record waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Some subscription was sent it.
    Delivered,
    /// A shared group acked it, or gave it up.
    Processed,
}
