//! Async client for Callboard.
