//! The thread that lays the journal down in segments, and removes what need not be kept.
//!
//! Takes closed journal files; a file is retired only when everything in it that is committed was
//! flushed to segments. Works from memory, never from the journal. A disk that refuses is tried again,
//! with growing pauses, and the journal stays meanwhile.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use callboard_protocol::{Offset, Timestamp};

use super::{
    disk::io_error, files::Files, journal_file::Spares, laying::Laid, partition::Partition, queue::Queue,
    retention, writer::Request,
};
use crate::store::{Log as _, PartitionKey, StoreError, TopicId, heap};

/// With more partitions than this, the whole file system is flushed at once.
const SINGLE_FLUSHES_MAX: usize = 64;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Journal files that nobody writes to any more.
pub struct Sealed {
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// Every partition that has something in them.
    pub partitions: Vec<Arc<Partition>>,
}

/// What is asked of the thread.
pub enum Command {
    /// Lay journal files down.
    Lay(Sealed),
    /// Remove what retention lets go, of these partitions.
    Retain(Timestamp, Vec<Arc<Partition>>),
    /// Remove a deleted topic.
    Remove(TopicId, Vec<Arc<Partition>>),
    /// Remove what belongs to none of these topics.
    RemoveOthers(Vec<TopicId>),
    /// Lay everything down, save the indexes of these partitions, and call.
    Finish(Vec<Arc<Partition>>, Box<dyn FnOnce() + Send>),
    /// Stop as if the process had died.
    Abandon,
}

/// How the layer is doing, for those who wait for it.
#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Working,
    Failing(StoreError),
    Stopped,
}

/// Speaks to the thread.
#[derive(Clone)]
pub struct LayerHandle {
    commands: Sender<Command>,
    progress: Arc<Progress>,
    files: Arc<Files>,
}

impl LayerHandle {
    /// Asks for something; a thread that has stopped does not hear it.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::debug!("the store is closed already");
        }
    }

    /// Waits until there is memory for another journal file.
    ///
    /// # Errors
    /// Why there is none: what the disk said when laying down was tried last.
    pub fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut state = self.progress.state.lock().unwrap_or_else(PoisonError::into_inner);
        while self.files.unlaid_bytes.load(Ordering::Relaxed) >= self.files.options.unlaid_bytes_max {
            match &*state {
                State::Working => {}
                State::Failing(error) => return Err(error.clone()),
                State::Stopped => return Err(StoreError::ShuttingDown),
            }
            state = self
                .progress
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// The thread's state.
pub struct Layer {
    files: Arc<Files>,
    spares: Arc<Spares>,
    writer: Arc<Queue<Request>>,
    commands: Receiver<Command>,
    progress: Arc<Progress>,
    sealed: Vec<Sealed>,
    /// Laid batches that are still in memory, oldest first.
    cached: VecDeque<(Arc<Partition>, Offset, u64)>,
    cached_bytes: u64,
}

impl Drop for Layer {
    /// Says that nobody need wait any more, also after a panic.
    fn drop(&mut self) {
        self.set_state(State::Stopped);
    }
}

/// Whether the thread goes on.
enum Next {
    Continue,
    Stop,
}

impl Layer {
    /// A layer, and the handle to speak to it.
    pub fn new(files: Arc<Files>, spares: Arc<Spares>, writer: Arc<Queue<Request>>) -> (Self, LayerHandle) {
        let (sender, commands) = std::sync::mpsc::channel();
        let progress = Arc::new(Progress::default());
        let handle = LayerHandle {
            commands: sender,
            progress: progress.clone(),
            files: files.clone(),
        };
        let layer = Self {
            files,
            spares,
            writer,
            commands,
            progress,
            sealed: Vec::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
        };
        (layer, handle)
    }

    /// Serves commands until it is finished or abandoned.
    pub fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let command = if self.sealed.is_empty() {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_timeout(pause)
            };
            match command {
                Ok(command) => {
                    if let Next::Stop = self.serve(command) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            pause = if self.try_lay() {
                PAUSE_MIN
            } else {
                (pause * 2).min(PAUSE_MAX)
            };
        }
        self.set_state(State::Stopped);
    }

    fn serve(&mut self, command: Command) -> Next {
        match command {
            Command::Lay(sealed) => self.sealed.push(sealed),
            Command::Retain(now, partitions) => {
                self.spares.age(&self.files);
                if retention::retain(&self.files, now, &partitions) == retention::Unlaid::MayGo {
                    // A writer that is finished lays everything down anyway.
                    let _ = self.writer.push(Request::Rotate);
                }
                heap::give_back();
            }
            Command::Remove(topic, partitions) => self.remove(topic, &partitions),
            Command::RemoveOthers(topics) => self.remove_others(&topics),
            Command::Finish(partitions, then) => {
                self.finish(&partitions);
                then();
                return Next::Stop;
            }
            Command::Abandon => return Next::Stop,
        }
        Next::Continue
    }

    fn set_state(&self, state: State) {
        *self.progress.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.progress.changed.notify_all();
    }

    /// Lays down what waits; whether nothing waits afterwards.
    fn try_lay(&mut self) -> bool {
        if self.sealed.is_empty() {
            return true;
        }
        match self.lay() {
            Ok(()) => {
                self.set_state(State::Working);
                true
            }
            Err(error) => {
                log::error!("the journal can not be laid down and stays: {error}");
                self.set_state(State::Failing(error));
                false
            }
        }
    }

    fn lay(&mut self) -> Result<(), StoreError> {
        let mut partitions: HashMap<PartitionKey, Arc<Partition>> = HashMap::new();
        for partition in self.sealed.iter().flat_map(|sealed| &sealed.partitions) {
            if !partition.is_closed() {
                partitions.insert(partition.key, partition.clone());
            }
        }
        let mut written = Vec::new();
        let done = self.write_and_flush(partitions.values(), &mut written);
        if let Err(error) = done {
            for laid in written {
                laid.undo(&self.files);
            }
            return Err(error);
        }
        for laid in written {
            let cached = laid.publish(&self.files);
            self.cached_bytes += cached.2;
            self.cached.push_back(cached);
        }
        self.evict();
        // Oldest first: what was refused in an earlier file is undone by what a later one says.
        while let Some(sealed) = self.sealed.first_mut() {
            while let Some(number) = sealed.numbers.first().copied() {
                self.spares.retire(&self.files, number)?;
                sealed.numbers.remove(0);
            }
            self.sealed.remove(0);
        }
        Ok(())
    }

    fn write_and_flush<'a>(
        &self,
        partitions: impl ExactSizeIterator<Item = &'a Arc<Partition>>,
        written: &mut Vec<Laid>,
    ) -> Result<(), StoreError> {
        let is_many = partitions.len() > SINGLE_FLUSHES_MAX;
        for partition in partitions {
            written.extend(
                Laid::write(&self.files, partition)?.map(|laid| if is_many { laid.release() } else { laid }),
            );
        }
        if is_many {
            let root = self.files.root();
            return self
                .files
                .disk
                .sync_all(root)
                .map_err(|error| io_error("flush the file system of", root, &error));
        }
        written.iter().try_for_each(Laid::flush)
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.files.options.cache_bytes {
            let Some((partition, next, bytes)) = self.cached.pop_front() else {
                break;
            };
            partition.evict(next);
            self.cached_bytes -= bytes;
        }
    }

    fn remove(&mut self, topic: TopicId, partitions: &[Arc<Partition>]) {
        for partition in partitions {
            partition.set_laid(partition.next_offset(), partition.unlaid_bytes());
            partition.evict(Offset(u64::MAX));
            let segments = std::mem::take(&mut *partition.segments_mut());
            for segment in &segments {
                self.files.forget(segment);
            }
        }
        self.remove_directory(topic);
    }

    fn remove_directory(&self, topic: TopicId) {
        let directory = self.files.topic_directory(topic);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::warn!("a deleted topic's files are left for the next start: {error}");
            }
            _ => {}
        }
    }

    fn remove_others(&self, topics: &[TopicId]) {
        let Ok(entries) = fs::read_dir(self.files.topics_directory()) else {
            return;
        };
        for entry in entries.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .map(TopicId);
            if let Some(id) = id.filter(|id| !topics.contains(id)) {
                self.remove_directory(id);
            }
        }
    }

    fn finish(&mut self, partitions: &[Arc<Partition>]) {
        self.try_lay();
        for partition in partitions {
            let active = partition.segments().last().cloned();
            if let Some(active) = active.filter(|active| active.has_new_entries()) {
                active.save_index(self.files.disk.as_ref());
            }
        }
        self.spares.remove_all(&self.files);
    }
}
