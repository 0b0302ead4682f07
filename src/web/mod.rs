//! HTTP: one route table; WebSocket, REST, events, assets. Translates, decides nothing.
//!
//! - [`origin`]: who may connect at all.
//! - [`access`]: what every request and every answer go through.
//! - [`routes`]: the one table of what is served where.
//! - [`rest`], [`sse`], [`health`], [`metrics`], [`openapi`], [`assets`]: what stands behind it.
//! - [`problem`]: every error, as RFC 9457 has it.
//! - [`ws`]: the handshake; from then on the socket belongs to a SessionActor.
//! - [`server`]: the listener and its worker threads.

pub mod access;
pub mod assets;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod origin;
pub mod problem;
pub mod rest;
pub mod routes;
pub mod server;
pub mod sse;
pub mod ws;
