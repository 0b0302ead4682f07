//! Placeholder of the broker's start, replaced when the broker is wired.

use std::process::ExitCode;

/// Runs the broker until it is told to stop.
#[must_use]
pub fn run(config: crate::config::ServeConfig) -> ExitCode {
    eprintln!("callboard: cannot listen on {} yet", config.listen);
    ExitCode::FAILURE
}
