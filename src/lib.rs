//! Callboard: a message broker that a browser can speak to.

pub mod config;
pub mod serve;
