//! GroupActor: one group of one topic, its members, its position and its log.
//!
//! Owns who works on what: assignments of a partitioned group, leases of a shared one. Core decides, the
//! group's log keeps ([`history`]), members' threads are told once a turn. A turn is everything that waited
//! in the mailbox: what it changed is one entry of the log and one message a hub. Started, restarted and
//! ended by its TopicActor. Never waits for a disk, never parses a payload.

mod announce;
mod control;
mod dead;
pub mod describe;
mod dispatch;
pub mod handle;
mod handlers;
mod history;
pub mod mailbox;
mod members;
mod partitioned;
pub mod receipt;
pub mod shared;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_core::{
    group::{Generation, GroupError, MemberId},
    group_log::{Entry, EntryWriter, entries},
    record::Batch,
};
use callboard_protocol::{
    ErrorCode, GroupMode, Offset, PartitionId, Timestamp, error::Refusal, server::Offsets,
};

use self::{
    handle::GroupRef,
    history::{Answer, History},
    mailbox::{
        AddCredit, Adopt, CloseGroup, Commit, Going, Join, Leave, LogEvent, Release, SetCredit, Settle,
        Stopped, TopicMoved, Turn, Urgency, Wake,
    },
    members::Members,
    partitioned::Partitioned,
    receipt::{GroupReply, GroupRestarted, Outgoing, Whats},
    shared::SharedWork,
};
use super::{
    Shared, clock,
    directory::{
        PartitionRef, Topic,
        subscribers::{Role, Subscriber},
    },
    partition::refusal,
    topic::{Sentinel, TopicActor},
};
use crate::store::{CommitEvent, OpenedPartition, StoreError};

/// So long entries that nobody waits for may lie until something else is flushed with them.
const UNHURRIED: Duration = Duration::from_millis(1);
/// How long to wait before the store is asked again to open the group's log.
const REOPEN_DELAY: Duration = Duration::from_millis(500);

/// See the module.
pub struct GroupActor {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    group: Arc<GroupRef>,
    parts: Arc<[Arc<PartitionRef>]>,
    kind: Kind,
    members: Members,
    /// Those that have unsubscribed and had leases left then.
    retired: Vec<MemberId>,
    history: History,
    entries: EntryWriter,
    /// Whether a member waits for what this turn commits.
    urgency: Urgency,
    /// A timer runs for entries that lie.
    has_unhurried: bool,
    /// What is said when the entries of this turn are committed.
    answers: Vec<Answer>,
    outgoing: Outgoing,
    /// The newest assignment that has not been announced.
    rebalanced: Option<Generation>,
    start: Start,
    /// A [`Turn`] is in the mailbox already.
    has_turn: bool,
    alarm: Option<(Timestamp, SpawnHandle)>,
    sentinel: Sentinel,
}

/// Whether members of a former actor must be told that there is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nobody knows the group yet.
    First,
    /// After a death.
    Again,
}

/// What a group of each mode owns.
enum Kind {
    Partitioned(Partitioned),
    Shared(Box<SharedWork>),
}

impl GroupActor {
    /// A group that opens its log when it is started; `stored` is where the store keeps that.
    pub fn new(
        shared: Arc<Shared>,
        topic: Arc<Topic>,
        group: Arc<GroupRef>,
        start: Start,
        owner: Addr<TopicActor>,
    ) -> Self {
        let config = topic.config();
        let kind = match group.mode {
            GroupMode::Partitioned => Kind::Partitioned(Partitioned::new(&shared.settings)),
            GroupMode::Shared => Kind::Shared(Box::new(SharedWork::new(&config, group.ordering))),
        };
        Self {
            history: History::new(shared.clone(), group.kept.id),
            sentinel: Sentinel::group(owner, group.name.to_string()),
            parts: topic.partitions(),
            shared,
            topic,
            group,
            kind,
            members: Members::default(),
            retired: Vec::new(),
            entries: EntryWriter::new(),
            urgency: Urgency::Soon,
            has_unhurried: false,
            answers: Vec::new(),
            outgoing: Outgoing::default(),
            rebalanced: None,
            start,
            has_turn: false,
            alarm: None,
        }
    }

    /// Reads what the group's log has. The mailbox waits meanwhile.
    fn open(&mut self, ctx: &mut Context<Self>) {
        let addr = ctx.address();
        let opening = self.history.open(addr);
        ctx.wait(opening.into_actor(self).map(|opened, actor, ctx| match opened {
            Ok((opened, batches)) => actor.opened(opened, &batches, ctx),
            Err(StoreError::Closed | StoreError::ShuttingDown) => {
                actor.sentinel.dismiss();
                ctx.stop();
            }
            Err(error) => {
                log::error!("the log of {} can not be opened: {error}", actor.label());
                let pause = tokio::time::sleep(REOPEN_DELAY).into_actor(actor);
                ctx.wait(pause.map(|(), actor, ctx| actor.open(ctx)));
            }
        }));
    }

    fn label(&self) -> String {
        format!("group {} of {}", self.group.name, self.group.topic)
    }

    fn opened(&mut self, opened: OpenedPartition, batches: &[Batch], ctx: &mut Context<Self>) {
        for (offset, parts) in batches.iter().flat_map(Batch::iter) {
            if let Err(error) = self.replay(parts.payload) {
                log::error!("entry {offset} of {} is left out: {error}", self.label());
            }
        }
        self.history.opened(opened);
        if let Kind::Shared(work) = &mut self.kind {
            work.restored(clock::now());
        }
        self.take_partitions();
        if self.start == Start::Again {
            for worker in self.shared.workers().iter() {
                worker.hub.do_send(GroupRestarted(self.group.clone()));
            }
            self.shared.webhooks.group_restarted(&self.group);
        }
        self.schedule(ctx);
    }

    fn replay(&mut self, payload: &[u8]) -> Result<(), callboard_core::group_log::EntryError> {
        for entry in entries(payload)? {
            let entry: Entry<'_> = entry?;
            match &mut self.kind {
                Kind::Partitioned(own) => own.group.apply(&entry),
                Kind::Shared(work) => work.apply(&entry),
            }
        }
        Ok(())
    }

    /// Takes over which partitions the topic has and how it is configured.
    fn take_partitions(&mut self) {
        self.parts = self.topic.partitions();
        let config = self.topic.config();
        match &mut self.kind {
            Kind::Partitioned(own) => own.take_partitions(&self.parts),
            Kind::Shared(work) => work.take_partitions(&self.group, &self.parts, &config),
        }
    }

    /// Sees to it that a turn ends when everything is done that waits in the mailbox now.
    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if !self.has_turn {
            self.has_turn = true;
            ctx.address().do_send(Turn);
        }
    }

    /// Ends a turn: hands out what can be, keeps what happened, and tells everybody.
    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        match &mut self.kind {
            Kind::Partitioned(own) => {
                own.group.tick(now);
                self.take_events();
            }
            Kind::Shared(_) => {
                self.hand_out(now, ctx);
                self.forget_retired();
            }
        }
        if let Err(error) = self.keep(ctx) {
            self.fail(&error, ctx);
            return;
        }
        self.outgoing.send();
        self.announce();
        self.let_go();
        self.report();
        self.bury_next(ctx);
        self.set_alarm(now, ctx);
    }

    /// Writes what happened to the group's log.
    fn keep(&mut self, ctx: &mut Context<Self>) -> Result<(), StoreError> {
        let durability = self.topic.config().durability.into();
        let entries = match &mut self.kind {
            Kind::Partitioned(_) => self.entries.finish(),
            Kind::Shared(work) => work.group.log().finish(),
        };
        let answers = std::mem::take(&mut self.answers);
        let urgency = self.urgency(&answers);
        match self.history.write(&entries, (durability, urgency), answers) {
            Ok(answers) => self.answer(answers),
            Err((error, answers)) => {
                self.answers = answers;
                return Err(error);
            }
        }
        if self.history.has_waiting() {
            match (urgency, entries.is_empty()) {
                (Urgency::Soon, false) => self.begin_later(ctx),
                // What is awaited may rest on what lies from an earlier turn.
                (Urgency::Now, true) => self.shared.store.begin(),
                (Urgency::Soon, true) | (Urgency::Now, false) => {}
            }
        }
        if self.history.wants_snapshot() {
            let mut snapshot = EntryWriter::new();
            match &self.kind {
                Kind::Partitioned(own) => own.snapshot(&mut snapshot),
                Kind::Shared(work) => work.group.snapshot(&mut snapshot),
            }
            self.history.write_snapshot(&snapshot.finish(), durability)?;
        }
        Ok(())
    }

    /// How soon the entries of this turn must be kept. An ack of a shared group is what its worker waits for.
    fn urgency(&mut self, answers: &[Answer]) -> Urgency {
        let committed = std::mem::replace(&mut self.urgency, Urgency::Soon);
        match self.kind {
            Kind::Shared(_) => Urgency::Now,
            Kind::Partitioned(_) => answers.iter().map(Answer::urgency).fold(committed, Ord::max),
        }
    }

    /// Has the store begin with what nobody waits for, if nothing else lets it begin before.
    fn begin_later(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.has_unhurried, true) {
            ctx.run_later(UNHURRIED, |actor, _| {
                actor.has_unhurried = false;
                actor.shared.store.begin();
            });
        }
    }

    /// The log takes nothing: who waits is told, and a new actor begins from what is kept.
    fn fail(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        match error {
            // It ends with the broker or with its topic.
            StoreError::ShuttingDown | StoreError::Closed => self.sentinel.dismiss(),
            error => log::error!("{} begins again from its log: {error}", self.label()),
        }
        self.refuse_waiting(&refusal(error));
        ctx.stop();
    }

    /// Tells everybody who waits for an answer that nothing comes of it.
    fn refuse_waiting(&mut self, refusal: &Refusal) {
        let mut waiting = self.history.refused();
        waiting.append(&mut self.answers);
        for answer in waiting {
            match answer {
                Answer::Member(mut receipt, _, _) => {
                    let replies = receipt.take_ids().into_iter();
                    let replies = replies
                        .map(|id| GroupReply::refused(id, refusal.clone()))
                        .collect();
                    if let Some((hub, news)) = receipt.settle(replies, BTreeMap::new()) {
                        hub.do_send(receipt::GroupNews(vec![news]));
                    }
                }
                // The record comes again, and so does its outcome.
                Answer::Publisher(..) => {}
                // Whoever asked may have gone.
                Answer::Caller(caller) => drop(caller.send(Err(refusal.clone()))),
            }
        }
    }

    /// Says what depended on entries that are committed now.
    fn answer(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Member(receipt, replies, committed) => {
                    if let Some((hub, news)) = receipt.settle(replies, committed) {
                        self.outgoing.push(&hub, news);
                    }
                }
                Answer::Publisher(part, outcomes) => {
                    if let Some(addr) = part.addr() {
                        addr.do_send(super::partition::Processed(outcomes));
                    }
                }
                // Whoever asked may have gone.
                Answer::Caller(caller) => drop(caller.send(Ok(()))),
            }
        }
    }

    /// Lets a temporary topic end with members that went, but not before what they asked for is answered.
    fn let_go(&mut self) {
        if self.answers.is_empty() && !self.history.has_waiting() {
            self.members.let_go();
        }
    }

    /// Lets the partitions know how much is unfinished, and who waits for room.
    fn report(&self) {
        let parts = self.group.parts();
        for (part, known) in self.parts.iter().zip(parts.iter()) {
            // Not from what is unfinished and the end: records may have come since the group last looked at that,
            // and would count as finished.
            known.set_finished(match &self.kind {
                Kind::Partitioned(own) => own.group.committed(part.id).map_or(0, |committed| committed.0),
                Kind::Shared(work) => work.group.finished(part.id),
            });
            if part.waits.for_room()
                && let Some(addr) = part.addr()
            {
                addr.do_send(super::partition::RoomMade);
            }
        }
    }

    /// Wakes the group when something is due.
    fn set_alarm(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let next = match &self.kind {
            Kind::Partitioned(own) => own.group.next_timeout(),
            Kind::Shared(work) => work.group.next_timeout(),
        };
        let Some(due) = next else { return };
        match self.alarm {
            // It looks again when it rings, so one that rings too early will do.
            Some((at, _)) if at <= due => return,
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        // A clock that counts milliseconds may ring just before one has passed.
        let delay = Duration::from_millis(due.since(now) + 1);
        let handle = ctx.run_later(delay, |actor, ctx| {
            actor.alarm = None;
            actor.schedule(ctx);
        });
        self.alarm = Some((due, handle));
    }

    fn join(&mut self, join: &Join) -> Result<Offsets, Refusal> {
        let now = clock::now();
        match &mut self.kind {
            Kind::Partitioned(own) => own.join(now, join).map_err(|error| group_refusal(&error))?,
            Kind::Shared(work) => {
                let lease_ms = join.lease_ms.unwrap_or(self.topic.config().lease_ms);
                let former = self.members.replaced_by(join, &self.retired);
                if let Some(former) = former.and_then(|id| self.members.remove(id)) {
                    work.group.leave(now, former.id);
                    former.tell(&mut self.outgoing, Whats::Replaced);
                }
                work.join(join, lease_ms).map_err(|error| group_refusal(&error))?;
            }
        }
        let subscriber = Subscriber::new(&self.topic, Role::Member);
        self.members.add(join, subscriber.ok());
        Ok(self
            .parts
            .iter()
            .filter_map(|part| Some((part.id, self.position(part.id)?)))
            .collect())
    }

    /// Where the group is in a partition.
    fn position(&self, partition: PartitionId) -> Option<Offset> {
        match &self.kind {
            Kind::Partitioned(own) => own.group.committed(partition),
            Kind::Shared(work) => work.group.floor(partition),
        }
    }

    fn leave(&mut self, Leave { member, going }: Leave) {
        let now = clock::now();
        let mut leases = 0;
        match &mut self.kind {
            Kind::Partitioned(own) if going == Going::Lost => own.group.lost(now, member),
            Kind::Partitioned(own) => own.group.leave(now, member),
            Kind::Shared(work) if going == Going::Retired => {
                work.group.retire(now, member);
                let known = work.group.members().find(|known| known.member == member);
                leases = known.map_or(0, |known| known.out);
            }
            Kind::Shared(work) => work.group.leave(now, member),
        }
        // Whose socket is gone hears nothing.
        if let Some(known) = self.members.get(member).filter(|_| going != Going::Lost) {
            known.tell(&mut self.outgoing, Whats::Left(leases));
        }
        match (going, &self.kind) {
            (Going::Retired, _) if leases > 0 => self.retired.push(member),
            // A named one keeps its place for a while.
            (Going::Lost, Kind::Partitioned(_)) => self.forget_gone(),
            _ => drop(self.members.remove(member)),
        }
    }

    /// Forgets members that have retired and whose last lease has ended, and has their threads do so as well.
    fn forget_retired(&mut self) {
        let Kind::Shared(work) = &self.kind else { return };
        for id in self.retired.extract_if(.., |id| !work.group.has_member(*id)) {
            if let Some(member) = self.members.remove(id) {
                member.tell(&mut self.outgoing, Whats::Left(0));
            }
        }
    }

    /// Forgets members that core knows no more.
    fn forget_gone(&mut self) {
        let own = match &mut self.kind {
            Kind::Partitioned(own) => own,
            Kind::Shared(work) => {
                if self.members.count() == 0 {
                    // What was read for nobody need not stay in memory.
                    work.reading.iter_mut().for_each(dispatch::Reading::rest);
                }
                return;
            }
        };
        // Whoever core knows is known here, so as many are the same; this is asked after each commit.
        if own.group.member_count() == self.members.count() {
            return;
        }
        let mut known: Vec<MemberId> = own.group.members().map(|known| known.member).collect();
        known.sort_unstable();
        self.members
            .retain(|member| known.binary_search(&member.id).is_ok());
    }

    fn close(&mut self, reason: &'static str, ctx: &mut Context<Self>) {
        self.sentinel.dismiss();
        self.refuse_waiting(&receipt::ended(reason));
        self.outgoing.send();
        ctx.stop();
    }
}

/// What a member is told of a refusal of core's.
fn group_refusal(error: &GroupError) -> Refusal {
    let code = match error {
        GroupError::Conflict(_) => ErrorCode::Conflict,
        GroupError::NotOwner { .. } => ErrorCode::NotOwner,
        GroupError::StaleGeneration { .. } => ErrorCode::StaleGeneration,
        GroupError::UnknownMember => ErrorCode::NotSubscribed,
    };
    Refusal::new(code, error.to_string())
}

impl Actor for GroupActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Here as well as where it is started: members that it tells to join again must find this address,
        // however far the starting thread has got.
        self.group.set_addr(ctx.address());
        self.open(ctx);
    }
}
