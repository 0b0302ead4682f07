//! The entries of a schedule log: what was scheduled in a partition, and what became of it.
//!
//! Owns the encoding (`docs/storage.md` is its document). One record of the log is one entry; its place is its
//! offset in the log, and the place of the entry that scheduled a record first is the schedule's number.

use callboard_protocol::{Timestamp, id::SAFE_INTEGER_MAX};

use crate::{
    record::RecordParts,
    varint::{self, VarintError},
};

/// The first byte of every entry.
const FORMAT_VERSION: u8 = 1;

const SCHEDULED: u8 = 1;
const MOVED: u8 = 2;
const DONE: u8 = 3;
const CANCELLED: u8 = 4;

/// One thing that happened to the schedules of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A record is to be published when it is due. The number is the place of this entry.
    Scheduled(Scheduled<'a>),
    /// The same again under its old number, because what lies before is going to be cut.
    Moved {
        /// Its number.
        number: u64,
        /// What was scheduled.
        scheduled: Scheduled<'a>,
    },
    /// These are in the partition, or need not be; ascending.
    Done(Vec<u64>),
    /// These are not wanted any more; ascending.
    Cancelled(Vec<u64>),
}

/// A record that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled<'a> {
    /// When it was scheduled: its message id is remembered from then on.
    pub at: Timestamp,
    /// When it is to be published.
    pub due: Timestamp,
    /// The encoded record.
    pub record: &'a [u8],
}

/// A record of a schedule log that holds no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by another version of the format.
    #[error("the schedule log has format version {0}, and this is version {FORMAT_VERSION}")]
    Version(u8),
    /// The bytes end within the entry.
    #[error("an entry of the schedule log is cut short")]
    Truncated,
    /// A kind that version 1 does not have.
    #[error("the schedule log has an entry of the unknown kind {0}")]
    Kind(u8),
    /// A number is larger than its field holds, or what was scheduled is no record.
    #[error("an entry of the schedule log holds what it can not hold")]
    Invalid,
}

impl From<VarintError> for EntryError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::TooLarge => Self::Invalid,
        }
    }
}

impl<'a> Entry<'a> {
    /// Appends the entry as one record of the log, and returns how many bytes that was.
    pub fn encode(&self, records: &mut Vec<u8>) -> u32 {
        let mut bytes = vec![FORMAT_VERSION];
        match self {
            Self::Scheduled(scheduled) => {
                bytes.push(SCHEDULED);
                scheduled.encode(&mut bytes);
            }
            Self::Moved { number, scheduled } => {
                bytes.push(MOVED);
                varint::put(&mut bytes, *number);
                scheduled.encode(&mut bytes);
            }
            Self::Done(numbers) => {
                bytes.push(DONE);
                put_ascending(&mut bytes, numbers);
            }
            Self::Cancelled(numbers) => {
                bytes.push(CANCELLED);
                put_ascending(&mut bytes, numbers);
            }
        }
        let parts = RecordParts {
            binary: true,
            payload: &bytes,
            ..RecordParts::default()
        };
        parts.encode(records) as u32
    }

    /// Reads the entry that is the payload of a record of the log.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (&version, rest) = bytes.split_first().ok_or(EntryError::Truncated)?;
        if version != FORMAT_VERSION {
            return Err(EntryError::Version(version));
        }
        let (&kind, mut rest) = rest.split_first().ok_or(EntryError::Truncated)?;
        Ok(match kind {
            SCHEDULED => Self::Scheduled(Scheduled::decode(rest)?),
            MOVED => {
                let number = take_number(&mut rest)?;
                let scheduled = Scheduled::decode(rest)?;
                Self::Moved { number, scheduled }
            }
            DONE => Self::Done(take_ascending(rest)?),
            CANCELLED => Self::Cancelled(take_ascending(rest)?),
            unknown => return Err(EntryError::Kind(unknown)),
        })
    }

    /// What was scheduled, if this is an entry that says so.
    #[must_use]
    pub fn scheduled(&self) -> Option<&Scheduled<'a>> {
        match self {
            Self::Scheduled(scheduled) | Self::Moved { scheduled, .. } => Some(scheduled),
            Self::Done(_) | Self::Cancelled(_) => None,
        }
    }
}

impl<'a> Scheduled<'a> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(20 + self.record.len());
        varint::put(bytes, self.at.0);
        varint::put(bytes, self.due.0);
        bytes.extend_from_slice(self.record);
    }

    fn decode(mut bytes: &'a [u8]) -> Result<Self, EntryError> {
        let at = Timestamp(varint::take(&mut bytes)?);
        let due = Timestamp(varint::take(&mut bytes)?);
        let whole = RecordParts::decode(bytes).is_ok_and(|(_, size)| size == bytes.len());
        if !whole {
            return Err(EntryError::Invalid);
        }
        Ok(Self {
            at,
            due,
            record: bytes,
        })
    }
}

/// The first number, and of the others how much they are more than the one before.
fn put_ascending(bytes: &mut Vec<u8>, numbers: &[u64]) {
    debug_assert!(numbers.is_sorted(), "the numbers of an entry ascend");
    let mut before = 0;
    for number in numbers {
        varint::put(bytes, number - before);
        before = *number;
    }
}

fn take_ascending(mut bytes: &[u8]) -> Result<Vec<u64>, EntryError> {
    let mut numbers = Vec::new();
    let mut before: u64 = 0;
    while !bytes.is_empty() {
        let more = take_number(&mut bytes)?;
        before = before.checked_add(more).ok_or(EntryError::Invalid)?;
        numbers.push(before);
    }
    Ok(numbers)
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, EntryError> {
    match varint::take(bytes)? {
        number if number <= SAFE_INTEGER_MAX => Ok(number),
        _ => Err(EntryError::Invalid),
    }
}
