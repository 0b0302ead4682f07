//! A partitioned group: each partition has one owner, whose thread reads it from the log.

use std::{collections::BTreeMap, sync::Arc};

use callboard_core::{
    group::{Event, GroupError, Join as CoreJoin, PartitionedGroup, Timing},
    group_log::{Entry, EntryWriter},
};
use callboard_protocol::{Offset, Timestamp};

use super::{
    GroupActor, Kind, group_refusal,
    history::Answer,
    mailbox::{Commit, Join, Release},
    receipt::{GroupReply, Whats},
};
use crate::actors::{Settings, clock, directory::PartitionRef};

/// What a partitioned group owns.
pub struct Partitioned {
    /// Who has what.
    pub group: PartitionedGroup,
}

impl Partitioned {
    /// A group without members.
    pub fn new(settings: &Settings) -> Self {
        let timing = Timing {
            rejoin_grace_ms: settings.rejoin_grace_ms,
            revoke_grace_ms: settings.revoke_grace_ms,
        };
        let group = PartitionedGroup::new(timing);
        Self { group }
    }

    /// Takes over which partitions there are.
    pub fn take_partitions(&mut self, parts: &[Arc<PartitionRef>]) {
        let starts = parts.iter().map(|part| {
            let first = part.log().map_or(Offset::ZERO, |log| log.first_offset());
            (part.id, first)
        });
        self.group.set_partitions(clock::now(), &starts.collect());
    }

    /// Lets a member in.
    ///
    /// # Errors
    /// When it or another one wants to be alone.
    pub fn join(&mut self, now: Timestamp, join: &Join) -> Result<(), GroupError> {
        self.group.join(
            now,
            CoreJoin {
                member: join.key.member,
                name: join.name.as_deref(),
                exclusive: join.exclusive,
                starts: &join.starts,
            },
        )
    }

    /// How many records that are kept are not committed.
    pub fn unfinished(&self, part: &PartitionRef) -> u64 {
        let first = part.log().map_or(Offset::ZERO, |log| log.first_offset());
        let committed = self.group.committed(part.id).unwrap_or_default();
        part.next_offset().since(committed.max(first))
    }

    /// Writes what a replay must know.
    pub fn snapshot(&self, out: &mut EntryWriter) {
        self.group.snapshot(out);
    }
}

impl GroupActor {
    /// Hands on what core decided.
    pub(super) fn take_events(&mut self) {
        let Kind::Partitioned(own) = &mut self.kind else {
            return;
        };
        for event in own.group.drain_events() {
            match event {
                Event::Positioned { partition, offset } => {
                    self.entries.push(&Entry::Position { partition, offset });
                }
                Event::Generation(generation) => {
                    self.entries.push(&Entry::Generation(generation));
                    self.rebalanced = Some(generation);
                }
                Event::Assigned {
                    member,
                    generation,
                    offsets,
                } => {
                    if let Some(member) = self.members.get(member) {
                        member.tell(&mut self.outgoing, Whats::Assigned(generation, offsets));
                    }
                }
                Event::Revoked {
                    member,
                    generation,
                    partitions,
                    grace_ms,
                } => {
                    if let Some(member) = self.members.get(member) {
                        let what = Whats::Revoked(generation, partitions, grace_ms);
                        member.tell(&mut self.outgoing, what);
                    }
                }
                Event::Replaced { member } => {
                    if let Some(member) = self.members.remove(member) {
                        member.tell(&mut self.outgoing, Whats::Replaced);
                    }
                }
            }
        }
        // One that was lost and did not come back in time has gone from core alone.
        self.forget_gone();
    }

    /// Takes a member's positions in.
    pub(super) fn commit(&mut self, commit: Commit) {
        let Commit {
            member,
            generation,
            offsets,
            urgency,
            mut receipt,
        } = commit;
        self.urgency = self.urgency.max(urgency);
        let Kind::Partitioned(own) = &mut self.kind else {
            return;
        };
        let committed = own.group.commit(clock::now(), member, generation, &offsets);
        let ids = receipt.take_ids().into_iter();
        let (replies, offsets) = match committed {
            Ok(()) => (
                ids.map(|id| GroupReply { id, outcome: Ok(()) }).collect(),
                offsets,
            ),
            Err(error) => {
                let refusal = group_refusal(&error);
                let replies = ids.map(|id| GroupReply::refused(id, refusal.clone()));
                (replies.collect(), BTreeMap::new())
            }
        };
        self.take_events();
        self.answers.push(Answer::Member(receipt, replies, offsets));
    }

    /// Takes partitions back from a member.
    pub(super) fn release(&mut self, release: Release) {
        let Release {
            member,
            partitions,
            mut receipt,
        } = release;
        let Kind::Partitioned(own) = &mut self.kind else {
            return;
        };
        let released = own.group.release(clock::now(), member, &partitions);
        let outcome = released.map_err(|error| (group_refusal(&error), Vec::new()));
        let ids = receipt.take_ids().into_iter();
        let replies = ids
            .map(|id| GroupReply {
                id,
                outcome: outcome.clone(),
            })
            .collect();
        self.take_events();
        self.answers
            .push(Answer::Member(receipt, replies, BTreeMap::new()));
    }
}
