//! How a group gets from what it has to what it should have: plans, takes, hands over and tells.
//!
//! The only place that gives a partition to a member and counts generations. Never takes a partition without
//! saying so, nor gives one that somebody may still deliver. Called by the group after whatever may change who
//! has what.

use std::collections::BTreeMap;

use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::{
    Event, Member, PartitionedGroup, Presence,
    assignment::{Gains, Place, assign},
    holding::{Ending, Holding, Partition, Revoking, Stop},
};
use crate::member::MemberId;

/// What one call takes and gives, told together under one generation.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By member and grace.
    pub(super) revoked: BTreeMap<(MemberId, u64), Vec<PartitionId>>,
    /// Where to begin in each.
    pub(super) gained: BTreeMap<MemberId, BTreeMap<PartitionId, Offset>>,
}

impl PartitionedGroup {
    /// Plans for `member` what belongs to the `former` one of the same name, which is out.
    pub(super) fn take_place(&mut self, former: MemberId, member: MemberId) {
        if self.is_here(former) {
            self.events.push(Event::Replaced { member: former });
        }
        self.members.remove(&former);
        for state in self.partitions.values_mut() {
            if state.planned == Some(former) {
                state.planned = Some(member);
            }
        }
        self.free_all_of(former);
    }

    pub(super) fn free_all_of(&mut self, member: MemberId) {
        for state in self.partitions.values_mut() {
            if state.holding.member() == Some(member) {
                state.holding = Holding::Free;
            }
        }
    }

    /// Decides anew who should have what.
    pub(super) fn plan(&mut self) {
        let gains = |member: &Member| match member.presence {
            Presence::Here => Gains::Allowed,
            Presence::Lost { .. } => Gains::Denied,
        };
        let members: BTreeMap<MemberId, Gains> = self
            .members
            .iter()
            .map(|(&member, state)| (member, gains(state)))
            .collect();
        let places: Vec<Place> = self
            .partitions
            .iter()
            .map(|(&partition, state)| Place {
                partition,
                claim: state.claim(),
            })
            .collect();
        let mut assigned = assign(&members, &places);
        for (partition, state) in &mut self.partitions {
            state.planned = assigned.remove(partition);
        }
    }

    /// Takes, hands over and tells whatever the plan and the time allow now.
    pub(super) fn settle(&mut self, now: Timestamp, mut changes: Changes) {
        let generation = self.generation.next();
        let grace_ms = self.timing.revoke_grace_ms;
        for (&partition, state) in &mut self.partitions {
            let presence_of = |member| self.members.get(&member).map(|member| member.presence);
            if let Holding::Owned { member, since } = state.holding
                && state.planned != Some(member)
            {
                state.holding = Holding::Free;
                if presence_of(member) == Some(Presence::Here) {
                    state.holding = Holding::Revoking(Revoking {
                        member,
                        since,
                        until: now.plus_ms(grace_ms),
                        stop: Stop::Awaited,
                        ending: Ending::Grace,
                    });
                    let revoked = changes.revoked.entry((member, grace_ms)).or_default();
                    revoked.push(partition);
                }
            }
            if state.is_let_go(now) {
                state.holding = Holding::Free;
            }
            if let (Holding::Free, Some(member)) = (&state.holding, state.planned)
                && presence_of(member) == Some(Presence::Here)
            {
                state.holding = Holding::Owned {
                    member,
                    since: generation,
                };
                let gained = changes.gained.entry(member).or_default();
                gained.insert(partition, state.position.unwrap_or(state.first));
            }
        }
        self.tell(changes);
        self.tell_idle();
        self.timeout = self.earliest_timeout();
    }

    /// Makes events of what changed, under one new generation.
    fn tell(&mut self, changes: Changes) {
        if changes.revoked.is_empty() && changes.gained.is_empty() {
            return;
        }
        self.generation = self.generation.next();
        let generation = self.generation;
        self.events.push(Event::Generation(generation));
        for ((member, grace_ms), partitions) in changes.revoked {
            self.events.push(Event::Revoked {
                member,
                generation,
                partitions,
                grace_ms,
            });
        }
        for (member, offsets) in changes.gained {
            if let Some(state) = self.members.get_mut(&member) {
                state.is_told_idle = false;
            }
            self.events.push(Event::Assigned {
                member,
                generation,
                offsets,
            });
        }
    }

    /// Tells whoever has nothing and will get nothing, once.
    fn tell_idle(&mut self) {
        let is_untold = |member: &Member| !member.is_told_idle && member.presence == Presence::Here;
        if !self.members.values().any(is_untold) {
            return;
        }
        let mut busy: Vec<MemberId> = Vec::new();
        for state in self.partitions.values() {
            busy.extend(state.holding.member());
            busy.extend(state.planned);
        }
        busy.sort_unstable();
        for (&member, state) in &mut self.members {
            if is_untold(state) && busy.binary_search(&member).is_err() {
                state.is_told_idle = true;
                self.events.push(Event::Assigned {
                    member,
                    generation: self.generation,
                    offsets: BTreeMap::new(),
                });
            }
        }
    }

    fn earliest_timeout(&self) -> Option<Timestamp> {
        let lost = self.members.values().filter_map(|member| match member.presence {
            Presence::Lost { until } => Some(until),
            Presence::Here => None,
        });
        let graces = self.partitions.values().filter_map(Partition::grace_end);
        lost.chain(graces).min()
    }
}
