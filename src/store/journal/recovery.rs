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
    format::{EntryKind, FORMAT_VERSION, FileHeaderError},
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
    /// The number of the next file.
    pub next_number: u64,
    /// The next sequence number.
    pub next_sequence: u64,
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
    /// The entry that is the last one so far, with its file.
    held: Option<(Found, Bytes)>,
}

impl Replay {
    /// Takes the next file.
    ///
    /// # Errors
    /// [`FileHeaderError`] when the file's header is lost; what can be told of it is taken anyway.
    pub fn feed(&mut self, bytes: &Bytes) -> Result<(), FileHeaderError> {
        let scan = scan(bytes);
        for found in scan.entries {
            if let Some((former, bytes)) = self.held.replace((found, bytes.clone())) {
                self.recovered.apply(&former, &bytes);
            }
        }
        scan.header.map(drop)
    }

    /// What all files together say.
    ///
    /// Only the very last entry can be torn: then what it has of whole records is kept, and the rest was
    /// never acknowledged. A hurt entry before a whole one is not torn.
    pub fn finish(mut self) -> Recovered {
        if let Some((mut last, bytes)) = self.held {
            if last.ending == Ending::Missing && !last.is_whole() {
                last.pieces.retain(|piece| piece.index == 0);
                last.header.count = last.pieces.first().map_or(0, |piece| piece.count);
            }
            self.recovered.apply(&last, &bytes);
        }
        self.recovered.next_sequence = self.recovered.next_sequence.max(1);
        self.recovered
    }
}

impl Recovered {
    /// Takes the next entry in the order of sequence numbers.
    fn apply(&mut self, found: &Found, bytes: &Bytes) {
        let header = &found.header;
        self.next_sequence = self.next_sequence.max(header.sequence.saturating_add(1));
        let batches = self.partitions.entry(header.key).or_default();
        // What a later entry says again, or cuts, was refused the first time.
        cut(batches, header.base_offset);
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
