//! One partition: gives offsets and timestamps, refuses what does not fit, knows repeats, and says
//! what is visible.
//!
//! Owns numbers and remembered message ids, never the records: those go on as a [`Batch`] to the store.
//! Its one caller is the partition's single writer. An offset is *given* at admission, *committed* when
//! the store has the record as durable as promised, and given again only if the store refused it.

use callboard_protocol::{ErrorCode, Offset, Timestamp, error::Refusal};

use crate::{
    dedup::RecentIds,
    record::{Batch, RecordParts},
};

pub use crate::dedup::DEDUP_IDS_MAX;

/// What a session hands over for one partition.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The encoded records back to back, in the order sent.
    pub records: Vec<u8>,
    /// One for each record, in the same order; their lengths add up to that of `records`.
    pub entries: Vec<DraftEntry>,
}

/// What admission must know of one record without decoding it.
#[derive(Clone, Debug, Default)]
pub struct DraftEntry {
    /// Length of its encoding.
    pub bytes: u32,
    /// Its message id, if it carries one.
    pub message_id: Option<Box<[u8]>>,
}

/// What the topic allows just now.
#[derive(Clone, Copy, Debug)]
pub struct AdmitLimits {
    /// How long a message id is remembered; 0 is off, and then ids are ignored.
    pub dedup_window_ms: u64,
    /// Most records kept.
    pub records_max: Option<u64>,
    /// Most bytes of one record's content.
    pub record_bytes_max: u64,
    /// Records that count against `records_max` already, with those that are not visible yet.
    pub kept: u64,
}

/// What became of a draft.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The records that got offsets, to be submitted to the store; `None` if none did.
    pub batch: Option<Batch>,
    /// What to answer.
    pub outcomes: Outcomes,
}

/// What became of a draft's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// Every record was stored, at consecutive offsets from the batch's first.
    AllStored,
    /// One outcome for each record, in the order sent.
    Each(Vec<Outcome>),
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has this offset, once the batch is committed.
    Stored(Offset),
    /// A repeat of the record at this offset, which may itself still wait to be committed: it does if
    /// the offset is not below [`Partition::visible_next`].
    Duplicate(Offset),
    /// Nothing was stored, and why.
    Refused(Refusal),
}

/// The state of one partition at its single writer.
#[derive(Debug)]
pub struct Partition {
    /// The offset that the next record gets.
    next: Offset,
    /// The offset after the last committed record.
    visible: Offset,
    /// No record gets an earlier timestamp than this.
    last_timestamp: Timestamp,
    recent: RecentIds,
}

impl Partition {
    /// A partition as the store opened it; the ids inside the window follow by [`Self::remember`].
    #[must_use]
    pub fn new(next_offset: Offset, last_timestamp: Timestamp) -> Self {
        Self {
            next: next_offset,
            visible: next_offset,
            last_timestamp,
            recent: RecentIds::default(),
        }
    }

    /// The record that carried this message id inside the window; it may itself still wait to be committed.
    pub fn repeated(&mut self, now: Timestamp, message_id: &[u8], window_ms: u64) -> Option<Offset> {
        self.recent.forget_old(now.max(self.last_timestamp), window_ms);
        self.recent.offset_of(message_id)
    }

    /// Takes in the message id of a stored record when the partition is opened, oldest first.
    pub fn remember(&mut self, message_id: &[u8], offset: Offset, timestamp: Timestamp) {
        debug_assert!(
            offset < self.next && self.visible == self.next,
            "remembered before the first admission"
        );
        self.recent.insert(message_id.into(), offset, timestamp);
    }

    /// Gives offsets and a timestamp to the draft's records that fit and are no repeats.
    ///
    /// The timestamp is `now`, or that of the last record if the clock went back. Each record stands
    /// alone. A draft of which every record is stored becomes the batch without being copied.
    ///
    /// A record is refused with `record_too_large`; with `topic_full`, unless it is a repeat; and with
    /// `overloaded` if it carries an id and [`DEDUP_IDS_MAX`] are remembered already.
    pub fn admit(&mut self, now: Timestamp, draft: Draft, limits: &AdmitLimits) -> Admission {
        let now = now.max(self.last_timestamp);
        self.recent.forget_old(now, limits.dedup_window_ms);
        let count = draft.entries.len() as u64;
        let has_room = limits
            .records_max
            .is_none_or(|max| limits.kept.saturating_add(count) <= max);
        let is_plain = |entry: &DraftEntry| {
            u64::from(entry.bytes) <= limits.record_bytes_max
                && (entry.message_id.is_none() || limits.dedup_window_ms == 0)
        };
        if count > 0 && has_room && draft.entries.iter().all(is_plain) {
            return Admission {
                batch: Some(self.give_offsets(now, count, draft.records)),
                outcomes: Outcomes::AllStored,
            };
        }
        self.admit_each(now, draft, limits)
    }

    /// The way of drafts with message ids, or of which a record may not fit.
    fn admit_each(&mut self, now: Timestamp, draft: Draft, limits: &AdmitLimits) -> Admission {
        let Draft { mut records, entries } = draft;
        let mut outcomes = Vec::with_capacity(entries.len());
        let (mut read, mut written, mut stored) = (0, 0, 0);
        for entry in entries {
            let end = read + entry.bytes as usize;
            let offset = self.next.plus(stored);
            let kept = limits.kept.saturating_add(stored);
            let outcome = self.judge(
                entry,
                &records[read..end],
                (offset, now),
                &AdmitLimits { kept, ..*limits },
            );
            if matches!(outcome, Outcome::Stored(_)) {
                // Closes the gaps that earlier records left, so that what is stored lies back to back.
                if written != read {
                    records.copy_within(read..end, written);
                }
                written += end - read;
                stored += 1;
            }
            outcomes.push(outcome);
            read = end;
        }
        debug_assert_eq!(read, records.len(), "the entries cover the records");
        if written < records.len() {
            records.truncate(written);
            records.shrink_to_fit();
        }
        let all_stored = stored > 0 && stored == outcomes.len() as u64;
        Admission {
            batch: (stored > 0).then(|| self.give_offsets(now, stored, records)),
            outcomes: if all_stored {
                Outcomes::AllStored
            } else {
                Outcomes::Each(outcomes)
            },
        }
    }

    /// Decides about one record that would get the offset and timestamp of `place`, and remembers its
    /// id if it does.
    fn judge(
        &mut self,
        entry: DraftEntry,
        record: &[u8],
        place: (Offset, Timestamp),
        limits: &AdmitLimits,
    ) -> Outcome {
        if let Err(refusal) = check_size(record, limits.record_bytes_max) {
            return Outcome::Refused(refusal);
        }
        let message_id = entry.message_id.filter(|_| limits.dedup_window_ms > 0);
        // Before the topic's bounds, because a repeat stores nothing and must be answered as the first was.
        if let Some(offset) = message_id.as_deref().and_then(|id| self.recent.offset_of(id)) {
            return Outcome::Duplicate(offset);
        }
        if let Some(records_max) = limits.records_max.filter(|&max| limits.kept >= max) {
            return refused(
                ErrorCode::TopicFull,
                format!("the topic keeps its records_max of {records_max} records"),
            );
        }
        let (offset, timestamp) = place;
        if let Some(id) = message_id {
            if self.recent.is_full() {
                return refused(
                    ErrorCode::Overloaded,
                    format!(
                        "{DEDUP_IDS_MAX} message ids are inside dedup_window_ms; send slower, or make it shorter"
                    ),
                );
            }
            self.recent.insert(id.into(), offset, timestamp);
        }
        Outcome::Stored(offset)
    }

    fn give_offsets(&mut self, timestamp: Timestamp, count: u64, records: Vec<u8>) -> Batch {
        let base_offset = self.next;
        self.next = base_offset.plus(count);
        self.last_timestamp = timestamp;
        Batch {
            base_offset,
            timestamp,
            count: u32::try_from(count).expect("a frame's records are counted in a u32"),
            records: records.into(),
        }
    }

    /// Makes the records before `next_offset` visible; never takes visibility back.
    pub fn commit(&mut self, next_offset: Offset) {
        debug_assert!(next_offset <= self.next, "only what was given can be committed");
        self.visible = self.visible.max(next_offset.min(self.next));
    }

    /// Takes back every offset from `from_offset` on that is not committed: they are given again, and
    /// the message ids that got them are forgotten, so that a retry is no repeat.
    pub fn fail(&mut self, from_offset: Offset) {
        debug_assert!(from_offset >= self.visible, "what is committed can not fail");
        let from_offset = from_offset.max(self.visible);
        self.next = self.next.min(from_offset);
        self.recent.forget_from(from_offset);
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// The offset after the last record that may be shown.
    #[must_use]
    pub fn visible_next(&self) -> Offset {
        self.visible
    }

    /// The timestamp of the newest record; the next one is not earlier.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }
}

/// Checks an encoded record against the topic's bound on what the publisher gave.
///
/// # Errors
/// `record_too_large`.
pub fn check_size(record: &[u8], record_bytes_max: u64) -> Result<(), Refusal> {
    // The encoding is longer than what it encodes, so mostly it need not be decoded.
    if record.len() as u64 <= record_bytes_max {
        return Ok(());
    }
    let content_bytes = RecordParts::decode(record).map_or(record.len(), |(parts, _)| parts.content_bytes());
    if content_bytes as u64 <= record_bytes_max {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::RecordTooLarge,
        format!("the record has {content_bytes} bytes, and the topic takes at most {record_bytes_max}"),
    ))
}

fn refused(code: ErrorCode, message: String) -> Outcome {
    Outcome::Refused(Refusal::new(code, message))
}
