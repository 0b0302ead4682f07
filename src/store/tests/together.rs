//! Batches that are kept together or not at all, whatever happens to the disk or the process.

use std::sync::{Arc, atomic::Ordering};

use callboard_protocol::{Offset, PartitionId};

use super::{
    faults::{Faults, FaultyDisk},
    harness::{
        ONE_JOURNAL, Owner, PATIENCE, SMALL, batch, create, key, open, open_on, shut_down, texts, topic,
    },
};
use crate::store::{
    CommitEvent, Durability, PartitionKey, Store, StoreError, Submission, Submitted, TopicId,
    memory::MemoryStore,
};

/// Submits one batch to each of `owners`, together.
pub fn submit_all(
    owners: &mut [Owner],
    texts: &[&str],
    durability: impl Fn(usize) -> Durability,
) -> Result<Submitted, StoreError> {
    let set = owners.iter().enumerate().map(|(place, owner)| {
        let batch = batch(owner.next, 1, texts);
        owner.submission(batch, durability(place))
    });
    let submitted = owners[0].store.submit_together(set.collect())?;
    for owner in owners {
        owner.next = owner.next.plus(texts.len() as u64);
    }
    Ok(submitted)
}

pub fn fsync(_: usize) -> Durability {
    Durability::Fsync
}

pub fn settle_all(owners: &mut [Owner]) -> Vec<Result<(), StoreError>> {
    owners.iter_mut().map(Owner::settle).collect()
}

/// Four partitions of two topics.
pub fn owners(store: &Arc<dyn Store>, topics: [TopicId; 2], incarnation: u64) -> Vec<Owner> {
    let keys = [(0, 0), (0, 1), (1, 2), (1, 3)].into_iter();
    let keys = keys.map(|(topic, partition)| key(topics[topic], partition));
    keys.map(|key| Owner::open(store, key, incarnation)).collect()
}

pub fn create_both(store: &dyn Store) -> [TopicId; 2] {
    [create(store, "t"), create(store, "u")]
}

/// Runs a test with four partitions of each engine.
fn on_each(test: impl Fn(&Arc<dyn Store>, Vec<Owner>)) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let topics = create_both(memory.as_ref());
    test(&memory, owners(&memory, topics, 1));
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), SMALL);
    let topics = create_both(journal.as_ref());
    test(&journal, owners(&journal, topics, 1));
    let in_memory = ["m", "n"].map(|name| {
        let mut in_memory = topic(name);
        in_memory.memory_only = true;
        journal.create_topic(in_memory).blocking_recv().unwrap().unwrap()
    });
    test(&journal, owners(&journal, in_memory, 1));
}

#[test]
fn set_is_kept_in_every_partition() {
    on_each(|_, mut owners| {
        owners[1].publish(1, &["before"]).unwrap();
        for _ in 0..3 {
            submit_all(&mut owners, &["a", "b"], fsync).unwrap();
            let last = &mut owners[2];
            last.submit(batch(last.next, 1, &["alone"]), Durability::Os)
                .unwrap();
        }
        assert!(settle_all(&mut owners).iter().all(Result::is_ok));
        let set = texts(&["a", "b", "a", "b", "a", "b"]);
        assert_eq!(owners[0].read_all(), set);
        assert_eq!(owners[1].read_all()[1..], set);
        assert_eq!(owners[2].read_all().len(), 9);
        assert_eq!(owners[3].read_all(), set);
    });
}

#[test]
fn nothing_and_one_are_sets_too() {
    on_each(|store, mut owners| {
        submit_all(&mut owners[..1], &["one"], fsync).unwrap();
        owners[0].settle().unwrap();
        assert_eq!(owners[0].read_all(), texts(&["one"]));
        assert!(store.submit_together(Vec::new()).is_ok());
    });
}

#[test]
fn wrong_offset_of_one_refuses_all() {
    on_each(|_, mut owners| {
        submit_all(&mut owners, &["a"], fsync).unwrap();
        owners[2].next = Offset(7);
        let told = match submit_all(&mut owners, &["refused"], fsync) {
            Ok(_) => settle_all(&mut owners),
            Err(error) => {
                owners.iter_mut().for_each(|owner| owner.next = Offset(1));
                vec![Err(error)]
            }
        };
        assert!(told.iter().all(Result::is_err), "{told:?}");
        for owner in &mut owners {
            assert_eq!(owner.next, Offset(1));
            assert_eq!(owner.read_all(), texts(&["a"]));
            owner.publish(2, &["alone"]).unwrap();
        }
        submit_all(&mut owners, &["b"], fsync).unwrap();
        assert!(settle_all(&mut owners).iter().all(Result::is_ok));
        assert!(
            owners
                .iter()
                .all(|owner| owner.read_all() == texts(&["a", "alone", "b"]))
        );
        let is_commit = |event: CommitEvent| matches!(event, CommitEvent::Committed { .. });
        assert!(
            owners.iter().all(|owner| owner.events.try_iter().all(is_commit)),
            "a refusal is told once"
        );
    });
}

#[test]
fn closed_partition_and_former_owner_refuse_all() {
    on_each(|store, mut owners| {
        let former = Owner {
            incarnation: owners[3].incarnation,
            ..Owner::open(store, owners[3].key, 2)
        };
        let current = std::mem::replace(&mut owners[3], former);
        let refused = submit_all(&mut owners, &["refused"], fsync);
        assert!(matches!(refused, Err(StoreError::Closed)));
        drop(current);
        owners[3] = Owner::open(store, owners[3].key, 3);
        store
            .delete_topic(owners[3].key.topic)
            .blocking_recv()
            .unwrap()
            .unwrap();
        let refused = submit_all(&mut owners, &["refused"], fsync);
        assert!(matches!(refused, Err(StoreError::Closed)));
        for owner in &mut owners[..2] {
            assert_eq!(owner.read_all(), []);
            owner.publish(1, &["on"]).unwrap();
        }
    });
}

#[test]
fn what_is_no_set_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let topics = create_both(store.as_ref());
    let mut owners = owners(&store, topics, 1);
    let twice = [0, 0].map(|_| owners[0].submission(batch(Offset(0), 1, &["x"]), Durability::Os));
    let mut in_memory = topic("m");
    in_memory.memory_only = true;
    let id = store.create_topic(in_memory).blocking_recv().unwrap().unwrap();
    let memory = Owner::open(&store, key(id, 0), 1);
    let mixed =
        [&owners[0], &memory].map(|owner| owner.submission(batch(Offset(0), 1, &["x"]), Durability::Os));
    for set in [twice, mixed] {
        let refused = store.submit_together(set.to_vec());
        assert!(matches!(refused, Err(StoreError::Io { no_space: false, .. })));
    }
    owners[0].publish(1, &["on"]).unwrap();
    assert_eq!(
        (owners[0].read_all(), memory.read_all()),
        (texts(&["on"]), Vec::new())
    );
}

#[test]
fn incarnation_that_was_never_opened_is_told_nothing_and_the_others_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let topics = create_both(store.as_ref());
    let mut owners = owners(&store, topics, 1);
    submit_all(&mut owners, &["a"], fsync).unwrap();
    owners[0].incarnation.0 += 1;
    submit_all(&mut owners, &["refused"], fsync).unwrap();
    owners[0].incarnation.0 -= 1;
    for owner in &mut owners[1..] {
        // Not closed, which would mean that its topic is gone.
        let told = owner.settle();
        assert!(matches!(told, Err(StoreError::Io { .. })), "{told:?}");
        assert_eq!(owner.next, Offset(1));
        owner.publish(1, &["b"]).unwrap();
    }
    owners[0].next = Offset(1);
    owners[0].publish(1, &["b"]).unwrap();
    for event in owners[0].events.try_iter() {
        assert!(matches!(event, CommitEvent::Committed { .. }));
    }
    assert!(owners.iter().all(|owner| owner.read_all() == texts(&["a", "b"])));
}

#[test]
fn partition_that_was_just_refused_is_told_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let topics = create_both(store.as_ref());
    let mut owners = owners(&store, topics, 1);
    owners[1]
        .submit(batch(Offset(9), 1, &["no"]), Durability::Os)
        .unwrap();
    owners[1].settle().unwrap_err();
    assert_eq!(owners[1].next, Offset(0));
    owners[2].next = Offset(9);
    submit_all(&mut owners, &["refused"], fsync).unwrap();
    for owner in &mut owners {
        owner.settle().unwrap_err();
        owner.publish(1, &["b"]).unwrap();
    }
}

#[test]
fn part_that_asks_for_less_waits_for_the_flush_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let store = open_on(
        directory.path(),
        ONE_JOURNAL,
        Arc::new(FaultyDisk(faults.clone())),
    );
    let topics = create_both(store.as_ref());
    let mut owners = owners(&store, topics, 1);
    let mixed = |place| [Durability::Os, Durability::Fsync][place % 2];
    submit_all(&mut owners, &["a"], mixed).unwrap();
    assert!(settle_all(&mut owners).iter().all(Result::is_ok));
    faults.fail_flushes.store(true, Ordering::SeqCst);
    submit_all(&mut owners, &["refused"], mixed).unwrap();
    assert!(settle_all(&mut owners).iter().all(Result::is_err));
    faults.fail_flushes.store(false, Ordering::SeqCst);
    assert!(owners.iter().all(|owner| owner.read_all() == texts(&["a"])));
    // One of them goes on, so that the next file says of all what was refused.
    owners[0].publish(1, &["b"]).unwrap();
    drop((owners, store));
    let store = open(directory.path(), ONE_JOURNAL);
    let found = self::owners(&store, topics, 1)
        .iter()
        .map(Owner::read_all)
        .collect::<Vec<_>>();
    assert_eq!(found[0], texts(&["a", "b"]));
    assert!(found[1..].iter().all(|found| *found == texts(&["a"])));
}

#[test]
fn set_goes_through_segments_and_restarts_like_any_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut ids = None;
    let mut expected = Vec::new();
    for round in 0..6 {
        let store = open(directory.path(), SMALL);
        let topics = *ids.get_or_insert_with(|| create_both(store.as_ref()));
        let mut owners = owners(&store, topics, 1);
        for number in 0..20 {
            let text = format!("{round}.{number}{}", "x".repeat(300));
            submit_all(&mut owners, &[&text, "y"], fsync).unwrap();
            expected.extend(texts(&[&text, "y"]));
        }
        assert!(settle_all(&mut owners).iter().all(Result::is_ok));
        assert!(owners.iter().all(|owner| owner.read_all() == expected));
        drop(owners);
        if round % 2 == 0 {
            shut_down(store);
        }
    }
}

#[test]
fn disk_that_is_full_inside_a_set_refuses_all_of_it() {
    let payload = "x".repeat(500);
    for space in (0..4000).step_by(150) {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::none();
        faults.write_bytes_max.store(300, Ordering::SeqCst);
        let mut sizes = ONE_JOURNAL;
        sizes.journal_bytes = 1024;
        let store = open_on(directory.path(), sizes, Arc::new(FaultyDisk(faults.clone())));
        let topics = create_both(store.as_ref());
        let mut owners = owners(&store, topics, 1);
        faults.space_bytes.store(space, Ordering::SeqCst);
        let mut kept = 0;
        loop {
            submit_all(&mut owners, &[&payload], fsync).unwrap();
            let told = settle_all(&mut owners);
            assert!(told.iter().all(|one| one.is_ok() == told[0].is_ok()), "{told:?}");
            if told[0].is_err() {
                break;
            }
            kept += 1;
        }
        assert!(owners.iter().all(|owner| owner.next == Offset(kept)));
        drop((owners, store));
        let store = open(directory.path(), sizes);
        for owner in self::owners(&store, topics, 1) {
            assert_eq!(owner.read_all().len() as u64, kept, "space {space}");
        }
    }
}

#[test]
fn death_at_any_write_leaves_no_part_of_a_set() {
    let mut torn = 0;
    for changes in 0..90 {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::none();
        faults.write_bytes_max.store(400, Ordering::SeqCst);
        let store = open_on(directory.path(), SMALL, Arc::new(FaultyDisk(faults.clone())));
        let topics = create_both(store.as_ref());
        let mut owners = owners(&store, topics, 1);
        faults.changes_left.store(changes, Ordering::SeqCst);
        let mut kept = 0;
        let payload = "x".repeat(250);
        for _ in 0..40 {
            let submitted = submit_all(&mut owners, &[&payload, "y"], fsync);
            if submitted.is_err() || settle_all(&mut owners).iter().any(Result::is_err) {
                break;
            }
            kept += 2;
        }
        drop((owners, store));
        for round in 0..2 {
            let store = open(directory.path(), SMALL);
            let mut owners = self::owners(&store, topics, 1);
            let found: Vec<_> = owners.iter().map(|owner| owner.read_all().len()).collect();
            assert!(
                found.iter().all(|count| *count == found[0]),
                "{changes} changes: {found:?}"
            );
            assert!(found[0] >= kept, "{changes} changes lose what was committed");
            torn += usize::from(round == 0 && kept > 0 && found[0] == kept);
            submit_all(&mut owners, &["on"], fsync).unwrap();
            assert!(settle_all(&mut owners).iter().all(Result::is_ok));
            kept = found[0] + 1;
        }
    }
    assert!(torn > 10, "some deaths are inside a set");
}

#[test]
fn largest_set_is_kept_and_a_larger_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ONE_JOURNAL);
    let mut wide = topic("wide");
    wide.partitions = 1025;
    let id = store.create_topic(wide).blocking_recv().unwrap().unwrap();
    let mut owners: Vec<_> = (0..1025)
        .map(|partition| Owner::open(&store, key(id, partition), 1))
        .collect();
    let refused = submit_all(&mut owners, &["x"], fsync);
    assert!(matches!(refused, Err(StoreError::Io { .. })));
    let largest = owners.len() - 1;
    submit_all(&mut owners[..largest], &["x"], fsync).unwrap();
    assert!(settle_all(&mut owners).iter().all(Result::is_ok));
    drop((owners, store));
    let store = open(directory.path(), ONE_JOURNAL);
    for partition in (0..1025).step_by(31) {
        let found = Owner::open(&store, key(id, partition), 1).read_all();
        assert_eq!(found.len(), usize::from(partition < 1024));
    }
}

#[test]
fn sets_from_many_threads_come_to_an_end() {
    on_each(|store, owners| {
        let keys: Vec<_> = owners.iter().map(|owner| owner.key).collect();
        // Sets of the same partitions in every order: who is late finds the offset taken and is refused whole.
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let mut keys = keys.clone();
                keys.rotate_left(turn);
                scope.spawn(move || {
                    for offset in 0..50 {
                        let set = keys.iter().map(|key| Submission {
                            key: *key,
                            incarnation: crate::store::Incarnation(1),
                            batch: Arc::new(batch(Offset(offset), 1, &["x"])),
                            durability: Durability::Os,
                        });
                        drop(store.submit_together(set.collect()));
                    }
                });
            }
        });
        let mut probe = Owner::open(
            store,
            PartitionKey {
                partition: PartitionId(3),
                ..keys[0]
            },
            1,
        );
        probe.publish(1, &["settled"]).unwrap();
        let found: Vec<_> = owners.iter().map(|owner| owner.read_all().len()).collect();
        assert!(found.iter().all(|count| *count == found[0]), "{found:?}");
        let told = owners[0].events.recv_timeout(PATIENCE);
        assert!(told.is_ok() || found[0] > 0);
    });
}
