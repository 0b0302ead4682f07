//! Memory that expired records had, on its way back to the system.
//!
//! The allocator keeps what is freed between things that stay, and records of one age lie between those of
//! others. After much has expired it is told to let go of whole pages.

use std::sync::atomic::{AtomicU64, Ordering};

/// So much is worth looking through the heap.
const WORTH_BYTES: u64 = 4 << 20;

static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts what was freed.
pub fn count_freed(bytes: u64) {
    FREED_BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// Gives back what was freed, if it is much. May take milliseconds; called by threads that nobody waits for.
pub fn give_back() {
    if FREED_BYTES.load(Ordering::Relaxed) >= WORTH_BYTES {
        FREED_BYTES.store(0, Ordering::Relaxed);
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators have ways of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
