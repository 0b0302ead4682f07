//! HTTP: one route table; WebSocket, REST, events, assets. Translates, decides nothing.
//!
//! - [`origin`]: who may connect at all.
//! - [`ws`]: the handshake; from then on the socket belongs to a SessionActor.
//! - [`server`]: the listener and its worker threads.

pub mod origin;
pub mod server;
pub mod ws;
