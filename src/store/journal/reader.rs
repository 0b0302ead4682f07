//! Finds the entries in a journal file's or a segment's bytes, whatever has happened to them.
//!
//! Pure, and total: any bytes give a [`Scan`], never a panic, and work that grows with their length.
//! Called at recovery, when a segment turns out to be hurt, and by the fuzzer.

use std::ops::Range;

use callboard_core::record;

use super::{
    format::{
        ALIGNMENT, ENTRY_HEADER_BYTES, EntryHeader, FILE_HEADER_BYTES, FileHeader, FileHeaderError, FileKind,
        Side, claimed_id,
    },
    salvage::salvage,
};

/// Whole records that follow one another in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The place of the first one in its entry, from 0.
    pub index: u32,
    /// How many.
    pub count: u32,
    /// Their bytes in the file.
    pub bytes: Range<usize>,
}

/// Whether an entry was written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its footer is there.
    Whole,
    /// Its footer is not there: hurt, or, if nothing follows, torn.
    Missing,
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its header, or its footer, says.
    pub header: EntryHeader,
    /// Where it begins in the file.
    pub position: usize,
    /// Its whole records; offsets that are in none of these are hurt.
    pub pieces: Vec<Piece>,
    /// Whether it was written to its end.
    pub ending: Ending,
}

impl Found {
    /// The first byte after the entry.
    #[must_use]
    pub fn end(&self) -> usize {
        self.position.saturating_add(self.header.entry_bytes())
    }

    /// Whether every record is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.header.kind.has_records()
            || (self.pieces.len() == 1 && self.pieces[0].count == self.header.count)
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The file's header, or why there is none.
    pub header: Result<FileHeader, FileHeaderError>,
    /// The file's id: the header's or, if that is lost, the first entry's.
    pub id: Option<u64>,
    /// The entries in the order of their sequence numbers.
    pub entries: Vec<Found>,
}

/// Finds every entry in the bytes of a journal file.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    scan_file(bytes, FileKind::Journal)
}

/// Finds every entry in the bytes of a file of `kind`.
#[must_use]
pub fn scan_file(bytes: &[u8], kind: FileKind) -> Scan {
    let header = FileHeader::decode(bytes, kind);
    let (id, first_sequence) = match header {
        Ok(header) => (Some(header.id), header.first_sequence),
        Err(FileHeaderError::Version(_)) => (None, 0),
        Err(FileHeaderError::Hurt) => (infer_id(bytes), 0),
    };
    let entries = id.map_or_else(Vec::new, |id| {
        scan_entries(bytes, id, first_sequence, FILE_HEADER_BYTES)
    });
    Scan { header, id, entries }
}

/// Finds the entries of file `id` from `position` (a multiple of the alignment) on, with sequence
/// numbers of at least `sequence_min`.
#[must_use]
pub fn scan_entries(bytes: &[u8], id: u64, sequence_min: u64, position: usize) -> Vec<Found> {
    let mut entries = Vec::new();
    let mut position = position;
    let mut sequence_min = sequence_min;
    while position + ENTRY_HEADER_BYTES <= bytes.len() {
        let Some((start, header, ending)) = next_entry(bytes, id, sequence_min, position) else {
            break;
        };
        let found = Found {
            position: start,
            pieces: pieces(bytes, start, &header),
            header,
            ending,
        };
        position = found.end().min(bytes.len());
        sequence_min = header.sequence.saturating_add(1);
        entries.push(found);
    }
    entries
}

/// The first entry that begins at or after `position`: by its header, or by its footer if that is hurt.
fn next_entry(
    bytes: &[u8],
    id: u64,
    sequence_min: u64,
    position: usize,
) -> Option<(usize, EntryHeader, Ending)> {
    let mut place = position;
    while place + ENTRY_HEADER_BYTES <= bytes.len() {
        if let Some(header) = EntryHeader::decode(&bytes[place..], Side::Header, id)
            && header.sequence >= sequence_min
        {
            let footer = bytes.get(place + header.footer_position()..);
            let is_whole =
                footer.and_then(|footer| EntryHeader::decode(footer, Side::Footer, id)) == Some(header);
            return Some((
                place,
                header,
                if is_whole { Ending::Whole } else { Ending::Missing },
            ));
        }
        if let Some(footer) = EntryHeader::decode(&bytes[place..], Side::Footer, id)
            && footer.sequence >= sequence_min
            && let Some(start) = place.checked_sub(footer.footer_position())
            && start >= position
        {
            return Some((start, footer, Ending::Whole));
        }
        place += ALIGNMENT;
    }
    None
}

fn pieces(bytes: &[u8], start: usize, header: &EntryHeader) -> Vec<Piece> {
    if !header.kind.has_records() {
        return Vec::new();
    }
    let body_start = start + ENTRY_HEADER_BYTES;
    let body_end = body_start
        .saturating_add(header.body_bytes as usize)
        .min(bytes.len());
    let body = &bytes[body_start.min(body_end)..body_end];
    let is_cut = body.len() < header.body_bytes as usize;
    let mut pieces = if is_cut {
        prefix(body, header.count)
    } else {
        salvage(body, header.count)
    };
    for piece in &mut pieces {
        piece.bytes = piece.bytes.start + body_start..piece.bytes.end + body_start;
    }
    pieces
}

/// The whole records at the start of a body.
pub(super) fn prefix(body: &[u8], count: u32) -> Vec<Piece> {
    let mut end = 0;
    let mut whole = 0;
    while whole < count
        && let Ok(size) = record::verify(&body[end..])
    {
        end += size;
        whole += 1;
    }
    if whole == 0 {
        return Vec::new();
    }
    vec![Piece {
        index: 0,
        count: whole,
        bytes: 0..end,
    }]
}

fn infer_id(bytes: &[u8]) -> Option<u64> {
    (FILE_HEADER_BYTES..bytes.len())
        .step_by(ALIGNMENT)
        .find_map(|position| claimed_id(&bytes[position..]))
}
