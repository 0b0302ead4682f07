//! What the registry does for groups: finds the topic that owns them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use actix::prelude::*;
use callboard_protocol::{ErrorCode, GroupName, TopicName, error::Refusal};

use super::{BrokerActor, not_found};
use crate::{
    actors::{
        group::handle::GroupRef,
        topic::{
            TopicActor,
            groups::{DeleteGroup, GroupWish, OpenGroup, parent_of},
        },
    },
    store::{StoredTopic, TopicId},
};

/// Asks for a group, made if need be.
#[derive(Message)]
#[rtype(result = "Result<Arc<GroupRef>, Refusal>")]
pub struct GetGroup {
    /// Of which topic.
    pub topic: TopicName,
    /// Which.
    pub name: GroupName,
    /// And if it is not there.
    pub wish: GroupWish,
}

impl Handler<GetGroup> for BrokerActor {
    type Result = ResponseFuture<Result<Arc<GroupRef>, Refusal>>;

    fn handle(&mut self, GetGroup { topic, name, wish }: GetGroup, _: &mut Self::Context) -> Self::Result {
        self.ask_topic(topic.as_str(), OpenGroup { name, wish })
    }
}

/// Deletes a group.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct RemoveGroup {
    /// Of which topic.
    pub topic: TopicName,
    /// Which.
    pub name: String,
}

impl Handler<RemoveGroup> for BrokerActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, RemoveGroup { topic, name }: RemoveGroup, _: &mut Self::Context) -> Self::Result {
        self.ask_topic(topic.as_str(), DeleteGroup(name))
    }
}

impl BrokerActor {
    fn ask_topic<M, T>(&self, topic: &str, message: M) -> ResponseFuture<Result<T, Refusal>>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        TopicActor: Handler<M>,
    {
        let addr = self.topics.get(topic).and_then(|entry| entry.addr.clone());
        let Some(addr) = addr else {
            return Box::pin(std::future::ready(Err(not_found(topic))));
        };
        Box::pin(async move {
            addr.send(message)
                .await
                .map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))?
        })
    }

    /// Takes the groups out of what the store keeps, by their topics. One whose topic is gone was being
    /// deleted with it, and is.
    pub(super) fn kept_groups(&mut self) -> HashMap<TopicId, Vec<StoredTopic>> {
        let mut groups: HashMap<TopicId, Vec<StoredTopic>> = HashMap::new();
        for stored in self.kept.extract_if(.., |stored| parent_of(stored).is_some()) {
            if let Some(parent) = parent_of(&stored) {
                groups.entry(parent).or_default().push(stored);
            }
        }
        let topics: HashSet<TopicId> = self.kept.iter().map(|topic| topic.id).collect();
        for (_, orphans) in groups.extract_if(|parent, _| !topics.contains(parent)) {
            for orphan in orphans {
                // Not awaited: tried again at the next start.
                drop(self.shared.store.delete_topic(orphan.id));
            }
        }
        groups
    }
}
