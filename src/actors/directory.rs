//! What every thread may know of the topics: a map that only the BrokerActor changes.
//!
//! Sessions look a topic up here once and keep what they found, so the BrokerActor is on no record's way.

mod hearing;
pub mod subscribers;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use actix::{Addr, prelude::SendError};
use callboard_core::topic::TopicConfig;
use callboard_protocol::{
    Epoch, GroupName, Offset, PartitionId, TopicName, name::Pattern, server::MessagePrefix,
};

use self::{hearing::Hearing, subscribers::Subscribers};
use super::{
    append::Append,
    group::handle::{GroupPart, GroupRef},
    partition::{PartitionActor, Sent},
    waiting::Waits,
};
use crate::store::{Log, PartitionKey, TopicId};

/// The topics by name.
#[derive(Default)]
pub struct Directory {
    topics: RwLock<Topics>,
    gone_records: AtomicU64,
    gone_bytes: AtomicU64,
}

impl Directory {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.view().by_name.get(name).cloned()
    }

    /// Every topic, ordered by name; the broker's own come last.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let topics = self.view();
        let is_internal = |name: &TopicName| name.is_internal();
        let ordinary = topics.ordered.iter().filter(|(name, _)| !is_internal(name));
        let internal = topics.ordered.iter().filter(|(name, _)| is_internal(name));
        ordinary.chain(internal).map(|(_, topic)| topic.clone()).collect()
    }

    /// The topics that `pattern` matches, ordered by name. Looks only at names that begin as the pattern does: when a
    /// thousand sessions come back at once, each with a pattern, nobody waits until all topics were compared with all.
    pub fn matching(&self, pattern: &Pattern) -> Vec<Arc<Topic>> {
        let topics = self.view();
        let prefix = pattern.literal_prefix();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let candidates = topics.ordered.range::<str, _>(from);
        candidates
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .filter(|(name, _)| pattern.matches(name))
            .map(|(_, topic)| topic.clone())
            .collect()
    }

    /// How many topics there are.
    pub fn count(&self) -> usize {
        self.view().by_name.len()
    }

    fn view(&self) -> RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, topic: Arc<Topic>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.ordered.insert(topic.name.clone(), topic.clone());
        topics.by_name.insert(topic.name.clone(), topic);
    }

    pub(super) fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.ordered.remove(name);
        let topic = topics.by_name.remove(name)?;
        drop(topics);
        for part in topic.partitions().iter() {
            let (records, bytes) = part.meter.totals();
            self.gone_records.fetch_add(records, Ordering::Relaxed);
            self.gone_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Some(topic)
    }

    /// Records and bytes that came into topics that were deleted since, so that sums never fall.
    pub fn gone_totals(&self) -> (u64, u64) {
        (
            self.gone_records.load(Ordering::Relaxed),
            self.gone_bytes.load(Ordering::Relaxed),
        )
    }
}

/// The same topics twice: found by their names, and in the order of these.
#[derive(Default)]
struct Topics {
    by_name: HashMap<TopicName, Arc<Topic>>,
    ordered: BTreeMap<TopicName, Arc<Topic>>,
}

/// Where a name stands in lists of topics: the broker's own behind those that people made.
pub fn list_order(name: &str) -> (bool, &str) {
    (name.starts_with('$'), name)
}

/// One topic as every thread sees it.
pub struct Topic {
    /// The store's number of it.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its epoch.
    pub epoch: Epoch,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Arc<[Arc<PartitionRef>]>>,
    groups: RwLock<BTreeMap<GroupName, Arc<GroupRef>>>,
    /// Who subscribes to it by its name.
    pub subscribers: Subscribers,
    turn: AtomicU32,
    version: AtomicU32,
    deleted: AtomicBool,
    /// Held while a partition counts what the topic keeps and admits what fits.
    room: Mutex<()>,
}

impl Topic {
    pub(super) fn new(
        id: TopicId,
        name: TopicName,
        epoch: Epoch,
        config: TopicConfig,
        partitions: Vec<Arc<PartitionRef>>,
    ) -> Self {
        Self {
            id,
            name,
            epoch,
            config: RwLock::new(Arc::new(config)),
            partitions: RwLock::new(partitions.into()),
            groups: RwLock::default(),
            subscribers: Subscribers::default(),
            turn: AtomicU32::new(0),
            version: AtomicU32::new(0),
            deleted: AtomicBool::new(false),
            room: Mutex::new(()),
        }
    }

    /// Its configuration now.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_config(&self, config: TopicConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Its partitions now, by number.
    pub fn partitions(&self) -> Arc<[Arc<PartitionRef>]> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_partitions(&self, partitions: Vec<Arc<PartitionRef>>) {
        *self.partitions.write().unwrap_or_else(PoisonError::into_inner) = partitions.into();
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Its groups, by name.
    pub fn groups(&self) -> Vec<Arc<GroupRef>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().cloned().collect()
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<Arc<GroupRef>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(name).cloned()
    }

    pub(super) fn add_group(&self, group: Arc<GroupRef>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(group.name.clone(), group);
        drop(groups);
        self.wire_groups();
    }

    pub(super) fn remove_group(&self, name: &str) -> Option<Arc<GroupRef>> {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let group = groups.remove(name);
        drop(groups);
        self.wire_groups();
        group
    }

    /// Lets each partition know who works on its records.
    pub(super) fn wire_groups(&self) {
        let (groups, parts) = (self.groups(), self.partitions());
        let shares: Vec<_> = groups
            .iter()
            .map(|group| group.grow(parts.len() as u32))
            .collect();
        for (index, part) in parts.iter().enumerate() {
            part.set_groups(shares.iter().map(|share| share[index].clone()).collect());
        }
    }

    /// Changes with the configuration and the partitions; whoever keeps a copy of them looks at this.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Counts one up for each frame that leaves the choice of its partition to the broker.
    pub fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether it was deleted since it was looked up.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(super) fn set_deleted(&self) {
        self.subscribers.close();
        self.deleted.store(true, Ordering::Release);
    }

    /// Keeps the topic's other partitions from admitting records; taken only where the topic has a
    /// `records_max`, and only as long as it takes to count.
    pub(super) fn lock_room(&self) -> MutexGuard<'_, ()> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One partition as every thread sees it: where to send, and where to read.
pub struct PartitionRef {
    /// The store's name of it.
    pub key: PartitionKey,
    /// Its number.
    pub id: PartitionId,
    /// Its topic's name.
    pub topic: TopicName,
    /// The begin of its messages.
    pub prefix: MessagePrefix,
    /// What came in lately.
    pub meter: Meter,
    /// When the newest record came.
    pub hearing: Hearing,
    /// What publishers wait for here.
    pub waits: Waits,
    /// What each of the topic's groups has of it.
    groups: RwLock<Arc<[Arc<GroupPart>]>>,
    /// The offset after the newest admitted record; kept up only where the topic has a `records_max`.
    given: AtomicU64,
    /// The schedule log of its topic, from the first record on that is scheduled in it.
    schedules: OnceLock<TopicId>,
    /// Records that wait there until they are due.
    scheduled: AtomicU64,
    addr: RwLock<Option<Addr<PartitionActor>>>,
    log: RwLock<Option<Arc<dyn Log>>>,
}

impl PartitionRef {
    pub(super) fn new(key: PartitionKey, topic: &TopicName) -> Self {
        Self {
            key,
            id: key.partition,
            topic: topic.clone(),
            prefix: MessagePrefix::new(topic, key.partition),
            meter: Meter::default(),
            hearing: Hearing::default(),
            waits: Waits::default(),
            groups: RwLock::new(Arc::new([])),
            given: AtomicU64::new(0),
            schedules: OnceLock::new(),
            scheduled: AtomicU64::new(0),
            addr: RwLock::new(None),
            log: RwLock::new(None),
        }
    }

    /// How far each group of the topic is in it.
    pub fn groups(&self) -> Arc<[Arc<GroupPart>]> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_groups(&self, groups: Arc<[Arc<GroupPart>]>) {
        *self.groups.write().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    /// Its actor; a topic is listed only when every partition has one.
    pub fn addr(&self) -> Option<Addr<PartitionActor>> {
        self.addr.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands records to its actor. Every caller uses the one address that is kept here: each clone of an
    /// address may send one message more than the mailbox holds, so clones would make it endless.
    ///
    /// Gives them back if its mailbox is full. Without an actor they are dropped, and their receipt answers.
    pub(super) fn try_send(&self, append: Append) -> Option<Append> {
        let addr = self.addr.read().unwrap_or_else(PoisonError::into_inner);
        match addr.as_ref()?.try_send(append) {
            Err(SendError::Full(append)) => Some(append),
            Ok(()) | Err(SendError::Closed(_)) => None,
        }
    }

    pub(super) fn set_addr(&self, addr: Addr<PartitionActor>) {
        *self.addr.write().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// Its records; a topic is listed only when every partition has been opened.
    pub fn log(&self) -> Option<Arc<dyn Log>> {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_log(&self, log: Arc<dyn Log>) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
    }

    /// The offset after its newest visible record.
    pub fn next_offset(&self) -> Offset {
        self.log().map_or(Offset::ZERO, |log| log.next_offset())
    }

    /// Says that a subscription was sent these records, if anybody waits to hear it.
    pub fn tell_sent(&self, from: Offset, next: Offset) {
        if self.waits.delivered() > 0
            && from < next
            && let Some(addr) = self.addr()
        {
            addr.do_send(Sent { from, next });
        }
    }

    /// The store's number of the schedule log, if there is one for this partition.
    pub fn schedules(&self) -> Option<TopicId> {
        self.schedules.get().copied()
    }

    pub(super) fn set_schedules(&self, log: TopicId) {
        // It stays the same as long as the topic lives.
        let _ = self.schedules.set(log);
    }

    /// How many records wait until they are due.
    pub fn scheduled(&self) -> u64 {
        self.scheduled.load(Ordering::Relaxed)
    }

    pub(super) fn set_scheduled(&self, count: u64) {
        self.scheduled.store(count, Ordering::Relaxed);
    }

    /// Says where the next record goes, before it can be seen.
    pub(super) fn set_given(&self, next: Offset) {
        self.given.store(next.0, Ordering::Release);
    }

    /// Records that count against the topic's `records_max`, those included that are not visible yet: what the
    /// group that has most left to do has not finished, or what is kept while there is no group.
    pub(super) fn kept(&self) -> u64 {
        let Some(log) = self.log() else { return 0 };
        let next = self.given.load(Ordering::Acquire).max(log.next_offset().0);
        let stored = next.saturating_sub(log.first_offset().0);
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let unfinished = groups.iter().map(|group| group.unfinished(Offset(next)));
        // What retention has removed nobody will finish.
        unfinished
            .max()
            .map_or(stored, |unfinished| unfinished.min(stored))
    }
}

const METER_SECONDS: usize = 8;
/// Full seconds over which a rate is taken.
const RATE_SECONDS: u64 = 5;

/// Counts what comes in by the second. Written by one thread, read by all, and idle when nothing comes.
#[derive(Default)]
pub struct Meter {
    seconds: [AtomicU64; METER_SECONDS],
    records: [AtomicU64; METER_SECONDS],
    bytes: [AtomicU64; METER_SECONDS],
    records_total: AtomicU64,
    bytes_total: AtomicU64,
}

/// What a [`Meter`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Rates {
    /// Records a second, over the last full seconds.
    pub records_in_per_s: f64,
    /// Bytes a second, as kept.
    pub bytes_in_per_s: f64,
}

impl Meter {
    /// Counts a batch that came at `now_ms`.
    pub fn count(&self, now_ms: u64, records: u64, bytes: u64) {
        let second = now_ms / 1000;
        let slot = second as usize % METER_SECONDS;
        if self.seconds[slot].swap(second, Ordering::Relaxed) != second {
            self.records[slot].store(0, Ordering::Relaxed);
            self.bytes[slot].store(0, Ordering::Relaxed);
        }
        self.records[slot].fetch_add(records, Ordering::Relaxed);
        self.bytes[slot].fetch_add(bytes, Ordering::Relaxed);
        self.records_total.fetch_add(records, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The rates at `now_ms`.
    pub fn rates(&self, now_ms: u64) -> Rates {
        let second = now_ms / 1000;
        let (mut records, mut bytes) = (0, 0);
        for slot in 0..METER_SECONDS {
            let age = second.saturating_sub(self.seconds[slot].load(Ordering::Relaxed));
            if (1..=RATE_SECONDS).contains(&age) {
                records += self.records[slot].load(Ordering::Relaxed);
                bytes += self.bytes[slot].load(Ordering::Relaxed);
            }
        }
        Rates {
            records_in_per_s: records as f64 / RATE_SECONDS as f64,
            bytes_in_per_s: bytes as f64 / RATE_SECONDS as f64,
        }
    }

    /// Records and bytes since this process started.
    pub fn totals(&self) -> (u64, u64) {
        (
            self.records_total.load(Ordering::Relaxed),
            self.bytes_total.load(Ordering::Relaxed),
        )
    }
}
