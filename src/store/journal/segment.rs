//! One segment file: entries of one partition from a base offset on, read wherever one likes.
//!
//! Only the thread that lays down writes; any number of threads read, up to the length that was flushed.
//! A read that meets hurt bytes falls back to scanning the whole file, and remembers what it found.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{
    disk::{Disk, DiskFile, OpenMode, io_error, read_up_to, write_all_at},
    format::{
        ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FILE_HEADER_BYTES, FileHeader, FileHeaderError, FileKind,
        Side,
    },
    index::Index,
    reader::{Found, prefix, scan_entries, scan_file},
};
use crate::store::{
    PartitionKey, StoreError,
    tail::{expires_at, hurt_batch, push_hurt},
};

/// The least that is read from a file at once.
const WINDOW_BYTES: usize = 128 * 1024;

/// A segment of a partition.
pub struct Segment {
    key: PartitionKey,
    base_offset: Offset,
    path: PathBuf,
    /// Bytes that are laid down and flushed; nothing beyond is read.
    length: AtomicU64,
    is_sealed: AtomicBool,
    has_new_entries: AtomicBool,
    /// Of a sealed segment: its newest timestamp, and when its last record expires.
    summary: OnceLock<Summary>,
    state: Mutex<State>,
}

/// What retention asks of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The newest record's.
    pub last_timestamp: Timestamp,
    /// When the last record expires; `None` if one never does.
    pub expires_at: Option<Timestamp>,
}

/// What is in memory of a segment; all of it can be read again.
#[derive(Default)]
struct State {
    open: Option<OpenSegment>,
    index: Option<Arc<Index>>,
    hurt: Option<Arc<Vec<Found>>>,
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
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The timestamp of its last record.
    pub last_timestamp: Timestamp,
}

/// What stands at a place of a segment.
enum Step {
    Entry(EntryHeader, Option<Batch>),
    Hurt,
    End,
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
        (base_offset, timestamp): (Offset, Timestamp),
    ) -> Result<Self, StoreError> {
        let segment = Self::existing(directory, key, base_offset, FILE_HEADER_BYTES as u64);
        let header = FileHeader {
            kind: FileKind::Segment,
            id: super::random_id(),
            number: base_offset.0,
            first_sequence: 0,
            key,
            timestamp,
        };
        let failed = |error: &io::Error| io_error("create", &segment.path, error);
        // An index left by a former segment of this name names another id, so it is never believed.
        let file = disk
            .open(&segment.path, OpenMode::Create)
            .map_err(|error| failed(&error))?;
        write_all_at(file.as_ref(), &header.encode(), 0).map_err(|error| failed(&error))?;
        {
            let mut state = segment.state();
            state.index = Some(Arc::new(Index::new(base_offset)));
            state.open = Some(OpenSegment {
                file: file.into(),
                id: header.id,
                timestamp,
            });
        }
        Ok(segment)
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
        // Found by a scan that ended earlier.
        self.state().hurt = None;
    }

    /// Says that nothing will be added any more.
    pub fn seal(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    /// Says that entries will be added again.
    pub fn unseal(&self) {
        self.is_sealed.store(false, Ordering::Release);
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
    /// [`StoreError::Io`], also when the file's header is lost, and [`StoreError::Version`].
    pub fn open(&self, disk: &dyn Disk) -> Result<OpenSegment, StoreError> {
        if let Some(open) = &self.state().open {
            return Ok(open.clone());
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
                    expected: super::format::FORMAT_VERSION,
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
                let batch = batches_of(found, &bytes).into_iter().next();
                batch
                    .filter(|_| found.is_whole())
                    .and_then(|batch| expires_at(&batch))
            });
        }
        let index = Arc::new(index);
        self.state().index = Some(index.clone());
        Ok(index)
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

    /// What retention asks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn summary(&self, disk: &dyn Disk) -> Result<Summary, StoreError> {
        if let Some(summary) = self.summary.get() {
            return Ok(*summary);
        }
        let index = self.index(disk)?;
        let summary = Summary {
            last_timestamp: index.last_timestamp,
            expires_at: index.expires_at(),
        };
        if self.is_sealed.load(Ordering::Acquire) {
            return Ok(*self.summary.get_or_init(|| summary));
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

    /// Consecutive batches from the one that holds `from` on, about `bytes_max`; hurt offsets between
    /// them are stood for. Empty when the segment has nothing from `from` on.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read(&self, disk: &dyn Disk, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, StoreError> {
        let start = self.index(disk)?.position_of(from);
        if self.state().hurt.is_none()
            && let Some(batches) = self.read_sound(disk, (from, start), bytes_max)?
        {
            return Ok(batches);
        }
        self.read_hurt(disk, from, bytes_max)
    }

    /// The same for a segment that is sound where it is read; `None` if it turns out not to be.
    fn read_sound(
        &self,
        disk: &dyn Disk,
        (from, start): (Offset, u64),
        bytes_max: usize,
    ) -> Result<Option<Vec<Batch>>, StoreError> {
        let open = self.open(disk)?;
        let mut window = Window::new(
            self,
            open,
            bytes_max.saturating_add(ENTRY_HEADER_BYTES).max(WINDOW_BYTES),
        );
        let mut position = start;
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut expected: Option<Offset> = None;
        while bytes < bytes_max {
            match window.step(position, from)? {
                Step::End => break,
                Step::Hurt => return Ok(None),
                Step::Entry(header, batch) => {
                    if expected.is_some_and(|expected| expected != header.base_offset) {
                        return Ok(None);
                    }
                    if let Some(batch) = batch {
                        // An entry that begins after `from` without one before it leaves a hole.
                        if batches.is_empty() && batch.base_offset > from {
                            return Ok(None);
                        }
                        bytes += batch.records.len();
                        batches.push(batch);
                    }
                    expected = Some(header.next_offset());
                    position += header.entry_bytes() as u64;
                }
            }
        }
        Ok(Some(batches))
    }

    /// Everything that is whole in the file.
    fn found(&self, disk: &dyn Disk) -> Result<Arc<Vec<Found>>, StoreError> {
        if let Some(found) = &self.state().hurt {
            return Ok(found.clone());
        }
        let open = self.open(disk)?;
        let bytes = self.bytes(open.file.as_ref(), 0)?;
        let found = Arc::new(scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES));
        log::warn!("{} is hurt; what is whole in it is served", self.path.display());
        self.state().hurt = Some(found.clone());
        Ok(found)
    }

    fn read_hurt(&self, disk: &dyn Disk, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, StoreError> {
        let found = self.found(disk)?;
        let open = self.open(disk)?;
        let first = found.partition_point(|found| found.header.next_offset() <= from);
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        for found in &found[first..] {
            if bytes >= bytes_max {
                break;
            }
            push_hurt(
                &mut batches,
                next,
                found.header.base_offset,
                found.header.timestamp,
            );
            let entry = read_up_to(
                open.file.as_ref(),
                found.position as u64,
                found.header.entry_bytes(),
            )
            .map_err(|error| self.failed("read", &error))?;
            let mut found = found.clone();
            for piece in &mut found.pieces {
                piece.bytes = piece.bytes.start - found.position..piece.bytes.end - found.position;
            }
            bytes += entry.len();
            next = found.header.next_offset();
            batches.extend(batches_of(&found, &Bytes::from(entry)));
        }
        Ok(batches)
    }

    /// The first offset of at least `time`; `None` if the segment has none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn offset_at(&self, disk: &dyn Disk, time: Timestamp) -> Result<Option<Offset>, StoreError> {
        let open = self.open(disk)?;
        let mut position = self.index(disk)?.position_at(time);
        let mut window = Window::new(self, open, WINDOW_BYTES);
        loop {
            match window.step(position, Offset(u64::MAX))? {
                Step::End => return Ok(None),
                Step::Hurt => break,
                Step::Entry(header, _) if header.timestamp >= time => return Ok(Some(header.base_offset)),
                Step::Entry(header, _) => position += header.entry_bytes() as u64,
            }
        }
        let found = self.found(disk)?;
        let first = found.iter().find(|found| found.header.timestamp >= time);
        Ok(first.map(|found| found.header.base_offset))
    }

    /// Finds where the file really ends, cuts off what is torn, and makes the rest readable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn recover_end(&self, disk: &dyn Disk) -> Result<SegmentEnd, StoreError> {
        let end = match self.footer_before(disk, self.length())? {
            Some(footer) => Some(footer),
            None => self.scan_end(disk)?,
        };
        let Some(end) = end else {
            let open = self.open(disk)?;
            return Ok(SegmentEnd {
                next_offset: self.base_offset,
                last_timestamp: open.timestamp,
            });
        };
        Ok(SegmentEnd {
            next_offset: end.next_offset(),
            last_timestamp: end.timestamp,
        })
    }

    fn scan_end(&self, disk: &dyn Disk) -> Result<Option<EntryHeader>, StoreError> {
        if self.is_empty() {
            return Ok(None);
        }
        let open = self.open(disk)?;
        let bytes = self.bytes(open.file.as_ref(), 0)?;
        let mut found = scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES);
        // An entry that reaches beyond the end is torn, and the journal still has it.
        while found.last().is_some_and(|last| last.end() > bytes.len()) {
            found.pop();
        }
        let end = found.last().map_or(FILE_HEADER_BYTES, Found::end);
        self.cut(disk, end as u64)?;
        Ok(found.last().map(|last| last.header))
    }

    /// The footer that ends at `end`, if it is whole.
    fn footer_before(&self, disk: &dyn Disk, end: u64) -> Result<Option<EntryHeader>, StoreError> {
        if end < (FILE_HEADER_BYTES + 2 * ENTRY_HEADER_BYTES) as u64 {
            return Ok(None);
        }
        let open = self.open(disk)?;
        let footer = read_up_to(
            open.file.as_ref(),
            end - ENTRY_HEADER_BYTES as u64,
            ENTRY_HEADER_BYTES,
        )
        .map_err(|error| self.failed("read", &error))?;
        let footer = EntryHeader::decode(&footer, Side::Footer, open.id);
        Ok(footer.filter(|footer| end >= (FILE_HEADER_BYTES + footer.entry_bytes()) as u64))
    }

    /// Removes every entry that begins at offset `from` or after it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut_from(&self, disk: &dyn Disk, from: Offset) -> Result<(), StoreError> {
        let mut end = self.length();
        while end > FILE_HEADER_BYTES as u64 {
            match self.footer_before(disk, end)? {
                Some(footer) if footer.base_offset >= from => end -= footer.entry_bytes() as u64,
                Some(_) => break,
                None => {
                    let open = self.open(disk)?;
                    let bytes = self.bytes(open.file.as_ref(), 0)?;
                    let found = scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES);
                    let first = found.iter().find(|found| found.header.base_offset >= from);
                    end = first.map_or(end, |found| found.position as u64);
                    break;
                }
            }
        }
        self.cut(disk, end)
    }

    /// Makes `length` bytes the whole file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut(&self, disk: &dyn Disk, length: u64) -> Result<(), StoreError> {
        let open = self.open(disk)?;
        let actual = open
            .file
            .length()
            .map_err(|error| self.failed("measure", &error))?;
        if actual == length && self.length() == length {
            return Ok(());
        }
        // What the index says of the part that is cut off would be believed of what comes there next.
        match fs::remove_file(self.index_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &self.index_path(), &error));
            }
            _ => {}
        }
        open.file
            .set_len(length)
            .map_err(|error| self.failed("cut", &error))?;
        self.state().index = None;
        self.publish(length);
        Ok(())
    }
}

/// The batches of an entry, whole or not; `bytes` are those that the pieces' ranges count in.
pub fn batches_of(found: &Found, bytes: &Bytes) -> Vec<Batch> {
    let header = &found.header;
    let mut batches = Vec::new();
    let mut next = header.base_offset;
    for piece in &found.pieces {
        let from = header.base_offset.plus(u64::from(piece.index));
        push_hurt(&mut batches, next, from, header.timestamp);
        batches.push(Batch {
            base_offset: from,
            timestamp: header.timestamp,
            count: piece.count,
            records: bytes.slice(piece.bytes.clone()),
        });
        next = from.plus(u64::from(piece.count));
    }
    push_hurt(&mut batches, next, header.next_offset(), header.timestamp);
    batches
}

/// Bytes of a segment that were read ahead.
struct Window<'a> {
    segment: &'a Segment,
    open: OpenSegment,
    start: u64,
    bytes: Bytes,
    window_bytes: usize,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment, open: OpenSegment, window_bytes: usize) -> Self {
        Self {
            segment,
            open,
            start: 0,
            bytes: Bytes::new(),
            window_bytes,
        }
    }

    /// `length` bytes at `position`; `None` if the segment ends before.
    fn slice(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        let end = position + length as u64;
        let limit = self.segment.length();
        if end > limit {
            return Ok(None);
        }
        if position < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = length.max(self.window_bytes).min((limit - position) as usize);
            let bytes = read_up_to(self.open.file.as_ref(), position, wanted);
            self.bytes = Bytes::from(bytes.map_err(|error| self.segment.failed("read", &error))?);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok((from + length <= self.bytes.len()).then(|| self.bytes.slice(from..from + length)))
    }

    /// The entry at `position`, with its batch if that reaches beyond `from`.
    fn step(&mut self, position: u64, from: Offset) -> Result<Step, StoreError> {
        if position >= self.segment.length() {
            return Ok(Step::End);
        }
        let header = self.slice(position, ENTRY_HEADER_BYTES)?;
        let header = header.and_then(|header| EntryHeader::decode(&header, Side::Header, self.open.id));
        let Some(header) = header.filter(|header| header.key == self.segment.key) else {
            return Ok(Step::Hurt);
        };
        if header.next_offset() <= from {
            return Ok(Step::Entry(header, None));
        }
        if header.kind != EntryKind::Records {
            let batch = hurt_batch(header.base_offset, header.count, header.timestamp);
            return Ok(Step::Entry(header, Some(batch)));
        }
        let body = self.slice(position + ENTRY_HEADER_BYTES as u64, header.body_bytes as usize)?;
        let Some(records) = body else {
            return Ok(Step::Hurt);
        };
        let whole = prefix(&records, header.count);
        if whole
            .first()
            .is_none_or(|piece| piece.count != header.count || piece.bytes.end != records.len())
        {
            return Ok(Step::Hurt);
        }
        let batch = Batch {
            base_offset: header.base_offset,
            timestamp: header.timestamp,
            count: header.count,
            records,
        };
        Ok(Step::Entry(header, Some(batch)))
    }
}
