//! Notices by URL: what became of a record, told to whoever published it.
//!
//! Owns the notices that wait, bounded over all hosts, and a few calls to each host at a time, so that one that
//! hangs keeps the notices of no other waiting. Not kept on disk: who must hear of a record for certain looks, or
//! uses a webhook.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::{
    address::AllowPrivate,
    client::{Answer, Call, Endpoint},
    connect::{CallError, Connector},
    target::Target,
};

/// Notices that wait at most, those included that wait for another try.
const NOTICES_MAX: usize = 10_000;
/// Bytes of their bodies at most: one may carry what a worker answered, which may be large.
const NOTICES_BYTES_MAX: usize = 64 << 20;
/// Calls at once to one host.
const HOST_CALLS_MAX: usize = 4;
/// Calls at once in all.
const CALLS_MAX: usize = 512;
/// How often a notice is tried.
const ATTEMPTS_MAX: u32 = 5;
/// The wait after the first failure; twice as long after each further one.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that an endpoint may ask for.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a call may take.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Of so many that are lost, one is written to the log.
const LOG_EVERY: u64 = 1000;

const CORRELATION_ID: HeaderName = HeaderName::from_static("callboard-correlation-id");

/// What became of the notices since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoticeCounts {
    /// Waiting, or under way.
    pub waiting: u64,
    /// Taken by their endpoints.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
    /// Refused because too many waited.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(super) fn counts(&self) -> NoticeCounts {
        NoticeCounts {
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Counts one more; true for the first and for every thousandth.
    fn is_worth_a_line(counter: &AtomicU64) -> bool {
        counter.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOG_EVERY)
    }
}

/// A place among those that wait; given back when it is dropped, also by a panic.
struct Place {
    counters: Arc<Counters>,
    bytes: usize,
}

impl Place {
    fn take(counters: &Arc<Counters>, bytes: usize) -> Option<Self> {
        let place = Self {
            counters: counters.clone(),
            bytes,
        };
        let others = counters.waiting.fetch_add(1, Ordering::Relaxed);
        let bytes_before = counters.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        (others < NOTICES_MAX && bytes_before + bytes <= NOTICES_BYTES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        self.counters
            .waiting_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A notice on its way.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Notice {
    target: Target,
    call: Call,
    attempt: u32,
    place: Place,
}

impl Notice {
    /// Finds it a place; none if there is none left, or if the URL may not be called.
    pub(super) fn new(
        counters: &Arc<Counters>,
        allow: AllowPrivate,
        (url, correlation_id): (&str, &str),
        body: Bytes,
    ) -> Option<Self> {
        let Some(place) = Place::take(counters, body.len()) else {
            if Counters::is_worth_a_line(&counters.dropped) {
                let waiting = counters.waiting.load(Ordering::Relaxed);
                log::warn!("{waiting} notices wait for their endpoints; more are dropped");
            }
            return None;
        };
        let target = match Target::parse(url, allow) {
            Ok(target) => target,
            Err(refusal) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                log::warn!("a notice can not be sent: {refusal}");
                return None;
            }
        };
        let mut call = Call {
            path: target.path.clone(),
            body,
            ..Call::default()
        };
        let json = HeaderValue::from_static("application/json");
        call.headers.insert(CONTENT_TYPE, json);
        // One that can not stand in a header stands in the body all the same.
        if let Ok(value) = HeaderValue::from_str(correlation_id) {
            call.headers.insert(CORRELATION_ID, value);
        }
        Some(Self {
            target,
            call,
            attempt: 1,
            place,
        })
    }

    /// How long to wait for the next try after this one failed; none if there is none.
    fn retry_wait(&self, outcome: &Result<Answer, CallError>) -> Option<Duration> {
        if self.attempt >= ATTEMPTS_MAX {
            return None;
        }
        let asked = match outcome {
            // It says that it is gone and stays so.
            Ok(Answer { status: 410, .. }) => return None,
            Ok(answer) => answer.retry_after_ms.map(Duration::from_millis),
            Err(_) => None,
        };
        let grown = RETRY_WAIT * 2u32.pow(self.attempt - 1);
        Some(asked.map_or(grown, |asked| asked.clamp(grown, RETRY_WAIT_MAX)))
    }
}

/// See the module.
pub(super) struct NoticesActor {
    connector: Arc<Connector>,
    hosts: HashMap<Arc<str>, Host>,
    /// Hosts that may be called, in turn.
    turns: VecDeque<Arc<str>>,
    calls: usize,
    /// Notices that wait for another try, by when that is.
    retries: BTreeMap<(Instant, u64), Notice>,
    retries_made: u64,
    alarm: Option<(Instant, SpawnHandle)>,
}

/// The notices for one host.
struct Host {
    endpoint: Rc<Endpoint>,
    waiting: VecDeque<Notice>,
    calls: usize,
    in_turn: bool,
}

impl NoticesActor {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            hosts: HashMap::new(),
            turns: VecDeque::new(),
            calls: 0,
            retries: BTreeMap::new(),
            retries_made: 0,
            alarm: None,
        }
    }

    fn add(&mut self, notice: Notice) {
        let target = &notice.target;
        let name: Arc<str> = format!("{:?} {}", target.scheme, target.authority).into();
        let host = self.hosts.entry(name.clone()).or_insert_with(|| Host {
            endpoint: Rc::new(Endpoint::new(
                self.connector.clone(),
                target.clone(),
                HOST_CALLS_MAX,
            )),
            waiting: VecDeque::new(),
            calls: 0,
            in_turn: false,
        });
        host.waiting.push_back(notice);
        self.queue(name);
    }

    /// Lets a host have its turn if it can use one, and forgets it if nothing is left of it.
    fn queue(&mut self, name: Arc<str>) {
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        if host.waiting.is_empty() && host.calls == 0 {
            self.hosts.remove(&name);
        } else if !host.waiting.is_empty() && host.calls < HOST_CALLS_MAX && !host.in_turn {
            host.in_turn = true;
            self.turns.push_back(name);
        }
    }

    fn call_next(&mut self, ctx: &mut Context<Self>) {
        while self.calls < CALLS_MAX {
            let Some(name) = self.turns.pop_front() else {
                return;
            };
            let Some(host) = self.hosts.get_mut(&name) else {
                continue;
            };
            host.in_turn = false;
            if let Some(notice) = host.waiting.pop_front() {
                host.calls += 1;
                self.calls += 1;
                let (endpoint, addr, name) = (host.endpoint.clone(), ctx.address(), name.clone());
                // A task of its own and not the actor's, which would look at all of them whenever one moves.
                actix::spawn(async move {
                    let outcome = endpoint.post(&notice.call, CALL_TIME).await;
                    // At most as many as there are calls.
                    addr.do_send(Called {
                        name,
                        notice,
                        outcome,
                    });
                });
            }
            self.queue(name);
        }
    }

    /// Has a notice tried again after a wait.
    fn retry(&mut self, notice: Notice, wait: Duration, ctx: &mut Context<Self>) {
        let due = Instant::now() + wait;
        self.retries_made += 1;
        self.retries.insert((due, self.retries_made), notice);
        self.set_alarm(ctx);
    }

    /// Is woken for the first retry; one timer for all of them.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some((&(due, _), _)) = self.retries.first_key_value() else {
            return;
        };
        match self.alarm {
            Some((at, _)) if at <= due => return,
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        let handle = ctx.run_later(due.saturating_duration_since(Instant::now()), |actor, ctx| {
            actor.alarm = None;
            let now = Instant::now();
            while let Some(first) = actor.retries.first_entry()
                && first.key().0 <= now
            {
                let notice = first.remove();
                actor.add(notice);
            }
            actor.call_next(ctx);
            actor.set_alarm(ctx);
        });
        self.alarm = Some((due, handle));
    }
}

impl Actor for NoticesActor {
    type Context = Context<Self>;
}

impl Handler<Notice> for NoticesActor {
    type Result = ();

    fn handle(&mut self, notice: Notice, ctx: &mut Self::Context) {
        self.add(notice);
        self.call_next(ctx);
    }
}

/// A call has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Called {
    name: Arc<str>,
    notice: Notice,
    outcome: Result<Answer, CallError>,
}

impl Handler<Called> for NoticesActor {
    type Result = ();

    fn handle(&mut self, called: Called, ctx: &mut Self::Context) {
        let Called {
            name,
            mut notice,
            outcome,
        } = called;
        self.calls -= 1;
        if let Some(host) = self.hosts.get_mut(&name) {
            host.calls -= 1;
        }
        self.queue(name);
        let counters = &notice.place.counters;
        if matches!(
            outcome,
            Ok(Answer {
                status: 200..=299,
                ..
            })
        ) {
            counters.delivered.fetch_add(1, Ordering::Relaxed);
        } else if let Some(wait) = notice.retry_wait(&outcome) {
            notice.attempt += 1;
            self.retry(notice, wait, ctx);
        } else if Counters::is_worth_a_line(&counters.failed) {
            let why = match outcome {
                Ok(answer) => format!("HTTP {}", answer.status),
                Err(error) => error.to_string(),
            };
            let authority = &notice.target.authority;
            log::warn!("notices to {authority} are given up: {why}");
        }
        self.call_next(ctx);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn wait_for_places(bytes: usize) -> (Vec<Notice>, NoticeCounts) {
        let counters = Arc::new(Counters::default());
        let body = Bytes::from(vec![b' '; bytes]);
        let new = || {
            Notice::new(
                &counters,
                AllowPrivate::No,
                ("https://hooks.example/", "c-1"),
                body.clone(),
            )
        };
        let taken: Vec<_> = std::iter::from_fn(new).collect();
        let counts = counters.counts();
        drop(taken);
        assert!(new().is_some(), "places are given back");
        (std::iter::from_fn(new).collect(), counts)
    }

    #[test]
    fn notices_that_wait_are_bounded_by_their_number_and_by_their_bytes() {
        let (small, counts) = wait_for_places(100);
        assert_eq!((counts.waiting, counts.dropped), (NOTICES_MAX as u64, 1));
        assert_eq!(small.len(), NOTICES_MAX);
        let (large, counts) = wait_for_places(1 << 20);
        assert_eq!(counts.waiting, (NOTICES_BYTES_MAX >> 20) as u64);
        assert_eq!(large.len(), NOTICES_BYTES_MAX >> 20);
        let call = &large.first().unwrap().call;
        assert_eq!(call.headers[CORRELATION_ID], "c-1");
    }
}
