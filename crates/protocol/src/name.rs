//! Names of topics, groups and members, and patterns over topic names.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// Why a name was refused; `Display` says what a good one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than the limit.
    #[error("a topic name has 1 to {TOPIC_NAME_BYTES_MAX} bytes")]
    Length,
    /// A byte outside the alphabet.
    #[error("a topic name is made of A-Z a-z 0-9 . _ - (and $ at the start for the broker's own)")]
    Alphabet,
    /// Two dots in a row, or a dot at an end.
    #[error("a topic name is split by dots into words, and no word may be empty")]
    EmptyWord,
}

/// A topic's name: 1–255 bytes of `[A-Za-z0-9._-]`, words split by `.`, none empty.
///
/// A leading `$` marks the broker's own topics. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        let plain = name.strip_prefix('$').unwrap_or(name);
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !plain.bytes().all(in_alphabet) {
            return Err(NameError::Alphabet);
        }
        if plain.split('.').any(str::is_empty) {
            return Err(NameError::EmptyWord);
        }
        Ok(Self(name.into()))
    }

    /// The name as text; never needs escaping in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the broker's own, which clients may read but not write.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for TopicName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}
