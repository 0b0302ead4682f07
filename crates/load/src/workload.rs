//! What is set up and measured, on whatever server.

use std::time::{Duration, Instant};

use super::{
    Failure,
    block::Block,
    crew::{Crew, Plan},
    dialect::{Answers, Dialect, Record, TOPIC, payload},
    generator::{Load, Measured, Schedule, Window},
    mixed::{self, MixedPlan},
    process::{Server, usage_of},
    sample::{Figures, Percentiles, new_histogram},
};

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One publisher, many subscribers.
    Fanout { subscribers: usize, in_flight: usize },
    /// Several publishers, and a few subscribers.
    Ingest {
        publishers: usize,
        subscribers: usize,
        /// Unanswered records of each publisher; where none is answered, those of one message.
        in_flight: usize,
    },
    /// A fixed rate, in an open loop.
    Latency { subscribers: usize, rate_per_s: u32 },
    /// Subscribed sockets that get nothing.
    Idle { connections: usize },
    /// Publishers and a group that works off what they publish.
    Group(Plan),
    /// A crowd of publishers and subscribers of many topics, some of whom read slowly.
    Mixed(MixedPlan),
}

/// What holds for a run whatever its workload.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Before the measured part: caches fill, buffers grow, the processor wakes up.
    pub warm_up: Duration,
    /// Length of the measured part.
    pub duration: Duration,
    /// Length of each payload, with its quotes.
    pub payload_bytes: usize,
}

/// Records that every idle connection gets between the two looks at memory.
const BURST_RECORDS: u64 = 200;
/// Connections that are open before memory is looked at first, so that lazy set-up is not counted.
const WARM_CONNECTIONS: usize = 10;
/// Memory counts as settled when it did not change for so long.
const SETTLE: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(5);

impl Workload {
    /// The topics that a server must have.
    pub fn topics(&self) -> Vec<String> {
        match self {
            Self::Mixed(plan) => plan.topics(),
            _ => vec![TOPIC.to_owned()],
        }
    }

    /// Runs it once on a fresh server.
    ///
    /// # Errors
    /// The server refuses something, closes a connection or does nothing.
    pub fn measure<D: Dialect>(
        &self,
        dialect: &D,
        server: &Server,
        timing: Timing,
    ) -> Result<Figures, Failure> {
        let plan = match self {
            Self::Group(plan) => Some(plan),
            _ => None,
        };
        dialect.prepare(server, &self.topics(), plan)?;
        match *self {
            Self::Fanout {
                subscribers,
                in_flight,
            } => {
                let window = Window::Delivered(in_flight);
                throughput(dialect, server, (1, subscribers, in_flight), (window, timing))
            }
            Self::Ingest {
                publishers,
                subscribers,
                in_flight,
            } => {
                let window = match dialect.answers() {
                    Answers::Each => Window::Answered(in_flight),
                    Answers::None => Window::Sockets,
                };
                let shape = (publishers, subscribers, in_flight);
                throughput(dialect, server, shape, (window, timing))
            }
            Self::Latency {
                subscribers,
                rate_per_s,
            } => latency(dialect, server, (subscribers, rate_per_s), timing),
            Self::Idle { connections } => idle(dialect, server, connections, timing),
            Self::Group(plan) => group(dialect, server, plan, timing),
            Self::Mixed(plan) => mixed::measure(dialect, server, &plan, timing),
        }
    }
}

/// One block for each publisher, of so many records.
fn blocks<D: Dialect>(dialect: &D, publishers: usize, records: usize, payload_bytes: usize) -> Vec<Block> {
    let payloads: Vec<_> = (0..records as u64)
        .map(|sequence| payload(sequence, payload_bytes))
        .collect();
    let records: Vec<_> = payloads
        .iter()
        .map(|payload| Record {
            topic: TOPIC,
            key: None,
            payload,
        })
        .collect();
    (0..publishers)
        .map(|publisher| dialect.block(publisher, &records))
        .collect()
}

fn throughput<D: Dialect>(
    dialect: &D,
    server: &Server,
    (publishers, subscribers, in_flight): (usize, usize, usize),
    (window, timing): (Window, Timing),
) -> Result<Figures, Failure> {
    let blocks = blocks(dialect, publishers, in_flight, timing.payload_bytes);
    let mut load = Load::open(dialect, server, publishers, subscribers)?;
    let measured = load.run(server, &blocks, window, (timing.warm_up, timing.duration))?;
    Ok(Figures::counted(&measured, measured.count(window)))
}

fn group<D: Dialect>(dialect: &D, server: &Server, plan: Plan, timing: Timing) -> Result<Figures, Failure> {
    let blocks = blocks(dialect, plan.publishers, plan.in_flight, timing.payload_bytes);
    let mut crew = Crew::open(dialect, server, plan)?;
    let measured = crew.run(server, &blocks, (timing.warm_up, timing.duration))?;
    Ok(Figures::counted(&measured, measured.delivered))
}

fn latency<D: Dialect>(
    dialect: &D,
    server: &Server,
    (subscribers, rate_per_s): (usize, u32),
    timing: Timing,
) -> Result<Figures, Failure> {
    let mut load = Load::open(dialect, server, 1, subscribers)?;
    let records_in = |time: Duration| (time.as_secs_f64() * f64::from(rate_per_s)) as u64;
    let warm_up = records_in(timing.warm_up);
    let schedule = Schedule {
        records: warm_up + records_in(timing.duration),
        rate_per_s,
    };
    let records = usize::try_from(schedule.records).map_err(|_| Failure::new("the run is too long"))?;
    let block = &blocks(dialect, 1, records, timing.payload_bytes)[0];
    let mut histogram = new_histogram();
    let before = (Instant::now(), server.usage(), usage_of(0).unwrap_or_default());
    let lost = load.run_open_loop(&schedule, block, |sequence, late| {
        if sequence >= warm_up {
            histogram.saturating_record(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        }
    })?;
    let after = (server.usage(), usage_of(0).unwrap_or_default());
    let figures = Figures::of(&Measured {
        elapsed: before.0.elapsed(),
        server_cpu: after.0.cpu.saturating_sub(before.1.cpu),
        load_cpu: after.1.cpu.saturating_sub(before.2.cpu),
        memory: after.0,
        ..Measured::default()
    });
    Ok(Figures {
        latency: Some(Percentiles::of(&histogram)),
        lost: Some(lost),
        ..figures
    })
}

fn idle<D: Dialect>(
    dialect: &D,
    server: &Server,
    connections: usize,
    timing: Timing,
) -> Result<Figures, Failure> {
    let block = &blocks(dialect, 1, 8, timing.payload_bytes)[0];
    let mut warm = Load::open(dialect, server, 1, WARM_CONNECTIONS)?;
    warm.publish_count(block, BURST_RECORDS, SETTLE_MAX)?;
    let started_at = Instant::now();
    let before = settled(server);
    let mut load = Load::open(dialect, server, 1, connections)?;
    let idle = settled(server);
    load.publish_count(block, BURST_RECORDS, Duration::from_secs(120))?;
    let after = settled(server);
    let per_connection = |bytes: u64| (bytes as f64 - before as f64) / (connections + 1) as f64;
    let usage = server.usage();
    let figures = Figures::of(&Measured {
        elapsed: started_at.elapsed(),
        server_cpu: usage.cpu,
        memory: usage,
        ..Measured::default()
    });
    Ok(Figures {
        idle_bytes_per_connection: Some(per_connection(idle)),
        after_burst_bytes_per_connection: Some(per_connection(after)),
        ..figures
    })
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
