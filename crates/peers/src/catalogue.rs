//! Who is compared with whom, and in what.

use std::path::PathBuf;

use callboard_load::{
    callboard::{Ack, Bare, Callboard, Durability, Subprotocol},
    workload::Workload,
};

use crate::{
    contender::Contender,
    nats::NatsCore,
    servers::{
        callboard,
        nats::{Nats, Transport},
    },
};

/// Where the programs are. What is missing takes no part.
#[derive(Clone, Debug)]
pub struct Programs {
    pub callboard: PathBuf,
    pub nats_server: Option<PathBuf>,
}

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
    all.extend([1, 10].map(|subscribers| latency(programs, subscribers)));
    all.push(idle(programs));
    all.retain(|comparison| comparison.contenders.len() > 1);
    all
}

fn fanout(programs: &Programs, subscribers: usize, in_flight: usize) -> Comparison {
    Comparison {
        scenario: format!("fanout, {subscribers} subscribers, {in_flight} in flight"),
        kind: "fanout",
        workload: Workload::Fanout {
            subscribers,
            in_flight,
        },
        contenders: live(programs),
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

/// Those that pass records on over WebSocket and keep them in memory at most.
fn live(programs: &Programs) -> Vec<Contender> {
    let dialect = Callboard::new(Durability::Memory);
    let mut contenders = vec![
        callboard(programs, ("callboard", LINES), dialect),
        bare(programs, dialect, callboard::Replies::Each),
    ];
    contenders.extend(nats_core(programs, Transport::WebSocket));
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
        bare(programs, lines, callboard::Replies::None),
    ];
    contenders.extend(nats_core(programs, Transport::Tcp));
    contenders.extend(nats_core(programs, Transport::WebSocket));
    Comparison {
        scenario: "ingest, 4 publishers, at most once".to_owned(),
        kind: "ingest",
        workload: Workload::Ingest {
            publishers: 4,
            subscribers: 1,
            in_flight: 256,
        },
        contenders,
    }
}

const LINES: &str =
    "topic with durability memory; WebSocket, callboard.v1.ndjson: all frames sent at once are one message";
const FRAMES: &str = "topic with durability memory; WebSocket, callboard.v1.json: one frame a message";
const NOTHING: &str = "nothing: memory only";

fn callboard(
    programs: &Programs,
    (name, configuration): (&'static str, &'static str),
    dialect: Callboard,
) -> Contender {
    let promise = match dialect.durability {
        Durability::Memory => "the log in memory: lost when the process ends",
        Durability::Os => "written before it is answered: survives the process, not the machine",
        Durability::Fsync => "flushed before it is answered: survives the machine",
    };
    let words = (name, promise, configuration);
    Contender::new(words, programs.callboard.clone(), dialect, callboard::broker)
}

fn bare(programs: &Programs, dialect: Callboard, replies: callboard::Replies) -> Contender {
    let words = (
        "bare",
        NOTHING,
        "no broker: one epoll loop that moves frames of Callboard's length",
    );
    Contender::new(words, programs.callboard.clone(), Bare(dialect), move |place| {
        callboard::bare(place, replies)
    })
}

fn nats_core(programs: &Programs, transport: Transport) -> Option<Contender> {
    let nats = Nats {
        transport,
        store: None,
    };
    let (name, configuration) = match transport {
        Transport::Tcp => ("nats core, tcp", "max_pending 1GB; plain TCP"),
        Transport::WebSocket => (
            "nats core, websocket",
            "max_pending 1GB; WebSocket without TLS and compression, all frames sent at once are one message",
        ),
    };
    let words = (name, NOTHING, configuration);
    let program = programs.nats_server.clone()?;
    Some(Contender::new(
        words,
        program,
        NatsCore(transport),
        move |place| nats.launch(place),
    ))
}
