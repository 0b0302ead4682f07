//! What waits for a thread: any thread adds, one takes everything at once.
//!
//! At most one wake-up for each sleep of the taker, because every publish comes through here.

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
        self.add(item, Gate::Open)?;
        self.wake();
        Ok(())
    }

    /// Adds an item without a wake-up: the taker takes it with the next one, or when [`Self::wake`] is called.
    ///
    /// # Errors
    /// The item, if the queue is closed.
    pub fn leave(&self, item: T) -> Result<(), T> {
        self.add(item, Gate::Open)
    }

    /// Adds the last item and closes the queue.
    ///
    /// # Errors
    /// The item, if the queue is closed already.
    pub fn push_last(&self, item: T) -> Result<(), T> {
        self.add(item, Gate::Closed)?;
        self.wake();
        Ok(())
    }

    fn add(&self, item: T, gate: Gate) -> Result<(), T> {
        let mut state = self.state();
        if state.gate == Gate::Closed {
            return Err(item);
        }
        state.items.push(item);
        state.gate = gate;
        Ok(())
    }

    /// Wakes the taker if it sleeps although there is something for it.
    pub fn wake(&self) {
        let mut state = self.state();
        if state.taker == Taker::Asleep && !state.items.is_empty() {
            state.taker = Taker::Busy;
            drop(state);
            self.wake.notify_one();
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_left_is_taken_with_the_next_or_after_a_wake_up() {
        let queue = Arc::new(Queue::default());
        let taker = queue.clone();
        let (sender, taken) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut items = Vec::new();
                taker.take(&mut items);
                let _ = sender.send(items);
            }
        });
        while queue.state().taker != Taker::Asleep {
            std::thread::yield_now();
        }
        assert_eq!(queue.leave(1), Ok(()));
        assert_eq!(queue.leave(2), Ok(()));
        queue.wake();
        assert_eq!(taken.recv(), Ok(vec![1, 2]));
        while queue.state().taker != Taker::Asleep {
            std::thread::yield_now();
        }
        assert_eq!(queue.leave(3), Ok(()));
        assert_eq!(queue.push_last(4), Ok(()));
        assert_eq!(taken.recv(), Ok(vec![3, 4]));
        assert_eq!(queue.leave(5), Err(5));
        thread.join().expect("it ends");
    }
}
