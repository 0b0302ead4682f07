//! What breaks, hangs, is sent wrong or is cut off: each has its clear answer, and nobody else notices.
//!
//! Every test starts a real broker process and speaks to it over plain sockets, byte by byte where that is
//! the point.

mod crowd;
mod disk;
mod frames;
mod hung;
mod resume;
mod shutdown;
mod transport;
