//! What can happen, with the names that clients read.

use serde::Serialize;

/// Something that happened in the broker. Serialized it is the payload of a record of `$events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The broker began: whoever was connected before is not any more.
    BrokerStarted {
        /// Its version.
        version: String,
    },
    /// A topic can be used.
    TopicCreated {
        /// Its name.
        topic: String,
        /// Whether it goes with its last subscriber.
        temporary: bool,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Its name.
        topic: String,
    },
    /// An exchange can be used.
    ExchangeCreated {
        /// Its name.
        exchange: String,
        /// `direct`, `fanout` or `topic`.
        kind: String,
    },
    /// An exchange is gone, and its bindings with it.
    ExchangeDeleted {
        /// Its name.
        exchange: String,
    },
    /// An exchange routes somewhere else as well.
    BindingCreated {
        /// The binding's id.
        id: String,
        /// The exchange that routes.
        exchange: String,
        /// The topic that it leads to, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// The exchange that it leads to, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        to_exchange: Option<String>,
        /// What a routing key is held against.
        routing_key: String,
    },
    /// An exchange no longer routes there.
    BindingDeleted {
        /// The binding's id.
        id: String,
        /// The exchange that routed.
        exchange: String,
        /// The topic that it leads to, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// The exchange that it leads to, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        to_exchange: Option<String>,
        /// What a routing key was held against.
        routing_key: String,
    },
    /// A client connected.
    SessionJoined {
        /// The session's id, as `welcome` says it.
        session: String,
        /// Address and port of the client.
        remote: String,
        /// What the client calls itself.
        client: String,
    },
    /// A client's connection ended.
    SessionLeft {
        /// The session's id.
        session: String,
    },
    /// A group has a member more.
    MemberJoined {
        /// The group's topic.
        topic: String,
        /// The group.
        group: String,
        /// The member, as the group's description names it.
        member: String,
        /// Its session.
        session: String,
    },
    /// A group has a member less.
    MemberLeft {
        /// The group's topic.
        topic: String,
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Its session.
        session: String,
    },
    /// Partitions of a partitioned group have moved between its members.
    GroupRebalanced {
        /// The group's topic.
        topic: String,
        /// The group.
        group: String,
        /// The assignment's number.
        generation: u64,
    },
    /// A webhook was made.
    WebhookCreated {
        /// Its id.
        webhook: String,
        /// The topic that it pushes.
        topic: String,
        /// The group that it is a member of.
        group: String,
        /// Where it pushes to.
        url: String,
    },
    /// A webhook was deleted.
    WebhookDeleted {
        /// Its id.
        webhook: String,
        /// The topic that it pushed.
        topic: String,
        /// The group that it was a member of.
        group: String,
    },
    /// A webhook pushes no more, until somebody enables it.
    WebhookDisabled {
        /// Its id.
        webhook: String,
        /// The topic that it pushed.
        topic: String,
        /// The group that it was a member of.
        group: String,
        /// Where it pushed to.
        url: String,
        /// Why.
        reason: String,
    },
    /// A webhook pushes again.
    WebhookEnabled {
        /// Its id.
        webhook: String,
        /// The topic that it pushes.
        topic: String,
        /// The group that it is a member of.
        group: String,
        /// Where it pushes to.
        url: String,
    },
    /// No record came for longer than the topic's `silent_after_ms`.
    SourceSilent {
        /// The topic.
        topic: String,
        /// For how long none came.
        silent_ms: u64,
        /// When the last one came; none since the broker started or ever.
        last_timestamp: Option<u64>,
    },
    /// Records come again.
    SourceBack {
        /// The topic.
        topic: String,
    },
}

impl Event {
    /// What it is about, the key of its record.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::BrokerStarted { .. } => None,
            Self::TopicCreated { topic, .. }
            | Self::TopicDeleted { topic }
            | Self::MemberJoined { topic, .. }
            | Self::MemberLeft { topic, .. }
            | Self::GroupRebalanced { topic, .. }
            | Self::SourceSilent { topic, .. }
            | Self::SourceBack { topic } => Some(topic),
            Self::ExchangeCreated { exchange, .. }
            | Self::ExchangeDeleted { exchange }
            | Self::BindingCreated { exchange, .. }
            | Self::BindingDeleted { exchange, .. } => Some(exchange),
            Self::SessionJoined { session, .. } | Self::SessionLeft { session } => Some(session),
            Self::WebhookCreated { webhook, .. }
            | Self::WebhookDeleted { webhook, .. }
            | Self::WebhookDisabled { webhook, .. }
            | Self::WebhookEnabled { webhook, .. } => Some(webhook),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::Event;

    const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

    fn all() -> Vec<Event> {
        let text = || "x".to_owned();
        let (topic, group, member, session) = (text, text, text, text);
        let (exchange, webhook, url, id, routing_key) = (text, text, text, text, text);
        vec![
            Event::BrokerStarted { version: text() },
            Event::TopicCreated {
                topic: topic(),
                temporary: false,
            },
            Event::TopicDeleted { topic: topic() },
            Event::ExchangeCreated {
                exchange: exchange(),
                kind: text(),
            },
            Event::ExchangeDeleted { exchange: exchange() },
            Event::BindingCreated {
                id: id(),
                exchange: exchange(),
                topic: Some(topic()),
                to_exchange: None,
                routing_key: routing_key(),
            },
            Event::BindingDeleted {
                id: id(),
                exchange: exchange(),
                topic: None,
                to_exchange: Some(exchange()),
                routing_key: routing_key(),
            },
            Event::SessionJoined {
                session: session(),
                remote: text(),
                client: text(),
            },
            Event::SessionLeft { session: session() },
            Event::MemberJoined {
                topic: topic(),
                group: group(),
                member: member(),
                session: session(),
            },
            Event::MemberLeft {
                topic: topic(),
                group: group(),
                member: member(),
                session: session(),
            },
            Event::GroupRebalanced {
                topic: topic(),
                group: group(),
                generation: 1,
            },
            Event::WebhookCreated {
                webhook: webhook(),
                topic: topic(),
                group: group(),
                url: url(),
            },
            Event::WebhookDisabled {
                webhook: webhook(),
                topic: topic(),
                group: group(),
                url: url(),
                reason: text(),
            },
            Event::WebhookEnabled {
                webhook: webhook(),
                topic: topic(),
                group: group(),
                url: url(),
            },
            Event::WebhookDeleted {
                webhook: webhook(),
                topic: topic(),
                group: group(),
            },
            Event::SourceSilent {
                topic: topic(),
                silent_ms: 1,
                last_timestamp: None,
            },
            Event::SourceBack { topic: topic() },
        ]
    }

    /// The event's name and those of its members.
    fn shape(value: &Value) -> (String, BTreeSet<String>) {
        let members = value.as_object().unwrap().keys().cloned().collect();
        (value["event"].as_str().unwrap().to_owned(), members)
    }

    #[test]
    fn document_shows_every_event_as_it_is() {
        let shown: Vec<_> = DOCUMENT
            .lines()
            .filter(|line| line.starts_with("{\"event\":"))
            .map(|line| shape(&serde_json::from_str(line).unwrap()))
            .collect();
        let real: Vec<_> = all()
            .iter()
            .map(|event| shape(&serde_json::to_value(event).unwrap()))
            .collect();
        assert_eq!(shown, real);
    }
}
