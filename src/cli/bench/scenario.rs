//! The scenarios of `callboard bench`: what they are called, what serves them, and the load's word for them.

use std::path::{Path, PathBuf};

use callboard_load::{
    Failure,
    broker::{self, Ack, Bare, Callboard, Durability, Subprotocol, duty::Duty},
    crew::Plan,
    mixed::MixedPlan,
    process::{Launch, Pinning, Ready, Server, fresh_directory},
    report::{BARE, CALLBOARD},
    sample::Sample,
    workload::{Timing, Workload},
};

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scenario {
    /// One publisher, many subscribers.
    Fanout { subscribers: usize, in_flight: usize },
    /// Several publishers, one subscriber.
    Ingest(Ingest),
    /// A fixed rate, in an open loop.
    Latency {
        subscribers: usize,
        rate_per_s: u32,
        durability: Durability,
    },
    /// Subscribed sockets that get nothing.
    Idle { connections: usize },
    /// A crowd, of whom some read slowly.
    Mixed(MixedPlan),
    /// Publishers and a group that works off what they publish.
    Group {
        plan: Plan,
        partitions: usize,
        durability: Durability,
    },
}

/// Several publishers, one subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingest {
    pub(super) publishers: usize,
    pub(super) in_flight: usize,
    pub(super) partitions: usize,
    pub(super) ack: Ack,
    pub(super) durability: Durability,
    pub(super) subprotocol: Subprotocol,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            publishers: 4,
            in_flight: 256,
            partitions: 1,
            ack: Ack::Accepted,
            durability: Durability::Memory,
            subprotocol: Subprotocol::Ndjson,
        }
    }
}

impl Ingest {
    fn name(&self) -> String {
        let (publishers, in_flight) = (self.publishers, self.in_flight);
        let (ack, durability) = (self.ack.as_str(), self.durability.as_str());
        let frames = match self.subprotocol {
            Subprotocol::Json => "a frame a record, ",
            Subprotocol::Ndjson => "",
        };
        let spread = match self.partitions {
            1 => String::new(),
            partitions => format!("{partitions} partitions, "),
        };
        format!("ingest, {publishers} x {in_flight} in flight, {frames}{spread}ack {ack}, {durability}")
    }
}

/// What holds for all runs.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) timing: Timing,
    /// A broker that runs already, instead of one that is started.
    pub(super) running: Option<Running>,
    pub(super) pinning: Pinning,
    /// Where servers keep their records; the system's temporary directory if it is not given.
    pub(super) data: Option<PathBuf>,
}

/// A broker that somebody else started.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// `host:port`.
    pub(super) address: String,
    /// Its process, if CPU and memory are of interest.
    pub(super) pid: Option<u32>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The broker.
    Callboard,
    /// The server with no broker in it.
    Bare,
}

impl Scenario {
    /// A name that says all that matters.
    pub(super) fn name(&self) -> String {
        match *self {
            Self::Fanout {
                subscribers,
                in_flight,
            } => {
                format!("fanout, {subscribers} subscribers, {in_flight} in flight, memory")
            }
            Self::Ingest(ingest) => ingest.name(),
            Self::Latency {
                subscribers,
                rate_per_s,
                durability,
            } => format!(
                "latency, {rate_per_s}/s, {subscribers} subscribers, {}",
                durability.as_str()
            ),
            Self::Idle { connections } => format!("idle, {connections} connections"),
            Self::Mixed(plan) => format!("{}, memory", plan.name()),
            Self::Group {
                plan,
                partitions,
                durability,
            } => {
                let (publishers, in_flight) = (plan.publishers, plan.in_flight);
                let (members, credit, durability) = (plan.members, plan.credit, durability.as_str());
                match plan.duty {
                    Duty::Ack => format!(
                        "queue, {publishers} x {in_flight} in flight, {members} workers, credit {credit}, {durability}"
                    ),
                    Duty::Commit { every } => format!(
                        "group, {publishers} x {in_flight} in flight, {members} members on {partitions} partitions, \
                         credit {credit}, commit every {every}, {durability}"
                    ),
                }
            }
        }
    }

    /// The word by which the command line calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Fanout { .. } => "fanout",
            Self::Ingest(_) => "ingest",
            Self::Latency { .. } => "latency",
            Self::Idle { .. } => "idle",
            Self::Mixed(_) => "mixed",
            Self::Group { plan, .. } => match plan.duty {
                Duty::Ack => "queue",
                Duty::Commit { .. } => "group",
            },
        }
    }

    /// What is measured in turn with it, because its target is a share of that: for a group, `ingest` by the
    /// same publishers with the same durability.
    pub(super) fn beside(&self) -> Option<Self> {
        match *self {
            Self::Group { plan, durability, .. } => Some(Self::Ingest(Ingest {
                publishers: plan.publishers,
                in_flight: plan.in_flight,
                ack: Ack::for_durability(durability),
                durability,
                ..Ingest::default()
            })),
            _ => None,
        }
    }

    /// Whether it says anything of `target`; the bare server knows no groups and no topics.
    pub(super) fn runs_on(&self, target: Target) -> bool {
        target == Target::Callboard || !matches!(self, Self::Group { .. } | Self::Mixed(_))
    }

    fn durability(&self) -> Durability {
        match *self {
            Self::Ingest(Ingest { durability, .. })
            | Self::Latency { durability, .. }
            | Self::Group { durability, .. } => durability,
            Self::Fanout { .. } | Self::Idle { .. } | Self::Mixed(_) => Durability::Memory,
        }
    }

    fn workload(&self) -> Workload {
        match *self {
            Self::Fanout {
                subscribers,
                in_flight,
            } => Workload::Fanout {
                subscribers,
                in_flight,
            },
            Self::Ingest(Ingest {
                publishers,
                in_flight,
                ..
            }) => Workload::Ingest {
                publishers,
                subscribers: 1,
                in_flight,
            },
            Self::Latency {
                subscribers,
                rate_per_s,
                ..
            } => Workload::Latency {
                subscribers,
                rate_per_s,
            },
            Self::Idle { connections } => Workload::Idle { connections },
            Self::Mixed(plan) => Workload::Mixed(plan),
            Self::Group { plan, .. } => Workload::Group(plan),
        }
    }

    fn dialect(&self) -> Callboard {
        let plain = Callboard::new(self.durability());
        match *self {
            Self::Ingest(Ingest {
                partitions,
                ack,
                subprotocol,
                ..
            }) => Callboard {
                partitions,
                ack,
                subprotocol,
                ..plain
            },
            Self::Group {
                partitions,
                durability,
                ..
            } => Callboard {
                partitions,
                ack: Ack::for_durability(durability),
                ..plain
            },
            Self::Fanout { .. } | Self::Latency { .. } | Self::Idle { .. } | Self::Mixed(_) => plain,
        }
    }

    /// Runs it once on a fresh server (or on the one that was named).
    ///
    /// # Errors
    /// The server cannot be started, or refuses.
    pub(super) fn measure(
        &self,
        target: Target,
        run: usize,
        conditions: &Conditions,
    ) -> Result<Sample, Failure> {
        let (workload, dialect, timing) = (self.workload(), self.dialect(), conditions.timing);
        let server = self.start(target, conditions)?;
        let figures = match target {
            Target::Callboard => workload.measure(&dialect, &server, timing)?,
            Target::Bare => workload.measure(&Bare(dialect), &server, timing)?,
        };
        if conditions.running.is_some() && target == Target::Callboard {
            broker::delete_topics(&server, &workload.topics())?;
        }
        Ok(Sample {
            scenario: self.name(),
            beside: None,
            target: target.as_str().to_owned(),
            run,
            figures,
        })
    }

    fn start(&self, target: Target, conditions: &Conditions) -> Result<Server, Failure> {
        let directory = fresh_directory(conditions.data.as_deref());
        match (target, &conditions.running) {
            (Target::Bare, _) => start(&self.bare(&directory)?, Some(directory), conditions.pinning),
            (Target::Callboard, Some(running)) => Ok(Server::running(running.address.clone(), running.pid)),
            (Target::Callboard, None) => {
                let data = directory.to_string_lossy().into_owned();
                let arguments = ["serve", "--listen", "127.0.0.1:0", "--data", &data].map(str::to_owned);
                start(&arguments, Some(directory), conditions.pinning)
            }
        }
    }

    /// The command line of the bare server.
    fn bare(&self, directory: &Path) -> Result<Vec<String>, Failure> {
        let durability = self.durability().as_str();
        let mut arguments = ["bench", "bare-server", "--durability", durability]
            .map(str::to_owned)
            .to_vec();
        if matches!(self, Self::Ingest(Ingest { ack: Ack::None, .. })) {
            arguments.push("--silent".to_owned());
        }
        if matches!(
            self,
            Self::Latency {
                durability: Durability::Fsync,
                ..
            }
        ) {
            std::fs::create_dir_all(directory)?;
            let file = directory.join("records").to_string_lossy().into_owned();
            arguments.extend(["--file".to_owned(), file]);
        }
        Ok(arguments)
    }
}

impl Target {
    fn as_str(self) -> &'static str {
        match self {
            Self::Callboard => CALLBOARD,
            Self::Bare => BARE,
        }
    }
}

/// Starts this program with `arguments` and waits until it says where it listens.
///
/// `directory` is removed when the server is stopped.
///
/// # Errors
/// It does not start, or says nothing for too long.
pub(super) fn start(
    arguments: &[String],
    directory: Option<PathBuf>,
    pinning: Pinning,
) -> Result<Server, Failure> {
    Server::start(Launch {
        program: std::env::current_exe()?,
        arguments: arguments.to_vec(),
        environment: vec![("RUST_LOG".to_owned(), "error".to_owned())],
        directory,
        pinning,
        ready: Ready::Says,
    })
}
