//! The journal over restarts: what survives, what goes, and what is never used twice.

use std::{fs, path::Path, sync::Arc};

use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, Timestamp};

use super::harness::{
    ONE_JOURNAL, Owner, PATIENCE, SMALL, batch, create, key, open, read_all, shut_down, texts, topic,
    wait_for,
};
use crate::store::{
    CommitEvent, Durability, GapReason, Retention, Store, StoreError,
    journal::{JournalOptions, JournalStore},
};

fn files_in(directory: &Path, extension: &str) -> usize {
    let is_counted = |path: &Path| path.extension().is_some_and(|found| found == extension);
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.filter(|entry| is_counted(&entry.path())).count()
}

#[test]
fn everything_is_there_after_a_crash_and_after_a_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 1), 1);
    owner.publish(5, &["a", "b"]).unwrap();
    drop((owner, store));
    let store = open(directory.path(), ONE_JOURNAL);
    assert_eq!(store.topics().unwrap()[0].id, id);
    let mut owner = Owner::open(&store, key(id, 1), 1);
    assert_eq!(
        (owner.opened.next_offset, owner.opened.last_timestamp),
        (Offset(2), Timestamp(5))
    );
    assert_eq!(owner.read_all(), texts(&["a", "b"]));
    owner.publish(6, &["c"]).unwrap();
    drop(owner);
    shut_down(store);
    assert_eq!(
        files_in(&directory.path().join("journal"), "journal"),
        0,
        "a clean start has no journal to read"
    );
    let store = open(directory.path(), ONE_JOURNAL);
    let owner = Owner::open(&store, key(id, 1), 1);
    assert_eq!(owner.read_all(), texts(&["a", "b", "c"]));
    assert!(
        owner.log().read_cached(Offset(0), 100).is_none(),
        "the disk must be asked"
    );
}

#[test]
fn many_small_files_hold_what_one_would() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut id = None;
    for round in 0..6_u64 {
        let store = open(directory.path(), SMALL);
        let topic = *id.get_or_insert_with(|| create(store.as_ref(), "t"));
        let mut owner = Owner::open(&store, key(topic, 0), 1);
        assert_eq!(owner.opened.next_offset, Offset(expected.len() as u64));
        for number in 0..60 {
            let payload = format!("{round}-{number}-{}", "x".repeat(200));
            owner.publish(round * 100 + number, &[&payload, "y"]).unwrap();
            expected.extend(texts(&[&payload, "y"]));
        }
        assert_eq!(owner.read_all(), expected);
        for from in (0..expected.len()).step_by(37) {
            let page = owner.log().read(Offset(from as u64), 1).unwrap();
            let first = page.batches[0].iter().next().unwrap().1.payload;
            assert_eq!(Some(first), expected[from].as_ref().map(String::as_bytes));
        }
        if round % 2 == 0 {
            drop(owner);
            shut_down(store);
        }
    }
}

#[test]
fn second_process_is_told_that_the_directory_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let second = JournalStore::open(directory.path(), SMALL);
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    shut_down(store.clone());
    assert!(
        JournalStore::open(directory.path(), SMALL).is_ok(),
        "a shut down store has let go"
    );
}

#[test]
fn shut_down_store_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    shut_down(store.clone());
    let refused = owner.submit(batch(Offset(0), 1, &["late"]), Durability::Fsync);
    assert!(matches!(refused, Err(StoreError::ShuttingDown)));
}

#[test]
fn os_durability_is_committed_before_a_flush_that_others_wait_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut os = Owner::open(&store, key(id, 0), 1);
    os.submit(batch(Offset(0), 1, &["a"]), Durability::Os).unwrap();
    os.submit(batch(Offset(1), 1, &["b"]), Durability::Memory)
        .unwrap();
    os.settle().unwrap();
    drop((os, store));
    let store = open(directory.path(), ONE_JOURNAL);
    assert_eq!(Owner::open(&store, key(id, 0), 1).read_all(), texts(&["a", "b"]));
}

#[test]
fn retention_removes_whole_segments_and_offsets_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.log().set_retention(Retention {
        bytes: Some(16 * 1024),
        ..Retention::default()
    });
    let payload = "x".repeat(500);
    for number in 0..200 {
        owner.publish(number, &[&payload]).unwrap();
    }
    wait_for(store.as_ref(), 200, || owner.log().bytes() < 24 * 1024);
    let first = owner.log().first_offset();
    assert!(
        owner.log().bytes() >= 16 * 1024 && first > Offset(100),
        "first {first}, {} bytes",
        owner.log().bytes()
    );
    let page = owner.log().read(Offset(3), 100).unwrap();
    let gap = page.gap.unwrap();
    assert_eq!(
        (gap.from, gap.next, gap.reason),
        (Offset(3), first, GapReason::Retention)
    );
    drop((owner, store));
    let store = open(directory.path(), SMALL);
    let owner = Owner::open(&store, key(id, 0), 1);
    assert_eq!(
        (owner.opened.first_offset, owner.opened.next_offset),
        (first, Offset(200))
    );
    assert_eq!(owner.read_all().len() as u64, 200 - first.0);
}

#[test]
fn partition_that_lost_everything_to_age_gives_no_offset_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.log().set_retention(Retention {
        age_ms: Some(1000),
        ..Retention::default()
    });
    for number in 0..7 {
        owner.publish(100 + number, &["x"]).unwrap();
    }
    wait_for(store.as_ref(), 5000, || owner.log().first_offset() == Offset(7));
    assert_eq!(
        owner.log().read(Offset(0), 100).unwrap().gap.unwrap().reason,
        GapReason::Retention
    );
    drop((owner, store));
    for _ in 0..2 {
        let store = open(directory.path(), SMALL);
        let opened = Owner::open(&store, key(id, 0), 1).opened;
        assert_eq!((opened.first_offset, opened.next_offset), (Offset(7), Offset(7)));
        assert_eq!(opened.last_timestamp, Timestamp(106));
        drop(opened);
        shut_down(store);
    }
}

#[test]
fn partition_that_is_cut_behind_everything_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.log().set_retention(Retention {
        before: Some(Offset(1000)),
        ..Retention::default()
    });
    for number in 0..20 {
        owner.publish(number, &["x"]).unwrap();
        store.retain(Timestamp(number));
    }
    let laid = directory.path().join("topics").join(id.0.to_string()).join("0");
    assert!(!laid.exists(), "nothing is laid down for a cut");
    assert_eq!(owner.log().first_offset(), Offset(0));
    drop(owner);
    shut_down(store);
    let store = open(directory.path(), ONE_JOURNAL);
    let owner = Owner::open(&store, key(id, 0), 1);
    owner.log().set_retention(Retention {
        before: Some(Offset(20)),
        ..Retention::default()
    });
    wait_for(store.as_ref(), 20, || owner.log().first_offset() == Offset(20));
    drop((owner, store));
    let store = open(directory.path(), ONE_JOURNAL);
    let mut owner = Owner::open(&store, key(id, 0), 1);
    assert_eq!(owner.opened.next_offset, Offset(20));
    owner.publish(30, &["on"]).unwrap();
    assert_eq!(owner.read_all(), texts(&["on"]));
}

#[test]
fn partition_that_is_cut_has_small_segments() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        journal_bytes: 64 << 20,
        segment_bytes: 64 << 20,
        ..ONE_JOURNAL
    };
    let store = open(directory.path(), options);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.log().set_retention(Retention {
        before: Some(Offset::ZERO),
        ..Retention::default()
    });
    let payload = "x".repeat(1 << 20);
    for number in 0..9 {
        owner.publish(number, &[&payload]).unwrap();
    }
    drop(owner);
    shut_down(store);
    let laid = directory.path().join("topics").join(id.0.to_string()).join("0");
    assert_eq!(files_in(&laid, "segment"), 3);
}

#[test]
fn expired_records_give_their_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..20_u64 {
        let mut records = Vec::new();
        let parts = RecordParts {
            ttl_ms: Some(50),
            payload: &[b'1'; 1000],
            ..RecordParts::default()
        };
        parts.encode(&mut records);
        let batch = Batch {
            base_offset: Offset(number),
            timestamp: Timestamp(number),
            count: 1,
            records: records.into(),
        };
        owner.submit(batch, Durability::Fsync).unwrap();
    }
    owner.settle().unwrap();
    owner.publish(30, &["stays"]).unwrap();
    wait_for(store.as_ref(), 80, || owner.log().first_offset() > Offset(10));
    assert_eq!(owner.read_all().last().unwrap().as_deref(), Some("stays"));
    assert!(owner.log().bytes() < 12_000);
}

#[test]
fn deleted_topics_files_go_and_its_records_do_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.publish(1, &["old"]).unwrap();
    store.delete_topic(id).blocking_recv().unwrap().unwrap();
    let again = create(store.as_ref(), "t");
    drop((owner, store));
    let store = open(directory.path(), ONE_JOURNAL);
    let owner = Owner::open(&store, key(again, 0), 1);
    assert_eq!(owner.opened.next_offset, Offset(0));
    drop(owner);
    shut_down(store);
    assert!(!directory.path().join("topics").join(id.0.to_string()).exists());
}

#[test]
fn changed_topic_is_kept_as_changed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut changed = topic("t");
    changed.id = id;
    changed.partitions = 9;
    changed.config = r#"{"retention_ms":5}"#.to_owned();
    store
        .update_topic(changed.clone())
        .blocking_recv()
        .unwrap()
        .unwrap();
    drop(store);
    let store = open(directory.path(), SMALL);
    assert_eq!(store.topics().unwrap(), [changed]);
    Owner::open(&store, key(id, 8), 1);
}

#[test]
fn commits_are_told_in_order_and_once_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..500 {
        owner
            .submit(batch(Offset(number), number, &["x"]), Durability::Fsync)
            .unwrap();
    }
    let mut last = Offset(0);
    let mut told = 0;
    while last < Offset(500) {
        let event = owner.events.recv_timeout(PATIENCE).unwrap();
        let CommitEvent::Committed { next_offset, .. } = event else {
            panic!("{event:?}");
        };
        assert!(next_offset > last);
        last = next_offset;
        told += 1;
    }
    assert!(told <= 500);
    assert_eq!(read_all(owner.log(), 10).len(), 500);
}

#[test]
fn many_partitions_keep_few_files_open() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        journal_bytes: 64 * 1024,
        ..SMALL
    };
    let store = open(directory.path(), options);
    let mut many = topic("many");
    many.partitions = 600;
    let id = store.create_topic(many).blocking_recv().unwrap().unwrap();
    let mut owners: Vec<_> = (0..600)
        .map(|partition| Owner::open(&store, key(id, partition), 1))
        .collect();
    for round in 0..4 {
        for owner in &mut owners {
            owner
                .submit(batch(owner.next, round, &["one", "two"]), Durability::Fsync)
                .unwrap();
        }
        for owner in &mut owners {
            owner.settle().unwrap();
        }
    }
    for owner in &owners {
        assert_eq!(owner.read_all().len(), 8);
    }
    let open_files = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.starts_with(directory.path())));
    assert!(open_files.count() < 400);
    drop(owners);
    shut_down(store);
    let store: Arc<dyn Store> = open(directory.path(), options);
    assert_eq!(Owner::open(&store, key(id, 599), 1).read_all().len(), 8);
}
