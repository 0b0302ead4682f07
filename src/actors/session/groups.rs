//! What frames ask of groups: to join, to leave, to commit, to settle deliveries.

use std::{rc::Rc, sync::Arc};

use actix::prelude::*;
use callboard_core::{
    group::Exclusive,
    lease::{Nack, Ordering},
};
use callboard_protocol::{
    ErrorCode, FrameId, GroupMode,
    client::{self, Commit, GroupSubscribe, Release, Settle, Subscribe, Target},
    error::Refusal,
    limits::{GROUP_CREDIT_DEFAULT, SUBSCRIPTIONS_MAX},
    server,
};

use super::{Flow, SessionActor};
use crate::actors::{
    broker::{GetGroup, GroupWish},
    directory::subscribers::{Role, Subscriber},
    group::{
        handle::GroupRef,
        mailbox::{SettleAction, SettleRequest},
        shared::{DELIVERY_BITS, cut_reason, result_bytes, settle_refusal},
    },
    member::{Membership, Wish},
    pages::{self, Starts},
};

/// A session's memberships of its whole life; the number of one is part of its deliveries' numbers, which
/// stay exact in JavaScript.
const MEMBERSHIPS_MAX: u32 = 1 << (53 - DELIVERY_BITS);

/// Requests about deliveries of one membership that go to its group together.
pub(super) struct Settling {
    membership: Rc<Membership>,
    deliveries: Vec<u64>,
    requests: Vec<SettleRequest>,
}

impl SessionActor {
    /// Joins a group.
    pub(super) fn subscribe_group(
        &mut self,
        id: Option<FrameId>,
        subscribe: Subscribe,
        group: GroupSubscribe,
        ctx: &mut Context<Self>,
    ) -> Flow {
        if let Err(refusal) = self.may_join(&subscribe.topic, &group) {
            return self.refuse(id.as_ref(), &refusal);
        }
        let (topic, subscriber) = match self.place_in(id.as_ref(), &subscribe.topic, Role::Member, ctx) {
            Ok(placed) => placed,
            Err(flow) => return flow,
        };
        let asked = self.hub.shared.broker().send(GetGroup {
            topic: topic.name.clone(),
            name: group.group.clone(),
            wish: GroupWish {
                mode: group.mode,
                ordering: match group.ordering {
                    client::OrderingText::BestEffort => Ordering::BestEffort,
                    client::OrderingText::Key => Ordering::Key,
                },
            },
        });
        let from = subscribe.start();
        let shared = self.hub.shared.clone();
        let looked = topic.clone();
        let found = async move {
            let found: Arc<GroupRef> = asked
                .await
                .map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))??;
            let starts = match pages::starts_now(&looked, &from) {
                Some(starts) => starts,
                None => shared
                    .readers
                    .run(move || pages::starts(&looked, &from))
                    .await
                    .unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed")))?,
            };
            Ok((found, starts))
        };
        ctx.spawn(found.into_actor(self).map(move |found, session, ctx| {
            match found {
                Ok((found, starts)) => {
                    let wish = session.wish(id, &subscribe, (group, starts), subscriber);
                    Membership::join(&session.hub, &session.conn, (topic, found), wish);
                }
                Err(refusal) => drop(session.refuse(id.as_ref(), &refusal)),
            }
            session.resume(ctx);
        }));
        Flow::Wait
    }

    fn may_join(&self, topic: &str, group: &GroupSubscribe) -> Result<(), Refusal> {
        let memberships = self.conn.memberships.borrow();
        if memberships
            .iter()
            .any(|known| known.is_in(topic, group.group.as_str()))
        {
            let message = format!("this session is a member of {} of {topic} already", group.group);
            return Err(Refusal::new(ErrorCode::Conflict, message));
        }
        if memberships.len() + self.conn.following.borrow().len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a session has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        if self.conn.memberships_made.get() >= MEMBERSHIPS_MAX {
            let message = "this session has joined too many groups over its life; connect again";
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        Ok(())
    }

    fn wish(
        &self,
        id: Option<FrameId>,
        subscribe: &Subscribe,
        (group, starts): (GroupSubscribe, Starts),
        subscriber: Subscriber,
    ) -> Wish {
        Wish {
            id,
            name: group.member.map(|name| name.as_str().into()),
            credit: subscribe.credit.unwrap_or(GROUP_CREDIT_DEFAULT),
            lease_ms: group.lease_ms,
            exclusive: match group.exclusive {
                true => Exclusive::Yes,
                false => Exclusive::No,
            },
            starts: starts.offsets,
            subscriber: Some(subscriber),
        }
    }

    /// The membership that a frame names.
    fn membership(&self, target: &Target) -> Option<Rc<Membership>> {
        let group = target.group.as_deref()?;
        self.conn
            .memberships
            .borrow()
            .iter()
            .find(|known| known.is_in(&target.topic, group))
            .cloned()
    }

    /// The membership that a frame names, of a group of this mode.
    fn membership_of(&self, target: &Target, mode: GroupMode) -> Result<Rc<Membership>, Refusal> {
        let Some(membership) = self.membership(target) else {
            return Err(no_member(target));
        };
        if membership.group.mode != mode {
            let message = format!("the group is {}", membership.group.mode.as_str());
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        Ok(membership)
    }

    pub(super) fn leave_group(&mut self, id: Option<FrameId>, target: &Target) -> Flow {
        match self.membership(target) {
            Some(membership) => membership.unsubscribe(&self.hub, id),
            None => return self.refuse(id.as_ref(), &no_member(target)),
        }
        Flow::Done
    }

    pub(super) fn group_credit(&mut self, id: Option<FrameId>, credit: &client::Credit) -> Flow {
        match self.membership(&credit.target) {
            Some(membership) => membership.add_credit(&self.hub, credit.add),
            None => return self.refuse(id.as_ref(), &no_member(&credit.target)),
        }
        self.ok(id.as_ref())
    }

    pub(super) fn commit(&mut self, id: Option<FrameId>, commit: Commit) -> Flow {
        let committed = self
            .membership_of(&commit.target, GroupMode::Partitioned)
            .and_then(|membership| {
                membership.commit(&self.hub, id.clone(), commit.generation, commit.offsets)
            });
        match committed {
            Ok(()) => Flow::Done,
            Err(refusal) => self.refuse(id.as_ref(), &refusal),
        }
    }

    pub(super) fn release(&mut self, id: Option<FrameId>, release: Release) -> Flow {
        match self.membership_of(&release.target, GroupMode::Partitioned) {
            Ok(membership) => membership.release(&self.hub, id, release.partitions),
            Err(refusal) => return self.refuse(id.as_ref(), &refusal),
        }
        Flow::Done
    }

    /// Collects what is asked about deliveries; it goes to the groups with what else came in this read.
    pub(super) fn settle(&mut self, id: Option<FrameId>, settle: Settle<'_>) -> Flow {
        let action = action_of(&settle);
        let mut unknown = Vec::new();
        let mut id = Some(id);
        for delivery in settle.deliveries.iter() {
            let index = u32::try_from(delivery >> DELIVERY_BITS).unwrap_or(u32::MAX);
            let Some(place) = self.settling_of(index) else {
                unknown.push(delivery);
                continue;
            };
            let settling = &mut self.settling[place];
            settling.deliveries.push(delivery & ((1 << DELIVERY_BITS) - 1));
            match (settling.requests.last_mut(), &id) {
                // The same is asked of one more, and nobody waits for an answer or it is the same frame's.
                (Some(last), None) if last.action == action => last.count += 1,
                (Some(last), Some(None)) if last.id.is_none() && last.action == action => last.count += 1,
                _ => settling.requests.push(SettleRequest {
                    id: id.take().flatten(),
                    count: 1,
                    unknown: Vec::new(),
                    action: action.clone(),
                }),
            }
            self.last_settled = Some(place);
        }
        if unknown.is_empty() {
            return Flow::Done;
        }
        match (id, self.last_settled.take()) {
            (None, Some(place)) => {
                if let Some(last) = self.settling[place].requests.last_mut() {
                    last.unknown = unknown;
                }
            }
            (id, _) => self.refuse_unknown(id.flatten().as_ref(), &unknown),
        }
        Flow::Done
    }

    fn refuse_unknown(&self, id: Option<&FrameId>, unknown: &[u64]) {
        let code = ErrorCode::UnknownDelivery;
        let failed: Vec<_> = unknown.iter().map(|delivery| (*delivery, code)).collect();
        let refusal = settle_refusal(code, unknown.first().copied().unwrap_or_default());
        self.conn
            .reply(|buffer| server::error_failed(buffer, id, &refusal, &failed));
    }

    /// Where requests about deliveries of this membership are collected.
    fn settling_of(&mut self, index: u32) -> Option<usize> {
        let known = self
            .settling
            .iter()
            .position(|settling| settling.membership.index() == index);
        if known.is_some() {
            return known;
        }
        let memberships = self.conn.memberships.borrow();
        let membership = memberships.iter().find(|known| known.index() == index)?;
        if membership.group.mode != GroupMode::Shared {
            return None;
        }
        self.settling.push(Settling {
            membership: membership.clone(),
            deliveries: Vec::new(),
            requests: Vec::new(),
        });
        Some(self.settling.len() - 1)
    }

    /// Sends what was collected to the groups, one message each.
    pub(super) fn send_settling(&mut self) {
        self.last_settled = None;
        for settling in self.settling.drain(..) {
            settling
                .membership
                .settle(&self.hub, settling.deliveries, settling.requests);
        }
    }
}

fn action_of(settle: &Settle<'_>) -> SettleAction {
    match &settle.action {
        client::SettleAction::Ack { result } => SettleAction::Ack(result.as_deref().map(result_bytes)),
        client::SettleAction::Nack {
            delay_ms,
            dead_letter,
            reason,
        } => {
            let nack = match (dead_letter, delay_ms) {
                (true, _) => Nack::DeadLetter,
                (false, Some(delay_ms)) => Nack::After(*delay_ms),
                (false, None) => Nack::Backoff,
            };
            SettleAction::Nack(nack, reason.as_deref().map(|reason| cut_reason(reason).into()))
        }
        client::SettleAction::Extend { lease_ms } => SettleAction::Extend(*lease_ms),
    }
}

fn no_member(target: &Target) -> Refusal {
    let message = match &target.group {
        Some(group) => format!("this session is no member of {group} of {}", target.topic),
        None => "a group is expected".to_owned(),
    };
    Refusal::new(ErrorCode::NotSubscribed, message)
}
