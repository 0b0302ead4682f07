//! The concurrency: who owns what, and nothing else. Decisions are core's, bytes the store's.
//!
//! ```text
//!            BrokerActor ──starts, restarts──▶ TopicActor ──starts, restarts──▶ PartitionActor
//!   (registry, control plane)            (one topic)                   (single writer of one partition)
//!                                                                        ▲ Append      │ Committed
//!   worker thread:  socket ⇄ SessionActor ──────────────────────────────┘             ▼
//!                      ▲                                                     HubActor (one a thread)
//!                      └──────────── outbox ◀── one reference a batch ────────────────┘
//!
//!   TopicActor ──starts, restarts──▶ GroupActor ◀── Join, Commit, Settle ── sessions' memberships
//!                 (one group)            │ Wake ◀── PartitionActor
//!                                        └── GroupNews (assigned, revoked, leased records, answers) ──▶ HubActor
//! ```
//!
//! | message | from → to | promise |
//! |---|---|---|
//! | [`append::Append`] | session, REST → partition | kept in the order sent; answered once, also through a panic |
//! | [`hub::Committed`] | partition → hub | in the order of offsets; if the mailbox is full the hub reads instead |
//! | [`hub::Settle`] | partition → hub | never lost; bounded by what sessions have in flight |
//! | [`partition::Watch`] | hub → partition | answered with the end, so that nothing in between is missed |
//! | `partition::mailbox::StoreEvent` | store's writer → partition | at most one a flush |
//! | [`partition::Sent`], [`partition::Processed`] | hub, group → partition | only while a publisher waits to hear of it |
//! | [`partition::RoomMade`] | group → partition | only while a publisher waits because the topic is full |
//! | [`broker::GetTopic`] … | anyone → broker | one at a time for each name |
//! | [`group::mailbox::Join`], `Commit`, `Settle` … | membership → group | in the order sent; answered once, also through a panic |
//! | [`group::receipt::GroupNews`] | group → hub | in order; bounded by credit and by what the member's socket takes |
//! | [`webhook::mailbox::GroupSays`] | group → webhook | in order; bounded by its concurrency |
//! | [`group::mailbox::Settle`], `SetCredit` | webhook → group | one for each call that ended |
//! | [`group::mailbox::Wake`] | partition, membership → group | at most one waits |
//! | [`partition::Sent`], `Processed`, `RoomMade` | hub, group → partition | only while publishers wait for it |
//! | [`announce::Event`] | anyone → `$events` | a bounded queue that never waits; the oldest go when it is full |
//!
//! What is full is decided: a session with too much in flight, or whose replies are not taken, is no longer
//! read from; a partition's full mailbox makes the session wait; a full outbox makes a subscriber read on
//! from the log. What publishers wait for (`ack` `delivered` and `processed`, `when_full`) is bounded by
//! [`waiting`]; the session's other frames go on meanwhile.

pub mod announce;
pub mod append;
pub mod broker;
pub mod clock;
pub mod conn;
pub mod directory;
pub mod events;
pub mod exchanges;
pub mod gateway;
mod gathered;
pub mod group;
pub mod hub;
pub mod intake;
pub mod member;
pub mod notice;
pub mod pages;
pub mod partition;
pub mod pending;
pub mod plain;
pub mod push;
pub mod readers;
pub mod session;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
pub mod together;
pub mod told;
pub mod topic;
pub mod waiting;
pub mod webhook;
pub mod wire;

use std::sync::{
    Arc, OnceLock, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use actix::{Addr, ArbiterHandle};
use callboard_core::{
    group::MemberId,
    topic::{Durability, TopicConfig},
};

use self::told::Told;
use crate::store::{
    CommitEvent, CommitSink, Incarnation, PartitionKey, Store, StoreError, Submission, Submitted, Telling,
};

/// What the actors are told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a topic that does not exist is created by its first publish or subscribe.
    pub auto_create: bool,
    /// Whether nothing is kept on disk.
    pub memory_only: bool,
    /// Quiet time before a Ping.
    pub heartbeat_ms: u64,
    /// Silence that ends a session.
    pub session_timeout_ms: u64,
    /// A member of a group whose socket takes nothing for so long is out.
    pub member_timeout_ms: u64,
    /// How long a named member's partitions wait for it to come back.
    pub rejoin_grace_ms: u64,
    /// How long a temporary topic waits for a subscriber after a restart.
    pub temporary_grace_ms: u64,
    /// How long a member may commit what it was given of a partition that it loses.
    pub revoke_grace_ms: u64,
    /// Whether webhooks and notices may go to addresses that are not public.
    pub webhook_allow_private: push::AllowPrivate,
}

/// A thread that sessions and partitions run on.
#[derive(Clone)]
pub struct Worker {
    /// Its hub.
    pub hub: hub::HubAddr,
    /// Where to start an actor on it.
    pub arbiter: ArbiterHandle,
    /// What its actors have not heard yet.
    told: Arc<Told>,
}

impl Worker {
    /// The thread of this hub.
    pub fn new(hub: hub::HubAddr, arbiter: ArbiterHandle) -> Self {
        let told = Arc::new(Told::new(hub.clone()));
        Self { hub, arbiter, told }
    }
}

/// What all threads share.
pub struct Shared {
    /// See [`Settings`].
    pub settings: Settings,
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// The topics.
    pub directory: directory::Directory,
    /// The exchanges.
    pub exchanges: exchanges::Exchanges,
    /// Threads that may wait for a disk.
    pub readers: readers::Readers,
    /// The HTTP endpoints that are members of groups.
    pub webhooks: webhook::registry::Webhooks,
    workers: RwLock<Arc<[Worker]>>,
    broker: OnceLock<Addr<broker::BrokerActor>>,
    push: OnceLock<push::Push>,
    incarnations: AtomicU64,
    members: AtomicU64,
    announcements: announce::Announcements,
    /// Whether the store says when it has told all of a flush.
    hears_in_groups: AtomicBool,
    shutting_down: AtomicBool,
    ready: AtomicBool,
}

impl Shared {
    /// What a broker starts with.
    pub fn new(settings: Settings, store: Arc<dyn Store>, readers: readers::Readers) -> Self {
        Self {
            settings,
            store,
            directory: directory::Directory::default(),
            exchanges: exchanges::Exchanges::default(),
            readers,
            webhooks: webhook::registry::Webhooks::default(),
            workers: RwLock::new(Arc::new([])),
            broker: OnceLock::new(),
            push: OnceLock::new(),
            incarnations: AtomicU64::new(0),
            members: AtomicU64::new(0),
            announcements: announce::Announcements::default(),
            hears_in_groups: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }

    /// The workers that have come so far.
    pub fn workers(&self) -> Arc<[Worker]> {
        self.workers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add_worker(&self, worker: Worker) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        *workers = workers.iter().cloned().chain([worker]).collect();
    }

    /// The worker of a partition: spread evenly, and the same after a restart of its actor.
    fn worker_for(&self, key: PartitionKey) -> Worker {
        let workers = self.workers();
        let index = (key.topic.0 + u64::from(key.partition.0)) as usize % workers.len();
        workers[index].clone()
    }

    fn arbiter_for(&self, key: PartitionKey) -> ArbiterHandle {
        self.worker_for(key).arbiter
    }

    /// Has the store say when it has told all of a flush, so that each thread is woken once.
    fn hear_in_groups(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        let hook = move || {
            if let Some(shared) = shared.upgrade() {
                for worker in shared.workers().iter() {
                    worker.told.wake();
                }
            }
        };
        if self.store.after_telling(Arc::new(hook)) == Telling::InGroups {
            self.hears_in_groups.store(true, Ordering::Release);
        }
    }

    /// Where the store tells of the commits of `key`; `tell` names the actor.
    fn commit_sink(
        &self,
        key: PartitionKey,
        tell: impl Fn(CommitEvent) -> told::Telling + Send + Sync + 'static,
    ) -> CommitSink {
        if !self.hears_in_groups.load(Ordering::Acquire) {
            return Box::new(move |event| tell(event).tell());
        }
        let told = self.worker_for(key).told;
        Box::new(move |event| told.add(tell(event)))
    }

    /// Hands a batch to the store, which begins with it when this thread's turn is over.
    ///
    /// # Errors
    /// As [`Store::submit`].
    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        let submitted = self.store.gather(submission)?;
        if submitted == Submitted::Pending {
            gathered::begin_soon(&self.store);
        }
        Ok(submitted)
    }

    /// The registry.
    pub fn broker(&self) -> &Addr<broker::BrokerActor> {
        self.broker
            .get()
            .expect("the broker starts before anyone can ask for it")
    }

    fn set_broker(&self, broker: Addr<broker::BrokerActor>) {
        // A second broker would be a fault of the caller; the first one stays.
        let _ = self.broker.set(broker);
        self.push
            .get_or_init(|| push::Push::start(self.settings.webhook_allow_private));
    }

    /// What calls HTTP endpoints.
    pub fn push(&self) -> &push::Push {
        self.push
            .get()
            .expect("the broker starts it before anyone can ask for it")
    }

    fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.incarnations.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn next_member(&self) -> MemberId {
        MemberId(self.members.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn default_config(&self) -> TopicConfig {
        let mut config = TopicConfig::default();
        if self.settings.memory_only {
            config.durability = Durability::Memory;
        }
        config
    }

    /// Whether the broker has begun to end.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    /// Refuses what is new from now on.
    pub fn set_shutting_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
    }

    /// Whether every topic that is kept can be used.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_shutting_down()
    }

    fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}
