//! The entries of a group's log: what happened in a group, in the order in which it did.
//!
//! Both kinds of groups write them as they decide and are known again by replaying them. This module
//! owns the encoding (`docs/storage.md` is its document) and knows nothing of what the entries do to a
//! group. It never reads or writes a file: a record of the log is one buffer of entries, and whoever
//! owns the group hands it to the store.

use callboard_protocol::{Offset, PartitionId, Timestamp, id::SAFE_INTEGER_MAX};

use crate::{
    member::Generation,
    varint::{self, VarintError},
};

/// The first byte of every record of a group log.
const FORMAT_VERSION: u8 = 1;

const SNAPSHOT: u8 = 0;
const GENERATION: u8 = 1;
const POSITION: u8 = 2;
const TAKEN: u8 = 3;
const FINISHED: u8 = 4;
const RETURNED: u8 = 5;
const DOOMED: u8 = 6;
const COUNTERS: u8 = 7;
const REDRIVEN: u8 = 8;
const LETTERS: u8 = 9;

/// Most bytes of a `Taken` or `Finished`: its kind, a partition and an attempt of 5 bytes each, and
/// two numbers of 10.
const RUN_BYTES_MAX: usize = 31;
/// How many runs of a kind grow at the same time: as many members can settle their own in turn.
const RUNS_MAX: usize = 8;

/// One thing that happened in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Everything before is forgotten: what follows in this record is all there is.
    Snapshot,
    /// The group's assignments have this generation.
    Generation(Generation),
    /// Where the group stands in a partition. Partitioned: committed. Shared: it begins here or was
    /// sought to here, and all that was known of the partition is forgotten.
    Position { partition: PartitionId, offset: Offset },
    /// These records were handed out, and this is their attempt now.
    Taken {
        partition: PartitionId,
        from: Offset,
        count: u64,
        attempt: u32,
    },
    /// These records are acked, dead-lettered or passed over.
    Finished {
        partition: PartitionId,
        from: Offset,
        count: u64,
    },
    /// This record comes again, not before `due`; with 0 at once.
    Returned {
        partition: PartitionId,
        offset: Offset,
        due: Timestamp,
    },
    /// This record is on its way to the dead letters.
    Doomed {
        partition: PartitionId,
        offset: Offset,
        failed_at: Timestamp,
        reason: &'a str,
    },
    /// How many records so far, absolute; stands in snapshots.
    Counters {
        acked: u64,
        dead_lettered: u64,
        redriven: u64,
    },
    /// `count` dead letters before `next` were moved back.
    Redriven {
        /// Of the dead-letter topic.
        partition: PartitionId,
        next: Offset,
        count: u64,
    },
    /// The number of the dead-letter topic whose partitions the `Redriven` that follow mean; where the redrive
    /// was in another one is forgotten.
    Letters(u64),
}

/// A record of a group log that does not hold entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by another version of the format; nothing of it is read.
    #[error("the group log has format version {0}, and this is version {FORMAT_VERSION}")]
    Version(u8),
    /// The bytes end within an entry, or before the version.
    #[error("an entry of the group log is cut short")]
    Truncated,
    /// A kind that version 1 does not have.
    #[error("the group log has an entry of the unknown kind {0}")]
    Kind(u8),
    /// A number is larger than its field holds, or a text is not UTF-8.
    #[error("an entry of the group log holds what it can not hold")]
    Invalid,
}

/// Consecutive records of one partition that may still grow.
#[derive(Clone, Copy, Debug)]
struct Run {
    partition: PartitionId,
    /// 0 in runs of `Finished`.
    attempt: u32,
    from: Offset,
    next: Offset,
}

/// The runs of one kind that may still grow, and which of them grew last: mostly the next one, too.
#[derive(Clone, Debug, Default)]
struct Runs {
    open: Vec<Run>,
    latest: usize,
}

impl Run {
    #[inline]
    fn is_continued_by(&self, next: &Self) -> bool {
        self.next == next.from && self.partition == next.partition && self.attempt == next.attempt
    }
}

impl Runs {
    /// Adds to the run that grew last; `false` if it does not go on here.
    #[inline]
    fn grow_latest(&mut self, new: &Run) -> bool {
        match self.open.get_mut(self.latest) {
            Some(run) if run.is_continued_by(new) => {
                run.next = new.next;
                true
            }
            _ => false,
        }
    }

    /// Adds to a run that goes on here, or begins one; `false` if there are too many already.
    fn grow(&mut self, new: &Run) -> bool {
        if let Some(index) = self.open.iter().position(|run| run.is_continued_by(new)) {
            self.latest = index;
            self.open[index].next = new.next;
            return true;
        }
        if self.open.len() == RUNS_MAX {
            return false;
        }
        self.latest = self.open.len();
        self.open.push(*new);
        true
    }
}

/// Collects entries as one record of a group log.
///
/// `Taken` and `Finished` are held back for a while, so that those of consecutive records become one
/// entry also when several members take turns. They never pass an entry of another kind, and a
/// `Finished` never passes a `Taken`. So a record is taken a second time only after an entry of
/// another kind, which says why.
#[derive(Clone, Debug, Default)]
pub struct EntryWriter {
    bytes: Vec<u8>,
    taken: Runs,
    finished: Runs,
}

impl EntryWriter {
    /// An empty writer, which has allocated nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was pushed since the last [`Self::finish`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.taken.open.is_empty() && self.finished.open.is_empty()
    }

    /// Most bytes that [`Self::finish`] would return now.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let runs = self.taken.open.len() + self.finished.open.len();
        self.bytes.len().max(1) + runs * RUN_BYTES_MAX
    }

    /// Adds what happened next. Runs of no records are left out.
    #[inline]
    pub fn push(&mut self, entry: &Entry<'_>) {
        match *entry {
            Entry::Taken {
                partition,
                from,
                count,
                attempt,
            } => self.push_run(&Run {
                partition,
                attempt,
                from,
                next: from.plus(count),
            }),
            Entry::Finished {
                partition,
                from,
                count,
            } => self.push_run(&Run {
                partition,
                attempt: 0,
                from,
                next: from.plus(count),
            }),
            _ => self.push_other(entry),
        }
    }

    /// Adds an entry that is no run.
    #[inline(never)]
    fn push_other(&mut self, entry: &Entry<'_>) {
        self.close_runs();
        self.begin();
        encode(entry, &mut self.bytes);
    }

    /// What was pushed, as one record; the writer is empty again. Without entries there are no bytes.
    pub fn finish(&mut self) -> Vec<u8> {
        self.close_runs();
        std::mem::take(&mut self.bytes)
    }

    #[inline]
    fn push_run(&mut self, run: &Run) {
        if !self.runs_like(run).grow_latest(run) {
            self.push_other_run(run);
        }
    }

    /// Adds what does not go on where the latest run ends.
    #[inline(never)]
    fn push_other_run(&mut self, run: &Run) {
        if run.next == run.from || self.runs_like(run).grow(run) {
            return;
        }
        self.close_runs();
        let has_room = self.runs_like(run).grow(run);
        debug_assert!(has_room, "all runs were just closed");
    }

    /// The runs of the same kind.
    #[inline]
    fn runs_like(&mut self, run: &Run) -> &mut Runs {
        // The attempts of what is handed out are counted from 1, so 0 can say that it is finished.
        if run.attempt == 0 {
            &mut self.finished
        } else {
            &mut self.taken
        }
    }

    /// Writes the runs that were held back: first what was taken, because it may be finished already.
    fn close_runs(&mut self) {
        if self.taken.open.is_empty() && self.finished.open.is_empty() {
            return;
        }
        self.begin();
        for run in self.taken.open.drain(..) {
            let entry = Entry::Taken {
                partition: run.partition,
                from: run.from,
                count: run.next.since(run.from),
                attempt: run.attempt,
            };
            encode(&entry, &mut self.bytes);
        }
        for run in self.finished.open.drain(..) {
            let entry = Entry::Finished {
                partition: run.partition,
                from: run.from,
                count: run.next.since(run.from),
            };
            encode(&entry, &mut self.bytes);
        }
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.push(FORMAT_VERSION);
        }
    }
}

/// Appends one entry: its kind, then its fields in the order of their declaration.
fn encode(entry: &Entry<'_>, bytes: &mut Vec<u8>) {
    let mut all = |kind: u8, numbers: &[u64]| {
        bytes.push(kind);
        numbers.iter().for_each(|&number| varint::put(bytes, number));
    };
    match *entry {
        Entry::Snapshot => all(SNAPSHOT, &[]),
        Entry::Generation(generation) => all(GENERATION, &[generation.0]),
        Entry::Position { partition, offset } => all(POSITION, &[partition.0.into(), offset.0]),
        Entry::Taken {
            partition,
            from,
            count,
            attempt,
        } => all(TAKEN, &[partition.0.into(), from.0, count, attempt.into()]),
        Entry::Finished {
            partition,
            from,
            count,
        } => all(FINISHED, &[partition.0.into(), from.0, count]),
        Entry::Returned {
            partition,
            offset,
            due,
        } => all(RETURNED, &[partition.0.into(), offset.0, due.0]),
        Entry::Doomed {
            partition,
            offset,
            failed_at,
            reason,
        } => {
            let length = reason.len() as u64;
            all(DOOMED, &[partition.0.into(), offset.0, failed_at.0, length]);
            bytes.extend_from_slice(reason.as_bytes());
        }
        Entry::Counters {
            acked,
            dead_lettered,
            redriven,
        } => all(COUNTERS, &[acked, dead_lettered, redriven]),
        Entry::Redriven {
            partition,
            next,
            count,
        } => all(REDRIVEN, &[partition.0.into(), next.0, count]),
        Entry::Letters(topic) => all(LETTERS, &[topic]),
    }
}

/// The entries of one record of a group log, in their order. The iterator ends after an error.
///
/// # Errors
/// [`EntryError::Version`] for another format, and [`EntryError::Truncated`] for no bytes at all; each
/// entry can be what the other errors say.
pub fn entries(bytes: &[u8]) -> Result<Entries<'_>, EntryError> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => Ok(Entries { rest }),
        Some((&version, _)) => Err(EntryError::Version(version)),
        None => Err(EntryError::Truncated),
    }
}

/// Reads a record of a group log; see [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let entry = self.decode(kind);
        if entry.is_err() {
            // Where the next entry would begin is not known any more.
            self.rest = &[];
        }
        Some(entry)
    }
}

impl<'a> Entries<'a> {
    fn decode(&mut self, kind: u8) -> Result<Entry<'a>, EntryError> {
        Ok(match kind {
            SNAPSHOT => Entry::Snapshot,
            GENERATION => Entry::Generation(Generation(self.varint()?)),
            POSITION => Entry::Position {
                partition: self.partition()?,
                offset: self.offset()?,
            },
            TAKEN => {
                let (partition, (from, count)) = (self.partition()?, self.run()?);
                let attempt = self.small()?;
                if attempt == 0 {
                    return Err(EntryError::Invalid);
                }
                Entry::Taken {
                    partition,
                    from,
                    count,
                    attempt,
                }
            }
            FINISHED => {
                let (partition, (from, count)) = (self.partition()?, self.run()?);
                Entry::Finished {
                    partition,
                    from,
                    count,
                }
            }
            RETURNED => Entry::Returned {
                partition: self.partition()?,
                offset: self.offset()?,
                due: Timestamp(self.varint()?),
            },
            DOOMED => Entry::Doomed {
                partition: self.partition()?,
                offset: self.offset()?,
                failed_at: Timestamp(self.varint()?),
                reason: self.text()?,
            },
            COUNTERS => Entry::Counters {
                acked: self.varint()?,
                dead_lettered: self.varint()?,
                redriven: self.varint()?,
            },
            REDRIVEN => Entry::Redriven {
                partition: self.partition()?,
                next: self.offset()?,
                count: self.varint()?,
            },
            LETTERS => Entry::Letters(self.varint()?),
            unknown => return Err(EntryError::Kind(unknown)),
        })
    }

    fn varint(&mut self) -> Result<u64, EntryError> {
        varint::take(&mut self.rest).map_err(|error| match error {
            VarintError::Truncated => EntryError::Truncated,
            VarintError::TooLarge => EntryError::Invalid,
        })
    }

    fn small(&mut self) -> Result<u32, EntryError> {
        u32::try_from(self.varint()?).map_err(|_| EntryError::Invalid)
    }

    fn partition(&mut self) -> Result<PartitionId, EntryError> {
        self.small().map(PartitionId)
    }

    fn offset(&mut self) -> Result<Offset, EntryError> {
        let offset = self.varint()?;
        // The offset after the last one is an offset, too.
        if offset > SAFE_INTEGER_MAX + 1 {
            return Err(EntryError::Invalid);
        }
        Ok(Offset(offset))
    }

    /// A first offset, and how many follow it with itself: at least one, and no more than there can be.
    fn run(&mut self) -> Result<(Offset, u64), EntryError> {
        let (from, count) = (self.offset()?, self.varint()?);
        if count == 0 || count > (SAFE_INTEGER_MAX + 1).saturating_sub(from.0) {
            return Err(EntryError::Invalid);
        }
        Ok((from, count))
    }

    fn text(&mut self) -> Result<&'a str, EntryError> {
        let length = usize::try_from(self.varint()?).map_err(|_| EntryError::Invalid)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(EntryError::Truncated)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| EntryError::Invalid)
    }
}
