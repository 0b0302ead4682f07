//! Finding a segment's end after a restart, and cutting off what must not stay.

use std::{fs, io};

use callboard_protocol::Offset;

use super::{Segment, SegmentEnd};
use crate::store::{
    StoreError,
    journal::{
        disk::{Disk, io_error, read_up_to},
        format::{ENTRY_HEADER_BYTES, EntryHeader, FILE_HEADER_BYTES, Side},
        reader::{Found, scan_entries},
    },
};

impl Segment {
    /// Finds where the file really ends, cuts off what is torn, and makes the rest readable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn recover_end(&self, disk: &dyn Disk) -> Result<SegmentEnd, StoreError> {
        let end = match self.footer_before(disk, self.length())? {
            Some(footer) => Some(footer),
            None => self.scan_end(disk)?,
        };
        let Some(end) = end else {
            let open = self.open(disk)?;
            return Ok(SegmentEnd {
                next_offset: self.base_offset,
                last_timestamp: open.timestamp,
            });
        };
        Ok(SegmentEnd {
            next_offset: end.next_offset(),
            last_timestamp: end.timestamp,
        })
    }

    fn scan_end(&self, disk: &dyn Disk) -> Result<Option<EntryHeader>, StoreError> {
        if self.is_empty() {
            return Ok(None);
        }
        let open = self.open(disk)?;
        let bytes = self.bytes(open.file.as_ref(), 0)?;
        let mut found = scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES);
        // An entry that reaches beyond the end is torn, and the journal still has it.
        while found.last().is_some_and(|last| last.end() > bytes.len()) {
            found.pop();
        }
        let end = found.last().map_or(FILE_HEADER_BYTES, Found::end);
        self.cut(disk, end as u64)?;
        Ok(found.last().map(|last| last.header))
    }

    /// The footer that ends at `end`, if it is whole.
    fn footer_before(&self, disk: &dyn Disk, end: u64) -> Result<Option<EntryHeader>, StoreError> {
        if end < (FILE_HEADER_BYTES + 2 * ENTRY_HEADER_BYTES) as u64 {
            return Ok(None);
        }
        let open = self.open(disk)?;
        let footer = read_up_to(
            open.file.as_ref(),
            end - ENTRY_HEADER_BYTES as u64,
            ENTRY_HEADER_BYTES,
        )
        .map_err(|error| self.failed("read", &error))?;
        let footer = EntryHeader::decode(&footer, Side::Footer, open.id);
        Ok(footer.filter(|footer| end >= (FILE_HEADER_BYTES + footer.entry_bytes()) as u64))
    }

    /// Removes every entry that begins at offset `from` or after it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut_from(&self, disk: &dyn Disk, from: Offset) -> Result<(), StoreError> {
        let mut end = self.length();
        while end > FILE_HEADER_BYTES as u64 {
            match self.footer_before(disk, end)? {
                Some(footer) if footer.base_offset >= from => end -= footer.entry_bytes() as u64,
                Some(_) => break,
                None => {
                    let open = self.open(disk)?;
                    let bytes = self.bytes(open.file.as_ref(), 0)?;
                    let found = scan_entries(&bytes, open.id, 0, FILE_HEADER_BYTES);
                    let first = found.iter().find(|found| found.header.base_offset >= from);
                    end = first.map_or(end, |found| found.position as u64);
                    break;
                }
            }
        }
        self.cut(disk, end)
    }

    /// Makes `length` bytes the whole file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn cut(&self, disk: &dyn Disk, length: u64) -> Result<(), StoreError> {
        let open = self.open(disk)?;
        let actual = open
            .file
            .length()
            .map_err(|error| self.failed("measure", &error))?;
        if actual == length && self.length() == length {
            return Ok(());
        }
        // What the index says of the part that is cut off would be believed of what comes there next.
        match fs::remove_file(self.index_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &self.index_path(), &error));
            }
            _ => {}
        }
        open.file
            .set_len(length)
            .map_err(|error| self.failed("cut", &error))?;
        self.state().index = None;
        self.publish(length);
        Ok(())
    }
}
