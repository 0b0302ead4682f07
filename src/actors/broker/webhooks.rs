//! What the registry does for webhooks: starts the actor of each, and starts it again when it died.

use std::sync::Arc;

use actix::prelude::*;

use super::BrokerActor;
use crate::actors::{
    clock,
    webhook::{WebhookActor, registry::WebhookRef},
};

impl BrokerActor {
    /// Starts the webhooks that the store keeps, once their topics are there.
    pub(super) fn start_kept_webhooks(&mut self, ctx: &mut Context<Self>) {
        for webhook in self.shared.webhooks.all() {
            self.start_webhook(webhook, ctx);
        }
    }

    fn start_webhook(&self, webhook: Arc<WebhookRef>, ctx: &mut Context<Self>) {
        let arbiter = self.shared.push().arbiter();
        let (shared, owner) = (self.shared.clone(), ctx.address());
        WebhookActor::start_in_arbiter(&arbiter, move |_| WebhookActor::new(shared, webhook, owner));
    }
}

/// Starts the actor of a webhook that was made.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartWebhook(pub Arc<WebhookRef>);

impl Handler<StartWebhook> for BrokerActor {
    type Result = ();

    fn handle(&mut self, StartWebhook(webhook): StartWebhook, ctx: &mut Self::Context) {
        self.start_webhook(webhook, ctx);
    }
}

/// A webhook's actor ended without being told to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WebhookDied(pub String);

impl Handler<WebhookDied> for BrokerActor {
    type Result = ();

    fn handle(&mut self, WebhookDied(id): WebhookDied, ctx: &mut Self::Context) {
        if self.shared.is_shutting_down() {
            return;
        }
        let delay = self
            .webhook_deaths
            .entry(id.clone())
            .or_default()
            .died(clock::now());
        log::error!("webhook {id} died and is started again in {delay:?}");
        ctx.run_later(delay, move |broker, ctx| {
            // It may have been deleted meanwhile.
            match broker.shared.webhooks.get(&id) {
                Some(webhook) => broker.start_webhook(webhook, ctx),
                None => drop(broker.webhook_deaths.remove(&id)),
            }
        });
    }
}
