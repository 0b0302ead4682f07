//! Dead letters: records that a group could not process go to the dead-letter topic, and come back from it.
//!
//! A record is finished only when its dead letter is stored, so that it is in one place or the other through
//! any crash. Each dead letter carries a message id made of where it comes from, so that one that is stored
//! again after a crash is known.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_core::{
    record::{Batch, RecordParts, encoded_len},
    topic::TopicConfig,
};
use callboard_protocol::{
    ErrorCode, GroupName, Offset, PartitionId, Timestamp,
    client::{NewRecord, Payload},
    error::Refusal,
    server::RecordResult,
    time::format_rfc3339,
};
use serde_json::{Map, Value};

use super::{GroupActor, Kind};
use crate::{
    actors::{
        Shared,
        append::Asked,
        broker::Want,
        directory::{PartitionRef, Topic},
        gateway,
    },
    store::StoreError,
};

/// So many are moved at once.
const BURIALS_MAX: usize = 256;
/// And no more when they have so many bytes, because all of them are in memory meanwhile.
const BURIAL_BYTES_MAX: usize = 4 << 20;
/// How long to wait before what the dead-letter topic refused is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// What the headers of the broker's own begin with.
pub const HEADER_PREFIX: &str = "callboard-";
const CUT_HEADER: &str = "callboard-cut";

/// Dead letters on their way.
#[derive(Default)]
pub struct Burials {
    waiting: VecDeque<Burial>,
    is_under_way: bool,
}

/// One record that goes to the dead letters.
#[derive(Clone)]
struct Burial {
    partition: PartitionId,
    offset: Offset,
    attempts: u32,
    failed_at: Timestamp,
    reason: Box<str>,
}

impl Burials {
    /// Adds one.
    pub fn add(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        attempts: u32,
        failed_at: Timestamp,
        reason: &str,
    ) {
        self.waiting.push_back(Burial {
            partition,
            offset,
            attempts,
            failed_at,
            reason: reason.into(),
        });
    }
}

/// A record read for its dead letter.
struct Letter {
    burial: Burial,
    batch: Batch,
}

impl GroupActor {
    /// Moves the next dead letters, if none are on their way.
    pub(super) fn bury_next(&mut self, ctx: &mut Context<Self>) {
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        let burials = &mut work.burials;
        if burials.is_under_way || burials.waiting.is_empty() {
            return;
        }
        burials.is_under_way = true;
        let count = burials.waiting.len().min(BURIALS_MAX);
        let taken: Vec<Burial> = burials.waiting.drain(..count).collect();
        let (shared, topic, group) = (self.shared.clone(), self.topic.clone(), self.group.name.clone());
        let buried = async move {
            let outcome = bury(&shared, &topic, &group, &taken).await;
            (taken, outcome)
        };
        ctx.spawn(buried.into_actor(self).map(|(taken, outcome), actor, ctx| {
            actor.were_buried(taken, outcome, ctx);
        }));
    }

    fn were_buried(
        &mut self,
        taken: Vec<Burial>,
        outcome: Result<Vec<bool>, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        let label = self.label();
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        let (mut taken, mut again) = (taken, Vec::new());
        match outcome {
            Ok(stored) => {
                // Those that were too much at once are next.
                for rest in taken.drain(stored.len()..).rev() {
                    work.burials.waiting.push_front(rest);
                }
                for (burial, stored) in taken.into_iter().zip(stored) {
                    if stored {
                        work.group.buried(burial.partition, burial.offset);
                    } else {
                        again.push(burial);
                    }
                }
            }
            Err(refusal) => {
                log::error!("the dead letters of {label} are tried again: {refusal}");
                again = taken;
            }
        }
        if again.is_empty() {
            work.burials.is_under_way = false;
        } else {
            work.burials.waiting.extend(again);
            ctx.run_later(RETRY_DELAY, |actor, ctx| {
                if let Kind::Shared(work) = &mut actor.kind {
                    work.burials.is_under_way = false;
                }
                actor.bury_next(ctx);
            });
        }
        self.schedule(ctx);
    }
}

/// Stores dead letters, the first of them at least; says of each that it came to whether it is done with.
async fn bury(
    shared: &Shared,
    topic: &Arc<Topic>,
    group: &GroupName,
    burials: &[Burial],
) -> Result<Vec<bool>, Refusal> {
    let target = dead_letter_topic(shared, topic, group).await?;
    let parts = topic.partitions();
    let asked = burials.to_vec();
    let read = shared.readers.run(move || read_letters(&parts, asked)).await;
    let letters = read
        .unwrap_or(Err(StoreError::ShuttingDown))
        .map_err(|error| crate::actors::partition::refusal(&error))?;
    // What retention or an expiry took first has no letter, and nobody waits for it any more.
    let mut done = vec![true; letters.len()];
    let mut indices = Vec::new();
    let mut texts = Vec::new();
    for (index, letter) in letters.iter().enumerate() {
        if let Some(letter) = letter
            && let Some((_, parts)) = letter.batch.iter().next()
        {
            indices.push(index);
            texts.push((
                headers_of(topic, group, &letter.burial, &parts),
                id_of(topic, group, &letter.burial),
                parts,
            ));
        }
    }
    let records = texts
        .iter()
        .map(|(headers, id, parts)| Ok(record_of(parts, headers, Some(id))))
        .collect();
    let results = gateway::publish(shared, &target, records, Asked::DURABLE).await?;
    let mut too_large = Vec::new();
    for (place, result) in results.iter().enumerate() {
        match result {
            RecordResult::Refused(refusal) if refusal.code == ErrorCode::RecordTooLarge => {
                too_large.push(place)
            }
            RecordResult::Refused(refusal) => {
                log::warn!("a dead letter of {group} of {} waits: {refusal}", topic.name);
                done[indices[place]] = false;
            }
            RecordResult::Stored(..)
            | RecordResult::Processed(..)
            | RecordResult::Passed(_)
            | RecordResult::Scheduled(_) => {}
        }
    }
    if !too_large.is_empty() {
        // With the headers it is larger than a record may be: it goes without its payload, and says so.
        let cut: Vec<(String, &String, RecordParts<'_>)> = too_large
            .iter()
            .map(|place| {
                let (headers, id, parts) = &texts[*place];
                (
                    cut_headers(headers),
                    id,
                    RecordParts {
                        payload: b"null",
                        binary: false,
                        ..*parts
                    },
                )
            })
            .collect();
        let records = cut
            .iter()
            .map(|(headers, id, parts)| Ok(record_of(parts, headers, Some(id))))
            .collect();
        let results = gateway::publish(shared, &target, records, Asked::DURABLE).await?;
        for (place, result) in too_large.iter().zip(results) {
            done[indices[*place]] = !matches!(result, RecordResult::Refused(_));
        }
    }
    Ok(done)
}

/// The dead-letter topic of a group, made if need be: the broker's own doing, so also where clients may not.
///
/// # Errors
/// As those of creating a topic.
pub async fn dead_letter_topic(
    shared: &Shared,
    topic: &Topic,
    group: &GroupName,
) -> Result<Arc<Topic>, Refusal> {
    let config = topic.config();
    let name = config.dead_letter_topic_for(&topic.name, group);
    if let Some(found) = shared.directory.get(&name) {
        return Ok(found);
    }
    let asked = TopicConfig {
        durability: config.durability,
        ..TopicConfig::default()
    };
    let want = Want::New {
        config: asked.to_json(),
    };
    match gateway::topic_or_new(shared, &name, want).await {
        Err(refusal) if refusal.code == ErrorCode::TopicExists => {
            gateway::topic_or_new(shared, &name, Want::Auto).await
        }
        outcome => outcome,
    }
}

fn read_letters(
    parts: &[Arc<PartitionRef>],
    burials: Vec<Burial>,
) -> Result<Vec<Option<Letter>>, StoreError> {
    let mut letters = Vec::with_capacity(burials.len());
    let mut bytes = 0;
    for burial in burials {
        if bytes >= BURIAL_BYTES_MAX {
            break;
        }
        let log = parts.get(burial.partition.0 as usize).and_then(|part| part.log());
        let Some(log) = log else {
            return Err(StoreError::Closed);
        };
        let page = log.read(burial.offset, 1)?;
        let batch = page.batches.into_iter().next();
        let batch = batch.filter(|batch| batch.base_offset == burial.offset);
        bytes += batch.as_ref().map_or(0, |batch| {
            encoded_len(&batch.records).unwrap_or(batch.records.len())
        });
        letters.push(batch.map(|batch| Letter { burial, batch }));
    }
    Ok(letters)
}

/// The headers of a dead letter: the record's own, and what became of it.
fn headers_of(topic: &Topic, group: &GroupName, burial: &Burial, parts: &RecordParts<'_>) -> String {
    let own = parts
        .headers
        .and_then(|headers| serde_json::from_str(headers).ok());
    let mut headers: Map<String, Value> = own.unwrap_or_default();
    let said = [
        ("topic", topic.name.to_string()),
        ("partition", burial.partition.to_string()),
        ("offset", burial.offset.to_string()),
        ("group", group.to_string()),
        ("attempts", burial.attempts.to_string()),
        ("reason", burial.reason.to_string()),
        ("failed-at", format_rfc3339(burial.failed_at)),
    ];
    for (name, value) in said {
        headers.insert(format!("{HEADER_PREFIX}{name}"), Value::from(value));
    }
    Value::from(headers).to_string()
}

fn cut_headers(headers: &str) -> String {
    let all: Map<String, Value> = serde_json::from_str(headers).unwrap_or_default();
    let mut kept: Map<String, Value> = all
        .into_iter()
        .filter(|(name, _)| name.starts_with(HEADER_PREFIX))
        .collect();
    kept.insert(
        CUT_HEADER.to_owned(),
        Value::from("the payload did not fit beside these headers"),
    );
    Value::from(kept).to_string()
}

/// Names a dead letter by where it comes from.
fn id_of(topic: &Topic, group: &GroupName, burial: &Burial) -> String {
    let place = format!("{}/{}/{}", topic.id.0, burial.partition, burial.offset);
    format!("{place}/{group}/{}", burial.failed_at.0)
}

/// A record to be published, from one that was read.
pub fn record_of<'a>(
    parts: &RecordParts<'a>,
    headers: &'a str,
    message_id: Option<&'a str>,
) -> NewRecord<'a> {
    let payload = if parts.binary {
        Payload::Binary(parts.payload.to_vec())
    } else {
        Payload::Json(String::from_utf8_lossy(parts.payload))
    };
    NewRecord {
        key: parts.key.map(Into::into),
        partition: None,
        headers: (!headers.is_empty()).then(|| headers.into()),
        ttl_ms: None,
        message_id: message_id.map(Into::into),
        due: None,
        notify: None,
        payload,
    }
}
