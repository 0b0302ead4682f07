//! Topics, and partitions of one topic.

use callboard_load::Failure;

use super::{
    Bench,
    asker::{Asker, ID, declare, publish},
    broker::{Broker, Data, bytes_each},
    curve::{Curve, Measure, Metrics},
};

const CREATE_MS: &str = "ms to create one";
const CREATE_US: &str = "CPU us to create one";
const PUBLISH_US: &str = "CPU us a publish";
const BYTES: &str = "bytes each";
const START_MS: &str = "ms until a start is ready";
const START_MIB: &str = "MiB after a start";
const FOLLOW_US: &str = "CPU us to subscribe";
const FOLLOW_BYTES: &str = "bytes a subscription";

/// Publishes that are measured.
const PUBLISHES: u64 = 40_000;
const IN_FLIGHT: usize = 256;
const PAYLOAD_BYTES: usize = 128;
/// Sessions that follow the topic with many partitions.
const FOLLOWERS: u64 = 100;

pub(crate) const TOPICS: Curve = Curve {
    name: "topics",
    title: "Topics",
    x: "topics",
    sizes: &[1, 10, 100, 1_000, 10_000],
    quick_max: 1_000,
    measure: Measure::Each(topics),
    panels: &[
        ("CPU us", &[PUBLISH_US, CREATE_US]),
        ("ms", &[CREATE_MS, START_MS]),
        ("bytes a topic", &[BYTES]),
    ],
};

pub(crate) const PARTITIONS: Curve = Curve {
    name: "partitions",
    title: "Partitions of one topic",
    x: "partitions",
    sizes: &[1, 10, 100, 1_000],
    quick_max: 100,
    measure: Measure::Each(partitions),
    panels: &[
        ("CPU us", &[PUBLISH_US, FOLLOW_US]),
        ("ms", &[START_MS]),
        ("bytes", &[BYTES, FOLLOW_BYTES]),
    ],
};

fn topics(bench: &Bench, count: u64) -> Result<Metrics, Failure> {
    let data = Data::new(bench);
    let mut metrics = Vec::new();
    {
        let broker = Broker::start(bench, &data)?;
        let mut asker = Asker::open(broker.address())?;
        let (before, mark) = (broker.settled_bytes(), broker.mark());
        asker.ask_all(
            IN_FLIGHT,
            (0..count).map(|number| declare(&name(number), 1, "fsync")),
        )?;
        metrics.push((CREATE_MS, mark.ms_each(count)));
        metrics.push((CREATE_US, broker.cpu_us_each(mark, count)));
        metrics.extend(bytes_each(BYTES, before, broker.settled_bytes(), count));
        let publishes = |amount: u64| (0..amount).map(|place| publish(&name(place % count), PAYLOAD_BYTES));
        // Every topic has had a record before it counts.
        asker.ask_all(IN_FLIGHT, publishes(count.max(bench.work(PUBLISHES) / 4)))?;
        let (mark, amount) = (broker.mark(), bench.work(PUBLISHES));
        asker.ask_all(IN_FLIGHT, publishes(amount))?;
        metrics.push((PUBLISH_US, broker.cpu_us_each(mark, amount)));
    }
    metrics.extend(started(bench, &data)?);
    Ok(metrics)
}

/// Two words, as topics have that belong together.
fn name(number: u64) -> String {
    format!("area-{}.sensor-{number}", number % 100)
}

/// What a start on data that is there takes.
fn started(bench: &Bench, data: &Data) -> Result<Metrics, Failure> {
    let broker = Broker::start(bench, data)?;
    let ready_ms = broker.ready_after.as_secs_f64() * 1e3;
    Ok(vec![
        (START_MS, ready_ms),
        (START_MIB, broker.settled_bytes() / f64::from(1 << 20)),
    ])
}

fn partitions(bench: &Bench, count: u64) -> Result<Metrics, Failure> {
    let data = Data::new(bench);
    let mut metrics = Vec::new();
    {
        let broker = Broker::start(bench, &data)?;
        let mut asker = Asker::open(broker.address())?;
        let (before, mark) = (broker.settled_bytes(), broker.mark());
        asker.ask(declare("many", count, "fsync"))?;
        metrics.push((CREATE_US, broker.cpu_us_each(mark, count)));
        metrics.extend(bytes_each(BYTES, before, broker.settled_bytes(), count));
        let publishes = |amount: u64| (0..amount).map(|_| publish("many", PAYLOAD_BYTES));
        asker.ask_all(IN_FLIGHT, publishes(count.max(bench.work(PUBLISHES) / 4)))?;
        let (mark, amount) = (broker.mark(), bench.work(PUBLISHES));
        asker.ask_all(IN_FLIGHT, publishes(amount))?;
        metrics.push((PUBLISH_US, broker.cpu_us_each(mark, amount)));
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            followers.push(Asker::open(broker.address())?);
        }
        let (before, mark) = (broker.settled_bytes(), broker.mark());
        for follower in &mut followers {
            follower.ask(format!(r#"{{"type":"subscribe",{ID},"topic":"many"}}"#))?;
        }
        metrics.push((FOLLOW_US, broker.cpu_us_each(mark, FOLLOWERS)));
        metrics.extend(bytes_each(
            FOLLOW_BYTES,
            before,
            broker.settled_bytes(),
            FOLLOWERS,
        ));
    }
    metrics.extend(started(bench, &data)?);
    Ok(metrics)
}
