//! One segment file: entries of one partition from a base offset on, read wherever one likes.
//!
//! Only the thread that lays down writes; any number of threads read, up to the length that was flushed.
//! A read that meets hurt bytes falls back to scanning the whole file, and remembers what it found.

mod read;
mod repair;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use callboard_protocol::{Offset, Timestamp};

pub use self::read::batches_of;
use super::{
    disk::{Disk, DiskFile, OpenMode, io_error, read_up_to, write_all_at},
    format::{
        EntryKind, FILE_HEADER_BYTES, FORMAT_VERSION, FORMAT_VERSION_MIN, FileHeader, FileHeaderError,
        FileKind,
    },
    index::{Index, Summary},
    reader::{Found, scan_entries, scan_file},
};
use crate::store::{PartitionKey, StoreError, expiry::Contents};

/// A segment of a partition.
pub struct Segment {
    key: PartitionKey,
    base_offset: Offset,
    path: PathBuf,
    /// Bytes that are laid down and flushed; nothing beyond is read.
    length: AtomicU64,
    is_sealed: AtomicBool,
    has_new_entries: AtomicBool,
    /// Its file has another one's name now.
    is_replaced: AtomicBool,
    /// Of a sealed segment.
    summary: OnceLock<Arc<Summary>>,
    state: Mutex<State>,
}

/// What is in memory of a segment; all of it can be read again.
#[derive(Default)]
struct State {
    open: Option<OpenSegment>,
    index: Option<Arc<Index>>,
    /// What is whole in a hurt segment of this length.
    hurt: Option<(u64, Arc<Vec<Found>>)>,
}

/// What it takes to say what retention asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummaryCost {
    /// It is known.
    Nothing,
    /// An index file is read.
    SmallFile,
    /// The segment is scanned.
    WholeSegment,
}

/// A segment's file with its id.
#[derive(Clone)]
pub struct OpenSegment {
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// The id that its entries carry.
    pub id: u64,
    /// No record in it is older.
    pub timestamp: Timestamp,
    /// The version of its format.
    pub version: u32,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The timestamp of its last record.
    pub last_timestamp: Timestamp,
}

impl Segment {
    /// A segment whose file is there, with `length` bytes of it to be read.
    pub fn existing(directory: &Path, key: PartitionKey, base_offset: Offset, length: u64) -> Self {
        Self {
            key,
            base_offset,
            path: directory.join(format!("{:020}.segment", base_offset.0)),
            length: AtomicU64::new(length),
            is_sealed: AtomicBool::new(false),
            has_new_entries: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
            summary: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// Writes the file of a new, empty segment, whose records will not be older than `timestamp`; it is durable once it and its directory are flushed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(
        disk: &dyn Disk,
        directory: &Path,
        key: PartitionKey,
        start: (Offset, Timestamp),
    ) -> Result<Self, StoreError> {
        let segment = Self::existing(directory, key, start.0, FILE_HEADER_BYTES as u64);
        let path = segment.path.clone();
        segment.create_file(disk, &path, start.1)?;
        Ok(segment)
    }

    /// The same for a segment that will take the place of this one; its file is at `path` until then.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create_successor(&self, disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let timestamp = self.open(disk)?.timestamp;
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let segment = Self::existing(directory, self.key, self.base_offset, FILE_HEADER_BYTES as u64);
        segment.create_file(disk, path, timestamp)?;
        let is_sealed = self.is_sealed.load(Ordering::Acquire);
        segment.is_sealed.store(is_sealed, Ordering::Release);
        Ok(segment)
    }

    fn create_file(&self, disk: &dyn Disk, path: &Path, timestamp: Timestamp) -> Result<(), StoreError> {
        let header = FileHeader {
            kind: FileKind::Segment,
            id: super::random_id(),
            number: self.base_offset.0,
            first_sequence: 0,
            key: self.key,
            timestamp,
        };
        let failed = |error: &io::Error| io_error("create", path, error);
        // An index left by a former segment of this name names another id, so it is never believed.
        let file = disk
            .open(path, OpenMode::Create)
            .map_err(|error| failed(&error))?;
        write_all_at(file.as_ref(), &header.encode(), 0).map_err(|error| failed(&error))?;
        let mut state = self.state();
        state.index = Some(Arc::new(Index::new(self.base_offset)));
        state.open = Some(OpenSegment {
            file: file.into(),
            id: header.id,
            timestamp,
            version: FORMAT_VERSION,
        });
        Ok(())
    }

    /// The first offset that can be in it.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Bytes that can be read.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Whether it holds no entry.
    pub fn is_empty(&self) -> bool {
        self.length() <= FILE_HEADER_BYTES as u64
    }

    /// Makes entries up to `length` readable.
    pub fn publish(&self, length: u64) {
        self.length.store(length, Ordering::Release);
    }

    /// Says that nothing will be added any more.
    pub fn seal(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    /// Says that entries will be added again.
    pub fn unseal(&self) {
        self.is_sealed.store(false, Ordering::Release);
    }

    /// Says whether another segment has this one's name, so that its file can not be opened any more.
    pub fn set_replaced(&self, is_replaced: bool) {
        self.is_replaced.store(is_replaced, Ordering::Release);
    }

    /// Whether the file was left by a crash before its header was there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn is_unborn(&self, disk: &dyn Disk) -> Result<bool, StoreError> {
        let file = disk
            .open(&self.path, OpenMode::Read)
            .map_err(|error| self.failed("open", &error))?;
        let head =
            read_up_to(file.as_ref(), 0, FILE_HEADER_BYTES).map_err(|error| self.failed("read", &error))?;
        if FileHeader::decode(&head, FileKind::Segment) != Err(FileHeaderError::Hurt) {
            return Ok(false);
        }
        Ok(scan_file(&self.bytes(file.as_ref(), 0)?, FileKind::Segment)
            .id
            .is_none())
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &str, error: &io::Error) -> StoreError {
        io_error(operation, &self.path, error)
    }

    /// Gives the file back to the system, and the memory of what can be read again.
    pub fn close(&self) {
        let mut state = self.state();
        state.open = None;
        state.hurt = None;
        // Entries will be added to a segment that is not sealed, and its index with them.
        if self.is_sealed.load(Ordering::Acquire) {
            state.index = None;
        }
    }

    /// The open file.
    ///
    /// # Errors
    /// [`StoreError::Io`], also when the file's header is lost, [`StoreError::Version`], and
    /// [`StoreError::Closed`] if it was replaced.
    pub fn open(&self, disk: &dyn Disk) -> Result<OpenSegment, StoreError> {
        if let Some(open) = &self.state().open {
            return Ok(open.clone());
        }
        if self.is_replaced.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let file = disk
            .open(&self.path, OpenMode::Write)
            .map_err(|error| self.failed("open", &error))?;
        let head =
            read_up_to(file.as_ref(), 0, FILE_HEADER_BYTES).map_err(|error| self.failed("read", &error))?;
        let (id, timestamp) = match FileHeader::decode(&head, FileKind::Segment) {
            Ok(header) => (header.id, header.timestamp),
            Err(FileHeaderError::Version(found)) => {
                return Err(StoreError::Version {
                    path: self.path.clone(),
                    found,
                    expected: FORMAT_VERSION,
                });
            }
            Err(FileHeaderError::Hurt) => {
                let bytes = self.bytes(file.as_ref(), 0)?;
                // Without any entry there is no id to go by, and nothing to read either.
                (
                    scan_file(&bytes, FileKind::Segment).id.unwrap_or_default(),
                    Timestamp(0),
                )
            }
        };
        let open = OpenSegment {
            file: file.into(),
            id,
            timestamp,
            version: FileHeader::version(&head).unwrap_or(FORMAT_VERSION_MIN),
        };
        self.state().open = Some(open.clone());
        Ok(open)
    }

    fn bytes(&self, file: &dyn DiskFile, from: u64) -> Result<Vec<u8>, StoreError> {
        let length = self.length().saturating_sub(from) as usize;
        read_up_to(file, from, length).map_err(|error| self.failed("read", &error))
    }

    /// The index: from memory, from its file, or from the segment itself.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the segment can not be read.
    pub fn index(&self, disk: &dyn Disk) -> Result<Arc<Index>, StoreError> {
        if let Some(index) = &self.state().index {
            return Ok(index.clone());
        }
        let open = self.open(disk)?;
        let stored = fs::read(self.index_path())
            .ok()
            .and_then(|bytes| Index::decode(&bytes, open.id));
        let mut index = stored
            .filter(|index| index.covered_bytes <= self.length())
            .unwrap_or_else(|| Index::new(self.base_offset));
        let start = index.covered_bytes;
        if start < self.length() {
            let bytes = Bytes::from(self.bytes(open.file.as_ref(), start)?);
            let entries = scan_entries(&bytes, open.id, index.next_sequence, 0);
            index.note_found(&entries, start, |found| {
                match found.header.kind {
                    EntryKind::Expired => return Contents::PAST,
                    EntryKind::Hurt | EntryKind::Cut => return Contents::LOST,
                    EntryKind::Records | EntryKind::Part(_) => {}
                }
                let batch = batches_of(found, &bytes).into_iter().next();
                let whole = batch.filter(|_| found.is_whole());
                whole.map_or(Contents::LOST, |batch| Contents::of(&batch))
            });
        }
        // Meanwhile entries may have been added, and the index that says so must not be replaced.
        Ok(self.state().index.get_or_insert_with(|| Arc::new(index)).clone())
    }

    /// How dear it is to ask for the summary.
    pub fn summary_cost(&self) -> SummaryCost {
        if self.summary.get().is_some() || self.state().index.is_some() {
            SummaryCost::Nothing
        } else if self.index_path().exists() {
            SummaryCost::SmallFile
        } else {
            SummaryCost::WholeSegment
        }
    }

    /// Whether the summary is in memory.
    pub fn has_summary(&self) -> bool {
        self.summary.get().is_some()
    }

    /// What retention asks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn summary(&self, disk: &dyn Disk) -> Result<Arc<Summary>, StoreError> {
        if let Some(summary) = self.summary.get() {
            return Ok(summary.clone());
        }
        let summary = Arc::new(self.index(disk)?.summary.clone());
        if self.is_sealed.load(Ordering::Acquire) {
            return Ok(self.summary.get_or_init(|| summary).clone());
        }
        Ok(summary)
    }

    /// Replaces the index after entries were added.
    pub fn set_index(&self, index: Arc<Index>) {
        self.state().index = Some(index);
        self.has_new_entries.store(true, Ordering::Release);
    }

    /// Whether entries were added since the index was written to its file.
    pub fn has_new_entries(&self) -> bool {
        self.has_new_entries.load(Ordering::Acquire)
    }

    /// Writes the index's file, so that it need not be found again after a restart.
    pub fn save_index(&self, disk: &dyn Disk) {
        let saved = self.open(disk).and_then(|open| Ok((self.index(disk)?, open.id)));
        let saved = saved.and_then(|(index, id)| {
            fs::write(self.index_path(), index.encode(id))
                .map_err(|error| self.failed("write the index of", &error))
        });
        match saved {
            Ok(()) => self.has_new_entries.store(false, Ordering::Release),
            Err(error) => log::warn!("an index is left to be rebuilt: {error}"),
        }
    }

    /// The index's file.
    pub fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    /// Removes the segment's files.
    ///
    /// # Errors
    /// [`StoreError::Io`]; a file that is not there is removed already.
    pub fn remove(&self) -> Result<(), StoreError> {
        self.close();
        for path in [self.index_path(), self.path.clone()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
