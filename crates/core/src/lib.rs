//! The broker's decisions as pure state machines: no I/O, no clock, no randomness, no threads.
//!
//! Time and chance come in as arguments, so that thousands of schedules can be played in virtual time
//! and the same core runs in the server and, compiled to WebAssembly, in a browser tab.
//!
//! Layout:
//! - [`record`]: a record's encoding and the batch, the unit of everything after admission.

pub mod record;
