//! The bytes of version 1: whoever changes them changes the version, and `docs/storage.md`.

use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::harness::batch;
use crate::store::{
    PartitionKey, TopicId,
    journal::format::{EntryHeader, EntryKind, FileHeader, FileKind},
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
fn file_header_has_the_bytes_of_version_1() {
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
fn entry_has_the_bytes_of_version_1() {
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

const FILE_HEADER: &str = "\
43425345474d4e540100000044c02c58
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
