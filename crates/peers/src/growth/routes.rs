//! Patterns that sessions follow, and bindings of an exchange.

use callboard_load::Failure;

use super::{
    Bench,
    asker::{Asker, ID, declare, publish},
    broker::{Broker, Data, bytes_each},
    curve::{Curve, Measure, Metrics},
};

const FOLLOW_US: &str = "CPU us to subscribe";
const PUBLISH_US: &str = "CPU us a publish";
const TOPIC_US: &str = "CPU us to create a topic";
const BYTES: &str = "bytes each";
const BIND_US: &str = "CPU us to bind";
const BIND_MS: &str = "ms to bind";
const START_MS: &str = "ms until a start is ready";

/// The broker's limit is 1,024.
const PATTERNS_PER_SESSION: u64 = 1_000;
/// Topics that are made among the patterns.
const NEW_TOPICS: u64 = 50;
const PUBLISHES: u64 = 20_000;
const IN_FLIGHT: usize = 256;
const PAYLOAD_BYTES: usize = 128;
const SIZES: &[u64] = &[1, 10, 100, 1_000, 10_000, 100_000];

pub(crate) const PATTERNS: Curve = Curve {
    name: "patterns",
    title: "Patterns that sessions follow",
    x: "patterns",
    sizes: SIZES,
    quick_max: 10_000,
    measure: Measure::Each(patterns),
    panels: &[
        ("CPU us", &[PUBLISH_US, FOLLOW_US, TOPIC_US]),
        ("bytes a pattern", &[BYTES]),
    ],
};

pub(crate) const BINDINGS: Curve = Curve {
    name: "bindings",
    title: "Bindings of one exchange",
    x: "bindings",
    sizes: SIZES,
    quick_max: 10_000,
    measure: Measure::Each(bindings),
    panels: &[
        ("CPU us", &[PUBLISH_US, BIND_US]),
        ("ms", &[BIND_MS, START_MS]),
        ("bytes a binding", &[BYTES]),
    ],
};

fn patterns(bench: &Bench, count: u64) -> Result<Metrics, Failure> {
    let data = Data::new(bench);
    let broker = Broker::start(bench, &data)?;
    let mut asker = Asker::open(broker.address())?;
    asker.ask(declare("plain", 1, "memory"))?;
    let mut sessions = Vec::new();
    for _ in 0..count.div_ceil(PATTERNS_PER_SESSION) {
        sessions.push(Asker::open(broker.address())?);
    }
    let (before, mark) = (broker.settled_bytes(), broker.mark());
    for (place, session) in (0..).zip(&mut sessions) {
        let first = place * PATTERNS_PER_SESSION;
        let numbers = first..count.min(first + PATTERNS_PER_SESSION);
        let subscribe = |number| {
            let area = number % 100;
            format!(r#"{{"type":"subscribe",{ID},"topic":"area-{area}.*.sensor-{number}.#"}}"#)
        };
        session.ask_all(IN_FLIGHT, numbers.map(subscribe))?;
    }
    let mut metrics = vec![(FOLLOW_US, broker.cpu_us_each(mark, count))];
    metrics.extend(bytes_each(BYTES, before, broker.settled_bytes(), count));
    let publishes = |amount: u64| (0..amount).map(|_| publish("plain", PAYLOAD_BYTES));
    asker.ask_all(IN_FLIGHT, publishes(bench.work(PUBLISHES) / 4))?;
    let (mark, amount) = (broker.mark(), bench.work(PUBLISHES));
    asker.ask_all(IN_FLIGHT, publishes(amount))?;
    metrics.push((PUBLISH_US, broker.cpu_us_each(mark, amount)));
    let mark = broker.mark();
    // None of them matches, so what is seen is the search and not the following.
    let names = (0..NEW_TOPICS).map(|number| declare(&format!("area-7.line.valve-{number}"), 1, "memory"));
    asker.ask_all(IN_FLIGHT, names)?;
    metrics.push((TOPIC_US, broker.cpu_us_each(mark, NEW_TOPICS)));
    Ok(metrics)
}

fn bindings(bench: &Bench, count: u64) -> Result<Metrics, Failure> {
    let data = Data::new(bench);
    let mut metrics = Vec::new();
    {
        let broker = Broker::start(bench, &data)?;
        let mut asker = Asker::open(broker.address())?;
        asker.ask(declare("plant", 1, "memory"))?;
        asker.ask(format!(
            r#"{{"type":"declare",{ID},"exchange":"readings","kind":"topic"}}"#
        ))?;
        let key = |number: u64| format!("area-{}.sensor-{number}", number % 100);
        let (before, mark) = (broker.settled_bytes(), broker.mark());
        let bind = |number| {
            let key = key(number);
            format!(r#"{{"type":"bind",{ID},"exchange":"readings","topic":"plant","routing_key":"{key}.#"}}"#)
        };
        asker.ask_all(IN_FLIGHT, (0..count).map(bind))?;
        metrics.push((BIND_MS, mark.ms_each(count)));
        metrics.push((BIND_US, broker.cpu_us_each(mark, count)));
        metrics.extend(bytes_each(BYTES, before, broker.settled_bytes(), count));
        let payload = "x".repeat(PAYLOAD_BYTES - 2);
        // Each goes another way than the one before, so that none is remembered.
        let publishes = |amount: u64| {
            let payload = &payload;
            (0..amount).map(move |place| {
                let key = key(place * 7919 % count);
                format!(
                    r#"{{"type":"publish",{ID},"exchange":"readings","routing_key":"{key}.temp-{place}","payload":"{payload}"}}"#
                )
            })
        };
        asker.ask_all(IN_FLIGHT, publishes(bench.work(PUBLISHES) / 4))?;
        let (mark, amount) = (broker.mark(), bench.work(PUBLISHES));
        asker.ask_all(IN_FLIGHT, publishes(amount))?;
        metrics.push((PUBLISH_US, broker.cpu_us_each(mark, amount)));
    }
    let broker = Broker::start(bench, &data)?;
    metrics.push((START_MS, broker.ready_after.as_secs_f64() * 1e3));
    Ok(metrics)
}
