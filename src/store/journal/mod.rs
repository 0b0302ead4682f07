//! The default engine: one journal that every partition's records go through, and segments in which
//! they come to rest (`docs/storage.md` has the formats and what survives what).
//!
//! Four threads, none of which an actor waits for:
//! - the *writer* ([`writer`]) writes and flushes what was submitted, and says what is committed;
//! - the *layer* ([`layer`]) lays committed batches down in segments and applies retention;
//! - the *opener* reads what a partition needs when it is opened;
//! - the *catalogue* ([`catalogue`]) keeps the topics and the facts.
//!
//! A submission goes session → [`queue`] → writer → memory tail ([`partition`]) → layer ([`laying`]) →
//! [`segment`]. [`reader`] and [`salvage`] find what is whole in files, [`recovery`] puts a journal that
//! was left back into memory tails, [`disk`] is the seam at which tests make the disk fail.

mod appender;
mod catalogue;
pub(in crate::store) mod disk;
pub(in crate::store) mod files;
pub mod format;
pub(in crate::store) mod index;
mod journal_file;
mod layer;
mod laying;
mod opener;
mod partition;
mod queue;
pub mod reader;
pub(in crate::store) mod recovery;
mod retention;
mod rewriting;
pub(in crate::store) mod salvage;
pub(in crate::store) mod segment;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use callboard_protocol::{Offset, Timestamp};
use tokio::sync::oneshot;

pub use disk::{Disk, DiskFile, OpenMode, OsDisk};

use self::{
    catalogue::Catalogue,
    disk::{io_error, numbered_files, sync_directory},
    files::Files,
    journal_file::Spares,
    layer::{Command, Layer, LayerHandle, Sealed},
    opener::Opener,
    partition::Partition,
    queue::Queue,
    writer::{Opening, Request, Writer},
};
use super::{
    Completion, Fact, FactChange, Hook, Log as _, OpenPartition, OpenedPartition, PartitionKey, Store,
    StoreError, StoredTopic, Submission, Submitted, Telling, TopicId, check_set,
    memory::{self, MemoryPartition, PartitionMap, completed},
    no_set,
    tail::recent_ids,
};

/// How the engine uses disk and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// A journal file is closed and laid down when it has this size.
    pub journal_bytes: u64,
    /// A segment is closed at this size, or at a quarter of what its topic keeps.
    pub segment_bytes: u64,
    /// So much of what is laid down stays in memory to be read from.
    pub cache_bytes: u64,
    /// When so much waits to be laid down, submissions wait too, or are refused if the disk is full.
    pub unlaid_bytes_max: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            journal_bytes: 64 * MIB,
            segment_bytes: 64 * MIB,
            cache_bytes: 128 * MIB,
            unlaid_bytes_max: 256 * MIB,
        }
    }
}

/// The engine `journal`.
///
/// Dropping it without [`Store::shutdown`] is like a crash of the process: nothing that was committed
/// is lost, and the next start has the journal to read.
pub struct JournalStore {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

/// What the store's threads and callers share.
struct Inner {
    files: Arc<Files>,
    catalogue: Catalogue,
    writer: Arc<Queue<Request>>,
    layer: LayerHandle,
    opener: Opener,
    partitions: RwLock<PartitionMap<Kept>>,
    is_shut_down: AtomicBool,
    /// Says that the directory is in use, for as long as it is open.
    lock: Mutex<Option<File>>,
}

/// Where a partition's records are.
#[derive(Clone)]
enum Kept {
    InMemory(Arc<MemoryPartition>),
    OnDisk(Arc<Partition>),
}

impl JournalStore {
    /// Opens the data directory `directory`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Version`] when it was written by
    /// another version, [`StoreError::Io`].
    pub fn open(directory: &Path, options: JournalOptions) -> Result<Self, StoreError> {
        Self::open_on(directory, options, Arc::new(OsDisk))
    }

    /// The same on a file system of the caller's, for tests.
    ///
    /// # Errors
    /// Those of [`JournalStore::open`].
    #[doc(hidden)]
    pub fn open_on(
        directory: &Path,
        options: JournalOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let files = Arc::new(Files::new(directory, options, disk));
        for path in [files.journal_directory(), files.topics_directory()] {
            fs::create_dir_all(&path).map_err(|error| io_error("create", &path, &error))?;
        }
        sync_directory(directory).map_err(|error| io_error("flush", directory, &error))?;
        let lock = lock(&files)?;
        let (catalogue, catalogue_thread) = Catalogue::open(&files.catalogue_path())?;
        match Self::start(files, catalogue, lock) {
            Ok(mut store) => {
                store.threads.push(catalogue_thread);
                Ok(store)
            }
            Err((catalogue, error)) => {
                catalogue.finish(Box::new(|| {}));
                // A panic there was reported there.
                let _ = catalogue_thread.join();
                Err(error)
            }
        }
    }

    fn start(files: Arc<Files>, catalogue: Catalogue, lock: File) -> Result<Self, (Catalogue, StoreError)> {
        let replayed = replay(&files, &catalogue);
        let Replayed {
            partitions,
            sealed,
            next,
            cuts,
        } = match replayed {
            Ok(replayed) => replayed,
            Err(error) => return Err((catalogue, error)),
        };
        let journals = files.journal_directory();
        let spares = Arc::new(Spares::new(
            numbered_files(&journals, "spare").unwrap_or_default(),
        ));
        let queue = Arc::new(Queue::default());
        let (layer, handle) = Layer::new(files.clone(), spares.clone(), queue.clone());
        let writer = Writer::new(files.clone(), handle.clone(), spares, next, cuts);
        handle.send(Command::RemoveOthers(
            catalogue.topics().iter().map(|topic| topic.id).collect(),
        ));
        if !sealed.numbers.is_empty() {
            handle.send(Command::Lay(sealed));
        }
        let (opener, run_opener) = Opener::new();
        let requests = queue.clone();
        let threads = vec![
            spawn("cb-writer", move || writer.run(&requests)),
            spawn("cb-layer", move || layer.run()),
            spawn("cb-opener", run_opener),
        ];
        let inner = Inner {
            files,
            catalogue,
            writer: queue,
            layer: handle,
            opener,
            partitions: RwLock::new(partitions),
            is_shut_down: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self {
            inner: Arc::new(inner),
            threads,
        })
    }
}

#[cfg(test)]
impl JournalStore {
    /// How many partitions retention would pass over at `now`.
    pub fn partitions_at_rest(&self, now: Timestamp) -> usize {
        let partitions = self.inner.all_on_disk();
        partitions.iter().filter(|partition| partition.rests(now)).count()
    }
}

impl Drop for JournalStore {
    fn drop(&mut self) {
        // Refused if the store was shut down: then the threads end by themselves.
        let _ = self.inner.writer.push_last(Request::Abandon);
        self.inner.layer.send(Command::Abandon);
        self.inner.opener.stop();
        self.inner.catalogue.finish(Box::new(|| {}));
        for thread in self.threads.drain(..) {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.expect("a process that starts can have its few threads")
}

/// A random number that is not zero.
fn random_id() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high ^ low.rotate_left(32)).max(1)
}

fn lock(files: &Files) -> Result<File, StoreError> {
    let path = files.lock_path();
    let failed = |error: &std::io::Error| io_error("lock", &path, error);
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: files.root().to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// What the journal that was left comes to.
struct Replayed {
    /// The partitions that it has something of.
    partitions: PartitionMap<Kept>,
    /// The files to be laid down.
    sealed: Sealed,
    /// The number and the first sequence number of the next file.
    next: (u64, u64),
    /// What the next file must say does not count.
    cuts: Vec<(PartitionKey, Offset)>,
}

/// Puts what the journal has back into memory tails.
fn replay(files: &Arc<Files>, catalogue: &Catalogue) -> Result<Replayed, StoreError> {
    let recovered = recovery::recover(files)?;
    if recovered.hurt_records() > 0 {
        log::warn!(
            "the journal has {} hurt records; they are served as gaps",
            recovered.hurt_records()
        );
    }
    let mut partitions = PartitionMap::default();
    let mut sealed = Sealed {
        numbers: recovered.numbers,
        partitions: Vec::new(),
    };
    for (key, batches) in recovered.partitions {
        if catalogue
            .topic(key.topic)
            .is_none_or(|topic| key.partition.0 >= topic.partitions)
        {
            continue;
        }
        let partition = Arc::new(Partition::load(files.clone(), key)?);
        partition.replay(batches)?;
        sealed.partitions.push(partition.clone());
        partitions.insert(key, Kept::OnDisk(partition));
    }
    Ok(Replayed {
        partitions,
        sealed,
        next: (recovered.next_number, recovered.next_sequence),
        cuts: recovered.cuts,
    })
}

impl Inner {
    fn kept(&self, key: PartitionKey) -> Option<Kept> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned()
    }

    /// Those that somebody has opened. What is to be kept of another one is not known yet, as long as a start takes:
    /// message ids that are still needed would go.
    fn opened_on_disk(&self) -> Vec<Arc<Partition>> {
        let mut opened = self.all_on_disk();
        opened.retain(|partition| partition.incarnation() > 0);
        opened
    }

    fn all_on_disk(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let on_disk = partitions.values().filter_map(|kept| match kept {
            Kept::OnDisk(partition) => Some(partition.clone()),
            Kept::InMemory(_) => None,
        });
        on_disk.collect()
    }

    /// The partition of an existing topic, found on disk if it was not used yet.
    fn find(&self, key: PartitionKey) -> Result<Kept, StoreError> {
        if let Some(kept) = self.kept(key) {
            return Ok(kept);
        }
        let topic = self.catalogue.topic(key.topic).ok_or(StoreError::Closed)?;
        if key.partition.0 >= topic.partitions {
            return Err(StoreError::Closed);
        }
        let kept = if topic.memory_only {
            Kept::InMemory(Arc::default())
        } else {
            Kept::OnDisk(Arc::new(Partition::load(self.files.clone(), key)?))
        };
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let kept = partitions.entry(key).or_insert(kept).clone();
        // A topic that was deleted meanwhile has had its partitions closed already.
        if self.catalogue.topic(key.topic).is_none() {
            partitions.remove(&key);
            return Err(StoreError::Closed);
        }
        Ok(kept)
    }

    /// Runs on the opener's thread.
    fn open(
        self: Arc<Self>,
        open: OpenPartition,
        sender: oneshot::Sender<Result<OpenedPartition, StoreError>>,
    ) {
        let partition = match self.find(open.key) {
            Ok(Kept::OnDisk(partition)) => partition,
            // A sender that refuses has nobody waiting.
            Ok(Kept::InMemory(partition)) => return drop(sender.send(partition.open(&open))),
            Err(error) => return drop(sender.send(Err(error))),
        };
        let store = self.clone();
        let opened = partition.clone();
        let then = Box::new(move |settled: Result<(), StoreError>| {
            // What is left to do reads, so it goes back from the writer's thread to the opener's.
            store.opener.run(Box::new(move || {
                // A sender that refuses has nobody waiting.
                drop(sender.send(settled.and_then(|()| opened_partition(opened, open.ids_since))));
            }));
        });
        let opening = Opening {
            partition,
            incarnation: open.incarnation,
            commits: open.commits,
            then,
        };
        if let Err(Request::Open(opening)) = self.writer.push(Request::Open(opening)) {
            (opening.then)(Err(StoreError::ShuttingDown));
        }
    }
}

fn opened_partition(partition: Arc<Partition>, ids_since: Timestamp) -> Result<OpenedPartition, StoreError> {
    Ok(OpenedPartition {
        first_offset: partition.first_offset(),
        next_offset: partition.next_offset(),
        last_timestamp: partition.last_timestamp(),
        recent_ids: recent_ids(partition.as_ref(), ids_since)?,
        log: partition,
    })
}

impl Store for JournalStore {
    fn topics(&self) -> Result<Vec<StoredTopic>, StoreError> {
        Ok(self.inner.catalogue.topics())
    }

    fn create_topic(&self, topic: StoredTopic) -> Completion<TopicId> {
        self.inner.catalogue.create(topic)
    }

    fn update_topic(&self, topic: StoredTopic) -> Completion<()> {
        self.inner.catalogue.update(topic)
    }

    fn delete_topic(&self, id: TopicId) -> Completion<()> {
        let removed = self.inner.catalogue.remove(id);
        let (sender, receiver) = oneshot::channel();
        let inner = self.inner.clone();
        let job = move || {
            let result = removed.blocking_recv().unwrap_or(Err(StoreError::ShuttingDown));
            if result.is_ok() {
                inner.forget(id);
            }
            // A sender that refuses has nobody waiting.
            drop(sender.send(result));
        };
        self.inner.opener.run(Box::new(job));
        receiver
    }

    fn facts(&self) -> Result<Vec<Fact>, StoreError> {
        self.inner.catalogue.facts()
    }

    fn keep_facts(&self, changes: Vec<FactChange>) -> Completion<()> {
        self.inner.catalogue.keep(changes)
    }

    fn open(&self, open: OpenPartition) -> Completion<OpenedPartition> {
        let (sender, receiver) = oneshot::channel();
        let inner = self.inner.clone();
        self.inner.opener.run(Box::new(move || inner.open(open, sender)));
        receiver
    }

    fn after_telling(&self, hook: Hook) -> Telling {
        self.inner.files.set_told(hook);
        Telling::InGroups
    }

    fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        let submitted = self.gather(submission);
        self.begin();
        submitted
    }

    fn gather(&self, submission: Submission) -> Result<Submitted, StoreError> {
        if self.inner.is_shut_down.load(Ordering::Acquire) {
            return Err(StoreError::ShuttingDown);
        }
        let partition = match self.inner.kept(submission.key) {
            Some(Kept::OnDisk(partition)) => partition,
            Some(Kept::InMemory(partition)) => return partition.submit(submission),
            None => return Err(StoreError::Closed),
        };
        if partition.is_closed() || submission.incarnation.0 < partition.incarnation() {
            return Err(StoreError::Closed);
        }
        match self.inner.writer.leave(Request::Submit(partition, submission)) {
            Ok(()) => Ok(Submitted::Pending),
            Err(_) => Err(StoreError::ShuttingDown),
        }
    }

    fn begin(&self) {
        self.inner.writer.wake();
    }

    fn submit_together(&self, submissions: Vec<Submission>) -> Result<Submitted, StoreError> {
        if self.inner.is_shut_down.load(Ordering::Acquire) {
            return Err(StoreError::ShuttingDown);
        }
        check_set(&submissions)?;
        let (mut in_memory, mut on_disk) = (Vec::new(), Vec::new());
        for submission in submissions {
            match self.inner.kept(submission.key) {
                Some(Kept::OnDisk(partition)) => {
                    if partition.is_closed() || submission.incarnation.0 < partition.incarnation() {
                        return Err(StoreError::Closed);
                    }
                    on_disk.push((partition, submission));
                }
                Some(Kept::InMemory(partition)) => in_memory.push((partition, submission)),
                None => return Err(StoreError::Closed),
            }
        }
        if on_disk.is_empty() {
            return memory::submit_together(in_memory);
        }
        if !in_memory.is_empty() {
            return Err(no_set("some of them are kept in memory only".to_owned()));
        }
        match self.inner.writer.push(Request::Together(on_disk)) {
            Ok(()) => Ok(Submitted::Pending),
            Err(_) => Err(StoreError::ShuttingDown),
        }
    }

    fn retain(&self, now: Timestamp) {
        let in_memory: Vec<_> = {
            let partitions = self
                .inner
                .partitions
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let in_memory = partitions.values().filter_map(|kept| match kept {
                Kept::InMemory(partition) => Some(partition.clone()),
                Kept::OnDisk(_) => None,
            });
            in_memory.collect()
        };
        for partition in in_memory {
            partition.retain(now);
        }
        self.inner
            .layer
            .send(Command::Retain(now, self.inner.opened_on_disk()));
    }

    fn shutdown(&self) -> Completion<()> {
        let (sender, receiver) = oneshot::channel();
        self.inner.is_shut_down.store(true, Ordering::Release);
        let inner = self.inner.clone();
        let unlock = move || {
            inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A sender that refuses has nobody waiting.
            drop(sender.send(Ok(())));
        };
        let inner = self.inner.clone();
        let laid = move || {
            inner.opener.stop();
            inner.catalogue.finish(Box::new(unlock));
        };
        let inner = self.inner.clone();
        let written = move || {
            inner
                .layer
                .send(Command::Finish(inner.all_on_disk(), Box::new(laid)))
        };
        if self
            .inner
            .writer
            .push_last(Request::Finish(Box::new(written)))
            .is_err()
        {
            return completed(Err(StoreError::ShuttingDown));
        }
        receiver
    }
}

impl Inner {
    /// Closes a deleted topic's partitions and gives their space back.
    fn forget(&self, id: TopicId) {
        let mut closed = Vec::new();
        {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            for (_, kept) in partitions.extract_if(|key, _| key.topic == id) {
                match kept {
                    Kept::InMemory(partition) => partition.close(),
                    Kept::OnDisk(partition) => {
                        partition.close();
                        closed.push(partition);
                    }
                }
            }
        }
        // Refused when the store shuts down: then the next start removes what is left.
        let _ = self.writer.push(Request::Forget(id, closed));
    }
}
