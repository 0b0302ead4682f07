//! Where everything lies in the data directory, and which segment files are open.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
};

use callboard_protocol::Offset;

use super::{
    JournalOptions,
    disk::{Disk, io_error, numbered_files, sync_directory},
    format::FILE_HEADER_BYTES,
    partition::NO_SEGMENTS,
    rewriting,
    segment::{Segment, SegmentEnd},
};
use crate::store::{Hook, PartitionKey, StoreError, TopicId};

/// At most this many segment files are open to be read.
const OPEN_SEGMENTS_MAX: usize = 256;

/// The data directory.
pub struct Files {
    /// The file system that it is on.
    pub disk: Arc<dyn Disk>,
    /// The store's settings.
    pub options: JournalOptions,
    /// Bytes of all partitions that are committed and not in segments yet.
    pub unlaid_bytes: AtomicU64,
    /// Bytes that expired in the journal's present file, about.
    pub expired_bytes: AtomicU64,
    /// Called when everybody was told what a flush came to.
    told: OnceLock<Hook>,
    root: PathBuf,
    open: Mutex<OpenSegments>,
}

#[derive(Default)]
struct OpenSegments {
    /// Each with when it was used last.
    used: Vec<(Arc<Segment>, u64)>,
    uses: u64,
}

impl Files {
    /// The data directory `root`.
    pub fn new(root: &Path, options: JournalOptions, disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            options,
            unlaid_bytes: AtomicU64::new(0),
            expired_bytes: AtomicU64::new(0),
            told: OnceLock::new(),
            root: root.to_path_buf(),
            open: Mutex::default(),
        }
    }

    /// Whom to call when everybody was told what a flush came to; the first one stays.
    pub fn set_told(&self, hook: Hook) {
        drop(self.told.set(hook));
    }

    /// Everybody was told what a flush came to.
    pub fn say_told(&self) {
        if let Some(hook) = self.told.get() {
            hook();
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file whose lock says that the directory is in use.
    pub fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The catalogue of topics.
    pub fn catalogue_path(&self) -> PathBuf {
        self.root.join("catalogue.redb")
    }

    /// Where the journal's files are.
    pub fn journal_directory(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// A file of the journal.
    pub fn journal_path(&self, number: u64) -> PathBuf {
        self.journal_directory().join(format!("{number:08}.journal"))
    }

    /// A former file of the journal that waits to be used again.
    pub fn spare_path(&self, number: u64) -> PathBuf {
        self.journal_directory().join(format!("{number:08}.spare"))
    }

    /// Where all segments are.
    pub fn topics_directory(&self) -> PathBuf {
        self.root.join("topics")
    }

    /// Where a topic's segments are.
    pub fn topic_directory(&self, topic: TopicId) -> PathBuf {
        self.topics_directory().join(topic.0.to_string())
    }

    /// Where a partition's segments are.
    pub fn partition_directory(&self, key: PartitionKey) -> PathBuf {
        self.topic_directory(key.topic).join(key.partition.0.to_string())
    }

    /// A partition's segments, oldest first, and where the last one ends.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Version`].
    pub fn load_segments(&self, key: PartitionKey) -> Result<(Vec<Arc<Segment>>, SegmentEnd), StoreError> {
        let directory = self.partition_directory(key);
        let failed = |error| io_error("list", &directory, &error);
        // A crash was faster than these.
        for base in numbered_files(&directory, rewriting::EXTENSION).map_err(failed)? {
            let unfinished = directory.join(format!("{base:020}.{}", rewriting::EXTENSION));
            fs::remove_file(&unfinished).map_err(|error| io_error("remove", &unfinished, &error))?;
        }
        let mut segments = Vec::new();
        for base in numbered_files(&directory, "segment").map_err(failed)? {
            let segment = Segment::existing(&directory, key, Offset(base), 0);
            let metadata = fs::metadata(segment.path()).map_err(failed)?;
            segment.publish(metadata.len());
            segment.seal();
            segments.push(Arc::new(segment));
        }
        if let Some(last) = segments.last()
            && (last.length() < FILE_HEADER_BYTES as u64 || last.is_unborn(self.disk.as_ref())?)
        {
            last.remove()?;
            segments.pop();
        }
        let end = self.end_of(&segments)?;
        Ok((segments, end))
    }

    fn end_of(&self, segments: &[Arc<Segment>]) -> Result<SegmentEnd, StoreError> {
        let Some(last) = segments.last() else {
            return Ok(NO_SEGMENTS);
        };
        last.unseal();
        self.touch(last);
        last.recover_end(self.disk.as_ref())
    }

    /// Removes every entry that begins at `start` or after it; returns where the rest ends.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut_segments(
        &self,
        segments: &mut Vec<Arc<Segment>>,
        start: Offset,
    ) -> Result<SegmentEnd, StoreError> {
        while let Some(last) = segments.last() {
            let is_beyond = last.base_offset() > start || (last.base_offset() == start && segments.len() > 1);
            if !is_beyond {
                last.cut_from(self.disk.as_ref(), start)?;
                break;
            }
            last.remove()?;
            segments.pop();
        }
        self.end_of(segments)
    }

    /// Says that a segment is being used, and closes the one that was not for the longest time if there
    /// are too many.
    pub fn touch(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let now = open.uses;
        if let Some((_, used)) = open
            .used
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, segment))
        {
            *used = now;
            return;
        }
        if open.used.len() >= OPEN_SEGMENTS_MAX {
            let oldest = open.used.iter().enumerate().min_by_key(|(_, (_, used))| *used);
            if let Some((place, _)) = oldest {
                open.used.swap_remove(place).0.close();
            }
        }
        open.used.push((segment.clone(), now));
    }

    /// Forgets a segment that was removed.
    pub fn forget(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.used.retain(|(known, _)| !Arc::ptr_eq(known, segment));
        drop(open);
        segment.close();
    }

    /// Makes the directory and those above it, durably.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn make_partition_directory(&self, key: PartitionKey) -> Result<PathBuf, StoreError> {
        let directory = self.partition_directory(key);
        fs::create_dir_all(&directory).map_err(|error| io_error("create", &directory, &error))?;
        Ok(directory)
    }

    /// Makes the names of a partition's files durable, and those of the directories above.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync_partition_directory(&self, key: PartitionKey) -> Result<(), StoreError> {
        let directories = [
            self.partition_directory(key),
            self.topic_directory(key.topic),
            self.topics_directory(),
        ];
        for directory in &directories {
            sync_directory(directory).map_err(|error| io_error("flush", directory, &error))?;
        }
        Ok(())
    }
}
