//! What a webhook is: what was asked for, and the form in which the store keeps it.

use callboard_protocol::{GroupName, Timestamp, TopicName, error::Refusal};
use serde::{Deserialize, Serialize};

use crate::actors::push::sign::Secret;

/// Calls at once unless it is said otherwise.
pub const CONCURRENCY: u32 = 1;
/// Most calls at once.
pub const CONCURRENCY_MAX: u32 = 100;
/// How long a call may take unless it is said otherwise.
pub const TIMEOUT_MS: u64 = 10_000;
/// Shortest and longest time for a call.
pub const TIMEOUT_MS_RANGE: std::ops::RangeInclusive<u64> = 100..=300_000;
/// Most webhooks of one broker.
pub const WEBHOOKS_MAX: usize = 1_000;

/// What a call's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    /// The record as a `message` has it.
    #[default]
    Message,
    /// Its payload alone.
    Payload,
    /// A CloudEvent as JSON.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// A CloudEvent whose attributes are headers and whose data is the body.
    #[serde(rename = "cloudevents_binary")]
    CloudEventsBinary,
}

impl BodyFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [
        Self::Message,
        Self::Payload,
        Self::CloudEvents,
        Self::CloudEventsBinary,
    ];

    /// Its name in REST.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Payload => "payload",
            Self::CloudEvents => "cloudevents",
            Self::CloudEventsBinary => "cloudevents_binary",
        }
    }

    /// The format of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// What was asked for, checked.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Whose records.
    pub topic: TopicName,
    /// As a member of which group.
    pub group: GroupName,
    /// Where they go.
    pub url: String,
    /// What calls are signed with.
    pub secret: Secret,
    /// Calls at once.
    pub concurrency: u32,
    /// How long a call may take.
    pub timeout_ms: u64,
    /// What a call's body is.
    pub format: BodyFormat,
}

/// That a webhook calls nobody any more, until it is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// A webhook as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredWebhook {
    topic: String,
    group: String,
    url: String,
    secret: String,
    concurrency: u32,
    timeout_ms: u64,
    format: BodyFormat,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<Disabled>,
}

impl StoredWebhook {
    /// The form in which it is kept.
    pub fn new(settings: &WebhookSettings, created_at: Timestamp, disabled: Option<Disabled>) -> Self {
        Self {
            topic: settings.topic.to_string(),
            group: settings.group.to_string(),
            url: settings.url.clone(),
            secret: settings.secret.text().to_owned(),
            concurrency: settings.concurrency,
            timeout_ms: settings.timeout_ms,
            format: settings.format,
            created_at,
            disabled,
        }
    }

    /// As text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }

    /// What is kept, in parts.
    ///
    /// # Errors
    /// `internal` and what is wrong with it.
    pub fn read(json: &str) -> Result<(WebhookSettings, Timestamp, Option<Disabled>), Refusal> {
        let wrong = |error: &dyn std::fmt::Display| {
            Refusal::new(callboard_protocol::ErrorCode::Internal, error.to_string())
        };
        let kept: Self = serde_json::from_str(json).map_err(|error| wrong(&error))?;
        let settings = WebhookSettings {
            topic: TopicName::parse(&kept.topic).map_err(|error| wrong(&error))?,
            group: GroupName::parse(&kept.group).map_err(|error| wrong(&error))?,
            url: kept.url,
            secret: Secret::parse(&kept.secret)?,
            concurrency: kept.concurrency,
            timeout_ms: kept.timeout_ms,
            format: kept.format,
        };
        Ok((settings, kept.created_at, kept.disabled))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_of_formats_are_those_of_their_json() {
        for format in BodyFormat::ALL {
            let json = serde_json::to_value(format).unwrap();
            assert_eq!(json, format.as_str());
            assert_eq!(BodyFormat::parse(format.as_str()), Some(format));
        }
        assert_eq!(BodyFormat::parse("xml"), None);
    }

    #[test]
    fn what_is_kept_is_what_was_there() {
        let settings = WebhookSettings {
            topic: TopicName::parse("orders").unwrap(),
            group: GroupName::parse("billing").unwrap(),
            url: "https://hooks.example/a".into(),
            secret: Secret::generate().unwrap(),
            concurrency: 7,
            timeout_ms: 500,
            format: BodyFormat::CloudEventsBinary,
        };
        let disabled = Some(Disabled {
            reason: "gone".into(),
            at: Timestamp(9),
        });
        let json = StoredWebhook::new(&settings, Timestamp(5), disabled.clone()).to_json();
        let (read, created_at, kept) = StoredWebhook::read(&json).unwrap();
        assert_eq!(format!("{read:?}"), format!("{settings:?}"));
        assert_eq!(read.secret.text(), settings.secret.text());
        assert_eq!((created_at, kept), (Timestamp(5), disabled));
    }
}
