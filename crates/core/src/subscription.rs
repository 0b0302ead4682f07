//! Where one plain subscriber stands in one partition: pushed each batch as it is committed, or
//! behind and reading on from the log at its own pace.
//!
//! A hub holds thousands of these, so each is a few words. It decides what a subscriber gets, and owns
//! neither records nor sockets. The promise: every record exactly once and in order, whatever is
//! missed, unless the subscriber asked to skip or conflate.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

use callboard_protocol::Offset;

use crate::record::{Batch, RecordParts};

/// What a subscriber wants when it can not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Every record, later.
    #[default]
    Read,
    /// To go on with the newest records and be told how many were left out.
    Skip,
    /// The newest record of each key.
    Conflate,
}

/// What to do with a batch that was just committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Give it the whole batch; the subscription counts it as given.
    Push,
    /// Not now: it has to read on from the log, from [`Subscription::next`].
    Behind,
    /// It has all of it already.
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Has everything that was committed, and takes the next batch as it comes.
    Live,
    /// Reads on from the log; a batch pushed meanwhile would overtake what it reads.
    Reading,
}

/// One plain subscription on one partition.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The offset that it gets next.
    next: Offset,
    /// The end of what was offered. A page that was read before the latest offer ends before this,
    /// and taking it for the end would leave that offer unread until another came.
    offered: Offset,
    /// Records it may still be given; `None` is without limit.
    credit: Option<u64>,
    overflow: Overflow,
    pace: Pace,
}

impl Subscription {
    /// A subscription that gets `next` first, and at most `credit` records unless more is added.
    ///
    /// It begins by reading and is live after the first [`Self::advance`] that reaches the end: at once
    /// with `advance(next, 0, end)` if `next` is the partition's end.
    #[must_use]
    pub fn new(next: Offset, overflow: Overflow, credit: Option<u64>) -> Self {
        Self {
            next,
            offered: next,
            credit,
            overflow,
            pace: Pace::Reading,
        }
    }

    /// Decides about a committed batch of `count` records with the offsets `base..next`.
    ///
    /// `has_room` says whether the subscriber's outbox takes it. On [`Offer::Push`] the position has
    /// moved on and the credit is spent.
    pub fn offer(&mut self, base: Offset, next: Offset, count: u64, has_room: bool) -> Offer {
        self.offered = self.offered.max(next);
        if next <= self.next {
            return Offer::Ignore;
        }
        let has_credit = self.credit.is_none_or(|credit| credit >= count);
        if self.is_live() && self.next == base && has_room && has_credit {
            self.next = next;
            self.spend(count);
            Offer::Push
        } else {
            self.pace = Pace::Reading;
            Offer::Behind
        }
    }

    /// Whether it has everything that was offered and takes the next batch as it comes.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.pace == Pace::Live
    }

    /// The offset that it gets next.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// What it wants when it can not keep up.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Records that it may still be given; `None` is without limit.
    #[must_use]
    pub fn credit_left(&self) -> Option<u64> {
        self.credit
    }

    /// Most records that the next read may give it: `None` is without limit, and with 0 it waits for
    /// credit.
    #[must_use]
    pub fn read_limit(&self) -> Option<u64> {
        self.credit
    }

    /// The log reaches to `end`, and what lies before it was not offered: reads on if that is new to it.
    pub fn notice_end(&mut self, end: Offset) {
        self.offered = self.offered.max(end);
        if self.next < end && self.is_live() {
            self.pace = Pace::Reading;
        }
    }

    /// Takes over the credit that is left, where several partitions share one.
    pub fn set_credit(&mut self, credit: Option<u64>) {
        self.credit = credit;
    }

    /// A page with `delivered` records was sent that ends before `next`; `end` is the log's end as the
    /// page saw it. Live again when nothing is left between.
    pub fn advance(&mut self, next: Offset, delivered: u64, end: Offset) {
        self.next = self.next.max(next);
        self.spend(delivered);
        self.pace = self.pace_at(end);
    }

    /// Leaves out what lies before `end`, the log's end just now, and returns how many offsets that is.
    ///
    /// Not while a page is on its way, whose records would be sent after they were counted as left out.
    pub fn skip_to(&mut self, end: Offset) -> u64 {
        let left_out = end.since(self.next);
        self.next = self.next.max(end);
        self.pace = self.pace_at(end);
        left_out
    }

    /// Allows `add` records more; changes nothing if there is no limit.
    pub fn add_credit(&mut self, add: u64) {
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_add(add);
        }
    }

    fn pace_at(&self, end: Offset) -> Pace {
        if self.next >= end.max(self.offered) {
            Pace::Live
        } else {
            Pace::Reading
        }
    }

    fn spend(&mut self, count: u64) {
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_sub(count);
        }
    }
}

/// The newest record of each key among consecutive `batches`, in the order of offsets: the batch's
/// index, the record's offset, and where its encoding lies in the batch's buffer.
///
/// Records without a key count as one key, which differs from the empty key.
#[must_use]
pub fn conflate(batches: &[Batch]) -> Vec<(usize, Offset, Range<usize>)> {
    let mut newest_by_key: HashMap<Option<&str>, usize> = HashMap::new();
    let mut kept: Vec<Option<(usize, Offset, Range<usize>)>> = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let mut start = 0;
        let mut offset = batch.base_offset;
        while let Ok((parts, size)) = RecordParts::decode(&batch.records[start..]) {
            match newest_by_key.entry(parts.key) {
                Entry::Occupied(mut older) => {
                    kept[*older.get()] = None;
                    older.insert(kept.len());
                }
                Entry::Vacant(first) => {
                    first.insert(kept.len());
                }
            }
            kept.push(Some((index, offset, start..start + size)));
            start += size;
            offset = offset.plus(1);
        }
    }
    kept.into_iter().flatten().collect()
}
