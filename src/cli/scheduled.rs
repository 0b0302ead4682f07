//! `callboard scheduled`: records that are to be delivered later, over REST.

use callboard_protocol::{Timestamp, time::format_rfc3339};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Failure,
    address::ServerArgs,
    api::{Api, path},
    complain, output,
    table::thousands,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard pub --topic reminders --delay-ms 60000 '{\"call\":\"Ada\"}'
  callboard scheduled list reminders --limit 20
  callboard scheduled cancel reminders s-0-41

Tables on a terminal, NDJSON elsewhere.";

/// Records that are asked for at a time.
const PAGE_RECORDS: u64 = 1000;
/// How much of a payload a table shows, characters.
const PAYLOAD_CHARS_MAX: usize = 60;

#[derive(Debug, Args)]
pub(crate) struct ScheduledArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what a topic is to deliver later, the next one first
    #[command(after_help = "Example:\n  callboard scheduled list reminders --limit 20")]
    List {
        /// The topic
        topic: String,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// Cancel one; it will not be delivered
    #[command(after_help = "Example:\n  callboard scheduled cancel reminders s-0-41")]
    Cancel {
        /// The topic
        topic: String,
        /// Its id, as `pub` or `list` say it
        id: String,
    },
}

#[derive(Deserialize)]
struct Scheduled {
    id: String,
    deliver_at: Timestamp,
    key: Option<String>,
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    total: u64,
    next: Option<String>,
}

/// Does one thing with scheduled records.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &ScheduledArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    match &args.command {
        Command::List { topic, limit } => list(&api, topic, *limit),
        Command::Cancel { topic, id } => {
            let path = format!("{}{}", at(topic), path(id));
            api.call("DELETE", &path, None).map(|_| ())
        }
    }
}

fn at(topic: &str) -> String {
    format!("/topics{}/scheduled", path(topic))
}

fn list(api: &Api<'_>, topic: &str, limit: u64) -> Result<(), Failure> {
    let headline = ["id", "deliver at", "key", "payload"];
    let (mut left, mut next, mut shown) = (limit, String::new(), 0);
    loop {
        let count = left.min(PAGE_RECORDS);
        let answer = api.call("GET", &format!("{}?limit={count}{next}", at(topic)), None)?;
        output::list(&answer, "scheduled", &headline, row)?;
        let page: Page = output::read(&answer)?;
        shown += output::entries(&answer, "scheduled")?.len() as u64;
        left = limit.saturating_sub(shown);
        match page.next {
            Some(cursor) if left > 0 => next = format!("&next={}", &path(&cursor)[1..]),
            _ => {
                if page.total > shown {
                    complain(&format!("{} of {}", thousands(shown), thousands(page.total)));
                }
                return Ok(());
            }
        }
    }
}

fn row(record: Scheduled) -> Vec<String> {
    let payload = match (&record.payload, &record.payload_base64) {
        (Some(json), _) => json.get(),
        (None, Some(base64)) => base64,
        // `null` is a payload, and reads as none.
        (None, None) => "null",
    };
    let mut shown: String = payload.chars().take(PAYLOAD_CHARS_MAX).collect();
    if shown.len() < payload.len() {
        shown.push('…');
    }
    vec![
        record.id,
        format_rfc3339(record.deliver_at),
        record.key.unwrap_or_default(),
        shown,
    ]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_when_and_what() {
        let record =
            r#"{"id":"s-0-41","partition":0,"deliver_at":1795146000123,"key":"k","payload":{"a": 1.10}}"#;
        assert_eq!(
            row(serde_json::from_str(record).unwrap()),
            ["s-0-41", "2026-11-20T03:40:00.123Z", "k", r#"{"a": 1.10}"#]
        );
        let long = format!(
            r#"{{"id":"s-0-1","deliver_at":0,"payload_base64":"{}"}}"#,
            "A".repeat(80)
        );
        let row = row(serde_json::from_str(&long).unwrap());
        assert_eq!(row[3], format!("{}…", "A".repeat(60)));
    }
}
