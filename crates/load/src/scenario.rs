//! The scenarios: what is set up, what is measured, on either server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Failure,
    crew::{Crew, Plan},
    duty::Duty,
    generator::{Load, Measured, Schedule, Window},
    http,
    link::{Block, TOPIC, declare},
    process::{Pinning, Server},
};

/// What a record's ack stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ack {
    /// Records are not answered
    None,
    /// Answered once they have an offset
    Accepted,
    /// Answered once they are as durable as the topic promises
    Durable,
}

impl Ack {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Accepted => "accepted",
            Self::Durable => "durable",
        }
    }

    /// What the durability of a topic is asked with: all that it promises.
    fn for_durability(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Accepted,
            Durability::Os | Durability::Fsync => Self::Durable,
        }
    }

    /// What stands in the frame; the default does not.
    fn in_frame(self) -> Option<&'static str> {
        (self != Self::Durable).then(|| self.as_str())
    }
}

/// What an acked record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Nothing
    Memory,
    /// The end of the process
    Os,
    /// The end of the machine
    Fsync,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    /// One publisher, many subscribers.
    Fanout { subscribers: usize, in_flight: usize },
    /// Several publishers, one subscriber.
    Ingest {
        publishers: usize,
        in_flight: usize,
        partitions: usize,
        ack: Ack,
        durability: Durability,
    },
    /// A fixed rate, in an open loop.
    Latency {
        subscribers: usize,
        rate_per_s: u32,
        durability: Durability,
    },
    /// Subscribed sockets that get nothing.
    Idle { connections: usize },
    /// Publishers and a group that works off what they publish.
    Group {
        plan: Plan,
        partitions: usize,
        durability: Durability,
    },
}

/// What holds for all runs.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Before the measured part: caches fill, buffers grow, the processor wakes up.
    pub warm_up: Duration,
    /// Length of the measured part.
    pub duration: Duration,
    /// Length of each payload, with its quotes.
    pub payload_bytes: usize,
    /// A broker that runs already, instead of one that is started.
    pub running: Option<Running>,
    pub pinning: Pinning,
    /// Where servers keep their records; the system's temporary directory if it is not given.
    pub data: Option<PathBuf>,
}

/// A broker that somebody else started.
#[derive(Clone, Debug)]
pub struct Running {
    /// `host:port`.
    pub address: String,
    /// Its process, if CPU and memory are of interest.
    pub pid: Option<u32>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The broker.
    Callboard,
    /// The bare server.
    Bare,
}

/// Microseconds from when a record should have been sent to when a subscriber had it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One run of one scenario on one server.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub scenario: String,
    /// The scenario that was measured beside it, turn by turn, to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    pub target: Target,
    pub run: usize,
    pub seconds: f64,
    /// Deliveries (`fanout`), records (`ingest`) or settled records (`queue`, `group`) in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_server_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_s: Option<f64>,
    pub server_cpu_s: f64,
    pub load_cpu_s: f64,
    pub resident_bytes: u64,
    pub proportional_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Percentiles>,
    /// Records of an open loop that never came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Resident memory a connection, before anything was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_bytes_per_connection: Option<f64>,
    /// The same after every connection got a burst and was quiet again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_burst_bytes_per_connection: Option<f64>,
}

/// Records that every idle connection gets between the two looks at memory.
const BURST_RECORDS: u64 = 200;
/// Connections that are open before memory is looked at first, so that lazy set-up is not counted.
const WARM_CONNECTIONS: usize = 10;
/// Memory counts as settled when it did not change for so long.
const SETTLE: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(5);

impl Scenario {
    /// A name that says all that matters.
    pub fn name(&self) -> String {
        match *self {
            Self::Fanout {
                subscribers,
                in_flight,
            } => {
                format!("fanout, {subscribers} subscribers, {in_flight} in flight, memory")
            }
            Self::Ingest {
                publishers,
                in_flight,
                partitions,
                ack,
                durability,
            } => {
                let (ack, durability) = (ack.as_str(), durability.as_str());
                let spread = match partitions {
                    1 => String::new(),
                    _ => format!("{partitions} partitions, "),
                };
                format!("ingest, {publishers} x {in_flight} in flight, {spread}ack {ack}, {durability}")
            }
            Self::Latency {
                subscribers,
                rate_per_s,
                durability,
            } => format!(
                "latency, {rate_per_s}/s, {subscribers} subscribers, {}",
                durability.as_str()
            ),
            Self::Idle { connections } => format!("idle, {connections} connections"),
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
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fanout { .. } => "fanout",
            Self::Ingest { .. } => "ingest",
            Self::Latency { .. } => "latency",
            Self::Idle { .. } => "idle",
            Self::Group { plan, .. } => match plan.duty {
                Duty::Ack => "queue",
                Duty::Commit { .. } => "group",
            },
        }
    }

    /// What is measured in turn with it, because its target is a share of that: for a group, `ingest` by the
    /// same publishers with the same durability.
    pub fn beside(&self) -> Option<Self> {
        match *self {
            Self::Group { plan, durability, .. } => Some(Self::Ingest {
                publishers: plan.publishers,
                in_flight: plan.in_flight,
                partitions: 1,
                ack: Ack::for_durability(durability),
                durability,
            }),
            _ => None,
        }
    }

    /// Whether it says anything of `target`; the bare server knows no groups.
    pub fn runs_on(&self, target: Target) -> bool {
        target == Target::Callboard || !matches!(self, Self::Group { .. })
    }

    fn durability(&self) -> Durability {
        match *self {
            Self::Ingest { durability, .. }
            | Self::Latency { durability, .. }
            | Self::Group { durability, .. } => durability,
            Self::Fanout { .. } | Self::Idle { .. } => Durability::Memory,
        }
    }

    fn window(&self) -> Window {
        match *self {
            Self::Fanout { in_flight, .. } => Window::Delivered(in_flight),
            Self::Ingest { ack: Ack::None, .. } => Window::Sockets,
            Self::Ingest { in_flight, .. } => Window::Answered(in_flight),
            Self::Latency { .. } | Self::Idle { .. } | Self::Group { .. } => Window::Delivered(1),
        }
    }

    /// Runs it once on a fresh server (or on the one that was named).
    ///
    /// # Errors
    /// The server cannot be started, or refuses.
    pub fn measure(&self, target: Target, run: usize, conditions: &Conditions) -> Result<Sample, Failure> {
        let server = self.start(target, conditions)?;
        let mut sample = Sample {
            scenario: self.name(),
            beside: None,
            target,
            run,
            seconds: 0.0,
            count: None,
            per_server_cpu_s: None,
            per_s: None,
            server_cpu_s: 0.0,
            load_cpu_s: 0.0,
            resident_bytes: 0,
            proportional_bytes: 0,
            latency: None,
            lost: None,
            idle_bytes_per_connection: None,
            after_burst_bytes_per_connection: None,
        };
        match *self {
            Self::Fanout { subscribers, .. } => {
                self.throughput(&server, (1, subscribers), conditions, &mut sample)?
            }
            Self::Ingest { publishers, .. } => {
                self.throughput(&server, (publishers, 1), conditions, &mut sample)?
            }
            Self::Latency {
                subscribers,
                rate_per_s,
                ..
            } => latency(&server, (subscribers, rate_per_s), conditions, &mut sample)?,
            Self::Idle { connections } => idle(&server, connections, conditions, &mut sample)?,
            Self::Group { plan, durability, .. } => group(
                &server,
                plan,
                Ack::for_durability(durability),
                conditions,
                &mut sample,
            )?,
        }
        if conditions.running.is_some() && target == Target::Callboard {
            delete_topic(&server)?;
        }
        Ok(sample)
    }

    fn start(&self, target: Target, conditions: &Conditions) -> Result<Server, Failure> {
        let directory = fresh_directory(conditions.data.as_deref());
        let text = |text: &str| text.to_owned();
        if target == Target::Bare {
            let mut arguments = vec![
                text("bench"),
                text("bare-server"),
                text("--durability"),
                text(self.durability().as_str()),
            ];
            if matches!(self, Self::Ingest { ack: Ack::None, .. }) {
                arguments.push(text("--silent"));
            }
            if matches!(
                self,
                Self::Latency {
                    durability: Durability::Fsync,
                    ..
                }
            ) {
                std::fs::create_dir_all(&directory)?;
                let file = directory.join("records").to_string_lossy().into_owned();
                arguments.extend([text("--file"), file]);
            }
            return Server::start(&arguments, Some(directory), conditions.pinning);
        }
        let server = match &conditions.running {
            Some(running) => Server::running(running.address.clone(), running.pid),
            None => {
                let data = directory.to_string_lossy().into_owned();
                let arguments = [
                    text("serve"),
                    text("--listen"),
                    text("127.0.0.1:0"),
                    text("--data"),
                    data,
                ];
                Server::start(&arguments, Some(directory), conditions.pinning)?
            }
        };
        let partitions = match *self {
            Self::Group { partitions, .. } | Self::Ingest { partitions, .. } => partitions,
            _ => 1,
        };
        declare(&server, partitions, self.durability().as_str())?;
        Ok(server)
    }

    fn throughput(
        &self,
        server: &Server,
        (publishers, subscribers): (usize, usize),
        conditions: &Conditions,
        sample: &mut Sample,
    ) -> Result<(), Failure> {
        let window = self.window();
        let (ack, lines) = match *self {
            Self::Ingest { ack, in_flight, .. } => (ack.in_frame(), in_flight),
            Self::Fanout { in_flight, .. } => (None, in_flight),
            Self::Latency { .. } | Self::Idle { .. } | Self::Group { .. } => (None, 1),
        };
        let block = Block::new(lines, conditions.payload_bytes, ack);
        let mut load = Load::open(server, publishers, subscribers)?;
        let measured = load.run(server, &block, window, (conditions.warm_up, conditions.duration))?;
        sample.take(&measured);
        sample.take_count(measured.count(window));
        Ok(())
    }
}

impl Sample {
    fn take(&mut self, measured: &Measured) {
        self.seconds = measured.elapsed.as_secs_f64();
        self.server_cpu_s = measured.server_cpu.as_secs_f64();
        self.load_cpu_s = measured.load_cpu.as_secs_f64();
        self.resident_bytes = measured.memory.resident_bytes;
        self.proportional_bytes = measured.memory.proportional_bytes;
    }

    /// What was done in the seconds that are known already.
    fn take_count(&mut self, count: u64) {
        let per = |seconds: f64| (seconds > 0.0).then(|| count as f64 / seconds);
        self.count = Some(count);
        self.per_s = per(self.seconds);
        self.per_server_cpu_s = per(self.server_cpu_s);
    }
}

fn group(
    server: &Server,
    plan: Plan,
    ack: Ack,
    conditions: &Conditions,
    sample: &mut Sample,
) -> Result<(), Failure> {
    let block = Block::new(plan.in_flight, conditions.payload_bytes, ack.in_frame());
    let mut crew = Crew::open(server, plan)?;
    let measured = crew.run(server, &block, (conditions.warm_up, conditions.duration))?;
    sample.take(&measured);
    sample.take_count(measured.delivered);
    Ok(())
}

fn latency(
    server: &Server,
    (subscribers, rate_per_s): (usize, u32),
    conditions: &Conditions,
    sample: &mut Sample,
) -> Result<(), Failure> {
    let mut load = Load::open(server, 1, subscribers)?;
    let records_in = |time: Duration| (time.as_secs_f64() * f64::from(rate_per_s)) as u64;
    let warm_up = records_in(conditions.warm_up);
    let schedule = Schedule {
        records: warm_up + records_in(conditions.duration),
        rate_per_s,
        payload_bytes: conditions.payload_bytes,
    };
    let mut histogram = new_histogram();
    let before = (
        Instant::now(),
        server.usage(),
        super::process::usage_of(0).unwrap_or_default(),
    );
    let lost = load.run_open_loop(&schedule, |sequence, late| {
        if sequence >= warm_up {
            histogram.saturating_record(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        }
    })?;
    let after = (server.usage(), super::process::usage_of(0).unwrap_or_default());
    sample.take(&Measured {
        elapsed: before.0.elapsed(),
        server_cpu: after.0.cpu.saturating_sub(before.1.cpu),
        load_cpu: after.1.cpu.saturating_sub(before.2.cpu),
        memory: after.0,
        ..Measured::default()
    });
    sample.latency = Some(percentiles(&histogram));
    sample.lost = Some(lost);
    Ok(())
}

/// From a microsecond to a minute, in nanoseconds, three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are constants that work")
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    Percentiles {
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max() as f64 / 1_000.0,
    }
}

fn idle(
    server: &Server,
    connections: usize,
    conditions: &Conditions,
    sample: &mut Sample,
) -> Result<(), Failure> {
    let block = Block::new(8, conditions.payload_bytes, None);
    let mut warm = Load::open(server, 1, WARM_CONNECTIONS)?;
    warm.publish_count(&block, BURST_RECORDS, SETTLE_MAX)?;
    let started_at = Instant::now();
    let before = settled(server);
    let mut load = Load::open(server, 1, connections)?;
    let idle = settled(server);
    load.publish_count(&block, BURST_RECORDS, Duration::from_secs(120))?;
    let after = settled(server);
    let per_connection = |bytes: u64| (bytes as f64 - before as f64) / (connections + 1) as f64;
    let usage = server.usage();
    sample.take(&Measured {
        elapsed: started_at.elapsed(),
        server_cpu: usage.cpu,
        memory: usage,
        ..Measured::default()
    });
    sample.idle_bytes_per_connection = Some(per_connection(idle));
    sample.after_burst_bytes_per_connection = Some(per_connection(after));
    Ok(())
}

/// Resident memory once it no longer changes, bytes.
fn settled(server: &Server) -> u64 {
    let deadline = Instant::now() + SETTLE_MAX;
    let mut last = server.usage().resident_bytes;
    let mut since = Instant::now();
    while Instant::now() < deadline && since.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(50));
        let now = server.usage().resident_bytes;
        if now != last {
            last = now;
            since = Instant::now();
        }
    }
    last
}

/// A broker that was there before gets back the state it had.
fn delete_topic(server: &Server) -> Result<(), Failure> {
    let path = format!("/api/v1/topics/{TOPIC}");
    let (status, answer) = http::request("DELETE", &server.address, &path)?;
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(Failure::new(format!("DELETE {path}: HTTP {status} {answer}")))
    }
}

pub fn fresh_directory(parent: Option<&Path>) -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    parent.join(format!("callboard-bench-{}-{number}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_is_charged_to_every_record_that_it_held_up() {
        // One record a millisecond for a second; the server stands still for the first half of it.
        let mut histogram = new_histogram();
        for place in 0..1000_u64 {
            let due_ms = place;
            let came_ms = due_ms.max(500);
            histogram.saturating_record((came_ms - due_ms).max(1) * 1_000_000);
        }
        let found = percentiles(&histogram);
        // Counting one late record only would put the 90th percentile at a millisecond.
        assert!((found.p90_us / 1000.0 - 400.0).abs() < 5.0, "{found:?}");
        assert!((found.max_us / 1000.0 - 500.0).abs() < 5.0, "{found:?}");
    }
}
