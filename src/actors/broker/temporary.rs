//! Topics that go with their last subscriber.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{BrokerActor, DeleteTopic};
use crate::actors::directory::Topic;

/// The last subscriber of a temporary topic has gone, or nobody came back to it after a restart.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Abandoned(pub Arc<Topic>);

impl Handler<Abandoned> for BrokerActor {
    type Result = ();

    fn handle(&mut self, Abandoned(topic): Abandoned, ctx: &mut Self::Context) {
        let name = topic.name.as_str();
        let is_known = self
            .topics
            .get(name)
            .is_some_and(|entry| entry.stored.id == topic.id && entry.topic.is_some());
        // Sessions that end with the broker come back when it does.
        let is_ending = self.shared.is_shutting_down();
        if is_ending || !is_known || !topic.config().temporary || !topic.subscribers.close_if_none() {
            return;
        }
        // In this turn, so that whoever asks for the topic next finds it gone and not closed.
        let deleting = self.handle(DeleteTopic(name.to_owned()), ctx);
        ctx.spawn(deleting.into_actor(self).map(move |deleted, _, _| {
            if let Err(refusal) = deleted {
                log::error!("the temporary topic {} is not deleted: {refusal}", topic.name);
            }
        }));
    }
}

/// Answered when the topics that were going have gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settled;

impl Handler<Settled> for BrokerActor {
    type Result = ();

    /// A topic goes within one turn, so to be asked is enough.
    fn handle(&mut self, _: Settled, _: &mut Self::Context) {}
}

impl BrokerActor {
    /// Gives the subscribers of a temporary topic that is kept a while to come back.
    pub(super) fn await_subscribers(&self, topic: &Arc<Topic>, ctx: &mut Context<Self>) {
        if topic.config().temporary {
            let grace = Duration::from_millis(self.shared.settings.temporary_grace_ms);
            ctx.notify_later(Abandoned(topic.clone()), grace);
        }
    }
}
