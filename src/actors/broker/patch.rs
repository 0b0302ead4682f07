//! Changes of a topic's configuration, one after the other for each topic.

use std::sync::Arc;

use actix::prelude::*;
use callboard_protocol::{ErrorCode, error::Refusal};

use super::{BrokerActor, check_dead_letters, internal_name, not_found};
use crate::actors::{directory::Topic, topic::Reconfigure};

/// Changes a topic's configuration.
#[derive(Message)]
#[rtype(result = "Result<Arc<Topic>, Refusal>")]
pub struct PatchTopic {
    /// Which.
    pub name: String,
    /// The fields to change, as a JSON object.
    pub patch: String,
}

impl Handler<PatchTopic> for BrokerActor {
    type Result = ResponseActFuture<Self, Result<Arc<Topic>, Refusal>>;

    fn handle(&mut self, PatchTopic { name, patch }: PatchTopic, _: &mut Self::Context) -> Self::Result {
        if name.starts_with('$') {
            return Box::pin(fut::ready(Err(internal_name())));
        }
        let Some(entry) = self.topics.get(name.as_str()) else {
            return Box::pin(fut::ready(Err(not_found(&name))));
        };
        let turn = entry.changing.clone().lock_owned().into_actor(self);
        Box::pin(turn.then(move |turn, broker, _| {
            let changed = broker.patch_topic(name, &patch);
            // The next change may begin when this one is done.
            changed.map(move |changed, _, _| {
                drop(turn);
                changed
            })
        }))
    }
}

impl BrokerActor {
    /// Changes a topic, from what it is just now.
    fn patch_topic(&self, name: String, patch: &str) -> ResponseActFuture<Self, Result<Arc<Topic>, Refusal>> {
        let found = self
            .topics
            .get(name.as_str())
            .and_then(|entry| entry.addr.clone().zip(entry.topic.clone()));
        let Some((addr, topic)) = found else {
            return Box::pin(fut::ready(Err(not_found(&name))));
        };
        let patched = topic.config().patched(patch);
        let checked = patched.and_then(|config| check_dead_letters(&topic.name, &config).map(|()| config));
        let config = match checked {
            Ok(config) => config,
            Err(refusal) => return Box::pin(fut::ready(Err(refusal))),
        };
        let json = config.to_json();
        let partitions = config.partitions;
        let changed = addr.send(Reconfigure(config));
        Box::pin(changed.into_actor(self).map(move |changed, broker, _| {
            changed.map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))??;
            // Another one of the same name may have taken its place meanwhile.
            if let Some(entry) = broker.topics.get_mut(name.as_str())
                && entry.stored.id == topic.id
            {
                entry.stored.config = json;
                entry.stored.partitions = partitions;
            }
            Ok(topic)
        }))
    }
}
