//! A broker that nobody asks anything.

use std::time::{Duration, Instant};

use callboard_load::Failure;

use super::{
    Bench,
    asker::{Asker, ID, declare, publish},
    broker::{Broker, Data},
    curve::{Curve, Measure, Metrics},
};

const CPU: &str = "CPU ms a second";
const WAKE_UPS: &str = "wake-ups a second";
const RESIDENT: &str = "MiB";

const IN_FLIGHT: usize = 256;
/// A connection for so many topics, each following one of them.
const TOPICS_PER_CONNECTION: u64 = 10;
/// After the last thing was done: what was written is flushed and looked at by then.
const CALM: Duration = Duration::from_secs(12);
/// Longer than the heartbeat of 15 s, so that each connection gets its ping.
const WINDOW: Duration = Duration::from_secs(20);

pub(crate) const QUIET: Curve = Curve {
    name: "quiet",
    title: "A quiet broker: topics with a record each, and a connection for every ten",
    x: "topics",
    sizes: &[10, 100, 1_000, 10_000],
    quick_max: 1_000,
    measure: Measure::Each(measure),
    panels: &[("CPU ms a second", &[CPU]), ("wake-ups a second", &[WAKE_UPS])],
};

fn measure(bench: &Bench, topics: u64) -> Result<Metrics, Failure> {
    let data = Data::new(bench);
    let broker = Broker::start(bench, &data)?;
    let mut asker = Asker::open(broker.address())?;
    let name = |number: u64| format!("area-{}.sensor-{number}", number % 100);
    asker.ask_all(
        IN_FLIGHT,
        (0..topics).map(|number| declare(&name(number), 1, "fsync")),
    )?;
    asker.ask_all(IN_FLIGHT, (0..topics).map(|number| publish(&name(number), 128)))?;
    let mut connections = Vec::new();
    for number in (0..topics).step_by(TOPICS_PER_CONNECTION as usize) {
        let mut connection = Asker::open(broker.address())?;
        let topic = name(number);
        connection.ask(format!(r#"{{"type":"subscribe",{ID},"topic":"{topic}"}}"#))?;
        connections.push(connection);
    }
    let calm = Instant::now() + if bench.quick { CALM / 4 } else { CALM };
    std::thread::sleep(calm.saturating_duration_since(Instant::now()));
    let mark = broker.mark();
    std::thread::sleep(if bench.quick { WINDOW / 10 } else { WINDOW });
    Ok(vec![
        (CPU, broker.cpu_ms_per_s(mark)),
        (WAKE_UPS, broker.wake_ups_per_s(mark)),
        (RESIDENT, broker.settled_bytes() / f64::from(1 << 20)),
    ])
}
