//! Who is compared with whom, and in what.

use callboard_load::{
    broker::{Ack, Callboard, Durability, Subprotocol, duty::Duty},
    crew::Plan,
    mixed::MixedPlan,
    report::BARE,
    workload::Workload,
};

use crate::{
    contender::Contender,
    roster::{
        FRAMES, LINES, OUR_INGEST, Programs, bare, callboard, jetstream, mosquitto, nats_core, redis,
        uwebsockets,
    },
    servers::{
        broker::Replies,
        nats::{Sync, Transport},
        redis::Append,
    },
};

/// One scenario, and all that it is measured on.
pub struct Comparison {
    /// A name that says all that matters.
    pub scenario: String,
    /// The word by which the command line calls it.
    pub kind: &'static str,
    pub workload: Workload,
    pub contenders: Vec<Contender>,
}

/// All comparisons in which at least two take part.
pub fn comparisons(programs: &Programs) -> Vec<Comparison> {
    let mut all = Vec::new();
    for in_flight in [128, 1] {
        for subscribers in [100, 1000] {
            all.push(fanout(programs, subscribers, in_flight));
        }
    }
    all.push(ingest_at_most_once(programs));
    all.push(ingest_stored(programs));
    all.push(ingest_flushed(programs));
    all.push(queue(programs));
    all.push(group(programs));
    all.extend([1, 10].map(|subscribers| latency(programs, subscribers)));
    all.extend([1, 10].map(|subscribers| latency_flushed(programs, subscribers)));
    all.push(idle(programs));
    all.push(mixed(programs));
    all.retain(|comparison| comparison.contenders.len() > 1);
    all
}

fn fanout(programs: &Programs, subscribers: usize, in_flight: usize) -> Comparison {
    let mut contenders = live(programs);
    // No browser can speak it, but it is what NATS is known for.
    contenders.extend(nats_core(programs, Transport::Tcp));
    Comparison {
        scenario: format!("fanout, {subscribers} subscribers, {in_flight} in flight"),
        kind: "fanout",
        workload: Workload::Fanout {
            subscribers,
            in_flight,
        },
        contenders,
    }
}

fn latency(programs: &Programs, subscribers: usize) -> Comparison {
    Comparison {
        scenario: format!("latency, 1000/s, {subscribers} subscribers, not stored"),
        kind: "latency",
        workload: Workload::Latency {
            subscribers,
            rate_per_s: 1000,
        },
        contenders: live(programs),
    }
}

fn idle(programs: &Programs) -> Comparison {
    let connections = 5000;
    Comparison {
        scenario: format!("idle, {connections} connections"),
        kind: "idle",
        workload: Workload::Idle { connections },
        contenders: live(programs),
    }
}

/// The bare server takes no part: it knows no topics.
fn mixed(programs: &Programs) -> Comparison {
    let plan = MixedPlan::default();
    let mut contenders = live(programs);
    contenders.retain(|contender| contender.name != BARE);
    Comparison {
        scenario: plan.name(),
        kind: "mixed",
        workload: Workload::Mixed(plan),
        contenders,
    }
}

/// Those that pass records on over WebSocket and keep them in memory at most.
fn live(programs: &Programs) -> Vec<Contender> {
    let dialect = Callboard::new(Durability::Memory);
    let mut contenders = vec![
        callboard(programs, ("callboard", LINES), dialect),
        bare(programs, dialect, Replies::Each),
    ];
    contenders.extend(nats_core(programs, Transport::WebSocket));
    contenders.extend(uwebsockets(programs));
    contenders.extend(mosquitto(programs));
    contenders
}

/// Nothing is answered; what counts is what a subscriber got.
fn ingest_at_most_once(programs: &Programs) -> Comparison {
    let lines = Callboard {
        ack: Ack::None,
        ..Callboard::new(Durability::Memory)
    };
    let frames = Callboard {
        subprotocol: Subprotocol::Json,
        ..lines
    };
    let mut contenders = vec![
        callboard(programs, ("callboard, a frame a record", FRAMES), frames),
        callboard(programs, ("callboard", LINES), lines),
        bare(programs, lines, Replies::None),
    ];
    contenders.extend(nats_core(programs, Transport::Tcp));
    contenders.extend(nats_core(programs, Transport::WebSocket));
    contenders.extend(uwebsockets(programs));
    contenders.extend(mosquitto(programs));
    ingest("at most once", contenders)
}

/// Each record is answered when it is written, and survives the end of the process.
fn ingest_stored(programs: &Programs) -> Comparison {
    let mut contenders = vec![callboard(
        programs,
        ("callboard", LINES),
        Callboard::new(Durability::Os),
    )];
    contenders.extend(jetstream(programs, Sync::Default));
    contenders.extend(redis(programs, Append::EverySecond));
    ingest("stored", contenders)
}

/// Each record is answered when it is flushed, except by JetStream as it comes: it is here because it is what its
/// users run.
fn ingest_flushed(programs: &Programs) -> Comparison {
    ingest("flushed", flushed(programs))
}

fn ingest(what: &str, contenders: Vec<Contender>) -> Comparison {
    Comparison {
        scenario: format!("ingest, 4 publishers, {what}"),
        kind: "ingest",
        workload: INGEST,
        contenders,
    }
}

const INGEST: Workload = Workload::Ingest {
    publishers: 4,
    subscribers: 1,
    in_flight: 256,
};

/// Those that keep records, and say so when they have flushed them if they can.
fn flushed(programs: &Programs) -> Vec<Contender> {
    let dialect = Callboard::new(Durability::Fsync);
    let mut contenders = vec![callboard(programs, ("callboard", LINES), dialect)];
    contenders.extend(redis(programs, Append::Always));
    contenders.extend(jetstream(programs, Sync::Default));
    contenders.extend(jetstream(programs, Sync::Always));
    contenders
}

/// What four publishers send, worked off by eight.
const QUEUE: Plan = Plan {
    publishers: 4,
    in_flight: 256,
    backlog: 16_384,
    members: 8,
    credit: 256,
    duty: Duty::Ack,
};

/// Eight workers share the records, and ack each by itself.
fn queue(programs: &Programs) -> Comparison {
    Comparison {
        scenario: "queue, 4 publishers, 8 workers, flushed".to_owned(),
        kind: "queue",
        workload: Workload::Group(QUEUE),
        contenders: flushed(programs),
    }
}

/// Each member has partitions of its own and commits now and then. No peer here has such groups, so it is compared
/// with what the same publishers do without one.
fn group(programs: &Programs) -> Comparison {
    let lines = Callboard::new(Durability::Fsync);
    let spread = Callboard {
        partitions: 8,
        ..lines
    };
    // With less credit a member would wait for a commit that is being flushed.
    let plan = Plan {
        credit: 1000,
        duty: Duty::Commit { every: 100 },
        ..QUEUE
    };
    Comparison {
        scenario: "group, 4 publishers, 8 members on 8 partitions, a commit every 100, flushed".to_owned(),
        kind: "group",
        workload: Workload::Group(plan),
        contenders: vec![
            callboard(programs, ("callboard", LINES), spread),
            callboard(programs, ("callboard", LINES), lines).always(OUR_INGEST, INGEST),
        ],
    }
}

fn latency_flushed(programs: &Programs, subscribers: usize) -> Comparison {
    Comparison {
        scenario: format!("latency, 1000/s, {subscribers} subscribers, flushed"),
        kind: "latency",
        workload: Workload::Latency {
            subscribers,
            rate_per_s: 1000,
        },
        contenders: flushed(programs),
    }
}
