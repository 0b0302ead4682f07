//! A topic's groups: made, started, restarted and deleted by its TopicActor.

use std::{collections::HashMap, sync::Arc};

use actix::prelude::*;
use callboard_core::lease::Ordering;
use callboard_protocol::{ErrorCode, GroupMode, GroupName, TopicName, error::Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{TopicActor, deaths::Deaths, schedules::scheduled_topic};
use crate::{
    actors::{
        clock,
        directory::Topic,
        group::{
            GroupActor, Start,
            handle::GroupRef,
            mailbox::{Adopt, CloseGroup, TopicMoved},
            receipt::GroupEnded,
        },
        partition,
    },
    store::{StoreError, StoredTopic, TopicId},
};

/// What the names begin with under which the store keeps the logs of groups.
const STORED_PREFIX: &str = "$groups.";

/// What a group's first member asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWish {
    /// How it shares the topic; needed for a new group.
    pub mode: Option<GroupMode>,
    /// What of order it keeps.
    pub ordering: Ordering,
}

type Waiting = oneshot::Sender<Result<Arc<GroupRef>, Refusal>>;

/// The groups that are being made or were restarted lately.
#[derive(Default)]
pub struct Groups {
    making: HashMap<GroupName, Vec<Waiting>>,
    deaths: HashMap<GroupName, Deaths>,
}

/// What the store keeps of a group besides its log.
#[derive(Serialize, Deserialize)]
struct StoredGroup {
    group: String,
    mode: String,
    ordering: String,
}

/// The topic of the store's that the kept entry is a group or the schedule log of; none if it is a topic itself.
pub fn parent_of(stored: &StoredTopic) -> Option<TopicId> {
    if let Some(topic) = scheduled_topic(stored) {
        return Some(topic);
    }
    let rest = stored.name.as_str().strip_prefix(STORED_PREFIX)?;
    let (id, _) = rest.split_once('.')?;
    id.parse().ok().map(TopicId)
}

fn group_ref(topic: &TopicName, stored: StoredTopic) -> Option<GroupRef> {
    let kept: StoredGroup = serde_json::from_str(&stored.config).ok()?;
    let name = GroupName::parse(&kept.group).ok()?;
    let mode = GroupMode::parse(&kept.mode)?;
    let ordering = match kept.ordering.as_str() {
        "key" => Ordering::Key,
        _ => Ordering::BestEffort,
    };
    Some(GroupRef::new(topic.clone(), name, (mode, ordering), stored))
}

impl TopicActor {
    /// Starts the groups that are kept, once the topic is there.
    pub(super) fn start_kept_groups(&mut self, topic: &Arc<Topic>, ctx: &mut Context<Self>) {
        for stored in std::mem::take(&mut self.kept_groups) {
            let name = stored.name.clone();
            match group_ref(&topic.name, stored) {
                Some(group) => {
                    let group = Arc::new(group);
                    topic.add_group(group.clone());
                    self.start_group(topic, &group, Start::First, ctx);
                }
                None => log::error!("the group kept as {name} is left out: it can not be read"),
            }
        }
    }

    /// Takes over the groups of a former actor of the same topic.
    pub(super) fn adopt_groups(&mut self, topic: &Arc<Topic>, ctx: &mut Context<Self>) {
        for group in topic.groups() {
            match group.addr().filter(Addr::connected) {
                Some(addr) => addr.do_send(Adopt(ctx.address())),
                None => self.start_group(topic, &group, Start::Again, ctx),
            }
        }
    }

    fn start_group(&self, topic: &Arc<Topic>, group: &Arc<GroupRef>, start: Start, ctx: &mut Context<Self>) {
        let actor = GroupActor::new(
            self.shared.clone(),
            topic.clone(),
            group.clone(),
            start,
            ctx.address(),
        );
        let arbiter = self.shared.arbiter_for(crate::store::PartitionKey {
            topic: group.kept.id,
            partition: callboard_protocol::PartitionId(0),
        });
        group.set_addr(GroupActor::start_in_arbiter(&arbiter, move |_| actor));
    }

    /// Lets the groups know that partitions came or the configuration changed.
    pub(super) fn tell_groups(&self, topic: &Topic) {
        topic.wire_groups();
        for group in topic.groups() {
            group.tell(TopicMoved);
        }
    }

    /// Ends a group, and tells its members.
    fn end_group(&self, group: &Arc<GroupRef>, reason: &'static str) {
        group.end(reason);
        group.tell(CloseGroup(reason));
        for worker in self.shared.workers().iter() {
            worker.hub.do_send(GroupEnded(group.clone(), reason));
        }
        self.shared.webhooks.group_ended(group, reason);
    }

    /// Ends the groups with the topic, and forgets their logs.
    pub(super) fn close_groups(&self) {
        let groups = self.topic.iter().flat_map(|topic| topic.groups());
        for group in groups {
            self.end_group(&group, "topic_deleted");
            // Not awaited: what is left of it is removed at the next start.
            drop(self.shared.store.delete_topic(group.kept.id));
        }
    }
}

/// Asks for a group, made if need be.
#[derive(Message)]
#[rtype(result = "Result<Arc<GroupRef>, Refusal>")]
pub struct OpenGroup {
    /// Which.
    pub name: GroupName,
    /// And if it is not there.
    pub wish: GroupWish,
}

impl Handler<OpenGroup> for TopicActor {
    type Result = ResponseFuture<Result<Arc<GroupRef>, Refusal>>;

    fn handle(&mut self, OpenGroup { name, wish }: OpenGroup, ctx: &mut Self::Context) -> Self::Result {
        let Some(topic) = self.topic.clone() else {
            let refusal = Refusal::new(ErrorCode::Overloaded, "the topic is starting");
            return Box::pin(std::future::ready(Err(refusal)));
        };
        if let Some(group) = topic.group(name.as_str()) {
            return Box::pin(std::future::ready(fitting(group, wish)));
        }
        let Some(mode) = wish.mode else {
            let message = format!("{name} is a new group: it needs a mode, partitioned or shared");
            let refusal = Refusal::new(ErrorCode::InvalidArgument, message);
            return Box::pin(std::future::ready(Err(refusal)));
        };
        let letters = self.config.dead_letter_topic_for(&topic.name, &name);
        if mode == GroupMode::Shared
            && (TopicName::parse(&letters).is_err() || letters == topic.name.as_str())
        {
            let message = format!("{letters} is no name for its dead letters: configure dead_letter_topic");
            let refusal = Refusal::new(ErrorCode::InvalidArgument, message);
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let (sender, made) = oneshot::channel();
        let waiting = self.groups.making.entry(name.clone()).or_default();
        waiting.push(sender);
        if waiting.len() == 1 {
            self.make_group(topic, name, (mode, wish.ordering), ctx);
        }
        Box::pin(async move {
            let made = made.await;
            let group = made
                .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the topic failed; try again")))?;
            fitting(group, wish)
        })
    }
}

/// The group, if it is what is asked for.
fn fitting(group: Arc<GroupRef>, wish: GroupWish) -> Result<Arc<GroupRef>, Refusal> {
    let conflict = |what: &str| {
        let message = format!("group {} of {} is {what}", group.name, group.topic);
        Refusal::new(ErrorCode::Conflict, message)
    };
    if wish.mode.is_some_and(|mode| mode != group.mode) {
        return Err(conflict(group.mode.as_str()));
    }
    if wish.ordering == Ordering::Key && group.ordering != Ordering::Key {
        return Err(conflict("not ordered by key"));
    }
    Ok(group)
}

impl TopicActor {
    fn make_group(
        &mut self,
        topic: Arc<Topic>,
        name: GroupName,
        (mode, ordering): (GroupMode, Ordering),
        ctx: &mut Context<Self>,
    ) {
        let config = StoredGroup {
            group: name.to_string(),
            mode: mode.as_str().to_owned(),
            ordering: match ordering {
                Ordering::Key => "key",
                Ordering::BestEffort => "best_effort",
            }
            .to_owned(),
        };
        let stored_name = TopicName::parse(&format!("{STORED_PREFIX}{}.{name}", self.stored.id.0));
        let stored = StoredTopic {
            id: TopicId(0),
            name: stored_name.expect("a group's name is a word of a topic's name"),
            epoch: self.stored.epoch.clone(),
            config: serde_json::to_string(&config).expect("strings always have a JSON form"),
            partitions: 1,
            memory_only: self.stored.memory_only,
        };
        let kept = self.shared.store.create_topic(stored.clone());
        ctx.spawn(kept.into_actor(self).map(move |kept, actor, ctx| {
            let made = match kept.unwrap_or(Err(StoreError::ShuttingDown)) {
                Ok(id) => Ok(Arc::new(GroupRef::new(
                    topic.name.clone(),
                    name.clone(),
                    (mode, ordering),
                    StoredTopic { id, ..stored },
                ))),
                Err(error) => Err(partition::refusal(&error)),
            };
            if let Ok(group) = &made {
                topic.add_group(group.clone());
                actor.start_group(&topic, group, Start::First, ctx);
            }
            for waiting in actor.groups.making.remove(&name).unwrap_or_default() {
                // Whoever asked may have gone.
                let _ = waiting.send(made.clone());
            }
        }));
    }
}

/// Deletes a group.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct DeleteGroup(pub String);

impl Handler<DeleteGroup> for TopicActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, DeleteGroup(name): DeleteGroup, _: &mut Self::Context) -> Self::Result {
        let removed = self.topic.as_ref().and_then(|topic| topic.remove_group(&name));
        let Some(group) = removed else {
            let refusal = no_group(self.stored.name.as_str(), &name);
            return Box::pin(std::future::ready(Err(refusal)));
        };
        self.groups.deaths.remove(&group.name);
        self.end_group(&group, "group_deleted");
        let deleted = self.shared.store.delete_topic(group.kept.id);
        Box::pin(async move {
            deleted
                .await
                .unwrap_or(Err(StoreError::ShuttingDown))
                .map_err(|error| partition::refusal(&error))
        })
    }
}

/// What who asks for a group that is not there is told.
pub fn no_group(topic: &str, name: &str) -> Refusal {
    Refusal::new(ErrorCode::NotSubscribed, format!("{topic} has no group {name}"))
}

/// A group's actor ended without being told to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GroupDied(pub String);

impl Handler<GroupDied> for TopicActor {
    type Result = ();

    fn handle(&mut self, GroupDied(name): GroupDied, ctx: &mut Self::Context) {
        if self.shared.is_shutting_down() {
            return;
        }
        let found = self
            .topic
            .clone()
            .and_then(|topic| Some((topic.group(&name)?, topic)));
        let Some((group, topic)) = found else { return };
        let deaths = self.groups.deaths.entry(group.name.clone()).or_default();
        let delay = deaths.died(clock::now());
        log::error!(
            "group {name} of {} died and is started again in {delay:?}",
            topic.name
        );
        ctx.run_later(delay, move |actor, ctx| {
            // It may have been deleted meanwhile.
            if topic
                .group(&name)
                .is_some_and(|known| Arc::ptr_eq(&known, &group))
            {
                actor.start_group(&topic, &group, Start::Again, ctx);
            }
        });
    }
}
