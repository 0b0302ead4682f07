//! One partition of the journal: its memory tail, its segments, and the log that reads both.
//!
//! The writer thread adds to the tail, the thread that lays down moves the boundary between tail and
//! segments, any thread reads. `first <= laid <= next`: what lies below `laid` is in segments, what lies
//! above it is in the tail; the tail may also keep laid batches to be read without a disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{
    disk::io_error,
    files::Files,
    segment::{Segment, SegmentEnd},
    writer::Slot,
};
use crate::store::{
    Gap, GapReason, Log, Page, PartitionKey, Retention, StoreError,
    expiry::{Expiries, Looked},
    tail::{Tail, body, page_of, push_hurt, starting_at},
};

/// How often a read is tried again when retention removes the segment under it.
const READ_ATTEMPTS_MAX: usize = 8;

/// A partition that is kept in the journal and in segments.
pub struct Partition {
    /// Which.
    pub key: PartitionKey,
    files: Arc<Files>,
    tail: RwLock<Tail>,
    segments: RwLock<Vec<Arc<Segment>>>,
    first_offset: AtomicU64,
    /// What lies before the first offset and before this was removed by retention; the rest had expired.
    retained_offset: AtomicU64,
    laid_offset: AtomicU64,
    next_offset: AtomicU64,
    unlaid_bytes: AtomicU64,
    last_timestamp: AtomicU64,
    retention: Mutex<Retention>,
    expiries: Mutex<Expiries>,
    rest: Mutex<Option<Rest>>,
    /// Counts the segments that were replaced, so that who reads notices.
    rewrites: AtomicU64,
    /// A file was renamed, and it is not certain that this is on the device.
    has_unsure_names: AtomicBool,
    incarnation: AtomicU64,
    is_closed: AtomicBool,
    /// The writer thread's own.
    pub(super) slot: Mutex<Slot>,
}

/// Until when retention has nothing to do, as long as the partition stays as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rest {
    state: RestState,
    until: Timestamp,
}

/// What changes with everything that could give retention something to do before that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestState {
    next: Offset,
    laid: Offset,
    first: Offset,
    rewrites: u64,
    retention: Retention,
}

impl Partition {
    /// Finds the partition's segments, and where they end.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Version`].
    pub fn load(files: Arc<Files>, key: PartitionKey) -> Result<Self, StoreError> {
        let (segments, end) = files.load_segments(key)?;
        let first = segments
            .first()
            .map_or(Offset::ZERO, |segment| segment.base_offset());
        let partition = Self {
            key,
            files,
            tail: RwLock::new(Tail::new(end.next_offset)),
            segments: RwLock::new(segments),
            first_offset: AtomicU64::new(first.0),
            // Nobody knows any more.
            retained_offset: AtomicU64::new(first.0),
            laid_offset: AtomicU64::new(end.next_offset.0),
            next_offset: AtomicU64::new(end.next_offset.0),
            unlaid_bytes: AtomicU64::new(0),
            last_timestamp: AtomicU64::new(end.last_timestamp.0),
            retention: Mutex::default(),
            expiries: Mutex::default(),
            rest: Mutex::default(),
            rewrites: AtomicU64::new(0),
            has_unsure_names: AtomicBool::new(false),
            incarnation: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            slot: Mutex::default(),
        };
        partition.slot().next_offset = end.next_offset;
        Ok(partition)
    }

    /// Takes over what the journal has of this partition: consecutive batches, which the segments may
    /// hold in part. What the segments have from there on is laid down again, because the journal is
    /// kept until they were flushed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn replay(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        let first = self.first_offset();
        let Some(start) = batches.first().map(|batch| batch.base_offset.max(first)) else {
            return Ok(());
        };
        // Segments that go further than the journal were flushed before a later journal file was retired.
        let covered = batches.last().map_or(start, Batch::next_offset);
        if covered < self.next_offset() {
            return Ok(());
        }
        let end = if start < self.next_offset() {
            let mut segments = self.segments_mut();
            let end = self.files.cut_segments(&mut segments, start)?;
            self.last_timestamp.store(end.last_timestamp.0, Ordering::Release);
            end.next_offset
        } else {
            self.next_offset()
        };
        self.laid_offset.store(end.0, Ordering::Release);
        *self.tail_mut() = Tail::new(end);
        let mut filled = Vec::new();
        push_hurt(&mut filled, end, start, batches[0].timestamp);
        filled.extend(
            batches
                .iter()
                .filter_map(|batch| starting_at(batch, end.max(first))),
        );
        for batch in filled {
            self.commit(&Arc::new(batch));
        }
        self.next_offset
            .store(self.tail().next_offset().0, Ordering::Release);
        self.slot().next_offset = self.next_offset();
        Ok(())
    }

    /// The writer thread's part.
    pub fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A panic while one of these locks is held leaves nothing half changed that a reader would notice.
    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments, to be changed by the thread that lays down.
    pub fn segments_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the partition's segments are.
    pub fn directory(&self) -> PathBuf {
        self.files.partition_directory(self.key)
    }

    /// Adds committed batches and makes them readable.
    pub fn commit_all<'a>(&self, batches: impl Iterator<Item = &'a Arc<Batch>>) -> Offset {
        let mut tail = self.tail_mut();
        for batch in batches {
            self.account(batch);
            tail.push(batch.clone());
        }
        let next = tail.next_offset();
        self.next_offset.store(next.0, Ordering::Release);
        next
    }

    fn commit(&self, batch: &Arc<Batch>) {
        self.commit_all(std::iter::once(batch));
    }

    fn account(&self, batch: &Batch) {
        let bytes = body(batch).len() as u64;
        self.unlaid_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.unlaid_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_timestamp.store(batch.timestamp.0, Ordering::Release);
    }

    /// The newest record's timestamp.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.last_timestamp.load(Ordering::Acquire))
    }

    /// The offset up to which everything is in segments.
    pub fn laid_offset(&self) -> Offset {
        Offset(self.laid_offset.load(Ordering::Acquire))
    }

    /// Bytes that are not in segments yet.
    pub fn unlaid_bytes(&self) -> u64 {
        self.unlaid_bytes.load(Ordering::Relaxed)
    }

    /// The batches that are not in segments yet.
    pub fn unlaid(&self) -> Vec<Arc<Batch>> {
        self.tail().since(self.laid_offset()).cloned().collect()
    }

    /// Forgets the records in memory that have expired at `now`; returns how many bytes of them are in no
    /// segment. Called by the thread that lays down.
    pub fn expire(&self, now: Timestamp) -> u64 {
        let ids_ms = self.retention().ids_ms;
        let due = {
            let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
            while expiries.look(&self.tail(), ids_ms) == Looked::AtSome {}
            expiries.take_due(&self.tail(), now, ids_ms)
        };
        if due.is_empty() {
            return 0;
        }
        let laid = self.laid_offset();
        let (in_segments, unlaid) = due.split_at(due.partition_point(|base| *base < laid));
        let mut tail = self.tail_mut();
        tail.expire(in_segments, laid);
        let freed = tail.expire(unlaid, laid);
        drop(tail);
        self.unlaid_bytes.fetch_sub(freed, Ordering::Relaxed);
        self.files.unlaid_bytes.fetch_sub(freed, Ordering::Relaxed);
        freed
    }

    /// When the next batch in memory may go that [`Self::expire`] has seen.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    }

    /// What it is like now; taken before retention looks at it.
    pub fn rest_state(&self) -> RestState {
        RestState {
            next: self.next_offset(),
            laid: self.laid_offset(),
            first: self.first_offset(),
            rewrites: self.rewrites(),
            retention: self.retention(),
        }
    }

    /// Says until when retention has nothing to do, if that is known; most partitions are quiet, and with ten thousand
    /// of them a look at each in every round would be most of what an idle broker does.
    pub fn set_rest(&self, state: RestState, until: Option<Timestamp>) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = until.map(|until| Rest { state, until });
    }

    /// Whether retention has nothing to do.
    pub fn rests(&self, now: Timestamp) -> bool {
        let rest = *self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.is_some_and(|rest| now < rest.until && rest.state == self.rest_state())
    }

    /// The oldest batch that is not in a segment yet.
    pub fn first_unlaid(&self) -> Option<Arc<Batch>> {
        self.tail().since(self.laid_offset()).next().cloned()
    }

    /// Moves the boundary: everything below `next`, `bytes` in all, is in segments now.
    pub fn set_laid(&self, next: Offset, bytes: u64) {
        self.laid_offset.store(next.0, Ordering::Release);
        self.unlaid_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.files.unlaid_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Forgets laid batches below `next`; returns how many bytes that frees.
    pub fn evict(&self, next: Offset) -> u64 {
        let next = next.min(self.laid_offset());
        let mut freed = 0;
        let mut tail = self.tail_mut();
        while tail.front().is_some_and(|batch| batch.next_offset() <= next) {
            freed += tail.pop().map_or(0, |batch| body(&batch).len() as u64);
        }
        freed
    }

    /// Raises the first offset when what lies below is removed, and what of it had not expired before that.
    pub fn set_first_offset(&self, first: Offset, retained: Offset) {
        self.retained_offset.fetch_max(retained.0, Ordering::AcqRel);
        self.first_offset.fetch_max(first.0, Ordering::AcqRel);
    }

    /// Puts `new` in the place of the segment `old`, whose file is replaced by the one at `from`. Who reads the old one
    /// meanwhile reads again.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then nothing has changed.
    pub fn replace_segment(
        &self,
        old: &Arc<Segment>,
        new: Arc<Segment>,
        from: &Path,
    ) -> Result<(), StoreError> {
        let mut segments = self.segments_mut();
        let Some(place) = segments.iter().position(|segment| Arc::ptr_eq(segment, old)) else {
            return Err(StoreError::Closed);
        };
        old.set_replaced(true);
        self.rewrites.fetch_add(1, Ordering::AcqRel);
        self.has_unsure_names.store(true, Ordering::Release);
        if let Err(error) = fs::rename(from, new.path()) {
            old.set_replaced(false);
            return Err(io_error("replace", new.path(), &error));
        }
        segments[place] = new;
        Ok(())
    }

    /// Makes the names of the partition's files durable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync_names(&self) -> Result<(), StoreError> {
        self.files.sync_partition_directory(self.key)?;
        self.has_unsure_names.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether a renamed file may still have its old name on the device.
    pub fn has_unsure_names(&self) -> bool {
        self.has_unsure_names.load(Ordering::Acquire)
    }

    fn rewrites(&self) -> u64 {
        self.rewrites.load(Ordering::Acquire)
    }

    /// What is to be kept.
    pub fn retention(&self) -> Retention {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may submit.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Says who may submit from now on.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Release);
    }

    /// Refuses everything from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether the topic was deleted.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The last segment that begins at `from` or before it, and where the next one begins.
    fn segment_of(&self, from: Offset) -> Option<(Arc<Segment>, Offset)> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.base_offset() <= from);
        let segment = segments.get(after.checked_sub(1)?)?.clone();
        let end = segments
            .get(after)
            .map_or(self.laid_offset(), |next| next.base_offset());
        Some((segment, end))
    }

    /// Reads from segments; `from` is at least the first offset and below the laid one.
    fn read_segments(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError> {
        let Some((segment, end)) = self.segment_of(from) else {
            return Ok(corrupt(
                from,
                self.segments()
                    .first()
                    .map_or(self.laid_offset(), |first| first.base_offset()),
            ));
        };
        self.files.touch(&segment);
        let mut batches = segment.read(self.files.disk.as_ref(), from, bytes_max)?;
        let next = batches.last().map_or(from, Batch::next_offset);
        let bytes: usize = batches.iter().map(|batch| batch.records.len()).sum();
        // Nothing more came although there was room: what is missing up to the end is hurt.
        if bytes < bytes_max && next < end {
            push_hurt(&mut batches, next, end, Timestamp(0));
        }
        Ok(page_of(batches.iter(), from, bytes_max))
    }

    fn read_tail(&self, from: Offset, bytes_max: usize) -> Option<Page> {
        let tail = self.tail();
        (from >= tail.first_offset()).then(|| tail.page(from, bytes_max))
    }

    fn find_time(&self, time: Timestamp) -> Result<Offset, StoreError> {
        let in_tail = |tail: &Tail| {
            let first = tail.since_time(time).next().map(|batch| batch.base_offset);
            first.unwrap_or(tail.next_offset())
        };
        {
            let tail = self.tail();
            if tail.first_timestamp().is_some_and(|first| first < time) {
                return Ok(in_tail(&tail));
            }
        }
        let disk = self.files.disk.as_ref();
        let segments = self.segments().clone();
        let mut low = 0;
        let mut high = segments.len();
        // The first segment that begins at `time` or later; an empty one begins whenever the next does.
        while low < high {
            let middle = usize::midpoint(low, high);
            self.files.touch(&segments[middle]);
            match segments[middle].index(disk)?.first_timestamp() {
                Some(first) if first < time => low = middle + 1,
                _ => high = middle,
            }
        }
        if let Some(before) = low.checked_sub(1)
            && let Some(offset) = segments[before].offset_at(disk, time)?
        {
            return Ok(offset);
        }
        match segments.get(low) {
            Some(segment) if !segment.is_empty() => Ok(segment.base_offset()),
            _ => Ok(in_tail(&self.tail())),
        }
    }

    fn removed_gap(&self, from: Offset) -> Option<Gap> {
        let next = self.first_offset();
        (from < next).then(|| Gap {
            from,
            next,
            reason: if from.0 < self.retained_offset.load(Ordering::Acquire) {
                GapReason::Retention
            } else {
                GapReason::Expired
            },
        })
    }
}

fn corrupt(from: Offset, next: Offset) -> Page {
    Page {
        gap: Some(Gap {
            from,
            next,
            reason: GapReason::Corrupt,
        }),
        batches: Vec::new(),
        next_offset: next,
    }
}

impl Log for Partition {
    fn first_offset(&self) -> Offset {
        Offset(self.first_offset.load(Ordering::Acquire))
    }

    fn next_offset(&self) -> Offset {
        Offset(self.next_offset.load(Ordering::Acquire))
    }

    fn bytes(&self) -> u64 {
        let laid: u64 = self.segments().iter().map(|segment| segment.length()).sum();
        laid + self.unlaid_bytes()
    }

    fn read_cached(&self, from: Offset, bytes_max: usize) -> Option<Page> {
        let gap = self.removed_gap(from);
        let mut page = self.read_tail(gap.map_or(from, |gap| gap.next), bytes_max)?;
        if page.gap.is_none() || gap.is_none() {
            page.gap = gap.or(page.gap);
            return Some(page);
        }
        // Two gaps do not fit in a page: the second one begins the next page.
        gap.map(|gap| Page {
            gap: Some(gap),
            batches: Vec::new(),
            next_offset: gap.next,
        })
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Page, StoreError> {
        // At least one record, however little is asked for.
        let bytes_max = bytes_max.max(1);
        let mut attempts = 0;
        loop {
            if let Some(page) = self.read_cached(from, bytes_max) {
                return Ok(page);
            }
            if let Some(gap) = self.removed_gap(from) {
                return Ok(Page {
                    gap: Some(gap),
                    batches: Vec::new(),
                    next_offset: gap.next,
                });
            }
            attempts += 1;
            let rewrites = self.rewrites();
            let read = self.read_segments(from, bytes_max);
            let is_same = rewrites == self.rewrites();
            match read {
                Ok(page) if is_same => return Ok(page),
                Err(error)
                    if attempts >= READ_ATTEMPTS_MAX || (is_same && self.removed_gap(from).is_none()) =>
                {
                    return Err(error);
                }
                // The segment was removed or replaced while it was being read.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn offset_at(&self, time: Timestamp) -> Result<Offset, StoreError> {
        loop {
            let before = (self.laid_offset(), self.rewrites());
            let found = self.find_time(time);
            // What was in neither place because it was being moved is looked for again.
            if before == (self.laid_offset(), self.rewrites()) {
                return Ok(found?.max(self.first_offset()));
            }
        }
    }

    fn id_from(&self, from: Offset, since: Timestamp) -> Result<Offset, StoreError> {
        let mut from = from.max(self.first_offset());
        while from < self.laid_offset() {
            let Some((segment, end)) = self.segment_of(from) else {
                break;
            };
            self.files.touch(&segment);
            let summary = segment.summary(self.files.disk.as_ref())?;
            if end <= from || (summary.last_id_timestamp.0 > 0 && summary.last_id_timestamp >= since) {
                break;
            }
            from = end;
        }
        Ok(from)
    }

    fn set_retention(&self, retention: Retention) {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
    }
}

/// Where a partition's segments end, if it has none.
pub const NO_SEGMENTS: SegmentEnd = SegmentEnd {
    next_offset: Offset::ZERO,
    last_timestamp: Timestamp(0),
};
