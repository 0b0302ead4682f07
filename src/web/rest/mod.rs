//! `/api/v1`: each function translates one request to the actors and their answer back.

pub mod body;
pub mod exchanges;
pub mod groups;
pub mod messages;
pub mod schedules;
pub mod sessions;
pub mod topics;
pub mod webhooks;
