//! A disk that refuses: full, failing flushes, short writes.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use callboard_protocol::{Offset, Timestamp};

use super::harness::{
    ONE_JOURNAL, Owner, PATIENCE, SMALL, batch, create, key, open, open_on, shut_down, texts,
};
use crate::store::{
    Durability, StoreError,
    journal::{Disk, DiskFile, JournalStore, OpenMode, OsDisk},
};

/// What goes wrong.
pub struct Faults {
    /// Bytes that files may still grow by.
    pub space_bytes: AtomicI64,
    pub fail_flushes: AtomicBool,
    /// At most so many bytes are written at once.
    pub write_bytes_max: AtomicUsize,
    /// After so many changes the disk takes no more, as if the process had died there.
    pub changes_left: AtomicI64,
}

impl Faults {
    pub fn none() -> Arc<Self> {
        Arc::new(Self {
            space_bytes: AtomicI64::new(i64::MAX / 2),
            fail_flushes: AtomicBool::new(false),
            write_bytes_max: AtomicUsize::new(usize::MAX),
            changes_left: AtomicI64::new(i64::MAX),
        })
    }

    fn change(&self) -> io::Result<()> {
        if self.changes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(io::Error::other("dead"));
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.change()?;
        if self.fail_flushes.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

pub struct FaultyDisk(pub Arc<Faults>);

struct FaultyFile {
    file: Box<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::Create {
            self.0.change()?;
        }
        Ok(Box::new(FaultyFile {
            file: OsDisk.open(path, mode)?,
            faults: self.0.clone(),
        }))
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.0.flush()?;
        OsDisk.sync_all(path)
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.faults.change()?;
        let bytes = &bytes[..bytes
            .len()
            .min(self.faults.write_bytes_max.load(Ordering::SeqCst))];
        let length = self.file.length()?;
        let free = length.saturating_sub(position);
        let growth = (bytes.len() as u64).saturating_sub(free) as i64;
        let left = self.faults.space_bytes.load(Ordering::SeqCst).max(0);
        let granted = growth.min(left);
        self.faults.space_bytes.fetch_sub(granted, Ordering::SeqCst);
        let writable = bytes.len() - (growth - granted) as usize;
        if writable == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(&bytes[..writable], position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.flush()?;
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.faults.change()?;
        let freed = self.file.length()?.saturating_sub(length);
        self.faults.space_bytes.fetch_add(freed as i64, Ordering::SeqCst);
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

#[test]
fn full_disk_refuses_and_space_makes_it_accept_again() {
    for space in [0, 1, 100, 300, 2000, 5000, 70_000] {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::none();
        let store = open_on(directory.path(), SMALL, Arc::new(FaultyDisk(faults.clone())));
        let id = create(store.as_ref(), "t");
        let mut owner = Owner::open(&store, key(id, 0), 1);
        owner.publish(1, &["before"]).unwrap();
        let mut expected = texts(&["before"]);
        faults.space_bytes.store(space, Ordering::SeqCst);
        let payload = "x".repeat(700);
        let error = loop {
            match owner.publish(2, &[&payload, "y"]) {
                Ok(()) => expected.extend(texts(&[&payload, "y"])),
                Err(error) => break error,
            }
            // Laying down gives space back on a real disk; here it only takes.
            assert!(expected.len() < 10_000, "space {space} never ends");
        };
        assert!(matches!(error, StoreError::Io { no_space: true, .. }), "{error}");
        assert_eq!(owner.read_all(), expected, "space {space}: reads go on");
        faults.space_bytes.store(i64::MAX / 2, Ordering::SeqCst);
        owner.publish(4, &["after"]).unwrap();
        expected.extend(texts(&["after"]));
        assert_eq!(owner.read_all(), expected);
        drop((owner, store));
        let store = open(directory.path(), SMALL);
        assert_eq!(
            Owner::open(&store, key(id, 0), 1).read_all(),
            expected,
            "space {space}"
        );
    }
}

#[test]
fn refused_records_are_not_found_after_a_crash_on_a_full_disk() {
    for space in (0..2000).step_by(64) {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::none();
        let mut sizes = ONE_JOURNAL;
        sizes.journal_bytes = 4096;
        let store = open_on(directory.path(), sizes, Arc::new(FaultyDisk(faults.clone())));
        let id = create(store.as_ref(), "t");
        let mut owner = Owner::open(&store, key(id, 0), 1);
        let payload = "x".repeat(1000);
        faults.space_bytes.store(space + 1200, Ordering::SeqCst);
        let mut kept = 0;
        while owner.publish(1, &[&payload]).is_ok() {
            kept += 1;
        }
        drop((owner, store));
        let store = open(directory.path(), sizes);
        assert_eq!(
            Owner::open(&store, key(id, 0), 1).read_all().len(),
            kept,
            "space {space}"
        );
    }
}

#[test]
fn failed_flush_refuses_and_nothing_of_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let store = open_on(
        directory.path(),
        ONE_JOURNAL,
        Arc::new(FaultyDisk(faults.clone())),
    );
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    let mut other = Owner::open(&store, key(id, 1), 1);
    owner.publish(1, &["a"]).unwrap();
    other
        .submit(batch(Offset(0), 1, &["os"]), Durability::Os)
        .unwrap();
    other.settle().unwrap();
    faults.fail_flushes.store(true, Ordering::SeqCst);
    owner
        .submit(batch(Offset(1), 2, &["refused", "refused"]), Durability::Fsync)
        .unwrap();
    owner
        .submit(batch(Offset(3), 2, &["refused too"]), Durability::Fsync)
        .unwrap();
    let error = owner.settle().unwrap_err();
    assert!(matches!(error, StoreError::Io { no_space: false, .. }));
    assert_eq!(owner.next, Offset(1));
    assert_eq!(owner.read_all(), texts(&["a"]));
    faults.fail_flushes.store(false, Ordering::SeqCst);
    owner.publish(3, &["b"]).unwrap();
    other.publish(3, &["c"]).unwrap();
    drop((owner, other, store));
    let store = open(directory.path(), ONE_JOURNAL);
    assert_eq!(Owner::open(&store, key(id, 0), 1).read_all(), texts(&["a", "b"]));
    assert_eq!(Owner::open(&store, key(id, 1), 1).read_all(), texts(&["os", "c"]));
}

#[test]
fn refusal_that_waits_to_be_written_down_does_not_cut_what_came_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let store = open_on(
        directory.path(),
        ONE_JOURNAL,
        Arc::new(FaultyDisk(faults.clone())),
    );
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    let mut other = Owner::open(&store, key(id, 1), 1);
    owner.publish(1, &["a"]).unwrap();
    for round in 0..3 {
        // No flush works from here on, so no file can be begun and the refusal can not be written down.
        faults.fail_flushes.store(true, Ordering::SeqCst);
        owner.publish(2, &["refused"]).unwrap_err();
        other.publish(2, &["refused"]).unwrap_err();
        faults.fail_flushes.store(false, Ordering::SeqCst);
        owner
            .submit(batch(owner.next, 3, &["os"]), Durability::Os)
            .unwrap();
        owner.settle().unwrap();
        other.publish(3, &["fsync"]).unwrap();
        assert_eq!(other.read_all().len(), round + 1);
    }
    drop((owner, other, store));
    let store = open(directory.path(), ONE_JOURNAL);
    assert_eq!(
        Owner::open(&store, key(id, 0), 1).read_all(),
        texts(&["a", "os", "os", "os"])
    );
    assert_eq!(
        Owner::open(&store, key(id, 1), 1).read_all(),
        texts(&["fsync", "fsync", "fsync"])
    );
}

#[test]
fn what_was_sent_before_a_refusal_was_known_is_not_kept_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let store = open_on(
        directory.path(),
        ONE_JOURNAL,
        Arc::new(FaultyDisk(faults.clone())),
    );
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.publish(1, &["a"]).unwrap();
    faults.fail_flushes.store(true, Ordering::SeqCst);
    owner.publish(2, &["refused"]).unwrap_err();
    faults.fail_flushes.store(false, Ordering::SeqCst);
    // As if it had been under way while the refusal came: it begins where nothing ends.
    owner
        .submit(batch(Offset(2), 2, &["orphan"]), Durability::Fsync)
        .unwrap();
    owner
        .submit(batch(Offset(1), 3, &["b"]), Durability::Fsync)
        .unwrap();
    owner.settle().unwrap();
    assert_eq!(owner.read_all(), texts(&["a", "b"]));
    assert!(owner.events.try_recv().is_err(), "one refusal is told once");
}

#[test]
fn short_writes_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    faults.write_bytes_max.store(97, Ordering::SeqCst);
    let store = open_on(directory.path(), SMALL, Arc::new(FaultyDisk(faults)));
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    let payload = "x".repeat(500);
    for number in 0..80 {
        owner.publish(number, &[&payload]).unwrap();
    }
    drop(owner);
    shut_down(store);
    let store = open(directory.path(), SMALL);
    assert_eq!(Owner::open(&store, key(id, 0), 1).read_all().len(), 80);
}

#[test]
fn journal_stays_while_it_can_not_be_laid_down() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let mut sizes = SMALL;
    sizes.unlaid_bytes_max = 64 * 1024;
    let store = open_on(directory.path(), sizes, Arc::new(FaultyDisk(faults.clone())));
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    let payload = "x".repeat(4000);
    faults.fail_flushes.store(true, Ordering::SeqCst);
    // Written and not flushed: commits go on until too much waits to be laid down.
    let mut kept = 0_usize;
    let error = loop {
        owner
            .submit(batch(owner.next, 1, &[&payload]), Durability::Os)
            .unwrap();
        match owner.settle() {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "memory is bounded");
    };
    assert!(matches!(error, StoreError::Io { .. }));
    assert_eq!(owner.read_all().len(), kept);
    faults.fail_flushes.store(false, Ordering::SeqCst);
    let start = std::time::Instant::now();
    while owner.publish(2, &["after"]).is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    drop((owner, store));
    let store = open(directory.path(), sizes);
    let owner = Owner::open(&store, key(id, 0), 1);
    assert_eq!(owner.read_all().len(), kept + 1);
    store.retain(Timestamp(0));
    drop(owner);
    shut_down(store);
    let left = fs::read_dir(directory.path().join("journal")).unwrap().count();
    assert_eq!(left, 0, "a clean shutdown leaves no journal");
}

#[test]
fn death_at_any_write_keeps_what_was_committed() {
    for changes in (0..30).chain((30..150).step_by(7)) {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::none();
        faults.write_bytes_max.store(3000, Ordering::SeqCst);
        let store = open_on(directory.path(), SMALL, Arc::new(FaultyDisk(faults.clone())));
        let id = create(store.as_ref(), "t");
        let mut owners: Vec<_> = (0..3)
            .map(|partition| Owner::open(&store, key(id, partition), 1))
            .collect();
        let mut expected = vec![Vec::new(); owners.len()];
        let payload = "x".repeat(900);
        faults.changes_left.store(changes, Ordering::SeqCst);
        'life: for round in 0..60 {
            for (owner, expected) in owners.iter_mut().zip(&mut expected) {
                let text = format!("{round}{payload}");
                if owner.publish(round, &[&text, "y"]).is_err() {
                    break 'life;
                }
                expected.extend(texts(&[&text, "y"]));
            }
        }
        drop((owners, store));
        // The first start after it may be cut short as well.
        drop(JournalStore::open_on(
            directory.path(),
            SMALL,
            Arc::new(FaultyDisk(faults)),
        ));
        for _ in 0..2 {
            let store = open(directory.path(), SMALL);
            for (partition, expected) in expected.iter_mut().enumerate() {
                let mut owner = Owner::open(&store, key(id, partition as u32), 1);
                let found = owner.read_all();
                assert!(
                    found.len() >= expected.len(),
                    "{changes} changes lose a committed record"
                );
                assert_eq!(&found[..expected.len()], expected, "{changes} changes");
                assert!(found.iter().all(Option::is_some), "{changes} changes leave a gap");
                *expected = found;
                owner.publish(100, &["goes on"]).unwrap();
                expected.extend(texts(&["goes on"]));
            }
        }
    }
}
