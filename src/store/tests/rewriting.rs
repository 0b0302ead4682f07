//! Segments that are written anew without what has expired: whatever is read, whenever the process dies.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use callboard_protocol::{Offset, Timestamp};

use super::{
    expiry::{MEDIUM, directory_bytes, one, seen, segments},
    faults::{Faults, FaultyDisk},
    harness::{Owner, batch, create, key, open, open_on, shut_down, wait_for},
};
use crate::store::{Durability, Store, TopicId, journal::JournalStore};

/// Records in segments, of which one of `every` stays and the others have expired at 10,000.
fn laid(directory: &Path, every: u64) -> TopicId {
    let store = open(directory, MEDIUM);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..300_u64 {
        let ttl_ms = (number % every != 0).then_some(50);
        owner
            .submit(one(Offset(number), number, ttl_ms, 4000), Durability::Os)
            .unwrap();
    }
    owner.settle().unwrap();
    drop(owner);
    shut_down(store);
    id
}

#[test]
fn segments_are_written_anew_without_what_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let id = laid(directory.path(), 10);
    let laid = segments(directory.path(), id);
    assert!(directory_bytes(&laid) > 1_200_000);
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 150_000);
    assert!(directory_bytes(&laid) < 150_000);
    let stays: Vec<_> = (0..300).step_by(10).collect();
    let found = seen(owner.log(), 0);
    assert_eq!(found.living, stays);
    assert_eq!(found.gone[&1], (10, "expired"));
    assert!(found.gone.values().all(|(_, reason)| *reason == "expired"));
    for time in [0, 5, 10, 11, 155, 290] {
        let at = owner.log().offset_at(Timestamp(time)).unwrap();
        assert_eq!(
            seen(owner.log(), at.0).living[0],
            time.div_ceil(10) * 10,
            "time {time}"
        );
    }
    drop((owner, store));
    for round in 0..3 {
        let store = open(directory.path(), MEDIUM);
        let mut owner = Owner::open(&store, key(id, 0), 1);
        assert_eq!(owner.opened.next_offset, Offset(300 + round));
        assert_eq!(owner.opened.last_timestamp, Timestamp(299.max(round * 1000)));
        assert_eq!(seen(owner.log(), 0).living[..30], stays);
        let next = owner.next;
        owner
            .submit(one(next, (round + 1) * 1000, None, 10), Durability::Fsync)
            .unwrap();
        owner.settle().unwrap();
        drop(owner);
        if round == 1 {
            shut_down(store);
        }
    }
}

#[test]
fn index_of_a_segment_is_found_again_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let id = laid(directory.path(), 4);
    for entry in fs::read_dir(segments(directory.path(), id)).unwrap().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "index")
        {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 400_000);
    assert_eq!(seen(owner.log(), 0).living.len(), 75);
}

#[test]
fn little_that_has_expired_is_not_worth_writing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), MEDIUM);
    let id = create(store.as_ref(), "t");
    let mut owner = Owner::open(&store, key(id, 0), 1);
    for number in 0..200_u64 {
        let ttl_ms = (number % 5 < 2).then_some(50);
        owner
            .submit(one(Offset(number), number, ttl_ms, 4000), Durability::Os)
            .unwrap();
    }
    owner.settle().unwrap();
    drop(owner);
    shut_down(store);
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    for _ in 0..20 {
        store.retain(Timestamp(10_000));
    }
    shut_down(store.clone());
    assert!(owner.log().bytes() > 800_000, "two fifths are less than half");
}

#[test]
fn death_at_any_step_of_writing_anew_loses_nothing() {
    let source = tempfile::tempdir().unwrap();
    let id = laid(source.path(), 10);
    let stays: Vec<_> = (0..300).step_by(10).collect();
    let (mut before, mut after) = (0, 0);
    for changes in 0..14 {
        let directory = tempfile::tempdir().unwrap();
        super::damage::copy_directory(source.path(), directory.path());
        let faults = Faults::none();
        faults.write_bytes_max.store(50_000, Ordering::SeqCst);
        let store = open_on(directory.path(), MEDIUM, Arc::new(FaultyDisk(faults.clone())));
        let owner = Owner::open(&store, key(id, 0), 1);
        faults.changes_left.store(changes, Ordering::SeqCst);
        store.retain(Timestamp(10_000));
        // What was asked is done when this is.
        shut_down(store);
        drop(owner);
        let store = open(directory.path(), MEDIUM);
        let owner = Owner::open(&store, key(id, 0), 1);
        assert_eq!(owner.opened.next_offset, Offset(300), "{changes} changes");
        let found = seen(owner.log(), 0);
        assert!(
            found.gone.values().all(|(_, reason)| *reason == "expired"),
            "{changes}: {found:?}"
        );
        assert!(
            stays.iter().all(|offset| found.living.contains(offset)),
            "{changes} changes"
        );
        if found.gone.is_empty() {
            before += 1;
        } else {
            after += 1;
        }
        let left = fs::read_dir(segments(directory.path(), id)).unwrap().flatten();
        let unfinished =
            left.filter(|entry| entry.path().extension().is_some_and(|found| found == "rewrite"));
        assert_eq!(unfinished.count(), 0);
        wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 150_000);
        assert_eq!(seen(owner.log(), 0).living, stays);
    }
    assert!(
        before > 2 && after > 2,
        "{before} deaths before, {after} after the first name was changed"
    );
}

#[test]
fn unfinished_file_of_a_crash_is_removed_and_an_old_index_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let id = laid(directory.path(), 10);
    let partition = segments(directory.path(), id);
    let index = partition.join("00000000000000000000.index");
    let old_index = fs::read(&index).unwrap();
    fs::write(
        partition.join("00000000000000000000.rewrite"),
        b"half of something",
    )
    .unwrap();
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    assert!(!partition.join("00000000000000000000.rewrite").exists());
    wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 150_000);
    drop(owner);
    shut_down(store);
    // As if the process had died between the change of names and the writing of the index.
    fs::write(&index, old_index).unwrap();
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    let found = seen(owner.log(), 0);
    assert_eq!(found.living.len(), 30);
    assert!(found.gone.values().all(|(_, reason)| *reason == "expired"));
}

#[test]
fn readers_do_not_notice_that_a_segment_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let id = laid(directory.path(), 10);
    for _ in 0..3 {
        let copy = tempfile::tempdir().unwrap();
        super::damage::copy_directory(directory.path(), copy.path());
        let store: Arc<dyn Store> = Arc::new(JournalStore::open(copy.path(), MEDIUM).unwrap());
        let owner = Owner::open(&store, key(id, 0), 1);
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for from in [0, 5, 150] {
                let (log, is_done) = (owner.opened.log.clone(), &is_done);
                scope.spawn(move || {
                    let mut last = false;
                    while !last {
                        last = is_done.load(Ordering::SeqCst);
                        let found = seen(log.as_ref(), from);
                        assert!(found.gone.values().all(|(_, reason)| *reason == "expired"));
                        let stays = (from..300).filter(|offset| offset % 10 == 0);
                        assert!(stays.into_iter().all(|offset| found.living.contains(&offset)));
                        log.offset_at(Timestamp(from)).unwrap();
                    }
                });
            }
            wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 150_000);
            is_done.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn hurt_segment_is_written_anew_with_its_hurt() {
    let directory = tempfile::tempdir().unwrap();
    let id = laid(directory.path(), 10);
    let path = segments(directory.path(), id).join("00000000000000000000.segment");
    let mut bytes = fs::read(&path).unwrap();
    // In the payload of the record at offset 50, which stays.
    let place = bytes.windows(3).position(|window| window == b"50:").unwrap();
    bytes[place + 100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    wait_for(store.as_ref(), 10_000, || owner.log().bytes() < 150_000);
    let found = seen(owner.log(), 0);
    assert_eq!(found.living.len(), 29);
    assert_eq!(found.gone[&50], (51, "corrupt"));
    assert_eq!(found.gone[&51], (60, "expired"));
}

#[test]
fn file_of_version_1_gets_no_entry_that_it_can_not_hold() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), MEDIUM);
    let id = create(store.as_ref(), "t");
    Owner::open(&store, key(id, 0), 1).publish(1, &["0:old"]).unwrap();
    shut_down(store);
    let path = segments(directory.path(), id).join("00000000000000000000.segment");
    let mut bytes = fs::read(&path).unwrap();
    super::layout::set_version(&mut bytes, 1);
    fs::write(&path, &bytes).unwrap();
    let store = open(directory.path(), MEDIUM);
    let mut owner = Owner::open(&store, key(id, 0), 1);
    owner
        .submit(one(Offset(1), 5, Some(1), 100), Durability::Os)
        .unwrap();
    owner
        .submit(batch(Offset(2), 6, &["2:new"]), Durability::Os)
        .unwrap();
    owner.settle().unwrap();
    wait_for(store.as_ref(), 100, || seen(owner.log(), 0).living == [0, 2]);
    drop(owner);
    shut_down(store);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let store = open(directory.path(), MEDIUM);
    let owner = Owner::open(&store, key(id, 0), 1);
    assert_eq!(seen(owner.log(), 0).living, [0, 2]);
}
