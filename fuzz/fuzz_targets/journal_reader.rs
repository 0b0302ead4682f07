//! Any bytes may be found where a journal file or a segment was: the reader must neither panic nor take
//! for ever, and whatever it calls whole must be whole.
//!
//! Random bytes hardly ever have a right checksum, so the input also describes a sound file and the
//! bytes of it that are hurt.
#![no_main]

use callboard::store::{
    PartitionKey, TopicId,
    journal::{
        format::{EntryHeader, EntryKind, FileHeader, FileKind, Part},
        reader::{Piece, Scan, scan, scan_file},
    },
};
use callboard_core::record::{self, RecordParts};
use callboard_protocol::{Offset, PartitionId, Timestamp};
use libfuzzer_sys::fuzz_target;

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(1),
    partition: PartitionId(0),
};

fuzz_target!(|bytes: &[u8]| {
    check(bytes, &scan(bytes));
    check(bytes, &scan_file(bytes, FileKind::Segment));
    let file = hurt_file(bytes);
    check(&file, &scan(&file));
});

/// A journal file with entries whose payloads are parts of `input`, hurt where `input` says.
fn hurt_file(input: &[u8]) -> Vec<u8> {
    let (head, payloads) = input.split_at(input.len().min(24));
    let header = FileHeader {
        kind: FileKind::Journal,
        id: 77,
        number: 1,
        first_sequence: 1,
        key: KEY,
        timestamp: Timestamp(0),
    };
    let mut file = header.encode().to_vec();
    for (sequence, part) in payloads.chunks(40).enumerate() {
        let mut body = Vec::new();
        let records = part.chunks(usize::from(part[0] % 16) + 1);
        let count = records.len() as u32;
        for payload in records {
            let parts = RecordParts {
                payload,
                ..RecordParts::default()
            };
            parts.encode(&mut body);
        }
        let entry = EntryHeader {
            id: 77,
            sequence: sequence as u64 + 1,
            key: KEY,
            // Some are parts of a set, of which one or the other may be missing.
            kind: match u16::from(part[0] / 64) {
                0 => EntryKind::Records,
                index => EntryKind::Part(Part { index: index - 1, of: 3 }),
            },
            base_offset: Offset(0),
            timestamp: Timestamp(0),
            count,
            body_bytes: body.len() as u32,
        };
        entry.encode_entry(&body, &mut file);
    }
    for fault in head.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([fault[0], fault[1]])) % file.len();
        file[place] ^= fault[2];
    }
    file
}

fn check(bytes: &[u8], scan: &Scan) {
    let mut last_sequence = None;
    for found in &scan.entries {
        assert_eq!(Some(found.header.id), scan.id, "an entry is the file's own");
        assert!(last_sequence < Some(found.header.sequence), "sequence numbers rise");
        last_sequence = Some(found.header.sequence);
        let mut next = 0;
        for piece in &found.pieces {
            assert!(piece.index >= next && piece.index + piece.count <= found.header.count);
            next = piece.index + piece.count;
            check_piece(bytes, piece);
        }
    }
}

fn check_piece(bytes: &[u8], piece: &Piece) {
    let mut position = piece.bytes.start;
    for _ in 0..piece.count {
        position += record::verify(&bytes[position..]).expect("a record that is called whole is whole");
    }
    assert_eq!(position, piece.bytes.end);
}
