//! WebhookActor: one HTTP endpoint, a member of a shared group like any other.
//!
//! Owns the endpoint's place in its group, the calls that are under way, and the connections that they use. Each
//! record that the group leases to it is a call at once; how the call ends is the ack or the nack. Decides
//! nothing about records: the group counts attempts and writes dead letters, [`health`] says when an endpoint is
//! left alone. All of them run on the thread of [`super::push`]; started, and started again, by the BrokerActor.

pub mod call;
mod calls;
pub mod health;
pub mod mailbox;
pub mod registry;
mod seat;
pub mod settings;

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_protocol::Timestamp;
use tokio::sync::oneshot;

use self::{
    health::Health,
    mailbox::{DisabledNow, Enabled, End, GroupAgain, GroupGone, GroupSays, Retire},
    registry::WebhookRef,
    seat::Seat,
    settings::Disabled,
};
use super::{
    Shared,
    announce::Event,
    broker::BrokerActor,
    clock,
    group::receipt::Whats,
    push::{client::Endpoint, target::Target},
    topic::Sentinel,
};

/// How often connections that nobody uses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// See the module.
pub struct WebhookActor {
    shared: Arc<Shared>,
    webhook: Arc<WebhookRef>,
    /// None if its URL may not be called as the broker is configured now.
    endpoint: Option<(Rc<Endpoint>, Target)>,
    /// Its place in the group, as long as it has one.
    seat: Option<Seat>,
    /// The place that it has given up, while calls that belong to it are under way.
    former: Option<Seat>,
    /// Calls under way.
    calls: u64,
    health: Health,
    /// Rings when a pause is over.
    alarm: Option<SpawnHandle>,
    /// Told when nothing is under way any more.
    retiring: Option<oneshot::Sender<()>>,
    sentinel: Sentinel,
}

impl WebhookActor {
    /// An actor for a webhook.
    pub fn new(shared: Arc<Shared>, webhook: Arc<WebhookRef>, owner: Addr<BrokerActor>) -> Self {
        Self {
            sentinel: Sentinel::webhook(owner, webhook.id.clone()),
            shared,
            webhook,
            endpoint: None,
            seat: None,
            former: None,
            calls: 0,
            health: Health::default(),
            alarm: None,
            retiring: None,
        }
    }

    fn label(&self) -> String {
        let settings = &self.webhook.settings;
        format!("webhook {} of {}", self.webhook.id, settings.topic)
    }

    fn is_disabled(&self) -> bool {
        self.webhook.status().disabled.is_some()
    }

    /// Finds out where its calls go, and takes its place in the group.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if self.is_disabled() || self.retiring.is_some() || self.seat.is_some() {
            return;
        }
        let push = self.shared.push();
        match Target::parse(&self.webhook.settings.url, push.allow_private()) {
            Ok(target) => {
                let idle_max = self.webhook.settings.concurrency as usize;
                let endpoint = Endpoint::new(push.connector().clone(), target.clone(), idle_max);
                self.endpoint = Some((Rc::new(endpoint), target));
            }
            Err(refusal) => {
                // Not kept: it goes on when the broker is started as it was before.
                log::warn!("{} calls nobody: {refusal}", self.label());
                self.webhook.status().disabled = Some(Disabled {
                    reason: "forbidden".into(),
                    at: clock::now(),
                });
                return;
            }
        }
        self.take_seat(ctx);
    }

    /// Calls nobody any more, says why, and keeps that.
    fn disable(&mut self, reason: &str, ctx: &mut Context<Self>) {
        if !self.is_disabled() {
            log::warn!("{} is disabled: {reason}", self.label());
            self.keep_disabled(reason, ctx);
            announce_disabled(&self.shared, &self.webhook, reason);
        }
        self.rest(ctx);
    }

    /// Gives its place up; what is under way ends as it does.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        self.leave_seat();
        self.show();
    }

    fn keep_disabled(&self, reason: &str, ctx: &mut Context<Self>) {
        let disabled = Disabled {
            reason: reason.to_owned(),
            at: clock::now(),
        };
        // Whoever else has disabled it meanwhile was the first.
        let kept = self.webhook.keep(&*self.shared.store, |status| {
            status.disabled.get_or_insert(disabled);
        });
        let label = self.label();
        ctx.spawn(
            async move {
                match kept.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => log::error!("how {label} is could not be kept: {error}"),
                    // The broker ends; its group tells it again at the next start.
                    Err(_) => {}
                }
            }
            .into_actor(self),
        );
    }

    /// Lets others see how it does.
    fn show(&self) {
        let mut status = self.webhook.status();
        status.is_paused = self.health.is_paused();
        status.retry_at = self.health.waits_until();
        status.failures = self.health.failures();
        status.in_flight = self.calls;
    }

    /// Is woken when the pause is over.
    fn set_alarm(&mut self, until: Timestamp, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        // A clock that counts milliseconds may ring just before one has passed.
        let delay = Duration::from_millis(until.since(clock::now()) + 1);
        self.alarm = Some(ctx.run_later(delay, |actor, ctx| {
            actor.alarm = None;
            if actor.health.tick(clock::now()) {
                actor.show();
                actor.set_credit();
            } else if let Some(until) = actor.health.waits_until() {
                actor.set_alarm(until, ctx);
            }
        }));
    }
}

/// Says to everybody that a webhook calls nobody any more.
pub fn announce_disabled(shared: &Shared, webhook: &WebhookRef, reason: &str) {
    shared.announce(Event::WebhookDisabled {
        webhook: webhook.id.clone(),
        topic: webhook.settings.topic.to_string(),
        group: webhook.settings.group.to_string(),
        url: webhook.settings.url.clone(),
        reason: reason.to_owned(),
    });
}

impl Actor for WebhookActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Before it looks for its group, so that whoever ends that finds this address.
        self.webhook.set_addr(ctx.address());
        if self.webhook.status().is_deleted {
            // Before anybody could tell it.
            self.sentinel.dismiss();
            return ctx.stop();
        }
        self.show();
        ctx.run_interval(SWEEP_INTERVAL, |actor, _| {
            if let Some((endpoint, _)) = &actor.endpoint {
                endpoint.sweep();
            }
        });
        self.begin(ctx);
    }
}

impl Handler<GroupSays> for WebhookActor {
    type Result = ();

    fn handle(&mut self, GroupSays { member, what }: GroupSays, ctx: &mut Self::Context) {
        match what {
            Whats::Leased(records) => self.leased(member, records, ctx),
            Whats::Denied(refusal) => self.denied(member, &refusal, ctx),
            Whats::Left(0) => self.left(member),
            // It speaks no WebSocket, sends no frames and commits no positions.
            Whats::Left(_)
            | Whats::Joined(_)
            | Whats::Replaced
            | Whats::Assigned(..)
            | Whats::Revoked(..)
            | Whats::Deliver(_)
            | Whats::Settled(_) => {}
        }
    }
}

impl Handler<GroupAgain> for WebhookActor {
    type Result = ();

    fn handle(&mut self, GroupAgain(group): GroupAgain, ctx: &mut Self::Context) {
        self.group_again(&group, ctx);
    }
}

impl Handler<GroupGone> for WebhookActor {
    type Result = ();

    fn handle(&mut self, GroupGone(group, reason): GroupGone, ctx: &mut Self::Context) {
        if self.has_lost_seat(&group) {
            self.disable(reason, ctx);
            self.say_if_retired();
        }
    }
}

impl Handler<Enabled> for WebhookActor {
    type Result = ();

    fn handle(&mut self, _: Enabled, ctx: &mut Self::Context) {
        // An endpoint that is enabled again is as good as new.
        self.health = Health::default();
        self.show();
        self.begin(ctx);
    }
}

impl Handler<DisabledNow> for WebhookActor {
    type Result = ();

    fn handle(&mut self, _: DisabledNow, ctx: &mut Self::Context) {
        if self.is_disabled() {
            self.rest(ctx);
        }
    }
}

impl Handler<Retire> for WebhookActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) -> Self::Result {
        let (done, is_done) = oneshot::channel();
        self.retiring = Some(done);
        self.rest(ctx);
        self.say_if_retired();
        // Dropped with the actor, and then nothing is under way either.
        Box::pin(async move { drop(is_done.await) })
    }
}

impl Handler<End> for WebhookActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        self.sentinel.dismiss();
        self.give_back();
        // Ends the calls as well.
        ctx.stop();
    }
}
