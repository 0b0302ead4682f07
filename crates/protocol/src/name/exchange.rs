//! Names of exchanges, how they route, and the keys by which they do.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{NameError, is_name_byte};
use crate::limits::{ROUTING_KEY_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// An exchange's name: 1–255 bytes of `[A-Za-z0-9._-]`, words split by `.`, none empty; never with a `$`.
///
/// Cheap to clone. The default exchange, which routes by topic name, has the empty name: it is always there, so
/// nobody can declare, bind or delete it, and it is no value of this type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeName(Arc<str>);

impl ExchangeName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError::Exchange`].
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let is_good = (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(is_name_byte)
            && !name.split('.').any(str::is_empty);
        if is_good {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Exchange)
        }
    }

    /// The name as text; never needs escaping in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExchangeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Borrow<str> for ExchangeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ExchangeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExchangeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// How an exchange compares a routing key with the keys of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeKind {
    /// The same bytes.
    Direct,
    /// Not at all: every binding matches.
    Fanout,
    /// Word by word; in a binding's key `*` is one word and `#` any number of words, also none.
    Topic,
}

impl ExchangeKind {
    /// The kind that `text` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// The kind as it stands in a frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Checks what a publish calls its routing key: 0–255 bytes of `[A-Za-z0-9._-]`.
///
/// # Errors
/// [`NameError::RoutingKey`].
pub fn check_routing_key(key: &str) -> Result<(), NameError> {
    if key.len() <= ROUTING_KEY_BYTES_MAX && key.bytes().all(is_name_byte) {
        Ok(())
    } else {
        Err(NameError::RoutingKey)
    }
}

/// Checks the key of a binding of an exchange of this kind: a routing key, for a topic exchange also with whole
/// words that are `*` or `#`.
///
/// # Errors
/// [`NameError::BindingKey`] for what no topic exchange would take, [`NameError::RoutingKey`] for the others.
pub fn check_binding_key(kind: ExchangeKind, key: &str) -> Result<(), NameError> {
    let is_good_word = |word: &str| matches!(word, "*" | "#") || word.bytes().all(is_name_byte);
    match kind {
        ExchangeKind::Direct | ExchangeKind::Fanout => check_routing_key(key),
        ExchangeKind::Topic if key.len() > ROUTING_KEY_BYTES_MAX => Err(NameError::BindingKey),
        ExchangeKind::Topic if key.split('.').all(is_good_word) => Ok(()),
        ExchangeKind::Topic => Err(NameError::BindingKey),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TopicName;

    #[test]
    fn the_name_of_an_exchange_is_spelt_like_a_topic_but_never_internal() {
        let longest = "x".repeat(TOPIC_NAME_BYTES_MAX);
        for good in ["readings", "a.b-c_D.9", "0", longest.as_str()] {
            assert_eq!(ExchangeName::parse(good).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(TOPIC_NAME_BYTES_MAX + 1);
        for bad in [
            "",
            "$events",
            "a..b",
            ".a",
            "a.",
            "a b",
            "a*",
            "ä",
            too_long.as_str(),
        ] {
            assert_eq!(ExchangeName::parse(bad), Err(NameError::Exchange), "{bad}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<ExchangeName>(&json).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
            assert_eq!(ExchangeKind::parse(kind.as_str()), Some(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<ExchangeKind>(&json).unwrap(), kind);
        }
        assert_eq!(ExchangeKind::parse("headers"), None);
        assert_eq!(ExchangeKind::parse("Topic"), None);
    }

    #[test]
    fn wildcards_are_whole_words_of_a_topic_exchange_only() {
        let longest = "k".repeat(ROUTING_KEY_BYTES_MAX);
        for good in ["", "a", "a.b", "a..b", ".", longest.as_str()] {
            for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
                assert_eq!(check_binding_key(kind, good), Ok(()), "{kind} {good}");
            }
            assert_eq!(check_routing_key(good), Ok(()), "{good}");
        }
        for pattern in ["*", "#", "plant.#", "*.boiler.*", "#.#", "#.a.#"] {
            assert_eq!(
                check_binding_key(ExchangeKind::Topic, pattern),
                Ok(()),
                "{pattern}"
            );
            assert_eq!(
                check_routing_key(pattern),
                Err(NameError::RoutingKey),
                "{pattern}"
            );
            for kind in [ExchangeKind::Direct, ExchangeKind::Fanout] {
                let checked = check_binding_key(kind, pattern);
                assert_eq!(checked, Err(NameError::RoutingKey), "{kind} {pattern}");
            }
        }
        let too_long = "#.".repeat(ROUTING_KEY_BYTES_MAX / 2) + "ab";
        for bad in [
            "a*",
            "**",
            "#a",
            "a.b#",
            "$a",
            "a b",
            "a/b",
            "é",
            too_long.as_str(),
        ] {
            let checked = check_binding_key(ExchangeKind::Topic, bad);
            assert_eq!(checked, Err(NameError::BindingKey), "{bad}");
            assert_eq!(check_routing_key(bad), Err(NameError::RoutingKey), "{bad}");
        }
    }

    proptest! {
        /// What names an exchange could name a topic, so that the same text can be both.
        #[test]
        fn a_name_is_good_exactly_when_it_is_a_topic_of_clients(name in "[a$.*# -]{0,6}|\\PC{0,6}|[a-z.]{250,260}") {
            let is_topic = TopicName::parse(&name).is_ok_and(|topic| !topic.is_internal());
            prop_assert_eq!(ExchangeName::parse(&name).is_ok(), is_topic);
        }

        /// A key that was published can always be bound, whatever the kind.
        #[test]
        fn a_routing_key_is_a_binding_key_of_every_kind(key in "[a-c.*#$]{0,8}|[a-z.]{250,260}") {
            for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
                let bound = check_binding_key(kind, &key);
                prop_assert!(check_routing_key(&key).is_err() || bound.is_ok());
            }
        }
    }
}
