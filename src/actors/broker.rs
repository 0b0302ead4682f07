//! BrokerActor: the registry of topics. Control plane only; no record passes here.
//!
//! Owns which topics there are: creates, changes and deletes them, one at a time for each name, and starts
//! a TopicActor again that died. It is the only writer of the [`Directory`](super::directory::Directory).

mod exchanges;
mod groups;
mod patch;
mod temporary;
mod webhooks;

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_core::topic::{Durability, TopicConfig};
use callboard_protocol::{Epoch, ErrorCode, TopicName, error::Refusal};
use tokio::sync::{Mutex, oneshot};

#[cfg(test)]
pub use self::exchanges::CountChanges;
use self::exchanges::ExchangeChanges;
pub use self::{
    exchanges::{AddBinding, Creation, DeclareExchange, DeleteExchange, RemoveBinding, WhichBinding},
    groups::{GetGroup, RemoveGroup},
    patch::PatchTopic,
    temporary::{Abandoned, Settled},
    webhooks::{StartWebhook, WebhookDied},
};
pub use super::topic::groups::GroupWish;
use super::{
    Shared, Worker,
    announce::{self, EVENTS_TOPIC, Event},
    clock,
    directory::Topic,
    hub::{TopicClosed, TopicOpened},
    partition::refusal,
    topic::{CloseTopic, TopicActor, deaths::Deaths, is_memory_only},
};
use crate::store::{StoreError, StoredTopic, TopicId};

/// How often retention is applied.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
pub struct BrokerActor {
    shared: Arc<Shared>,
    workers_expected: usize,
    /// Kept until every worker is there, and then started.
    kept: Vec<StoredTopic>,
    topics: HashMap<TopicName, Entry>,
    ready: Option<oneshot::Sender<()>>,
    exchange_changes: ExchangeChanges,
    /// The newest binding's number.
    last_binding: u64,
    /// Of webhooks, by their ids.
    webhook_deaths: HashMap<String, Deaths>,
}

struct Entry {
    stored: StoredTopic,
    addr: Option<Addr<TopicActor>>,
    topic: Option<Arc<Topic>>,
    waiting: Vec<Waiting>,
    /// Held by the change that is under way: the next one starts from what it leaves.
    changing: Arc<Mutex<()>>,
    /// Whether it was not there before, which is told once.
    news: News,
}

impl Entry {
    /// Whether this is its configuration. What is stored may be of a version that knew fewer fields.
    fn is_configured(&self, config: &TopicConfig) -> bool {
        TopicConfig::from_json(&self.stored.config, &TopicConfig::default())
            .is_ok_and(|stored| stored == *config)
    }
}

/// Whether a topic that can be used now is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Created,
    Known,
}

/// What there is of a topic before its actor starts.
enum Before {
    /// The groups that the store keeps.
    Kept(Vec<StoredTopic>),
    /// What a former actor left behind.
    Died(Option<Arc<Topic>>),
}

type Waiting = oneshot::Sender<Result<Arc<Topic>, Refusal>>;

impl BrokerActor {
    /// A broker that starts `kept` topics when `workers_expected` workers are there, and then says so.
    pub fn new(
        shared: Arc<Shared>,
        kept: Vec<StoredTopic>,
        workers_expected: usize,
        ready: oneshot::Sender<()>,
    ) -> Self {
        Self {
            shared,
            workers_expected,
            kept,
            topics: HashMap::new(),
            ready: Some(ready),
            exchange_changes: ExchangeChanges::default(),
            last_binding: 0,
            webhook_deaths: HashMap::new(),
        }
    }

    fn start_kept(&mut self, ctx: &mut Context<Self>) {
        let mut groups = self.kept_groups();
        self.load_exchanges();
        self.shared.webhooks.load(&*self.shared.store);
        for stored in std::mem::take(&mut self.kept) {
            let kept_groups = groups.remove(&stored.id).unwrap_or_default();
            match TopicConfig::from_json(&stored.config, &TopicConfig::default()) {
                Ok(config) => {
                    let mut stored = stored;
                    if stored.memory_only {
                        // Its records are gone, so the offsets begin again and mean something else.
                        stored.epoch = new_epoch();
                    }
                    self.start_topic(stored, config, Before::Kept(kept_groups), ctx);
                }
                Err(error) => log::error!("topic {} is left out: {error}", stored.name),
            }
        }
        self.start_events(ctx);
        self.tell_ready(ctx);
    }

    /// Makes the topic of the broker's events if it is not kept.
    fn start_events(&mut self, ctx: &mut Context<Self>) {
        let name = TopicName::parse(EVENTS_TOPIC).expect("a name of the broker's own");
        self.shared.announce(Event::BrokerStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        if !self.topics.contains_key(&name) {
            self.create(
                name,
                announce::events_config(self.shared.settings.memory_only),
                ctx,
            );
        }
    }

    fn tell_ready(&mut self, ctx: &mut Context<Self>) {
        if self.ready.is_none() {
            // Before the topics are looked at: there are many, and this is called for each new one.
            return;
        }
        let started = self.workers_expected == self.shared.workers().len();
        let all_open = self.topics.values().all(|entry| entry.topic.is_some());
        if started
            && all_open
            && let Some(ready) = self.ready.take()
        {
            // First, because from then on others are made and started.
            self.start_kept_webhooks(ctx);
            self.shared.set_ready();
            // Nobody waits for it in tests that ask for readiness otherwise.
            let _ = ready.send(());
        }
    }

    fn start_topic(
        &mut self,
        stored: StoredTopic,
        config: TopicConfig,
        before: Before,
        ctx: &mut Context<Self>,
    ) {
        let (adopted, kept_groups) = match before {
            Before::Kept(groups) => (None, groups),
            Before::Died(topic) => (topic, Vec::new()),
        };
        let actor = TopicActor::new(
            self.shared.clone(),
            ctx.address(),
            stored.clone(),
            config,
            adopted.clone(),
        )
        .with_groups(kept_groups);
        let entry = self.topics.entry(stored.name.clone()).or_insert_with(|| Entry {
            stored: stored.clone(),
            addr: None,
            topic: None,
            waiting: Vec::new(),
            changing: Arc::default(),
            news: News::Known,
        });
        entry.stored = stored;
        entry.topic = adopted;
        entry.addr = Some(actor.start());
    }

    fn create(&mut self, name: TopicName, config: TopicConfig, ctx: &mut Context<Self>) {
        let stored = StoredTopic {
            id: TopicId(0),
            name: name.clone(),
            epoch: new_epoch(),
            config: config.to_json(),
            partitions: config.partitions,
            memory_only: is_memory_only(&config),
        };
        let entry = Entry {
            stored: stored.clone(),
            addr: None,
            topic: None,
            waiting: Vec::new(),
            changing: Arc::default(),
            news: News::Created,
        };
        self.topics.insert(name, entry);
        let kept = self.shared.store.create_topic(stored.clone());
        ctx.spawn(kept.into_actor(self).map(move |kept, broker, ctx| match kept {
            Ok(Ok(id)) => {
                let nothing = Before::Kept(Vec::new());
                broker.start_topic(StoredTopic { id, ..stored }, config, nothing, ctx);
            }
            Ok(Err(error)) => broker.create_failed(&stored.name, &refusal(&error), ctx),
            Err(_) => broker.create_failed(&stored.name, &refusal(&StoreError::ShuttingDown), ctx),
        }));
    }

    fn create_failed(&mut self, name: &TopicName, refusal: &Refusal, ctx: &mut Context<Self>) {
        if let Some(entry) = self.topics.remove(name) {
            for waiting in entry.waiting {
                // Whoever asked may have gone.
                let _ = waiting.send(Err(refusal.clone()));
            }
        }
        if name.is_internal() {
            log::error!("{name} can not be made: {refusal}");
            // The broker can do without it.
            self.tell_ready(ctx);
        }
    }

    /// The configuration of a new topic, from what was asked and what this broker can keep.
    fn config_of(&self, config: Option<&str>) -> Result<TopicConfig, Refusal> {
        let memory_only = self.shared.settings.memory_only;
        let mut config = TopicConfig::from_json(config.unwrap_or("{}"), &self.shared.default_config())?;
        if memory_only && config.durability != Durability::Memory {
            return Err(Refusal::new(
                ErrorCode::InvalidArgument,
                "this broker keeps everything in memory; durability can only be memory here",
            ));
        }
        if config.durability == Durability::Memory && config.retention_bytes.is_none() {
            config.retention_bytes = Some(callboard_core::topic::MEMORY_RETENTION_BYTES);
        }
        Ok(config)
    }
}

/// A new epoch: unlike every one before, short, and in order of time.
fn new_epoch() -> Epoch {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // Two epochs of one millisecond must differ as well.
    let mut number = (u128::from(clock::now().0) << 24) | (uuid::Uuid::new_v4().as_u128() & 0xff_ffff);
    let mut text = Vec::new();
    while number > 0 {
        text.push(char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
    }
    Epoch(text.into_iter().rev().collect())
}

impl Actor for BrokerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.shared.set_broker(ctx.address());
        actix_rt::spawn(announce::publish_all(self.shared.clone()));
        self.shared.hear_in_groups();
        ctx.run_interval(RETENTION_INTERVAL, |broker, _| {
            let store = broker.shared.store.clone();
            broker.shared.readers.spawn(move || store.retain(clock::now()));
        });
    }
}

/// A worker thread is ready for sessions and partitions.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RegisterWorker(pub Worker);

impl Handler<RegisterWorker> for BrokerActor {
    type Result = ();

    fn handle(&mut self, RegisterWorker(worker): RegisterWorker, ctx: &mut Self::Context) {
        self.shared.add_worker(worker);
        if self.shared.workers().len() == self.workers_expected {
            self.start_kept(ctx);
        }
    }
}

/// What to do about a topic that is asked for.
#[derive(Clone, Debug)]
pub enum Want {
    /// Create it with the defaults if need be and if that is allowed.
    Auto,
    /// Create it; `topic_exists` if it is there.
    New {
        /// Configuration as a JSON object.
        config: String,
    },
    /// Create it, or confirm that it is just so; `conflict` if it is not.
    Declare {
        /// Configuration as a JSON object.
        config: String,
    },
}

/// Asks for a topic. Answered when it can be used.
#[derive(Message)]
#[rtype(result = "Result<Arc<Topic>, Refusal>")]
pub struct GetTopic {
    /// Which.
    pub name: TopicName,
    /// And if it is not there.
    pub want: Want,
}

impl Handler<GetTopic> for BrokerActor {
    type Result = ResponseFuture<Result<Arc<Topic>, Refusal>>;

    fn handle(&mut self, GetTopic { name, want }: GetTopic, ctx: &mut Self::Context) -> Self::Result {
        match self.get_topic(name, &want, ctx) {
            Ok(waiting) => Box::pin(async move {
                waiting
                    .await
                    .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the topic did not start")))
            }),
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        }
    }
}

impl BrokerActor {
    fn get_topic(
        &mut self,
        name: TopicName,
        want: &Want,
        ctx: &mut Context<Self>,
    ) -> Result<oneshot::Receiver<Result<Arc<Topic>, Refusal>>, Refusal> {
        if self.shared.is_shutting_down() {
            return Err(Refusal::new(
                ErrorCode::ShuttingDown,
                "the broker is shutting down",
            ));
        }
        if !self.shared.is_ready() && !self.topics.contains_key(&name) {
            return Err(Refusal::new(ErrorCode::Overloaded, "the broker is starting"));
        }
        if name.is_internal() && !matches!(want, Want::Auto) {
            return Err(internal_name());
        }
        let config = match want {
            Want::Auto => None,
            Want::New { config } | Want::Declare { config } => {
                let config = self.config_of(Some(config))?;
                check_dead_letters(&name, &config)?;
                Some(config)
            }
        };
        let (sender, receiver) = oneshot::channel();
        if let Some(entry) = self.topics.get_mut(&name) {
            match (want, config) {
                (Want::New { .. }, _) => {
                    return Err(Refusal::new(
                        ErrorCode::TopicExists,
                        format!("topic {name} exists"),
                    ));
                }
                (Want::Declare { .. }, Some(config)) if !entry.is_configured(&config) => {
                    let message = format!("topic {name} exists with another configuration");
                    return Err(Refusal::new(ErrorCode::Conflict, message));
                }
                _ => {}
            }
            match &entry.topic {
                // It may have been deleted by the one who asked, whose message was handled before.
                Some(topic) => drop(sender.send(Ok(topic.clone()))),
                None => entry.waiting.push(sender),
            }
            return Ok(receiver);
        }
        if name.is_internal() {
            return Err(internal_name());
        }
        let config = match config {
            Some(config) => config,
            None if self.shared.settings.auto_create => self.config_of(None)?,
            None => return Err(not_found(name.as_str())),
        };
        self.create(name.clone(), config, ctx);
        if let Some(entry) = self.topics.get_mut(&name) {
            entry.waiting.push(sender);
        }
        Ok(receiver)
    }
}

/// A topic that takes its own dead letters would work on them for ever.
fn check_dead_letters(name: &TopicName, config: &TopicConfig) -> Result<(), Refusal> {
    if config.dead_letter_topic.as_deref() == Some(name.as_str()) {
        let message = "a topic can not be its own dead_letter_topic";
        return Err(Refusal::new(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

fn internal_name() -> Refusal {
    Refusal::new(
        ErrorCode::Forbidden,
        "names that begin with $ are the broker's own",
    )
}

fn not_found(name: &str) -> Refusal {
    Refusal::new(ErrorCode::TopicNotFound, format!("there is no topic {name}"))
}

/// Every partition of a topic is open.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicReady(pub Arc<Topic>);

impl Handler<TopicReady> for BrokerActor {
    type Result = ();

    fn handle(&mut self, TopicReady(topic): TopicReady, ctx: &mut Self::Context) {
        let Some(entry) = self.topics.get_mut(&topic.name) else {
            return;
        };
        if entry.stored.id != topic.id {
            return;
        }
        entry.topic = Some(topic.clone());
        topic.subscribers.tell(ctx.address());
        self.shared.directory.insert(topic.clone());
        for worker in self.shared.workers().iter() {
            worker.hub.do_send(TopicOpened(topic.clone()));
        }
        for waiting in std::mem::take(&mut entry.waiting) {
            // Whoever asked may have gone.
            let _ = waiting.send(Ok(topic.clone()));
        }
        let news = std::mem::replace(&mut entry.news, News::Known);
        if topic.name.is_internal() {
            self.shared.events_can_be_written();
        } else if news == News::Created {
            self.shared.announce(Event::TopicCreated {
                topic: topic.name.to_string(),
                temporary: topic.config().temporary,
            });
        } else {
            self.await_subscribers(&topic, ctx);
        }
        self.tell_ready(ctx);
    }
}

/// A TopicActor ended without being told to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicDied(pub String);

impl Handler<TopicDied> for BrokerActor {
    type Result = ();

    fn handle(&mut self, TopicDied(name): TopicDied, ctx: &mut Self::Context) {
        if self.shared.is_shutting_down() {
            return;
        }
        let Some(entry) = self.topics.get(name.as_str()) else {
            return;
        };
        log::error!("topic {name} died and is started again");
        let (stored, adopted) = (entry.stored.clone(), entry.topic.clone());
        match TopicConfig::from_json(&stored.config, &TopicConfig::default()) {
            Ok(config) => self.start_topic(stored, config, Before::Died(adopted), ctx),
            Err(error) => log::error!("topic {name} can not be started again: {error}"),
        }
    }
}

/// Deletes a topic.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct DeleteTopic(pub String);

impl Handler<DeleteTopic> for BrokerActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, DeleteTopic(name): DeleteTopic, _: &mut Self::Context) -> Self::Result {
        if name.starts_with('$') {
            return Box::pin(std::future::ready(Err(internal_name())));
        }
        if self
            .topics
            .get(name.as_str())
            .is_none_or(|entry| entry.topic.is_none())
        {
            return Box::pin(std::future::ready(Err(not_found(&name))));
        }
        let Some(entry) = self.topics.remove(name.as_str()) else {
            return Box::pin(std::future::ready(Err(not_found(&name))));
        };
        // Its bindings first: a record that is routed from now on goes where else it was bound to.
        let forgotten = self.forget_topic_bindings(&name);
        if let Some(topic) = self.shared.directory.remove(&name) {
            topic.set_deleted();
            for worker in self.shared.workers().iter() {
                worker.hub.do_send(TopicClosed(topic.clone()));
            }
            self.shared.announce(Event::TopicDeleted { topic: name.clone() });
        }
        if let Some(addr) = entry.addr {
            addr.do_send(CloseTopic);
        }
        let store = &self.shared.store;
        let deleted = store.delete_topic(entry.stored.id);
        // What a crash leaves of them goes at the next start.
        let forgotten = (!forgotten.is_empty()).then(|| store.keep_facts(forgotten));
        Box::pin(async move {
            let failed = |_| Err(StoreError::ShuttingDown);
            deleted
                .await
                .unwrap_or_else(failed)
                .map_err(|error| refusal(&error))?;
            match forgotten {
                Some(forgotten) => forgotten
                    .await
                    .unwrap_or_else(failed)
                    .map_err(|error| refusal(&error)),
                None => Ok(()),
            }
        })
    }
}

/// Makes a topic's actor panic, as a fault of ours would.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub struct PanicTopic(pub String);

#[cfg(test)]
impl Handler<PanicTopic> for BrokerActor {
    type Result = ();

    fn handle(&mut self, PanicTopic(name): PanicTopic, _: &mut Self::Context) {
        if let Some(addr) = self
            .topics
            .get(name.as_str())
            .and_then(|entry| entry.addr.clone())
        {
            addr.do_send(super::partition::InjectPanic);
        }
    }
}
