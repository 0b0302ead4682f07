//! The same suite on every engine, and on the journal's topics that are kept in memory only.

use std::sync::Arc;

use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, Timestamp};

use super::harness::{Owner, SMALL, batch, create, key, open, texts, topic, try_open, wait_for};
use crate::store::{
    Durability, FactChange, GapReason, PartitionKey, Retention, Store, StoreError, Submitted,
    journal::JournalOptions, memory::MemoryStore,
};

/// Runs a test with a partition of each engine.
pub fn on_each(test: impl Fn(&Arc<dyn Store>, PartitionKey)) {
    on_each_with(SMALL, test);
}

/// The same with a journal of these sizes.
pub fn on_each_with(options: JournalOptions, test: impl Fn(&Arc<dyn Store>, PartitionKey)) {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    test(&memory, key(create(memory.as_ref(), "t"), 0));
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), options);
    test(&journal, key(create(journal.as_ref(), "t"), 0));
    let mut in_memory = topic("m");
    in_memory.memory_only = true;
    let id = journal.create_topic(in_memory).blocking_recv().unwrap().unwrap();
    test(&journal, key(id, 0));
}

#[test]
fn what_is_committed_is_read_in_order() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        assert_eq!(owner.opened.next_offset, Offset::ZERO);
        owner.publish(10, &["a", "b"]).unwrap();
        owner.publish(11, &["c"]).unwrap();
        assert_eq!(owner.read_all(), texts(&["a", "b", "c"]));
        let page = owner.log().read(Offset(1), 1).unwrap();
        assert_eq!((page.gap, page.next_offset), (None, Offset(2)));
        assert_eq!(page.batches[0].base_offset, Offset(1));
        let page = owner.log().read_cached(Offset(3), 100).unwrap();
        assert!(page.batches.is_empty() && page.gap.is_none());
        assert_eq!(page.next_offset, Offset(3));
    });
}

#[test]
fn time_finds_the_first_record_that_is_not_older() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        let filler = "x".repeat(900);
        for time in 1..60 {
            owner.publish(time * 10, &[&filler, "b"]).unwrap();
        }
        for time in [0, 10, 11, 300, 301, 590] {
            let expected = Offset(time.max(10_u64).div_ceil(10) * 2 - 2);
            assert_eq!(
                owner.log().offset_at(Timestamp(time)).unwrap(),
                expected,
                "time {time}"
            );
        }
        assert_eq!(owner.log().offset_at(Timestamp(591)).unwrap(), Offset(118));
    });
}

#[test]
fn new_incarnation_goes_on_where_the_former_one_ended() {
    on_each(|store, key| {
        let mut former = Owner::open(store, key, 1);
        for number in 0..50 {
            former
                .submit(batch(Offset(number), number, &["x"]), Durability::Fsync)
                .unwrap();
        }
        let mut owner = Owner::open(store, key, 2);
        assert_eq!(owner.opened.next_offset, Offset(50));
        assert_eq!(owner.opened.last_timestamp, Timestamp(49));
        assert!(matches!(
            former.submit(batch(Offset(50), 1, &["late"]), Durability::Fsync),
            Err(StoreError::Closed)
        ));
        owner.publish(60, &["y"]).unwrap();
        assert_eq!(owner.read_all().len(), 51);
        assert!(matches!(try_open(store, key, 1, 0), Err(StoreError::Closed)));
    });
}

#[test]
fn message_ids_inside_the_window_are_found_at_open() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        for number in 0..40_u64 {
            let id = format!("id-{number}");
            let mut records = Vec::new();
            let parts = RecordParts {
                message_id: (number % 2 == 0).then_some(id.as_str()),
                payload: b"1",
                ..RecordParts::default()
            };
            parts.encode(&mut records);
            let batch = Batch {
                base_offset: Offset(number),
                timestamp: Timestamp(1000 + number),
                count: 1,
                records: records.into(),
            };
            owner.submit(batch, Durability::Fsync).unwrap();
        }
        owner.settle().unwrap();
        let ids = try_open(store, key, 2, 1030).unwrap().opened.recent_ids;
        let found: Vec<_> = ids.iter().map(|id| (id.offset.0, id.timestamp.0)).collect();
        assert_eq!(
            found,
            [(30, 1030), (32, 1032), (34, 1034), (36, 1036), (38, 1038)]
        );
        assert_eq!(ids[0].message_id, "id-30");
    });
}

#[test]
fn deleted_topic_refuses_and_its_id_is_not_used_again() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        owner.publish(1, &["a"]).unwrap();
        store.delete_topic(key.topic).blocking_recv().unwrap().unwrap();
        assert!(matches!(
            owner.submit(batch(Offset(1), 1, &["b"]), Durability::Fsync),
            Err(StoreError::Closed)
        ));
        assert!(matches!(try_open(store, key, 2, 0), Err(StoreError::Closed)));
        assert!(create(store.as_ref(), "t") > key.topic);
    });
}

#[test]
fn partition_that_the_topic_does_not_have_is_closed() {
    on_each(|store, key| {
        let beyond = super::harness::key(key.topic, 4);
        assert!(matches!(try_open(store, beyond, 1, 0), Err(StoreError::Closed)));
    });
}

#[test]
fn memory_log_keeps_its_newest_batches_within_its_retention() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut owner = Owner::open(&store, key(create(store.as_ref(), "t"), 0), 1);
    let one = batch(Offset(0), 0, &["payload"]).records.len() as u64;
    owner.log().set_retention(Retention {
        age_ms: Some(100),
        bytes: Some(3 * one),
        ..Retention::default()
    });
    for number in 0..10 {
        let submitted = owner
            .submit(batch(Offset(number), number, &["payload"]), Durability::Memory)
            .unwrap();
        assert_eq!(submitted, Submitted::Committed);
    }
    assert_eq!(owner.log().first_offset(), Offset(7));
    assert_eq!(owner.log().bytes(), 3 * one);
    let gap = owner.log().read(Offset(2), 1000).unwrap().gap.unwrap();
    assert_eq!(
        (gap.from, gap.next, gap.reason),
        (Offset(2), Offset(7), GapReason::Retention)
    );
    owner
        .submit(batch(Offset(10), 500, &["payload"]), Durability::Memory)
        .unwrap();
    assert_eq!(owner.log().first_offset(), Offset(10));
    store.retain(Timestamp(100_000));
    assert_eq!(owner.log().first_offset(), Offset(10), "the newest batch stays");
}

#[test]
fn records_before_a_cut_go_and_none_after_it() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        let payload = "x".repeat(500);
        for number in 0..200 {
            owner.publish(number, &[&payload]).unwrap();
        }
        owner.log().set_retention(Retention {
            before: Some(Offset(100)),
            ..Retention::default()
        });
        wait_for(store.as_ref(), 200, || owner.log().first_offset() > Offset(60));
        let first = owner.log().first_offset();
        assert!(first <= Offset(100), "first {first}");
        assert_eq!(owner.read_all().len() as u64, 200 - first.0);
    });
}

fn change(key: &str, value: Option<&str>) -> FactChange {
    FactChange {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

fn facts(store: &dyn Store) -> Vec<(String, String)> {
    let facts = store.facts().unwrap().into_iter();
    facts.map(|fact| (fact.key, fact.value)).collect()
}

fn keep(store: &dyn Store, changes: Vec<FactChange>) {
    store.keep_facts(changes).blocking_recv().unwrap().unwrap();
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

#[test]
fn facts_are_kept_replaced_and_forgotten() {
    on_each(|store, _| {
        assert_eq!(facts(store.as_ref()), []);
        keep(
            store.as_ref(),
            vec![
                change("exchange/b", Some("1")),
                change("binding/1", Some("{}")),
                change("exchange/a", Some("2")),
            ],
        );
        assert_eq!(
            facts(store.as_ref()),
            pairs(&[("binding/1", "{}"), ("exchange/a", "2"), ("exchange/b", "1")])
        );
        // Asked without a wait between them, they happen in the order asked; the last one to speak of a key counts.
        let first = store.keep_facts(vec![change("exchange/a", None), change("never/there", None)]);
        let second = store.keep_facts(vec![
            change("exchange/a", Some("3")),
            change("exchange/b", Some("4")),
            change("exchange/b", None),
        ]);
        assert_eq!(
            facts(store.as_ref()),
            pairs(&[("binding/1", "{}"), ("exchange/a", "3")])
        );
        first.blocking_recv().unwrap().unwrap();
        second.blocking_recv().unwrap().unwrap();
        // The journal's store is looked at twice.
        keep(
            store.as_ref(),
            vec![change("binding/1", None), change("exchange/a", None)],
        );
    });
}

#[test]
fn facts_survive_a_crash_and_a_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    keep(
        store.as_ref(),
        vec![change("a", Some("1")), change("b", Some("2"))],
    );
    drop(store);
    let store = open(directory.path(), SMALL);
    assert_eq!(facts(store.as_ref()), pairs(&[("a", "1"), ("b", "2")]));
    keep(store.as_ref(), vec![change("a", None), change("b", Some("3"))]);
    super::harness::shut_down(store.clone());
    assert!(matches!(store.facts(), Err(StoreError::ShuttingDown)));
    let refused = store
        .keep_facts(vec![change("c", Some("4"))])
        .blocking_recv()
        .unwrap();
    assert!(matches!(refused, Err(StoreError::ShuttingDown)));
    drop(store);
    let store = open(directory.path(), SMALL);
    assert_eq!(facts(store.as_ref()), pairs(&[("b", "3")]));
}
