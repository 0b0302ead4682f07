//! The way of an append whose records are due later: into the schedule log.

use callboard_core::{
    partition::{DraftEntry, check_size},
    schedule::{SCHEDULED_MAX, Turn, log::Entry, log::Scheduled},
    topic::Durability,
};
use callboard_protocol::{
    ErrorCode, Offset, ScheduleId, Timestamp,
    error::Refusal,
    server::{self, RecordResult, Stored},
};

use super::{Open, Then};
use crate::actors::{
    append::{Append, Settlement},
    clock,
    partition::PartitionActor,
};

/// Most bytes of scheduled records that a partition of a `memory` topic keeps; others take what the disk has.
const MEMORY_BYTES_MAX: u64 = if cfg!(test) { 8 << 20 } else { 256 << 20 };

/// What an append writes, and what it waits for.
#[derive(Default)]
struct Written {
    records: Vec<u8>,
    count: u32,
    /// Something that it answers with is committed with the log up to here …
    until: Offset,
    /// … or with the partition up to there.
    stored_until: Offset,
}

impl PartitionActor {
    /// Schedules the records of an append; it waits if the log is not there yet.
    pub(in crate::actors::partition) fn schedule(&mut self, append: Append) {
        if self.later.log.is_none() || self.later.broken.is_some() {
            return self.later.early.push(append);
        }
        let now = clock::now();
        let base = self
            .later
            .log
            .as_ref()
            .map_or(Offset::ZERO, |log| log.index.next_place());
        let mut written = Written::default();
        let mut results = Vec::with_capacity(append.count());
        let mut start = 0;
        for (entry, due) in append.draft.entries.iter().zip(&append.dues) {
            let end = start + entry.bytes as usize;
            let record = &append.draft.records[start..end];
            results.push(self.schedule_one((entry, record), *due, now, &mut written));
            start = end;
        }
        let Written {
            records,
            count,
            until,
            stored_until,
        } = written;
        let durability = self.topic.durability.into();
        let visible = self.visible();
        let Some(log) = &mut self.later.log else { return };
        let is_known = until <= log.committed && stored_until <= visible;
        if count == 0 && is_known {
            return self.settle(append.receipt, Settlement::Scheduled(results));
        }
        log.open.push_back(Open {
            until,
            stored_until,
            then: Then::Answer(append.receipt, results),
        });
        if count > 0 {
            let submission = log.submission((base, count), now, records, durability);
            self.submit_schedules(submission);
        }
        self.later.touched = true;
    }

    fn schedule_one(
        &mut self,
        (entry, record): (&DraftEntry, &[u8]),
        due: Timestamp,
        now: Timestamp,
        written: &mut Written,
    ) -> RecordResult {
        if let Err(refusal) = check_size(record, self.topic.record_bytes_max) {
            return RecordResult::Refused(refusal);
        }
        let window_ms = self.topic.dedup_window_ms;
        let durability = self.durability();
        let id = entry.message_id.as_deref().filter(|_| window_ms > 0);
        let stored = self
            .state
            .as_mut()
            .zip(id)
            .and_then(|(state, id)| state.repeated(now, id, window_ms));
        if let Some(offset) = stored {
            written.stored_until = written.stored_until.max(offset.plus(1));
            let stored = Stored {
                offset,
                duplicate: true,
                durability,
            };
            return RecordResult::Stored(self.part.id, stored);
        }
        let partition = self.part.id;
        let scheduled = |turn: Turn, duplicate| {
            let number = turn.number;
            RecordResult::Scheduled(server::Scheduled {
                id: ScheduleId { partition, number },
                deliver_at: turn.due,
                duplicate,
                durability,
            })
        };
        let Some(log) = &mut self.later.log else {
            return RecordResult::Refused(crate::actors::append::lost());
        };
        if let Some(waiting) = id.and_then(|id| log.index.repeated(id, now, window_ms)) {
            written.until = written.until.max(waiting.place.plus(1));
            return scheduled(waiting.turn, true);
        }
        if log.index.is_full() {
            return RecordResult::Refused(Refusal::new(
                ErrorCode::Overloaded,
                format!("the partition has {SCHEDULED_MAX} records that are due later, as many as it may"),
            ));
        }
        let is_in_memory = self.topic.durability == Durability::Memory;
        if is_in_memory && log.index.kept_bytes() + record.len() as u64 > MEMORY_BYTES_MAX {
            let message = format!(
                "a partition in memory keeps at most {MEMORY_BYTES_MAX} bytes of records that are due later"
            );
            return RecordResult::Refused(Refusal::new(ErrorCode::Overloaded, message));
        }
        let entry = Scheduled { at: now, due, record };
        let bytes = Entry::Scheduled(entry).encode(&mut written.records);
        let waiting = log.index.add(&entry, bytes);
        log.payloads.keep(waiting.turn, record, now);
        written.count += 1;
        written.until = waiting.place.plus(1);
        scheduled(waiting.turn, false)
    }
}
