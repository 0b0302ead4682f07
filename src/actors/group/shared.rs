//! A shared group: each record is leased to one member at a time.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use callboard_core::{
    group::GroupError,
    group_log::Entry,
    lease::{Cause, Dead, LeaseSettings, Ordering, SettleError, SharedGroup},
    topic::TopicConfig,
};
use callboard_protocol::{ErrorCode, Offset, PartitionId, Timestamp, error::Refusal, server::MessagePrefix};

use super::{
    GroupActor, Kind,
    dead::Burials,
    describe::Counts,
    dispatch::Reading,
    handle::GroupRef,
    history::Answer,
    mailbox::{Join, Settle, SettleAction},
    receipt::GroupReply,
};
use crate::actors::{clock, directory::PartitionRef, partition::ProcessedOutcome};

/// The low bits of a delivery's number on the wire are the member's own; the rest says which membership
/// of its session it is.
pub const DELIVERY_BITS: u32 = 40;

/// Longest reason of a `nack`; what is more is cut off.
const REASON_BYTES_MAX: usize = 4096;

/// What a shared group owns.
pub struct SharedWork {
    /// Who has leased what.
    pub group: SharedGroup,
    /// What was read of each partition and not handed out yet.
    pub reading: Vec<Reading>,
    /// The begin of each partition's messages.
    pub prefixes: Vec<MessagePrefix>,
    /// Dead letters on their way.
    pub burials: Burials,
    /// Outcomes for publishers who wait, of this turn.
    processed: Vec<(PartitionId, Offset, ProcessedOutcome)>,
    /// Whether dead letters are being moved back.
    pub is_redriving: bool,
}

impl SharedWork {
    /// A group without members.
    pub fn new(config: &TopicConfig, ordering: Ordering) -> Self {
        Self {
            group: SharedGroup::new(lease_settings(config), ordering),
            reading: Vec::new(),
            prefixes: Vec::new(),
            burials: Burials::default(),
            processed: Vec::new(),
            is_redriving: false,
        }
    }

    /// Takes in what happened before.
    pub fn apply(&mut self, entry: &Entry<'_>) {
        self.group.apply(entry);
    }

    /// Everything that happened before was applied.
    pub fn restored(&mut self, now: Timestamp) {
        self.group.restored(now);
        for (partition, offset, attempts, failed_at, reason) in self.group.doomed() {
            self.burials.add(partition, offset, attempts, failed_at, reason);
        }
    }

    /// Takes over which partitions there are and how the topic is configured.
    pub fn take_partitions(&mut self, group: &GroupRef, parts: &[Arc<PartitionRef>], config: &TopicConfig) {
        self.group.set_settings(lease_settings(config));
        self.reading.resize_with(parts.len(), Reading::default);
        for part in &parts[self.prefixes.len()..] {
            self.prefixes
                .push(MessagePrefix::for_group(&group.topic, &group.name, part.id));
        }
        for part in parts {
            let is_waiting = self.reading[part.id.0 as usize].is_waiting();
            self.group.set_paused(part.id, is_waiting);
            // One that came after the group is read from its first record.
            if self.has_begun() && self.group.floor(part.id).is_none() {
                let first = part.log().map_or(Offset::ZERO, |log| log.first_offset());
                self.group.open_partition(part.id, first);
            }
        }
    }

    /// Lets a member in.
    ///
    /// # Errors
    /// When it or another one wants to be alone.
    pub fn join(&mut self, join: &Join, lease_ms: u64) -> Result<(), GroupError> {
        self.group
            .join(join.key.member, join.credit, lease_ms, join.exclusive)?;
        for (partition, start) in &join.starts {
            self.group.open_partition(*partition, *start);
        }
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.group.partitions().next().is_some()
    }

    /// How many of the records up to `end` are not finished.
    pub fn unfinished(&self, partition: PartitionId, end: Offset) -> u64 {
        match self.group.floor(partition) {
            Some(_) => self.group.unfinished(partition),
            None => end.0,
        }
    }

    /// What became of its records.
    pub fn counts(&self) -> Counts {
        let counted = self.group.counters();
        Counts {
            acked: counted.acked,
            dead_lettered: counted.dead_lettered,
            redriven: counted.redriven,
        }
    }

    /// Says that a record must go to the dead letters, and why.
    fn doom(&mut self, dead: &Dead, reason: &str) {
        let now = clock::now();
        self.group.doom(dead, now, reason);
        self.burials
            .add(dead.partition, dead.offset, dead.attempts, now, reason);
        let outcome = ProcessedOutcome::DeadLettered(reason.to_owned());
        self.processed.push((dead.partition, dead.offset, outcome));
    }

    /// Dooms what has had its attempts.
    pub fn doom_dead(&mut self) {
        for dead in self.group.drain_dead() {
            self.doom(&dead, reason_of(dead.cause));
        }
    }

    /// Settles one delivery.
    fn settle_one(
        &mut self,
        now: Timestamp,
        (member, delivery): (callboard_core::group::MemberId, u64),
        action: &SettleAction,
        parts: &[Arc<PartitionRef>],
    ) -> Result<(), ErrorCode> {
        let settled = match action {
            SettleAction::Ack(result) => self.group.ack(now, member, delivery).map(|(partition, offset)| {
                let part = parts.get(partition.0 as usize);
                if part.is_some_and(|part| part.waits.processed() > 0) {
                    let outcome = ProcessedOutcome::Acked(result.clone());
                    self.processed.push((partition, offset, outcome));
                }
            }),
            SettleAction::Nack(nack, reason) => self.group.nack(now, member, delivery, *nack).map(|dead| {
                if let Some(dead) = dead {
                    self.doom(&dead, reason.as_deref().unwrap_or(reason_of(dead.cause)));
                }
            }),
            SettleAction::Extend(lease_ms) => self.group.extend(now, member, delivery, *lease_ms),
        };
        settled.map_err(|error| match error {
            SettleError::UnknownDelivery => ErrorCode::UnknownDelivery,
            SettleError::LeaseExpired => ErrorCode::LeaseExpired,
        })
    }

    /// What publishers who wait must be told when this turn is committed.
    pub fn take_processed(&mut self, parts: &[Arc<PartitionRef>]) -> Vec<Answer> {
        let mut by_part: BTreeMap<PartitionId, Vec<(Offset, ProcessedOutcome)>> = BTreeMap::new();
        for (partition, offset, outcome) in self.processed.drain(..) {
            by_part.entry(partition).or_default().push((offset, outcome));
        }
        let answers = by_part.into_iter().filter_map(|(partition, outcomes)| {
            let part = parts.get(partition.0 as usize)?;
            (part.waits.processed() > 0).then(|| Answer::Publisher(part.clone(), outcomes))
        });
        answers.collect()
    }
}

fn lease_settings(config: &TopicConfig) -> LeaseSettings {
    LeaseSettings {
        attempts_max: config.attempts_max,
        retry_backoff_ms: config.retry_backoff_ms,
        retry_backoff_ms_max: config.retry_backoff_ms_max,
    }
}

fn reason_of(cause: Cause) -> &'static str {
    match cause {
        Cause::Nacked => "refused without a reason",
        Cause::Expired => "the lease ran out",
        Cause::Gone => "the consumer went away",
    }
}

impl GroupActor {
    /// Settles what a member asks, in order.
    pub(super) fn settle(&mut self, settle: Settle) {
        let Settle {
            member,
            deliveries,
            requests,
            receipt,
        } = settle;
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        let now = clock::now();
        // Of the one who asks, because the group may not know it any more.
        let index = u64::from(receipt.index());
        let mut replies = Vec::new();
        let mut deliveries = deliveries.into_iter();
        for request in requests {
            let mut failed: Vec<(u64, ErrorCode)> = request
                .unknown
                .iter()
                .map(|delivery| (*delivery, ErrorCode::UnknownDelivery))
                .collect();
            for delivery in deliveries.by_ref().take(request.count) {
                if let Err(code) = work.settle_one(now, (member, delivery), &request.action, &self.parts) {
                    failed.push((index << DELIVERY_BITS | delivery, code));
                }
            }
            let outcome = match failed.first() {
                None if request.id.is_none() => continue,
                None => Ok(()),
                Some((delivery, code)) => Err((settle_refusal(*code, *delivery), failed)),
            };
            let id = request.id;
            replies.push(GroupReply { id, outcome });
        }
        self.answers
            .push(Answer::Member(receipt, replies, BTreeMap::new()));
    }
}

/// What a member is told of a delivery that it can not settle.
pub fn settle_refusal(code: ErrorCode, delivery: u64) -> Refusal {
    let message = match code {
        ErrorCode::LeaseExpired => format!("the lease of delivery {delivery} has ended"),
        _ => format!("this session has no delivery {delivery}"),
    };
    Refusal::new(code, message)
}

/// As much of a reason as is kept: it lies in memory and in the group's log until its dead letter is stored,
/// and must leave that letter small enough to be.
pub fn cut_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// The result of an ack, kept as it came.
pub fn result_bytes(result: &str) -> Bytes {
    Bytes::copy_from_slice(result.as_bytes())
}
