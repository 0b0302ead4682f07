//! The naive group: it plans nothing. It hears the real one's events and knows from the schedule alone what is
//! allowed, who may commit what, and where each position is.

use std::collections::BTreeMap;

use callboard_core::group::{Event, Exclusive, Generation, GroupError, Join, MemberId};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::TIMING;

/// Why a partition is let go, once its owner has stopped.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ending {
    Grace { until: Timestamp },
    AtOnce,
}

pub(super) struct Taken {
    pub(super) ending: Ending,
    /// What a commit must reach, once the owner has stopped.
    pub(super) stopped: Option<Option<Offset>>,
}

/// Who may deliver a partition, or has what it delivered still out.
pub(super) struct Holding {
    pub(super) member: MemberId,
    pub(super) since: Generation,
    pub(super) taken: Option<Taken>,
}

pub(super) struct Member {
    pub(super) name: Option<&'static str>,
    pub(super) exclusive: Exclusive,
    pub(super) lost_until: Option<Timestamp>,
    pub(super) is_told_idle: bool,
}

#[derive(Default)]
pub(super) struct Naive {
    pub(super) now: Timestamp,
    pub(super) generation: Generation,
    /// The first offset kept of each partition that there is.
    pub(super) firsts: BTreeMap<PartitionId, Offset>,
    pub(super) positions: BTreeMap<PartitionId, Offset>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) holdings: BTreeMap<PartitionId, Holding>,
}

impl Naive {
    pub(super) fn is_here(&self, member: MemberId) -> bool {
        let state = self.members.get(&member);
        state.is_some_and(|state| state.lost_until.is_none())
    }

    pub(super) fn position_all(&mut self, starts: &BTreeMap<PartitionId, Offset>) {
        for (partition, first) in &self.firsts {
            let start = starts.get(partition).unwrap_or(first);
            self.positions.entry(*partition).or_insert(*start);
        }
    }

    pub(super) fn remove(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.holdings.retain(|_, holding| holding.member != member);
    }

    pub(super) fn join(&mut self, join: &Join<'_>, name: Option<&'static str>) -> Result<(), ()> {
        let same = |member: &Member| name.is_some() && member.name == name;
        let others = || self.members.values().filter(|member| !same(member));
        let is_taken = others().any(|member| member.exclusive == Exclusive::Yes);
        if is_taken || (join.exclusive == Exclusive::Yes && others().next().is_some()) {
            return Err(());
        }
        let former = self
            .members
            .iter()
            .find(|(_, member)| same(member))
            .map(|(&id, _)| id);
        self.position_all(join.starts);
        former.into_iter().for_each(|former| self.remove(former));
        let member = Member {
            name,
            exclusive: join.exclusive,
            lost_until: None,
            is_told_idle: false,
        };
        self.members.insert(join.member, member);
        Ok(())
    }

    pub(super) fn lost(&mut self, member: MemberId) {
        let Some(state) = self.members.get_mut(&member) else {
            return;
        };
        if state.name.is_none() {
            return self.remove(member);
        }
        state
            .lost_until
            .get_or_insert(self.now.plus_ms(TIMING.rejoin_grace_ms));
        self.holdings
            .retain(|_, holding| holding.member != member || holding.taken.is_none());
    }

    pub(super) fn commit(
        &mut self,
        member: MemberId,
        generation: Option<Generation>,
        offsets: &BTreeMap<PartitionId, Offset>,
    ) -> Result<(), GroupError> {
        if !self.is_here(member) {
            return Err(GroupError::UnknownMember);
        }
        for &partition in offsets.keys() {
            let may_commit = |holding: &&Holding| {
                let at_once = |taken: &Taken| taken.ending == Ending::AtOnce;
                holding.member == member && !holding.taken.as_ref().is_some_and(at_once)
            };
            let Some(holding) = self.holdings.get(&partition).filter(may_commit) else {
                return Err(GroupError::NotOwner { partition });
            };
            let since = holding.since;
            if generation.is_some_and(|generation| generation < since || generation > self.generation) {
                return Err(GroupError::StaleGeneration { partition, since });
            }
        }
        for (&partition, &offset) in offsets {
            let position = self.positions.entry(partition).or_default();
            *position = offset.max(*position);
        }
        Ok(())
    }

    /// Once its owner has stopped, nothing more is waited for.
    pub(super) fn end_at_once(&mut self, partition: PartitionId) {
        let holding = self.holdings.get_mut(&partition);
        if let Some(taken) = holding.and_then(|holding| holding.taken.as_mut()) {
            taken.ending = Ending::AtOnce;
        }
    }

    /// Forgets who stopped and has nothing out, gave back, or had its grace.
    pub(super) fn let_go(&mut self) {
        let (now, positions) = (self.now, &self.positions);
        self.holdings.retain(|partition, holding| {
            let Some(taken) = &holding.taken else { return true };
            let Some(out) = taken.stopped else { return true };
            match taken.ending {
                Ending::AtOnce => false,
                Ending::Grace { until } => until > now && out.is_some_and(|out| positions[partition] < out),
            }
        });
    }

    pub(super) fn hear(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Positioned { .. } => {}
            Event::Replaced { member } => {
                ensure(!self.members.contains_key(member), "it is out")?;
            }
            Event::Generation(generation) => {
                ensure(
                    *generation == self.generation.next(),
                    "generations count one by one",
                )?;
                self.generation = *generation;
            }
            Event::Revoked {
                member,
                generation,
                partitions,
                grace_ms,
            } => {
                ensure(
                    *generation == self.generation,
                    "told under the present generation",
                )?;
                ensure(self.is_here(*member), "only who is there is told")?;
                for partition in partitions {
                    let holding = self.holdings.get_mut(partition).ok_or("nobody has it")?;
                    ensure(
                        holding.member == *member && holding.taken.is_none(),
                        "it owns what it loses",
                    )?;
                    let ending = match grace_ms {
                        0 => Ending::AtOnce,
                        _ => Ending::Grace {
                            until: self.now.plus_ms(*grace_ms),
                        },
                    };
                    holding.taken = Some(Taken {
                        ending,
                        stopped: None,
                    });
                }
            }
            Event::Assigned {
                member,
                generation,
                offsets,
            } => self.assigned(*member, *generation, offsets)?,
        }
        Ok(())
    }

    fn assigned(
        &mut self,
        member: MemberId,
        generation: Generation,
        offsets: &BTreeMap<PartitionId, Offset>,
    ) -> Result<(), String> {
        ensure(generation == self.generation, "told under the present generation")?;
        ensure(self.is_here(member), "only who is there gains")?;
        let state = self.members.get_mut(&member).ok_or("it is no member")?;
        if offsets.is_empty() {
            ensure(!state.is_told_idle, "idling is said once")?;
            state.is_told_idle = true;
            let has_any = self.holdings.values().any(|holding| holding.member == member);
            return ensure(!has_any, "who idles has nothing");
        }
        state.is_told_idle = false;
        for (partition, offset) in offsets {
            ensure(
                self.positions.get(partition) == Some(offset),
                "it begins at the group's position",
            )?;
            let former = self.holdings.insert(
                *partition,
                Holding {
                    member,
                    since: generation,
                    taken: None,
                },
            );
            let Some(former) = former else { continue };
            // Only from a lost one, which delivers nothing, and only what the balance takes from it.
            ensure(
                self.members.contains_key(&former.member),
                "holdings end with their member",
            )?;
            ensure(!self.is_here(former.member), "somebody else may still deliver it")?;
            let size = |member| {
                self.holdings
                    .values()
                    .filter(|holding| holding.member == member)
                    .count()
            };
            ensure(
                size(member) <= size(former.member) + 1,
                "a lost member keeps what it may have",
            )?;
        }
        Ok(())
    }

    pub(super) fn holdings_of(&self, member: MemberId, is_taken: bool) -> Vec<PartitionId> {
        let is_meant = |holding: &Holding| holding.member == member && holding.taken.is_some() == is_taken;
        let meant = self.holdings.iter().filter(|(_, holding)| is_meant(holding));
        meant.map(|(&partition, _)| partition).collect()
    }
}

fn ensure(holds: bool, claim: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(claim.to_owned()) }
}
