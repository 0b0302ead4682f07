//! `bench schedule`: how late records come that are due at a time, also across a restart.
//!
//! Schedules all, waits until all are answered, perhaps stops the broker and starts it again, and compares when
//! each comes with when it was due. One machine and so one clock. Nothing early, lost or twice is accepted: the
//! run fails. The time at which a subscriber has a record is taken when its socket is read.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use callboard_load::{
    broker::{Callboard, Durability, Reader, Start},
    dialect::{Role, TOPIC, sequence_of},
    link::{Link, SCRATCH_BYTES},
    opening::{Opening, ReceiveBuffer},
    process::{self, Pinning, Server, fresh_directory},
    wire::{Opcode, push_client_message},
};
use callboard_protocol::{Timestamp, time::format_rfc3339};
use clap::Args;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use super::super::{
    Failure, complain,
    table::{Table, thousands},
};
use super::scenario;

/// How the broker is spoken to.
const BROKER: Callboard = Callboard::new(Durability::Fsync);
/// Records of one message to the broker.
const MESSAGE_RECORDS: usize = 200;
/// Records that are sent and not answered.
const IN_FLIGHT_MAX: u64 = 20_000;
/// How long nothing at all may happen.
const QUIET_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    /// How many records
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    records: u32,

    /// Over how long their times are spread evenly; with 0 all are due at once
    #[arg(long, default_value_t = 10_000)]
    over_ms: u64,

    /// How long from the begin of the run until the first is due: long enough to schedule all
    #[arg(long, default_value_t = 20_000)]
    delay_ms: u64,

    /// How many partitions the topic has; records take them in turn, a message of them each
    #[arg(long, default_value_t = 1, value_parser = super::sockets)]
    partitions: usize,

    /// Length of each payload, with its quotes
    #[arg(long, default_value_t = 128, value_parser = super::payload_bytes)]
    payload_bytes: usize,

    /// What scheduled records survive
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fsync,memory")]
    durability: Vec<Durability>,

    /// What happens between scheduling and the first time
    #[arg(long, value_enum, default_value = "none")]
    restart: Restart,

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

/// How the broker ends in mid-run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    /// It does not
    None,
    /// By SIGTERM, and is started again
    Clean,
    /// By SIGKILL, and is started again
    Kill,
}

/// One run.
#[derive(Debug, Serialize)]
struct Outcome {
    scenario: String,
    records: u32,
    over_ms: u64,
    scheduled_per_s: f64,
    /// From a start after a restart until the broker listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<u64>,
    /// Of the server, with all records scheduled.
    resident_bytes: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Measures what was asked.
///
/// # Errors
/// The broker refuses something, or a record comes early, twice or never.
pub(super) fn run(args: &ScheduleArgs) -> Result<(), Failure> {
    let wanted = if args.no_pin { Pinning::Off } else { Pinning::On };
    let pinning = process::pin_load(wanted);
    if cfg!(debug_assertions) {
        complain("this is a debug build; its figures say nothing");
    }
    let mut table = Table::new(&[
        "scenario",
        "scheduled/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "server MiB",
        "start ms",
    ]);
    for &durability in &args.durability {
        if durability == Durability::Memory && args.restart != Restart::None {
            return Err(Failure::Usage(
                "what is in memory only does not survive a restart: give --durability fsync or os".to_owned(),
            ));
        }
        let directory = Directory(fresh_directory(args.data.as_deref()));
        let outcome = once(args, durability, &directory, pinning)?;
        if args.ndjson {
            let line = serde_json::to_string(&outcome).expect("numbers and names always serialize");
            writeln!(io::stdout(), "{line}")?;
        }
        let late = |ms: f64| format!("{ms:.1}");
        table.row(vec![
            outcome.scenario,
            thousands(outcome.scheduled_per_s as u64),
            late(outcome.p50_ms),
            late(outcome.p99_ms),
            late(outcome.p999_ms),
            late(outcome.max_ms),
            (outcome.resident_bytes >> 20).to_string(),
            outcome.start_ms.map_or_else(String::new, |ms| ms.to_string()),
        ]);
    }
    write!(io::stderr(), "\n{table}")?;
    Ok(())
}

/// Removed at the end of a run, whoever's server used it last.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(directory: &Directory, pinning: Pinning) -> Result<Server, Failure> {
    let data = directory.0.to_string_lossy().into_owned();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data", &data].map(str::to_owned);
    Ok(scenario::start(&arguments, None, pinning)?)
}

fn once(
    args: &ScheduleArgs,
    durability: Durability,
    directory: &Directory,
    pinning: Pinning,
) -> Result<Outcome, Failure> {
    let name = format!(
        "{} due over {} ms, {}",
        args.records,
        args.over_ms,
        durability.as_str()
    );
    let scenario = match args.restart {
        Restart::None => name,
        Restart::Clean => format!("{name}, restarted"),
        Restart::Kill => format!("{name}, killed"),
    };
    complain(&scenario);
    let mut server = start(directory, pinning)?;
    let topic = Callboard {
        partitions: args.partitions,
        durability,
        ..BROKER
    };
    topic.declare(&server, &[TOPIC.to_owned()])?;
    let plan = Plan {
        records: args.records,
        over_ms: args.over_ms,
        first: now_ms() as u64 + args.delay_ms,
    };
    let began = Instant::now();
    let mut load = Socket::publisher(&server)?;
    load.schedule(&plan, args.payload_bytes)?;
    let scheduled_per_s = f64::from(args.records) / began.elapsed().as_secs_f64();
    drop(load);
    let mut start_ms = None;
    if args.restart != Restart::None {
        match args.restart {
            Restart::Kill => server.kill(),
            Restart::Clean | Restart::None => drop(server),
        }
        let stopped = Instant::now();
        server = start(directory, pinning)?;
        start_ms = Some(u64::try_from(stopped.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    let mut subscriber = Socket::subscriber(&server)?;
    if now_ms() >= plan.first as f64 {
        return Err(Failure::new(
            "the first was due before all were scheduled: give more --delay-ms",
        ));
    }
    let resident_bytes = server.usage().resident_bytes;
    let late = subscriber.receive(&plan)?;
    let ms = |quantile| late.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Outcome {
        scenario,
        records: args.records,
        over_ms: args.over_ms,
        scheduled_per_s,
        start_ms,
        resident_bytes,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: late.max() as f64 / 1000.0,
    })
}

fn now_ms() -> f64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs_f64() * 1000.0
}

/// When each record is due.
struct Plan {
    records: u32,
    over_ms: u64,
    first: u64,
}

impl Plan {
    fn due(&self, record: u64) -> u64 {
        self.first + record * self.over_ms / u64::from(self.records)
    }
}

struct Socket {
    link: Link<Reader>,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
}

impl Socket {
    fn publisher(server: &Server) -> Result<Self, Failure> {
        let role = Role::Publisher { index: 0 };
        Self::new(Link::open(&BROKER, &server.address, role)?)
    }

    fn subscriber(server: &Server) -> Result<Self, Failure> {
        let mut opening = Opening::connect(&server.address, ReceiveBuffer::Default)?;
        BROKER.follow(&mut opening, TOPIC, Start::Earliest)?;
        let reader = Reader::first_subscriber(opening.frames());
        Self::new(Link::new(opening.into_stream()?, reader))
    }

    fn new(mut link: Link<Reader>) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        poll.registry().register(
            &mut link.stream,
            Token(0),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Self {
            link,
            poll,
            events: Events::with_capacity(8),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Waits until the socket can be read or written.
    fn wait(&mut self) -> Result<(), Failure> {
        self.poll.poll(&mut self.events, Some(QUIET_MAX))?;
        if self.events.is_empty() {
            return Err(Failure::new(format!(
                "nothing came from the broker for {} s",
                QUIET_MAX.as_secs()
            )));
        }
        Ok(())
    }

    /// Schedules all, in an order in which their times are mixed, and waits until all are answered.
    fn schedule(&mut self, plan: &Plan, payload_bytes: usize) -> Result<(), Failure> {
        let total = u64::from(plan.records);
        let filling = "x".repeat(payload_bytes.saturating_sub(12));
        let mut lines = String::new();
        loop {
            let answered = self.link.seen.answers;
            if answered >= total {
                return Ok(());
            }
            while !self.link.is_writing()
                && self.link.published < total
                && self.link.published - answered < IN_FLIGHT_MAX
            {
                lines.clear();
                for _ in 0..MESSAGE_RECORDS.min((total - self.link.published) as usize) {
                    let record = mixed(self.link.published, total);
                    let at = format_rfc3339(Timestamp(plan.due(record)));
                    lines.push_str(&format!(
                        r#"{{"type":"publish","id":1,"topic":"{TOPIC}","deliver_at":"{at}","payload":"{record:010}{filling}"}}"#
                    ));
                    lines.push('\n');
                    self.link.published += 1;
                }
                self.link
                    .send(|outgoing| push_client_message(outgoing, Opcode::Text, lines.as_bytes()))?;
            }
            self.wait()?;
            self.link.flush()?;
            self.link.receive(&mut self.scratch)?;
        }
    }

    /// Receives all; returns how late they came, in microseconds.
    fn receive(&mut self, plan: &Plan) -> Result<Histogram<u64>, Failure> {
        let mut late = Histogram::<u64>::new(3).expect("three digits are within what a histogram has");
        let mut seen = vec![false; plan.records as usize];
        let mut left = plan.records;
        let wait_until = plan.due(u64::from(plan.records)) as f64 + QUIET_MAX.as_millis() as f64;
        let mut wrong = None;
        while left > 0 && wrong.is_none() {
            if now_ms() > wait_until {
                return Err(Failure::new(format!("{left} records never came")));
            }
            // The first is due only in a while.
            self.poll
                .poll(&mut self.events, Some(Duration::from_millis(100)))?;
            self.link.receive_payloads(&mut self.scratch, |payload| {
                let Some(record) = sequence_of(payload) else {
                    return;
                };
                // Not before the read: what comes while it reads on would seem to come early.
                let (due, now) = (plan.due(record) as f64, now_ms());
                match seen.get_mut(record as usize) {
                    Some(seen) if !*seen => *seen = true,
                    _ => wrong = Some(format!("record {record} came twice, or was never scheduled")),
                }
                if now.floor() < due {
                    wrong = Some(format!("record {record} came {:.1} ms early", due - now));
                }
                // It grows with what it is given.
                late += ((now - due).max(0.0) * 1000.0) as u64;
                left = left.saturating_sub(1);
            })?;
        }
        match wrong {
            Some(wrong) => Err(Failure::new(wrong)),
            None => Ok(late),
        }
    }
}

/// A record's place in the order in which they are scheduled: unlike the order in which they are due, and each
/// once. 7919 is a prime that divides no likely total; where it does, they are scheduled in order.
fn mixed(index: u64, total: u64) -> u64 {
    const STEP: u64 = 7919;
    if total.is_multiple_of(STEP) {
        index
    } else {
        index * STEP % total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_scheduled_once() {
        for total in [1, 2, 1000, 7918, 7919, 7920, 15_838] {
            let mut all: Vec<_> = (0..total).map(|index| mixed(index, total)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..total), "{total}");
        }
    }
}
