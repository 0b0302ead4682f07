//! How a scenario's panic reaches Node: its message waits in a buffer that the script reads.
//!
//! A panic ends the module's run in a trap, which says nothing; the script reads the buffer after it.

use std::{
    panic,
    sync::{Mutex, PoisonError},
};

static PANIC_MESSAGE: Mutex<String> = Mutex::new(String::new());

/// Keeps the message of a panic from now on.
pub fn keep_panic_message() {
    panic::set_hook(Box::new(|panic| {
        *PANIC_MESSAGE.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
}

/// Where the message of the last panic begins in the module's memory.
#[unsafe(no_mangle)]
extern "C" fn callboard_panic_pointer() -> *const u8 {
    PANIC_MESSAGE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ptr()
}

/// How many bytes of UTF-8 it has; 0 if nothing panicked.
#[unsafe(no_mangle)]
extern "C" fn callboard_panic_bytes() -> usize {
    PANIC_MESSAGE.lock().unwrap_or_else(PoisonError::into_inner).len()
}
