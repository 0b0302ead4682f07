//! What grows with what is kept must not be done again and again: counted in looks and in bytes read, not in time.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, Timestamp};

use super::harness::{Owner, create, key, open_on, shut_down, topic, try_open, wait_for};
use crate::store::{
    Durability, Retention, Store,
    journal::{Disk, DiskFile, JournalOptions, JournalStore, OpenMode, OsDisk},
};

const HOUR_MS: u64 = 3_600_000;

/// A disk that counts what is read.
struct CountingDisk(Arc<AtomicU64>);

struct CountingFile(Box<dyn DiskFile>, Arc<AtomicU64>);

impl Disk for CountingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountingFile(OsDisk.open(path, mode)?, self.0.clone())))
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_all(path)
    }
}

impl DiskFile for CountingFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.0.write_at(bytes, position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.0.read_at(buffer, position)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
}

#[test]
fn quiet_partitions_are_not_looked_at_until_something_may_go() {
    const PARTITIONS: u32 = 12;
    let directory = tempfile::tempdir().unwrap();
    let journal = Arc::new(JournalStore::open(directory.path(), JournalOptions::default()).unwrap());
    let store: Arc<dyn Store> = journal.clone();
    let mut stored = topic("quiet");
    stored.partitions = PARTITIONS;
    let id = store.create_topic(stored).blocking_recv().unwrap().unwrap();
    let mut owners: Vec<Owner> = (0..PARTITIONS)
        .map(|number| Owner::open(&store, key(id, number), 1))
        .collect();
    for owner in &mut owners {
        owner.opened.log.set_retention(Retention {
            age_ms: Some(HOUR_MS),
            ..Retention::default()
        });
        owner.publish(1_000, &["1"]).unwrap();
    }
    let at_rest = |now| journal.partitions_at_rest(Timestamp(now));
    assert_eq!(at_rest(2_000), 0, "nobody has looked yet");
    wait_for(store.as_ref(), 2_000, || at_rest(2_000) == PARTITIONS as usize);
    owners[3].publish(3_000, &["2"]).unwrap();
    assert_eq!(
        at_rest(4_000),
        PARTITIONS as usize - 1,
        "the one with a new record"
    );
    owners[4].opened.log.set_retention(Retention::default());
    assert_eq!(
        at_rest(4_000),
        PARTITIONS as usize - 2,
        "and the one that keeps otherwise"
    );
    assert_eq!(
        at_rest(2_000 + HOUR_MS),
        0,
        "by then the first records are too old"
    );
    drop(owners);
}

/// A batch of one record of `payload_bytes`.
fn large(base: Offset, timestamp: u64, payload_bytes: usize, message_id: Option<&str>) -> Batch {
    let mut records = Vec::new();
    RecordParts {
        payload: "7".repeat(payload_bytes).as_bytes(),
        message_id,
        ..RecordParts::default()
    }
    .encode(&mut records);
    Batch {
        base_offset: base,
        timestamp: Timestamp(timestamp),
        count: 1,
        records: Bytes::from(records),
    }
}

#[test]
fn start_reads_no_segments_without_message_ids() {
    const RECORDS: u64 = 64;
    const RECORD_BYTES: usize = 64 << 10;
    const WITH_ID: u64 = 20;
    let options = JournalOptions {
        journal_bytes: 1 << 20,
        segment_bytes: 256 << 10,
        cache_bytes: 0,
        unlaid_bytes_max: 1 << 26,
    };
    let directory = tempfile::tempdir().unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let store = open_on(directory.path(), options, Arc::new(CountingDisk(read.clone())));
    let id = create(store.as_ref(), "large");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..RECORDS {
        let message_id = (number == WITH_ID).then_some("m-20");
        let batch = large(owner.next, 1_000 + number, RECORD_BYTES, message_id);
        owner.submit(batch, Durability::Os).unwrap();
        owner.settle().unwrap();
    }
    drop(owner);
    shut_down(store);

    read.store(0, Ordering::Relaxed);
    let store = open_on(directory.path(), options, Arc::new(CountingDisk(read.clone())));
    let owner = try_open(&store, key(id, 0), 2, 0).unwrap();
    let ids = &owner.opened.recent_ids;
    assert_eq!(ids.len(), 1);
    assert_eq!(
        (&ids[0].message_id[..], ids[0].offset),
        (&b"m-20"[..], Offset(WITH_ID))
    );
    let all = RECORDS * RECORD_BYTES as u64;
    let read = read.load(Ordering::Relaxed);
    assert!(read > RECORD_BYTES as u64, "the one with an id was read: {read}");
    assert!(read < all / 4, "{read} bytes of {all} were read");
    shut_down(store);
}
