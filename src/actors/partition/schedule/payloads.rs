//! The payloads that are due soon, in memory before they are needed.
//!
//! Owns at most [`LOADED_BYTES_MAX`] of them, and one chunk more where the next one to be delivered is not among
//! them: what is due and has to wait, because its topic is full, is not gathered here.
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
        let is_awaited = self.lacks_first(index, committed).is_some();
        // What is loaded already counts, and so does what is going to be.
        let mut fits = |loaded: usize, waiting: &Waiting| {
            let has_room = loaded as u64 + bytes < LOADED_BYTES_MAX as u64;
            let fits = bytes < CHUNK_BYTES && (has_room || (is_awaited && waiting.turn.due <= now));
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

    /// The first of all that wait, if it is not loaded and could be.
    fn lacks_first(&self, index: &Schedules, committed: Offset) -> Option<Turn> {
        let first = index.after(None).next()?;
        let is_loaded = self.loaded.contains_key(&first.turn.number);
        (!is_loaded && first.place < committed).then_some(first.turn)
    }

    /// When something will have to be loaded that is not; the moment may be past. What can not be read before
    /// it is committed is not counted: the commit asks again.
    pub fn next_load(&self, index: &Schedules, committed: Offset) -> Option<Timestamp> {
        if self.bytes >= LOADED_BYTES_MAX {
            // The others come when what is loaded has gone.
            return self.lacks_first(index, committed).map(|first| first.due);
        }
        let readable = |turn: &&Turn| index.get(turn.number).is_some_and(|it| it.place < committed);
        let missing = self.missing.iter().find(readable).copied();
        let beyond = index.after(self.horizon).next().map(|waiting| waiting.turn);
        let first = missing.into_iter().chain(beyond).min()?;
        Some(Timestamp(first.due.0.saturating_sub(AHEAD_MS)))
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

#[cfg(test)]
mod tests {
    use callboard_core::schedule::log::Scheduled;

    use super::*;

    const PAYLOAD: [u8; 1000] = [b'1'; 1000];

    fn record() -> Vec<u8> {
        let mut record = Vec::new();
        let parts = RecordParts {
            payload: &PAYLOAD,
            ..RecordParts::default()
        };
        parts.encode(&mut record);
        record
    }

    /// Loads until nothing more is wanted.
    fn load(payloads: &mut Payloads, index: &Schedules, now: Timestamp) -> usize {
        let mut loaded = 0;
        loop {
            let wanted = payloads.wanted(index, now, Offset(u64::MAX));
            if wanted.is_empty() {
                return loaded;
            }
            for waiting in wanted {
                payloads.arrived(waiting.turn, record().into());
                loaded += 1;
            }
        }
    }

    #[test]
    fn what_is_due_and_has_to_wait_is_not_gathered_in_memory() {
        let (mut index, mut payloads) = (Schedules::default(), Payloads::default());
        let record = record();
        let (now, count) = (Timestamp(10_000), 1000);
        for number in 0..count {
            let scheduled = Scheduled {
                at: Timestamp(0),
                due: Timestamp(1 + number),
                record: &record,
            };
            index.add(&scheduled, record.len() as u32);
        }
        load(&mut payloads, &index, now);
        assert!(payloads.bytes <= LOADED_BYTES_MAX + CHUNK_BYTES as usize);
        // Nobody has to wake for more before something has gone.
        assert_eq!(payloads.next_load(&index, Offset(u64::MAX)), None);
        let mut taken = 0;
        loop {
            let Some(first) = index.after(None).next() else {
                break;
            };
            if payloads.get(first.turn.number).is_none() {
                assert!(load(&mut payloads, &index, now) > 0, "the next one never comes");
                continue;
            }
            payloads.forget(first.turn);
            let place = index.take(&[first.turn.number], 10);
            index.committed(place.plus(1));
            taken += 1;
        }
        assert_eq!(taken, count);
    }

    #[test]
    fn first_of_all_is_loaded_however_much_is_that_comes_later() {
        let (mut index, mut payloads) = (Schedules::default(), Payloads::default());
        let (record, now) = (record(), Timestamp(10_000));
        for number in 0..100 {
            // Scheduled backwards, so that what comes first finds no room.
            let scheduled = Scheduled {
                at: now,
                due: Timestamp(12_000 - number),
                record: &record,
            };
            let waiting = index.add(&scheduled, record.len() as u32);
            payloads.keep(waiting.turn, &record, now);
        }
        let first = index.after(None).next().map(|first| first.turn);
        let next = payloads.next_load(&index, Offset(u64::MAX));
        assert!(next.is_some() && next <= first.map(|turn| turn.due));
        load(&mut payloads, &index, Timestamp(12_000));
        assert!(first.is_some_and(|turn| payloads.get(turn.number).is_some()));
        assert!(payloads.bytes <= LOADED_BYTES_MAX + 2 * CHUNK_BYTES as usize);
    }
}
