//! Callboard: a message broker that a browser can speak to.
//!
//! Layout, from the inside out (see ARCHITECTURE.md):
//! - [`store`]: where records are kept; a trait and its engines.
//! - [`actors`]: the concurrency; who owns what.
//! - [`web`]: HTTP and WebSocket; translates, decides nothing.
//! - [`demo`]: live traffic to look at, as an ordinary client makes it.
//! - [`serve`]: puts a broker together; [`config`]: every setting of it.

pub mod actors;
pub mod config;
pub mod demo;
pub mod serve;
pub mod store;
pub mod web;
