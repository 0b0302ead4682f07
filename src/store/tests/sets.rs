//! What the journal's files say of sets, cut and hurt anywhere: all of a set or nothing, and of a set that was once
//! whole everything but the hurt record.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use callboard_protocol::{Offset, Timestamp};

use super::{
    damage::{copy_directory, hurt, payloads, replayed, whole_before},
    harness::{ONE_JOURNAL, batch, key, open},
    together::{create_both, fsync, owners, settle_all, submit_all},
};
use crate::store::{
    PartitionKey, TopicId,
    journal::{
        format::{EntryHeader, EntryKind, FileHeader, FileKind, Part},
        reader::{Found, scan},
        recovery::Replay,
    },
};

const JOURNAL: &str = "journal/00000001.journal";

/// A journal that ends with a set of four, after others and after single batches; returns the bytes written.
fn sample(directory: &Path) -> (Bytes, [TopicId; 2]) {
    let store = open(directory, ONE_JOURNAL);
    let topics = create_both(store.as_ref());
    let mut owners = owners(&store, topics, 1);
    let filler = "x".repeat(110);
    for round in 0..3 {
        owners[round].publish(1, &["alone", &filler]).unwrap();
        let texts = [format!("{round}.0{filler}"), format!("{round}.1{filler}")];
        submit_all(&mut owners, &[&texts[0], &texts[1]], fsync).unwrap();
        assert!(settle_all(&mut owners).iter().all(Result::is_ok));
    }
    drop((owners, store));
    let bytes = Bytes::from(fs::read(directory.join(JOURNAL)).unwrap());
    let used = scan(&bytes).entries.last().unwrap().end();
    (bytes.slice(..used), topics)
}

/// How many records of each partition a journal holds.
fn counts(files: &[&Bytes]) -> BTreeMap<PartitionKey, usize> {
    let mut replay = Replay::default();
    for file in files {
        // A lost header is found out from the entries.
        let _ = replay.feed(file);
    }
    let partitions = replay.finish().partitions;
    partitions
        .iter()
        .map(|(key, batches)| (*key, payloads(batches).len()))
        .collect()
}

#[test]
fn journal_cut_at_any_byte_has_all_of_a_set_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, _) = sample(directory.path());
    let entries = scan(&bytes).entries;
    let body_end = |entry: &Found| entry.position + 64 + entry.header.body_bytes as usize;
    for length in 0..=bytes.len() {
        let mut expected = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let whole = match entry.header.kind {
                // The last entry's records are all of it that must be there.
                EntryKind::Part(part) => {
                    let last = &entries[place + usize::from(part.of - 1 - part.index)];
                    if body_end(last) <= length { 2 } else { 0 }
                }
                _ => whole_before(&bytes, entry.position + 64, entry.header.count, length) as usize,
            };
            *expected.entry(entry.header.key).or_default() += whole;
        }
        expected.retain(|_, count| *count > 0);
        let mut found = counts(&[&bytes.slice(..length)]);
        found.retain(|_, count| *count > 0);
        assert_eq!(found, expected, "cut at {length}");
    }
}

#[test]
fn flipped_bit_in_a_set_costs_at_most_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, _) = sample(directory.path());
    // Partitions 0 and 3 of both topics have the same numbers: told apart by what they hold.
    let contents = replayed(&[&bytes]);
    let mut most = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = replayed(&[&Bytes::from(flipped)]);
        let lost = hurt(&found, &contents, &format!("bit {bit}"));
        assert!(lost <= 1, "bit {bit} costs {lost} records");
        most = most.max(lost);
    }
    assert_eq!(most, 1, "a hurt record is told from a whole one");
}

#[test]
fn torn_set_does_not_come_back_behind_a_later_file() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, topics) = sample(directory.path());
    let entries = scan(&bytes).entries;
    let last_set = &entries[entries.len() - 4..];
    for place in [
        last_set[1].position + 100,
        last_set[3].position - 1,
        last_set[3].end() - 1,
    ] {
        let torn = bytes.slice(..place);
        let copy = tempfile::tempdir().unwrap();
        copy_directory(directory.path(), copy.path());
        fs::write(copy.path().join(JOURNAL), &torn).unwrap();
        let before = counts(&[&torn]);
        let store = open(copy.path(), ONE_JOURNAL);
        let mut owners = owners(&store, topics, 1);
        owners[1].publish(5, &["later"]).unwrap();
        drop((owners, store));
        let later = Bytes::from(fs::read(copy.path().join("journal/00000002.journal")).unwrap());
        // As if the first file had not been laid down when the second crash came.
        let mut after = counts(&[&torn, &later]);
        *after.get_mut(&key(topics[0], 1)).unwrap() -= 1;
        assert_eq!(after, before, "cut at {place}");
    }
}

/// A journal file made by hand.
struct File {
    id: u64,
    bytes: Vec<u8>,
}

impl File {
    fn new(number: u64) -> Self {
        let header = FileHeader {
            kind: FileKind::Journal,
            id: number + 100,
            number,
            first_sequence: 0,
            key: key(TopicId(0), 0),
            timestamp: Timestamp(0),
        };
        Self {
            id: header.id,
            bytes: header.encode().to_vec(),
        }
    }

    fn add(&mut self, sequence: u64, kind: EntryKind, (partition, base): (u32, u64)) {
        let body = match kind {
            EntryKind::Cut => batch(Offset(base), 1, &[]),
            _ => batch(Offset(base), 1, &["x"]),
        };
        let header = EntryHeader {
            id: self.id,
            sequence,
            key: key(TopicId(1), partition),
            kind,
            base_offset: Offset(base),
            timestamp: Timestamp(1),
            count: body.count,
            body_bytes: body.records.len() as u32,
        };
        header.encode_entry(&body.records, &mut self.bytes);
    }

    fn add_set(&mut self, sequence: u64, places: &[(u32, u64)]) {
        for (index, place) in places.iter().enumerate() {
            let part = Part {
                index: index as u16,
                of: places.len() as u16,
            };
            self.add(sequence + index as u64, EntryKind::Part(part), *place);
        }
    }

    fn bytes(&self) -> Bytes {
        Bytes::from(self.bytes.clone())
    }
}

fn count_of(files: &[&File], partition: u32) -> usize {
    let files: Vec<_> = files.iter().map(|file| file.bytes()).collect();
    let counts = counts(&files.iter().collect::<Vec<_>>());
    counts
        .get(&key(TopicId(1), partition))
        .copied()
        .unwrap_or_default()
}

#[test]
fn refusal_of_one_part_that_was_written_down_is_that_of_all() {
    let mut first = File::new(1);
    first.add_set(1, &[(0, 0), (1, 0), (2, 0)]);
    first.add_set(4, &[(0, 1), (2, 1)]);
    let mut second = File::new(2);
    second.add(6, EntryKind::Cut, (1, 0));
    // The cuts of the others did not reach the disk. What partition 2 has later is cut with its part of the first set.
    for partition in 0..3 {
        assert_eq!(
            count_of(&[&first, &second], partition),
            0,
            "partition {partition}"
        );
    }
    // A place that was given again is not what was refused.
    let mut second = File::new(2);
    second.add(6, EntryKind::Cut, (0, 0));
    second.add(7, EntryKind::Cut, (1, 0));
    second.add(8, EntryKind::Cut, (2, 0));
    second.add(9, EntryKind::Records, (0, 0));
    second.add(10, EntryKind::Records, (2, 0));
    second.add(11, EntryKind::Cut, (1, 0));
    let found = [0, 1, 2].map(|partition| count_of(&[&first, &second], partition));
    assert_eq!(found, [1, 0, 1]);
}

#[test]
fn sets_of_the_same_size_are_told_apart() {
    let mut file = File::new(1);
    file.add_set(1, &[(0, 0), (1, 0)]);
    // The last entry of this one is not there.
    file.add(3, EntryKind::Part(Part { index: 0, of: 2 }), (0, 1));
    assert_eq!([0, 1].map(|partition| count_of(&[&file], partition)), [1, 1]);
    // Something whole after it in the same file: then it was once whole, and its other entry is hurt.
    file.add_set(5, &[(0, 2), (1, 2)]);
    assert_eq!([0, 1].map(|partition| count_of(&[&file], partition)), [3, 3]);
}
