//! Records of one size and one look, so that a count changes only when the code does.

use callboard_core::{
    partition::{Draft, DraftEntry},
    record::{Batch, RecordParts},
};
use callboard_protocol::{Offset, Timestamp};

/// The topic that all of them belong to.
pub const TOPIC: &str = "orders.eu.created";
/// What a batch holds.
pub const BATCH: u64 = 100;
/// Where offsets begin, so that all of a run have as many digits.
pub const OFFSET: u64 = 100_000;
/// When it happens.
pub const NOW: Timestamp = Timestamp(1_795_146_000_123);

/// The payload of the record with this number: 128 bytes of JSON with what an order has.
#[must_use]
pub fn payload(number: u64) -> String {
    // Numbers without leading zeros, and all of one length.
    format!(
        r#"{{"order":"o-{:06}","customer":{},"total":{}.50,"currency":"EUR","paid":true,"items":[{},17,4],"note":"ring twice, please"}}"#,
        number % 1_000_000,
        10_000 + number * 7 % 90_000,
        100 + number % 900,
        100 + number * 3 % 900,
    )
}

/// Its key: one of a thousand customers.
#[must_use]
pub fn key(number: u64) -> String {
    format!("customer-{:03}", number * 7 % 1000)
}

/// The frame that publishes it; with an `id` it is answered when it has an offset, without one never.
#[must_use]
pub fn publish_frame(number: u64, answer: Answer) -> String {
    let (key, payload) = (key(number), payload(number));
    let asked = match answer {
        Answer::Accepted => format!(r#""id":{},"ack":"accepted""#, OFFSET + number),
        Answer::Never => r#""ack":"none""#.to_owned(),
    };
    format!(r#"{{"type":"publish","topic":"{TOPIC}",{asked},"key":"{key}","payload":{payload}}}"#)
}

/// Whether a publish is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// When it has an offset.
    Accepted,
    /// Only if it is refused.
    Never,
}

/// A batch of publishes, one a line.
#[must_use]
pub fn publish_lines(answer: Answer) -> String {
    let lines: Vec<String> = (0..BATCH).map(|number| publish_frame(number, answer)).collect();
    lines.join("\n")
}

/// A batch as a session hands it to a partition.
#[must_use]
pub fn draft(ids: MessageIds) -> Draft {
    let mut draft = Draft::default();
    for number in 0..BATCH {
        let (key, payload) = (key(number), payload(number));
        let message_id = match ids {
            MessageIds::None => None,
            MessageIds::Each => Some(format!("0197a3c0-7d1e-7000-8000-{number:012}")),
        };
        let parts = RecordParts {
            key: Some(&key),
            message_id: message_id.as_deref(),
            payload: payload.as_bytes(),
            ..RecordParts::default()
        };
        let bytes = parts.encode(&mut draft.records) as u32;
        let message_id = message_id.map(|id| id.into_bytes().into());
        draft.entries.push(DraftEntry { bytes, message_id });
    }
    draft
}

/// Whether records carry an id for deduplication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageIds {
    /// None does.
    None,
    /// Each does.
    Each,
}

/// A batch as a partition gives it to the store.
#[must_use]
pub fn batch() -> Batch {
    Batch {
        base_offset: Offset(OFFSET),
        timestamp: NOW,
        count: BATCH as u32,
        records: draft(MessageIds::None).records.into(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::client::{ClientFrame, Records, Request};

    use super::*;

    #[test]
    fn payloads_have_the_size_that_the_benchmarks_of_the_broker_use() {
        assert!((0..BATCH).all(|number| payload(number).len() == 128));
    }

    #[test]
    fn frames_publish_what_they_say() {
        for answer in [Answer::Accepted, Answer::Never] {
            let lines = publish_lines(answer);
            assert_eq!(lines.lines().count() as u64, BATCH);
            for (number, line) in (0..).zip(lines.lines()) {
                let frame = ClientFrame::decode(line).unwrap();
                assert_eq!(frame.id.is_some(), answer == Answer::Accepted);
                let Request::Publish(publish) = frame.request else {
                    panic!("{line}");
                };
                let Records::One(record) = publish.records else {
                    panic!("{line}");
                };
                assert_eq!(record.key.as_deref(), Some(&key(number)[..]));
                assert_eq!(record.payload.bytes(), payload(number).as_bytes());
            }
        }
    }

    #[test]
    fn batches_hold_their_records() {
        assert_eq!(batch().iter().count() as u64, BATCH);
        let (_, parts) = batch()
            .iter()
            .nth(17)
            .map(|(offset, parts)| (offset, parts.payload.to_vec()))
            .unwrap();
        assert_eq!(parts, payload(17).into_bytes());
    }
}
