//! The few things that the store asks of a file system, behind a seam so that tests can make them fail.
//!
//! Nothing here decides anything. All of it may block, so it is called on the store's own threads.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::Path,
};

use crate::store::StoreError;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// A new file for reading and writing; an old one of that name is emptied.
    Create,
    /// An existing file for reading and writing.
    Write,
    /// An existing file for reading.
    Read,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Flushes the whole file system that `path` is on: cheaper than many files one by one.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes some of `bytes`, at least one, at `position`; returns how many.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;

    /// Reads into `buffer` from `position`; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Flushes the file's bytes to the device.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self) -> io::Result<u64>;
}

/// The operating system's file system.
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Create => options.write(true).create(true).truncate(true),
            OpenMode::Write => options.write(true),
            OpenMode::Read => &mut options,
        };
        Ok(Box::new(options.open(path)?))
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let directory = File::open(path)?;
        // SAFETY: the descriptor is open for as long as `directory` lives, and syncfs takes no pointer.
        match unsafe { libc::syncfs(directory.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

/// Writes all of `bytes` at `position`.
///
/// # Errors
/// What the operating system says; some of the bytes may have been written.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                position += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to `length` bytes from `position`; fewer only at the end of the file.
///
/// # Errors
/// What the operating system says.
pub fn read_up_to(file: &dyn DiskFile, position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the operating system says.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The files of a directory with extension `extension` and a number for a name, by number; none if
/// there is no such directory.
///
/// # Errors
/// What the operating system says.
pub fn numbered_files(path: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let stem = name
            .to_str()
            .and_then(|name| name.strip_suffix(extension)?.strip_suffix('.'));
        numbers.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Says what failed, where.
pub fn io_error(operation: &str, path: &Path, error: &io::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    StoreError::Io {
        operation: format!("{operation} {}", path.display()),
        reason: error.to_string(),
        no_space: matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge),
    }
}
