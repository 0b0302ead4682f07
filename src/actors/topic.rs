//! TopicActor: one topic, its configuration and its partitions.
//!
//! Owns which partitions there are and keeps them alive: one that panics is started again from what is
//! stored. Not on any record's way. Told what to do by the BrokerActor alone.

pub mod deaths;
pub mod groups;
pub mod schedules;
mod silence;

use std::sync::Arc;

use actix::prelude::*;
use callboard_core::topic::{Durability, TopicConfig};
use callboard_protocol::{ErrorCode, PartitionId, error::Refusal};
use tokio::sync::oneshot;

pub use self::silence::Heard;
use self::{
    deaths::Deaths,
    groups::{GroupDied, Groups},
    schedules::Schedules,
    silence::Listening,
};
use super::{
    Shared,
    broker::{BrokerActor, TopicDied, TopicReady, WebhookDied},
    clock,
    directory::{PartitionRef, Topic},
    hub::TopicChanged,
    partition::{self, Close, Configure, PartitionActor, TopicSettings},
};
use crate::store::{PartitionKey, Retention, StoredTopic};

/// See the module.
pub struct TopicActor {
    shared: Arc<Shared>,
    broker: Addr<BrokerActor>,
    stored: StoredTopic,
    config: TopicConfig,
    parts: Vec<Part>,
    /// There once every partition was opened.
    topic: Option<Arc<Topic>>,
    /// Told when every partition is ready again.
    waiting: Vec<oneshot::Sender<()>>,
    /// The groups that the store keeps, until the topic is there.
    kept_groups: Vec<StoredTopic>,
    groups: Groups,
    listening: Listening,
    schedules: Schedules,
    sentinel: Sentinel,
}

struct Part {
    shared: Arc<PartitionRef>,
    ready: bool,
    deaths: Deaths,
}

impl TopicActor {
    /// An actor for a topic that the store keeps. `adopted` is what a former actor of the same topic
    /// left behind: its partitions live on and are taken over.
    pub fn new(
        shared: Arc<Shared>,
        broker: Addr<BrokerActor>,
        stored: StoredTopic,
        config: TopicConfig,
        adopted: Option<Arc<Topic>>,
    ) -> Self {
        let parts = adopted.iter().flat_map(|topic| topic.partitions().to_vec());
        let parts = parts
            .map(|shared| Part {
                shared,
                ready: true,
                deaths: Deaths::default(),
            })
            .collect();
        let sentinel = Sentinel::topic(broker.clone(), stored.name.to_string());
        Self {
            shared,
            broker,
            stored,
            config,
            parts,
            topic: adopted,
            waiting: Vec::new(),
            kept_groups: Vec::new(),
            groups: Groups::default(),
            listening: Listening::default(),
            schedules: Schedules::default(),
            sentinel,
        }
    }

    /// With the groups that the store keeps of it, and its schedules.
    pub fn with_groups(mut self, kept: Vec<StoredTopic>) -> Self {
        self.kept_groups = kept;
        self.take_kept_schedules();
        self
    }

    fn settings(&self) -> Arc<TopicSettings> {
        Arc::new(TopicSettings {
            durability: self.config.durability,
            dedup_window_ms: self.config.dedup_window_ms,
            records_max: self.config.records_max,
            when_full: self.config.when_full,
            record_bytes_max: self.config.record_bytes_max,
        })
    }

    fn retention(&self) -> Retention {
        Retention {
            age_ms: self.config.retention_ms,
            bytes: self.config.retention_bytes,
            before: None,
            ids_ms: (self.config.dedup_window_ms > 0).then_some(self.config.dedup_window_ms),
        }
    }

    /// Makes the partitions that the configuration asks for and that are not there yet.
    fn start_missing(&mut self, ctx: &mut Context<Self>) {
        for number in self.parts.len() as u32..self.config.partitions {
            let key = PartitionKey {
                topic: self.stored.id,
                partition: PartitionId(number),
            };
            let part = Arc::new(PartitionRef::new(key, &self.stored.name));
            self.wire_schedules_of(&part);
            self.start_partition(&part, ctx);
            self.parts.push(Part {
                shared: part,
                ready: false,
                deaths: Deaths::default(),
            });
        }
    }

    fn start_partition(&self, part: &Arc<PartitionRef>, ctx: &mut Context<Self>) {
        let actor = PartitionActor::new(
            self.shared.clone(),
            self.settings(),
            part.clone(),
            ctx.address(),
            self.shared.next_incarnation(),
        );
        let arbiter = self.shared.arbiter_for(part.key);
        let addr = PartitionActor::start_in_arbiter(&arbiter, move |_| actor);
        part.set_addr(addr);
    }

    /// Puts the configuration into force; what is returned resolves when every partition is ready.
    fn apply_config(&mut self, ctx: &mut Context<Self>) -> oneshot::Receiver<()> {
        let settings = self.settings();
        for part in &self.parts {
            if let Some(addr) = part.shared.addr() {
                addr.do_send(Configure(settings.clone()));
            }
            if let Some(log) = part.shared.log() {
                log.set_retention(self.retention());
            }
        }
        if let Some(topic) = &self.topic {
            topic.set_config(self.config.clone());
        }
        self.start_missing(ctx);
        let (ready, receiver) = oneshot::channel();
        self.waiting.push(ready);
        self.partition_ready(ctx);
        receiver
    }

    fn tell_hubs(&self, topic: &Arc<Topic>) {
        for worker in self.shared.workers().iter() {
            worker.hub.do_send(TopicChanged(topic.clone()));
        }
    }

    /// Lists the topic when its last partition is ready; later readiness is a change of it.
    fn partition_ready(&mut self, ctx: &mut Context<Self>) {
        if self.parts.iter().any(|part| !part.ready) {
            return;
        }
        let refs: Vec<_> = self.parts.iter().map(|part| part.shared.clone()).collect();
        if let Some(topic) = &self.topic {
            topic.set_partitions(refs);
            topic.set_config(self.config.clone());
            self.tell_hubs(topic);
            self.tell_groups(topic);
        } else {
            let stored = &self.stored;
            let topic = Arc::new(Topic::new(
                stored.id,
                stored.name.clone(),
                stored.epoch.clone(),
                self.config.clone(),
                refs,
            ));
            self.topic = Some(topic.clone());
            self.start_kept_groups(&topic, ctx);
            self.broker.do_send(TopicReady(topic));
        }
        self.listen(ctx);
        for waiting in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.send(());
        }
    }
}

impl Actor for TopicActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.adopt_schedules();
        for index in 0..self.parts.len() {
            // Taken over from an actor that died, perhaps together with a partition.
            let part = self.parts[index].shared.clone();
            if part.addr().is_none_or(|addr| !addr.connected()) {
                self.parts[index].ready = false;
                self.start_partition(&part, ctx);
            } else if let Some(addr) = part.addr() {
                addr.do_send(partition::Adopt(ctx.address()));
            }
        }
        self.start_missing(ctx);
        if let Some(topic) = self.topic.clone() {
            self.adopt_groups(&topic, ctx);
        }
    }
}

/// A partition was opened.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PartitionReady(pub PartitionId);

impl Handler<PartitionReady> for TopicActor {
    type Result = ();

    fn handle(&mut self, PartitionReady(id): PartitionReady, ctx: &mut Self::Context) {
        let retention = self.retention();
        if let Some(part) = self.parts.get_mut(id.0 as usize) {
            part.ready = true;
            if let Some(log) = part.shared.log() {
                log.set_retention(retention);
            }
        }
        if let Some(topic) = &self.topic
            && self.parts.iter().any(|part| !part.ready)
        {
            // Who follows this one must not wait for the others, which may never come.
            self.tell_hubs(topic);
        }
        self.partition_ready(ctx);
    }
}

/// A partition's actor ended without being told to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PartitionDied(pub PartitionId);

impl Handler<PartitionDied> for TopicActor {
    type Result = ();

    fn handle(&mut self, PartitionDied(id): PartitionDied, ctx: &mut Self::Context) {
        if self.shared.is_shutting_down() {
            return;
        }
        let Some(part) = self.parts.get_mut(id.0 as usize) else {
            return;
        };
        part.ready = false;
        let delay = part.deaths.died(clock::now());
        log::error!(
            "partition {id} of {} died and is started again in {delay:?}",
            self.stored.name
        );
        let part = part.shared.clone();
        ctx.run_later(delay, move |actor, ctx| actor.start_partition(&part, ctx));
    }
}

/// A new configuration, checked already.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Reconfigure(pub TopicConfig);

impl Handler<Reconfigure> for TopicActor {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, Reconfigure(config): Reconfigure, _: &mut Self::Context) -> Self::Result {
        let mut stored = self.stored.clone();
        stored.config = config.to_json();
        stored.partitions = config.partitions;
        let kept = self.shared.store.update_topic(stored.clone());
        let applied = kept.into_actor(self).map(move |kept, actor, ctx| {
            match kept {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(partition::refusal(&error)),
                Err(_) => return Err(Refusal::new(ErrorCode::Internal, "the store gave no answer")),
            }
            actor.stored = stored;
            actor.config = config;
            Ok(actor.apply_config(ctx))
        });
        Box::pin(applied.then(|applied, actor, _| {
            async move {
                // Closed only when the actor ends, and then the partitions are somebody else's matter.
                let _ = applied?.await;
                Ok(())
            }
            .into_actor(actor)
        }))
    }
}

/// The topic was deleted: ends, and its partitions with it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseTopic;

impl Handler<CloseTopic> for TopicActor {
    type Result = ();

    fn handle(&mut self, _: CloseTopic, ctx: &mut Self::Context) {
        self.sentinel.dismiss();
        for part in &self.parts {
            if let Some(addr) = part.shared.addr() {
                addr.do_send(Close);
            }
        }
        self.close_groups();
        self.close_schedules();
        ctx.stop();
    }
}

/// What a topic's durability is where everything is kept in memory.
pub fn is_memory_only(config: &TopicConfig) -> bool {
    config.durability == Durability::Memory
}

/// Tells the owner when its actor is dropped without having been dismissed, which is what a panic does:
/// actix's own `Supervisor` restarts after `stop()` only.
pub struct Sentinel(Option<Watched>);

enum Watched {
    Partition(Addr<TopicActor>, PartitionId),
    Topic(Addr<BrokerActor>, String),
    Group(Addr<TopicActor>, String),
    Webhook(Addr<BrokerActor>, String),
}

impl Sentinel {
    /// Watches a partition for its topic.
    pub fn partition(owner: Addr<TopicActor>, id: PartitionId) -> Self {
        Self(Some(Watched::Partition(owner, id)))
    }

    /// Watches a topic for the broker.
    pub fn topic(owner: Addr<BrokerActor>, name: String) -> Self {
        Self(Some(Watched::Topic(owner, name)))
    }

    /// Watches a group for its topic.
    pub fn group(owner: Addr<TopicActor>, name: String) -> Self {
        Self(Some(Watched::Group(owner, name)))
    }

    /// Watches a webhook for the broker.
    pub fn webhook(owner: Addr<BrokerActor>, id: String) -> Self {
        Self(Some(Watched::Webhook(owner, id)))
    }

    /// Another actor owns the group from now on.
    pub fn group_owner(&mut self, owner: Addr<TopicActor>) {
        if let Some(Watched::Group(_, name)) = self.0.take() {
            self.0 = Some(Watched::Group(owner, name));
        }
    }

    /// The end that comes is meant.
    pub fn dismiss(&mut self) {
        self.0 = None;
    }

    /// Another actor is the owner from now on.
    pub fn partition_owner(&mut self, owner: Addr<TopicActor>, id: PartitionId) {
        if self.0.is_some() {
            self.0 = Some(Watched::Partition(owner, id));
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Watched::Partition(owner, id)) => owner.do_send(PartitionDied(id)),
            Some(Watched::Topic(owner, name)) => owner.do_send(TopicDied(name)),
            Some(Watched::Group(owner, name)) => owner.do_send(GroupDied(name)),
            Some(Watched::Webhook(owner, id)) => owner.do_send(WebhookDied(id)),
            None => {}
        }
    }
}

/// Panics in the actor, as a fault of ours would.
#[cfg(test)]
impl Handler<partition::InjectPanic> for TopicActor {
    type Result = ();

    fn handle(&mut self, _: partition::InjectPanic, _: &mut Self::Context) {
        panic!("injected");
    }
}
