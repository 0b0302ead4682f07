//! Key order in one partition: of each key one record is out or waits to come again, and the later
//! ones that were read meanwhile are held back behind it in their order.
//!
//! Knows keys by their hash: two keys with one hash are taken for one, which holds back more than must
//! be and nothing that must not. It knows only records that were read, so the caller reads them in order.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    num::NonZeroU64,
};

/// The hash of a key; 0 is taken for 1, so that a lease has room for it.
pub(super) type KeyHash = NonZeroU64;

/// The hash of a key as this module takes it.
pub(super) fn key_hash(hash: u64) -> KeyHash {
    KeyHash::new(hash).unwrap_or(KeyHash::MIN)
}

/// A key that is busy.
#[derive(Debug)]
struct Busy {
    /// The record that is out, or comes again.
    holder: u64,
    /// Those that follow, in the order of offsets.
    held: VecDeque<u64>,
}

/// What became of a record that wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has it.
    Holds,
    /// It stands behind another record.
    Waits,
}

/// The busy keys of one partition. Only ever asked, never walked, so the hasher's random seed decides
/// nothing; it is there because clients choose the keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    busy: HashMap<KeyHash, Busy>,
}

impl Keys {
    /// Gives a record its key, or puts it behind those that had the key before.
    pub(super) fn claim(&mut self, key: KeyHash, offset: u64) -> Claim {
        match self.busy.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Busy {
                    holder: offset,
                    held: VecDeque::new(),
                });
                Claim::Holds
            }
            Entry::Occupied(busy) if busy.get().holder == offset => Claim::Holds,
            Entry::Occupied(mut busy) => {
                let held = &mut busy.get_mut().held;
                debug_assert!(
                    held.back().is_none_or(|&last| last < offset),
                    "records are read in their order"
                );
                held.push_back(offset);
                Claim::Waits
            }
        }
    }

    /// Forgets a record that is finished or dead; returns the one that its key goes to, if it held it.
    pub(super) fn release(&mut self, key: KeyHash, offset: u64) -> Option<u64> {
        let Entry::Occupied(mut entry) = self.busy.entry(key) else {
            return None;
        };
        let busy = entry.get_mut();
        if busy.holder != offset {
            busy.held.retain(|&held| held != offset);
            return None;
        }
        let next = busy.held.pop_front();
        match next {
            Some(next) => busy.holder = next,
            None => {
                entry.remove();
            }
        }
        next
    }
}
