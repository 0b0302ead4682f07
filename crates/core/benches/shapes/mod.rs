//! Records for the benchmarks: 128 bytes of JSON and a key of one of a thousand customers.

use callboard_core::{
    partition::{Draft, DraftEntry},
    record::RecordParts,
};

/// What a batch holds.
pub const BATCH: u64 = 100;

/// Encodes the record with this number; returns how many bytes that was.
fn push_record(buffer: &mut Vec<u8>, number: u64, message_id: Option<&str>) -> u32 {
    let key = format!("customer-{:03}", number * 7 % 1000);
    let payload = format!(
        r#"{{"order":"o-{:06}","customer":10119,"total":117.50,"currency":"EUR","paid":true,"items":[151,17,4],"note":"ring twice, please"}}"#,
        number % 1_000_000
    );
    let parts = RecordParts {
        key: Some(&key),
        message_id,
        payload: payload.as_bytes(),
        ..RecordParts::default()
    };
    parts.encode(buffer) as u32
}

/// A draft of a batch from the record with the number `first` on; with an id for each if `with_ids`.
pub fn draft(first: u64, with_ids: bool) -> Draft {
    let mut draft = Draft::default();
    for number in first..first + BATCH {
        let id = with_ids.then(|| format!("0197a3c0-7d1e-7000-8000-{number:012}"));
        let bytes = push_record(&mut draft.records, number, id.as_deref());
        let message_id = id.map(|id| id.into_bytes().into());
        draft.entries.push(DraftEntry { bytes, message_id });
    }
    draft
}
