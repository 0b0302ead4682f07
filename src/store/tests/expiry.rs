//! Records that have expired give their memory and their disk back, wherever they are, and keep their offsets.

use std::{collections::BTreeMap, fs, path::Path};

use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, Timestamp};

use super::{
    engines::{on_each, on_each_with},
    harness::{ONE_JOURNAL, Owner, SMALL, create, key, open, shut_down, wait_for},
};
use crate::store::{Durability, GapReason, Log, Retention, TopicId, journal::JournalOptions};

/// Segments and journal files of a size at which writing anew is worth it.
pub const MEDIUM: JournalOptions = JournalOptions {
    journal_bytes: 256 * 1024,
    segment_bytes: 1 << 20,
    cache_bytes: 64 * 1024,
    unlaid_bytes_max: 1 << 26,
};

/// A batch of one record with a payload of `bytes`.
pub fn one(offset: Offset, timestamp: u64, ttl_ms: Option<u64>, bytes: usize) -> Batch {
    with_id(offset, timestamp, ttl_ms, (None, bytes))
}

fn with_id(offset: Offset, timestamp: u64, ttl_ms: Option<u64>, (id, bytes): (Option<&str>, usize)) -> Batch {
    let payload = format!("{}:{}", offset.0, "x".repeat(bytes));
    let mut records = Vec::new();
    let parts = RecordParts {
        message_id: id,
        ttl_ms,
        payload: payload.as_bytes(),
        ..RecordParts::default()
    };
    parts.encode(&mut records);
    Batch {
        base_offset: offset,
        timestamp: Timestamp(timestamp),
        count: 1,
        records: records.into(),
    }
}

/// What can be read: the offsets of records, and the gaps with their reasons.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub living: Vec<u64>,
    pub gone: BTreeMap<u64, (u64, &'static str)>,
}

pub fn seen(log: &dyn Log, from: u64) -> Seen {
    let mut seen = Seen::default();
    let mut from = Offset(from);
    while from < log.next_offset() {
        let page = log.read(from, 10_000).unwrap();
        assert!(page.next_offset > from);
        let mut expected = from;
        if let Some(gap) = page.gap {
            assert_eq!(gap.from, from);
            let reason = match gap.reason {
                GapReason::Retention => "retention",
                GapReason::Corrupt => "corrupt",
                GapReason::Expired => "expired",
            };
            match seen.gone.last_entry() {
                // A page ends where a segment does.
                Some(mut last) if last.get().0 == gap.from.0 && last.get().1 == reason => {
                    last.get_mut().0 = gap.next.0;
                }
                _ => drop(seen.gone.insert(gap.from.0, (gap.next.0, reason))),
            }
            expected = gap.next;
        }
        for batch in &page.batches {
            assert_eq!(batch.base_offset, expected);
            for (offset, parts) in batch.iter() {
                let begin = format!("{}:", offset.0);
                assert!(
                    parts.payload.starts_with(begin.as_bytes()),
                    "the record of {offset}"
                );
                seen.living.push(offset.0);
            }
            expected = batch.next_offset();
        }
        assert_eq!(page.next_offset, expected);
        from = page.next_offset;
    }
    seen
}

#[test]
fn expired_batches_between_others_go_and_keep_their_offsets() {
    // Nothing of it is laid down: there it would be too little to be written anew for.
    on_each_with(MEDIUM, |store, key| {
        let mut owner = Owner::open(store, key, 1);
        for number in 0..60_u64 {
            let ttl_ms = (number % 6 != 0).then_some(50);
            owner
                .submit(
                    one(Offset(number), 1000 + number, ttl_ms, 1000),
                    Durability::Fsync,
                )
                .unwrap();
        }
        owner.settle().unwrap();
        let before = owner.log().bytes();
        assert!(before > 60_000);
        store.retain(Timestamp(1049));
        assert_eq!(seen(owner.log(), 0).living.len(), 60, "nothing has expired yet");
        wait_for(store.as_ref(), 2000, || owner.log().bytes() < before / 2);
        if owner.log().read_cached(Offset(0), 1).is_some() {
            assert!(
                owner.log().bytes() < 12_000,
                "{} bytes of memory",
                owner.log().bytes()
            );
            let found = seen(owner.log(), 3);
            assert_eq!(found.living, [6, 12, 18, 24, 30, 36, 42, 48, 54]);
            assert_eq!(found.gone[&3], (6, "expired"));
            assert_eq!(found.gone[&55], (60, "expired"));
            assert_eq!(found.gone.len(), 10);
            let found = owner.log().offset_at(Timestamp(1009)).unwrap();
            assert_eq!(seen(owner.log(), found.0).living[0], 12);
        }
        owner
            .submit(one(Offset(60), 3000, None, 1), Durability::Fsync)
            .unwrap();
        owner.settle().unwrap();
        assert_eq!(owner.log().next_offset(), Offset(61));
    });
}

#[test]
fn last_record_expires_like_any_other() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        for number in 0..8_u64 {
            let batch = one(Offset(number), 10, Some(1), 2000);
            owner.submit(batch, Durability::Fsync).unwrap();
        }
        owner.settle().unwrap();
        wait_for(store.as_ref(), 100, || owner.log().bytes() < 2000);
        let found = seen(owner.log(), 0);
        assert_eq!(found.living, [0_u64; 0]);
        assert!(
            found.gone.values().all(|(_, reason)| *reason == "expired"),
            "{found:?}"
        );
        let opened = Owner::open(store, key, 2).opened;
        assert_eq!(opened.next_offset, Offset(8));
        assert_eq!(opened.last_timestamp, Timestamp(10));
    });
}

#[test]
fn batch_goes_when_its_last_record_has_expired() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        let parts = [one(Offset(0), 0, Some(10), 50), one(Offset(1), 0, Some(90), 50)];
        let mixed = Batch {
            count: 2,
            records: parts.iter().flat_map(|part| part.records.to_vec()).collect(),
            ..parts[0].clone()
        };
        owner.submit(mixed, Durability::Fsync).unwrap();
        owner
            .submit(one(Offset(2), 1, None, 5), Durability::Fsync)
            .unwrap();
        owner.settle().unwrap();
        store.retain(Timestamp(89));
        assert_eq!(seen(owner.log(), 0).living, [0, 1, 2]);
        wait_for(store.as_ref(), 90, || seen(owner.log(), 0).living == [2]);
    });
}

#[test]
fn message_ids_inside_their_window_outlive_their_records() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        owner.log().set_retention(Retention {
            ids_ms: Some(1000),
            ..Retention::default()
        });
        for number in 0..20_u64 {
            let id = format!("id-{number}");
            let id = (number % 5 == 0).then_some(id.as_str());
            let batch = with_id(Offset(number), 100 + number, Some(50), (id, 500));
            owner.submit(batch, Durability::Fsync).unwrap();
        }
        owner.settle().unwrap();
        let ids = |incarnation| {
            let opened = super::harness::try_open(store, key, incarnation, 0)
                .unwrap()
                .opened;
            opened.recent_ids.iter().map(|id| id.offset.0).collect::<Vec<_>>()
        };
        wait_for(store.as_ref(), 1099, || seen(owner.log(), 0).living.len() < 20);
        assert_eq!(ids(2), [0, 5, 10, 15]);
        wait_for(store.as_ref(), 1105, || seen(owner.log(), 0).living.len() == 2);
        assert_eq!(ids(3), [10, 15]);
        wait_for(store.as_ref(), 1200, || seen(owner.log(), 0).living.is_empty());
        assert_eq!(ids(4), [0_u64; 0]);
    });
}

#[test]
fn removed_front_says_whether_it_had_expired() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        for number in 0..40_u64 {
            let batch = one(Offset(number), number, Some(10), 1000);
            owner.submit(batch, Durability::Fsync).unwrap();
        }
        owner
            .submit(one(Offset(40), 40, None, 1), Durability::Fsync)
            .unwrap();
        owner.settle().unwrap();
        wait_for(store.as_ref(), 500, || owner.log().first_offset() > Offset(20));
        let gap = owner.log().read(Offset(2), 10).unwrap().gap.unwrap();
        assert_eq!((gap.from, gap.reason), (Offset(2), GapReason::Expired));
        for number in 41..90_u64 {
            let batch = one(Offset(number), number, None, 1000);
            owner.submit(batch, Durability::Fsync).unwrap();
        }
        owner.settle().unwrap();
        owner.log().set_retention(Retention {
            bytes: Some(20_000),
            ..Retention::default()
        });
        wait_for(store.as_ref(), 500, || {
            owner
                .submit(one(owner.next, 90, None, 1000), Durability::Fsync)
                .unwrap();
            owner.settle().unwrap();
            owner.log().first_offset() > Offset(50)
        });
        let gap = owner.log().read(Offset(2), 10).unwrap().gap.unwrap();
        assert_eq!((gap.from, gap.reason), (Offset(2), GapReason::Retention));
    });
}

/// Bytes of all files below a directory.
pub fn directory_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            directory_bytes(&entry.path())
        } else {
            metadata.len()
        }
    });
    sizes.sum()
}

/// Where a topic's first partition has its segments.
pub fn segments(directory: &Path, id: TopicId) -> std::path::PathBuf {
    directory.join("topics").join(id.0.to_string()).join("0")
}

#[test]
fn trickle_of_short_lived_records_stays_small() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), MEDIUM);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner.publish(0, &["stays for ever, in front of all"]).unwrap();
    for second in 1..3000_u64 {
        let batch = one(owner.next, second * 1000, Some(10_000), 2000);
        owner.submit(batch, Durability::Os).unwrap();
        owner.settle().unwrap();
        if second % 50 == 0 {
            // Ten seconds are 20 KB, and what is not worth it yet is 128.
            wait_for(store.as_ref(), second * 1000, || owner.log().bytes() < 250_000);
        } else if second % 5 == 0 {
            store.retain(Timestamp(second * 1000));
        }
    }
    wait_for(store.as_ref(), 3_000_000, || owner.log().bytes() < 200_000);
    // The journal's file and two spare ones, and at most 64 KiB that are not worth it.
    let laid = directory_bytes(&segments(directory.path(), id));
    assert!(laid < 200_000, "{laid} bytes of segments");
    assert!(directory_bytes(&directory.path().join("journal")) < 4 * MEDIUM.journal_bytes + (4 << 20));
}

#[test]
fn what_expired_before_it_was_laid_down_takes_no_segment() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..50_u64 {
        owner
            .submit(
                one(Offset(number), 5, (number != 20).then_some(50), 1000),
                Durability::Os,
            )
            .unwrap();
    }
    owner.settle().unwrap();
    wait_for(store.as_ref(), 1000, || owner.log().bytes() < 2000);
    drop(owner);
    shut_down(store);
    assert!(directory_bytes(&segments(directory.path(), id)) < 3000);
    for _ in 0..2 {
        let store = open(directory.path(), ONE_JOURNAL);
        let owner = Owner::open(&store, key(id, 0), 1);
        assert_eq!(owner.opened.next_offset, Offset(50));
        let found = seen(owner.log(), 0);
        assert_eq!(found.living, [20]);
        assert_eq!(
            found.gone,
            BTreeMap::from([(0, (20, "expired")), (21, (50, "expired"))])
        );
        drop(owner);
        shut_down(store);
    }
}

#[test]
fn expired_records_do_not_come_back_after_a_crash_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..30_u64 {
        owner
            .submit(one(Offset(number), 5, Some(50), 300), Durability::Fsync)
            .unwrap();
    }
    owner.settle().unwrap();
    wait_for(store.as_ref(), 1000, || owner.log().bytes() < 1000);
    drop((owner, store));
    for round in 0..3 {
        let store = open(directory.path(), SMALL);
        let mut owner = Owner::open(&store, key(id, 0), 1);
        assert_eq!(owner.opened.next_offset, Offset(30 + round));
        wait_for(store.as_ref(), 1000, || owner.log().bytes() < 1000);
        let next = owner.next;
        owner
            .submit(one(next, 5, Some(50), 300), Durability::Fsync)
            .unwrap();
        owner.settle().unwrap();
    }
}

#[test]
fn nothing_expires_before_it_is_known_what_is_to_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..4_u64 {
        let batch = with_id(Offset(number), 100, Some(50), (Some("id"), 500));
        owner.submit(batch, Durability::Fsync).unwrap();
    }
    owner.settle().unwrap();
    drop((owner, store));
    // A start that takes so long that retention is asked for before the topic is there.
    let store = open(directory.path(), ONE_JOURNAL);
    store.retain(Timestamp(1000));
    shut_down(store);
    let store = open(directory.path(), ONE_JOURNAL);
    let owner = Owner::open(&store, key(id, 0), 1);
    assert_eq!(owner.opened.recent_ids.len(), 4);
}

#[test]
fn hurt_records_are_not_taken_for_expired_ones_when_an_index_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..2_u64 {
        let batch = one(Offset(number), 100, Some(50), 500);
        owner.submit(batch, Durability::Fsync).unwrap();
    }
    owner.settle().unwrap();
    drop((owner, store));
    let journal = directory.path().join("journal/00000001.journal");
    let mut bytes = fs::read(&journal).unwrap();
    let payload = bytes.windows(4).position(|window| window == b"0:xx").unwrap();
    bytes[payload + 3] = b'y';
    fs::write(&journal, bytes).unwrap();
    shut_down(open(directory.path(), ONE_JOURNAL));
    for entry in fs::read_dir(segments(directory.path(), id)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "index") {
            fs::remove_file(path).unwrap();
        }
    }
    for _ in 0..2 {
        let store = open(directory.path(), ONE_JOURNAL);
        let owner = Owner::open(&store, key(id, 0), 1);
        let found = seen(owner.log(), 0);
        assert_eq!(found.gone, BTreeMap::from([(0, (1, "corrupt"))]));
        store.retain(Timestamp(1000));
        drop(owner);
        shut_down(store);
    }
}
