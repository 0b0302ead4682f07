//! A session's place in a group, on the session's own thread.
//!
//! Owns what of the group must be known here: which partitions are read for the member and what of them is
//! out, or how to reach the group with acks. Decides nothing: the GroupActor says what the member gets. Lives
//! beside the hub, which hands it the group's news.

mod outstanding;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
};

use actix::Addr;
use callboard_core::{
    group::{Exclusive, Generation, MemberId},
    subscription::Overflow,
};
use callboard_protocol::{
    ErrorCode, FrameId, GroupMode, Offset, PartitionId,
    error::Refusal,
    server::{self, Offsets, ServerFrame},
};

pub use self::outstanding::Outstanding;
use super::{
    conn::Conn,
    directory::{Topic, subscribers::Subscriber},
    group::{
        GroupActor,
        handle::{Gauge, GroupRef, MemberKey},
        mailbox::{AddCredit, Commit, Going, Join, Leave, Release, Settle, SettleRequest, Stopped, Urgency},
        receipt::{self, GroupReceipt, Home, News, SettledRequests, Whats},
    },
    hub::Hub,
    plain::{Following, Workplace, pump},
    wire::FrameBuffer,
};

/// What a member asks for when it comes.
pub struct Wish {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// A name to come back under.
    pub name: Option<Arc<str>>,
    /// Most records out at a time.
    pub credit: u64,
    /// How long a lease is; none is the topic's.
    pub lease_ms: Option<u64>,
    /// Whether it wants to be alone.
    pub exclusive: Exclusive,
    /// Where to begin in partitions in which the group has no position yet.
    pub starts: BTreeMap<PartitionId, Offset>,
    /// Counts it among the topic's subscribers, until its group does and after that.
    pub subscriber: Option<Subscriber>,
}

/// See the module.
pub struct Membership {
    /// The group.
    pub group: Arc<GroupRef>,
    topic: Arc<Topic>,
    conn: Rc<Conn>,
    /// Changes when it joins the group's next actor.
    key: RefCell<MemberKey>,
    /// The group's actor that it has asked to join.
    asked: RefCell<Option<Addr<GroupActor>>>,
    wish: RefCell<Wish>,
    /// What is read for a member of a partitioned group.
    following: Rc<Following>,
    /// How many records of it are out, for the group to show.
    out: Arc<AtomicU64>,
    /// Partitions that were revoked, and up to where they may still be committed.
    stopped: RefCell<BTreeMap<PartitionId, Offset>>,
    generation: Cell<Generation>,
    gauge: RefCell<Arc<Gauge>>,
    stage: Cell<Stage>,
    /// The frame that asked to leave, and its id, until it is answered.
    leaving: RefCell<Option<Option<FrameId>>>,
}

/// Where a membership is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has asked, or is in.
    Here,
    /// It asked to leave, and may still be told what was on its way.
    Leaving,
    /// It gets nothing more, and may settle what it has.
    Retired,
}

impl Membership {
    /// Joins a group for a session. The answer comes as news.
    pub fn join(hub: &Rc<Hub>, conn: &Rc<Conn>, (topic, group): (Arc<Topic>, Arc<GroupRef>), mut wish: Wish) {
        let out = Arc::new(AtomicU64::new(0));
        let following = Rc::new(Following {
            target: topic.name.as_str().into(),
            pattern: None,
            pattern_id: std::cell::Cell::default(),
            overflow: Overflow::Read,
            credit: Cell::new(Some(wish.credit)),
            group: Some(Workplace {
                name: group.name.clone(),
                out: out.clone(),
            }),
            parts: RefCell::default(),
            subscriber: RefCell::new(wish.subscriber.take()),
            conn: conn.clone(),
            ended: Cell::new(false),
        });
        let membership = Rc::new(Self {
            key: RefCell::new(next_key(hub, conn)),
            asked: RefCell::default(),
            group,
            topic,
            conn: conn.clone(),
            wish: RefCell::new(wish),
            following,
            out,
            stopped: RefCell::default(),
            generation: Cell::new(Generation(0)),
            gauge: RefCell::default(),
            stage: Cell::new(Stage::Here),
            leaving: RefCell::default(),
        });
        conn.memberships.borrow_mut().push(membership.clone());
        match membership.group.ended() {
            // Between its being found and this.
            Some(reason) => membership.ended(hub, reason),
            None => membership.ask(hub),
        }
    }

    fn ask(&self, hub: &Hub) {
        let wish = self.wish.borrow();
        let join = Join {
            key: self.key.borrow().clone(),
            home: Home::Session(hub.addr.clone(), self.conn.id),
            session: self.conn.session.to_string().into(),
            name: wish.name.clone(),
            format: self.conn.format,
            credit: wish.credit,
            lease_ms: wish.lease_ms,
            exclusive: wish.exclusive,
            starts: wish.starts.clone(),
            gauge: self.gauge.borrow().clone(),
            out: self.out.clone(),
        };
        let addr = self.group.addr();
        if let Some(addr) = &addr {
            addr.do_send(join);
        }
        *self.asked.borrow_mut() = addr;
    }

    /// Whether the group's present actor knows of it: one that came while the group was starting again has
    /// asked that actor already, and must not be two members.
    fn has_asked_latest(&self) -> bool {
        *self.asked.borrow() == self.group.addr()
    }

    /// Whether it is in this group of this topic.
    pub fn is_in(&self, topic: &str, group: &str) -> bool {
        self.stage.get() == Stage::Here
            && self.topic.name.as_str() == topic
            && self.group.name.as_str() == group
    }

    /// Which of its session's memberships it is.
    pub fn index(&self) -> u32 {
        self.key.borrow().index
    }

    /// What an administrator is shown of it.
    pub fn label(&self) -> String {
        format!("{} ({})", self.topic.name, self.group.name)
    }

    fn member(&self) -> MemberId {
        self.key.borrow().member
    }

    fn receipt(&self, hub: &Hub, bytes: usize, ids: Vec<Option<FrameId>>) -> GroupReceipt {
        hub.hold(&self.conn, bytes);
        GroupReceipt::new((hub.addr.clone(), self.conn.id, self.index()), bytes, ids)
    }

    /// Sends positions to the group.
    ///
    /// # Errors
    /// `offset_out_of_range` for one beyond what was delivered.
    pub fn commit(
        &self,
        hub: &Hub,
        id: Option<FrameId>,
        generation: Option<u64>,
        offsets: BTreeMap<PartitionId, Offset>,
    ) -> Result<(), Refusal> {
        for (partition, offset) in &offsets {
            if self
                .delivered(*partition)
                .is_some_and(|delivered| *offset > delivered)
            {
                let message = format!("partition {partition} was not delivered up to {offset}");
                return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
            }
        }
        let bytes = offsets.len() * size_of::<(PartitionId, Offset)>();
        // One flush for each commit of each member would cost more than delivering the records.
        let credit = self.wish.borrow().credit;
        let has_credit = self.following.credit.get().is_none_or(|left| left > credit / 2);
        self.group.tell(Commit {
            member: self.member(),
            // Without one it is the present one as this member knows it: a seek of which it has not heard must not
            // be undone by what it was given before.
            generation: Some(generation.map_or(self.generation.get(), Generation)),
            offsets,
            urgency: if has_credit { Urgency::Soon } else { Urgency::Now },
            receipt: self.receipt(hub, bytes, vec![id]),
        });
        Ok(())
    }

    /// Up to where a partition was delivered, if it was.
    fn delivered(&self, partition: PartitionId) -> Option<Offset> {
        let parts = self.following.parts.borrow();
        let held = parts.iter().find(|known| known.feed.part.id == partition);
        held.map(|part| part.next())
            .or_else(|| self.stopped.borrow().get(&partition).copied())
    }

    /// Gives partitions back. They are delivered until the group takes them: it refuses all of them if one is not
    /// held, and then nothing must have changed.
    pub fn release(&self, hub: &Hub, id: Option<FrameId>, partitions: Vec<PartitionId>) {
        let bytes = partitions.len() * size_of::<PartitionId>();
        self.group.tell(Release {
            member: self.member(),
            partitions,
            receipt: self.receipt(hub, bytes, vec![id]),
        });
    }

    /// Sends acks, nacks and extensions to the group.
    pub fn settle(&self, hub: &Hub, deliveries: Vec<u64>, requests: Vec<SettleRequest>) {
        let bytes = deliveries.len() * size_of::<u64>() + requests.len() * size_of::<SettleRequest>();
        let ids = requests.iter().filter_map(|request| request.id.clone().map(Some));
        let receipt = self.receipt(hub, bytes, ids.collect());
        self.group.tell(Settle {
            member: self.member(),
            deliveries,
            requests,
            receipt,
        });
    }

    /// Allows so many more records out.
    pub fn add_credit(&self, hub: &Rc<Hub>, add: u64) {
        let mut wish = self.wish.borrow_mut();
        wish.credit = wish.credit.saturating_add(add);
        drop(wish);
        let member = self.member();
        self.group.tell(AddCredit { member, add });
        self.following.add_credit(add, hub);
    }

    /// Leaves at the client's wish; the group answers when nothing more is on its way.
    pub fn unsubscribe(&self, hub: &Rc<Hub>, id: Option<FrameId>) {
        self.stage.set(Stage::Leaving);
        *self.leaving.borrow_mut() = Some(id);
        self.following.end(hub);
        let going = match self.group.mode {
            GroupMode::Partitioned => Going::Left,
            GroupMode::Shared => Going::Retired,
        };
        let member = self.member();
        self.group.tell(Leave { member, going });
    }

    /// Says that it has left, however it came to that: the group may not know it any more.
    fn answer_leaving(&self) {
        if let Some(Some(id)) = self.leaving.take() {
            self.conn.reply(|buffer| ServerFrame::Ok { id: &id }.push(buffer));
        }
    }

    /// Leaves because its session ends.
    fn end(&self, hub: &Rc<Hub>, going: Going) {
        self.following.end(hub);
        let member = self.member();
        self.group.tell(Leave { member, going });
    }

    /// Takes in what the group says.
    fn hear(self: &Rc<Self>, hub: &Rc<Hub>, what: Whats) {
        match what {
            Whats::Joined(offsets) => self.joined(&offsets),
            Whats::Denied(refusal) => {
                self.remove();
                let id = self.wish.borrow_mut().id.take();
                self.conn
                    .reply(|buffer| server::error(buffer, id.as_ref(), &refusal, None));
                self.answer_leaving();
            }
            Whats::Assigned(generation, offsets) => self.assigned(hub, generation, &offsets),
            Whats::Revoked(generation, partitions, grace_ms) => {
                self.revoked(hub, generation, &partitions, grace_ms);
            }
            Whats::Deliver(bytes) => {
                let length = bytes.len();
                self.conn.push(bytes);
                if self.gauge.borrow().took(length, self.conn.has_room()) {
                    self.group.wake();
                }
            }
            Whats::Left(leases) => {
                self.stage.set(Stage::Retired);
                if leases == 0 {
                    self.remove();
                }
                self.answer_leaving();
            }
            Whats::Replaced => self.ended(hub, "replaced"),
            // For the session, the hub has taken it; and for a webhook, which this is not.
            Whats::Settled(_) | Whats::Leased(_) => {}
        }
    }

    fn joined(&self, offsets: &Offsets) {
        // Only the first time: who joins again after a failure of ours has been answered.
        if let Some(id) = self.wish.borrow_mut().id.take() {
            let frame = ServerFrame::SubscribedGroup {
                id: Some(&id),
                topic: &self.topic.name,
                group: &self.group.name,
                mode: self.group.mode,
                epoch: &self.topic.epoch,
                offsets,
                recovered: true,
            };
            self.conn.reply(|buffer| frame.push(buffer));
        }
    }

    fn assigned(&self, hub: &Rc<Hub>, generation: Generation, offsets: &Offsets) {
        if self.stage.get() != Stage::Here {
            return;
        }
        self.generation.set(generation);
        let frame = ServerFrame::Assigned {
            topic: &self.topic.name,
            group: &self.group.name,
            generation: generation.0,
            offsets,
        };
        self.conn.reply(|buffer| frame.push(buffer));
        let parts = self.topic.partitions();
        for (partition, from) in offsets {
            self.stopped.borrow_mut().remove(partition);
            if let Some(part) = parts.get(partition.0 as usize) {
                self.following.attach(hub, &self.topic, part, *from);
            }
        }
        pump(&self.conn, hub);
    }

    /// Delivers nothing more of a partition; says what a commit must reach for nothing of it to be out.
    fn stop(&self, hub: &Rc<Hub>, partition: PartitionId) -> Option<Offset> {
        let part = self.following.detach(hub, partition)?;
        self.stopped.borrow_mut().insert(partition, part.next());
        let (out, until) = part
            .outstanding()
            .map_or((0, None), |out| (out.count(), out.until()));
        self.following.free(out, hub);
        until
    }

    fn revoked(&self, hub: &Rc<Hub>, generation: Generation, partitions: &[PartitionId], grace_ms: u64) {
        self.generation.set(generation);
        let frame = ServerFrame::Revoked {
            topic: &self.topic.name,
            group: &self.group.name,
            generation: generation.0,
            partitions,
            grace_ms,
        };
        // All of it stops before credit that comes free lets another one read.
        let stopped = partitions
            .iter()
            .map(|partition| (*partition, self.stop(hub, *partition)))
            .collect();
        self.conn.reply(|buffer| frame.push(buffer));
        self.group.tell(Stopped {
            member: self.member(),
            partitions: stopped,
        });
    }

    fn ended(&self, hub: &Rc<Hub>, reason: &str) {
        self.following.end(hub);
        self.remove();
        let joining = self.wish.borrow_mut().id.take();
        if let Some(id) = &joining {
            let refusal = receipt::ended(reason);
            self.conn
                .reply(|buffer| server::error(buffer, Some(id), &refusal, None));
        }
        if self.stage.get() != Stage::Here || joining.is_some() {
            return self.answer_leaving();
        }
        let group = self.group.name.clone();
        let frame = ServerFrame::Unsubscribed {
            topic: self.topic.name.as_str(),
            group: Some(&group),
            reason,
        };
        self.conn.reply(|buffer| frame.push(buffer));
    }

    /// Takes it out of its session.
    fn remove(&self) {
        let index = self.index();
        self.following.subscriber.take();
        self.conn
            .memberships
            .borrow_mut()
            .retain(|known| known.index() != index);
    }

    /// The group's former actor died: joins the next one as somebody new. Deliveries of before can not be
    /// settled any more, and what was read for it begins again from what is committed.
    fn join_again(&self, hub: &Rc<Hub>) {
        if self.stage.get() != Stage::Here {
            return self.ended(hub, "left");
        }
        let held: Vec<PartitionId> = self
            .following
            .parts
            .borrow()
            .iter()
            .map(|part| part.feed.part.id)
            .collect();
        if !held.is_empty() {
            self.revoked(hub, self.generation.get(), &held, 0);
        }
        *self.key.borrow_mut() = next_key(hub, &self.conn);
        *self.gauge.borrow_mut() = Arc::default();
        self.ask(hub);
    }

    /// Positions were committed: what lies before them is no longer out.
    fn committed(&self, hub: &Rc<Hub>, offsets: &BTreeMap<PartitionId, Offset>) {
        let mut freed = 0;
        for part in self.following.parts.borrow().iter() {
            if let Some(offset) = offsets.get(&part.feed.part.id)
                && let Some(mut out) = part.outstanding()
            {
                freed += out.committed(*offset);
            }
        }
        self.following.free(freed, hub);
    }
}

fn next_key(hub: &Hub, conn: &Conn) -> MemberKey {
    let index = conn.memberships_made.get();
    conn.memberships_made.set(index + 1);
    let member = hub.shared.next_member();
    MemberKey { member, index }
}

impl Hub {
    /// Takes in what a group says to one of its members.
    pub(super) fn group_news(self: &Rc<Self>, news: News) {
        let Some(conn) = self.conn(news.conn) else {
            return; // It left when it went.
        };
        let membership = conn
            .memberships
            .borrow()
            .iter()
            .find(|known| known.index() == news.index)
            .cloned();
        if let Whats::Settled(settled) = &news.what {
            self.settled_requests(&conn, membership.as_deref(), settled);
        } else if let Some(membership) = membership {
            membership.hear(self, news.what);
        }
    }

    fn settled_requests(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        membership: Option<&Membership>,
        settled: &SettledRequests,
    ) {
        self.released(conn, settled.released_bytes);
        if !settled.replies.is_empty() {
            let mut frames = FrameBuffer::new(conn.format, settled.replies.len() * 30);
            for reply in &settled.replies {
                match (&reply.outcome, &reply.id) {
                    (Ok(()), Some(id)) => frames.frame(|buffer| ServerFrame::Ok { id }.push(buffer)),
                    (Ok(()), None) => {}
                    (Err((refusal, failed)), id) => {
                        frames.frame(|buffer| server::error_failed(buffer, id.as_ref(), refusal, failed))
                    }
                }
            }
            self.answer(conn, frames.finish());
        }
        if let Some(membership) = membership
            && !settled.committed.is_empty()
        {
            membership.committed(self, &settled.committed);
        }
        self.close_if_settled(conn);
    }

    /// Takes a session that ends out of its groups.
    pub(super) fn leave_groups(self: &Rc<Self>, conn: &Conn) {
        let going = if conn.has_left.get() {
            Going::Left
        } else {
            Going::Lost
        };
        for membership in conn.memberships.take() {
            membership.end(self, going);
        }
    }

    /// Takes members out whose socket takes nothing any more.
    pub(super) fn look_after_members(self: &Rc<Self>, conn: &Rc<Conn>, tick_ms: u64) {
        if conn.memberships.borrow().is_empty() {
            return;
        }
        let sent_bytes = conn.sent_bytes.get();
        let (before, stalled_ms) = conn.stalled.get();
        if conn.buffered_bytes() == 0 || sent_bytes != before {
            conn.stalled.set((sent_bytes, 0));
            return;
        }
        let stalled_ms = stalled_ms + tick_ms;
        conn.stalled.set((before, stalled_ms));
        if stalled_ms >= self.shared.settings.member_timeout_ms {
            for membership in conn.memberships.take() {
                membership.end(self, Going::Left);
                membership.ended(self, "member_timeout");
            }
        }
    }

    /// A group is gone: its members of this thread are out.
    pub(super) fn group_ended(self: &Rc<Self>, group: &Arc<GroupRef>, reason: &str) {
        for conn in self.conns() {
            let memberships = conn.memberships.borrow().clone();
            for membership in memberships {
                if Arc::ptr_eq(&membership.group, group) {
                    membership.ended(self, reason);
                }
            }
        }
    }

    /// A group has a new actor: its members of this thread join again.
    pub(super) fn group_restarted(self: &Rc<Self>, group: &Arc<GroupRef>) {
        for conn in self.conns() {
            let memberships = conn.memberships.borrow().clone();
            for membership in memberships {
                if Arc::ptr_eq(&membership.group, group) && !membership.has_asked_latest() {
                    membership.join_again(self);
                }
            }
        }
    }
}

/// Lets the groups of a session know that its outbox has drained.
pub fn drained(conn: &Conn) {
    if conn.has_drained() {
        for membership in conn.memberships.borrow().iter() {
            if membership.gauge.borrow().drained() {
                membership.group.wake();
            }
        }
    }
}
