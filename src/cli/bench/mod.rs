//! `callboard bench`: the instrument by which Callboard judges itself.
//!
//! Each run starts a server process on one core and the load on another, and counts what was done a
//! second of the server's processor time. With `--limit` the same load also runs against a bare server
//! with no broker in it, turn by turn, so that a ratio comes out of one sitting: absolute figures differ
//! from machine to machine, the ratio hardly.
//!
//! This is its command line; the load itself, the bare server and the tables are `crates/load`, which measures other
//! servers, too. [`later`]: how late scheduled records come, which only Callboard is asked.

mod later;
mod scenario;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use callboard_load::{
    bare,
    broker::{Ack, Callboard, Durability, IN_FLIGHT_MAX, Subprotocol, duty::Duty},
    ceiling,
    crew::Plan,
    mixed::MixedPlan,
    process::{self, Pinning},
    report,
    sample::Sample,
    workload::Timing,
};
use clap::{Args, Subcommand};

use self::scenario::{Conditions, Ingest, Running, Scenario, Target};
use super::{Failure, complain};

/// Credit of a worker: what the protocol gives when nothing is asked.
const QUEUE_CREDIT: usize = 256;
/// Credit of a member: several commits' worth, so that a commit that is on its way stops nobody.
const GROUP_CREDIT: usize = 1000;
/// Records of a member after which it commits.
const COMMIT_EVERY: usize = 100;
/// Records that lie unfinished; several times what all members have out.
const BACKLOG: usize = 16_384;

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard bench all --limit --repeat 3
  callboard bench fanout --subscribers 100,1000 --in-flight 128,1 --limit
  callboard bench ingest --ack durable --durability fsync --data /var/tmp
  callboard bench latency --subscribers 1,10 --durability memory,fsync --limit
  callboard bench queue --durability fsync,memory --repeat 3 --data /var/tmp
  callboard bench group --members 8 --partitions 8 --commit-every 100 --data /var/tmp
  callboard bench idle --connections 5000
  callboard bench schedule --records 100000 --over-ms 10000 --restart kill --durability fsync --data /var/tmp
  callboard bench fanout --server ws://127.0.0.1:8080/ws --pid 4711

Tables go to standard error; standard output gets one JSON object a run with --ndjson. Use a release
build on a quiet machine; --data must lie on a real disk for `fsync` to mean something.";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One publisher, many subscribers: deliveries a second of server CPU
    Fanout {
        #[command(flatten)]
        common: CommonArgs,
        /// How many subscribers; several are measured one after the other
        #[arg(long, value_delimiter = ',', default_value = "100,1000")]
        subscribers: Vec<usize>,
        /// Records that are not yet with every subscriber
        #[arg(long, value_delimiter = ',', default_value = "128,1", value_parser = in_flight)]
        in_flight: Vec<usize>,
    },
    /// Pipelined publishers, one subscriber: records a second of server CPU
    Ingest {
        #[command(flatten)]
        common: CommonArgs,
        /// How many publishers
        #[arg(long, default_value_t = 4)]
        publishers: usize,
        /// Unanswered records of each
        #[arg(long, default_value_t = 256, value_parser = in_flight)]
        in_flight: usize,
        /// How many partitions the topic has; records take them in turn
        #[arg(long, default_value_t = 1, value_parser = sockets)]
        partitions: usize,
        /// When records are answered
        #[arg(long, value_enum, value_delimiter = ',', default_value = "accepted")]
        ack: Vec<Ack>,
        /// One JSON frame a record, in subprotocol callboard.v1.json, instead of the lines of one message
        #[arg(long)]
        json_frames: bool,
        /// What answered records survive
        #[arg(long, value_enum, value_delimiter = ',', default_value = "memory")]
        durability: Vec<Durability>,
    },
    /// A fixed rate in an open loop: microseconds from when a record should have been sent
    Latency {
        #[command(flatten)]
        common: CommonArgs,
        /// How many subscribers
        #[arg(long, value_delimiter = ',', default_value = "1,10")]
        subscribers: Vec<usize>,
        /// Records a second
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// What records survive before they are shown
        #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,fsync")]
        durability: Vec<Durability>,
    },
    /// Subscribed sockets that get nothing: bytes of server memory each
    Idle {
        #[command(flatten)]
        common: CommonArgs,
        /// How many sockets
        #[arg(long, default_value_t = 5000)]
        connections: usize,
    },
    /// Many topics, publishers and subscribers at a fixed rate, some of whom read slowly
    Mixed {
        #[command(flatten)]
        common: CommonArgs,
        /// Records a second, of all publishers
        #[arg(long, default_value_t = MixedPlan::default().rate_per_s)]
        rate: u32,
        /// How many subscribers read slowly
        #[arg(long, default_value_t = MixedPlan::default().slow)]
        slow: usize,
    },
    /// A shared group that acks each record: acked records a second of server CPU, beside `ingest`
    Queue {
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        sources: Sources,
        /// How many members the group has
        #[arg(long, default_value_t = 8, value_parser = sockets)]
        workers: usize,
        /// Unacked records of each
        #[arg(long, default_value_t = QUEUE_CREDIT, value_parser = credit)]
        credit: usize,
    },
    /// A partitioned group that commits: committed records a second of server CPU, beside `ingest`
    Group {
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        sources: Sources,
        /// How many members the group has
        #[arg(long, default_value_t = 8, value_parser = sockets)]
        members: usize,
        /// How many partitions the topic has; records take them in turn
        #[arg(long, default_value_t = 8, value_parser = sockets)]
        partitions: usize,
        /// Uncommitted records of each member; at least --commit-every
        #[arg(long, default_value_t = GROUP_CREDIT, value_parser = credit)]
        credit: usize,
        /// Records of a member after which it commits where it stands
        #[arg(long, default_value_t = COMMIT_EVERY, value_parser = credit)]
        commit_every: usize,
    },
    /// Records that are due at a time: milliseconds by which they come late
    Schedule(later::ScheduleArgs),
    /// Every scenario that Callboard has a target for
    All {
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Run the bare server alone
    #[command(hide = true)]
    BareServer(bare::BareArgs),
}

/// Who publishes to a group.
#[derive(Debug, Args)]
struct Sources {
    /// How many publishers
    #[arg(long, default_value_t = 4, value_parser = sockets)]
    publishers: usize,
    /// Unanswered records of each
    #[arg(long, default_value_t = 256, value_parser = in_flight)]
    in_flight: usize,
    /// Records that may be published and not yet acked or committed; publishers wait beyond it
    #[arg(long, default_value_t = BACKLOG, value_parser = backlog)]
    backlog: usize,
    /// What answered records, and what was said of them, survive
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fsync")]
    durability: Vec<Durability>,
}

#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Also measure a bare server, turn by turn, and print ratios
    #[arg(long)]
    limit: bool,

    /// Measure the bare server only
    #[arg(long, conflicts_with = "limit")]
    bare_only: bool,

    /// Length of the measured part of each run
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,

    /// Runs of each scenario on each server; the median is shown [default: 1]
    #[arg(long, default_value_t = 1)]
    repeat: usize,

    /// Length of each payload, with its quotes
    #[arg(long, default_value_t = 128, value_parser = payload_bytes)]
    payload_bytes: usize,

    /// A broker that runs already, instead of starting one
    #[arg(long, value_name = "URL", conflicts_with_all = ["limit", "bare_only"])]
    server: Option<String>,

    /// Its process, for CPU and memory
    #[arg(long, requires = "server")]
    pid: Option<u32>,

    /// Leave it to the system on which cores server and load run
    #[arg(long)]
    no_pin: bool,

    /// Directory for the server's records; it gets a new one in it, and removes it [default: the system's temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print each run as JSON on standard output
    #[arg(long)]
    ndjson: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("from 0.1 to 3600".to_owned())
    }
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (16..=65_536).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("from 16 to 65536".to_owned())
    }
}

fn in_flight(text: &str) -> Result<usize, String> {
    at_most(text, IN_FLIGHT_MAX)
}

fn at_most(text: &str, most: usize) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("from 1 to {most}"))
    }
}

fn sockets(text: &str) -> Result<usize, String> {
    at_most(text, 1024)
}

/// One message with an ack for each delivery of a member must stay below the largest that a broker takes.
fn credit(text: &str) -> Result<usize, String> {
    at_most(text, 10_000)
}

fn backlog(text: &str) -> Result<usize, String> {
    at_most(text, 10_000_000)
}

impl CommonArgs {
    fn conditions(&self, pinning: Pinning) -> Conditions {
        let running = self.server.as_ref().map(|url| {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            Running {
                address: rest.split('/').next().unwrap_or(rest).to_owned(),
                pid: self.pid,
            }
        });
        Conditions {
            timing: Timing {
                warm_up: Duration::from_secs_f64((self.seconds / 5.0).min(1.0)),
                duration: Duration::from_secs_f64(self.seconds),
                payload_bytes: self.payload_bytes,
            },
            running,
            pinning,
            data: self.data.clone(),
        }
    }

    fn targets(&self) -> &'static [Target] {
        match (self.bare_only, self.limit) {
            (true, _) => &[Target::Bare],
            (false, true) => &[Target::Callboard, Target::Bare],
            (false, false) => &[Target::Callboard],
        }
    }
}

/// Measures what was asked.
///
/// # Errors
/// A server cannot be started, or refuses something.
pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    let (common, scenarios) = match args.what {
        What::BareServer(args) => return bare::run(&args).map_err(Failure::from),
        What::Schedule(args) => return later::run(&args),
        What::Fanout {
            common,
            subscribers,
            in_flight,
        } => (common, fanouts(&subscribers, &in_flight)),
        What::Ingest {
            common,
            publishers,
            in_flight,
            partitions,
            ack,
            json_frames,
            durability,
        } => {
            let like = Ingest {
                publishers,
                in_flight,
                partitions,
                subprotocol: if json_frames {
                    Subprotocol::Json
                } else {
                    Subprotocol::Ndjson
                },
                ..Ingest::default()
            };
            (common, ingests(like, &ack, &durability))
        }
        What::Latency {
            common,
            subscribers,
            rate,
            durability,
        } => (common, latencies(&subscribers, rate, &durability)),
        What::Idle { common, connections } => (common, vec![Scenario::Idle { connections }]),
        What::Mixed { common, rate, slow } => (common, vec![Scenario::Mixed(mixed(rate, slow))]),
        What::Queue {
            common,
            sources,
            workers,
            credit,
        } => (common, queues(&sources, workers, credit)),
        What::Group {
            common,
            sources,
            members,
            partitions,
            credit,
            commit_every,
        } => {
            if credit < commit_every {
                return Err(Failure::Usage(
                    "--credit must be at least --commit-every".to_owned(),
                ));
            }
            let shape = (members, partitions);
            (common, groups(&sources, shape, credit, commit_every))
        }
        What::All { common } => (common, all()),
    };
    measure_all(&common, &scenarios)
}

fn queues(sources: &Sources, workers: usize, credit: usize) -> Vec<Scenario> {
    let plan = sources.plan((workers, credit), Duty::Ack);
    sources.scenarios(plan, 1)
}

fn groups(
    sources: &Sources,
    (members, partitions): (usize, usize),
    credit: usize,
    commit_every: usize,
) -> Vec<Scenario> {
    let every = commit_every as u64;
    let plan = sources.plan((members, credit), Duty::Commit { every });
    sources.scenarios(plan, partitions)
}

impl Sources {
    fn plan(&self, (members, credit): (usize, usize), duty: Duty) -> Plan {
        Plan {
            publishers: self.publishers,
            in_flight: self.in_flight,
            backlog: self.backlog,
            members,
            credit,
            duty,
        }
    }

    fn scenarios(&self, plan: Plan, partitions: usize) -> Vec<Scenario> {
        let of = |&durability: &Durability| Scenario::Group {
            plan,
            partitions,
            durability,
        };
        self.durability.iter().map(of).collect()
    }
}

fn mixed(rate_per_s: u32, slow: usize) -> MixedPlan {
    MixedPlan {
        rate_per_s,
        slow,
        ..MixedPlan::default()
    }
}

fn fanouts(subscribers: &[usize], in_flight: &[usize]) -> Vec<Scenario> {
    let each = |&in_flight: &usize| {
        subscribers.iter().map(move |&subscribers| Scenario::Fanout {
            subscribers,
            in_flight,
        })
    };
    in_flight.iter().flat_map(each).collect()
}

/// Each with what else `like` has.
fn ingests(like: Ingest, acks: &[Ack], durabilities: &[Durability]) -> Vec<Scenario> {
    let each = |&durability: &Durability| {
        acks.iter().map(move |&ack| {
            Scenario::Ingest(Ingest {
                ack,
                durability,
                ..like
            })
        })
    };
    durabilities.iter().flat_map(each).collect()
}

fn latencies(subscribers: &[usize], rate_per_s: u32, durabilities: &[Durability]) -> Vec<Scenario> {
    let each = |&durability: &Durability| {
        subscribers.iter().map(move |&subscribers| Scenario::Latency {
            subscribers,
            rate_per_s,
            durability,
        })
    };
    durabilities.iter().flat_map(each).collect()
}

fn all() -> Vec<Scenario> {
    let mut scenarios = fanouts(&[100, 1000], &[128, 1]);
    scenarios.extend(ingests(
        Ingest::default(),
        &[Ack::Accepted],
        &[Durability::Memory],
    ));
    scenarios.extend(ingests(Ingest::default(), &[Ack::Durable], &[Durability::Fsync]));
    scenarios.extend(latencies(
        &[1, 10],
        1000,
        &[Durability::Memory, Durability::Fsync],
    ));
    scenarios.push(Scenario::Idle { connections: 5000 });
    let sources = Sources {
        publishers: 4,
        in_flight: 256,
        backlog: BACKLOG,
        durability: vec![Durability::Fsync],
    };
    scenarios.extend(queues(&sources, 8, QUEUE_CREDIT));
    scenarios.extend(groups(&sources, (8, 8), GROUP_CREDIT, COMMIT_EVERY));
    scenarios
}

fn measure_all(common: &CommonArgs, scenarios: &[Scenario]) -> Result<(), Failure> {
    let wanted = if common.no_pin { Pinning::Off } else { Pinning::On };
    let pinning = process::pin_load(wanted);
    if wanted != pinning {
        complain("server and load are not pinned to a core each: this machine has only one for us");
    }
    process::raise_open_files();
    if cfg!(debug_assertions) {
        complain("this is a debug build; its figures say nothing");
    }
    let mut runs = Runs {
        common,
        conditions: common.conditions(pinning),
        samples: Vec::new(),
    };
    for scenario in scenarios {
        for run in 0..common.repeat.max(1) {
            for &target in common.targets() {
                if scenario.runs_on(target) {
                    runs.measure(scenario, target, run)?;
                }
            }
        }
    }
    if runs.samples.is_empty() {
        return Err(Failure::new(
            "the bare server has no groups and no topics to measure",
        ));
    }
    writeln!(io::stderr(), "\n{}", report::tables(&runs.samples))?;
    if common.limit {
        let Timing { payload_bytes, .. } = runs.conditions.timing;
        let dialect = Callboard::new(Durability::Memory);
        let alone = ceiling::measure(&dialect, payload_bytes, Duration::from_secs(1), pinning)?;
        write!(
            io::stderr(),
            "{}",
            ceiling::table(&[("callboard".to_owned(), alone)])
        )?;
    }
    Ok(())
}

/// What was measured so far.
struct Runs<'a> {
    common: &'a CommonArgs,
    conditions: Conditions,
    samples: Vec<Sample>,
}

impl Runs<'_> {
    /// Measures a scenario, and then what it is compared with.
    fn measure(&mut self, scenario: &Scenario, target: Target, run: usize) -> Result<(), Failure> {
        let beside = scenario.beside();
        let name = beside.map(|beside| format!("{}, beside {}", beside.name(), scenario.kind()));
        let mut sample = self.once(scenario, &scenario.name(), target, run)?;
        sample.beside = name.clone();
        self.keep(sample)?;
        if let (Some(beside), Some(name)) = (beside, name) {
            let sample = self.once(&beside, &name, target, run)?;
            self.keep(sample)?;
        }
        Ok(())
    }

    fn once(&self, scenario: &Scenario, name: &str, target: Target, run: usize) -> Result<Sample, Failure> {
        complain(&format!("{name} ({target:?}, run {})", run + 1));
        let mut sample = scenario.measure(target, run, &self.conditions)?;
        name.clone_into(&mut sample.scenario);
        Ok(sample)
    }

    fn keep(&mut self, sample: Sample) -> Result<(), Failure> {
        if self.common.ndjson {
            let line = serde_json::to_string(&sample).expect("numbers and names always serialize");
            writeln!(io::stdout(), "{line}")?;
        }
        self.samples.push(sample);
        Ok(())
    }
}
