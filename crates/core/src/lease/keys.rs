//! Key order in one partition: of each key one record is out or waits to come again, and the later
//! ones that were read meanwhile are held back behind it in their order.
//!
//! Knows keys by their hash: two keys with one hash are taken for one, which holds back more than must
//! be and nothing that must not. It knows only records that were read, so the caller reads them in order.

use std::collections::{HashMap, VecDeque};

/// A key that is busy.
#[derive(Debug)]
struct Busy {
    /// The record that is out, or comes again.
    holder: u64,
    /// Those that follow, in the order of offsets.
    held: VecDeque<u64>,
}

/// The busy keys of one partition. Only ever asked, never walked, so the hasher's random seed decides
/// nothing; it is there because clients choose the keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    busy: HashMap<u64, Busy>,
    key_of: HashMap<u64, u64>,
}

impl Keys {
    /// Whether another record holds the key.
    pub(super) fn is_held_by_another(&self, key: u64, offset: u64) -> bool {
        self.busy.get(&key).is_some_and(|busy| busy.holder != offset)
    }

    /// Makes the record the holder of its key, which no other one holds.
    pub(super) fn hold(&mut self, key: u64, offset: u64) {
        let busy = self.busy.entry(key).or_insert_with(|| Busy {
            holder: offset,
            held: VecDeque::new(),
        });
        debug_assert_eq!(busy.holder, offset, "one record holds a key");
        self.key_of.insert(offset, key);
    }

    /// Puts a record behind the holder of its key.
    pub(super) fn wait(&mut self, key: u64, offset: u64) {
        if let Some(busy) = self.busy.get_mut(&key) {
            debug_assert!(
                busy.held.back().is_none_or(|&last| last < offset),
                "records are read in their order"
            );
            busy.held.push_back(offset);
            self.key_of.insert(offset, key);
        }
    }

    /// Forgets a record that is finished or dead; returns the one that its key goes to, if it held it.
    pub(super) fn release(&mut self, offset: u64) -> Option<u64> {
        let key = self.key_of.remove(&offset)?;
        let busy = self.busy.get_mut(&key)?;
        if busy.holder != offset {
            busy.held.retain(|&held| held != offset);
            return None;
        }
        match busy.held.pop_front() {
            Some(next) => {
                busy.holder = next;
                Some(next)
            }
            None => {
                self.busy.remove(&key);
                None
            }
        }
    }
}
