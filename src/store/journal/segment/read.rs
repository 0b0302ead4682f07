//! Reading a segment: entry by entry while it is sound, from a scan of all of it once it is not.

use std::sync::Arc;

use bytes::Bytes;
use callboard_core::record::Batch;
use callboard_protocol::{Offset, Timestamp};

use super::{OpenSegment, Segment};
use crate::store::{
    GapReason, StoreError,
    journal::{
        disk::{Disk, read_up_to},
        format::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FILE_HEADER_BYTES, Side},
        reader::{Found, prefix, scan_entries},
    },
    tail::{push_hurt, stand_in},
};

/// The least that is read from a file at once.
const WINDOW_BYTES: usize = 128 * 1024;

/// What stands at a place of a segment.
enum Step {
    Entry(EntryHeader, Option<Batch>),
    Hurt,
    End,
}

impl Segment {
    /// Consecutive batches from the one that holds `from` on, about `bytes_max`; hurt offsets between
    /// them are stood for. Empty when the segment has nothing from `from` on.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read(&self, disk: &dyn Disk, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, StoreError> {
        let start = self.index(disk)?.position_of(from);
        if self.state().hurt.is_none()
            && let Some(batches) = self.read_sound(disk, (from, start), bytes_max)?
        {
            return Ok(batches);
        }
        self.read_hurt(disk, from, bytes_max)
    }

    /// The same for a segment that is sound where it is read; `None` if it turns out not to be.
    fn read_sound(
        &self,
        disk: &dyn Disk,
        (from, start): (Offset, u64),
        bytes_max: usize,
    ) -> Result<Option<Vec<Batch>>, StoreError> {
        let open = self.open(disk)?;
        let mut window = Window::new(
            self,
            open,
            bytes_max.saturating_add(ENTRY_HEADER_BYTES).max(WINDOW_BYTES),
        );
        let mut position = start;
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut expected: Option<Offset> = None;
        while bytes < bytes_max {
            match window.step(position, from)? {
                Step::End => break,
                Step::Hurt => return Ok(None),
                Step::Entry(header, batch) => {
                    if expected.is_some_and(|expected| expected != header.base_offset) {
                        return Ok(None);
                    }
                    if let Some(batch) = batch {
                        // An entry that begins after `from` without one before it leaves a hole.
                        if batches.is_empty() && batch.base_offset > from {
                            return Ok(None);
                        }
                        bytes += batch.records.len();
                        batches.push(batch);
                    }
                    expected = Some(header.next_offset());
                    position += header.entry_bytes() as u64;
                }
            }
        }
        Ok(Some(batches))
    }

    /// Everything that is whole in the file.
    fn found(&self, disk: &dyn Disk) -> Result<Arc<Vec<Found>>, StoreError> {
        let length = self.length();
        if let Some((scanned, found)) = &self.state().hurt
            && *scanned == length
        {
            return Ok(found.clone());
        }
        let open = self.open(disk)?;
        let bytes = read_up_to(open.file.as_ref(), 0, length as usize)
            .map_err(|error| self.failed("read", &error))?;
        let found = Arc::new(scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES));
        log::warn!("{} is hurt; what is whole in it is served", self.path.display());
        self.state().hurt = Some((length, found.clone()));
        Ok(found)
    }

    fn read_hurt(&self, disk: &dyn Disk, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, StoreError> {
        let found = self.found(disk)?;
        let open = self.open(disk)?;
        let first = found.partition_point(|found| found.header.next_offset() <= from);
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        for found in &found[first..] {
            if bytes >= bytes_max {
                break;
            }
            push_hurt(
                &mut batches,
                next,
                found.header.base_offset,
                found.header.timestamp,
            );
            let entry = read_up_to(
                open.file.as_ref(),
                found.position as u64,
                found.header.entry_bytes(),
            )
            .map_err(|error| self.failed("read", &error))?;
            let mut found = found.clone();
            for piece in &mut found.pieces {
                piece.bytes = piece.bytes.start - found.position..piece.bytes.end - found.position;
            }
            bytes += entry.len();
            next = found.header.next_offset();
            batches.extend(batches_of(&found, &Bytes::from(entry)));
        }
        Ok(batches)
    }

    /// The first offset of at least `time`; `None` if the segment has none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn offset_at(&self, disk: &dyn Disk, time: Timestamp) -> Result<Option<Offset>, StoreError> {
        let open = self.open(disk)?;
        let mut position = self.index(disk)?.position_at(time);
        let mut window = Window::new(self, open, WINDOW_BYTES);
        loop {
            match window.step(position, Offset(u64::MAX))? {
                Step::End => return Ok(None),
                Step::Hurt => break,
                Step::Entry(header, _) if header.timestamp >= time => return Ok(Some(header.base_offset)),
                Step::Entry(header, _) => position += header.entry_bytes() as u64,
            }
        }
        let found = self.found(disk)?;
        let first = found.iter().find(|found| found.header.timestamp >= time);
        Ok(first.map(|found| found.header.base_offset))
    }
}

/// Why an entry has no records.
fn reason_of(header: &EntryHeader) -> GapReason {
    if header.kind == EntryKind::Expired {
        GapReason::Expired
    } else {
        GapReason::Corrupt
    }
}

/// The batches of an entry, whole or not; `bytes` are those that the pieces' ranges count in.
pub fn batches_of(found: &Found, bytes: &Bytes) -> Vec<Batch> {
    let header = &found.header;
    if header.kind == EntryKind::Expired {
        let gone = stand_in(
            header.base_offset,
            header.count,
            header.timestamp,
            GapReason::Expired,
        );
        return vec![gone];
    }
    let mut batches = Vec::new();
    let mut next = header.base_offset;
    for piece in &found.pieces {
        let from = header.base_offset.plus(u64::from(piece.index));
        push_hurt(&mut batches, next, from, header.timestamp);
        batches.push(Batch {
            base_offset: from,
            timestamp: header.timestamp,
            count: piece.count,
            records: bytes.slice(piece.bytes.clone()),
        });
        next = from.plus(u64::from(piece.count));
    }
    push_hurt(&mut batches, next, header.next_offset(), header.timestamp);
    batches
}

/// Bytes of a segment that were read ahead.
struct Window<'a> {
    segment: &'a Segment,
    open: OpenSegment,
    start: u64,
    bytes: Bytes,
    window_bytes: usize,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment, open: OpenSegment, window_bytes: usize) -> Self {
        Self {
            segment,
            open,
            start: 0,
            bytes: Bytes::new(),
            window_bytes,
        }
    }

    /// `length` bytes at `position`; `None` if the segment ends before.
    fn slice(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        let end = position + length as u64;
        let limit = self.segment.length();
        if end > limit {
            return Ok(None);
        }
        if position < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = length.max(self.window_bytes).min((limit - position) as usize);
            let bytes = read_up_to(self.open.file.as_ref(), position, wanted);
            self.bytes = Bytes::from(bytes.map_err(|error| self.segment.failed("read", &error))?);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok((from + length <= self.bytes.len()).then(|| self.bytes.slice(from..from + length)))
    }

    /// The entry at `position`, with its batch if that reaches beyond `from`.
    fn step(&mut self, position: u64, from: Offset) -> Result<Step, StoreError> {
        if position >= self.segment.length() {
            return Ok(Step::End);
        }
        let header = self.slice(position, ENTRY_HEADER_BYTES)?;
        let header = header.and_then(|header| EntryHeader::decode(&header, Side::Header, self.open.id));
        let Some(header) = header.filter(|header| header.key == self.segment.key) else {
            return Ok(Step::Hurt);
        };
        if header.next_offset() <= from {
            return Ok(Step::Entry(header, None));
        }
        if !header.kind.has_records() {
            let batch = stand_in(
                header.base_offset,
                header.count,
                header.timestamp,
                reason_of(&header),
            );
            return Ok(Step::Entry(header, Some(batch)));
        }
        let body = self.slice(position + ENTRY_HEADER_BYTES as u64, header.body_bytes as usize)?;
        let Some(records) = body else {
            return Ok(Step::Hurt);
        };
        let whole = prefix(&records, header.count);
        if whole
            .first()
            .is_none_or(|piece| piece.count != header.count || piece.bytes.end != records.len())
        {
            return Ok(Step::Hurt);
        }
        let batch = Batch {
            base_offset: header.base_offset,
            timestamp: header.timestamp,
            count: header.count,
            records,
        };
        Ok(Step::Entry(header, Some(batch)))
    }
}
