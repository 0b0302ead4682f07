//! What every engine must do, what the journal must survive, and what its bytes look like.
#![expect(clippy::unwrap_used, reason = "tests")]

mod damage;
mod engines;
mod expiry;
mod faults;
mod gathered;
mod harness;
mod layout;
mod life;
mod model;
mod quiet;
mod rewriting;
mod sets;
mod together;
