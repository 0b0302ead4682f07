//! What the journal's files say after a restart: for each partition, the batches that may not be in
//! segments yet.
//!
//! Reads and decides; changes nothing, so that it can be interrupted at any moment and done again.

use std::{collections::HashMap, path::PathBuf};

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::Offset;

use super::{
    disk::{OpenMode, io_error, numbered_files, read_up_to},
    files::Files,
    format::{EntryKind, FORMAT_VERSION, FileHeaderError, Part},
    reader::{Ending, Found, scan},
    segment::batches_of,
};
use crate::store::{PartitionKey, StoreError, tail::push_hurt};

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The files that were read, oldest first.
    pub numbers: Vec<u64>,
    /// Consecutive batches of each partition; hurt offsets are stood for.
    pub partitions: HashMap<PartitionKey, Vec<Batch>>,
    /// What was torn and does not count. The next file has to say so, because what comes after it would make
    /// it look hurt.
    pub cuts: Vec<(PartitionKey, Offset)>,
    /// The number of the next file.
    pub next_number: u64,
    /// The next sequence number.
    pub next_sequence: u64,
    sets: Sets,
}

/// The sets whose entries count so far: if one of them was refused, all were.
#[derive(Debug, Default)]
struct Sets {
    /// For each partition its entries that are parts of sets, in the order of their offsets: where they begin, and of
    /// which set.
    parts: HashMap<PartitionKey, Vec<(Offset, usize)>>,
    /// The parts of each set.
    sets: Vec<Vec<(PartitionKey, Offset)>>,
}

impl Sets {
    fn add(&mut self, set: &[(Found, Bytes)]) {
        let number = self.sets.len();
        let parts = set
            .iter()
            .map(|(found, _)| (found.header.key, found.header.base_offset));
        let parts: Vec<_> = parts.collect();
        for (key, base) in &parts {
            self.parts.entry(*key).or_default().push((*base, number));
        }
        self.sets.push(parts);
    }

    /// Forgets the parts of a partition from `from` on; returns the other parts of their sets.
    fn cut(&mut self, key: PartitionKey, from: Offset) -> Vec<(PartitionKey, Offset)> {
        let Some(parts) = self.parts.get_mut(&key) else {
            return Vec::new();
        };
        let kept = parts.partition_point(|(base, _)| *base < from);
        let gone: Vec<_> = parts.drain(kept..).collect();
        let mut others = Vec::new();
        for (_, set) in gone {
            let is_left = |(other, base): &(PartitionKey, Offset)| {
                let parts = self.parts.get(other);
                parts.is_some_and(|parts| parts.contains(&(*base, set)))
            };
            others.extend(std::mem::take(&mut self.sets[set]).into_iter().filter(is_left));
        }
        others
    }
}

/// Reads the journal's files.
///
/// # Errors
/// [`StoreError::Io`], [`StoreError::Version`].
pub fn recover(files: &Files) -> Result<Recovered, StoreError> {
    let directory = files.journal_directory();
    let numbers =
        numbered_files(&directory, "journal").map_err(|error| io_error("list", &directory, &error))?;
    let mut replay = Replay::default();
    for number in &numbers {
        let path = files.journal_path(*number);
        let read = |path: &PathBuf| {
            let file = files.disk.open(path, OpenMode::Read)?;
            read_up_to(file.as_ref(), 0, file.length()? as usize)
        };
        let bytes = Bytes::from(read(&path).map_err(|error| io_error("read", &path, &error))?);
        if let Err(FileHeaderError::Version(found)) = replay.feed(&bytes) {
            return Err(StoreError::Version {
                path,
                found,
                expected: FORMAT_VERSION,
            });
        }
    }
    let mut recovered = replay.finish();
    recovered.next_number = numbers.last().map_or(1, |last| last + 1);
    recovered.numbers = numbers;
    Ok(recovered)
}

/// Puts together what the journal's files say, one after another.
#[derive(Debug, Default)]
pub struct Replay {
    recovered: Recovered,
    /// The entry that is the last one so far, or those of a set, each with its file.
    held: Vec<(Found, Bytes)>,
}

impl Replay {
    /// Takes the next file.
    ///
    /// # Errors
    /// [`FileHeaderError`] when the file's header is lost; what can be told of it is taken anyway.
    pub fn feed(&mut self, bytes: &Bytes) -> Result<(), FileHeaderError> {
        let scan = scan(bytes);
        for found in scan.entries {
            if !self.goes_on_with(&found) {
                self.apply_held();
            }
            self.held.push((found, bytes.clone()));
        }
        scan.header.map(drop)
    }

    /// Whether the entry is of the set that is held.
    fn goes_on_with(&self, found: &Found) -> bool {
        let Some((last, _)) = self.held.last() else {
            return false;
        };
        let (EntryKind::Part(last_part), EntryKind::Part(part)) = (last.header.kind, found.header.kind)
        else {
            return false;
        };
        let begin = |found: &Found, part: Part| found.header.sequence.checked_sub(u64::from(part.index));
        last.header.id == found.header.id
            && last_part.of == part.of
            && last_part.index < part.index
            && begin(last, last_part) == begin(found, part)
    }

    /// Takes what is held and is not the last: it was once written to its end.
    fn apply_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        for (found, bytes) in &held {
            self.recovered.apply(found, bytes);
        }
        if held.len() > 1 {
            self.recovered.sets.add(&held);
        }
    }

    /// What all files together say.
    ///
    /// Only the very last entry, or a set at the very end, can be torn. Of an entry the whole records that it has are kept
    /// then, of a set nothing; the rest was never acknowledged. What is hurt before a whole entry is not torn.
    pub fn finish(mut self) -> Recovered {
        if let Some((last, _)) = self.held.last_mut() {
            if matches!(last.header.kind, EntryKind::Part(_)) {
                self.drop_torn_set();
            } else if is_torn(last) {
                last.pieces.retain(|piece| piece.index == 0);
                last.header.count = last.pieces.first().map_or(0, |piece| piece.count);
                let cut = (last.header.key, last.header.next_offset());
                self.recovered.cuts.push(cut);
            }
        }
        self.apply_held();
        self.recovered.next_sequence = self.recovered.next_sequence.max(1);
        self.recovered
    }

    fn drop_torn_set(&mut self) {
        if is_complete(&self.held) {
            return;
        }
        for (found, _) in std::mem::take(&mut self.held) {
            self.recovered.note(&found);
            let cut = (found.header.key, found.header.base_offset);
            self.recovered.cuts.push(cut);
        }
    }
}

/// Whether the entry may not have been written to its end.
fn is_torn(found: &Found) -> bool {
    found.ending == Ending::Missing && !found.is_whole()
}

/// Whether every entry of the set is there and was written to its end.
fn is_complete(set: &[(Found, Bytes)]) -> bool {
    let is_there = |(found, _): &(Found, Bytes)| match found.header.kind {
        EntryKind::Part(part) => usize::from(part.of) == set.len() && !is_torn(found),
        _ => false,
    };
    set.iter().all(is_there)
}

impl Recovered {
    fn note(&mut self, found: &Found) {
        self.next_sequence = self.next_sequence.max(found.header.sequence.saturating_add(1));
    }

    /// Takes the next entry in the order of sequence numbers.
    fn apply(&mut self, found: &Found, bytes: &Bytes) {
        self.note(found);
        let header = &found.header;
        // What a later entry says again, or cuts, was refused the first time.
        self.cut(header.key, header.base_offset);
        let batches = self.partitions.entry(header.key).or_default();
        if header.kind == EntryKind::Cut || header.count == 0 {
            return;
        }
        let next = batches.last().map_or(header.base_offset, Batch::next_offset);
        push_hurt(batches, next, header.base_offset, header.timestamp);
        // Copied, because a slice would keep the whole file in memory for one batch.
        batches.extend(batches_of(found, bytes).into_iter().map(|batch| Batch {
            records: Bytes::copy_from_slice(&batch.records),
            ..batch
        }));
    }

    /// Removes what a partition has from `from` on, and the sets that had a part there: a set is refused as
    /// a whole, also where a crash left only one of the cuts that said so.
    fn cut(&mut self, key: PartitionKey, from: Offset) {
        let mut cuts = vec![(key, from)];
        while let Some((key, from)) = cuts.pop() {
            if let Some(batches) = self.partitions.get_mut(&key) {
                cut(batches, from);
            }
            cuts.extend(self.sets.cut(key, from));
        }
    }

    /// How many records were found hurt.
    pub fn hurt_records(&self) -> u64 {
        let batches = self.partitions.values().flatten();
        batches
            .filter(|batch| batch.records.is_empty())
            .map(|batch| u64::from(batch.count))
            .sum()
    }
}

/// Removes what lies at `from` or above it.
fn cut(batches: &mut Vec<Batch>, from: Offset) {
    while let Some(last) = batches.last() {
        if last.next_offset() <= from {
            return;
        }
        if last.base_offset < from {
            let kept = from.since(last.base_offset) as u32;
            let last = batches.pop().map(|batch| shortened(batch, kept));
            batches.extend(last);
            return;
        }
        batches.pop();
    }
}

/// The first `count` records of a batch.
fn shortened(batch: Batch, count: u32) -> Batch {
    let rest = batch.starting_at(batch.base_offset.plus(u64::from(count)));
    let bytes = batch.records.len() - rest.map_or(0, |rest| rest.records.len());
    Batch {
        count,
        records: batch.records.slice(..bytes),
        ..batch
    }
}
