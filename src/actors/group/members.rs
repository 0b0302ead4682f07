//! The members of a group, and how to reach them.

use std::sync::{Arc, atomic::AtomicU64};

use callboard_core::group::{Exclusive, MemberId};

use super::{
    handle::Gauge,
    mailbox::Join,
    receipt::{Home, Outgoing, Whats},
};
use crate::actors::{
    directory::subscribers::Subscriber,
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
    /// Counts it among the topic's subscribers; none if the topic is going.
    subscriber: Option<Subscriber>,
}

impl Member {
    /// Has its thread told something.
    pub fn tell(&self, outgoing: &mut Outgoing, what: Whats) {
        outgoing.tell(&self.home, (self.id, self.index), what);
    }
}

/// The members by id: ids rise, so that the newest stands last.
#[derive(Default)]
pub struct Members {
    known: Vec<Member>,
    /// Who came and went since this was last asked for, in this order.
    moves: Vec<Move>,
    /// Of those who went: they count until what they asked for is answered.
    departed: Vec<Subscriber>,
}

/// A member came or went.
pub struct Move {
    /// Which.
    pub way: Way,
    /// The member, as people see it.
    pub member: String,
    /// Its session.
    pub session: Arc<str>,
}

/// Whether a member came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is a member from now on.
    Joined,
    /// It is none any more.
    Left,
}

impl Move {
    fn of(member: &Member, way: Way) -> Self {
        Self {
            way,
            member: member.label(),
            session: member.session.clone(),
        }
    }
}

impl Members {
    /// Takes a member in.
    pub fn add(&mut self, join: &Join, subscriber: Option<Subscriber>) {
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
            subscriber,
        };
        match self.known.binary_search_by_key(&member.id, |known| known.id) {
            Ok(index) => self.known[index] = member,
            Err(index) => {
                self.moves.push(Move::of(&member, Way::Joined));
                self.known.insert(index, member);
            }
        }
    }

    /// A member.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        let index = self.known.binary_search_by_key(&id, |known| known.id).ok()?;
        self.known.get(index)
    }

    /// A member.
    pub fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        let index = self.known.binary_search_by_key(&id, |known| known.id).ok()?;
        self.known.get_mut(index)
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
        let former = self.known.iter().filter(stays).find(|known| is_former(known))?;
        let is_refused = join.exclusive == Exclusive::Yes && self.known.iter().filter(stays).count() > 1;
        (!is_refused).then_some(former.id)
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: MemberId) -> Option<Member> {
        let index = self.known.binary_search_by_key(&id, |known| known.id).ok()?;
        let mut member = self.known.remove(index);
        self.moves.push(Move::of(&member, Way::Left));
        self.departed.extend(member.subscriber.take());
        Some(member)
    }

    /// Forgets those that `stays` does not keep.
    pub fn retain(&mut self, mut stays: impl FnMut(&Member) -> bool) {
        let gone = self.known.extract_if(.., |known| !stays(known));
        for mut member in gone {
            self.moves.push(Move::of(&member, Way::Left));
            self.departed.extend(member.subscriber.take());
        }
    }

    /// Counts those who went no longer among the topic's subscribers.
    pub fn let_go(&mut self) {
        self.departed.clear();
    }

    /// Who came and went since this was last asked.
    pub fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.known.iter()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.known.iter_mut()
    }
}
