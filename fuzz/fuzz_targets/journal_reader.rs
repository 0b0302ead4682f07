//! Any bytes may be found where a journal file or a segment was: the reader must neither panic nor take
//! for ever, and whatever it calls whole must be whole.
#![no_main]

use callboard::store::journal::{
    format::FileKind,
    reader::{Piece, Scan, scan, scan_file},
};
use callboard_core::record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes, &scan(bytes));
    check(bytes, &scan_file(bytes, FileKind::Segment));
});

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
