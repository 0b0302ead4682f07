//! The load that measures Callboard and other servers.
//!
//! It owns the sockets, the loop that drives them, the servers as processes, and the tables. It knows nothing of
//! the broker's code: what it says to a broker is written by hand, like what it says to any other server, so that
//! the generator is not what is measured. `callboard bench` calls it, and whatever measures other servers.
//!
//! - [`workload`]: what is set up and measured. [`generator`]: the load. [`crew`]: the load of groups.
//!   [`mixed`]: a crowd.
//! - [`dialect`]: how a server is spoken to. [`broker`]: Callboard, the first of them, and the bare server's.
//! - [`opening`]: a socket until it is ready. [`link`]: a socket of the load. [`block`]: publishes, ready to send.
//!   [`wire`]: WebSocket framing.
//! - [`bare`]: a server with no broker in it. [`process`]: servers as processes. [`http`]: what a run asks them
//!   beside its load.
//! - [`ceiling`]: what the load could do if the server cost nothing.
//! - [`sample`]: what a run came to. [`report`]: tables of it. [`table`]: text in columns. [`svg`]: pictures.

pub mod bare;
pub mod block;
pub mod broker;
pub mod ceiling;
pub mod crew;
pub mod dialect;
mod failure;
pub mod generator;
pub mod http;
pub mod link;
pub mod mixed;
pub mod opening;
pub mod process;
pub mod report;
pub mod sample;
pub mod svg;
pub mod table;
pub mod wire;
pub mod workload;

pub use failure::Failure;
