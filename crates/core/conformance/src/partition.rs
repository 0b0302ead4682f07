//! Promises of admission: a model on plain lists, played against the real partition.

use std::collections::VecDeque;

use callboard_core::{
    partition::{Admission, AdmitLimits, DEDUP_IDS_MAX, Draft, DraftEntry, Outcome, Outcomes, Partition},
    record::{Batch, RecordParts},
};
use callboard_protocol::{ErrorCode, Offset, Timestamp};

use crate::random::Random;

const LIMITS: AdmitLimits = AdmitLimits {
    dedup_window_ms: 1000,
    records_max: None,
    record_bytes_max: 1 << 20,
    kept: 0,
};

/// What one record of a draft is given as: its message id and its payload.
type Given = (Option<String>, String);

fn draft(given: &[Given]) -> Draft {
    let mut draft = Draft::default();
    for (message_id, payload) in given {
        let parts = RecordParts {
            message_id: message_id.as_deref(),
            payload: payload.as_bytes(),
            ..RecordParts::default()
        };
        let bytes = parts.encode(&mut draft.records) as u32;
        draft.entries.push(DraftEntry {
            bytes,
            message_id: message_id.as_ref().map(|id| id.as_bytes().into()),
        });
    }
    draft
}

fn with_id(id: &str) -> Given {
    (Some(id.to_owned()), format!("payload of {id}"))
}

fn payloads(batch: &Batch) -> Vec<String> {
    batch
        .iter()
        .map(|(_, parts)| String::from_utf8_lossy(parts.payload).into_owned())
        .collect()
}

/// An outcome without a refusal's sentence.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Stored(u64),
    Duplicate(u64),
    Refused(ErrorCode),
}

fn answers(admission: &Admission) -> Vec<Answer> {
    match &admission.outcomes {
        Outcomes::AllStored => {
            let batch = admission
                .batch
                .as_ref()
                .expect("all were stored, so there is a batch");
            (batch.base_offset.0..batch.next_offset().0)
                .map(Answer::Stored)
                .collect()
        }
        Outcomes::Each(outcomes) => {
            let answer = |outcome: &Outcome| match outcome {
                Outcome::Stored(offset) => Answer::Stored(offset.0),
                Outcome::Duplicate(offset) => Answer::Duplicate(offset.0),
                Outcome::Refused(refusal) => Answer::Refused(refusal.code),
            };
            outcomes.iter().map(answer).collect()
        }
    }
}

/// A partition on plain lists: every given record, and how far they are committed.
#[derive(Default)]
struct Model {
    /// The record at each offset: its id, timestamp and payload.
    records: Vec<(Option<String>, u64, String)>,
    committed: usize,
    last_timestamp: u64,
    /// Offsets below this are forgotten as first appearances of an id.
    forgotten: usize,
    /// Where each batch ends that is given and not committed.
    pending: VecDeque<usize>,
}

impl Model {
    /// Answers the draft, and returns the payloads that are stored.
    fn admit(&mut self, now: u64, given: &[Given], limits: &AdmitLimits) -> (Vec<Answer>, Vec<String>) {
        let now = now.max(self.last_timestamp);
        let is_old = |record: &&(Option<String>, u64, String)| now - record.1 >= limits.dedup_window_ms;
        self.forgotten = self.forgotten.max(self.records.iter().take_while(is_old).count());
        let base = self.records.len();
        let mut answers = Vec::new();
        for (id, payload) in given {
            let id = id.clone().filter(|_| limits.dedup_window_ms > 0);
            let repeats = |record: &(Option<String>, u64, String)| id.is_some() && record.0 == id;
            // The latest one, should a clock that went back have brought an older one into the window again.
            let first = (self.forgotten..self.records.len()).rfind(|&offset| repeats(&self.records[offset]));
            let kept = limits.kept + (self.records.len() - base) as u64;
            let content = payload.len() + id.as_ref().map_or(0, String::len);
            answers.push(if content as u64 > limits.record_bytes_max {
                Answer::Refused(ErrorCode::RecordTooLarge)
            } else if let Some(first) = first {
                Answer::Duplicate(first as u64)
            } else if limits.records_max.is_some_and(|max| kept >= max) {
                Answer::Refused(ErrorCode::TopicFull)
            } else {
                self.records.push((id, now, payload.clone()));
                Answer::Stored(self.records.len() as u64 - 1)
            });
        }
        let stored = self.records[base..]
            .iter()
            .map(|record| record.2.clone())
            .collect::<Vec<_>>();
        if !stored.is_empty() {
            self.pending.push_back(self.records.len());
            self.last_timestamp = now;
        }
        (answers, stored)
    }

    /// Opens the partition again with what was committed, as after a crash.
    fn reopen(&mut self, now: u64, window_ms: u64) -> Partition {
        self.records.truncate(self.committed);
        self.pending.clear();
        self.last_timestamp = self.records.last().map_or(0, |record| record.1);
        let mut partition = Partition::new(Offset(self.committed as u64), Timestamp(self.last_timestamp));
        let since = now.saturating_sub(window_ms);
        self.forgotten = self.records.iter().take_while(|record| record.1 < since).count();
        for (offset, (id, timestamp, _)) in self.records.iter().enumerate().skip(self.forgotten) {
            if let Some(id) = id {
                partition.remember(id.as_bytes(), Offset(offset as u64), Timestamp(*timestamp));
            }
        }
        partition
    }
}

/// One random draft: few different ids, so that they come again; some records too large.
fn random_draft(random: &mut Random, number: &mut u64, with_ids: bool) -> Vec<Given> {
    (0..random.below(7))
        .map(|_| {
            *number += 1;
            let id = (with_ids && random.chance(1, 2)).then(|| format!("id-{}", random.below(12)));
            let padding = if random.chance(1, 12) {
                60
            } else {
                random.below(20)
            };
            (id, format!("{number}-{}", "x".repeat(padding as usize)))
        })
        .collect()
}

fn random_limits(random: &mut Random, dedup_window_ms: u64) -> AdmitLimits {
    AdmitLimits {
        dedup_window_ms,
        records_max: random.chance(1, 3).then(|| random.below(8)),
        record_bytes_max: *random.pick(&[30, 50, 1 << 20]),
        kept: random.below(5),
    }
}

pub fn random_schedules_agree_with_the_naive_partition() {
    let (mut duplicates, mut refusals, mut failures) = (0, 0, 0);
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let window_ms = *random.pick(&[0, 1, 50, 1000]);
        let with_ids = random.chance(4, 5);
        let mut model = Model::default();
        let mut partition = model.reopen(0, window_ms);
        let (mut now, mut number) = (random.below(1000), 0);
        for step in 0..60 {
            let at = format!("seed {seed}, step {step}");
            match random.below(10) {
                0..5 => {
                    let limits = random_limits(&mut random, window_ms);
                    let given = random_draft(&mut random, &mut number, with_ids);
                    let (expected, stored) = model.admit(now, &given, &limits);
                    let admission = partition.admit(Timestamp(now), draft(&given), &limits);
                    check_admission(&admission, &model, &stored, &at);
                    let answers = answers(&admission);
                    duplicates += answers
                        .iter()
                        .filter(|answer| matches!(answer, Answer::Duplicate(_)))
                        .count();
                    refusals += answers
                        .iter()
                        .filter(|answer| matches!(answer, Answer::Refused(_)))
                        .count();
                    assert_eq!(answers, expected, "{at}");
                }
                5 | 6 => {
                    if let Some(end) = model.pending.pop_front() {
                        model.committed = end;
                        partition.commit(Offset(end as u64));
                    }
                }
                7 => {
                    // The store refuses some of the newest batches.
                    let from =
                        *random.pick(&[model.committed, *model.pending.back().unwrap_or(&model.committed)]);
                    failures += usize::from(from < model.records.len());
                    model.pending.retain(|&end| end <= from);
                    model.records.truncate(from);
                    partition.fail(Offset(from as u64));
                    model.forgotten = model.forgotten.min(from);
                }
                8 => now = (now + random.below(window_ms + 20)).saturating_sub(random.below(15)),
                _ if random.chance(1, 4) => partition = model.reopen(now, window_ms),
                _ => {}
            }
            assert_eq!(
                partition.next_offset(),
                Offset(model.records.len() as u64),
                "{at}"
            );
            assert_eq!(partition.visible_next(), Offset(model.committed as u64), "{at}");
            assert_eq!(
                partition.last_timestamp(),
                Timestamp(model.last_timestamp),
                "{at}"
            );
        }
    }
    assert!(
        duplicates > 5_000 && refusals > 5_000 && failures > 2_000,
        "{duplicates} {refusals} {failures}"
    );
}

/// The batch has exactly the stored records, densely after those before, at a time that never decreases.
fn check_admission(admission: &Admission, model: &Model, stored: &[String], at: &str) {
    let Some(batch) = &admission.batch else {
        assert!(stored.is_empty(), "{at}: stored records make a batch");
        return;
    };
    assert_eq!(payloads(batch), stored, "{at}");
    assert_eq!(batch.count as usize, stored.len(), "{at}");
    assert_eq!(
        batch.next_offset(),
        Offset(model.records.len() as u64),
        "{at}: dense"
    );
    let before = batch
        .base_offset
        .0
        .checked_sub(1)
        .map_or(0, |last| model.records[last as usize].1);
    assert!(batch.timestamp.0 >= before, "{at}: monotone");
    assert_eq!(batch.timestamp.0, model.last_timestamp, "{at}");
    assert!(
        batch.base_offset.0 as usize >= model.committed,
        "{at}: nothing committed is given again"
    );
}

pub fn plain_draft_becomes_the_batch_without_a_copy() {
    let mut partition = Partition::new(Offset(7), Timestamp(0));
    for given in [
        vec![(None, "1".to_owned()), (None, "2".to_owned())],
        vec![with_id("a"), with_id("b")],
    ] {
        let mut draft = draft(&given);
        draft.records.shrink_to_fit();
        let address = draft.records.as_ptr();
        let admission = partition.admit(Timestamp(5), draft, &LIMITS);
        assert_eq!(admission.outcomes, Outcomes::AllStored);
        let batch = admission.batch.expect("both are stored");
        assert_eq!(batch.records.as_ptr(), address);
    }
    assert_eq!(partition.next_offset(), Offset(11));
    assert_eq!(
        partition.visible_next(),
        Offset(7),
        "nothing is shown before it is committed"
    );
}

pub fn stored_records_close_the_gaps_of_refused_ones() {
    let mut partition = Partition::new(Offset(0), Timestamp(0));
    partition.admit(Timestamp(1), draft(&[with_id("a")]), &LIMITS);
    let given = [
        with_id("a"),
        with_id("b"),
        with_id("b"),
        (None, "z".repeat(200)),
        with_id("c"),
        with_id("a"),
    ];
    let limits = AdmitLimits {
        record_bytes_max: 100,
        ..LIMITS
    };
    let admission = partition.admit(Timestamp(2), draft(&given), &limits);
    let expected = [
        Answer::Duplicate(0),
        Answer::Stored(1),
        Answer::Duplicate(1),
        Answer::Refused(ErrorCode::RecordTooLarge),
        Answer::Stored(2),
        Answer::Duplicate(0),
    ];
    assert_eq!(answers(&admission), expected);
    let batch = admission.batch.expect("two are stored");
    assert_eq!((batch.base_offset, batch.count), (Offset(1), 2));
    assert_eq!(payloads(&batch), ["payload of b", "payload of c"]);
    assert_eq!(partition.next_offset(), Offset(3));
}

pub fn repeat_of_a_failed_record_is_stored() {
    let mut partition = Partition::new(Offset(0), Timestamp(0));
    partition.admit(Timestamp(1), draft(&[with_id("kept")]), &LIMITS);
    partition.admit(Timestamp(1), draft(&[with_id("lost")]), &LIMITS);
    partition.commit(Offset(1));
    partition.fail(Offset(1));
    let admission = partition.admit(Timestamp(1), draft(&[with_id("lost"), with_id("kept")]), &LIMITS);
    assert_eq!(answers(&admission), [Answer::Stored(1), Answer::Duplicate(0)]);
}

pub fn window_of_zero_ignores_message_ids() {
    let mut partition = Partition::new(Offset(0), Timestamp(0));
    let limits = AdmitLimits {
        dedup_window_ms: 0,
        ..LIMITS
    };
    for offset in 0..3 {
        let admission = partition.admit(Timestamp(1), draft(&[with_id("a")]), &limits);
        assert_eq!(answers(&admission), [Answer::Stored(offset)]);
    }
}

pub fn repeat_is_answered_even_when_the_topic_is_full() {
    let mut partition = Partition::new(Offset(0), Timestamp(0));
    let limits = AdmitLimits {
        records_max: Some(2),
        ..LIMITS
    };
    let given = [with_id("a"), with_id("b"), with_id("c"), with_id("a")];
    let admission = partition.admit(Timestamp(1), draft(&given), &limits);
    let full = Answer::Refused(ErrorCode::TopicFull);
    assert_eq!(
        answers(&admission),
        [Answer::Stored(0), Answer::Stored(1), full, Answer::Duplicate(0)]
    );
    let Outcomes::Each(outcomes) = admission.outcomes else {
        panic!("not all were stored");
    };
    let Outcome::Refused(refusal) = &outcomes[2] else {
        panic!("the third was refused");
    };
    assert!(refusal.retry_after_ms.is_some(), "room may come: {refusal}");
    // What was refused is not remembered, so it is no repeat when there is room again.
    let admission = partition.admit(Timestamp(1), draft(&[with_id("c")]), &LIMITS);
    assert_eq!(answers(&admission), [Answer::Stored(2)]);
}

pub fn record_bytes_max_bounds_content_and_not_its_encoding() {
    let mut partition = Partition::new(Offset(0), Timestamp(0));
    let limits = AdmitLimits {
        record_bytes_max: 100,
        ..LIMITS
    };
    let exact = (Some("id".to_owned()), "x".repeat(98));
    let larger = (None, "x".repeat(101));
    let admission = partition.admit(Timestamp(1), draft(&[exact, larger]), &limits);
    assert_eq!(
        answers(&admission),
        [Answer::Stored(0), Answer::Refused(ErrorCode::RecordTooLarge)]
    );
}

pub fn empty_draft_stores_nothing() {
    let mut partition = Partition::new(Offset(4), Timestamp(9));
    let admission = partition.admit(Timestamp(20), Draft::default(), &LIMITS);
    assert!(admission.batch.is_none());
    assert_eq!(admission.outcomes, Outcomes::Each(Vec::new()));
    assert_eq!(
        (partition.next_offset(), partition.last_timestamp()),
        (Offset(4), Timestamp(9))
    );
}

pub fn ids_beyond_the_bound_are_refused_until_the_window_passes() {
    let ids = DEDUP_IDS_MAX as u64;
    let mut partition = Partition::new(Offset(ids), Timestamp(50));
    for number in 0..ids {
        partition.remember(&number.to_le_bytes(), Offset(number), Timestamp(50));
    }
    let overloaded = || Answer::Refused(ErrorCode::Overloaded);
    let given = [with_id("new"), (None, "without an id".to_owned())];
    let admission = partition.admit(Timestamp(1049), draft(&given), &LIMITS);
    assert_eq!(answers(&admission), [overloaded(), Answer::Stored(ids)]);
    let admission = partition.admit(Timestamp(1050), draft(&given), &LIMITS);
    assert_eq!(
        answers(&admission),
        [Answer::Stored(ids + 1), Answer::Stored(ids + 2)]
    );
}
