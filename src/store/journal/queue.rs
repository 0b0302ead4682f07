//! What waits for a thread: any thread adds, one takes everything at once.
//!
//! One lock and at most one wake-up for each sleep of the taker, because every publish comes through
//! here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue with one taker. Unbounded: whoever adds bounds what it has waiting.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

struct State<T> {
    items: Vec<T>,
    taker: Taker,
    gate: Gate,
}

#[derive(PartialEq, Eq)]
enum Taker {
    Busy,
    Asleep,
}

#[derive(PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                items: Vec::new(),
                taker: Taker::Busy,
                gate: Gate::Open,
            }),
            wake: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item; gives it back once the queue is closed.
    ///
    /// # Errors
    /// The item, if the queue is closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.add(item, Gate::Open)
    }

    /// Adds the last item and closes the queue.
    ///
    /// # Errors
    /// The item, if the queue is closed already.
    pub fn push_last(&self, item: T) -> Result<(), T> {
        self.add(item, Gate::Closed)
    }

    fn add(&self, item: T, gate: Gate) -> Result<(), T> {
        let mut state = self.state();
        if state.gate == Gate::Closed {
            return Err(item);
        }
        state.items.push(item);
        state.gate = gate;
        let is_asleep = state.taker == Taker::Asleep;
        state.taker = Taker::Busy;
        drop(state);
        if is_asleep {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until something is there and swaps it all into `items`, which must be empty.
    pub fn take(&self, items: &mut Vec<T>) {
        debug_assert!(items.is_empty());
        let mut state = self.state();
        while state.items.is_empty() {
            state.taker = Taker::Asleep;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.taker = Taker::Busy;
        std::mem::swap(&mut state.items, items);
    }
}
