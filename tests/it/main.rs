//! One integration binary: what concerns the whole tree, and what needs the whole broker.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cli;
mod demo;
mod discovery;
mod exchanges;
mod expiry;
mod faults;
mod groups;
mod process;
mod protocol_doc;
mod protocol_live;
mod real_input;
mod rest;
mod schedules;
mod socket;
mod subscriptions;
mod support;
mod tidy;
mod webhooks;
