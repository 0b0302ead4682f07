//! Groups over real sockets against a real broker process: what members are told, what they get, and what is
//! still true after one of them, or the broker, is gone.
//!
//! [`client`] is a member that keeps what it was told; each other module is one part of the contract.

pub mod client;
mod commits;
mod dead_letters;
mod endings;
mod keys;
mod leases;
mod members;
mod replies;
mod settling;
