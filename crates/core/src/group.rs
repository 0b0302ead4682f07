//! One partitioned group: who its members are, which partition belongs to whom, and how far each is
//! committed.
//!
//! It decides who owns a partition and when it moves. It never reads a record, sends nothing and has no
//! clock: what is to be logged or told comes out as [`Event`]s. A partition moves on only when its former
//! owner delivers nothing more of it, and has committed all that is out, gave it back, ran out of its
//! grace, or left; so no partition is ever delivered by two. Called by the actor that keeps the group.

mod assignment;
mod holding;
mod rebalance;

use std::collections::BTreeMap;

use callboard_protocol::{Offset, PartitionId, Timestamp};

use self::{
    holding::{Ending, Holding, Partition, Stop},
    rebalance::Changes,
};
use crate::group_log::{Entry, EntryWriter};
pub use crate::member::{Exclusive, Generation, GroupError, MemberId};

/// How long the group waits for its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a named member that was lost keeps its partitions.
    pub rejoin_grace_ms: u64,
    /// How long a member may commit what it had of a partition that is taken from it.
    pub revoke_grace_ms: u64,
}

/// A member that comes.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// Never given before.
    pub member: MemberId,
    /// The name to come back under.
    pub name: Option<&'a str>,
    /// Whether it wants the group for itself.
    pub exclusive: Exclusive,
    /// Where to begin in partitions in which the group has no position; one that is missing here begins
    /// with its first record kept.
    pub starts: &'a BTreeMap<PartitionId, Offset>,
}

/// What is to be logged or told, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To be logged: the group's position in a partition, at first, by a commit or by a seek.
    Positioned {
        /// Which partition.
        partition: PartitionId,
        /// The offset of the next record.
        offset: Offset,
    },
    /// To be logged: the generation of the assignment that the events after it make.
    Generation(Generation),
    /// Tell the member that it gained these. None: it idles, said once when it joins or becomes idle.
    Assigned {
        /// Whom to tell.
        member: MemberId,
        /// Since when it has them.
        generation: Generation,
        /// Where to begin in each.
        offsets: BTreeMap<PartitionId, Offset>,
    },
    /// Tell the member to deliver nothing more of these; each is to be answered with
    /// [`PartitionedGroup::stopped`] once, whatever comes after.
    Revoked {
        /// Whom to tell.
        member: MemberId,
        /// The generation in which they are no longer its own.
        generation: Generation,
        /// Which ones.
        partitions: Vec<PartitionId>,
        /// How long it may still commit what it has of them.
        grace_ms: u64,
    },
    /// A newer member of the same name took this one's place: it is out, and owns nothing any more.
    Replaced {
        /// Whom to tell.
        member: MemberId,
    },
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView<'a> {
    /// Which member.
    pub member: MemberId,
    /// The name to come back under.
    pub name: Option<&'a str>,
    /// Whether its connection is gone and its partitions wait for it.
    pub is_lost: bool,
    /// What it owns and is not about to lose.
    pub partitions: Vec<PartitionId>,
    /// What is being taken from it.
    pub revoking: Vec<PartitionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    Lost { until: Timestamp },
}

#[derive(Debug)]
struct Member {
    name: Option<Box<str>>,
    exclusive: Exclusive,
    presence: Presence,
    /// Whether it has been told that it idles, and gained nothing since.
    is_told_idle: bool,
}

/// One partitioned group of one topic.
#[derive(Debug)]
pub struct PartitionedGroup {
    timing: Timing,
    generation: Generation,
    partitions: BTreeMap<PartitionId, Partition>,
    members: BTreeMap<MemberId, Member>,
    events: Vec<Event>,
    /// The earliest moment at which time changes something; kept because it is asked for after each commit.
    timeout: Option<Timestamp>,
}

impl PartitionedGroup {
    /// A group without members, partitions and positions.
    ///
    /// [`Self::apply`] makes it what it was, [`Self::set_partitions`] says what there is, and then
    /// members may come.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            generation: Generation::default(),
            partitions: BTreeMap::new(),
            members: BTreeMap::new(),
            events: Vec::new(),
            timeout: None,
        }
    }

    /// Replays one entry of the group's log; those of shared groups change nothing.
    pub fn apply(&mut self, entry: &Entry<'_>) {
        match *entry {
            Entry::Snapshot => {
                self.partitions.clear();
                self.generation = Generation::default();
            }
            Entry::Generation(generation) => self.generation = generation,
            Entry::Position { partition, offset } => {
                self.partitions.entry(partition).or_default().position = Some(offset);
            }
            Entry::Taken { .. }
            | Entry::Finished { .. }
            | Entry::Returned { .. }
            | Entry::Doomed { .. }
            | Entry::Counters { .. }
            | Entry::Redriven { .. }
            | Entry::Letters(_) => {}
        }
    }

    /// Writes all that a replay needs to know.
    pub fn snapshot(&self, out: &mut EntryWriter) {
        out.push(&Entry::Snapshot);
        out.push(&Entry::Generation(self.generation));
        for (&partition, state) in &self.partitions {
            if let Some(offset) = state.position {
                out.push(&Entry::Position { partition, offset });
            }
        }
    }

    /// Changes how long the group waits from now on; what waits already keeps its moment.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// Says which partitions the topic has, each with the first offset kept; they only ever become more.
    ///
    /// One that comes later than the group begins there, because its records are as new to the group as it is.
    pub fn set_partitions(&mut self, now: Timestamp, ids_with_starts: &BTreeMap<PartitionId, Offset>) {
        let has_begun = self.has_begun();
        for (&partition, &first) in ids_with_starts {
            self.partitions.entry(partition).or_default().first = first;
        }
        if has_begun {
            self.position_all(&BTreeMap::new());
        }
        self.plan();
        self.settle(now, Changes::default());
    }

    /// Takes a member in, or back under its name.
    ///
    /// Under the name of one that is lost it gets that one's partitions back; under the name of one that is
    /// there it takes its place.
    ///
    /// # Errors
    /// [`GroupError::Conflict`] if it, or one that is there under another name, wants the group for itself.
    pub fn join(&mut self, now: Timestamp, join: Join<'_>) -> Result<(), GroupError> {
        if self.members.contains_key(&join.member) {
            return Err(GroupError::Conflict("this member has joined already"));
        }
        let same_name = |member: &Member| join.name.is_some() && member.name.as_deref() == join.name;
        let mut former = None;
        for (&other, member) in &self.members {
            if same_name(member) {
                former = Some(other);
            } else if join.exclusive == Exclusive::Yes {
                return Err(GroupError::Conflict(
                    "the group has a member already, and this one wants it for itself",
                ));
            } else if member.exclusive == Exclusive::Yes {
                return Err(GroupError::Conflict(
                    "a member that is there has the group for itself",
                ));
            }
        }
        self.position_all(join.starts);
        if let Some(former) = former {
            self.take_place(former, join.member);
        }
        self.members.insert(
            join.member,
            Member {
                name: join.name.map(Into::into),
                exclusive: join.exclusive,
                presence: Presence::Here,
                is_told_idle: false,
            },
        );
        self.plan();
        self.settle(now, Changes::default());
        Ok(())
    }

    /// The member goes for good: its partitions move on at once. Changes nothing if it has left already.
    pub fn leave(&mut self, now: Timestamp, member: MemberId) {
        if self.members.remove(&member).is_some() {
            self.free_all_of(member);
            self.plan();
            self.settle(now, Changes::default());
        }
    }

    /// The member's connection is gone. A named one keeps its partitions for the rejoin grace, without those
    /// that were being taken from it; an unnamed one leaves.
    pub fn lost(&mut self, now: Timestamp, member: MemberId) {
        let until = now.plus_ms(self.timing.rejoin_grace_ms);
        let Some(state) = self.members.get_mut(&member) else {
            return;
        };
        if state.name.is_none() || until <= now {
            return self.leave(now, member);
        }
        if state.presence != Presence::Here {
            return;
        }
        state.presence = Presence::Lost { until };
        for partition in self.partitions.values_mut() {
            // Nobody is there any more who could commit in its grace.
            if matches!(&partition.holding, Holding::Revoking(revoking) if revoking.member == member) {
                partition.holding = Holding::Free;
            }
        }
        self.plan();
        self.settle(now, Changes::default());
    }

    /// The member's thread delivers nothing more of a revoked partition.
    ///
    /// `out` is the offset that a commit must reach for nothing to be out any more; `None` if nothing is.
    pub fn stopped(&mut self, now: Timestamp, member: MemberId, partition: PartitionId, out: Option<Offset>) {
        let holding = self
            .partitions
            .get_mut(&partition)
            .map(|state| &mut state.holding);
        if let Some(Holding::Revoking(revoking)) = holding
            && revoking.member == member
            && revoking.stop == Stop::Awaited
        {
            revoking.stop = Stop::Stopped { out };
            self.settle(now, Changes::default());
        }
    }

    /// Moves the group's positions forward: all of `offsets` or none.
    ///
    /// Without a `generation` the present one is meant. An offset below the committed one changes nothing.
    ///
    /// # Errors
    /// [`GroupError::NotOwner`] for a partition that the member does not hold, gave back, or that was sought
    /// meanwhile; [`GroupError::StaleGeneration`] for one that it holds since a later generation, or for a
    /// generation that is still to come; [`GroupError::UnknownMember`] if it is none or is lost.
    pub fn commit(
        &mut self,
        now: Timestamp,
        member: MemberId,
        generation: Option<Generation>,
        offsets: &BTreeMap<PartitionId, Offset>,
    ) -> Result<(), GroupError> {
        if !self.is_here(member) {
            return Err(GroupError::UnknownMember);
        }
        let generation = generation.unwrap_or(self.generation);
        for &partition in offsets.keys() {
            let holding = self.partitions.get(&partition).map(|state| &state.holding);
            let since = holding.and_then(|holding| holding.commits_since(member));
            let since = since.ok_or(GroupError::NotOwner { partition })?;
            if !(since..=self.generation).contains(&generation) {
                return Err(GroupError::StaleGeneration { partition, since });
            }
        }
        let mut ends_grace = false;
        for (&partition, &offset) in offsets {
            let Some(state) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if state.position.is_none_or(|committed| committed < offset) {
                state.position = Some(offset);
                self.events.push(Event::Positioned { partition, offset });
                ends_grace |= matches!(state.holding, Holding::Revoking(_));
            }
        }
        if ends_grace {
            self.settle(now, Changes::default());
        }
        Ok(())
    }

    /// Gives partitions back at once, with what is out of them; also such that are being revoked.
    ///
    /// One that was not being revoked goes to another member if the balance allows, else it comes back to
    /// the same one under a new generation.
    ///
    /// # Errors
    /// [`GroupError::NotOwner`] for a partition that the member does not hold, and then nothing is given back;
    /// [`GroupError::UnknownMember`] if it is none.
    pub fn release(
        &mut self,
        now: Timestamp,
        member: MemberId,
        partitions: &[PartitionId],
    ) -> Result<(), GroupError> {
        if !self.is_here(member) {
            return Err(GroupError::UnknownMember);
        }
        for &partition in partitions {
            let holding = self.partitions.get(&partition).map(|state| &state.holding);
            if holding.and_then(Holding::member) != Some(member) {
                return Err(GroupError::NotOwner { partition });
            }
        }
        let mut changes = Changes::default();
        for &partition in partitions {
            let Some(state) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if state.end(now, Ending::Released) {
                changes.revoked.entry((member, 0)).or_default().push(partition);
            }
            if state.planned == Some(member) {
                state.planned = None;
            }
        }
        self.plan();
        self.settle(now, changes);
        Ok(())
    }

    /// Sets positions, forward or back; partitions that the topic does not have are passed over.
    ///
    /// An owner loses a sought partition and gains it again under a new generation, so that nothing from
    /// before the seek can be committed over it.
    pub fn seek(&mut self, now: Timestamp, offsets: &BTreeMap<PartitionId, Offset>) {
        let mut changes = Changes::default();
        for (&partition, &offset) in offsets {
            let Some(state) = self.partitions.get_mut(&partition) else {
                continue;
            };
            state.position = Some(offset);
            self.events.push(Event::Positioned { partition, offset });
            let owner = state.holding.member();
            let is_here = |member: &MemberId| {
                let state = self.members.get(member);
                state.is_some_and(|state| state.presence == Presence::Here)
            };
            if let Some(owner) = owner.filter(is_here)
                && state.end(now, Ending::Sought)
            {
                changes.revoked.entry((owner, 0)).or_default().push(partition);
            }
        }
        self.settle(now, changes);
    }

    /// Lets go what has waited long enough: members that did not come back, partitions after their grace.
    pub fn tick(&mut self, now: Timestamp) {
        let is_over = |presence| matches!(presence, Presence::Lost { until } if until <= now);
        let gone: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| is_over(member.presence))
            .map(|(&member, _)| member)
            .collect();
        for &member in &gone {
            self.members.remove(&member);
            self.free_all_of(member);
        }
        if !gone.is_empty() {
            self.plan();
        }
        self.settle(now, Changes::default());
    }

    /// The earliest moment at which [`Self::tick`] changes something.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timeout
    }

    /// What is to be logged and told since the last call, in order.
    pub fn drain_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The generation of the latest assignment; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The group's position in a partition: the offset of the next record.
    #[must_use]
    pub fn committed(&self, partition: PartitionId) -> Option<Offset> {
        self.partitions.get(&partition)?.position
    }

    /// Who has a partition, also while it is being taken away; `None` while it waits for somebody.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> Option<MemberId> {
        self.partitions.get(&partition)?.holding.member()
    }

    /// All members, the lost ones too, in the order in which they came.
    pub fn members(&self) -> impl Iterator<Item = MemberView<'_>> {
        let mut views: BTreeMap<MemberId, MemberView<'_>> = BTreeMap::new();
        for (&member, state) in &self.members {
            let view = MemberView {
                member,
                name: state.name.as_deref(),
                is_lost: state.presence != Presence::Here,
                partitions: Vec::new(),
                revoking: Vec::new(),
            };
            views.insert(member, view);
        }
        for (&partition, state) in &self.partitions {
            let view = state.holding.member().and_then(|member| views.get_mut(&member));
            match (&state.holding, view) {
                (Holding::Owned { .. }, Some(view)) => view.partitions.push(partition),
                (Holding::Revoking(_), Some(view)) => view.revoking.push(partition),
                _ => {}
            }
        }
        views.into_values()
    }

    /// How many members there are, with the lost ones.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    fn is_here(&self, member: MemberId) -> bool {
        let state = self.members.get(&member);
        state.is_some_and(|state| state.presence == Presence::Here)
    }

    /// Whether the group has been somewhere: only then is a partition without a position a new one.
    fn has_begun(&self) -> bool {
        self.partitions.values().any(|state| state.position.is_some())
    }

    fn position_all(&mut self, starts: &BTreeMap<PartitionId, Offset>) {
        for (&partition, state) in &mut self.partitions {
            if state.position.is_none() {
                let offset = starts.get(&partition).copied().unwrap_or(state.first);
                state.position = Some(offset);
                self.events.push(Event::Positioned { partition, offset });
            }
        }
    }
}
