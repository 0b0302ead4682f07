//! Who can take part, and what each promises: programs, configurations in a few words, dialects.

use std::path::{Path, PathBuf};

use callboard_load::broker::{Bare, Callboard, Durability};

use crate::{
    bun::UWebSockets,
    contender::Contender,
    jetstream::JetStream,
    mosquitto::Mqtt,
    nats::NatsCore,
    redis::Redis,
    servers::{
        self, broker,
        nats::{Nats, Sync, Transport},
        redis::Append,
        version,
    },
};

/// Where the programs are. What is missing takes no part.
#[derive(Clone, Debug)]
pub struct Programs {
    pub callboard: PathBuf,
    pub nats_server: Option<PathBuf>,
    pub redis_server: Option<PathBuf>,
    pub mosquitto: Option<PathBuf>,
    pub bun: Option<PathBuf>,
}

impl Programs {
    /// What each is, in its own words.
    pub fn versions(&self, libraries: Option<&Path>) -> Vec<(&'static str, String)> {
        let peers = [
            ("nats-server", &self.nats_server, "--version"),
            ("redis-server", &self.redis_server, "--version"),
            ("mosquitto", &self.mosquitto, "-h"),
            ("bun", &self.bun, "--version"),
        ];
        let ours = version(&self.callboard, "--version", None);
        let peers = peers.into_iter().map(|(name, program, argument)| {
            let said = program
                .as_ref()
                .map(|program| version(program, argument, libraries));
            match said {
                None => (name, "not here, takes no part".to_owned()),
                Some(said) => (name, said.unwrap_or_else(|failure| failure.to_string())),
            }
        });
        std::iter::once(("callboard", ours.unwrap_or_else(|failure| failure.to_string())))
            .chain(peers)
            .collect()
    }
}

pub const LINES: &str =
    "as it comes; WebSocket, callboard.v1.ndjson: all frames sent at once are one message";
pub const FRAMES: &str = "as it comes; WebSocket, callboard.v1.json: one frame a message";
/// What a group is compared with.
pub const OUR_INGEST: &str = "our own ingest";
const NOTHING: &str = "nothing: memory only";
const FLUSHED: &str = "flushed before it is answered: survives the machine";

/// The broker with topics as `dialect` says.
pub fn callboard(
    programs: &Programs,
    (name, configuration): (&'static str, &'static str),
    dialect: Callboard,
) -> Contender {
    let promise = match dialect.durability {
        Durability::Memory => "the log in memory: lost when the process ends",
        Durability::Os => "written before it is answered: survives the process, not the machine",
        Durability::Fsync => FLUSHED,
    };
    let words = (name, promise, configuration);
    Contender::new(words, programs.callboard.clone(), dialect, broker::launch)
}

/// A server with no broker in it.
pub fn bare(programs: &Programs, dialect: Callboard, replies: broker::Replies) -> Contender {
    let words = (
        "bare",
        NOTHING,
        "no broker: one epoll loop that moves frames of Callboard's length",
    );
    Contender::new(words, programs.callboard.clone(), Bare(dialect), move |place| {
        broker::bare(place, replies)
    })
}

/// NATS without JetStream.
pub fn nats_core(programs: &Programs, transport: Transport) -> Option<Contender> {
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

/// NATS with a stream in files for each topic.
pub fn jetstream(programs: &Programs, sync: Sync) -> Option<Contender> {
    let nats = Nats {
        transport: Transport::Tcp,
        store: Some(sync),
    };
    let (name, promise, configuration) = match sync {
        Sync::Default => (
            "jetstream, sync default",
            "written before it is acked, flushed every two minutes: survives the process, not the machine",
            "file store, retention limits; subscribers are pushed to, workers pull; max_pending 1GB; plain TCP",
        ),
        Sync::Always => (
            "jetstream, sync always",
            FLUSHED,
            "sync_interval always, file store, retention limits; subscribers are pushed to, workers pull; max_pending 1GB; plain TCP",
        ),
    };
    let program = programs.nats_server.clone()?;
    let words = (name, promise, configuration);
    Some(Contender::new(words, program, JetStream, move |place| {
        nats.launch(place)
    }))
}

/// Redis with a stream for each topic.
pub fn redis(programs: &Programs, append: Append) -> Option<Contender> {
    let (name, promise, configuration) = match append {
        Append::Always => (
            "redis, appendfsync always",
            FLUSHED,
            "appendonly yes, appendfsync always, no snapshots, no rewrites; streams; plain TCP, pipelined",
        ),
        Append::EverySecond => (
            "redis, appendfsync everysec",
            "written before it is answered unless a flush is under way, flushed every second: mostly survives the process",
            "appendonly yes, appendfsync everysec, no snapshots, no rewrites; streams; plain TCP, pipelined",
        ),
    };
    let program = programs.redis_server.clone()?;
    let words = (name, promise, configuration);
    Some(Contender::new(words, program, Redis, move |place| {
        append.launch(place)
    }))
}

/// MQTT 3.1.1 over WebSocket.
pub fn mosquitto(programs: &Programs) -> Option<Contender> {
    let words = (
        "mosquitto, qos 0",
        NOTHING,
        "WebSocket, a packet a message; max_queued_messages 0, max_inflight_messages 0 (no limits), set_tcp_nodelay",
    );
    let program = programs.mosquitto.clone()?;
    Some(Contender::new(words, program, Mqtt, servers::mosquitto::launch))
}

/// uWebSockets' own publish and subscribe, in Bun.
pub fn uwebsockets(programs: &Programs) -> Option<Contender> {
    let words = (
        "uwebsockets",
        NOTHING,
        "servers/uwebsockets.js in Bun: server.publish, no compression, backpressureLimit 1 GiB; a record a message",
    );
    let program = programs.bun.clone()?;
    Some(Contender::new(words, program, UWebSockets, servers::bun::launch))
}
