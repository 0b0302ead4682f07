//! `callboard topic`: topics over REST.

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Failure,
    address::ServerArgs,
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

/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

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

#[derive(Deserialize)]
struct TopicList<'a> {
    #[serde(borrow)]
    topics: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// Does one thing with topics.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &TopicArgs) -> Result<(), Failure> {
    let api = Api {
        base: format!("{}/api/v1/topics", args.server.http()?),
        server: &args.server,
    };
    match &args.command {
        Command::List => list(&api.call("GET", "", None)?),
        Command::Create { name, config } => {
            let mut fields = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
            fields.extend(config.fields());
            show(&api.call("POST", "", Some(&fields))?)
        }
        Command::Describe { name } => show(&api.call("GET", &path(name), None)?),
        Command::Config { name, config } => {
            let fields = config.fields();
            if fields.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; name it with --set FIELD=VALUE".to_owned(),
                ));
            }
            show(&api.call("PATCH", &path(name), Some(&fields))?)
        }
        Command::Delete { name } => api.call("DELETE", &path(name), None).map(|_| ()),
    }
}

/// A name as a path: what is not of a topic's alphabet is escaped, and the broker says that it is none.
fn path(name: &str) -> String {
    let mut path = String::from("/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'$' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

struct Api<'a> {
    base: String,
    server: &'a ServerArgs,
}

impl Api<'_> {
    fn call(&self, method: &str, path: &str, body: Option<&Map<String, Value>>) -> Result<String, Failure> {
        let text = body.map(|body| serde_json::to_string(body).expect("a JSON object is written as JSON"));
        let (status, answer) = request(method, &format!("{}{path}", self.base), text)
            .map_err(|error| self.server.hint(&error))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        match serde_json::from_str::<Problem>(&answer) {
            Ok(problem) if !problem.code.is_empty() => {
                let text = if problem.detail.is_empty() {
                    problem.title
                } else {
                    problem.detail
                };
                Err(Failure::new(format!("{}: {text}", problem.code)))
            }
            _ => Err(Failure::new(format!(
                "the server answered HTTP {status}; is it a Callboard?"
            ))),
        }
    }
}

/// One HTTP request; status and body of the answer.
///
/// # Errors
/// No answer came; the text says why.
pub(super) fn request(method: &str, url: &str, body: Option<String>) -> Result<(u16, String), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .build()
        .into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(body.unwrap_or_default())?;
    let mut response = agent.run(request)?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()?;
    Ok((status, text))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!(
        "the server's answer cannot be read ({error}); is it a Callboard of this version?"
    ))
}

fn list(answer: &str) -> Result<(), Failure> {
    let list: TopicList<'_> = serde_json::from_str(answer).map_err(|error| unreadable(&error))?;
    let mut output = io::stdout().lock();
    if !output.is_terminal() {
        for topic in list.topics {
            writeln!(output, "{}", topic.get().replace(['\n', '\r'], " "))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["topic", "partitions", "records", "bytes", "durability"]);
    for topic in list.topics {
        let topic: Topic = serde_json::from_str(topic.get()).map_err(|error| unreadable(&error))?;
        let records = topic
            .partitions
            .iter()
            .map(|at| at.next_offset.saturating_sub(at.first_offset))
            .sum();
        table.row(vec![
            topic.name,
            topic.partitions.len().to_string(),
            thousands(records),
            bytes(topic.partitions.iter().map(|partition| partition.bytes).sum()),
            topic
                .config
                .get("durability")
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned(),
        ]);
    }
    write!(output, "{table}")?;
    Ok(())
}

fn show(answer: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    if !output.is_terminal() {
        writeln!(output, "{}", answer.trim_end().replace(['\n', '\r'], " "))?;
        return Ok(());
    }
    let topic: Topic = serde_json::from_str(answer).map_err(|error| unreadable(&error))?;
    writeln!(output, "{}  (epoch {})\n", topic.name, topic.epoch)?;
    let mut table = Table::new(&["partition", "first offset", "next offset", "bytes"]);
    for at in &topic.partitions {
        table.row(vec![
            at.partition.to_string(),
            at.first_offset.to_string(),
            at.next_offset.to_string(),
            bytes(at.bytes),
        ]);
    }
    writeln!(output, "{table}")?;
    for (name, value) in &topic.config {
        writeln!(output, "{name} = {value}")?;
    }
    Ok(())
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

    #[test]
    fn name_cannot_leave_its_place_in_the_path() {
        assert_eq!(path("orders.eu-1"), "/orders.eu-1");
        assert_eq!(path("a/../b?c"), "/a%2F..%2Fb%3Fc");
    }
}
