//! `callboard exchange`: exchanges and their bindings over REST.

use callboard_protocol::name::ExchangeKind;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Failure,
    address::ServerArgs,
    api::{Api, path},
    output,
    table::{Table, thousands},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard exchange create readings --type topic --alternate lost
  callboard exchange bind readings --topic plant --routing-key 'plant.#'
  callboard exchange bind readings --to-exchange alarms --routing-key '*.*.alarm'
  callboard exchange route readings plant.boiler.temp
  callboard exchange describe readings
  callboard exchange unroutable
  callboard exchange unbind readings b-17
  callboard exchange delete readings

Tables on a terminal, NDJSON elsewhere.";

#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all exchanges
    #[command(after_help = "Example:\n  callboard exchange list")]
    List,
    /// Create an exchange
    #[command(after_help = "Example:\n  callboard exchange create readings --type topic --alternate lost")]
    Create {
        /// Its name: letters, digits, `.`, `_` and `-`
        name: String,
        /// How it compares a routing key with its bindings': the same, not at all, or word by word with `*` and `#`
        #[arg(long = "type", value_name = "TYPE", value_parser = ["direct", "fanout", "topic"])]
        kind: String,
        /// The exchange that takes what matches none of its bindings
        #[arg(long, value_name = "EXCHANGE")]
        alternate: Option<String>,
    },
    /// Show one exchange and its bindings
    #[command(after_help = "Example:\n  callboard exchange describe readings")]
    Describe {
        /// Its name
        name: String,
    },
    /// List the bindings of an exchange
    #[command(after_help = "Example:\n  callboard exchange bindings readings")]
    Bindings {
        /// Its name
        name: String,
    },
    /// Bind an exchange to a topic, which is made if need be, or to another exchange
    #[command(
        after_help = "Examples:\n  callboard exchange bind readings --topic plant --routing-key 'plant.#'\n  \
        callboard exchange bind readings --to-exchange alarms --routing-key '*.*.alarm'"
    )]
    Bind {
        /// The exchange
        name: String,
        #[command(flatten)]
        to: Destination,
        /// Which keys; in an exchange of type topic `*` is one word and `#` any number of words
        #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
        routing_key: String,
    },
    /// Take a binding away, by its id or by what it does
    #[command(after_help = "Examples:\n  callboard exchange unbind readings b-17\n  \
        callboard exchange unbind readings --topic plant --routing-key 'plant.#'")]
    Unbind {
        /// The exchange
        name: String,
        #[command(flatten)]
        which: Which,
        /// With `--topic` or `--to-exchange`: its key
        #[arg(long, value_name = "KEY", conflicts_with = "id")]
        routing_key: Option<String>,
    },
    /// Say where a routing key leads, without publishing anything
    #[command(after_help = "Example:\n  callboard exchange route readings plant.boiler.temp")]
    Route {
        /// The exchange
        name: String,
        /// The routing key
        #[arg(value_name = "KEY", default_value = "", hide_default_value = true)]
        routing_key: String,
    },
    /// List the last publishes that matched nothing, newest first, and who sent them
    #[command(after_help = "Example:\n  callboard exchange unroutable")]
    Unroutable,
    /// Delete an exchange, its bindings and those that lead to it
    #[command(after_help = "Example:\n  callboard exchange delete readings")]
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Destination {
    /// The topic that it leads to
    #[arg(long, short)]
    topic: Option<String>,
    /// The exchange that it leads to
    #[arg(long, value_name = "EXCHANGE")]
    to_exchange: Option<String>,
}

impl Destination {
    fn fields(&self, routing_key: &str) -> Map<String, Value> {
        let to = [("topic", &self.topic), ("exchange", &self.to_exchange)];
        let to = to
            .into_iter()
            .filter_map(|(field, name)| Some((field, name.as_deref()?)));
        to.chain([("routing_key", routing_key)])
            .map(|(field, value)| (field.to_owned(), Value::from(value)))
            .collect()
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Its id, as `b-17`
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// The topic that it leads to
    #[arg(long, short)]
    topic: Option<String>,
    /// The exchange that it leads to
    #[arg(long, value_name = "EXCHANGE")]
    to_exchange: Option<String>,
}

impl Which {
    fn is(&self, routing_key: &str, binding: &Binding) -> bool {
        self.topic == binding.topic
            && self.to_exchange == binding.exchange
            && routing_key == binding.routing_key
    }
}

#[derive(Deserialize)]
struct Rates {
    publishes_per_s: f64,
}

#[derive(Deserialize)]
struct Exchange {
    name: String,
    #[serde(rename = "type")]
    kind: ExchangeKind,
    alternate: Option<String>,
    bindings: u64,
    unroutable: u64,
    rates: Rates,
}

#[derive(Deserialize)]
struct Binding {
    id: String,
    topic: Option<String>,
    exchange: Option<String>,
    routing_key: String,
    rates: Rates,
}

#[derive(Deserialize)]
struct Route {
    topic: String,
}

#[derive(Deserialize)]
struct DryRun {
    routes: Vec<Route>,
    bindings: Vec<String>,
    exchanges: Vec<String>,
    alternate: bool,
}

#[derive(Deserialize)]
struct Unroutable {
    at: String,
    exchange: String,
    routing_key: String,
    session: Option<String>,
    remote: Option<String>,
    client: Option<String>,
    count: u64,
}

/// Does one thing with exchanges.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &ExchangeArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    match &args.command {
        Command::List => list(&api.call("GET", "/exchanges", None)?),
        Command::Create {
            name,
            kind,
            alternate,
        } => {
            let fields = [
                ("name", Some(name)),
                ("type", Some(kind)),
                ("alternate", alternate.as_ref()),
            ];
            let fields = fields
                .into_iter()
                .filter_map(|(field, value)| Some((field.to_owned(), Value::from(value?.as_str()))));
            let answer = api.call("POST", "/exchanges", Some(&fields.collect()))?;
            output::show(&answer, |exchange| description(exchange, &[]))
        }
        Command::Describe { name } => {
            let answer = api.call("GET", &at(name), None)?;
            let bindings = bindings_of(&api, name)?;
            output::show(&answer, |exchange| description(exchange, &bindings))
        }
        Command::Bindings { name } => {
            let answer = api.call("GET", &format!("{}/bindings", at(name)), None)?;
            output::list(&answer, "bindings", &BINDING_HEADLINE, |binding| row(&binding))
        }
        Command::Bind {
            name,
            to,
            routing_key,
        } => {
            let path = format!("{}/bindings", at(name));
            let answer = api.call("POST", &path, Some(&to.fields(routing_key)))?;
            output::show(&answer, |binding| table(std::slice::from_ref(binding)))
        }
        Command::Unbind {
            name,
            which,
            routing_key,
        } => unbind(&api, name, which, routing_key.as_deref().unwrap_or_default()),
        Command::Route { name, routing_key } => {
            let path = format!("{}/route?routing_key={}", at(name), &path(routing_key)[1..]);
            output::show(&api.call("GET", &path, None)?, routes)
        }
        Command::Unroutable => unroutable(&api.call("GET", "/unroutable", None)?),
        Command::Delete { name } => api.call("DELETE", &at(name), None).map(|_| ()),
    }
}

fn at(name: &str) -> String {
    format!("/exchanges{}", path(name))
}

fn bindings_of(api: &Api<'_>, name: &str) -> Result<Vec<Binding>, Failure> {
    let answer = api.call("GET", &format!("{}/bindings", at(name)), None)?;
    output::entries(&answer, "bindings")?
        .into_iter()
        .map(|binding| output::read(binding.get()))
        .collect()
}

fn unbind(api: &Api<'_>, name: &str, which: &Which, routing_key: &str) -> Result<(), Failure> {
    let id = match &which.id {
        Some(id) => id.clone(),
        None => {
            let known = bindings_of(api, name)?;
            let found = known.into_iter().find(|binding| which.is(routing_key, binding));
            found
                .map(|binding| binding.id)
                .ok_or_else(|| Failure::new(format!("{name} has no such binding")))?
        }
    };
    let path = format!("{}/bindings{}", at(name), path(&id));
    api.call("DELETE", &path, None).map(|_| ())
}

fn list(answer: &str) -> Result<(), Failure> {
    let headline = [
        "exchange",
        "type",
        "alternate",
        "bindings",
        "publishes/s",
        "unroutable",
    ];
    output::list(answer, "exchanges", &headline, |exchange: Exchange| {
        vec![
            exchange.name,
            exchange.kind.to_string(),
            exchange.alternate.unwrap_or_default(),
            thousands(exchange.bindings),
            format!("{:.1}", exchange.rates.publishes_per_s),
            thousands(exchange.unroutable),
        ]
    })
}

fn unroutable(answer: &str) -> Result<(), Failure> {
    let headline = [
        "at",
        "exchange",
        "routing key",
        "records",
        "from",
        "client",
        "session",
    ];
    output::list(answer, "unroutable", &headline, |lost: Unroutable| {
        vec![
            lost.at,
            lost.exchange,
            lost.routing_key,
            thousands(lost.count),
            lost.remote.unwrap_or_default(),
            lost.client.unwrap_or_default(),
            lost.session.unwrap_or_default(),
        ]
    })
}

/// An exchange for a person, with its bindings.
fn description(exchange: &Exchange, bindings: &[Binding]) -> String {
    let mut text = format!("{}  ({})\n\n", exchange.name, exchange.kind);
    if !bindings.is_empty() {
        text.push_str(&format!("{}\n", table(bindings)));
    }
    let alternate = exchange.alternate.as_deref().unwrap_or("none");
    text.push_str(&format!(
        "bindings = {}\nalternate = {alternate}\npublishes/s = {:.1}\nunroutable = {}\n",
        thousands(exchange.bindings),
        exchange.rates.publishes_per_s,
        thousands(exchange.unroutable)
    ));
    text
}

const BINDING_HEADLINE: [&str; 4] = ["binding", "routing key", "to", "publishes/s"];

fn row(binding: &Binding) -> Vec<String> {
    let to = match (&binding.topic, &binding.exchange) {
        (Some(topic), _) => topic.clone(),
        (None, Some(exchange)) => format!("exchange {exchange}"),
        (None, None) => String::new(),
    };
    vec![
        binding.id.clone(),
        binding.routing_key.clone(),
        to,
        format!("{:.1}", binding.rates.publishes_per_s),
    ]
}

fn table(bindings: &[Binding]) -> String {
    let mut table = Table::new(&BINDING_HEADLINE);
    for binding in bindings {
        table.row(row(binding));
    }
    table.to_string()
}

/// Where a key leads, for a person.
fn routes(dry_run: &DryRun) -> String {
    if dry_run.routes.is_empty() {
        return "nowhere: a publish would be unroutable\n".to_owned();
    }
    let mut text = String::new();
    for route in &dry_run.routes {
        text.push_str(&format!("{}\n", route.topic));
    }
    let by = if dry_run.alternate {
        ", an alternate among them"
    } else {
        ""
    };
    text.push_str(&format!(
        "\nby {} of {}{by}\n",
        dry_run.bindings.join(", "),
        dry_run.exchanges.join(", ")
    ));
    text
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
        exchange: ExchangeArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<Command, clap::Error> {
        let arguments = ["exchange"].iter().chain(arguments);
        Line::try_parse_from(arguments).map(|line| line.exchange.command)
    }

    #[test]
    fn a_binding_leads_to_one_place() {
        let fields = |arguments: &[&str]| match parsed(arguments).unwrap() {
            Command::Bind { to, routing_key, .. } => Value::from(to.fields(&routing_key)),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            fields(&["bind", "e", "--topic", "t", "--routing-key", "a.#"]),
            json!({"topic": "t", "routing_key": "a.#"})
        );
        assert_eq!(
            fields(&["bind", "e", "--to-exchange", "f"]),
            json!({"exchange": "f", "routing_key": ""})
        );
        for wrong in [
            ["bind", "e"].as_slice(),
            &["bind", "e", "--topic", "t", "--to-exchange", "f"],
            &["unbind", "e"],
            &["unbind", "e", "b-1", "--topic", "t"],
            &["unbind", "e", "b-1", "--routing-key", "a"],
            &["create", "e"],
            &["create", "e", "--type", "headers"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_binding_is_found_by_what_it_does() {
        let binding: Binding = serde_json::from_value(json!({
            "id": "b-1", "topic": "t", "routing_key": "a.#", "rates": {"publishes_per_s": 0.0}
        }))
        .unwrap();
        let which = |topic: Option<&str>, exchange: Option<&str>| Which {
            id: None,
            topic: topic.map(Into::into),
            to_exchange: exchange.map(Into::into),
        };
        assert!(which(Some("t"), None).is("a.#", &binding));
        assert!(!which(Some("t"), None).is("a.*", &binding));
        assert!(!which(Some("u"), None).is("a.#", &binding));
        assert!(!which(None, Some("t")).is("a.#", &binding));
    }

    #[test]
    fn answers_are_readable() {
        let exchange: Exchange = serde_json::from_value(json!({
            "name": "readings", "type": "topic", "alternate": "lost", "bindings": 1, "unroutable": 1234,
            "rates": {"publishes_per_s": 2.5}
        }))
        .unwrap();
        let binding: Binding = serde_json::from_value(json!({
            "id": "b-17", "exchange": "alarms", "routing_key": "*.alarm", "rates": {"publishes_per_s": 0.5}
        }))
        .unwrap();
        assert_eq!(
            description(&exchange, &[binding]),
            "readings  (topic)\n\n\
             binding  routing key               to  publishes/s\n\
             b-17         *.alarm  exchange alarms          0.5\n\n\
             bindings = 1\nalternate = lost\npublishes/s = 2.5\nunroutable = 1 234\n"
        );
        let dry_run = |value| routes(&serde_json::from_value(value).unwrap());
        assert_eq!(
            dry_run(
                json!({"routes": [{"topic": "a"}, {"topic": "b"}], "bindings": ["b-1", "b-2"],
                "exchanges": ["e", "f"], "alternate": true})
            ),
            "a\nb\n\nby b-1, b-2 of e, f, an alternate among them\n"
        );
        let nowhere = json!({"routes": [], "bindings": [], "exchanges": ["e"], "alternate": false});
        assert!(dry_run(nowhere).starts_with("nowhere"));
    }
}
