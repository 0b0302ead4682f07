//! The bytes of journal files and segments: one layout for both, version 2 (`docs/storage.md`).
//!
//! Pure: encodes into buffers and reads from slices. An entry repeats its header after its body, under
//! another magic and a checksum of its own, so that no single hurt byte hides where an entry begins and
//! ends; the body needs no checksum of its own because every record in it has one.

use callboard_protocol::{Offset, PartitionId, Timestamp};

use crate::store::{PartitionKey, TopicId};

/// The version of the layout that this code writes.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest version that it reads: 1 has no parts of sets and nothing expired, and is otherwise the same.
pub const FORMAT_VERSION_MIN: u32 = 1;
/// Bytes before the first entry of a file: two equal copies of the file's header.
pub const FILE_HEADER_BYTES: usize = 2 * FILE_HEADER_COPY_BYTES;
/// Bytes of one copy of a file's header.
pub const FILE_HEADER_COPY_BYTES: usize = 64;
/// Bytes of an entry's header, and of its footer.
pub const ENTRY_HEADER_BYTES: usize = 64;
/// Entries begin, and footers stand, at multiples of this.
pub const ALIGNMENT: usize = 8;
/// No body is longer; a header that claims more is taken for hurt.
pub const BODY_BYTES_MAX: usize = 1 << 30;

const JOURNAL_MAGIC: [u8; 8] = *b"CBJOURNL";
const SEGMENT_MAGIC: [u8; 8] = *b"CBSEGMNT";
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"CBeh");
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"CBef");

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Entries of all partitions in the order they were written.
    Journal,
    /// Entries of one partition.
    Segment,
}

impl FileKind {
    fn magic(self) -> [u8; 8] {
        match self {
            Self::Journal => JOURNAL_MAGIC,
            Self::Segment => SEGMENT_MAGIC,
        }
    }
}

/// The header at the start of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// What the file holds.
    pub kind: FileKind,
    /// Random; every entry of the file repeats it, so that old bytes are not taken for the file's own.
    pub id: u64,
    /// A journal file's number, a segment's base offset.
    pub number: u64,
    /// No entry of the file has a lower sequence number.
    pub first_sequence: u64,
    /// A segment's partition; zero in a journal file.
    pub key: PartitionKey,
    /// No record of a segment has an earlier timestamp; zero in a journal file.
    pub timestamp: Timestamp,
}

/// A file header that can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileHeaderError {
    /// Neither copy is whole.
    Hurt,
    /// It is whole and of another version.
    Version(u32),
}

impl FileHeader {
    /// Both copies, as they stand at the start of the file.
    #[must_use]
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut copy = [0; FILE_HEADER_COPY_BYTES];
        copy[0..8].copy_from_slice(&self.kind.magic());
        copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[16..24].copy_from_slice(&self.id.to_le_bytes());
        copy[24..32].copy_from_slice(&self.number.to_le_bytes());
        copy[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        copy[40..48].copy_from_slice(&self.key.topic.0.to_le_bytes());
        copy[48..52].copy_from_slice(&self.key.partition.0.to_le_bytes());
        copy[56..64].copy_from_slice(&self.timestamp.0.to_le_bytes());
        let crc = file_header_crc(&copy);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; FILE_HEADER_BYTES];
        both[..FILE_HEADER_COPY_BYTES].copy_from_slice(&copy);
        both[FILE_HEADER_COPY_BYTES..].copy_from_slice(&copy);
        both
    }

    /// Reads the header of a file from its first bytes, from whichever copy is whole.
    ///
    /// # Errors
    /// [`FileHeaderError`] when there is none to go by.
    pub fn decode(bytes: &[u8], kind: FileKind) -> Result<Self, FileHeaderError> {
        let mut error = FileHeaderError::Hurt;
        for copy in bytes.chunks_exact(FILE_HEADER_COPY_BYTES).take(2) {
            if copy[0..8] != kind.magic() || u32_at(copy, 12) != file_header_crc(copy) {
                continue;
            }
            let version = u32_at(copy, 8);
            if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&version) {
                error = FileHeaderError::Version(version);
                continue;
            }
            return Ok(Self {
                kind,
                id: u64_at(copy, 16),
                number: u64_at(copy, 24),
                first_sequence: u64_at(copy, 32),
                key: PartitionKey {
                    topic: TopicId(u64_at(copy, 40)),
                    partition: PartitionId(u32_at(copy, 48)),
                },
                timestamp: Timestamp(u64_at(copy, 56)),
            });
        }
        Err(error)
    }

    /// The version of a file, from whichever copy of its header is whole.
    #[must_use]
    pub fn version(bytes: &[u8]) -> Option<u32> {
        let mut copies = bytes.chunks_exact(FILE_HEADER_COPY_BYTES).take(2);
        copies
            .find(|copy| u32_at(copy, 12) == file_header_crc(copy))
            .map(|copy| u32_at(copy, 8))
    }
}

fn file_header_crc(copy: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&copy[0..12]), &copy[16..FILE_HEADER_COPY_BYTES])
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The body is a batch's records.
    Records,
    /// The same, and it counts only with the other entries of its set.
    Part(Part),
    /// Entries before this one, of the same partition and from `base_offset` on, were refused.
    Cut,
    /// `count` offsets from `base_offset` on were hurt before they came here.
    Hurt,
    /// The records of `count` offsets from `base_offset` on had expired before they came here.
    Expired,
}

/// Which entry of a set one is. The entries of a set stand one after another in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place, from 0.
    pub index: u16,
    /// How many the set has: 2 to [`PARTS_MAX`].
    pub of: u16,
}

/// No set has more entries.
pub const PARTS_MAX: u16 = 1024;

const RECORDS: u32 = 1;
const PART_BITS: u32 = 12;
const CODE_BITS: u32 = 8;

impl Part {
    fn code(self) -> u32 {
        u32::from(self.index) << CODE_BITS | u32::from(self.of) << (CODE_BITS + PART_BITS)
    }

    fn from_code(code: u32) -> Option<Self> {
        let mask = (1 << PART_BITS) - 1;
        let part = Self {
            index: (code >> CODE_BITS & mask) as u16,
            of: (code >> (CODE_BITS + PART_BITS)) as u16,
        };
        (part.index < part.of && (2..=PARTS_MAX).contains(&part.of)).then_some(part)
    }
}

impl EntryKind {
    /// Whether the body is records.
    #[must_use]
    pub fn has_records(self) -> bool {
        matches!(self, Self::Records | Self::Part(_))
    }

    fn code(self) -> u32 {
        match self {
            Self::Records => RECORDS,
            Self::Part(part) => RECORDS | part.code(),
            Self::Cut => 2,
            Self::Hurt => 3,
            Self::Expired => 4,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        match code {
            RECORDS => Some(Self::Records),
            2 => Some(Self::Cut),
            3 => Some(Self::Hurt),
            4 => Some(Self::Expired),
            _ if code & ((1 << CODE_BITS) - 1) == RECORDS => Part::from_code(code).map(Self::Part),
            _ => None,
        }
    }
}

/// The header of an entry; its footer says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The file's.
    pub id: u64,
    /// Grows by one with each entry.
    pub sequence: u64,
    /// Where the entry belongs.
    pub key: PartitionKey,
    /// What it says.
    pub kind: EntryKind,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Its records' timestamp.
    pub timestamp: Timestamp,
    /// How many offsets it covers.
    pub count: u32,
    /// Bytes of the body, without padding.
    pub body_bytes: u32,
}

/// Which of an entry's two headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the body.
    Header,
    /// After it.
    Footer,
}

impl Side {
    fn magic(self) -> u32 {
        match self {
            Self::Header => HEADER_MAGIC,
            Self::Footer => FOOTER_MAGIC,
        }
    }
}

impl EntryHeader {
    /// The offset after the entry's last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(u64::from(self.count)))
    }

    /// Bytes from the start of the header to the start of the footer.
    #[must_use]
    pub fn footer_position(&self) -> usize {
        ENTRY_HEADER_BYTES + aligned(self.body_bytes as usize)
    }

    /// Bytes of the whole entry.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        self.footer_position() + ENTRY_HEADER_BYTES
    }

    /// The 64 bytes of one side.
    #[must_use]
    pub fn encode(&self, side: Side) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&side.magic().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.key.topic.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.timestamp.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.key.partition.0.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.kind.code().to_le_bytes());
        bytes[56..60].copy_from_slice(&self.count.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.body_bytes.to_le_bytes());
        let crc = entry_crc(side, &bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads one side at the start of `bytes`; `None` if it is not whole or not of file `id`.
    #[must_use]
    pub fn decode(bytes: &[u8], side: Side, id: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<ENTRY_HEADER_BYTES>()?;
        if u32_at(bytes, 0) != side.magic()
            || u64_at(bytes, 8) != id
            || u32_at(bytes, 4) != entry_crc(side, bytes)
        {
            return None;
        }
        let header = Self {
            id,
            sequence: u64_at(bytes, 16),
            key: PartitionKey {
                topic: TopicId(u64_at(bytes, 24)),
                partition: PartitionId(u32_at(bytes, 48)),
            },
            kind: EntryKind::from_code(u32_at(bytes, 52))?,
            base_offset: Offset(u64_at(bytes, 32)),
            timestamp: Timestamp(u64_at(bytes, 40)),
            count: u32_at(bytes, 56),
            body_bytes: u32_at(bytes, 60),
        };
        (header.body_bytes as usize <= BODY_BYTES_MAX).then_some(header)
    }

    /// Appends the whole entry to `buffer`, whose length must be a multiple of [`ALIGNMENT`].
    pub fn encode_entry(&self, body: &[u8], buffer: &mut Vec<u8>) {
        debug_assert_eq!(body.len(), self.body_bytes as usize);
        buffer.reserve(self.entry_bytes());
        buffer.extend_from_slice(&self.encode(Side::Header));
        buffer.extend_from_slice(body);
        buffer.resize(buffer.len() + aligned(body.len()) - body.len(), 0);
        buffer.extend_from_slice(&self.encode(Side::Footer));
    }
}

/// The file id that an entry's header at the start of `bytes` claims, if its checksum holds: for files
/// whose own header is lost.
#[must_use]
pub fn claimed_id(bytes: &[u8]) -> Option<u64> {
    let header = bytes.first_chunk::<ENTRY_HEADER_BYTES>()?;
    EntryHeader::decode(header, Side::Header, u64_at(header, 8)).map(|header| header.id)
}

/// `length` rounded up to the alignment.
#[must_use]
pub fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

fn entry_crc(side: Side, bytes: &[u8; ENTRY_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(side.magic(), &bytes[8..])
}

pub(super) fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from_le_bytes(bytes[position..position + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], position: usize) -> u64 {
    u64::from_le_bytes(bytes[position..position + 8].try_into().expect("eight bytes"))
}
