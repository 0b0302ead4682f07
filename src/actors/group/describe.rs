//! How a group is, for those who look at it.

use std::sync::{Arc, atomic::Ordering};

use actix::prelude::*;
use callboard_core::group::Generation;
use callboard_protocol::{GroupMode, Offset, PartitionId};

use super::{GroupActor, Kind, mailbox::Describe, members::Member};

/// A group as it is just now.
#[derive(Clone, Debug, MessageResponse)]
pub struct GroupState {
    /// How its members share the topic.
    pub mode: GroupMode,
    /// Counts the assignments; 0 for a shared group.
    pub generation: Generation,
    /// Its members, oldest first.
    pub members: Vec<MemberState>,
    /// How far it is in each partition.
    pub partitions: Vec<PartitionState>,
    /// What became of its records.
    pub counts: Counts,
}

/// What became of a shared group's records since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acked.
    pub acked: u64,
    /// Gone to the dead letters.
    pub dead_lettered: u64,
    /// Come back from there.
    pub redriven: u64,
}

/// A member as it is just now.
#[derive(Clone, Debug)]
pub struct MemberState {
    /// Its name, or what stands for one.
    pub label: String,
    /// Its session.
    pub session: Arc<str>,
    /// Whether its socket is there.
    pub is_connected: bool,
    /// What it owns.
    pub partitions: Vec<PartitionId>,
    /// What it is about to give away.
    pub revoking: Vec<PartitionId>,
    /// Most records out at a time.
    pub credit: u64,
    /// Records out.
    pub out: u64,
}

/// One partition of a group as it is just now.
#[derive(Clone, Debug)]
pub struct PartitionState {
    /// Which.
    pub partition: PartitionId,
    /// Everything before is finished; none if nobody has begun.
    pub position: Option<Offset>,
    /// Records that are not finished.
    pub unfinished: u64,
    /// Who owns it.
    pub owner: Option<String>,
    /// Leases out.
    pub leased: u64,
    /// Returned, delayed or held back.
    pub waiting: u64,
}

impl Member {
    /// Its name, or what stands for one.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("{}/{}", self.session, self.index),
        }
    }
}

impl Handler<Describe> for GroupActor {
    type Result = GroupState;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> GroupState {
        match &self.kind {
            Kind::Partitioned(own) => self.describe_partitioned(own),
            Kind::Shared(work) => self.describe_shared(work),
        }
    }
}

impl GroupActor {
    fn describe_partitioned(&self, own: &super::Partitioned) -> GroupState {
        let members = own.group.members().filter_map(|known| {
            let member = self.members.get(known.member)?;
            Some(MemberState {
                label: member.label(),
                session: member.session.clone(),
                is_connected: !known.is_lost,
                partitions: known.partitions.clone(),
                revoking: known.revoking.clone(),
                credit: member.credit,
                out: member.out.load(Ordering::Relaxed),
            })
        });
        let label = |partition| {
            let owner = own.group.owner(partition)?;
            self.members.get(owner).map(Member::label)
        };
        let partitions = self.parts.iter().map(|part| PartitionState {
            partition: part.id,
            position: own.group.committed(part.id),
            unfinished: own.unfinished(part),
            owner: label(part.id),
            leased: 0,
            waiting: 0,
        });
        GroupState {
            mode: self.group.mode,
            generation: own.group.generation(),
            members: members.collect(),
            partitions: partitions.collect(),
            counts: Counts::default(),
        }
    }

    fn describe_shared(&self, work: &super::SharedWork) -> GroupState {
        let members = work.group.members().filter_map(|known| {
            let member = self.members.get(known.member)?;
            Some(MemberState {
                label: member.label(),
                session: member.session.clone(),
                is_connected: true,
                partitions: Vec::new(),
                revoking: Vec::new(),
                credit: known.credit,
                out: known.out,
            })
        });
        let partitions = self.parts.iter().map(|part| PartitionState {
            partition: part.id,
            position: work.group.floor(part.id),
            unfinished: work.unfinished(part.id, part.next_offset()),
            owner: None,
            leased: work.group.leased(part.id),
            waiting: work.group.waiting(part.id),
        });
        GroupState {
            mode: self.group.mode,
            generation: Generation(0),
            members: members.collect(),
            partitions: partitions.collect(),
            counts: work.counts(),
        }
    }
}
