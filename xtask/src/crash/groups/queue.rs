//! Eight workers of a shared group, cut off at random, and a broker that is killed in between.
//!
//! Workers ack most jobs, nack some, leave some until their lease ends, and give some to the dead letters. The
//! books are kept by [`jobs`](super::jobs); in the end the workers ack everything that is left.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Outcome, Site, finished,
    jobs::{Job, Jobs, Scene},
};
use crate::{
    broker::Broker,
    chance::Chance,
    shell::Failure,
    websocket::{Cut, Ended, Frame, WebSocket},
};

const TOPIC: &str = "crash.shared";
const GROUP: &str = "workers";
const DEAD_LETTERS: &str = "crash.shared.workers.dlq";
const WORKERS: usize = 8;
/// Jobs that a worker may have out.
const CREDIT: u64 = 16;
const ATTEMPTS_MAX: u64 = 4;
/// Short, so that leases end during a run.
const LEASE_MS: u64 = 700;
/// Jobs of a publish frame.
const BATCH: u64 = 10;
/// Between two frames: a pace that the workers can keep, so that most of the time is spent dying.
const PACE: Duration = Duration::from_millis(8);
/// Between two cuts.
const CUT_MS: (u64, u64) = (50, 400);
/// How long a broker lives, from and to.
const LIFE_MS: (u64, u64) = (1_500, 5_000);
/// How long whoever finds no broker waits before it looks again.
const AWAY: Duration = Duration::from_millis(20);

/// What all threads share.
struct Common {
    jobs: Mutex<Jobs>,
    /// Where the broker is at present.
    address: Mutex<String>,
    /// How often the broker was killed.
    kills: AtomicU64,
    /// Everything is acked from now on.
    is_calm: AtomicBool,
    is_over: AtomicBool,
}

impl Common {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().expect("nobody panics while holding it")
    }

    fn address(&self) -> MutexGuard<'_, String> {
        self.address.lock().expect("nobody panics while holding it")
    }

    fn connect(&self, subprotocol: &str) -> Result<WebSocket, Ended> {
        let address = self.address().clone();
        WebSocket::connect(&address, subprotocol)
    }

    /// A broker that is gone is what this is about; all else is its fault.
    fn note_end(&self, who: &str, ended: &Ended) {
        if !matches!(ended, Ended::Gone(None)) {
            self.jobs().violation(format!("{who} was ended: {ended}"));
        }
    }
}

/// Runs it for `duration`, lets it come to its end, and closes the books.
///
/// # Errors
/// When the broker cannot be started, or the group does not come to its end.
pub fn run(site: &Site<'_>, mut chance: Chance, duration: Duration) -> Result<Outcome, Failure> {
    let mut broker = site.start()?;
    declare(&broker)?;
    let common = Arc::new(Common {
        jobs: Mutex::new(Jobs::new(ATTEMPTS_MAX)),
        address: Mutex::new(broker.address().to_owned()),
        kills: AtomicU64::new(0),
        is_calm: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    });
    let publisher = std::thread::spawn({
        let common = Arc::clone(&common);
        move || publish_all(&common)
    });
    let crew = Crew::start(&common, &mut chance);
    let cuts = strike(site, &mut broker, &common, &crew, (&mut chance, duration))?;
    common.is_calm.store(true, Ordering::Relaxed);
    publisher.join().expect("publishing does not panic");
    let description = finished(&broker, TOPIC, GROUP);
    common.is_over.store(true, Ordering::SeqCst);
    crew.end();
    let description = description?;
    let dead = dead_letters(&broker)?;
    broker.stop()?;
    let common = Arc::into_inner(common).expect("all threads have ended");
    let kills = common.kills.into_inner();
    let jobs = common
        .jobs
        .into_inner()
        .expect("nobody panicked while holding it");
    let (totals, mut violations) = jobs.settle(&dead);
    if description["dead_letters"] != totals.dead {
        violations.push(format!(
            "there are {} dead letters, and the group speaks of {}",
            totals.dead, description["dead_letters"]
        ));
    }
    Ok(Outcome {
        summary: format!(
            "{} jobs, {} deliveries, {kills} kills of the broker, {cuts} workers cut off; {} succeeded, {} are dead letters, {} were \
             acked without an answer; {} deliveries came again after such an ack",
            totals.published,
            totals.deliveries,
            totals.succeeded,
            totals.dead,
            totals.unanswered,
            totals.again
        ),
        violations,
    })
}

/// Cuts workers off and kills the broker until the time is over; says how many were cut off.
fn strike(
    site: &Site<'_>,
    broker: &mut Broker,
    common: &Common,
    crew: &Crew,
    (chance, duration): (&mut Chance, Duration),
) -> Result<u64, Failure> {
    let until = Instant::now() + duration;
    let life =
        |chance: &mut Chance| Instant::now() + Duration::from_millis(chance.between(LIFE_MS.0, LIFE_MS.1));
    let mut dies_at = life(chance);
    let mut cuts = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(chance.between(CUT_MS.0, CUT_MS.1)));
        if Instant::now() < dies_at {
            cuts += crew.cut_one(chance);
            continue;
        }
        broker.kill()?;
        common.kills.fetch_add(1, Ordering::SeqCst);
        *broker = site.start()?;
        broker.address().clone_into(&mut common.address());
        dies_at = life(chance);
    }
    Ok(cuts)
}

fn declare(broker: &Broker) -> Result<(), Failure> {
    let failed = |ended: Ended| Failure::new(format!("declaring {TOPIC}: {ended}"));
    let mut socket = WebSocket::connect(broker.address(), "callboard.v1.json").map_err(failed)?;
    let declare = format!(
        r#"{{"type":"declare","id":1,"topic":"{TOPIC}","partitions":4,"attempts_max":{ATTEMPTS_MAX},"lease_ms":{LEASE_MS},"retry_backoff_ms":50,"retry_backoff_ms_max":400}}"#
    );
    let reply = socket.ask(1, &declare).map_err(failed)?;
    if reply.kind == "ok" {
        Ok(())
    } else {
        Err(Failure::new(format!("{declare} was answered {}", reply.value)))
    }
}

/// Publishes until it is calm. What was not answered is sent again under the same message ids.
fn publish_all(common: &Common) {
    let mut next: Job = 0;
    while let Err(ended) = publish(common, &mut next) {
        common.note_end("the publisher", &ended);
        std::thread::sleep(AWAY);
    }
}

fn publish(common: &Common, next: &mut Job) -> Result<(), Ended> {
    let mut socket = common.connect("callboard.v1.json")?;
    let mut id = 0;
    while !common.is_calm.load(Ordering::Relaxed) {
        id += 1;
        let messages: Vec<String> = (*next..*next + BATCH)
            .map(|job| format!(r#"{{"message_id":"j{job}","payload":{job}}}"#))
            .collect();
        let messages = messages.join(",");
        let reply = socket.ask(
            id,
            &format!(r#"{{"type":"publish","id":{id},"topic":"{TOPIC}","messages":[{messages}]}}"#),
        )?;
        let results = reply.value["results"].as_array();
        if !results.is_some_and(|results| results.iter().all(|result| result["offset"].is_u64())) {
            return Err(Ended::Broken(format!("a publisher was told {}", reply.value)));
        }
        common.jobs().published(*next..*next + BATCH);
        *next += BATCH;
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// The workers' threads, and how to end their sockets.
struct Crew {
    threads: Vec<JoinHandle<()>>,
    cuts: Vec<Arc<Mutex<Option<Cut>>>>,
}

impl Crew {
    fn start(common: &Arc<Common>, chance: &mut Chance) -> Self {
        let cuts: Vec<Arc<Mutex<Option<Cut>>>> = (0..WORKERS).map(|_| Arc::default()).collect();
        let threads = cuts
            .iter()
            .map(|cut| {
                let (common, cut, chance) = (Arc::clone(common), Arc::clone(cut), chance.split());
                std::thread::spawn(move || live(&common, &cut, chance))
            })
            .collect();
        Self { threads, cuts }
    }

    /// Cuts one off; 0 if it was not there.
    fn cut_one(&self, chance: &mut Chance) -> u64 {
        let cut = chance.pick(&self.cuts).lock();
        let cut = cut.expect("nobody panics while holding it");
        cut.as_ref().map(Cut::now).map_or(0, |()| 1)
    }

    fn end(self) {
        for cut in &self.cuts {
            if let Some(cut) = &*cut.lock().expect("nobody panics while holding it") {
                cut.now();
            }
        }
        for thread in self.threads {
            thread.join().expect("working does not panic");
        }
    }
}

/// An ack's job and where its record is; nothing for what else was sent.
type Acked = Option<(Job, Scene)>;
/// What was sent and not answered, by id.
type Pending = HashMap<u64, Acked>;

/// One worker after the other in the same place.
fn live(common: &Common, cut: &Mutex<Option<Cut>>, mut chance: Chance) {
    while !common.is_over.load(Ordering::Relaxed) {
        let life = common.kills.load(Ordering::SeqCst);
        let mut pending = Pending::new();
        let ended = match join(common, cut) {
            Ok(socket) => work((common, life), socket, &mut chance, &mut pending),
            Err(ended) => ended,
        };
        cut.lock().expect("nobody panics while holding it").take();
        common.note_end("a worker", &ended);
        for (job, _) in pending.into_values().flatten() {
            common.jobs().unanswered(job);
        }
        std::thread::sleep(AWAY);
    }
}

fn join(common: &Common, cut: &Mutex<Option<Cut>>) -> Result<WebSocket, Ended> {
    let mut socket = common.connect("callboard.v1.ndjson")?;
    socket.send(&format!(
        r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","group":"{GROUP}","mode":"shared","from":"earliest","credit":{CREDIT}}}"#
    ))?;
    *cut.lock().expect("nobody panics while holding it") = Some(socket.cut()?);
    // Looked at after the cut is there for all to see, so that one of the two is noticed.
    if common.is_over.load(Ordering::SeqCst) {
        return Err(Ended::Gone(None));
    }
    Ok(socket)
}

/// Works until its socket ends. `pending` has what was sent and not answered; an ack's with its job.
fn work(
    (common, life): (&Common, u64),
    mut socket: WebSocket,
    chance: &mut Chance,
    pending: &mut Pending,
) -> Ended {
    let mut next_id = 2;
    loop {
        let frame = match socket.receive().and_then(Frame::read) {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        let outcome = match frame.kind.as_str() {
            "message" => settle((common, life), &frame.value, chance, next_id).map(|(text, acked)| {
                if let Some(text) = text {
                    pending.insert(next_id, acked);
                    next_id += 1;
                    return socket.send(&text);
                }
                Ok(())
            }),
            "ok" | "error" => answered(common, &frame, pending).map(Ok),
            "welcome" | "subscribed" => Some(Ok(())),
            _ => None,
        };
        match outcome {
            Some(Ok(())) => {}
            Some(Err(ended)) => return ended,
            None => return Ended::Broken(format!("a worker was told {}", frame.value)),
        }
    }
}

/// What a worker says of a job, if anything.
fn settle(
    (common, life): (&Common, u64),
    message: &Value,
    chance: &mut Chance,
    id: u64,
) -> Option<(Option<String>, Acked)> {
    let (job, delivery) = (message["payload"].as_u64()?, message["delivery"].as_u64()?);
    let place = (message["partition"].as_u64()?, message["offset"].as_u64()?);
    let scene = Scene { place, life };
    common.jobs().delivered(job, message["attempt"].as_u64()?, scene);
    let acked = Some((job, scene));
    let ack = format!(r#"{{"type":"ack","id":{id},"deliveries":[{delivery}]}}"#);
    let nack = |more: &str| {
        format!(r#"{{"type":"nack","id":{id},"deliveries":[{delivery}],{more}"reason":"chance"}}"#)
    };
    if common.is_calm.load(Ordering::Relaxed) {
        return Some((Some(ack), acked));
    }
    Some(match chance.below(100) {
        0..80 => (Some(ack), acked),
        80..88 => (Some(nack(r#""delay_ms":0,"#)), None),
        88..92 => (Some(nack("")), None),
        92..94 => (Some(nack(r#""dead_letter":true,"#)), None),
        94..96 => {
            let extend =
                format!(r#"{{"type":"extend","id":{id},"deliveries":[{delivery}],"lease_ms":1500}}"#);
            (Some(extend), None)
        }
        // Its lease ends.
        _ => (None, None),
    })
}

/// An answer to what was sent; too late is allowed.
fn answered(common: &Common, frame: &Frame, pending: &mut Pending) -> Option<()> {
    let acked = pending.remove(&frame.id?)?;
    match (frame.kind.as_str(), frame.value["code"].as_str()) {
        ("ok", _) => {
            if let Some((job, scene)) = acked {
                common.jobs().succeeded(job, scene);
            }
            Some(())
        }
        (_, Some("lease_expired" | "unknown_delivery")) => Some(()),
        _ => None,
    }
}

/// The jobs in the dead letters.
fn dead_letters(broker: &Broker) -> Result<Vec<Job>, Failure> {
    let (status, topic) = broker.json(&format!("/api/v1/topics/{DEAD_LETTERS}"))?;
    if status == 404 {
        return Ok(Vec::new());
    }
    let number = |value: &Value, name: &str| {
        let number = value[name].as_u64();
        number.ok_or_else(|| Failure::new(format!("{DEAD_LETTERS}: no {name} in {value}")))
    };
    let failed = |ended: Ended| Failure::new(format!("reading {DEAD_LETTERS}: {ended}"));
    let mut socket = WebSocket::connect(broker.address(), "callboard.v1.json").map_err(failed)?;
    let mut jobs = Vec::new();
    let partitions = topic["partitions"].as_array().map_or(0, Vec::len);
    for partition in 0..partitions {
        let mut offset = 0;
        loop {
            let page = socket.ask(
                1,
                &format!(
                    r#"{{"type":"fetch","id":1,"topic":"{DEAD_LETTERS}","partition":{partition},"offset":{offset},"limit":1000}}"#
                ),
            );
            let page = page.map_err(failed)?;
            let records = page.value["messages"].as_array().cloned().unwrap_or_default();
            if records.is_empty() {
                break;
            }
            for record in records {
                jobs.push(number(&record, "payload")?);
            }
            offset = number(&page.value, "next_offset")?;
        }
    }
    Ok(jobs)
}
