//! The members of a group, and how to reach them.

use std::sync::{Arc, atomic::AtomicU64};

use callboard_core::group::{Exclusive, MemberId};

use super::{
    handle::Gauge,
    mailbox::Join,
    receipt::{Home, Outgoing, Whats},
};
use crate::actors::{
    webhook::mailbox::LeasedRecord,
    wire::{Format, FrameBuffer},
};

/// One member.
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// Where it is told what happens.
    pub home: Home,
    /// Which of its session's memberships.
    pub index: u32,
    /// Its session's id.
    pub session: Arc<str>,
    /// The name that it comes back under.
    pub name: Option<Arc<str>>,
    /// Its subprotocol.
    pub format: Format,
    /// Most records out at a time.
    pub credit: u64,
    /// What waits for it on its way.
    pub gauge: Arc<Gauge>,
    /// Records of a partitioned group that it has been given and has not committed.
    pub out: Arc<AtomicU64>,
    /// Records for it that go out with this turn.
    pub frames: Option<FrameBuffer>,
    /// The same for a webhook, for which nothing is encoded.
    pub leased: Vec<LeasedRecord>,
}

impl Member {
    /// Has its thread told something.
    pub fn tell(&self, outgoing: &mut Outgoing, what: Whats) {
        outgoing.tell(&self.home, (self.id, self.index), what);
    }
}

/// The members by id: ids rise, so that the newest stands last.
#[derive(Default)]
pub struct Members(Vec<Member>);

impl Members {
    /// Takes a member in.
    pub fn add(&mut self, join: &Join) {
        let member = Member {
            id: join.key.member,
            home: join.home.clone(),
            index: join.key.index,
            session: join.session.clone(),
            name: join.name.clone(),
            format: join.format,
            credit: join.credit,
            gauge: join.gauge.clone(),
            out: join.out.clone(),
            frames: None,
            leased: Vec::new(),
        };
        match self.0.binary_search_by_key(&member.id, |known| known.id) {
            Ok(index) => self.0[index] = member,
            Err(index) => self.0.insert(index, member),
        }
    }

    /// A member.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        let index = self.0.binary_search_by_key(&id, |known| known.id).ok()?;
        self.0.get(index)
    }

    /// A member.
    pub fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        let index = self.0.binary_search_by_key(&id, |known| known.id).ok()?;
        self.0.get_mut(index)
    }

    /// The member of a shared group whose place a newer one of its name takes; one that has retired keeps what it
    /// has. None if the newer one will be refused, because it wants to be alone and others stay.
    pub fn replaced_by(&self, join: &Join, retired: &[MemberId]) -> Option<MemberId> {
        let name = join.name.as_ref()?;
        let stays = |known: &&Member| !retired.contains(&known.id);
        // A session that takes the name of a webhook is another member.
        let is_former = |known: &Member| {
            known.name.as_ref() == Some(name) && known.home.is_webhook() == join.home.is_webhook()
        };
        let former = self.0.iter().filter(stays).find(|known| is_former(known))?;
        let is_refused = join.exclusive == Exclusive::Yes && self.0.iter().filter(stays).count() > 1;
        (!is_refused).then_some(former.id)
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: MemberId) -> Option<Member> {
        let index = self.0.binary_search_by_key(&id, |known| known.id).ok()?;
        Some(self.0.remove(index))
    }

    /// Forgets those that `stays` does not keep.
    pub fn retain(&mut self, stays: impl FnMut(&Member) -> bool) {
        self.0.retain(stays);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.0.iter_mut()
    }
}
