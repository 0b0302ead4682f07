//! Worker threads.

use callboard_load::{
    Failure,
    broker::{Callboard, Durability},
    process::Pinning,
    workload::Workload,
};

use super::{
    Bench,
    broker::{Broker, Data},
    curve::{Curve, Measure, Metrics},
    fanout::timing,
};

const INGEST: &str = "CPU us a publish, 8 partitions";
const FANOUT: &str = "CPU us a delivery, 1000 subscribers";
const INGEST_PER_S: &str = "publishes a second, 8 partitions";
const FANOUT_PER_S: &str = "deliveries a second, 1000 subscribers";

pub(crate) const CORES: Curve = Curve {
    name: "cores",
    title: "Worker threads, on two cores that the load shares",
    x: "workers",
    sizes: &[1, 2],
    quick_max: 2,
    measure: Measure::Each(measure),
    panels: &[
        ("CPU us", &[INGEST, FANOUT]),
        ("a second", &[INGEST_PER_S, FANOUT_PER_S]),
    ],
};

fn measure(bench: &Bench, workers: u64) -> Result<Metrics, Failure> {
    let ingest = Workload::Ingest {
        publishers: 8,
        subscribers: 1,
        in_flight: 256,
    };
    let fanout = Workload::Fanout {
        subscribers: 1_000,
        in_flight: 128,
    };
    let mut metrics = Vec::new();
    for (cpu_us, per_s, workload, partitions) in [
        (INGEST, INGEST_PER_S, ingest, 8),
        (FANOUT, FANOUT_PER_S, fanout, 1),
    ] {
        let data = Data::new(bench);
        // Not pinned: it is to use what there is.
        let broker = Broker::start_with(bench, &data, workers, Pinning::Off)?;
        let dialect = Callboard {
            partitions,
            ..Callboard::new(Durability::Memory)
        };
        let figures = workload.measure(&dialect, &broker.server, timing(bench, 128))?;
        metrics.extend(
            figures
                .per_server_cpu_s
                .map(|per_cpu_s| (cpu_us, 1e6 / per_cpu_s)),
        );
        metrics.extend(figures.per_s.map(|done| (per_s, done)));
    }
    Ok(metrics)
}
