//! One partition in a group: how far it is committed, who has it, and how it is taken away.
//!
//! Owns no member and tells nobody; the group asks it and moves it.

use callboard_protocol::{Offset, Timestamp};

use super::assignment::Claim;
use crate::member::{Generation, MemberId};

/// What the group knows of one partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The offset of the next record; `None` until somebody joins.
    pub(super) position: Option<Offset>,
    /// The first offset kept, as the group was last told.
    pub(super) first: Offset,
    /// Who should have it.
    pub(super) planned: Option<MemberId>,
    /// Who has it.
    pub(super) holding: Holding,
}

/// Who has a partition.
#[derive(Debug, Default)]
pub(super) enum Holding {
    /// Nobody.
    #[default]
    Free,
    /// `member`, since that generation.
    Owned { member: MemberId, since: Generation },
    /// Somebody from whom it is being taken.
    Revoking(Revoking),
}

/// A partition that its owner was told to stop.
#[derive(Debug)]
pub(super) struct Revoking {
    pub(super) member: MemberId,
    /// When it gained the partition.
    pub(super) since: Generation,
    /// The end of its grace.
    pub(super) until: Timestamp,
    pub(super) stop: Stop,
    pub(super) ending: Ending,
}

/// Whether the owner's thread delivers nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It has not said so.
    Awaited,
    /// It has; and nothing is out once this offset is committed.
    Stopped { out: Option<Offset> },
}

/// What lets a revoked partition go, once its owner delivers nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All that is out is committed, or the grace is over.
    Grace,
    /// Nothing more: its owner gave it back.
    Released,
    /// Nothing more: it goes on elsewhere, and a commit would undo that.
    Sought,
}

impl Holding {
    /// Who has it, also while it is being taken away.
    pub(super) fn member(&self) -> Option<MemberId> {
        match self {
            Self::Free => None,
            Self::Owned { member, .. } | Self::Revoking(Revoking { member, .. }) => Some(*member),
        }
    }

    /// The generation since which `member` has it, if it may commit here.
    pub(super) fn commits_since(&self, member: MemberId) -> Option<Generation> {
        let (owner, since) = match self {
            Self::Owned { member, since } => (*member, *since),
            Self::Revoking(revoking) if revoking.ending == Ending::Grace => (revoking.member, revoking.since),
            Self::Revoking(_) | Self::Free => return None,
        };
        (owner == member).then_some(since)
    }
}

impl Partition {
    /// Who has a claim to it in a new assignment.
    pub(super) fn claim(&self) -> Claim {
        match (&self.holding, self.planned) {
            (Holding::Owned { member, .. }, _) => Claim::Owned(*member),
            (Holding::Revoking(revoking), None) if revoking.ending == Ending::Released => {
                Claim::GivenBack(revoking.member)
            }
            (Holding::Revoking(revoking), Some(to)) if revoking.ending == Ending::Released => {
                Claim::Planned { to, from: None }
            }
            (holding, Some(to)) => Claim::Planned {
                to,
                from: holding.member(),
            },
            (holding, None) => Claim::Free {
                former: holding.member(),
            },
        }
    }

    /// Takes it from its owner without a grace; whether the owner must be told.
    ///
    /// An owner that was told before is not told again: it answers each partition that it is told once.
    pub(super) fn end(&mut self, now: Timestamp, ending: Ending) -> bool {
        match &mut self.holding {
            Holding::Free => false,
            Holding::Owned { member, since } => {
                self.holding = Holding::Revoking(Revoking {
                    member: *member,
                    since: *since,
                    until: now,
                    stop: Stop::Awaited,
                    ending,
                });
                true
            }
            Holding::Revoking(revoking) => {
                revoking.ending = ending;
                false
            }
        }
    }

    /// Whether nothing keeps it any longer at the owner from whom it is being taken.
    pub(super) fn is_let_go(&self, now: Timestamp) -> bool {
        let Holding::Revoking(revoking) = &self.holding else {
            return false;
        };
        let Stop::Stopped { out } = revoking.stop else {
            return false;
        };
        let nothing_is_out = out.is_none_or(|out| self.position >= Some(out));
        revoking.ending != Ending::Grace || nothing_is_out || revoking.until <= now
    }

    /// When time alone lets it go. Never while its owner may still deliver, however long that takes.
    pub(super) fn grace_end(&self) -> Option<Timestamp> {
        match &self.holding {
            Holding::Revoking(revoking) if revoking.stop != Stop::Awaited => Some(revoking.until),
            _ => None,
        }
    }
}
