//! What REST asks of records that are due later.

use std::sync::Arc;

use base64::Engine as _;
use callboard_core::{
    record::RecordParts,
    schedule::{Turn, Waiting},
};
use callboard_protocol::{ErrorCode, PartitionId, ScheduleId, Timestamp, error::Refusal};
use serde::Serialize;
use serde_json::value::RawValue;

use super::internal;
use crate::{
    actors::{
        Shared,
        directory::Topic,
        partition::{CancelScheduled, Found, ListScheduled, ListedSchedules, read_payloads},
    },
    store::{Log, StoreError},
};

/// Most records on a page.
pub const PAGE_RECORDS_MAX: usize = 1000;
/// A page ends when it has so many bytes of records, but has at least one.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// A record that is due later, as REST shows it.
#[derive(Debug, Serialize)]
pub struct ScheduledInfo {
    /// Names it.
    pub id: String,
    /// The partition that it will go to.
    pub partition: u32,
    /// When, milliseconds since the Unix epoch.
    pub deliver_at: u64,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its headers, a JSON object of strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Box<RawValue>>,
    /// Its message id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its payload as it came, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Its payload, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// Some of the records that are due later.
#[derive(Debug, Serialize)]
pub struct ScheduledPage {
    /// In the order in which they are due.
    pub scheduled: Vec<ScheduledInfo>,
    /// How many there are in all.
    pub total: u64,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Where a page begins: after this record of that partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    due: Timestamp,
    partition: PartitionId,
    number: u64,
}

impl Cursor {
    /// Reads what [`std::fmt::Display`] writes.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '-').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (due, partition, number): (u64, u64, u64) = (next()?, next()?, next()?);
        Some(Self {
            due: Timestamp(due),
            partition: PartitionId(u32::try_from(partition).ok()?),
            number,
        })
    }

    /// After which of a partition's own the page begins: they are in order of time, then of the partition.
    fn in_partition(self, partition: PartitionId) -> Option<Turn> {
        let (due, number) = match partition.cmp(&self.partition) {
            std::cmp::Ordering::Less => (self.due, u64::MAX),
            std::cmp::Ordering::Equal => (self.due, self.number),
            std::cmp::Ordering::Greater => (Timestamp(self.due.0.checked_sub(1)?), u64::MAX),
        };
        Some(Turn { due, number })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}-{}", self.due.0, self.partition, self.number)
    }
}

/// How many records of a topic are due later.
pub fn count(topic: &Topic) -> u64 {
    topic.partitions().iter().map(|part| part.scheduled()).sum()
}

/// Records of a topic that are due later, in the order in which they are due; at most `limit`, after those of the
/// page that said `next`.
///
/// # Errors
/// `invalid_argument` for a `next` that no page said, `storage_failed`.
pub async fn scheduled(
    shared: &Shared,
    topic: &Arc<Topic>,
    limit: usize,
    next: Option<&str>,
) -> Result<ScheduledPage, Refusal> {
    let limit = limit.clamp(1, PAGE_RECORDS_MAX);
    let cursor = next
        .map(|next| {
            let message = "next is what the page before said";
            Cursor::parse(next).ok_or_else(|| Refusal::new(ErrorCode::InvalidArgument, message))
        })
        .transpose()?;
    let mut all: Vec<(PartitionId, Waiting)> = Vec::new();
    let mut logs: Vec<(PartitionId, Arc<dyn Log>)> = Vec::new();
    for part in topic.partitions().iter().filter(|part| part.scheduled() > 0) {
        let Some(addr) = part.addr() else { continue };
        let after = cursor.and_then(|cursor| cursor.in_partition(part.id));
        // One more, to know whether there is a next page.
        let asked = ListScheduled {
            after,
            limit: limit + 1,
        };
        let ListedSchedules { waiting, log } = addr.send(asked).await.map_err(internal)?;
        all.extend(waiting.into_iter().map(|waiting| (part.id, waiting)));
        logs.extend(log.map(|log| (part.id, log)));
    }
    all.sort_unstable_by_key(|(partition, waiting)| cursor_at(*partition, waiting));
    let mut bytes = 0;
    let fits = |(_, waiting): &&(PartitionId, Waiting)| {
        bytes += u64::from(waiting.bytes);
        bytes == u64::from(waiting.bytes) || bytes <= PAGE_BYTES_MAX
    };
    let page: Vec<_> = all.iter().take(limit).take_while(fits).copied().collect();
    let next = (page.len() < all.len())
        .then(|| page.last())
        .flatten()
        .map(|(partition, waiting)| cursor_at(*partition, waiting).to_string());
    let read = shared.readers.run(move || read_page(&page, &logs)).await;
    let scheduled = read
        .unwrap_or(Err(StoreError::ShuttingDown))
        .map_err(|error| crate::actors::partition::refusal(&error))?;
    Ok(ScheduledPage {
        scheduled,
        total: count(topic),
        next,
    })
}

fn cursor_at(partition: PartitionId, waiting: &Waiting) -> Cursor {
    Cursor {
        due: waiting.turn.due,
        partition,
        number: waiting.turn.number,
    }
}

/// Reads the records of a page; runs on a reader thread. What was delivered meanwhile may be left out.
fn read_page(
    page: &[(PartitionId, Waiting)],
    logs: &[(PartitionId, Arc<dyn Log>)],
) -> Result<Vec<ScheduledInfo>, StoreError> {
    let mut found: Vec<(PartitionId, Found)> = Vec::with_capacity(page.len());
    for (partition, log) in logs {
        let own = page.iter().filter(|(of, _)| of == partition);
        let mut wanted: Vec<_> = own.map(|(_, waiting)| *waiting).collect();
        wanted.sort_unstable_by_key(|waiting| waiting.place);
        let read = read_payloads(log.as_ref(), &wanted)?;
        found.extend(read.into_iter().map(|found| (*partition, found)));
    }
    found.sort_unstable_by_key(|(partition, found)| cursor_at(*partition, &found.waiting));
    let describe = |(partition, found): (PartitionId, Found)| {
        let (_, record) = found.record?;
        let (parts, _) = RecordParts::decode(&record).ok()?;
        Some(describe(partition, &found.waiting, &parts))
    };
    Ok(found.into_iter().filter_map(describe).collect())
}

fn describe(partition: PartitionId, waiting: &Waiting, parts: &RecordParts<'_>) -> ScheduledInfo {
    let number = waiting.turn.number;
    let raw = |bytes: &[u8]| -> Option<Box<RawValue>> {
        // It was valid when it came.
        RawValue::from_string(String::from_utf8(bytes.to_vec()).ok()?).ok()
    };
    ScheduledInfo {
        id: ScheduleId { partition, number }.to_string(),
        partition: partition.0,
        deliver_at: waiting.turn.due.0,
        key: parts.key.map(str::to_owned),
        headers: parts.headers.and_then(|headers| raw(headers.as_bytes())),
        message_id: parts.message_id.map(str::to_owned),
        payload: (!parts.binary).then(|| raw(parts.payload)).flatten(),
        payload_base64: parts
            .binary
            .then(|| base64::engine::general_purpose::STANDARD.encode(parts.payload)),
        bytes: parts.encoded_bytes() as u64,
    }
}

/// Cancels a record that is due later; false if it is none, because it was delivered or cancelled, or never was.
/// When this says true the record is never delivered, also after a crash (as the topic's durability says).
///
/// # Errors
/// `storage_failed`, `internal`.
pub async fn cancel(_: &Shared, topic: &Arc<Topic>, id: &str) -> Result<bool, Refusal> {
    let Some(id) = ScheduleId::parse(id) else {
        return Ok(false);
    };
    let part = topic.partitions().get(id.partition.0 as usize).cloned();
    match part.and_then(|part| part.addr()) {
        Some(addr) => addr.send(CancelScheduled(id.number)).await.map_err(internal)?,
        None => Ok(false),
    }
}
