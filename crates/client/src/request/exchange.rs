//! What a client asks of exchanges.

use callboard_protocol::ExchangeKind;
use serde::Serialize;

/// An exchange to make, or to find as it is described.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeclareExchange<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) kind: ExchangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alternate: Option<&'a str>,
}

/// A rule of an exchange: records with a routing key that matches go to a topic, or to another exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    exchange: String,
    #[serde(flatten)]
    to: Destination,
    #[serde(skip_serializing_if = "String::is_empty")]
    routing_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Destination {
    Topic(String),
    ToExchange(String),
}

impl Binding {
    /// From `exchange` to `topic`, which is made if it is not there. In a `topic` exchange `*` in the key is one
    /// word and `#` any number of words; a `fanout` one ignores it.
    #[must_use]
    pub fn to_topic(
        exchange: impl Into<String>,
        topic: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            to: Destination::Topic(topic.into()),
            routing_key: routing_key.into(),
        }
    }

    /// From `exchange` to another one, `next`, which routes on by the same key.
    #[must_use]
    pub fn to_exchange(
        exchange: impl Into<String>,
        next: impl Into<String>,
        routing_key: impl Into<String>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            to: Destination::ToExchange(next.into()),
            routing_key: routing_key.into(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::client::ClientFrame;

    use super::*;
    use crate::request::line;

    #[test]
    fn bindings_are_written_as_the_protocol_says() {
        let table = [
            (
                Binding::to_topic("readings", "plant", "plant.#"),
                r#"{"type":"bind","id":1,"exchange":"readings","topic":"plant","routing_key":"plant.#"}"#,
            ),
            (
                Binding::to_exchange("readings", "all", ""),
                r#"{"type":"bind","id":1,"exchange":"readings","to_exchange":"all"}"#,
            ),
        ];
        for (binding, expected) in table {
            let text = line("bind", Some(1), &binding);
            assert_eq!(text, expected);
            assert!(ClientFrame::decode(&text).is_ok(), "{text}");
            let text = line("unbind", Some(1), &binding);
            assert!(ClientFrame::decode(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn exchanges_of_every_kind_are_declared() {
        for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
            for alternate in [None, Some("lost")] {
                let declare = DeclareExchange {
                    exchange: "readings",
                    kind,
                    alternate,
                };
                let text = line("declare", Some(1), &declare);
                assert!(ClientFrame::decode(&text).is_ok(), "{text}");
            }
        }
        let declare = DeclareExchange {
            exchange: "readings",
            kind: ExchangeKind::Topic,
            alternate: Some("lost"),
        };
        assert_eq!(
            serde_json::to_string(&declare).unwrap(),
            r#"{"exchange":"readings","kind":"topic","alternate":"lost"}"#
        );
    }
}
