//! Who subscribes to a topic by its name, counted over all threads.
//!
//! Owns the count, and whether the topic still takes subscribers: a temporary one is closed by the same step
//! that finds nobody there, so that nobody is told to be subscribed to a topic that goes. Sessions, event
//! streams and groups hold a [`Subscriber`] for as long as they are one; patterns hold none.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix::Addr;
use callboard_protocol::{ErrorCode, error::Refusal};

use super::Topic;
use crate::actors::broker::{Abandoned, BrokerActor};

/// How somebody subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets every record.
    Plain,
    /// Gets every record, and wants to be the only one who does.
    Alone,
    /// Works with others in a group.
    Member,
}

/// Why somebody can not subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The topic goes, or has gone, since it was looked up. The registry knows what there is now.
    Gone,
    /// It or somebody who is there wants to be alone.
    Refused(Refusal),
}

/// The subscribers of one topic.
#[derive(Default)]
pub struct Subscribers {
    count: Mutex<Count>,
    registry: OnceLock<Addr<BrokerActor>>,
}

#[derive(Default)]
struct Count {
    members: u64,
    plain: u64,
    /// The only plain one wants to stay that.
    is_alone: bool,
    is_closed: bool,
}

impl Subscribers {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names who is told when the last subscriber of a temporary topic has gone.
    pub(in crate::actors) fn tell(&self, registry: Addr<BrokerActor>) {
        // The topic of a TopicActor that died is known already, and by the same.
        let _ = self.registry.set(registry);
    }

    /// Takes no more of them from now on.
    pub(in crate::actors) fn close(&self) {
        self.count().is_closed = true;
    }

    /// Takes no more of them if there are none; whether that is so.
    pub(in crate::actors) fn close_if_none(&self) -> bool {
        let mut count = self.count();
        count.is_closed |= count.members + count.plain == 0;
        count.is_closed
    }

    fn join(&self, role: Role) -> Result<(), Denied> {
        let conflict = |message| Err(Denied::Refused(Refusal::new(ErrorCode::Conflict, message)));
        let mut count = self.count();
        if count.is_closed {
            return Err(Denied::Gone);
        }
        match role {
            Role::Member => count.members += 1,
            Role::Plain | Role::Alone if count.is_alone => {
                return conflict("a subscriber that is there has the topic for itself");
            }
            Role::Alone if count.plain > 0 => {
                return conflict("the topic has a subscriber already, and this one wants it for itself");
            }
            Role::Plain | Role::Alone => {
                count.plain += 1;
                count.is_alone = role == Role::Alone;
            }
        }
        Ok(())
    }

    /// Whether that was the last one.
    fn leave(&self, role: Role) -> bool {
        let mut count = self.count();
        match role {
            Role::Member => count.members -= 1,
            Role::Plain | Role::Alone => {
                count.plain -= 1;
                count.is_alone = false;
            }
        }
        count.members + count.plain == 0
    }
}

/// Somebody who subscribes to a topic by its name, until it is dropped.
pub struct Subscriber {
    topic: Arc<Topic>,
    role: Role,
}

impl Subscriber {
    /// Counts one more.
    ///
    /// # Errors
    /// [`Denied::Gone`], and [`Denied::Refused`] with `conflict`.
    pub fn new(topic: &Arc<Topic>, role: Role) -> Result<Self, Denied> {
        topic.subscribers.join(role)?;
        let topic = topic.clone();
        Ok(Self { topic, role })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let topic = &self.topic;
        if topic.subscribers.leave(self.role)
            && topic.config().temporary
            && let Some(registry) = topic.subscribers.registry.get()
        {
            registry.do_send(Abandoned(topic.clone()));
        }
    }
}
