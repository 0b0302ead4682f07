//! Why a measurement ends without a figure.

use std::{fmt, io};

/// A sentence for a person; whoever asked for the measurement decides what follows.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure with a sentence that says what went wrong.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
