//! The load that measures Callboard and other servers.
//!
//! It owns the sockets, the loop that drives them, the servers as processes, and the tables. It knows nothing of
//! the broker's code: what it says to a broker is written by hand, like what it says to any other server, so that
//! the generator is not what is measured. `callboard bench` calls it.
//!
//! - [`scenario`]: what is set up and measured.
//! - [`generator`]: the load. [`link`]: one socket of it. [`wire`]: its framing. [`bare`]: the bare server.
//! - [`crew`]: the load of groups. [`duty`]: what one of their members does.
//! - [`process`]: the servers as processes. [`http`]: what a run asks them beside its load.
//! - [`report`]: tables of what came out. [`table`]: text in columns.

pub mod bare;
pub mod crew;
pub mod duty;
mod failure;
pub mod generator;
pub mod http;
pub mod link;
pub mod process;
pub mod report;
pub mod scenario;
pub mod table;
pub mod wire;

pub use failure::Failure;
