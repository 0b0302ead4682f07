//! What the store's writer has said and the actors have not heard yet, for each worker thread.
//!
//! A flush commits for many partitions. Told one by one, the first would wake its thread, which would answer
//! and push for it alone, and then for the next; on few cores it would even take the writer's place. So they
//! are told together: the writer collects here, and each thread is woken once a flush.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Addr, Message};

use super::{
    group::{GroupActor, mailbox::LogEvent},
    hub::HubAddr,
    partition::{PartitionActor, ScheduleEvent, StoreEvent},
};
use crate::store::CommitEvent;

/// Somebody to be told, and what. Addresses are shared: a clone of one takes memory, and this is one a flush.
pub enum Telling {
    /// A partition, of its records.
    Partition(Arc<Addr<PartitionActor>>, CommitEvent),
    /// A partition, of its schedules.
    Schedules(Arc<Addr<PartitionActor>>, CommitEvent),
    /// A group, of its log.
    Group(Arc<Addr<GroupActor>>, CommitEvent),
}

impl Telling {
    /// Tells it. At most one event a flush and partition, and flushes wait for its own submissions, so the
    /// mailbox may be passed over.
    pub fn tell(self) {
        match self {
            Self::Partition(addr, event) => addr.do_send(StoreEvent(event)),
            Self::Schedules(addr, event) => addr.do_send(ScheduleEvent(event)),
            Self::Group(addr, event) => addr.do_send(LogEvent(event)),
        }
    }
}

/// What waits for the actors of one worker thread.
pub struct Told {
    hub: HubAddr,
    waiting: Mutex<Vec<Telling>>,
}

/// There is something in it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct HearTold(pub Arc<Told>);

impl Told {
    /// For the thread of this hub.
    pub fn new(hub: HubAddr) -> Self {
        Self {
            hub,
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Telling>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps it until [`Self::wake`].
    pub fn add(&self, telling: Telling) {
        self.waiting().push(telling);
    }

    /// Wakes the thread, if there is something for it.
    pub fn wake(self: &Arc<Self>) {
        if !self.waiting().is_empty() {
            self.hub.do_send(HearTold(self.clone()));
        }
    }

    /// Tells everybody.
    pub fn hear(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Telling::tell);
    }
}
