//! Where a subscription begins: each way to say it, turned into an offset for each partition.
//!
//! Decides from numbers that the caller looked up; reads no log. `latest`, `earliest` and `time` are
//! lookups in the log and need nothing from here.

use std::{cmp::Reverse, collections::BinaryHeap};

use callboard_protocol::{Epoch, Offset, PartitionId, Timestamp};

/// Where a subscriber wants to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// With what is published from now on.
    #[default]
    Latest,
    /// With the first record kept of each partition.
    Earliest,
    /// With the newest records of the whole topic, so many together.
    Last(u64),
    /// With the first record of each partition that is not older.
    Time(Timestamp),
    /// Where it was before.
    Offsets {
        /// The next offset for each partition that it had.
        offsets: Vec<(PartitionId, Offset)>,
        /// The epoch in which they mean something; without one they are taken as they are.
        epoch: Option<Epoch>,
    },
}

/// What one partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    /// Which partition.
    pub partition: PartitionId,
    /// The first offset kept.
    pub first: Offset,
    /// The offset after the last visible record.
    pub next: Offset,
}

/// Where a subscription begins in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which partition.
    pub partition: PartitionId,
    /// The offset that it gets first.
    pub offset: Offset,
    /// Whether nothing lies between what was asked and `offset`, and the epoch is the same.
    pub recovered: bool,
}

/// One partition's end, and its newest records as offset and timestamp, ascending.
pub type Tail = (PartitionId, Offset, Vec<(Offset, Timestamp)>);

/// Where a subscriber that comes back goes on in one partition.
///
/// At `asked` if that is still kept. Below the first record kept it begins there, beyond the end it goes on
/// at the end, and in another epoch it begins with the first record kept: these three are not recovered.
/// A partition that it did not name begins with its first record kept, because it is new to the subscriber.
#[must_use]
pub fn resume(range: PartitionRange, asked: Option<Offset>, same_epoch: bool) -> Start {
    let (offset, recovered) = match asked {
        _ if !same_epoch => (range.first, false),
        None => (range.first, true),
        Some(asked) => {
            // Not `clamp`, which panics should the caller's two numbers be read a moment apart and cross.
            let offset = asked.min(range.next).max(range.first);
            (offset, offset == asked)
        }
    };
    Start {
        partition: range.partition,
        offset,
        recovered,
    }
}

/// Where to begin in each partition so that the newest `count` records of the whole topic come.
///
/// `tails` has for each partition all of its records, or at least the newest `count`. Of records with one timestamp, those nearer to their partition's
/// end are newer, and then those of the lower partition. A partition that has none of the newest begins
/// at its end.
#[must_use]
pub fn last_n(count: u64, tails: &[Tail]) -> Vec<(PartitionId, Offset)> {
    let mut starts: Vec<_> = tails
        .iter()
        .map(|(partition, next, _)| (*partition, *next))
        .collect();
    // The newest record of each partition that is not taken yet; the greatest is taken next.
    let candidate = |index: usize, taken: usize| {
        let (partition, _, tail) = &tails[index];
        let (_, timestamp) = tail.iter().rev().nth(taken)?;
        Some((*timestamp, Reverse(taken), Reverse(*partition), index))
    };
    let mut newest: BinaryHeap<_> = (0..tails.len()).filter_map(|index| candidate(index, 0)).collect();
    for _ in 0..count {
        let Some((_, Reverse(taken), _, index)) = newest.pop() else {
            break;
        };
        let tail = &tails[index].2;
        starts[index].1 = tail[tail.len() - 1 - taken].0;
        newest.extend(candidate(index, taken + 1));
    }
    starts
}
