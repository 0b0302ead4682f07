//! What administrators do to a group: move its position, and move its dead letters back.

use std::{collections::BTreeMap, sync::Arc};

use actix::prelude::*;
use callboard_core::record::Batch;
use callboard_protocol::{
    ErrorCode, GroupName, Offset, PartitionId, client::NewRecord, error::Refusal, server::RecordResult,
};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{
    GroupActor, Kind,
    dead::{HEADER_PREFIX, record_of},
    history::Answer,
    mailbox::{Redrive, Seek},
};
use crate::{
    actors::{Shared, append::Asked, clock, directory::Topic, gateway},
    store::Log,
};

/// Dead letters read at once.
const REDRIVE_PAGE_BYTES: usize = 1 << 20;

impl Handler<Seek> for GroupActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, Seek(offsets): Seek, ctx: &mut Self::Context) -> Self::Result {
        let now = clock::now();
        match &mut self.kind {
            Kind::Partitioned(own) => {
                own.group.seek(now, &offsets);
                self.take_events();
            }
            Kind::Shared(work) => {
                for (partition, offset) in offsets {
                    work.group.seek(now, partition, offset);
                }
            }
        }
        let (sender, kept) = oneshot::channel();
        self.answers.push(Answer::Caller(sender));
        self.schedule(ctx);
        Box::pin(async move { kept.await.unwrap_or_else(|_| Err(failed())) })
    }
}

impl Handler<Redrive> for GroupActor {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, Redrive { limit }: Redrive, _: &mut Self::Context) -> Self::Result {
        let refuse =
            |code, message: &str| -> Self::Result { Box::pin(fut::ready(Err(Refusal::new(code, message)))) };
        let Kind::Shared(work) = &mut self.kind else {
            return refuse(ErrorCode::InvalidArgument, "only a shared group has dead letters");
        };
        if work.is_redriving {
            return refuse(ErrorCode::Conflict, "its dead letters are being moved already");
        }
        work.is_redriving = true;
        let (shared, topic, group) = (self.shared.clone(), self.topic.clone(), self.group.name.clone());
        let name = topic.config().dead_letter_topic_for(&topic.name, &group);
        let Some(letters) = shared.directory.get(&name) else {
            work.is_redriving = false;
            return Box::pin(fut::ready(Ok(0)));
        };
        let parts = letters.partitions();
        work.group.set_letters(letters.id.0);
        let next = |id| work.group.redriven_next(id).map(|next| (id, next));
        let from = parts.iter().filter_map(|part| next(part.id)).collect();
        let moved = async move { redrive(&shared, (&topic, &letters), &group, from, limit).await };
        Box::pin(moved.into_actor(self).map(|(moved, outcome), actor, ctx| {
            let Kind::Shared(work) = &mut actor.kind else {
                return Ok(0);
            };
            work.is_redriving = false;
            let mut count = 0;
            for (partition, (next, moved)) in moved {
                work.group.redriven(partition, next, moved);
                count += moved;
            }
            actor.schedule(ctx);
            // What was moved was moved, whatever stopped it.
            outcome
                .map(|()| count)
                .or_else(|refusal| if count > 0 { Ok(count) } else { Err(refusal) })
        }))
    }
}

fn failed() -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "the group failed; the outcome is unknown, look again",
    )
}

/// By partition of the dead-letter topic: where to go on, and how many of the group were moved.
type Moved = BTreeMap<PartitionId, (Offset, u64)>;

/// Publishes dead letters of `group` to its topic again, at most `limit`, from where the last time ended.
async fn redrive(
    shared: &Shared,
    (topic, letters): (&Arc<Topic>, &Topic),
    group: &GroupName,
    from: BTreeMap<PartitionId, Offset>,
    limit: u64,
) -> (Moved, Result<(), Refusal>) {
    let mut moved = Moved::new();
    let mut left = limit;
    for part in letters.partitions().iter() {
        let Some(log) = part.log() else { continue };
        let mut at = from
            .get(&part.id)
            .copied()
            .unwrap_or_default()
            .max(log.first_offset());
        while left > 0 && at < log.next_offset() {
            let page = read(shared, log.clone(), at).await;
            let (batches, next) = match page {
                Ok(page) => page,
                Err(refusal) => return (moved, Err(refusal)),
            };
            if next <= at {
                break;
            }
            let source = Source {
                topic,
                group,
                letters,
                partition: part.id,
            };
            let (reached, count, outcome) = source.publish(shared, &batches, (at, next), left).await;
            left -= count;
            let known = moved.entry(part.id).or_insert((reached, 0));
            *known = (reached, known.1 + count);
            at = reached;
            if outcome.is_err() {
                return (moved, outcome);
            }
        }
    }
    (moved, Ok(()))
}

async fn read(shared: &Shared, log: Arc<dyn Log>, at: Offset) -> Result<(Vec<Batch>, Offset), Refusal> {
    let page = shared.readers.run(move || log.read(at, REDRIVE_PAGE_BYTES)).await;
    let page = page.map_err(|_| Refusal::new(ErrorCode::Internal, "the read failed"))?;
    let page = page.map_err(|error| crate::actors::partition::refusal(&error))?;
    Ok((page.batches, page.next_offset))
}

/// Whose dead letters are moved.
struct Source<'a> {
    topic: &'a Arc<Topic>,
    group: &'a GroupName,
    letters: &'a Topic,
    partition: PartitionId,
}

impl Source<'_> {
    /// Publishes the group's letters among `batches`, at most `limit`; returns where to go on, and how many
    /// were moved. A letter that is published twice, because the broker died in between, is known by its id.
    async fn publish(
        &self,
        shared: &Shared,
        batches: &[Batch],
        (at, next): (Offset, Offset),
        limit: u64,
    ) -> (Offset, u64, Result<(), Refusal>) {
        let mut own = Vec::new();
        let mut reached = next;
        for (offset, parts) in batches
            .iter()
            .flat_map(Batch::iter)
            .filter(|(offset, _)| *offset >= at)
        {
            if own.len() as u64 == limit {
                reached = offset;
                break;
            }
            if let Some(headers) = self.own_headers(parts.headers) {
                let id = format!("redrive/{}/{}/{offset}", self.letters.id.0, self.partition);
                own.push((offset, headers, id, parts));
            }
        }
        if own.is_empty() {
            return (reached, 0, Ok(()));
        }
        let records: Vec<Result<NewRecord<'_>, Refusal>> = own
            .iter()
            .map(|(_, headers, id, parts)| Ok(record_of(parts, headers, Some(id))))
            .collect();
        let results = match gateway::publish(shared, self.topic, records, Asked::DURABLE).await {
            Ok(results) => results,
            Err(refusal) => return (at, 0, Err(refusal)),
        };
        // Up to the first one that was refused: those behind it are known by their ids the next time.
        for (place, result) in results.iter().enumerate() {
            if let RecordResult::Refused(refusal) = result {
                return (own[place].0, place as u64, Err(refusal.clone()));
            }
        }
        (reached, own.len() as u64, Ok(()))
    }

    /// The headers that the record had before it was a dead letter of this group; none if it is another's.
    fn own_headers(&self, headers: Option<&str>) -> Option<String> {
        let all: Map<String, Value> = serde_json::from_str(headers?).ok()?;
        let is = |name: &str, value: &str| {
            all.get(&format!("{HEADER_PREFIX}{name}")).and_then(Value::as_str) == Some(value)
        };
        if !is("topic", self.topic.name.as_str()) || !is("group", self.group.as_str()) {
            return None;
        }
        let kept: Map<String, Value> = all
            .into_iter()
            .filter(|(name, _)| !name.starts_with(HEADER_PREFIX))
            .collect();
        Some(if kept.is_empty() {
            String::new()
        } else {
            Value::from(kept).to_string()
        })
    }
}
