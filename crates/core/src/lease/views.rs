//! What a shared group shows of itself; nothing here changes it.

use callboard_protocol::{Offset, PartitionId};

use super::{MemberView, SharedGroup, progress::Progress};
use crate::member::MemberId;

/// What a group has counted since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that were acked.
    pub acked: u64,
    /// Records that were buried.
    pub dead_lettered: u64,
    /// Dead letters that were moved back.
    pub redriven: u64,
}

impl SharedGroup {
    /// Who is in the group.
    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        self.members.views()
    }

    /// Whether it knows a member, also as one that has retired and has leases left.
    #[must_use]
    pub fn has_member(&self, member: MemberId) -> bool {
        self.members.get(member).is_some()
    }

    /// The partitions in which the group has a position, in their order.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        let numbered = (0..).map(PartitionId).zip(&self.partitions);
        numbered.filter_map(|(partition, progress)| progress.as_ref().map(|_| partition))
    }

    /// The first record of a partition that is not finished.
    #[must_use]
    pub fn floor(&self, partition: PartitionId) -> Option<Offset> {
        let floor = |progress: &Progress| Offset(progress.finished.floor());
        self.progress(partition).map(floor)
    }

    /// How many of the offsets before the cursor of a partition are finished. Unlike what is unfinished it does
    /// not depend on how much of the partition the group has heard of.
    #[must_use]
    pub fn finished(&self, partition: PartitionId) -> u64 {
        self.progress(partition).map_or(0, Progress::finished_count)
    }

    /// How many records of a partition are not finished.
    #[must_use]
    pub fn unfinished(&self, partition: PartitionId) -> u64 {
        self.progress(partition).map_or(0, Progress::unfinished)
    }

    /// How many records of a partition are out.
    #[must_use]
    pub fn leased(&self, partition: PartitionId) -> u64 {
        self.progress(partition).map_or(0, |progress| progress.leased)
    }

    /// How many records of a partition wait to come again: returned, delayed or held back.
    #[must_use]
    pub fn waiting(&self, partition: PartitionId) -> u64 {
        self.progress(partition)
            .map_or(0, |progress| progress.waiting.len() as u64)
    }

    /// What the group has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
