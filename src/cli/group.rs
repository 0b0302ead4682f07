//! `callboard group`: groups over REST.

use std::fmt::Write as _;

use callboard_protocol::time::parse_rfc3339;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    address::ServerArgs,
    api::{Api, path},
    output,
    table::{Table, age, thousands},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard group list orders
  callboard group describe orders billing
  callboard group seek orders billing --earliest
  callboard group seek orders billing --time 2026-11-20T08:00:00Z
  callboard group seek orders billing --offset 0=12 --offset 3=0
  callboard group redrive jobs workers --limit 100
  callboard group delete orders billing

Tables on a terminal, NDJSON elsewhere.";

#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the groups of a topic
    #[command(after_help = "Example:\n  callboard group list orders")]
    List {
        /// The topic
        topic: String,
    },
    /// Show one group: its members, how far it is and how much it has to do
    #[command(after_help = "Example:\n  callboard group describe orders billing")]
    Describe(Named),
    /// Move a group's position, in all partitions or in those that are named
    #[command(
        after_help = "Examples:\n  callboard group seek orders billing --earliest\n  \
        callboard group seek orders billing --offset 0=12 --offset 3=0"
    )]
    Seek {
        #[command(flatten)]
        group: Named,
        #[command(flatten)]
        place: Place,
    },
    /// Forget a group and its position; its members are told
    #[command(after_help = "Example:\n  callboard group delete orders billing")]
    Delete(Named),
    /// Publish a group's dead letters to its topic again, oldest first
    #[command(after_help = "Example:\n  callboard group redrive jobs workers --limit 100")]
    Redrive {
        #[command(flatten)]
        group: Named,
        /// Move at most so many; without it all
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The topic
    topic: String,
    /// The group
    group: String,
}

impl Named {
    fn path(&self) -> String {
        format!("/topics{}/groups{}", path(&self.topic), path(&self.group))
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// To the first record that is kept
    #[arg(long)]
    earliest: bool,

    /// Behind the newest record
    #[arg(long)]
    latest: bool,

    /// To the first record of this time in each partition, as 2026-11-20T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<String>,

    /// To this offset of a partition, as `0=12`; may be repeated, the other partitions stay where they are
    #[arg(long = "offset", value_name = "PARTITION=OFFSET", value_parser = parse_offset)]
    offsets: Vec<(u32, u64)>,
}

fn parse_time(text: &str) -> Result<String, String> {
    match parse_rfc3339(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write it as 2026-11-20T08:00:00Z".to_owned()),
    }
}

fn parse_offset(text: &str) -> Result<(u32, u64), String> {
    text.split_once('=')
        .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)))
        .ok_or_else(|| "write it as 0=12".to_owned())
}

impl Place {
    /// The body of a seek.
    fn fields(&self) -> Map<String, Value> {
        let from = if let Some(time) = &self.time {
            json!({ "time": time })
        } else if self.offsets.is_empty() {
            json!(if self.earliest { "earliest" } else { "latest" })
        } else {
            let offsets = self.offsets.iter();
            let offsets: Map<String, Value> = offsets
                .map(|(partition, offset)| (partition.to_string(), json!(offset)))
                .collect();
            json!({ "offsets": offsets })
        };
        Map::from_iter([("from".to_owned(), from)])
    }
}

#[derive(Deserialize)]
struct Member {
    member: String,
    connected: bool,
    partitions: Vec<u32>,
    #[serde(default)]
    revoking: Vec<u32>,
    #[serde(default)]
    credit: u64,
    out: Option<u64>,
}

#[derive(Deserialize)]
struct Partition {
    partition: u32,
    committed: u64,
    next_offset: u64,
    lag: u64,
    lag_ms: u64,
    member: Option<String>,
    #[serde(default)]
    leased: u64,
    #[serde(default)]
    waiting: u64,
}

#[derive(Deserialize)]
struct Group {
    group: String,
    mode: String,
    generation: u64,
    members: Vec<Member>,
    partitions: Vec<Partition>,
    lag: u64,
    lag_ms: u64,
    #[serde(default)]
    acked: u64,
    #[serde(default)]
    dead_lettered: u64,
    #[serde(default)]
    redriven: u64,
    #[serde(default)]
    dead_letters: u64,
    #[serde(default)]
    dead_letter_topic: String,
}

impl Group {
    fn is_shared(&self) -> bool {
        self.mode == "shared"
    }
}

#[derive(Deserialize)]
struct Redriven {
    redriven: u64,
    dead_letters: u64,
}

/// Does one thing with groups.
///
/// # Errors
/// [`Failure`] carries the broker's reason.
pub(crate) fn run(args: &GroupArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    match &args.command {
        Command::List { topic } => list(&api.call("GET", &format!("/topics{}/groups", path(topic)), None)?),
        Command::Describe(group) => output::show(&api.call("GET", &group.path(), None)?, description),
        Command::Seek { group, place } => {
            let path = format!("{}/offsets", group.path());
            output::show(&api.call("POST", &path, Some(&place.fields()))?, description)
        }
        Command::Delete(group) => api.call("DELETE", &group.path(), None).map(|_| ()),
        Command::Redrive { group, limit } => {
            let limit = limit.map(|limit| ("limit".to_owned(), Value::from(limit)));
            let path = format!("{}/redrive", group.path());
            moved(&api.call("POST", &path, Some(&limit.into_iter().collect()))?)
        }
    }
}

fn list(answer: &str) -> Result<(), Failure> {
    let headline = ["group", "mode", "members", "lag", "oldest", "dead letters"];
    output::list(answer, "groups", &headline, |group: Group| {
        vec![
            group.group,
            group.mode,
            group.members.len().to_string(),
            thousands(group.lag),
            age(group.lag_ms),
            thousands(group.dead_letters),
        ]
    })
}

fn moved(answer: &str) -> Result<(), Failure> {
    output::show(answer, |moved: &Redriven| {
        let (redriven, left) = (thousands(moved.redriven), thousands(moved.dead_letters));
        format!("{redriven} published again, {left} left\n")
    })
}

/// A group for a person: what it is, its partitions, its members.
fn description(group: &Group) -> String {
    let mut text = if group.is_shared() {
        format!("{}  (shared)\n\n", group.group)
    } else {
        format!(
            "{}  (partitioned, generation {})\n\n",
            group.group, group.generation
        )
    };
    let (partitions, members) = (partitions(group), members(group));
    let lag = (thousands(group.lag), age(group.lag_ms));
    let _ = write!(
        text,
        "{partitions}\n{members}\nlag = {}, oldest {}\n",
        lag.0, lag.1
    );
    if group.is_shared() {
        let _ = writeln!(
            text,
            "acked = {}, dead-lettered = {}, redriven = {}\ndead letters = {} in {}",
            thousands(group.acked),
            thousands(group.dead_lettered),
            thousands(group.redriven),
            thousands(group.dead_letters),
            group.dead_letter_topic
        );
    }
    text
}

fn partitions(group: &Group) -> Table {
    let own = if group.is_shared() {
        ["leased", "waiting"].as_slice()
    } else {
        &["member"]
    };
    let headline = ["partition", "committed", "next offset", "lag", "oldest"];
    let mut table = Table::new(&[&headline, own].concat());
    for at in &group.partitions {
        let mut row = vec![
            at.partition.to_string(),
            at.committed.to_string(),
            at.next_offset.to_string(),
            thousands(at.lag),
            age(at.lag_ms),
        ];
        if group.is_shared() {
            row.extend([thousands(at.leased), thousands(at.waiting)]);
        } else {
            row.push(at.member.clone().unwrap_or_else(|| "nobody".to_owned()));
        }
        table.row(row);
    }
    table
}

fn members(group: &Group) -> Table {
    let numbers = |numbers: &[u32]| {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        numbers.join(",")
    };
    let own = if group.is_shared() {
        [].as_slice()
    } else {
        &["partitions", "revoking"]
    };
    let mut table = Table::new(&[&["member", "connected", "out", "credit"], own].concat());
    for member in &group.members {
        let mut row = vec![
            member.member.clone(),
            if member.connected { "yes" } else { "no" }.to_owned(),
            member.out.map(thousands).unwrap_or_default(),
            thousands(member.credit),
        ];
        if !group.is_shared() {
            row.extend([numbers(&member.partitions), numbers(&member.revoking)]);
        }
        table.row(row);
    }
    table
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        group: GroupArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<Command, clap::Error> {
        let arguments = ["group"].iter().chain(arguments);
        Line::try_parse_from(arguments).map(|line| line.group.command)
    }

    fn place(arguments: &[&str]) -> Value {
        let arguments = [&["seek", "orders", "billing"], arguments].concat();
        let Command::Seek { group, place } = parsed(&arguments).unwrap() else {
            panic!("seek")
        };
        assert_eq!(group.path(), "/topics/orders/groups/billing");
        Value::from(place.fields())
    }

    #[test]
    fn seek_goes_to_one_place() {
        assert_eq!(place(&["--earliest"]), json!({"from": "earliest"}));
        assert_eq!(place(&["--latest"]), json!({"from": "latest"}));
        assert_eq!(
            place(&["--time", "2026-11-20T08:00:00Z"]),
            json!({"from": {"time": "2026-11-20T08:00:00Z"}})
        );
        assert_eq!(
            place(&["--offset", "0=12", "--offset", "3=0"]),
            json!({"from": {"offsets": {"0": 12, "3": 0}}})
        );
        for wrong in [
            [].as_slice(),
            &["--earliest", "--latest"],
            &["--earliest", "--offset", "0=1"],
            &["--offset", "0"],
            &["--offset", "0=-1"],
            &["--time", "yesterday"],
        ] {
            let arguments = [&["seek", "orders", "billing"], wrong].concat();
            assert!(parsed(&arguments).is_err(), "{wrong:?}");
        }
        assert!(parsed(&["redrive", "orders", "billing", "--limit", "0"]).is_err());
    }

    fn group(text: &str) -> String {
        description(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn partitioned_group_shows_who_has_what() {
        let text = group(
            r#"{"group":"billing","mode":"partitioned","generation":5,
                "members":[{"member":"worker-1","session":"s","connected":false,"partitions":[0,2],"revoking":[2],"credit":256,"out":12}],
                "partitions":[{"partition":0,"committed":18,"next_offset":30,"lag":12,"lag_ms":4100,"member":"worker-1","leased":0,"waiting":0},
                              {"partition":1,"committed":7,"next_offset":7,"lag":0,"lag_ms":0,"member":null,"leased":0,"waiting":0}],
                "lag":12,"lag_ms":4100,"acked":0,"dead_lettered":0,"redriven":0,"dead_letters":0,"dead_letter_topic":"orders.billing.dlq"}"#,
        );
        assert_eq!(
            text,
            "billing  (partitioned, generation 5)\n\n\
             partition  committed  next offset  lag  oldest    member\n\
             0                 18           30   12   4.1 s  worker-1\n\
             1                  7            7    0       -    nobody\n\n\
             member    connected  out  credit  partitions  revoking\n\
             worker-1         no   12     256         0,2         2\n\n\
             lag = 12, oldest 4.1 s\n"
        );
    }

    #[test]
    fn shared_group_shows_what_became_of_its_records() {
        let text = group(
            r#"{"group":"workers","mode":"shared","generation":0,
                "members":[{"member":"s/1","session":"s","connected":true,"partitions":[],"credit":1}],
                "partitions":[{"partition":0,"committed":18,"next_offset":1030,"lag":1012,"lag_ms":90000,"member":null,"leased":1,"waiting":4}],
                "lag":1012,"lag_ms":90000,"acked":17,"dead_lettered":3,"redriven":1,"dead_letters":2,"dead_letter_topic":"jobs.workers.dlq"}"#,
        );
        assert_eq!(
            text,
            "workers  (shared)\n\n\
             partition  committed  next offset    lag   oldest  leased  waiting\n\
             0                 18         1030  1 012  1.5 min       1        4\n\n\
             member  connected  out  credit\n\
             s/1           yes            1\n\n\
             lag = 1 012, oldest 1.5 min\n\
             acked = 17, dead-lettered = 3, redriven = 1\n\
             dead letters = 2 in jobs.workers.dlq\n"
        );
    }
}
