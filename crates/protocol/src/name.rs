//! Names of topics, groups (and of how they share work), members and exchanges, and patterns over topic names.

mod exchange;

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::limits::{GROUP_NAME_BYTES_MAX, ROUTING_KEY_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

pub use exchange::{ExchangeKind, ExchangeName, check_binding_key, check_routing_key};

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
    /// A pattern's `*` or `#` inside a longer word.
    #[error("in a pattern * and # are whole words: orders.*.created, orders.#")]
    PartialWildcard,
    /// A pattern of plain words only.
    #[error("a pattern has at least one word that is * (one word) or # (any number of words)")]
    NoWildcard,
    /// No name of a group.
    #[error("a group name has 1 to {GROUP_NAME_BYTES_MAX} bytes of A-Z a-z 0-9 _ -")]
    Group,
    /// No name of a member.
    #[error("a member name has 1 to {GROUP_NAME_BYTES_MAX} bytes and no control characters")]
    Member,
    /// No name of an exchange.
    #[error(
        "an exchange name has 1 to {TOPIC_NAME_BYTES_MAX} bytes of A-Z a-z 0-9 . _ - and no word between dots is empty"
    )]
    Exchange,
    /// No routing key.
    #[error("a routing key has 0 to {ROUTING_KEY_BYTES_MAX} bytes of A-Z a-z 0-9 . _ -")]
    RoutingKey,
    /// No key of a binding of a topic exchange.
    #[error(
        "a binding's key has 0 to {ROUTING_KEY_BYTES_MAX} bytes of A-Z a-z 0-9 . _ - and whole words that are * or #"
    )]
    BindingKey,
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
        if !plain.bytes().all(is_name_byte) {
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

/// A pattern over topic names: words split by `.`, of which `*` stands for exactly one word and `#`
/// for any number of words, also none.
///
/// At least one word is a wildcard, the others are spelt as in a [`TopicName`]. A leading `$` selects
/// the broker's own topics and only those: `#` never matches `$stats.rates`, `$#` and `$stats.*` do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Checks and takes a pattern of 1 to 255 bytes.
    ///
    /// # Errors
    /// [`NameError`] says which rule the pattern breaks.
    pub fn parse(pattern: &str) -> Result<Self, NameError> {
        if pattern.is_empty() || pattern.len() > TOPIC_NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        let mut wildcards = 0;
        for word in pattern.strip_prefix('$').unwrap_or(pattern).split('.') {
            match word {
                "" => return Err(NameError::EmptyWord),
                "*" | "#" => wildcards += 1,
                _ if Self::is_pattern(word) => return Err(NameError::PartialWildcard),
                _ if !word.bytes().all(is_name_byte) => return Err(NameError::Alphabet),
                _ => {}
            }
        }
        if wildcards == 0 {
            return Err(NameError::NoWildcard);
        }
        Ok(Self(pattern.into()))
    }

    /// Whether `text` is meant as a pattern and not as a name: it holds a `*` or a `#`.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.bytes().any(|byte| matches!(byte, b'*' | b'#'))
    }

    /// Whether `topic` is one of those that the pattern stands for.
    ///
    /// Allocates nothing. Takes at most as many steps as the product of both numbers of words.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        let (pattern, name) = match (self.0.strip_prefix('$'), topic.as_str().strip_prefix('$')) {
            (Some(pattern), Some(name)) => (pattern, name),
            (None, None) => (&*self.0, topic.as_str()),
            _ => return false,
        };
        let mut pattern = pattern.split('.');
        let mut name = name.split('.');
        // What to try again after a mismatch: the latest `#` takes one word more. Earlier ones need
        // no second try, because whatever they could take, the latest can take as well.
        let mut retry = None;
        loop {
            let at_words = name.clone();
            let matched = match (pattern.next(), name.next()) {
                (None, None) => return true,
                (Some("#"), _) => {
                    name = at_words;
                    retry = Some((pattern.clone(), name.clone()));
                    true
                }
                (Some("*"), Some(_)) => true,
                (Some(expected), Some(word)) => expected == word,
                (Some(_), None) => return false,
                (None, Some(_)) => false,
            };
            if matched {
                continue;
            }
            let Some((after_hash, words)) = &mut retry else {
                return false;
            };
            words.next();
            pattern = after_hash.clone();
            name = words.clone();
        }
    }

    /// What every matching name begins with: the words before the first wildcard.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        let wildcard = self.0.find(['*', '#']).unwrap_or(self.0.len());
        let words = &self.0[..wildcard];
        // Without the dot behind them: `#` stands for no word as well.
        words.strip_suffix('.').unwrap_or(words)
    }

    /// The pattern as text; never needs escaping in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A group's name: 1–64 bytes of `[A-Za-z0-9_-]`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError::Group`].
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let is_good = has_group_length(name) && name.bytes().all(|byte| is_name_byte(byte) && byte != b'.');
        if is_good {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Group)
        }
    }

    /// The name as text; never needs escaping in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for GroupName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How a group shares its topic's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupMode {
    /// Each partition has one owner.
    Partitioned,
    /// Each record is leased to one member.
    Shared,
}

impl GroupMode {
    /// The mode that `text` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Partitioned, Self::Shared]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }

    /// The mode as it stands in a frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Partitioned => "partitioned",
            Self::Shared => "shared",
        }
    }
}

/// The name under which a member comes back: 1–64 bytes of any text that a terminal shows as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(Arc<str>);

impl MemberName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError::Member`].
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if has_group_length(name) && !name.chars().any(char::is_control) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Member)
        }
    }

    /// The name as text; may need escaping in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for MemberName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

fn has_group_length(name: &str) -> bool {
    (1..=GROUP_NAME_BYTES_MAX).contains(&name.len())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}
