//! The pieces of the hot path, each by itself.

mod decisions;
mod edges;

pub use decisions::decide;
pub use edges::carry;
