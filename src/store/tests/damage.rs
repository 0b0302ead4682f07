//! Hurt and cut files: what was whole is served, what was hurt is a gap, and nothing is made up.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use callboard_core::record::{Batch, RecordParts};
use callboard_protocol::{Offset, PartitionId};

use super::harness::{ONE_JOURNAL, Owner, batch, create, key, open, shut_down};
use crate::store::{
    TopicId,
    journal::{
        Disk, DiskFile, OpenMode, OsDisk,
        reader::{Ending, scan},
        recovery::Replay,
        salvage::salvage,
        segment::Segment,
    },
};

const JOURNAL: &str = "journal/00000001.journal";

/// What a partition holds: payloads in order, `None` for a hurt record.
pub type Contents = BTreeMap<u32, Vec<Option<String>>>;

pub fn payloads(batches: &[Batch]) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for batch in batches {
        if batch.records.is_empty() {
            all.extend((0..batch.count).map(|_| None));
        }
        all.extend(
            batch
                .iter()
                .map(|(_, parts)| Some(String::from_utf8(parts.payload.to_vec()).unwrap())),
        );
    }
    all
}

pub fn replayed(files: &[&Bytes]) -> Contents {
    let mut replay = Replay::default();
    for file in files {
        // A lost header is found out from the entries.
        let _ = replay.feed(file);
    }
    let partitions = replay.finish().partitions;
    partitions
        .iter()
        .map(|(key, batches)| (key.partition.0, payloads(batches)))
        .collect()
}

/// A journal with entries of three partitions, and what is in it; returns its topic as well.
fn sample(directory: &Path) -> (Bytes, Contents, TopicId) {
    let store = open(directory, ONE_JOURNAL);
    let id = create(store.as_ref(), "t");
    for round in 0..4_usize {
        for partition in 0..3 {
            let mut owner = Owner::open(&store, key(id, partition), 1 + round as u64);
            // 120 bytes make records of 129 bytes; 119 make 128, so that a flipped bit in a length can
            // lead exactly to the next record but one.
            let texts: Vec<_> = (0..=round)
                .map(|index| {
                    format!(
                        "{partition}.{round}.{index}:{}",
                        "x".repeat(113 + partition as usize)
                    )
                })
                .collect();
            owner
                .publish(
                    round as u64,
                    &texts.iter().map(String::as_str).collect::<Vec<_>>(),
                )
                .unwrap();
        }
    }
    drop(store);
    let bytes = Bytes::from(fs::read(directory.join(JOURNAL)).unwrap());
    let used = scan(&bytes).entries.last().unwrap().end();
    let bytes = bytes.slice(..used);
    let contents = replayed(&[&bytes]);
    assert_eq!(contents.values().map(Vec::len).sum::<usize>(), 30);
    (bytes, contents, id)
}

/// How many records are hurt; fails if a record is missing, or is not what it was.
pub fn hurt(found: &Contents, expected: &Contents, what: &str) -> usize {
    let mut hurt = 0;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{what}"
    );
    for (partition, expected) in expected {
        let found = &found[partition];
        assert_eq!(found.len(), expected.len(), "{what}, partition {partition}");
        for (found, expected) in found.iter().zip(expected) {
            if found.is_none() {
                hurt += 1;
            } else {
                assert_eq!(found, expected, "{what}, partition {partition}");
            }
        }
    }
    hurt
}

#[test]
fn flipped_bit_in_the_journal_costs_at_most_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, contents, _) = sample(directory.path());
    let mut most = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let lost = hurt(
            &replayed(&[&Bytes::from(flipped)]),
            &contents,
            &format!("bit {bit}"),
        );
        assert!(lost <= 1, "bit {bit} costs {lost} records");
        most = most.max(lost);
    }
    assert_eq!(most, 1, "a hurt record is told from a whole one");
}

#[test]
fn store_opens_with_any_flipped_bit_and_serves_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, contents, id) = sample(directory.path());
    let path = directory.path().join(JOURNAL);
    for bit in (0..bytes.len() * 8).step_by(1223) {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(directory.path(), copy.path());
        let mut flipped = fs::read(&path).unwrap();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(copy.path().join(JOURNAL), flipped).unwrap();
        let mut lost = None;
        for _ in 0..3 {
            let store = open(copy.path(), ONE_JOURNAL);
            let found =
                (0..3).map(|partition| (partition, Owner::open(&store, key(id, partition), 1).read_all()));
            let found = hurt(&found.collect(), &contents, &format!("bit {bit}"));
            assert!(found <= 1);
            assert_eq!(
                *lost.get_or_insert(found),
                found,
                "what is hurt stays hurt once it is laid down"
            );
            shut_down(store);
        }
    }
}

pub fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn journal_cut_at_any_byte_keeps_every_whole_record_before_the_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, contents, _) = sample(directory.path());
    let entries = scan(&bytes).entries;
    for length in bytes.len().saturating_sub(4096)..=bytes.len() {
        let found = replayed(&[&bytes.slice(..length)]);
        for (partition, expected) in &contents {
            let whole: u32 = entries
                .iter()
                .filter(|entry| entry.header.key.partition == PartitionId(*partition))
                .map(|entry| whole_before(&bytes, entry.position + 64, entry.header.count, length))
                .sum();
            let found = found.get(partition).map_or(&[][..], Vec::as_slice);
            assert_eq!(
                found,
                &expected[..whole as usize],
                "cut at {length}, partition {partition}"
            );
        }
    }
}

/// How many of `count` records from `position` on end at or before `length`.
pub fn whole_before(bytes: &Bytes, position: usize, count: u32, length: usize) -> u32 {
    let mut position = position;
    for index in 0..count {
        position += callboard_core::record::encoded_len(&bytes[position..]).unwrap();
        if position > length {
            return index;
        }
    }
    count
}

#[test]
fn store_opens_with_a_cut_journal_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, contents, id) = sample(directory.path());
    for length in (0..=bytes.len()).step_by(211) {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(directory.path(), copy.path());
        fs::write(copy.path().join(JOURNAL), &bytes[..length]).unwrap();
        let store = open(copy.path(), ONE_JOURNAL);
        for partition in 0..3 {
            let mut owner = Owner::open(&store, key(id, partition), 1);
            let found = owner.read_all();
            assert_eq!(found, contents[&partition][..found.len()], "cut at {length}");
            owner.publish(100, &["goes on"]).unwrap();
        }
        drop(store);
        let store = open(copy.path(), ONE_JOURNAL);
        for partition in 0..3 {
            let found = Owner::open(&store, key(id, partition), 1).read_all();
            assert_eq!(
                found.last().unwrap().as_deref(),
                Some("goes on"),
                "cut at {length}"
            );
        }
    }
}

/// A disk whose only file is in memory, so that thousands of hurt ones can be tried.
struct OneFile(Arc<Mutex<Vec<u8>>>);

impl Disk for OneFile {
    fn open(&self, _: &Path, _: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self(self.0.clone())))
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for OneFile {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let from = bytes.get(position as usize..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

#[test]
fn flipped_bit_in_a_segment_costs_at_most_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let (_, contents, id) = sample(directory.path());
    shut_down(open(directory.path(), ONE_JOURNAL));
    let expected = &contents[&1];
    let indexed = directory.path().join("topics").join(id.0.to_string()).join("1");
    let bytes = fs::read(indexed.join("00000000000000000000.segment")).unwrap();
    assert!(indexed.join("00000000000000000000.index").exists());
    let mut most = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let disk = OneFile(Arc::new(Mutex::new(flipped)));
        // With an index and without one.
        let place = if bit % 2 == 0 {
            indexed.as_path()
        } else {
            directory.path()
        };
        let segment = Segment::existing(place, key(id, 1), Offset(0), bytes.len() as u64);
        let end = segment.recover_end(&disk).unwrap();
        assert_eq!(end.next_offset, Offset(expected.len() as u64), "bit {bit}");
        assert_eq!(
            disk.length().unwrap(),
            bytes.len() as u64,
            "bit {bit}: what is only hurt is not cut"
        );
        let found = read_segment(&segment, &disk, expected.len());
        let lost = hurt(
            &BTreeMap::from([(1, found)]),
            &BTreeMap::from([(1, expected.clone())]),
            &format!("bit {bit}"),
        );
        assert!(lost <= 1, "bit {bit} costs {lost} records");
        most = most.max(lost);
    }
    assert_eq!(most, 1, "a hurt record is told from a whole one");
}

/// The segment's records, read one entry at a time.
fn read_segment(segment: &Segment, disk: &dyn Disk, count: usize) -> Vec<Option<String>> {
    let mut found = Vec::new();
    while found.len() < count {
        let batches = segment.read(disk, Offset(found.len() as u64), 1).unwrap();
        let skipped = found.len() as u64 - batches[0].base_offset.0;
        found.extend(payloads(&batches).into_iter().skip(skipped as usize));
    }
    found
}

#[test]
fn hurt_index_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let (_, contents, id) = sample(directory.path());
    shut_down(open(directory.path(), ONE_JOURNAL));
    let segments = directory.path().join("topics").join(id.0.to_string()).join("2");
    let path = segments.join("00000000000000000000.index");
    let index = fs::read(&path).unwrap();
    for byte in 0..index.len() {
        let mut hurt = index.clone();
        hurt[byte] ^= 0x10;
        fs::write(&path, hurt).unwrap();
        let length = fs::metadata(path.with_extension("segment")).unwrap().len();
        let segment = Segment::existing(&segments, key(id, 2), Offset(0), length);
        assert_eq!(
            payloads(&segment.read(&OsDisk, Offset(0), 1 << 20).unwrap()),
            contents[&2],
            "byte {byte}"
        );
    }
}

#[test]
fn old_bytes_of_a_recycled_file_are_not_read_as_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (old, contents, _) = sample(directory.path());
    let second = tempfile::tempdir().unwrap();
    let (new, _, _) = sample(second.path());
    // The new file's header and first two entries over the old file's bytes.
    let kept = scan(&new).entries[1].end();
    let mut recycled = new[..kept].to_vec();
    recycled.extend_from_slice(&old[kept..]);
    let found = replayed(&[&Bytes::from(recycled)]);
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 2);
    assert!(
        found
            .iter()
            .all(|(partition, records)| records[..] == contents[partition][..1])
    );
}

#[test]
fn entry_before_a_whole_one_is_hurt_and_not_torn() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, contents, _) = sample(directory.path());
    let entries = scan(&bytes).entries;
    let victim = &entries[4];
    assert_eq!(victim.ending, Ending::Whole);
    let mut hurt_bytes = bytes.to_vec();
    hurt_bytes[victim.position..victim.end()].fill(0xAA);
    let found = replayed(&[&Bytes::from(hurt_bytes)]);
    let partition = victim.header.key.partition.0;
    let lost = hurt(&found, &contents, "a whole entry");
    assert_eq!(lost, victim.header.count as usize);
    assert_eq!(
        found[&partition].iter().filter(|record| record.is_none()).count(),
        lost
    );
}

#[test]
fn record_inside_a_payload_is_not_taken_for_a_record() {
    let inner = batch(Offset(0), 0, &["forged"]).records;
    let mut records = Vec::new();
    let mut outer = b"padding ".to_vec();
    outer.extend_from_slice(&inner);
    for payload in [&b"first"[..], &outer, &b"last"[..]] {
        let parts = RecordParts {
            payload,
            binary: true,
            ..RecordParts::default()
        };
        parts.encode(&mut records);
    }
    let second = callboard_core::record::encoded_len(&records).unwrap();
    for bit in 0..32 {
        let mut hurt = records.clone();
        hurt[second + bit / 8] ^= 1 << (bit % 8);
        let found: Vec<_> = salvage(&hurt, 3)
            .iter()
            .map(|piece| (piece.index, piece.count))
            .collect();
        assert_eq!(found, [(0, 1), (2, 1)], "bit {bit} of the length");
    }
}
