//! A topic's schedule log: made by its TopicActor when a partition first needs it, and gone with the topic.
//!
//! The store keeps it as an internal topic with a partition for each of the topic's that has ever had a record
//! to keep. Two partitions may ask at a time; one making answers both.

use actix::prelude::*;
use callboard_protocol::{ErrorCode, PartitionId, TopicName, error::Refusal};
use tokio::sync::oneshot;

use super::TopicActor;
use crate::{
    actors::{directory::PartitionRef, partition},
    store::{StoreError, StoredTopic, TopicId},
};

/// What the names begin with under which the store keeps schedule logs; the topic's number follows.
const STORED_PREFIX: &str = "$schedules.";

/// What a topic has of schedules.
#[derive(Default)]
pub struct Schedules {
    /// The log, and how many partitions it has.
    kept: Option<(TopicId, u32)>,
    /// Being made, or made larger.
    making: bool,
    waiting: Vec<(PartitionId, Asking)>,
}

type Asking = oneshot::Sender<Result<TopicId, Refusal>>;

/// The topic of which the kept entry is the schedule log; none if it is something else.
pub fn scheduled_topic(stored: &StoredTopic) -> Option<TopicId> {
    stored
        .name
        .as_str()
        .strip_prefix(STORED_PREFIX)?
        .parse()
        .ok()
        .map(TopicId)
}

impl TopicActor {
    /// Takes the schedule log out of what the store keeps of the topic.
    pub(super) fn take_kept_schedules(&mut self) {
        let mut logs: Vec<_> = self
            .kept_groups
            .extract_if(.., |stored| scheduled_topic(stored).is_some())
            .collect();
        logs.sort_by_key(|stored| stored.id.0);
        self.schedules.kept = logs.pop().map(|stored| (stored.id, stored.partitions));
        for unused in logs {
            // Made by an actor that died before any partition heard of it. Not awaited: tried again at the
            // next start.
            drop(self.shared.store.delete_topic(unused.id));
        }
    }

    /// What a former actor of the same topic left behind: its partitions know the log.
    pub(super) fn adopt_schedules(&mut self) {
        let known: Vec<_> = self
            .parts
            .iter()
            .map_while(|part| part.shared.schedules())
            .collect();
        if let Some(id) = known.first() {
            self.schedules.kept = Some((*id, known.len() as u32));
        }
    }

    /// Lets the partitions know their log that have one.
    fn wire_schedules(&self) {
        let Some((id, partitions)) = self.schedules.kept else {
            return;
        };
        for part in self.parts.iter().take(partitions as usize) {
            part.shared.set_schedules(id);
        }
    }

    /// Lets a partition that starts know its log, if it has one.
    pub(super) fn wire_schedules_of(&self, part: &PartitionRef) {
        if let Some((id, _)) = self
            .schedules
            .kept
            .filter(|(_, partitions)| part.id.0 < *partitions)
        {
            part.set_schedules(id);
        }
    }

    /// Forgets what is due later, with the topic.
    pub(super) fn close_schedules(&self) {
        if let Some((id, _)) = self.schedules.kept {
            // Not awaited: what is left of it is removed at the next start.
            drop(self.shared.store.delete_topic(id));
        }
    }

    /// Makes the log, or gives it as many partitions as the topic has.
    fn make_schedules(&mut self, ctx: &mut Context<Self>) {
        self.schedules.making = true;
        let kept = self.schedules.kept.map(|(id, _)| id);
        let name = TopicName::parse(&format!("{STORED_PREFIX}{}", self.stored.id.0));
        let stored = StoredTopic {
            id: kept.unwrap_or(TopicId(0)),
            name: name.expect("a number is a word of a topic's name"),
            epoch: self.stored.epoch.clone(),
            config: "{}".to_owned(),
            partitions: self.parts.len() as u32,
            memory_only: self.stored.memory_only,
        };
        let partitions = stored.partitions;
        let store = self.shared.store.clone();
        let made = async move {
            match kept {
                Some(id) => store
                    .update_topic(stored)
                    .await
                    .map(|updated| updated.map(|()| id)),
                None => store.create_topic(stored).await,
            }
        };
        ctx.spawn(made.into_actor(self).map(move |made, actor, ctx| {
            actor.schedules.making = false;
            match made.unwrap_or(Err(StoreError::ShuttingDown)) {
                Ok(id) => {
                    actor.schedules.kept = Some((id, partitions));
                    actor.wire_schedules();
                    actor.answer_schedules(ctx);
                }
                Err(error) => {
                    let refusal = partition::refusal(&error);
                    for (_, waiting) in actor.schedules.waiting.drain(..) {
                        // Whoever asked may have gone.
                        let _ = waiting.send(Err(refusal.clone()));
                    }
                }
            }
        }));
    }

    /// Answers those whose partition has a log, and makes one for the others.
    fn answer_schedules(&mut self, ctx: &mut Context<Self>) {
        let (id, partitions) = self.schedules.kept.unwrap_or((TopicId(0), 0));
        for (partition, waiting) in std::mem::take(&mut self.schedules.waiting) {
            if partition.0 < partitions {
                // Whoever asked may have gone.
                let _ = waiting.send(Ok(id));
            } else if (partition.0 as usize) < self.parts.len() {
                self.schedules.waiting.push((partition, waiting));
            }
        }
        if !self.schedules.making && !self.schedules.waiting.is_empty() {
            self.make_schedules(ctx);
        }
    }
}

/// A partition asks for its schedule log, made if need be.
#[derive(Message)]
#[rtype(result = "Result<TopicId, Refusal>")]
pub struct OpenSchedules(pub PartitionId);

impl Handler<OpenSchedules> for TopicActor {
    type Result = ResponseFuture<Result<TopicId, Refusal>>;

    fn handle(&mut self, OpenSchedules(partition): OpenSchedules, ctx: &mut Self::Context) -> Self::Result {
        let (sender, made) = oneshot::channel();
        self.schedules.waiting.push((partition, sender));
        self.answer_schedules(ctx);
        Box::pin(async move {
            made.await
                .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the topic failed; try again")))
        })
    }
}
