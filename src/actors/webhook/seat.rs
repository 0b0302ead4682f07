//! A webhook's place in its group: taking it, keeping it through the group's deaths, giving it up.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_core::group::{Exclusive, MemberId};
use callboard_protocol::{GroupMode, client::From, error::Refusal};

use super::WebhookActor;
use crate::actors::{
    directory::Topic,
    group::{
        GroupActor,
        handle::{GroupRef, MemberKey},
        mailbox::{Going, Join, Leave, SetCredit},
        receipt::Home,
    },
    pages,
    wire::Format,
};

/// A record is leased for so much longer than its call may take.
const LEASE_MARGIN_MS: u64 = 5_000;
/// A group that lets the webhook not in, because a member wants it for itself, is asked again after this long.
const REJOIN_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Seat {
    pub(super) topic: Arc<Topic>,
    pub(super) group: Arc<GroupRef>,
    pub(super) member: MemberId,
    /// The group's actor that was asked.
    asked: Option<Addr<GroupActor>>,
    /// How many records it may have out, as the group knows it.
    credit: u64,
    /// Calls under way for it.
    pub(super) calls: u64,
}

impl WebhookActor {
    /// Takes its place in the group, or finds out that there is no such group any more.
    pub(super) fn take_seat(&mut self, ctx: &mut Context<Self>) {
        let settings = &self.webhook.settings;
        let Some(topic) = self.shared.directory.get(settings.topic.as_str()) else {
            return self.disable("topic_deleted", ctx);
        };
        let group = topic.group(settings.group.as_str());
        let Some(group) = group.filter(|group| group.mode == GroupMode::Shared) else {
            return self.disable("group_deleted", ctx);
        };
        let ended = group.ended();
        self.join((topic, group));
        // Between its being found and this.
        if let Some(reason) = ended {
            self.seat = None;
            self.disable(reason, ctx);
        }
    }

    fn join(&mut self, (topic, group): (Arc<Topic>, Arc<GroupRef>)) {
        let settings = &self.webhook.settings;
        let member = self.shared.next_member();
        let starts = pages::starts_now(&topic, &From::Earliest).map(|starts| starts.offsets);
        let Some(addr) = self.webhook.addr() else { return };
        let credit = self.free_calls(0);
        let join = Join {
            key: MemberKey { member, index: 0 },
            home: Home::Webhook(addr),
            session: self.webhook.id.as_str().into(),
            name: Some(self.webhook.id.as_str().into()),
            // Nothing is encoded for it.
            format: Format::Json,
            credit,
            lease_ms: Some(settings.timeout_ms + LEASE_MARGIN_MS),
            exclusive: Exclusive::No,
            starts: starts.unwrap_or_default(),
            gauge: Arc::default(),
            out: Arc::default(),
        };
        let asked = group.addr();
        if let Some(asked) = &asked {
            asked.do_send(join);
        }
        self.seat = Some(Seat {
            topic,
            group,
            member,
            asked,
            credit,
            calls: 0,
        });
    }

    /// How many calls may be under way for the seat when it has `calls`; others may be left from a former one.
    fn free_calls(&self, calls: u64) -> u64 {
        let concurrency = u64::from(self.webhook.settings.concurrency);
        let strays = self.calls.saturating_sub(calls);
        self.health.calls_max(concurrency).saturating_sub(strays)
    }

    /// Lets the group know how many records it may lease to the webhook, if that has changed.
    pub(super) fn set_credit(&mut self) {
        let Some(calls) = self.seat.as_ref().map(|seat| seat.calls) else {
            return;
        };
        let credit = self.free_calls(calls);
        if let Some(seat) = self.seat.as_mut().filter(|seat| seat.credit != credit) {
            seat.credit = credit;
            let member = seat.member;
            seat.group.tell(SetCredit { member, credit });
        }
    }

    /// Forgets a place in a group that is gone; whether it had one.
    pub(super) fn has_lost_seat(&mut self, group: &Arc<GroupRef>) -> bool {
        let is_there = |seat: &mut Seat| Arc::ptr_eq(&seat.group, group);
        let former = self.former.take_if(is_there);
        self.seat.take_if(is_there).or(former).is_some()
    }

    /// Takes no more records, and settles those that it has.
    pub(super) fn leave_seat(&mut self) {
        if let Some(seat) = self.seat.take() {
            let (member, going) = (seat.member, Going::Retired);
            seat.group.tell(Leave { member, going });
            self.former = Some(seat);
        }
    }

    /// Gives back what it has at once.
    pub(super) fn give_back(&mut self) {
        for seat in self.seat.take().into_iter().chain(self.former.take()) {
            let (member, going) = (seat.member, Going::Left);
            seat.group.tell(Leave { member, going });
        }
    }

    /// The group has forgotten it: everything that it settled before was taken in.
    pub(super) fn left(&mut self, member: MemberId) {
        if self.former.as_ref().is_some_and(|seat| seat.member == member) {
            self.former = None;
        }
        self.say_if_retired();
    }

    /// Says that nothing is under way any more, if somebody waits for that.
    pub(super) fn say_if_retired(&mut self) {
        if self.calls == 0
            && self.seat.is_none()
            && self.former.is_none()
            && let Some(done) = self.retiring.take()
        {
            // Whoever waits may have stopped doing so.
            let _ = done.send(());
        }
    }

    /// It is not let in.
    pub(super) fn denied(&mut self, member: MemberId, refusal: &Refusal, ctx: &mut Context<Self>) {
        if self.seat.take_if(|seat| seat.member == member).is_some() {
            log::warn!("{} is not let into its group yet: {refusal}", self.label());
            ctx.run_later(REJOIN_WAIT, |actor, ctx| actor.begin(ctx));
        }
    }

    /// The group's former actor died: joins the next one as somebody new. What the former one leased to it is
    /// leased no more, and comes again.
    pub(super) fn group_again(&mut self, group: &Arc<GroupRef>, ctx: &mut Context<Self>) {
        self.former
            .take_if(|seat| Arc::ptr_eq(&seat.group, group) && seat.asked != group.addr());
        self.say_if_retired();
        let again = self
            .seat
            .take_if(|seat| Arc::ptr_eq(&seat.group, group) && seat.asked != group.addr());
        if again.is_some() {
            self.begin(ctx);
        }
    }
}
