//! What the instruction counts are taken of: records as clients send them, and a broker on one thread.
//!
//! Owns shapes and set-up, no measurement: the benchmarks are in `benches/hot`, the figures that they are held
//! against in `instructions.toml`, and `cargo xtask instructions` compares the two. Only those call it. Everything
//! here is the same in each process: no chance, no other thread's work, and a clock that only moves timestamps.

pub mod records;
pub mod scenes;
pub mod stand;
