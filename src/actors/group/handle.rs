//! A group as every thread sees it: where to send, and how far it is.

use std::sync::{
    Arc, OnceLock, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering as Atomic},
};

use actix::{Addr, Message, prelude::Handler};
use callboard_core::{group::MemberId, lease::Ordering};
use callboard_protocol::{GroupMode, GroupName, Offset, PartitionId, TopicName};

use super::{GroupActor, mailbox::Wake};
use crate::{actors::conn::OUTBOX_BYTES_MAX, store::StoredTopic};

/// One group of one topic.
pub struct GroupRef {
    /// Its topic.
    pub topic: TopicName,
    /// Its name.
    pub name: GroupName,
    /// How its members share the topic.
    pub mode: GroupMode,
    /// What of order a shared group keeps.
    pub ordering: Ordering,
    /// Where the store keeps its log.
    pub kept: StoredTopic,
    addr: RwLock<Option<Addr<GroupActor>>>,
    parts: RwLock<Arc<[Arc<GroupPart>]>>,
    /// Why it is gone, once it is.
    ended: OnceLock<&'static str>,
    /// A [`Wake`] is in its mailbox already.
    is_woken: AtomicBool,
}

/// How far a group is in one partition.
pub struct GroupPart {
    /// The partition.
    pub partition: PartitionId,
    /// The group.
    pub group: Arc<GroupRef>,
    /// The partition's next offset less the records that the group has not finished.
    finished: AtomicU64,
}

impl GroupPart {
    /// How many of the records up to `next` the group has not finished.
    pub fn unfinished(&self, next: Offset) -> u64 {
        next.0.saturating_sub(self.finished.load(Atomic::SeqCst))
    }

    pub(super) fn set_finished(&self, finished: u64) {
        self.finished.store(finished, Atomic::SeqCst);
    }

    /// One that is nobody's, of a group that has finished so many records.
    #[cfg(test)]
    pub fn detached(topic: &TopicName, finished: u64) -> Arc<Self> {
        let kept = StoredTopic {
            id: crate::store::TopicId(0),
            name: topic.clone(),
            epoch: callboard_protocol::Epoch(String::new()),
            config: String::new(),
            partitions: 1,
            memory_only: true,
        };
        let name = GroupName::parse("test").expect("a good name");
        let how = (GroupMode::Partitioned, Ordering::BestEffort);
        let group = Arc::new(GroupRef::new(topic.clone(), name, how, kept));
        let part = group.grow(1)[0].clone();
        part.finished.store(finished, Atomic::SeqCst);
        part
    }

    /// The partition has more records.
    pub fn end_moved(&self) {
        if self.group.mode == GroupMode::Shared {
            self.group.wake();
        }
    }
}

impl GroupRef {
    pub(in crate::actors) fn new(
        topic: TopicName,
        name: GroupName,
        (mode, ordering): (GroupMode, Ordering),
        kept: StoredTopic,
    ) -> Self {
        Self {
            topic,
            name,
            mode,
            ordering,
            kept,
            addr: RwLock::new(None),
            parts: RwLock::new(Arc::new([])),
            ended: OnceLock::new(),
            is_woken: AtomicBool::new(false),
        }
    }

    /// Its actor, if it has one just now.
    pub fn addr(&self) -> Option<Addr<GroupActor>> {
        self.addr.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::actors) fn set_addr(&self, addr: Addr<GroupActor>) {
        *self.addr.write().unwrap_or_else(PoisonError::into_inner) = Some(addr);
        // One that waited for the former actor is lost with it.
        self.is_woken.store(false, Atomic::Release);
    }

    /// Why it is gone, if it is.
    pub fn ended(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }

    /// It was deleted: nobody joins it any more. Said before its members are told, so that one that comes
    /// later finds it here.
    pub(in crate::actors) fn end(&self, reason: &'static str) {
        // The first reason stays.
        let _ = self.ended.set(reason);
    }

    /// Sends what must arrive and is bounded by what sessions have: members, commits, leases out.
    pub fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        GroupActor: Handler<M>,
    {
        // Without an actor nobody needs to hear it: who joins the next one says all anew, and a receipt
        // that is dropped answers.
        if let Some(addr) = &*self.addr.read().unwrap_or_else(PoisonError::into_inner) {
            addr.do_send(message);
        }
    }

    /// Lets the group look whether there is something to do; at most one such message waits.
    pub fn wake(&self) {
        if !self.is_woken.swap(true, Atomic::AcqRel) {
            self.tell(Wake);
        }
    }

    pub(super) fn set_awake(&self) {
        self.is_woken.store(false, Atomic::Release);
    }

    /// How far it is in each partition.
    pub fn parts(&self) -> Arc<[Arc<GroupPart>]> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes room for the partitions that have come; returns all.
    pub(in crate::actors) fn grow(self: &Arc<Self>, partitions: u32) -> Arc<[Arc<GroupPart>]> {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let new = (parts.len() as u32..partitions).map(|number| {
            Arc::new(GroupPart {
                partition: PartitionId(number),
                group: self.clone(),
                finished: AtomicU64::new(0),
            })
        });
        *parts = parts.iter().cloned().chain(new).collect();
        parts.clone()
    }
}

/// Which member, and how to reach it from any thread.
#[derive(Clone)]
pub struct MemberKey {
    /// Never given twice in this process.
    pub member: MemberId,
    /// Which of its session's memberships it is.
    pub index: u32,
}

/// How much of what a group sent to a member waits on its way. Shared by the group and the member's thread.
#[derive(Default)]
pub struct Gauge {
    /// Sent by the group and not yet in the member's outbox.
    queued_bytes: AtomicUsize,
    /// The member's outbox takes nothing more just now.
    is_full: AtomicBool,
    /// The group wants to be told when it does.
    is_awaited: AtomicBool,
}

impl Gauge {
    /// Whether the member may be sent more; if not, its thread will tell the group when it may.
    pub fn may_send(&self) -> bool {
        if self.has_room() {
            return true;
        }
        self.is_awaited.store(true, Atomic::SeqCst);
        // It may have changed before its thread could see that somebody waits.
        self.has_room() && self.is_awaited.swap(false, Atomic::SeqCst)
    }

    fn has_room(&self) -> bool {
        !self.is_full.load(Atomic::SeqCst) && self.queued_bytes.load(Atomic::SeqCst) < OUTBOX_BYTES_MAX
    }

    /// The group sends so many bytes. If that is as much as may wait, the group will be told when it is taken:
    /// nothing else may make it look again before the member acks, and that may wait for what is still to come.
    pub fn sent(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Atomic::SeqCst);
        self.may_send();
    }

    /// The member's thread took so many bytes, and its outbox has room or not. Whether the group must be told.
    pub fn took(&self, bytes: usize, has_room: bool) -> bool {
        self.queued_bytes.fetch_sub(bytes, Atomic::SeqCst);
        self.is_full.store(!has_room, Atomic::SeqCst);
        self.must_tell()
    }

    /// The outbox has drained. Whether the group must be told.
    pub fn drained(&self) -> bool {
        self.is_full.store(false, Atomic::SeqCst);
        self.must_tell()
    }

    fn must_tell(&self) -> bool {
        self.has_room() && self.is_awaited.swap(false, Atomic::SeqCst)
    }
}
