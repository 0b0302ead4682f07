//! What one run came to.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::generator::Measured;

/// Microseconds from when a record should have been sent to when a subscriber had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Percentiles {
    /// Those of `histogram`, which counts nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1_000.0,
        }
    }
}

/// From a microsecond to a minute, in nanoseconds, three digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are constants that work")
}

/// One run of one scenario on one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    pub scenario: String,
    /// The scenario that was measured beside it, turn by turn, to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// The server.
    pub target: String,
    pub run: usize,
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    pub seconds: f64,
    /// Deliveries, records or settled records in the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_server_cpu_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_s: Option<f64>,
    pub server_cpu_s: f64,
    pub load_cpu_s: f64,
    pub resident_bytes: u64,
    pub proportional_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Percentiles>,
    /// Records of an open loop that never came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Resident memory a connection, before anything was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_bytes_per_connection: Option<f64>,
    /// The same after every connection got a burst and was quiet again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_burst_bytes_per_connection: Option<f64>,
    /// Where some read slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
}

/// What became of subscribers that read slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    pub sockets: u64,
    /// The server closed their connections.
    pub cut_off: u64,
    /// Records that they had not got when the last one was published.
    pub behind: u64,
    /// Records that they did not get when they read on at full speed.
    pub lost: u64,
}

impl Figures {
    /// The clocks and the memory of a measured window.
    pub fn of(measured: &Measured) -> Self {
        Self {
            seconds: measured.elapsed.as_secs_f64(),
            server_cpu_s: measured.server_cpu.as_secs_f64(),
            load_cpu_s: measured.load_cpu.as_secs_f64(),
            resident_bytes: measured.memory.resident_bytes,
            proportional_bytes: measured.memory.proportional_bytes,
            ..Self::default()
        }
    }

    /// The same, and what was done in it.
    pub fn counted(measured: &Measured, count: u64) -> Self {
        let figures = Self::of(measured);
        let per = |seconds: f64| (seconds > 0.0).then(|| count as f64 / seconds);
        Self {
            count: Some(count),
            per_s: per(figures.seconds),
            per_server_cpu_s: per(figures.server_cpu_s),
            ..figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_is_charged_to_every_record_that_it_held_up() {
        // One record a millisecond for a second; the server stands still for the first half of it.
        let mut histogram = new_histogram();
        for place in 0..1000_u64 {
            let due_ms = place;
            let came_ms = due_ms.max(500);
            histogram.saturating_record((came_ms - due_ms).max(1) * 1_000_000);
        }
        let found = Percentiles::of(&histogram);
        // Counting one late record only would put the 90th percentile at a millisecond.
        assert!((found.p90_us / 1000.0 - 400.0).abs() < 5.0, "{found:?}");
        assert!((found.max_us / 1000.0 - 500.0).abs() < 5.0, "{found:?}");
    }
}
