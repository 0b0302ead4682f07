//! What is kept on disk while the broker starts.

use callboard_load::Failure;

use super::{
    Bench,
    asker::{Asker, ID, declare, publish},
    broker::{Broker, Data},
    curve::{Curve, Measure, Point},
};

const START_MS: &str = "ms until a start is ready";
const START_CPU_MS: &str = "CPU ms of a start";
const RESIDENT: &str = "MiB after a start";
const FETCH_MS: &str = "ms to fetch from the middle";
const FILL: &str = "MB a CPU second while it fills";

/// Large records, so that ten gigabytes come in a minute. What a start has to do does not depend on how many there are.
const RECORD_BYTES: u64 = 1_000_000;
const IN_FLIGHT: usize = 16;

pub(crate) const BACKLOG: Curve = Curve {
    name: "backlog",
    title: "Backlog on disk",
    x: "MB kept",
    sizes: &[1, 100, 1_000, 10_000],
    quick_max: 100,
    measure: Measure::Growing(measure),
    panels: &[
        ("ms", &[START_MS, START_CPU_MS, FETCH_MS]),
        ("MiB after a start", &[RESIDENT]),
    ],
};

fn measure(bench: &Bench, sizes: &[u64]) -> Result<Vec<Point>, Failure> {
    let data = Data::new(bench);
    let mut broker = Broker::start(bench, &data)?;
    Asker::open(broker.address())?.ask(declare("backlog", 1, "os"))?;
    let (mut kept, mut points) = (0, Vec::new());
    for megabytes in sizes {
        let records = megabytes * 1_000_000 / RECORD_BYTES;
        let mark = broker.mark();
        let frames = (kept..records).map(|_| publish("backlog", RECORD_BYTES as usize));
        Asker::open(broker.address())?.ask_all(IN_FLIGHT, frames)?;
        let added = (records - kept) * RECORD_BYTES;
        let fill = added as f64 / 1e6 / broker.cpu_since(mark).as_secs_f64();
        kept = records;
        drop(broker);
        broker = Broker::start(bench, &data)?;
        let mut metrics = vec![(START_MS, broker.ready_after.as_secs_f64() * 1e3)];
        metrics.push((START_CPU_MS, broker.server.usage().cpu.as_secs_f64() * 1e3));
        metrics.push((RESIDENT, broker.settled_bytes() / f64::from(1 << 20)));
        let mut asker = Asker::open(broker.address())?;
        let (mark, middle) = (broker.mark(), records / 2);
        let fetch =
            format!(r#"{{"type":"fetch",{ID},"topic":"backlog","partition":0,"offset":{middle},"limit":1}}"#);
        asker.ask(fetch)?;
        metrics.push((FETCH_MS, mark.ms_each(1)));
        metrics.push((FILL, fill));
        points.push((*megabytes, metrics));
    }
    Ok(points)
}
