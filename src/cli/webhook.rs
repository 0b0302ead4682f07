//! `callboard webhook`: push subscriptions over REST.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Failure,
    address::ServerArgs,
    api::{Api, path},
    output,
    table::{Table, age, thousands},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard webhook create --topic orders --group crm --url https://crm.example/hook
  callboard webhook list
  callboard webhook describe ID
  callboard webhook disable ID
  callboard webhook enable ID
  callboard webhook delete ID

Tables on a terminal, NDJSON elsewhere. Only `create` prints the secret that calls are signed with.";

#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all webhooks
    #[command(after_help = "Example:\n  callboard webhook list")]
    List,
    /// Create a webhook: an HTTP endpoint that is a member of a shared group
    #[command(
        after_help = "Example:\n  callboard webhook create --topic orders --group crm --url https://crm.example/hook"
    )]
    Create(Box<CreateArgs>),
    /// Show one webhook and how its last calls ended
    #[command(after_help = "Example:\n  callboard webhook describe ID")]
    Describe(Named),
    /// Set a disabled webhook going again
    #[command(after_help = "Example:\n  callboard webhook enable ID")]
    Enable(Named),
    /// Stop calling an endpoint; its records stay with its group
    #[command(after_help = "Example:\n  callboard webhook disable ID")]
    Disable(Named),
    /// Delete a webhook; its group and the group's position stay
    #[command(after_help = "Example:\n  callboard webhook delete ID")]
    Delete(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// Its id
    id: String,
}

impl Named {
    fn path(&self) -> String {
        format!("/webhooks{}", path(&self.id))
    }
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The topic, which is made if need be
    #[arg(long, short)]
    topic: String,
    /// The shared group that it is a member of, which is made if need be
    #[arg(long, short)]
    group: String,
    /// The endpoint; http or https
    #[arg(long)]
    url: String,
    /// What calls are signed with, as `whsec_…`; without it the broker makes one
    #[arg(long, env = "CALLBOARD_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Most calls at once
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u64>,
    /// How long a call may take
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// What a call carries
    #[arg(long, value_name = "FORMAT", value_parser = ["message", "payload", "cloudevents", "cloudevents_binary"])]
    format: Option<String>,
}

impl CreateArgs {
    fn fields(&self) -> Map<String, Value> {
        let texts = [
            ("topic", Some(&self.topic)),
            ("group", Some(&self.group)),
            ("url", Some(&self.url)),
            ("secret", self.secret.as_ref()),
            ("format", self.format.as_ref()),
        ];
        let numbers = [("concurrency", self.concurrency), ("timeout_ms", self.timeout_ms)];
        let texts = texts
            .into_iter()
            .filter_map(|(field, value)| Some((field, Value::from(value?.as_str()))));
        let numbers = numbers
            .into_iter()
            .filter_map(|(field, value)| Some((field, Value::from(value?))));
        texts
            .chain(numbers)
            .map(|(field, value)| (field.to_owned(), value))
            .collect()
    }
}

#[derive(Deserialize)]
struct Answer {
    at: String,
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
    partition: u32,
    offset: u64,
    attempt: u32,
}

#[derive(Deserialize)]
struct Webhook {
    id: String,
    topic: String,
    group: String,
    url: String,
    format: String,
    concurrency: u64,
    timeout_ms: u64,
    state: String,
    disabled_reason: Option<String>,
    disabled_at: Option<String>,
    created_at: String,
    succeeded: u64,
    failed: u64,
    consecutive_failures: u64,
    in_flight: u64,
    retry_at: Option<String>,
    #[serde(default)]
    answers: Vec<Answer>,
    secret: Option<String>,
}

/// Does one thing with webhooks.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &WebhookArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    let show = |answer: String| output::show(&answer, description);
    match &args.command {
        Command::List => list(&api.call("GET", "/webhooks", None)?),
        Command::Create(create) => show(api.call("POST", "/webhooks", Some(&create.fields()))?),
        Command::Describe(webhook) => show(api.call("GET", &webhook.path(), None)?),
        Command::Enable(webhook) => show(api.call("POST", &format!("{}/enable", webhook.path()), None)?),
        Command::Disable(webhook) => show(api.call("POST", &format!("{}/disable", webhook.path()), None)?),
        Command::Delete(webhook) => api.call("DELETE", &webhook.path(), None).map(|_| ()),
    }
}

fn list(answer: &str) -> Result<(), Failure> {
    let headline = ["webhook", "topic", "group", "state", "succeeded", "failed", "url"];
    output::list(answer, "webhooks", &headline, |webhook: Webhook| {
        vec![
            webhook.id,
            webhook.topic,
            webhook.group,
            webhook.state,
            thousands(webhook.succeeded),
            thousands(webhook.failed),
            webhook.url,
        ]
    })
}

/// A webhook for a person: what it is, how it fares, how its last calls ended.
fn description(webhook: &Webhook) -> String {
    let mut text = format!("{}  ({})\n\n", webhook.id, webhook.state);
    if !webhook.answers.is_empty() {
        text.push_str(&format!("{}\n", answers(&webhook.answers)));
    }
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name} = {value}\n"));
    line("url", &webhook.url);
    line("topic", &webhook.topic);
    line("group", &webhook.group);
    line("format", &webhook.format);
    line("concurrency", &webhook.concurrency.to_string());
    line("timeout_ms", &webhook.timeout_ms.to_string());
    line("created", &webhook.created_at);
    line("succeeded", &thousands(webhook.succeeded));
    line(
        "failed",
        &format!(
            "{}, {} in a row",
            thousands(webhook.failed),
            thousands(webhook.consecutive_failures)
        ),
    );
    line("in flight", &thousands(webhook.in_flight));
    for (name, value) in [
        ("retry at", &webhook.retry_at),
        ("disabled", &webhook.disabled_at),
        ("reason", &webhook.disabled_reason),
        ("secret (shown only now)", &webhook.secret),
    ] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    text
}

fn answers(answers: &[Answer]) -> Table {
    let mut table = Table::new(&["at", "answer", "took", "partition", "offset", "attempt"]);
    for answer in answers {
        let said = match (answer.status, &answer.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => String::new(),
        };
        table.row(vec![
            answer.at.clone(),
            said,
            age(answer.duration_ms),
            answer.partition.to_string(),
            answer.offset.to_string(),
            answer.attempt.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        webhook: WebhookArgs,
    }

    #[test]
    fn only_what_is_said_is_sent() {
        let fields = |arguments: &[&str]| {
            let line = Line::try_parse_from([&["webhook", "create"], arguments].concat()).unwrap();
            match line.webhook.command {
                Command::Create(create) => Value::from(create.fields()),
                other => panic!("{other:?}"),
            }
        };
        let least = ["--topic", "t", "--group", "g", "--url", "http://h/"];
        assert_eq!(
            fields(&least),
            json!({"topic": "t", "group": "g", "url": "http://h/"})
        );
        let more = [
            "--format",
            "cloudevents",
            "--concurrency",
            "4",
            "--timeout-ms",
            "500",
        ];
        assert_eq!(
            fields(&[&least[..], &more].concat()),
            json!({"topic": "t", "group": "g", "url": "http://h/", "format": "cloudevents",
                "concurrency": 4, "timeout_ms": 500})
        );
    }

    #[test]
    fn a_description_says_what_went_wrong_and_the_secret_once() {
        let mut webhook = json!({
            "id": "w1", "topic": "t", "group": "g", "url": "http://h/", "format": "message", "concurrency": 1,
            "timeout_ms": 10000, "state": "disabled", "disabled_reason": "gone",
            "disabled_at": "2026-11-20T08:00:00.000Z", "created_at": "2026-11-20T07:00:00.000Z", "succeeded": 7,
            "failed": 2, "consecutive_failures": 1, "in_flight": 0,
            "answers": [{"at": "2026-11-20T08:00:00.000Z", "status": 410, "duration_ms": 12, "partition": 0,
                "offset": 9, "attempt": 1}]
        });
        let text = description(&serde_json::from_value(webhook.clone()).unwrap());
        assert!(
            text.contains("reason = gone") && text.contains("410  12 ms"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
        webhook["secret"] = "whsec_abc".into();
        let text = description(&serde_json::from_value(webhook).unwrap());
        assert!(text.contains("whsec_abc"), "{text}");
    }
}
