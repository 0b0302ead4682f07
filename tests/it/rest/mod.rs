//! REST over real sockets, against the program as it is shipped.

mod access;
mod events;
mod groups;
mod operation;
mod records;
mod topics;
