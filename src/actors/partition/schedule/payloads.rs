//! The payloads that are due soon, in memory before they are needed.
//!
//! Owns at most [`LOADED_BYTES_MAX`] of them, besides what is due already and must be loaded whatever it takes.
//! Knows which records it has and which it lacks; reading is the reader threads' matter.

use std::collections::{BTreeSet, HashMap};

use callboard_core::{
    record::RecordParts,
    schedule::{Schedules, Turn, Waiting, log::Entry},
};
use callboard_protocol::{Offset, Timestamp};

use crate::store::{Log, StoreError};

/// What is due in less than this is loaded.
const AHEAD_MS: u64 = 2000;
/// Most bytes that are loaded ahead in one partition.
const LOADED_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// About as much is loaded at once.
const CHUNK_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 4 << 20 };
/// About how much of a log is read at once.
const PAGE_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Default)]
pub struct Payloads {
    /// The encoded records, by number.
    loaded: HashMap<u64, Box<[u8]>>,
    bytes: usize,
    /// Those at or before the horizon that are not loaded.
    missing: BTreeSet<Turn>,
    /// What comes up to here is loaded or known to be missing.
    horizon: Option<Turn>,
    /// Some are being read.
    pub loading: bool,
}

impl Payloads {
    /// A record was scheduled just now: keeps it if it is due soon.
    pub fn keep(&mut self, turn: Turn, record: &[u8], now: Timestamp) {
        let is_soon = turn.due <= now.plus_ms(AHEAD_MS);
        if is_soon && self.bytes + record.len() <= LOADED_BYTES_MAX {
            self.insert(turn.number, record.into());
        } else if Some(turn) <= self.horizon {
            self.missing.insert(turn);
        }
    }

    fn insert(&mut self, number: u64, record: Box<[u8]>) {
        self.bytes += record.len();
        self.loaded.insert(number, record);
    }

    /// The record of this number, if it is loaded.
    pub fn get(&self, number: u64) -> Option<&[u8]> {
        self.loaded.get(&number).map(|record| &record[..])
    }

    /// The record waits no more.
    pub fn forget(&mut self, turn: Turn) {
        self.missing.remove(&turn);
        if let Some(record) = self.loaded.remove(&turn.number) {
            self.bytes -= record.len();
        }
        if self.loaded.is_empty() {
            // What many at a time took is given back.
            self.loaded = HashMap::new();
        }
    }

    /// What to read now, in the order of the log; only what lies before `committed` can be.
    pub fn wanted(&mut self, index: &Schedules, now: Timestamp, committed: Offset) -> Vec<Waiting> {
        let soon = now.plus_ms(AHEAD_MS);
        let mut bytes = 0;
        // What is loaded already counts, and so does what is going to be.
        let mut fits = |loaded: usize, waiting: &Waiting| {
            let has_room = loaded as u64 + bytes < LOADED_BYTES_MAX as u64;
            let fits = bytes < CHUNK_BYTES && (has_room || waiting.turn.due <= now);
            bytes += u64::from(waiting.bytes);
            fits
        };
        let mut wanted = Vec::new();
        for turn in &self.missing {
            let Some(waiting) = index.get(turn.number).filter(|waiting| waiting.place < committed) else {
                continue;
            };
            if !fits(self.bytes, &waiting) {
                break;
            }
            wanted.push(waiting);
        }
        for waiting in index.after(self.horizon) {
            let is_loaded = self.loaded.contains_key(&waiting.turn.number);
            if waiting.turn.due > soon || (!is_loaded && !fits(self.bytes, &waiting)) {
                break;
            }
            self.horizon = Some(waiting.turn);
            if !is_loaded {
                self.missing.insert(waiting.turn);
                if waiting.place < committed {
                    wanted.push(waiting);
                }
            }
        }
        wanted.sort_unstable_by_key(|waiting| waiting.place);
        wanted
    }

    /// When something will have to be loaded that is not; the moment may be past. What can not be read before
    /// it is committed is not counted: the commit asks again.
    pub fn next_load(&self, index: &Schedules, committed: Offset) -> Option<Timestamp> {
        let is_full = self.bytes >= LOADED_BYTES_MAX;
        let readable = |turn: &&Turn| index.get(turn.number).is_some_and(|it| it.place < committed);
        let missing = self.missing.iter().find(readable).copied();
        let beyond = index.after(self.horizon).next().map(|waiting| waiting.turn);
        let first = missing.into_iter().chain(beyond).min()?;
        // When the memory is full, only what is due is loaded.
        Some(if is_full {
            first.due
        } else {
            Timestamp(first.due.0.saturating_sub(AHEAD_MS))
        })
    }

    /// Records were read; those that do not wait any more are dropped.
    pub fn arrived(&mut self, turn: Turn, record: Box<[u8]>) {
        if self.missing.remove(&turn) {
            self.insert(turn.number, record);
        }
    }
}

/// What was read of a record that waits.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub waiting: Waiting,
    /// When it was scheduled, and the encoded record; none if its entry is hurt.
    pub record: Option<(Timestamp, Box<[u8]>)>,
}

/// Reads the entries of these records, which are sorted by their places and committed.
///
/// # Errors
/// [`StoreError::Io`] when the disk can not be read.
pub fn read_payloads(log: &dyn Log, wanted: &[Waiting]) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::with_capacity(wanted.len());
    let mut rest = wanted.iter().peekable();
    while let Some(&&first) = rest.peek() {
        let page = log.read(first.place, PAGE_BYTES)?;
        for batch in &page.batches {
            for (place, parts) in batch.iter() {
                while let Some(passed) = rest.next_if(|waiting| waiting.place < place) {
                    let (waiting, record) = (*passed, None);
                    found.push(Found { waiting, record });
                }
                if let Some(waiting) = rest.next_if(|waiting| waiting.place == place) {
                    found.push(Found {
                        waiting: *waiting,
                        record: record_of(waiting, &parts),
                    });
                }
            }
        }
        // A hurt place was passed over, or there is nothing there at all.
        if rest.peek().is_some_and(|waiting| waiting.place == first.place) {
            let (waiting, record) = (first, None);
            found.push(Found { waiting, record });
            rest.next();
        }
    }
    Ok(found)
}

fn record_of(waiting: &Waiting, parts: &RecordParts<'_>) -> Option<(Timestamp, Box<[u8]>)> {
    match Entry::decode(parts.payload) {
        Ok(entry) => entry
            .scheduled()
            .map(|scheduled| (scheduled.at, scheduled.record.into())),
        Err(error) => {
            log::error!(
                "the scheduled record at {} can not be read: {error}",
                waiting.place
            );
            None
        }
    }
}
