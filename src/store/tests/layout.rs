//! The bytes of version 2: whoever changes them changes the version, and `docs/storage.md`.

use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::harness::batch;
use crate::store::{
    PartitionKey, TopicId,
    journal::format::{EntryHeader, EntryKind, FileHeader, FileHeaderError, FileKind, Part, Side},
};

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join("")
    });
    lines.collect::<Vec<_>>().join("\n")
}

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(0x1122_3344),
    partition: PartitionId(0x55),
};

#[test]
fn file_header_has_the_bytes_of_version_2() {
    let header = FileHeader {
        kind: FileKind::Segment,
        id: 0x0123_4567_89AB_CDEF,
        number: 42,
        first_sequence: 7,
        key: KEY,
        timestamp: Timestamp(1000),
    };
    let bytes = header.encode();
    assert_eq!(bytes[..64], bytes[64..]);
    assert_eq!(hex(&bytes[..64]), FILE_HEADER);
    assert_eq!(FileHeader::decode(&bytes, FileKind::Segment), Ok(header));
}

#[test]
fn entry_has_the_bytes_of_version_2() {
    let batch = batch(Offset(42), 1000, &["{\"a\":1}", "2"]);
    let header = EntryHeader {
        id: 0x0123_4567_89AB_CDEF,
        sequence: 7,
        key: KEY,
        kind: EntryKind::Records,
        base_offset: batch.base_offset,
        timestamp: batch.timestamp,
        count: batch.count,
        body_bytes: batch.records.len() as u32,
    };
    let mut bytes = Vec::new();
    header.encode_entry(&batch.records, &mut bytes);
    assert_eq!(bytes.len(), header.entry_bytes());
    assert_eq!(hex(&bytes), ENTRY);
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

/// Makes a file's header, one copy or both, one of another version.
pub fn set_version(file: &mut [u8], version: u8) {
    for copy in file.chunks_exact_mut(64).take(2) {
        copy[8] = version;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&copy[0..12]), &copy[16..64]);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn file_of_version_1_is_read_and_one_of_version_3_is_refused() {
    let former = FileHeader::decode(&unhex(FILE_HEADER_1), FileKind::Segment).unwrap();
    let now = FileHeader::decode(&unhex(FILE_HEADER), FileKind::Segment).unwrap();
    assert_eq!(
        (former.number, former.key, former.timestamp),
        (now.number, now.key, now.timestamp)
    );
    let mut later = unhex(FILE_HEADER);
    set_version(&mut later, 3);
    assert_eq!(
        FileHeader::decode(&later, FileKind::Segment),
        Err(FileHeaderError::Version(3))
    );
}

#[test]
fn part_of_a_set_says_so_in_its_kind() {
    let part = |index, of| EntryKind::Part(Part { index, of });
    for (kind, code) in [
        (EntryKind::Records, 1_u32),
        (EntryKind::Cut, 2),
        (EntryKind::Hurt, 3),
        (EntryKind::Expired, 4),
        (part(0, 2), 0x0020_0001),
        (part(1, 2), 0x0020_0101),
        (part(1023, 1024), 0x4003_FF01),
    ] {
        let header = EntryHeader {
            id: 1,
            sequence: 7,
            key: KEY,
            kind,
            base_offset: Offset(0),
            timestamp: Timestamp(0),
            count: 0,
            body_bytes: 0,
        };
        let bytes = header.encode(Side::Header);
        assert_eq!(bytes[52..56], code.to_le_bytes());
        assert_eq!(EntryHeader::decode(&bytes, Side::Header, 1), Some(header));
    }
    for kind in [part(0, 1), part(2, 2), part(0, 1025)] {
        let header = EntryHeader {
            id: 1,
            sequence: 7,
            key: KEY,
            kind,
            base_offset: Offset(0),
            timestamp: Timestamp(0),
            count: 0,
            body_bytes: 0,
        };
        assert_eq!(
            EntryHeader::decode(&header.encode(Side::Header), Side::Header, 1),
            None
        );
    }
}

const FILE_HEADER_1: &str = "\
43425345474d4e540100000044c02c58
efcdab89674523012a00000000000000
07000000000000004433221100000000
5500000000000000e803000000000000";

const FILE_HEADER: &str = "\
43425345474d4e54020000004bab73b1
efcdab89674523012a00000000000000
07000000000000004433221100000000
5500000000000000e803000000000000";

const ENTRY: &str = "\
434265689ff2d2d7efcdab8967452301
07000000000000004433221100000000
2a00000000000000e803000000000000
5500000001000000020000001a000000
080000002bddcbd1007b2261223a317d
020000000fe57e5d0032000000000000
434265667799203eefcdab8967452301
07000000000000004433221100000000
2a00000000000000e803000000000000
5500000001000000020000001a000000";
