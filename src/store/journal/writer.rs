//! The writer thread: takes everything that waits, writes it at once, flushes once, tells everybody.
//!
//! The only code that writes to the journal, and the only one that decides whether a submission is
//! committed. A *group* is what was waiting when the thread looked; its size adapts to the device by
//! itself, because while one group is flushed the next one gathers.

use std::{mem, sync::Arc};

use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{
    files::Files,
    format::{EntryHeader, EntryKind, Part},
    journal_file::{JournalFile, Spares},
    layer::{Command, LayerHandle, Sealed},
    partition::Partition,
    queue::Queue,
};
use crate::store::{
    CommitEvent, CommitSink, Durability, Incarnation, Log as _, PartitionKey, StoreError, Submission,
    TopicId, no_set,
};

/// A group is written in parts of about this size.
const CHUNK_BYTES: usize = 1 << 20;

/// A partition's part of a group keeps memory for so many batches when it is empty.
const IDLE_GROUP_MAX: usize = 64;

/// What is asked of the writer thread.
pub enum Request {
    /// Keep a batch.
    Submit(Arc<Partition>, Submission),
    /// Keep all of these batches or none: at most one a partition.
    Together(Vec<(Arc<Partition>, Submission)>),
    /// Settle what came before and let a new incarnation submit.
    Open(Opening),
    /// Close the journal's file, so that it is laid down.
    Rotate,
    /// Settle everything, flush, close, and call.
    Finish(Box<dyn FnOnce() + Send>),
    /// Let go of a deleted topic's partitions.
    Forget(TopicId, Vec<Arc<Partition>>),
    /// Stop as if the process had died.
    Abandon,
}

/// A new incarnation of a partition.
pub struct Opening {
    /// Which partition.
    pub partition: Arc<Partition>,
    /// Its number.
    pub incarnation: Incarnation,
    /// Where its commits are told.
    pub commits: CommitSink,
    /// Called when everything before is settled, or with why not.
    pub then: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// What the writer thread keeps of a partition.
#[derive(Default)]
pub struct Slot {
    /// The offset that the next submission must begin with.
    pub next_offset: Offset,
    incarnation: Incarnation,
    commits: Option<CommitSink>,
    /// The batches of this partition in the group.
    group: Vec<(Arc<Batch>, Durability)>,
    state: SlotState,
    /// The number of the last journal file that has something of it.
    journal: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotState {
    #[default]
    Accepting,
    /// Something was refused and the submitter was told; what it sent before it knew is dropped until
    /// a batch begins at the next offset.
    Refusing,
}

impl Slot {
    fn tell(&self, event: CommitEvent) {
        if let Some(commits) = &self.commits {
            commits(event);
        }
    }

    fn tell_committed(&self, next_offset: Offset) {
        self.tell(CommitEvent::Committed {
            incarnation: self.incarnation,
            next_offset,
        });
    }

    /// Refuses everything from `committed` on.
    fn refuse(&mut self, committed: Offset, error: &StoreError) {
        self.next_offset = committed;
        self.state = SlotState::Refusing;
        self.tell(CommitEvent::Failed {
            incarnation: self.incarnation,
            from_offset: committed,
            error: error.clone(),
        });
    }
}

/// The writer thread's state.
pub struct Writer {
    files: Arc<Files>,
    layer: LayerHandle,
    spares: Arc<Spares>,
    file: Option<JournalFile>,
    next_number: u64,
    next_sequence: u64,
    /// The group's bytes that are not written yet.
    buffer: Vec<u8>,
    /// The partitions in the group.
    touched: Vec<Arc<Partition>>,
    /// Whether one of the group waits for a flush.
    wanted: Durability,
    /// Why the group is refused.
    failure: Option<StoreError>,
    stage: Stage,
    device: Device,
    /// The partitions that have something in the journal's file.
    dirty: Vec<Arc<Partition>>,
    /// What was refused and may nevertheless be found in an earlier file: said in the next one.
    cuts: Vec<(PartitionKey, Offset)>,
}

/// How far the group is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of it needed the file yet.
    Idle,
    /// The file is there, and the group's entries go into it.
    Writing,
}

/// What the disk did with the last group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Accepting,
    Refusing,
}

/// What a refused group leaves in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remains {
    Nothing,
    Something,
}

/// Whether the thread goes on.
enum Next {
    Continue,
    Stop,
}

impl Writer {
    /// A writer whose first file has `number` and whose first entry has `sequence`; `cuts` is what earlier
    /// files hold and does not count.
    pub fn new(
        files: Arc<Files>,
        layer: LayerHandle,
        spares: Arc<Spares>,
        (number, sequence): (u64, u64),
        cuts: Vec<(PartitionKey, Offset)>,
    ) -> Self {
        Self {
            files,
            layer,
            spares,
            file: None,
            next_number: number,
            next_sequence: sequence,
            buffer: Vec::new(),
            touched: Vec::new(),
            wanted: Durability::Memory,
            failure: None,
            stage: Stage::Idle,
            device: Device::Accepting,
            dirty: Vec::new(),
            cuts,
        }
    }

    /// Serves the queue until it is finished or abandoned.
    pub fn run(mut self, queue: &Queue<Request>) {
        let mut requests = Vec::new();
        loop {
            queue.take(&mut requests);
            for request in requests.drain(..) {
                if let Next::Stop = self.serve(request) {
                    return;
                }
            }
            self.finish_group();
            // Also what was refused before it came into a group.
            self.files.say_told();
            shrink(&mut requests);
        }
    }

    fn serve(&mut self, request: Request) -> Next {
        let request = match request {
            Request::Submit(partition, submission) => {
                self.admit(&partition, submission);
                return Next::Continue;
            }
            Request::Together(set) => {
                self.admit_set(&set);
                return Next::Continue;
            }
            other => other,
        };
        self.finish_group();
        match request {
            Request::Open(opening) => open(opening),
            Request::Rotate => self.seal(),
            Request::Forget(topic, partitions) => self.layer.send(Command::Remove(topic, partitions)),
            Request::Finish(then) => {
                if let Some(Err(error)) = self.file.as_ref().map(JournalFile::flush) {
                    log::error!("the last flush failed: {error}");
                }
                self.seal();
                then();
                return Next::Stop;
            }
            Request::Abandon => return Next::Stop,
            Request::Submit(..) | Request::Together(_) => {}
        }
        Next::Continue
    }

    /// Takes a submission into the group.
    fn admit(&mut self, partition: &Arc<Partition>, submission: Submission) {
        let mut slot = partition.slot();
        // A former incarnation was told nothing, but nobody listens there any more.
        if submission.incarnation != slot.incarnation {
            return;
        }
        if let Err(error) = check(partition, &slot, &submission.batch) {
            drop(slot);
            self.refuse_now(partition, &error);
            return;
        }
        self.wanted = self.wanted.max(submission.durability);
        self.take(
            partition,
            &mut slot,
            (submission.batch, submission.durability),
            None,
        );
    }

    /// Takes all of a set into the group, or nothing of it.
    fn admit_set(&mut self, set: &[(Arc<Partition>, Submission)]) {
        let refused = set.iter().find_map(|(partition, submission)| {
            let slot = partition.slot();
            if submission.incarnation != slot.incarnation {
                return Some(StoreError::Closed);
            }
            check(partition, &slot, &submission.batch).err()
        });
        if let Some(error) = refused {
            self.refuse_set(set, &error);
            return;
        }
        // Nothing of it is committed before all of it is as durable as the most durable part.
        let wanted = set.iter().map(|(_, submission)| submission.durability).max();
        let wanted = wanted.unwrap_or(Durability::Memory);
        self.wanted = self.wanted.max(wanted);
        let of = set.len() as u16;
        for (index, (partition, submission)) in set.iter().enumerate() {
            let index = index as u16;
            let part = (of > 1).then_some(Part { index, of });
            let mut slot = partition.slot();
            self.take(partition, &mut slot, (submission.batch.clone(), wanted), part);
        }
    }

    /// Refuses a set of which one can not be taken, and tells the partitions that still wait for a word.
    fn refuse_set(&mut self, set: &[(Arc<Partition>, Submission)], error: &StoreError) {
        for (partition, submission) in set {
            let mut slot = partition.slot();
            if submission.incarnation != slot.incarnation {
                continue;
            }
            if submission.batch.base_offset == slot.next_offset {
                // It has heard of an earlier refusal and goes on from there, so it is told of this one, too.
                slot.state = SlotState::Accepting;
            }
            drop(slot);
            match error {
                // Only who is closed hears that, because it means that the topic is gone.
                StoreError::Closed if !partition.is_closed() => {
                    self.refuse_now(partition, &no_set("one of them is closed".to_owned()));
                }
                error => self.refuse_now(partition, error),
            }
        }
    }

    /// Tells a partition that what it submitted last can not be taken, unless it was told of something
    /// that comes before it.
    fn refuse_now(&mut self, partition: &Arc<Partition>, error: &StoreError) {
        // What is in the group is settled first, so that the refusal names the right offset.
        if !partition.slot().group.is_empty() {
            self.finish_group();
        }
        let mut slot = partition.slot();
        if slot.state == SlotState::Accepting {
            slot.refuse(partition.next_offset(), error);
        }
    }

    /// Takes a batch that was checked into the group.
    fn take(
        &mut self,
        partition: &Arc<Partition>,
        slot: &mut Slot,
        (batch, durability): (Arc<Batch>, Durability),
        part: Option<Part>,
    ) {
        slot.state = SlotState::Accepting;
        if slot.group.is_empty() {
            self.touched.push(partition.clone());
        }
        slot.next_offset = batch.next_offset();
        self.encode(partition, slot, &batch, part);
        slot.group.push((batch, durability));
    }

    fn encode(&mut self, partition: &Arc<Partition>, slot: &mut Slot, batch: &Batch, part: Option<Part>) {
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = self.prepare() {
            self.failure = Some(error);
            return;
        }
        let Some(file) = &self.file else { return };
        if slot.journal != Some(file.number) {
            slot.journal = Some(file.number);
            self.dirty.push(partition.clone());
        }
        let header = EntryHeader {
            id: file.id,
            sequence: self.next_sequence,
            key: partition.key,
            kind: part.map_or(EntryKind::Records, EntryKind::Part),
            base_offset: batch.base_offset,
            timestamp: batch.timestamp,
            count: batch.count,
            body_bytes: batch.records.len() as u32,
        };
        self.next_sequence += 1;
        header.encode_entry(&batch.records, &mut self.buffer);
        if self.buffer.len() >= CHUNK_BYTES {
            self.write();
        }
    }

    /// Makes sure, at the start of a group, that there is a file with room and memory for what it takes.
    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.stage == Stage::Writing {
            return Ok(());
        }
        if self
            .file
            .as_ref()
            .is_some_and(|file| file.position >= self.files.options.journal_bytes)
        {
            self.seal();
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                self.layer.wait_for_room()?;
                let place = (self.next_number, self.next_sequence);
                let file = JournalFile::create(&self.files, &self.spares, place)?;
                self.next_number += 1;
                file
            }
        };
        for (key, offset) in &self.cuts {
            let header = EntryHeader {
                id: file.id,
                sequence: self.next_sequence,
                key: *key,
                kind: EntryKind::Cut,
                base_offset: *offset,
                timestamp: Timestamp(0),
                count: 0,
                body_bytes: 0,
            };
            self.next_sequence += 1;
            header.encode_entry(&[], &mut self.buffer);
        }
        self.file = Some(file);
        self.stage = Stage::Writing;
        Ok(())
    }

    fn write(&mut self) {
        if let Some(file) = &mut self.file
            && !self.buffer.is_empty()
            && self.failure.is_none()
            && let Err(error) = file.append(&self.buffer)
        {
            self.failure = Some(error);
        }
        self.buffer.clear();
    }

    /// Writes and flushes the group, and tells everybody in it.
    fn finish_group(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        self.write();
        let mut touched = mem::take(&mut self.touched);
        let wanted = mem::replace(&mut self.wanted, Durability::Memory);
        let stage = mem::replace(&mut self.stage, Stage::Idle);
        if let Some(error) = self.failure.take() {
            let is_clean =
                stage == Stage::Idle || self.file.as_mut().is_some_and(|file| file.cut_group().is_ok());
            let remains = if is_clean {
                Remains::Nothing
            } else {
                Remains::Something
            };
            self.refuse(&touched, &error, remains);
        } else {
            self.commit(&touched, wanted);
        }
        self.files.say_told();
        touched.clear();
        shrink(&mut touched);
        shrink(&mut self.buffer);
        self.touched = touched;
    }

    /// Commits a group that is written.
    fn commit(&mut self, touched: &[Arc<Partition>], wanted: Durability) {
        let Some(file) = &mut self.file else { return };
        if wanted == Durability::Fsync {
            for partition in touched {
                settle(partition, Durability::Os);
            }
            self.files.say_told();
            if let Err(error) = file.flush() {
                // Nobody knows now what of the file is on the device, so it is not gone on with. What it
                // holds that is committed is in memory, and laid down from there.
                self.refuse(touched, &error, Remains::Something);
                return;
            }
        }
        file.group_start = file.position;
        self.cuts.clear();
        self.device = Device::Accepting;
        for partition in touched {
            settle(partition, Durability::Fsync);
        }
    }

    /// Refuses what of the group is not committed; `remains` says whether some of it may be found in
    /// the file nevertheless.
    fn refuse(&mut self, touched: &[Arc<Partition>], error: &StoreError, remains: Remains) {
        // Said once, and not for every group of a disk that stays full.
        if mem::replace(&mut self.device, Device::Refusing) == Device::Accepting {
            log::error!("records are refused until the disk takes them again: {error}");
        }
        if matches!(error, StoreError::Io { no_space: true, .. }) {
            self.spares.remove_all(&self.files);
        }
        for partition in touched {
            let mut slot = partition.slot();
            let committed = partition.next_offset();
            if remains == Remains::Something {
                // Also if all of it is committed: an older cut would cut that.
                self.cuts.retain(|(key, _)| *key != partition.key);
            }
            if mem::take(&mut slot.group).is_empty() {
                continue;
            }
            if remains == Remains::Something {
                self.cuts.push((partition.key, committed));
            }
            slot.refuse(committed, error);
        }
        if remains == Remains::Something {
            self.seal();
        }
    }

    /// Closes the file and has it laid down.
    fn seal(&mut self) {
        let Some(file) = self.file.take() else { return };
        self.layer.send(Command::Lay(Sealed {
            numbers: vec![file.number],
            partitions: mem::take(&mut self.dirty),
        }));
    }
}

/// Commits the group's batches of a partition in order, as far as `reached` is enough for them.
fn settle(partition: &Partition, reached: Durability) {
    let mut slot = partition.slot();
    let ready = slot
        .group
        .iter()
        .take_while(|(_, wanted)| *wanted <= reached)
        .count();
    if ready == 0 {
        return;
    }
    let next = partition.commit_all(slot.group[..ready].iter().map(|(batch, _)| batch));
    slot.group.drain(..ready);
    if slot.group.is_empty() && slot.group.capacity() > IDLE_GROUP_MAX {
        slot.group = Vec::new();
    }
    slot.tell_committed(next);
}

fn open(opening: Opening) {
    let Opening {
        partition,
        incarnation,
        commits,
        then,
    } = opening;
    let mut slot = partition.slot();
    if partition.is_closed() || incarnation < slot.incarnation {
        drop(slot);
        then(Err(StoreError::Closed));
        return;
    }
    slot.incarnation = incarnation;
    slot.commits = Some(commits);
    slot.state = SlotState::Accepting;
    slot.next_offset = partition.next_offset();
    partition.set_incarnation(incarnation.0);
    drop(slot);
    then(Ok(()));
}

/// Whether the batch can be the partition's next one; if not, why.
fn check(partition: &Partition, slot: &Slot, batch: &Batch) -> Result<(), StoreError> {
    if partition.is_closed() {
        return Err(StoreError::Closed);
    }
    let is_unfit =
        batch.count == 0 || batch.records.is_empty() || batch.records.len() > super::format::BODY_BYTES_MAX;
    if batch.base_offset == slot.next_offset && !is_unfit {
        return Ok(());
    }
    Err(StoreError::Io {
        operation: format!("append {} records at offset {}", batch.count, batch.base_offset),
        reason: format!("the next offset is {}", slot.next_offset),
        no_space: false,
    })
}

/// Gives memory back that only a busy moment needed.
fn shrink<T>(items: &mut Vec<T>) {
    const KEPT_BYTES: usize = 2 * CHUNK_BYTES;
    if items.capacity() * size_of::<T>().max(1) > KEPT_BYTES {
        items.shrink_to(items.len().max(KEPT_BYTES / 2 / size_of::<T>().max(1)));
    }
}
