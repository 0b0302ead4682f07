//! One file of the journal while it is being written.
//!
//! Files that were laid down are used again: their blocks are on the device already, so that a flush has
//! only data to write, which takes half as long. A new file is therefore filled with zeros ahead of the
//! writing. Entries carry the file's own random id, so that what a file held before can not be taken for
//! what it holds now.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use callboard_protocol::{PartitionId, Timestamp};

use super::{
    disk::{DiskFile, OpenMode, io_error, sync_directory, write_all_at},
    files::Files,
    format::{FILE_HEADER_BYTES, FileHeader, FileKind},
};
use crate::store::{PartitionKey, StoreError, TopicId};

/// A new file is filled ahead by so many bytes at a time.
const FILL_BYTES: usize = 1 << 20;
/// So many former files wait to be used again.
const SPARES_MAX: usize = 2;

static ZEROS: [u8; FILL_BYTES] = [0; FILL_BYTES];

/// After so many rounds of retention, about a minute, a spare file that nobody needed gives its space back.
const SPARE_ROUNDS_MAX: u32 = 12;

/// Former journal files that wait to be used again.
#[derive(Default)]
pub struct Spares(Mutex<Vec<Spare>>);

struct Spare {
    number: u64,
    /// Rounds of retention since it was put aside.
    rounds: u32,
}

impl Spares {
    /// The spare files that are there.
    pub fn new(numbers: Vec<u64>) -> Self {
        let spare = |number| Spare { number, rounds: 0 };
        Self(Mutex::new(numbers.into_iter().map(spare).collect()))
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<u64> {
        self.spares().pop().map(|spare| spare.number)
    }

    /// Puts a journal file that is laid down aside, or removes it if there are enough.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn retire(&self, files: &Files, number: u64) -> Result<(), StoreError> {
        let path = files.journal_path(number);
        let failed = |error: &io::Error| io_error("retire", &path, error);
        let mut spares = self.spares();
        let is_of_use = spares.len() < SPARES_MAX
            && fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= 2 * files.options.journal_bytes);
        let retired = if is_of_use {
            spares.push(Spare { number, rounds: 0 });
            fs::rename(&path, files.spare_path(number))
        } else {
            fs::remove_file(&path)
        };
        match retired {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    /// Removes all spare files.
    pub fn remove_all(&self, files: &Files) {
        for spare in self.spares().drain(..) {
            remove(files, &spare);
        }
    }

    /// Another round of retention: removes those that nobody needed for long.
    pub fn age(&self, files: &Files) {
        let mut spares = self.spares();
        for spare in spares.iter_mut() {
            spare.rounds += 1;
        }
        for spare in spares.extract_if(.., |spare| spare.rounds > SPARE_ROUNDS_MAX) {
            remove(files, &spare);
        }
    }
}

fn remove(files: &Files, spare: &Spare) {
    if let Err(error) = fs::remove_file(files.spare_path(spare.number)) {
        log::warn!("a spare journal file stays: {error}");
    }
}

/// The journal's file that is being written.
pub struct JournalFile {
    /// Its number.
    pub number: u64,
    /// The id that its entries carry.
    pub id: u64,
    /// Where the next entry goes.
    pub position: u64,
    /// Where the group that is being written began.
    pub group_start: u64,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Up to here the file has blocks.
    filled: u64,
    fill_max: u64,
}

impl JournalFile {
    /// Makes the file of a number and a first sequence number, durably, from a spare one if there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then nothing of it is left.
    pub fn create(files: &Files, spares: &Spares, place: (u64, u64)) -> Result<Self, StoreError> {
        let path = files.journal_path(place.0);
        let created = Self::create_at(files, spares, place);
        if created.is_err() {
            // Whatever is there has no header, so that it is skipped even if it can not be removed.
            let _ = fs::remove_file(&path);
        }
        created.map_err(|error| io_error("create", &path, &error))
    }

    fn create_at(files: &Files, spares: &Spares, (number, first_sequence): (u64, u64)) -> io::Result<Self> {
        let path = files.journal_path(number);
        let header = FileHeader {
            kind: FileKind::Journal,
            id: super::random_id(),
            number,
            first_sequence,
            key: PartitionKey {
                topic: TopicId(0),
                partition: PartitionId(0),
            },
            timestamp: Timestamp(0),
        };
        let spare = spares.take().map(|spare| files.spare_path(spare));
        let opened = spare
            .as_ref()
            .and_then(|spare| files.disk.open(spare, OpenMode::Write).ok());
        let is_spare = opened.is_some();
        let file = match opened {
            Some(file) => file,
            None => files.disk.open(&path, OpenMode::Create)?,
        };
        write_all_at(file.as_ref(), &header.encode(), 0)?;
        file.sync_data()?;
        if is_spare && let Some(spare) = spare {
            fs::rename(spare, &path)?;
        }
        sync_directory(&files.journal_directory())?;
        Ok(Self {
            number,
            id: header.id,
            position: FILE_HEADER_BYTES as u64,
            group_start: FILE_HEADER_BYTES as u64,
            filled: file.length()?,
            file,
            path,
            fill_max: files.options.journal_bytes,
        })
    }

    /// Writes entries after the last ones.
    ///
    /// # Errors
    /// [`StoreError::Io`]; some of the bytes may have been written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.position + bytes.len() as u64;
        if end > self.filled && end < self.fill_max {
            self.fill(end);
        }
        write_all_at(self.file.as_ref(), bytes, self.position)
            .map_err(|error| io_error("write", &self.path, &error))?;
        self.position = end;
        self.filled = self.filled.max(end);
        Ok(())
    }

    fn fill(&mut self, end: u64) {
        let target = (end + FILL_BYTES as u64).min(self.fill_max);
        let mut filled = self.filled.max(end);
        while filled < target {
            let length = (target - filled).min(FILL_BYTES as u64) as usize;
            // Filling ahead is only for speed: without space for it there may be space for entries.
            if write_all_at(self.file.as_ref(), &ZEROS[..length], filled).is_err() {
                return;
            }
            filled += length as u64;
        }
        self.filled = filled;
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then nobody knows what is on the device.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.file
            .sync_data()
            .map_err(|error| io_error("flush", &self.path, &error))
    }

    /// Removes the group that is being written, so that the next one takes its place.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut_group(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(self.group_start)
            .map_err(|error| io_error("cut", &self.path, &error))?;
        self.position = self.group_start;
        self.filled = self.group_start;
        Ok(())
    }
}
