//! `callboard topic`: topics over REST.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Failure,
    address::ServerArgs,
    api::{Api, path},
    output,
    table::{Table, bytes, thousands},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard topic list
  callboard topic create orders --partitions 3 --durability fsync
  callboard topic create ticks --durability memory --set retention_ms=60000
  callboard topic describe orders
  callboard topic config orders --set retention_bytes=1073741824 --set ttl_ms=null
  callboard topic delete orders

Tables on a terminal, NDJSON elsewhere.";

#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all topics
    #[command(after_help = "Example:\n  callboard topic list")]
    List,
    /// Create a topic
    #[command(
        after_help = "Example:\n  callboard topic create orders --partitions 3 --set retention_ms=86400000"
    )]
    Create {
        /// Its name: letters, digits, `.`, `_` and `-`
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show one topic: its partitions and its configuration
    #[command(after_help = "Example:\n  callboard topic describe orders")]
    Describe {
        /// Its name
        name: String,
    },
    /// Change a topic's configuration, or give it more partitions
    #[command(after_help = "Example:\n  callboard topic config orders --partitions 6 --set ttl_ms=null")]
    Config {
        /// Its name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Delete a topic and all its records
    #[command(after_help = "Example:\n  callboard topic delete orders")]
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// How many partitions; they can be added to later, not taken away
    #[arg(long)]
    partitions: Option<u32>,

    /// What an answered record survives: fsync, os or memory
    #[arg(long)]
    durability: Option<String>,

    /// Any field of the configuration, as `retention_ms=60000`; `null` takes it away; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
}

fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write it as retention_ms=60000")?;
    // What is not JSON is a text, so that `durability=fsync` needs no quotes.
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

impl ConfigArgs {
    fn fields(&self) -> Map<String, Value> {
        let mut fields: Map<String, Value> = self.settings.iter().cloned().collect();
        if let Some(partitions) = self.partitions {
            fields.insert("partitions".to_owned(), partitions.into());
        }
        if let Some(durability) = &self.durability {
            fields.insert("durability".to_owned(), durability.as_str().into());
        }
        fields
    }
}

#[derive(Deserialize)]
struct Partition {
    partition: u32,
    first_offset: u64,
    next_offset: u64,
    #[serde(default)]
    bytes: u64,
}

#[derive(Deserialize)]
struct Topic {
    name: String,
    #[serde(default)]
    epoch: String,
    partitions: Vec<Partition>,
    config: Map<String, Value>,
}

/// Does one thing with topics.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &TopicArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    match &args.command {
        Command::List => list(&api.call("GET", "/topics", None)?),
        Command::Create { name, config } => {
            let mut fields = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
            fields.extend(config.fields());
            output::show(&api.call("POST", "/topics", Some(&fields))?, description)
        }
        Command::Describe { name } => output::show(&api.call("GET", &at(name), None)?, description),
        Command::Config { name, config } => {
            let fields = config.fields();
            if fields.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; name it with --set FIELD=VALUE".to_owned(),
                ));
            }
            output::show(&api.call("PATCH", &at(name), Some(&fields))?, description)
        }
        Command::Delete { name } => api.call("DELETE", &at(name), None).map(|_| ()),
    }
}

fn at(name: &str) -> String {
    format!("/topics{}", path(name))
}

fn list(answer: &str) -> Result<(), Failure> {
    let headline = ["topic", "partitions", "records", "bytes", "durability"];
    output::list(answer, "topics", &headline, |topic: Topic| {
        let records = topic
            .partitions
            .iter()
            .map(|at| at.next_offset.saturating_sub(at.first_offset))
            .sum();
        let durability = topic.config.get("durability").and_then(Value::as_str);
        vec![
            topic.name,
            topic.partitions.len().to_string(),
            thousands(records),
            bytes(topic.partitions.iter().map(|partition| partition.bytes).sum()),
            durability.unwrap_or("").to_owned(),
        ]
    })
}

/// A topic for a person: its partitions and its configuration.
fn description(topic: &Topic) -> String {
    let mut table = Table::new(&["partition", "first offset", "next offset", "bytes"]);
    for at in &topic.partitions {
        table.row(vec![
            at.partition.to_string(),
            at.first_offset.to_string(),
            at.next_offset.to_string(),
            bytes(at.bytes),
        ]);
    }
    let mut text = format!("{}  (epoch {})\n\n{table}\n", topic.name, topic.epoch);
    for (name, value) in &topic.config {
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn settings_are_json_where_they_can_be() {
        assert_eq!(
            parse_setting("retention_ms=60000").unwrap(),
            ("retention_ms".to_owned(), Value::from(60000))
        );
        assert_eq!(
            parse_setting("ttl_ms=null").unwrap(),
            ("ttl_ms".to_owned(), Value::Null)
        );
        assert_eq!(
            parse_setting("durability=os").unwrap(),
            ("durability".to_owned(), Value::from("os"))
        );
        assert!(parse_setting("ttl_ms").is_err());
    }
}
