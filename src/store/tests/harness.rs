//! A partition's owner, as the actors would be: submits, waits for commits, reads back.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use bytes::Bytes;
use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Epoch, Offset, PartitionId, Timestamp, TopicName};

use crate::store::{
    CommitEvent, Durability, GapReason, Incarnation, Log, OpenPartition, OpenedPartition, PartitionKey,
    Store, StoreError, StoredTopic, Submission, Submitted, TopicId,
    journal::{Disk, JournalOptions, JournalStore, OsDisk},
};

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Small sizes, so that little data goes through everything.
pub const SMALL: JournalOptions = JournalOptions {
    journal_bytes: 16 * 1024,
    segment_bytes: 8 * 1024,
    cache_bytes: 4 * 1024,
    unlaid_bytes_max: 1 << 20,
};

/// Everything in one journal file, nothing laid down before the end.
pub const ONE_JOURNAL: JournalOptions = JournalOptions {
    journal_bytes: 1 << 20,
    segment_bytes: 1 << 20,
    cache_bytes: 0,
    unlaid_bytes_max: 1 << 26,
};

pub fn open(directory: &Path, options: JournalOptions) -> Arc<dyn Store> {
    open_on(directory, options, Arc::new(OsDisk))
}

pub fn open_on(directory: &Path, options: JournalOptions, disk: Arc<dyn Disk>) -> Arc<dyn Store> {
    Arc::new(JournalStore::open_on(directory, options, disk).unwrap())
}

pub fn shut_down(store: Arc<dyn Store>) {
    store.shutdown().blocking_recv().unwrap().unwrap();
}

pub fn topic(name: &str) -> StoredTopic {
    StoredTopic {
        id: TopicId(0),
        name: TopicName::parse(name).unwrap(),
        epoch: Epoch("e1".to_owned()),
        config: "{}".to_owned(),
        partitions: 4,
        memory_only: false,
    }
}

pub fn create(store: &dyn Store, name: &str) -> TopicId {
    store.create_topic(topic(name)).blocking_recv().unwrap().unwrap()
}

pub fn key(topic: TopicId, partition: u32) -> PartitionKey {
    PartitionKey {
        topic,
        partition: PartitionId(partition),
    }
}

/// A batch of records with these payloads.
pub fn batch(base: Offset, timestamp: u64, payloads: &[&str]) -> Batch {
    let mut records = Vec::new();
    for payload in payloads {
        let parts = RecordParts {
            payload: payload.as_bytes(),
            ..RecordParts::default()
        };
        parts.encode(&mut records);
    }
    Batch {
        base_offset: base,
        timestamp: Timestamp(timestamp),
        count: payloads.len() as u32,
        records: Bytes::from(records),
    }
}

/// The owner of a partition.
pub struct Owner {
    pub store: Arc<dyn Store>,
    pub key: PartitionKey,
    pub incarnation: Incarnation,
    pub opened: OpenedPartition,
    pub next: Offset,
    pub events: Receiver<CommitEvent>,
}

pub fn try_open(
    store: &Arc<dyn Store>,
    key: PartitionKey,
    incarnation: u64,
    ids_since: u64,
) -> Result<Owner, StoreError> {
    let (sender, events) = channel();
    let open = OpenPartition {
        key,
        incarnation: Incarnation(incarnation),
        ids_since: Timestamp(ids_since),
        commits: Box::new(move |event| drop(sender.send(event))),
    };
    let opened = store.open(open).blocking_recv().unwrap()?;
    Ok(Owner {
        store: store.clone(),
        key,
        incarnation: Incarnation(incarnation),
        next: opened.next_offset,
        opened,
        events,
    })
}

impl Owner {
    pub fn open(store: &Arc<dyn Store>, key: PartitionKey, incarnation: u64) -> Self {
        try_open(store, key, incarnation, 0).unwrap()
    }

    pub fn log(&self) -> &dyn Log {
        self.opened.log.as_ref()
    }

    /// A submission of this owner.
    pub fn submission(&self, batch: Batch, durability: Durability) -> Submission {
        Submission {
            key: self.key,
            incarnation: self.incarnation,
            batch: Arc::new(batch),
            durability,
        }
    }

    /// Submits without waiting.
    pub fn submit(&mut self, batch: Batch, durability: Durability) -> Result<Submitted, StoreError> {
        let next = batch.next_offset();
        let submitted = self.store.submit(self.submission(batch, durability))?;
        self.next = next;
        Ok(submitted)
    }

    /// Waits until everything that was submitted is committed, or something is refused.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        while self.log().next_offset() < self.next {
            match self.events.recv_timeout(PATIENCE).expect("a commit event comes") {
                CommitEvent::Committed {
                    incarnation,
                    next_offset,
                } => {
                    assert_eq!(incarnation, self.incarnation);
                    assert!(
                        self.log().next_offset() >= next_offset,
                        "a commit is readable when it is told"
                    );
                }
                CommitEvent::Failed {
                    from_offset, error, ..
                } => {
                    self.next = from_offset;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Publishes one batch and waits.
    pub fn publish(&mut self, timestamp: u64, payloads: &[&str]) -> Result<(), StoreError> {
        self.submit(batch(self.next, timestamp, payloads), Durability::Fsync)?;
        self.settle()
    }

    /// Everything that can be read: payloads in order, `None` for a hurt record.
    pub fn read_all(&self) -> Vec<Option<String>> {
        read_all(self.log(), 4096)
    }
}

/// Waits until `condition` holds; each look asks the store for retention, which has nothing to announce.
pub fn wait_for(store: &dyn Store, now: u64, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it does not come");
        store.retain(Timestamp(now));
        // Asked without a pause, more would wait for the store's thread than it can do.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everything that can be read from a log: payloads in order, `None` for a hurt record.
pub fn read_all(log: &dyn Log, bytes_max: usize) -> Vec<Option<String>> {
    let mut all = Vec::new();
    let mut from = log.first_offset();
    while from < log.next_offset() {
        let page = log.read(from, bytes_max).unwrap();
        assert!(page.next_offset > from, "a read before the end goes on");
        let mut expected = from;
        if let Some(gap) = page.gap {
            assert_eq!((gap.from, gap.reason), (from, GapReason::Corrupt));
            all.extend((0..gap.next.since(gap.from)).map(|_| None));
            expected = gap.next;
        }
        for batch in &page.batches {
            assert_eq!(batch.base_offset, expected);
            let records: Vec<_> = batch.iter().collect();
            assert_eq!(records.len(), batch.count as usize);
            all.extend(
                records
                    .iter()
                    .map(|(_, parts)| Some(String::from_utf8(parts.payload.to_vec()).unwrap())),
            );
            expected = batch.next_offset();
        }
        assert_eq!(page.next_offset, expected);
        from = page.next_offset;
    }
    all
}

pub fn texts(payloads: &[&str]) -> Vec<Option<String>> {
    payloads
        .iter()
        .map(|payload| Some((*payload).to_owned()))
        .collect()
}
