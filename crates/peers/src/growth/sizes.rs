//! The size of a record.

use callboard_load::{
    Failure,
    broker::{Callboard, Durability},
    workload::Workload,
};

use super::{
    Bench,
    broker::{Broker, Data},
    curve::{Curve, Measure, Metrics},
    fanout::timing,
};

const MEMORY_MB: &str = "MB a CPU second, memory";
const FSYNC_MB: &str = "MB a CPU second, flushed";
const MEMORY_RECORDS: &str = "records a CPU second, memory";
const FSYNC_RECORDS: &str = "records a CPU second, flushed";
/// All that a publisher has under way may go out as one message, which has at most 1 MiB; and so many records.
const IN_FLIGHT_BYTES: u64 = 1 << 20;
const IN_FLIGHT_MAX: u64 = 256;
/// What a frame holds besides its payload, generously.
const FRAME_BYTES: u64 = 512;
const PUBLISHERS: usize = 4;
/// What is left of the largest frame for its payload.
const LARGEST: u64 = (1 << 20) - 1024;

pub(crate) const RECORD_SIZE: Curve = Curve {
    name: "record-size",
    title: "Size of a record",
    x: "payload bytes",
    sizes: &[16, 128, 1_024, 16_384, 131_072, LARGEST],
    quick_max: 131_072,
    measure: Measure::Each(measure),
    panels: &[
        ("MB a CPU second", &[MEMORY_MB, FSYNC_MB]),
        ("records a CPU second", &[MEMORY_RECORDS, FSYNC_RECORDS]),
    ],
};

fn measure(bench: &Bench, payload_bytes: u64) -> Result<Metrics, Failure> {
    let mut metrics = Vec::new();
    for (megabytes, records, durability) in [
        (MEMORY_MB, MEMORY_RECORDS, Durability::Memory),
        (FSYNC_MB, FSYNC_RECORDS, Durability::Fsync),
    ] {
        let data = Data::new(bench);
        let broker = Broker::start(bench, &data)?;
        let in_flight = (IN_FLIGHT_BYTES / (payload_bytes + FRAME_BYTES)).clamp(1, IN_FLIGHT_MAX);
        let workload = Workload::Ingest {
            publishers: PUBLISHERS,
            subscribers: 1,
            in_flight: in_flight as usize,
        };
        let timing = timing(bench, payload_bytes as usize);
        let figures = workload.measure(&Callboard::new(durability), &broker.server, timing)?;
        if let Some(per_cpu_s) = figures.per_server_cpu_s {
            metrics.push((megabytes, per_cpu_s * payload_bytes as f64 / 1e6));
            metrics.push((records, per_cpu_s));
        }
    }
    Ok(metrics)
}
