//! What REST, SSE and other callers that are no session ask of the actors.

pub mod exchanges;
pub mod groups;
pub mod schedules;
pub mod webhooks;

use std::{collections::BTreeMap, sync::Arc};

use actix::prelude::*;
use callboard_core::topic::TopicConfig;
use callboard_protocol::{
    ErrorCode,
    client::{NewRecord, topic_name},
    error::Refusal,
    server::RecordResult,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    Shared,
    append::{Answered, Asked, Origin, Reply, Slot},
    broker::{DeleteTopic, GetTopic, PatchTopic, Settled, Want},
    directory::{
        Topic,
        subscribers::{Denied, Role, Subscriber},
    },
    intake::{Intake, Open, Placing},
    partition::EndWaits,
};

/// How long a caller that is no session waits if it does not say how long.
pub const CALLER_TIMEOUT_MS: u64 = 30_000;

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::Internal, error.to_string())
}

/// The topic of this name as it is.
///
/// # Errors
/// `topic_not_found`.
pub fn topic(shared: &Shared, name: &str) -> Result<Arc<Topic>, Refusal> {
    shared
        .directory
        .get(name)
        .ok_or_else(|| Refusal::new(ErrorCode::TopicNotFound, format!("there is no topic {name}")))
}

/// The topic of this name, created if need be and allowed.
///
/// # Errors
/// `invalid_argument` for a bad name, `topic_not_found`, `storage_failed`.
pub async fn topic_or_new(shared: &Shared, name: &str, want: Want) -> Result<Arc<Topic>, Refusal> {
    if matches!(want, Want::Auto)
        && let Some(topic) = shared.directory.get(name)
    {
        return Ok(topic);
    }
    let name = topic_name(name)?;
    shared
        .broker()
        .send(GetTopic { name, want })
        .await
        .map_err(internal)?
}

/// What is done about a topic that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is created, if that is allowed.
    Create,
    /// Whoever asks is told.
    Refuse,
}

/// A topic with a place among its subscribers, for one who gets every record.
///
/// # Errors
/// As [`topic_or_new`]; `conflict` if a subscriber has the topic for itself.
pub async fn place_in(
    shared: &Shared,
    name: &str,
    missing: Missing,
) -> Result<(Arc<Topic>, Subscriber), Refusal> {
    loop {
        let topic = match missing {
            Missing::Create => topic_or_new(shared, name, Want::Auto).await?,
            Missing::Refuse => topic(shared, name)?,
        };
        match Subscriber::new(&topic, Role::Plain) {
            Ok(subscriber) => return Ok((topic, subscriber)),
            Err(Denied::Refused(refusal)) => return Err(refusal),
            // Just now; what comes after it is in the directory, or nothing, when the registry has answered.
            Err(Denied::Gone) => shared.broker().send(Settled).await.map_err(internal)?,
        }
    }
}

/// Changes a topic's configuration; `patch` is a JSON object of the fields to change.
///
/// # Errors
/// `topic_not_found`, `invalid_argument`, `conflict`, `storage_failed`.
pub async fn patch_topic(shared: &Shared, name: &str, patch: String) -> Result<Arc<Topic>, Refusal> {
    let name = name.to_owned();
    shared
        .broker()
        .send(PatchTopic { name, patch })
        .await
        .map_err(internal)?
}

/// Deletes a topic.
///
/// # Errors
/// `topic_not_found`, `forbidden`, `storage_failed`.
pub async fn delete_topic(shared: &Shared, name: &str) -> Result<(), Refusal> {
    shared
        .broker()
        .send(DeleteTopic(name.to_owned()))
        .await
        .map_err(internal)?
}

/// Publishes records that stand alone each, and waits for what the level of ack promises, also for room in a
/// topic that is full; [`CALLER_TIMEOUT_MS`] at most unless it says how long.
///
/// # Errors
/// Those that concern all records: `forbidden`, `shutting_down`.
pub async fn publish(
    shared: &Shared,
    topic: &Arc<Topic>,
    records: Vec<Result<NewRecord<'_>, Refusal>>,
    asked: Asked,
) -> Result<Vec<RecordResult>, Refusal> {
    if topic.name.is_internal() {
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            "names that begin with $ are the broker's own",
        ));
    }
    publish_own(shared, topic, records, asked).await
}

/// As [`publish`], also into the broker's own topics.
///
/// # Errors
/// `shutting_down`.
pub(super) async fn publish_own(
    shared: &Shared,
    topic: &Arc<Topic>,
    records: Vec<Result<NewRecord<'_>, Refusal>>,
    asked: Asked,
) -> Result<Vec<RecordResult>, Refusal> {
    check_running(shared)?;
    let asked = bounded(asked);
    let mut intake = Intake::of_caller(shared.push().allow_private());
    let mut placing = Placing::new(topic.clone());
    let mut results: Vec<Option<RecordResult>> = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        let reply = Reply {
            id: None,
            slot: Slot::Part { pending: 0, index },
            silent: false,
        };
        let added = record.and_then(|record| {
            intake
                .add(&mut placing, &record, asked, reply)
                .map_err(|denied| denied.0)
        });
        results.push(added.err().map(RecordResult::Refused));
    }
    let mut answers = send(&mut intake).await;
    // Until nobody is left who could answer, which is when every record was.
    while let Some(Answered {
        part,
        replies,
        settlement,
    }) = answers.recv().await
    {
        for (place, reply) in replies.iter().enumerate() {
            if let Slot::Part { index, .. } = reply.slot {
                results[index] = Some(settlement.outcome(place, part));
            }
        }
    }
    let lost = || {
        RecordResult::Refused(internal(
            "the partition failed; the outcome is unknown, try again",
        ))
    };
    Ok(results
        .into_iter()
        .map(|result| result.unwrap_or_else(lost))
        .collect())
}

fn check_running(shared: &Shared) -> Result<(), Refusal> {
    if shared.is_shutting_down() {
        return Err(Refusal::new(
            ErrorCode::ShuttingDown,
            "the broker is shutting down",
        ));
    }
    Ok(())
}

/// What a caller asks, with a bound on how long it waits.
fn bounded(asked: Asked) -> Asked {
    Asked {
        timeout_ms: asked.timeout_ms.or(Some(CALLER_TIMEOUT_MS)),
        ..asked
    }
}

/// Sends what was collected to its partitions; the answers come until nobody is left who could send one.
async fn send(intake: &mut Intake) -> mpsc::UnboundedReceiver<Answered> {
    let (sender, answers) = mpsc::unbounded_channel();
    for open in intake.take() {
        let origin = Origin::Caller(sender.clone());
        match open {
            Open::Draft(open) => {
                let (part, append) = open.into_append(origin);
                let Some(addr) = part.addr() else { continue };
                // Awaited, so a full mailbox makes this caller wait and nobody else; an append that finds nobody
                // is dropped, and its receipt answers.
                let _ = addr.send(append).await;
            }
            Open::Together(open) => {
                let (together, decided) = open.into_together(&origin);
                together.forward();
                // Its end says the same as a word.
                let _ = decided.await;
            }
        }
    }
    answers
}

/// A session as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionInfo {
    /// Its id, as `welcome` said it.
    pub id: String,
    /// Address and port of the client.
    pub remote: String,
    /// What the client calls itself.
    pub client: String,
    /// `callboard.v1.json` or `callboard.v1.ndjson`.
    pub subprotocol: &'static str,
    /// RFC 3339.
    pub connected_at: String,
    /// Topics and patterns that it follows.
    pub subscriptions: Vec<String>,
    /// How many of its partitions it reads from the log because it is slower than they are.
    pub behind: usize,
    /// Bytes that wait for its socket.
    pub buffered_bytes: usize,
    /// Bytes of its records that wait to be stored.
    pub in_flight_bytes: usize,
    /// Frames that came from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
}

/// Asks a hub for its sessions.
#[derive(Message)]
#[rtype(result = "Vec<SessionInfo>")]
pub struct ListSessions;

/// Ends a session; answers whether it was there.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Disconnect(pub String);

/// Says goodbye to every session of a hub.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Goodbye;

/// How many sessions a hub has.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct CountSessions;

/// Every session, oldest first.
pub async fn sessions(shared: &Shared) -> Vec<SessionInfo> {
    let mut all = Vec::new();
    for worker in shared.workers().iter() {
        // A hub that is gone has no sessions.
        all.extend(worker.hub.send(ListSessions).await.unwrap_or_default());
    }
    all.sort_by(|left, right| left.id.cmp(&right.id));
    all
}

/// Ends one session with close code 1008; false if there is none of that id.
pub async fn disconnect(shared: &Shared, id: &str) -> bool {
    for worker in shared.workers().iter() {
        if worker.hub.send(Disconnect(id.to_owned())).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

/// A topic as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its epoch.
    pub epoch: String,
    /// Its partitions.
    pub partitions: Vec<PartitionInfo>,
    /// What comes in, over all partitions.
    pub rates: super::directory::Rates,
    /// Records that are due later.
    pub scheduled: u64,
    /// Its groups, by name, and how many records each has not finished.
    pub lag: BTreeMap<String, u64>,
    /// Its configuration.
    pub config: TopicConfig,
}

/// A partition as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: u32,
    /// The first offset kept.
    pub first_offset: u64,
    /// The next offset.
    pub next_offset: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// What comes in.
    pub rates: super::directory::Rates,
}

/// Describes a topic as it is now.
pub fn describe(topic: &Topic) -> TopicInfo {
    let now = super::clock::now().0;
    let mut rates = super::directory::Rates::default();
    let partitions = topic
        .partitions()
        .iter()
        .map(|part| {
            let log = part.log();
            let own = part.meter.rates(now);
            rates.records_in_per_s += own.records_in_per_s;
            rates.bytes_in_per_s += own.bytes_in_per_s;
            PartitionInfo {
                partition: part.id.0,
                first_offset: log.as_ref().map_or(0, |log| log.first_offset().0),
                next_offset: log.as_ref().map_or(0, |log| log.next_offset().0),
                bytes: log.as_ref().map_or(0, |log| log.bytes()),
                rates: own,
            }
        })
        .collect();
    TopicInfo {
        name: topic.name.to_string(),
        epoch: topic.epoch.to_string(),
        partitions,
        rates,
        scheduled: schedules::count(topic),
        lag: lag(topic),
        config: TopicConfig::clone(&topic.config()),
    }
}

/// How many records each group of a topic has not finished, by its name.
pub fn lag(topic: &Topic) -> BTreeMap<String, u64> {
    let mut lag: BTreeMap<String, u64> = topic
        .groups()
        .iter()
        .map(|group| (group.name.to_string(), 0))
        .collect();
    for part in topic.partitions().iter() {
        let (next, first) = (part.next_offset(), part.log().map(|log| log.first_offset()));
        let kept = next.since(first.unwrap_or(next));
        for share in part.groups().iter() {
            // What retention has removed nobody will finish.
            *lag.entry(share.group.name.to_string()).or_default() += share.unfinished(next).min(kept);
        }
    }
    lag
}

/// Stops the actors: sessions are told, then the store settles and flushes what it was given.
pub async fn shut_down(shared: &Shared) {
    shared.set_shutting_down();
    for topic in shared.directory.all() {
        for part in topic.partitions().iter() {
            let waits = &part.waits;
            let somebody_waits = waits.delivered() + waits.processed() > 0 || waits.for_room();
            if let Some(addr) = part.addr().filter(|_| somebody_waits) {
                addr.do_send(EndWaits);
            }
        }
    }
    let told: Vec<_> = shared
        .workers()
        .iter()
        .map(|worker| worker.hub.send(Goodbye))
        .collect();
    for told in told {
        // A hub that is gone has nobody to say goodbye to.
        let _ = told.await;
    }
    webhooks::retire(shared).await;
    match shared.store.shutdown().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error!("the store did not shut down cleanly: {error}"),
        Err(_) => log::error!("the store did not say that it shut down"),
    }
}
