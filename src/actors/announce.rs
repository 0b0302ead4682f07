//! What happens in the broker, as records of its own topic `$events`.
//!
//! Whoever does something says so with [`Shared::announce`], which costs a place in a bounded queue and
//! never waits or fails. One task, started by the BrokerActor, takes all that has gathered, and publishes it
//! in one go; it is the only publisher of `$events`. Never decides anything, and nobody waits for it.

mod event;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callboard_core::topic::{Durability, TopicConfig};
use callboard_protocol::{
    ErrorCode,
    client::{NewRecord, Payload},
    error::Refusal,
    server::RecordResult,
};
use tokio::sync::Notify;

pub use self::event::Event;
use super::{Shared, append::Asked, directory::Topic, gateway};

/// The topic that tells what happens in the broker.
pub const EVENTS_TOPIC: &str = "$events";

/// Events that may wait to be published; when more come the oldest go.
const WAITING_MAX: usize = 10_000;
/// Events that are published together at most.
const BATCH_EVENTS_MAX: usize = 1_000;
/// How much of `$events` is kept.
const RETENTION_BYTES: u64 = 16 << 20;
/// How long a repeat is known, which only a failed write makes us send.
const DEDUP_WINDOW_MS: u64 = 10_000;
/// How long to wait before events that could not be stored are tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The configuration of `$events` when it is made.
pub(super) fn events_config(memory_only: bool) -> TopicConfig {
    TopicConfig {
        durability: if memory_only {
            Durability::Memory
        } else {
            Durability::Os
        },
        retention_bytes: Some(RETENTION_BYTES),
        dedup_window_ms: DEDUP_WINDOW_MS,
        ..TopicConfig::default()
    }
}

/// Events on their way.
#[derive(Default)]
pub(super) struct Announcements {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Event>,
    lost: u64,
}

impl Announcements {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: Event) {
        let mut queue = self.queue();
        if queue.waiting.len() >= WAITING_MAX {
            queue.waiting.pop_front();
            queue.lost += 1;
        }
        queue.waiting.push_back(event);
        drop(queue);
        self.wake.notify_one();
    }

    /// What waits, at most a batch of it, and how many events were lost before it.
    fn take(&self) -> (Vec<Event>, u64) {
        let mut queue = self.queue();
        let lost = std::mem::take(&mut queue.lost);
        if queue.waiting.len() <= BATCH_EVENTS_MAX {
            // With its buffer, so that a burst is not paid for after it has gone.
            return (std::mem::take(&mut queue.waiting).into(), lost);
        }
        (queue.waiting.drain(..BATCH_EVENTS_MAX).collect(), lost)
    }
}

impl Shared {
    /// Says that something has happened. Never waits, and never fails whoever says it: what can not be
    /// stored is lost, and the log of the process says so.
    pub fn announce(&self, event: Event) {
        self.announcements.add(event);
    }

    /// Has what waits looked at again, because `$events` can be written to now.
    pub(super) fn events_can_be_written(&self) {
        self.announcements.wake.notify_one();
    }
}

/// Publishes what is announced, until the broker shuts down.
pub(super) async fn publish_all(shared: Arc<Shared>) {
    // Unlike those of every other run, so that an event can be told from its repeat.
    let run = uuid::Uuid::new_v4().simple().to_string();
    let mut count = 0;
    loop {
        shared.announcements.wake.notified().await;
        while let Some(topic) = shared.directory.get(EVENTS_TOPIC) {
            let (events, lost) = shared.announcements.take();
            if lost > 0 {
                log::warn!("{lost} events were lost because {EVENTS_TOPIC} did not take them fast enough");
            }
            if events.is_empty() {
                break;
            }
            let records: Vec<EventRecord> = events
                .iter()
                .map(|event| {
                    count += 1;
                    EventRecord::new(event, &run[..8], count)
                })
                .collect();
            if publish(&shared, &topic, records).await == Outcome::Ending {
                return;
            }
        }
    }
}

/// Whether there is any use in going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Ending,
}

/// An event as it is published.
struct EventRecord {
    key: Option<String>,
    /// Lets a record be sent again of which it is not known whether it was stored.
    id: String,
    payload: String,
}

impl EventRecord {
    fn new(event: &Event, run: &str, count: u64) -> Self {
        Self {
            key: event.subject().map(str::to_owned),
            id: format!("{run}-{count}"),
            payload: serde_json::to_string(event).expect("strings and numbers always have a JSON form"),
        }
    }

    fn record(&self) -> NewRecord<'_> {
        NewRecord {
            key: self.key.as_deref().map(Into::into),
            message_id: Some(self.id.as_str().into()),
            payload: Payload::Json(self.payload.as_str().into()),
            ..NewRecord::default()
        }
    }
}

/// Stores the records, however often that has to be tried.
async fn publish(shared: &Shared, topic: &Arc<Topic>, mut records: Vec<EventRecord>) -> Outcome {
    while !records.is_empty() {
        let asked = records.iter().map(|record| Ok(record.record())).collect();
        let results = gateway::publish_own(shared, topic, asked, Asked::DURABLE).await;
        let refusals: Vec<Option<Refusal>> = match results {
            Ok(results) => results.into_iter().map(refused).collect(),
            Err(refusal) => vec![Some(refusal); records.len()],
        };
        if refusals.iter().flatten().any(is_ending) {
            return Outcome::Ending;
        }
        let mut refusals = refusals.into_iter();
        records.retain(|record| match refusals.next().flatten() {
            None => false,
            Some(refusal) if refusal.code.is_retryable() => true,
            Some(refusal) => {
                log::error!("an event was lost, {}: {refusal}", record.payload);
                false
            }
        });
        if !records.is_empty() {
            tokio::time::sleep(RETRY).await;
        }
    }
    Outcome::Done
}

fn refused(result: RecordResult) -> Option<Refusal> {
    match result {
        RecordResult::Refused(refusal) => Some(refusal),
        _ => None,
    }
}

fn is_ending(refusal: &Refusal) -> bool {
    refusal.code == ErrorCode::ShuttingDown
}
