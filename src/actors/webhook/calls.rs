//! Records as calls: each begins when it is leased, and its end settles it.

use std::sync::Arc;

use actix::prelude::*;
use callboard_core::{group::MemberId, lease::Nack, record::RecordParts};
use callboard_protocol::Timestamp;

use super::{
    WebhookActor,
    call::{self, Delivery},
    health::{Backoff, Round, Verdict},
    mailbox::LeasedRecord,
    registry::AnswerNote,
};
use crate::actors::{
    clock,
    directory::Topic,
    group::{
        handle::GroupRef,
        mailbox::{Settle, SettleAction, SettleRequest},
        receipt::GroupReceipt,
    },
    push::{
        client::{Answer, Call},
        connect::CallError,
    },
};

/// The status with which an endpoint says that it is gone for good.
const GONE: u16 = 410;
/// Statuses whose `Retry-After` concerns every call and not this record alone.
const ALL_MUST_WAIT: [u16; 2] = [429, 503];

/// A call that is under way.
struct Calling {
    topic: Arc<Topic>,
    group: Arc<GroupRef>,
    member: MemberId,
    leased: LeasedRecord,
    round: Round,
    began: Timestamp,
}

/// How a call ended.
type Outcome = Result<Answer, CallError>;

impl WebhookActor {
    /// Calls the endpoint for each record.
    pub(super) fn leased(&mut self, member: MemberId, records: Vec<LeasedRecord>, ctx: &mut Context<Self>) {
        let known = |seat: &&super::Seat| seat.member == member;
        if let Some(seat) = self.seat.as_ref().filter(known) {
            let (topic, group) = (seat.topic.clone(), seat.group.clone());
            for leased in records {
                let calling = Calling {
                    topic: topic.clone(),
                    group: group.clone(),
                    member,
                    leased,
                    round: self.health.round(),
                    began: clock::now(),
                };
                self.call(calling, ctx);
            }
        } else if let Some(seat) = self.former.as_ref().filter(known) {
            // They were on their way when it gave its place up: somebody else may have them at once.
            for leased in records {
                let action = SettleAction::Nack(Nack::After(0), Some("the webhook was disabled".into()));
                settle(&seat.group, member, leased.delivery, action);
            }
        }
    }

    fn call(&mut self, calling: Calling, ctx: &mut Context<Self>) {
        let Some((endpoint, target)) = self.endpoint.clone() else {
            return;
        };
        let leased = &calling.leased;
        let parts = match RecordParts::decode(&leased.record) {
            Ok((parts, _)) => parts,
            Err(error) => {
                // Checked when it was stored or read, so a fault of ours; nobody must wait for it for ever.
                log::error!("a record for {} can not be read: {error}", self.label());
                let action = SettleAction::Nack(Nack::Backoff, Some("the record can not be read".into()));
                return settle(&calling.group, calling.member, leased.delivery, action);
            }
        };
        let delivery = Delivery {
            epoch: &calling.topic.epoch,
            partition: leased.partition,
            offset: leased.offset,
            timestamp: leased.timestamp,
            attempt: leased.attempt,
            parts: &parts,
        };
        let (headers, body) = call::compose(&self.webhook.settings, &delivery, calling.began);
        let path = target.path;
        let call = Call { path, headers, body };
        let timeout = std::time::Duration::from_millis(self.webhook.settings.timeout_ms);
        self.count_call(calling.member, 1);
        let called = async move {
            let outcome = endpoint.post(&call, timeout).await;
            (calling, outcome)
        };
        ctx.spawn(
            called
                .into_actor(self)
                .map(|(calling, outcome), actor, ctx| actor.ended(calling, outcome, ctx)),
        );
    }

    /// Counts a call more or less.
    fn count_call(&mut self, member: MemberId, change: i64) {
        self.calls = self.calls.saturating_add_signed(change);
        if let Some(seat) = self.seat.as_mut().filter(|seat| seat.member == member) {
            seat.calls = seat.calls.saturating_add_signed(change);
        }
        self.webhook.status().in_flight = self.calls;
    }

    fn ended(&mut self, calling: Calling, outcome: Outcome, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.count_call(calling.member, -1);
        self.note(&calling, &outcome, now);
        let action = if is_success(&outcome) {
            self.health.succeeded(calling.round);
            SettleAction::Ack(None)
        } else {
            self.failed(&calling, &outcome, now, ctx)
        };
        self.show();
        // Before the record is settled, because that lets the group lease the next one.
        self.set_credit();
        settle(&calling.group, calling.member, calling.leased.delivery, action);
        self.say_if_retired();
    }

    /// What a failure means for the endpoint, and for its record.
    fn failed(
        &mut self,
        calling: &Calling,
        outcome: &Outcome,
        now: Timestamp,
        ctx: &mut Context<Self>,
    ) -> SettleAction {
        let asked_ms = outcome.as_ref().ok().and_then(|answer| answer.retry_after_ms);
        let status = outcome.as_ref().ok().map(|answer| answer.status);
        let reason = Some(reason(outcome).into_boxed_str());
        if status == Some(GONE) {
            self.disable("gone", ctx);
            return SettleAction::Nack(Nack::After(0), reason);
        }
        let for_all = asked_ms.filter(|_| status.is_some_and(|status| ALL_MUST_WAIT.contains(&status)));
        let config = calling.topic.config();
        let backoff = Backoff {
            first_ms: config.retry_backoff_ms,
            max_ms: config.retry_backoff_ms_max,
        };
        if self.is_disabled() {
            return SettleAction::Nack(Nack::After(0), reason);
        }
        match self.health.failed(now, calling.round, for_all, backoff) {
            Verdict::GoOn => {}
            Verdict::Pause(until) => self.set_alarm(until, ctx),
            Verdict::GiveUp => {
                self.show();
                self.disable("failing", ctx);
                return SettleAction::Nack(Nack::After(0), reason);
            }
        }
        let nack = asked_ms.map_or(Nack::Backoff, Nack::After);
        SettleAction::Nack(nack, reason)
    }

    /// Remembers how a call ended, for people.
    fn note(&self, calling: &Calling, outcome: &Outcome, now: Timestamp) {
        let mut status = self.webhook.status();
        if is_success(outcome) {
            status.succeeded += 1;
        } else {
            status.failed += 1;
        }
        status.note(AnswerNote {
            at: now,
            status: outcome.as_ref().ok().map(|answer| answer.status),
            error: outcome.as_ref().err().map(ToString::to_string),
            duration_ms: now.since(calling.began),
            place: (calling.leased.partition, calling.leased.offset),
            attempt: calling.leased.attempt,
        });
    }
}

fn is_success(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Ok(Answer {
            status: 200..=299,
            ..
        })
    )
}

/// What a dead letter says of a call that failed.
fn reason(outcome: &Outcome) -> String {
    match outcome {
        Ok(Answer { status, .. }) if (300..400).contains(status) => {
            format!("HTTP {status}; redirects are not followed")
        }
        Ok(answer) => format!("HTTP {}", answer.status),
        Err(error) => error.to_string(),
    }
}

/// Settles one delivery; nobody waits for an answer, because a lease that has ended is the group's matter.
fn settle(group: &GroupRef, member: MemberId, delivery: u64, action: SettleAction) {
    group.tell(Settle {
        member,
        deliveries: vec![delivery],
        requests: vec![SettleRequest {
            id: None,
            count: 1,
            unknown: Vec::new(),
            action,
        }],
        receipt: GroupReceipt::nobody(),
    });
}
