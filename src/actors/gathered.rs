//! What a worker thread has handed to the store in this turn, and the store has not begun with.
//!
//! What comes in one read of a socket is cut into a draft for each partition. If the first of them woke the store's
//! writer, that would flush it alone, and on few cores take the place of those who submit the others. So the store
//! begins when everybody has had a turn who was to have one: one flush, and for each subscriber one write, for all of it.

use std::{cell::RefCell, sync::Arc};

use crate::store::Store;

/// Twice, because what the first look brings needs another turn to come to its partition. Where nothing more comes
/// this takes about a microsecond.
const LOOKS: u32 = 2;

thread_local! {
    /// The stores to begin with; more than one only where several brokers run in one process.
    static WAITING: RefCell<Vec<Arc<dyn Store>>> = const { RefCell::new(Vec::new()) };
}

/// Has the stores begin when it is dropped.
struct Begin;

impl Drop for Begin {
    fn drop(&mut self) {
        for store in WAITING.take() {
            store.begin();
        }
    }
}

/// Has the store begin behind everything that is ready to run on this thread.
pub fn begin_soon(store: &Arc<dyn Store>) {
    let is_first = WAITING.with_borrow_mut(|waiting| {
        if waiting.iter().any(|known| Arc::ptr_eq(known, store)) {
            return false;
        }
        waiting.push(store.clone());
        waiting.len() == 1
    });
    if is_first {
        // Also when the task is dropped before it ends, or nobody would begin on this thread any more.
        let begin = Begin;
        actix::spawn(async move {
            // Each lets the thread look at its sockets: publishers that were answered together send together.
            for _ in 0..LOOKS {
                tokio::task::yield_now().await;
            }
            drop(begin);
        });
    }
}
