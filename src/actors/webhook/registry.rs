//! The webhooks as every thread sees them: what each is, how it does, and where its actor is.
//!
//! Who makes, changes or deletes one goes through [`crate::actors::gateway::webhooks`]; the actor of each keeps
//! its status up to date.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use actix::{Addr, Message, prelude::Handler};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::{
    WebhookActor,
    mailbox::{GroupAgain, GroupGone},
    settings::{Disabled, StoredWebhook, WebhookSettings},
};
use crate::{
    actors::group::handle::GroupRef,
    store::{Completion, FactChange, Store},
};

/// What the facts of webhooks are kept under.
const FACT_PREFIX: &str = "webhook/";
/// Answers of which each webhook tells.
const ANSWERS_MAX: usize = 20;

/// One webhook.
pub struct WebhookRef {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub settings: WebhookSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// Held by the change that is under way.
    pub changing: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
    addr: RwLock<Option<Addr<WebhookActor>>>,
}

/// How a webhook does.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Why it calls nobody any more.
    pub disabled: Option<Disabled>,
    /// Whether it is gone, or about to be.
    pub is_deleted: bool,
    /// Whether it gets fewer calls than it could because they fail.
    pub is_paused: bool,
    /// Until when it gets none.
    pub retry_at: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// Calls that succeeded, since the broker started.
    pub succeeded: u64,
    /// Calls that failed, since the broker started.
    pub failed: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// The last answers, newest first.
    pub answers: VecDeque<AnswerNote>,
}

/// How one call ended.
#[derive(Clone, Debug)]
pub struct AnswerNote {
    /// When.
    pub at: Timestamp,
    /// The status, if one came.
    pub status: Option<u16>,
    /// What went wrong otherwise.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// Which record it was about.
    pub place: (PartitionId, Offset),
    /// How often that had been handed out.
    pub attempt: u32,
}

impl Status {
    /// It is as good as new.
    pub fn forget_failures(&mut self) {
        (self.is_paused, self.retry_at, self.failures) = (false, None, 0);
    }

    /// Notes how a call ended; the oldest one is forgotten.
    pub fn note(&mut self, answer: AnswerNote) {
        self.answers.truncate(ANSWERS_MAX - 1);
        self.answers.push_front(answer);
    }
}

impl WebhookRef {
    /// A webhook without an actor.
    pub fn new(
        id: String,
        settings: WebhookSettings,
        created_at: Timestamp,
        disabled: Option<Disabled>,
    ) -> Self {
        Self {
            id,
            settings,
            created_at,
            changing: tokio::sync::Mutex::default(),
            status: Mutex::new(Status {
                disabled,
                ..Status::default()
            }),
            addr: RwLock::new(None),
        }
    }

    /// How it does.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the store keeps of it, and has the store keep that. Handed over before anybody else may change
    /// it, so that the store hears of changes in their order, and of none after it was deleted.
    pub fn keep(&self, store: &dyn Store, change: impl FnOnce(&mut Status)) -> Completion<()> {
        let mut status = self.status();
        change(&mut status);
        let stored = StoredWebhook::new(&self.settings, self.created_at, status.disabled.clone());
        store.keep_facts(vec![FactChange {
            key: format!("{FACT_PREFIX}{}", self.id),
            value: (!status.is_deleted).then(|| stored.to_json()),
        }])
    }

    pub(in crate::actors) fn set_addr(&self, addr: Addr<WebhookActor>) {
        *self.addr.write().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// Its actor, if it has one just now.
    pub fn addr(&self) -> Option<Addr<WebhookActor>> {
        self.addr.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells its actor something; a dead one finds it out when it is started again.
    pub fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        WebhookActor: Handler<M>,
    {
        if let Some(addr) = self.addr() {
            addr.do_send(message);
        }
    }
}

/// All webhooks, oldest first.
#[derive(Default)]
pub struct Webhooks(RwLock<BTreeMap<String, Arc<WebhookRef>>>);

impl Webhooks {
    /// The webhook of this id.
    pub fn get(&self, id: &str) -> Option<Arc<WebhookRef>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(id).cloned()
    }

    /// Every one.
    pub fn all(&self) -> Vec<Arc<WebhookRef>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(in crate::actors) fn insert(&self, webhook: Arc<WebhookRef>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(webhook.id.clone(), webhook);
    }

    pub(in crate::actors) fn remove(&self, id: &str) -> Option<Arc<WebhookRef>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(id)
    }

    /// Takes in those that the store keeps.
    pub(in crate::actors) fn load(&self, store: &dyn Store) {
        let facts = store.facts().unwrap_or_else(|error| {
            log::error!("the webhooks can not be read and call nobody: {error}");
            Vec::new()
        });
        for fact in facts {
            let Some(id) = fact.key.strip_prefix(FACT_PREFIX) else {
                continue;
            };
            match StoredWebhook::read(&fact.value) {
                Ok((settings, created_at, disabled)) => {
                    let webhook = WebhookRef::new(id.to_owned(), settings, created_at, disabled);
                    self.insert(Arc::new(webhook));
                }
                Err(error) => log::error!("webhook {id} is left out: {error}"),
            }
        }
    }

    fn of_group(&self, group: &GroupRef) -> impl Iterator<Item = Arc<WebhookRef>> {
        let is_member = |webhook: &Arc<WebhookRef>| {
            webhook.settings.topic == group.topic && webhook.settings.group == group.name
        };
        self.all().into_iter().filter(is_member)
    }

    /// A group has a new actor that knows nobody.
    pub fn group_restarted(&self, group: &Arc<GroupRef>) {
        for webhook in self.of_group(group) {
            webhook.tell(GroupAgain(group.clone()));
        }
    }

    /// A group is gone, for this reason.
    pub fn group_ended(&self, group: &Arc<GroupRef>, reason: &'static str) {
        for webhook in self.of_group(group) {
            webhook.tell(GroupGone(group.clone(), reason));
        }
    }
}
