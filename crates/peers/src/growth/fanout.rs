//! Subscribers of one topic.

use callboard_load::{
    Failure,
    broker::{Callboard, Durability},
    sample::Figures,
    workload::{Timing, Workload},
};

use super::{
    Bench,
    broker::{Broker, Data},
    curve::{Curve, Measure, Metrics},
};

const ALONE: &str = "CPU us a delivery, one record at a time";
const BATCHED: &str = "CPU us a delivery, 128 in flight";
const MEMORY: &str = "bytes a connection";

/// Memory of fewer connections than this can not be told from chance.
const MEMORY_MIN: u64 = 100;

pub(crate) const SUBSCRIBERS: Curve = Curve {
    name: "subscribers",
    title: "Subscribers of one topic",
    x: "subscribers",
    sizes: &[1, 10, 100, 1_000, 10_000],
    quick_max: 1_000,
    measure: Measure::Each(measure),
    panels: &[
        ("CPU us a delivery", &[ALONE, BATCHED]),
        ("bytes a connection", &[MEMORY]),
    ],
};

fn measure(bench: &Bench, subscribers: u64) -> Result<Metrics, Failure> {
    let count = usize::try_from(subscribers).map_err(|_| Failure::new("too many subscribers"))?;
    let mut metrics = Vec::new();
    for (metric, in_flight) in [(ALONE, 1), (BATCHED, 128)] {
        let figures = run(
            bench,
            Workload::Fanout {
                subscribers: count,
                in_flight,
            },
        )?;
        if let Some(per_cpu_s) = figures.per_server_cpu_s {
            metrics.push((metric, 1e6 / per_cpu_s));
        }
    }
    if subscribers >= MEMORY_MIN {
        let figures = run(bench, Workload::Idle { connections: count })?;
        metrics.extend(figures.idle_bytes_per_connection.map(|bytes| (MEMORY, bytes)));
    }
    Ok(metrics)
}

fn run(bench: &Bench, workload: Workload) -> Result<Figures, Failure> {
    let data = Data::new(bench);
    let broker = Broker::start(bench, &data)?;
    workload.measure(
        &Callboard::new(Durability::Memory),
        &broker.server,
        timing(bench, 128),
    )
}

/// A second and a half, of which a third runs before it is measured.
pub(crate) fn timing(bench: &Bench, payload_bytes: usize) -> Timing {
    Timing {
        warm_up: std::time::Duration::from_millis(bench.work(500)),
        duration: std::time::Duration::from_millis(bench.work(1_000)),
        payload_bytes,
    }
}
