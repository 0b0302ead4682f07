//! Which member should have which partition: balanced, and with as few moves as possible.
//!
//! A pure function of who is there and who has what. It never looks at positions or time, and decides
//! nothing about when a partition moves: the group hands over. Called by the group whenever its members or
//! partitions change.

use std::collections::{BTreeMap, BTreeSet};

use callboard_protocol::PartitionId;

use crate::member::MemberId;

/// Whether a member may get what it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gains {
    /// It is connected.
    Allowed,
    /// It is lost, and a partition that went to it would rest until it comes back or is given up.
    Denied,
}

/// One partition before the assignment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    pub(super) claim: Claim,
}

/// Who has a claim to a partition; a stronger one is kept where two compete.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim {
    /// It belongs to this member, and taking it away interrupts somebody's work.
    Owned(MemberId),
    /// It is on its way to `to`, which knows nothing of it yet, and is being taken away from `from`.
    Planned { to: MemberId, from: Option<MemberId> },
    /// Nobody's. `former` is being told to stop and may as well have it again.
    Free { former: Option<MemberId> },
    /// This member gave it back, so another one should have it if the balance allows.
    GivenBack(MemberId),
}

/// How much one member has, and how much it should have.
#[derive(Debug)]
struct Share {
    member: MemberId,
    gains: Gains,
    owned: usize,
    planned: usize,
    given_back: usize,
    quota: usize,
}

/// The member of each partition: sizes differ by at most one among those that may gain, and of all
/// such assignments this one takes the fewest partitions from a member that owns them.
///
/// A member that may not gain keeps what it owns as far as the balance allows. Partitions that nobody may
/// have are left out. Given its own result as [`Claim::Owned`] or [`Claim::Planned`] it returns the same.
pub(super) fn assign(
    members: &BTreeMap<MemberId, Gains>,
    places: &[Place],
) -> BTreeMap<PartitionId, MemberId> {
    let shares = shares(members, places);
    let mut room: BTreeMap<MemberId, usize> =
        shares.iter().map(|share| (share.member, share.quota)).collect();
    let mut assigned = BTreeMap::new();
    // The strongest claims choose first, so that the weaker ones are what an excess is taken from.
    let wishes: [fn(Claim) -> Option<MemberId>; 3] = [
        |claim| match claim {
            Claim::Owned(member) => Some(member),
            _ => None,
        },
        |claim| match claim {
            Claim::Planned { to, .. } => Some(to),
            _ => None,
        },
        |claim| match claim {
            Claim::Planned { from, .. } | Claim::Free { former: from } => from,
            _ => None,
        },
    ];
    for wish in wishes {
        for place in places {
            if !assigned.contains_key(&place.partition)
                && let Some(member) = wish(place.claim)
                && let Some(left) = room.get_mut(&member).filter(|left| **left > 0)
            {
                *left -= 1;
                assigned.insert(place.partition, member);
            }
        }
    }
    spread(places, room, &mut assigned);
    assigned
}

/// Gives what nobody has got yet to whoever has room.
fn spread(
    places: &[Place],
    mut room: BTreeMap<MemberId, usize>,
    assigned: &mut BTreeMap<PartitionId, MemberId>,
) {
    let mut open: BTreeSet<MemberId> = room
        .iter()
        .filter(|(_, left)| **left > 0)
        .map(|(member, _)| *member)
        .collect();
    for place in places {
        if assigned.contains_key(&place.partition) {
            continue;
        }
        let another = match place.claim {
            Claim::GivenBack(giver) => open.iter().copied().find(|member| *member != giver),
            _ => None,
        };
        let Some(member) = another.or_else(|| open.first().copied()) else {
            return;
        };
        assigned.insert(place.partition, member);
        let left = room.get_mut(&member).expect("only members are open");
        *left -= 1;
        if *left == 0 {
            open.remove(&member);
        }
    }
}

/// Counts what each member has and settles how much it should have.
fn shares(members: &BTreeMap<MemberId, Gains>, places: &[Place]) -> Vec<Share> {
    let mut shares: BTreeMap<MemberId, Share> = members
        .iter()
        .map(|(&member, &gains)| {
            let share = Share {
                member,
                gains,
                owned: 0,
                planned: 0,
                given_back: 0,
                quota: 0,
            };
            (member, share)
        })
        .collect();
    for place in places {
        let (member, count): (_, fn(&mut Share) -> &mut usize) = match place.claim {
            Claim::Owned(member) => (member, |share| &mut share.owned),
            Claim::Planned { to, .. } => (to, |share| &mut share.planned),
            Claim::GivenBack(member) => (member, |share| &mut share.given_back),
            Claim::Free { .. } => continue,
        };
        if let Some(share) = shares.get_mut(&member) {
            *count(share) += 1;
        }
    }
    let mut shares: Vec<Share> = shares.into_values().collect();
    set_quotas(&mut shares, places.len());
    shares
}

/// Divides `partitions` evenly, with what is left over to those from whom it would have to be taken.
fn set_quotas(shares: &mut [Share], mut partitions: usize) {
    let is_stuck = |share: &Share| share.gains == Gains::Denied;
    if shares.iter().all(is_stuck) {
        for share in shares {
            share.quota = share.owned;
        }
        return;
    }
    let mut open: Vec<&mut Share> = shares.iter_mut().collect();
    // Who may not gain and has no more than its part keeps that; the others divide the rest, which
    // makes their part greater, so that another one may now have no more than its part.
    loop {
        let part = partitions / open.len();
        let (fixed, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|share| is_stuck(share) && share.owned <= part);
        let is_done = fixed.is_empty();
        for share in fixed {
            share.quota = share.owned;
            partitions -= share.owned;
        }
        open = rest;
        if is_done {
            break;
        }
    }
    let part = partitions / open.len();
    let left_over = partitions % open.len();
    // One more saves a move only where more is owned; and spares a change of plan where more is planned.
    open.sort_by_key(|share| {
        let has_more = share.owned > part;
        let expects_more = share.owned + share.planned > part;
        (!has_more, !expects_more, share.given_back > 0, share.member)
    });
    for (index, share) in open.into_iter().enumerate() {
        share.quota = part + usize::from(index < left_over);
    }
}
