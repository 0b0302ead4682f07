//! One broker under measurement, and what it has used.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use callboard_load::{
    Failure, http,
    process::{Launch, Pinning, Ready, Server, fresh_directory},
};

use super::Bench;

/// How long a broker may take until all its topics can be used.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Memory counts as settled when it did not change for so long.
const SETTLE: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Memory of fewer things than this can not be told from chance.
const MEMORY_MIN: u64 = 100;

/// Bytes for each of `count` from one look at memory to the next; none where they would say nothing.
pub(crate) fn bytes_each(
    metric: &'static str,
    before: f64,
    after: f64,
    count: u64,
) -> Option<(&'static str, f64)> {
    (count >= MEMORY_MIN).then(|| (metric, (after - before) / count as f64))
}

/// A directory of data, removed in the end.
pub(crate) struct Data(PathBuf);

impl Data {
    pub(crate) fn new(bench: &Bench) -> Self {
        Self(fresh_directory(bench.data.as_deref()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A broker that runs.
pub(crate) struct Broker {
    pub server: Server,
    /// From its start until every topic could be used.
    pub ready_after: Duration,
}

/// What a broker has used, and since when.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    at: Instant,
    cpu: Duration,
    wake_ups: u64,
}

impl Broker {
    /// Starts one with one worker on `data`, and waits until it is ready.
    pub(crate) fn start(bench: &Bench, data: &Data) -> Result<Self, Failure> {
        Self::start_with(bench, data, 1, bench.pinning)
    }

    /// As [`Broker::start`], with so many workers.
    pub(crate) fn start_with(
        bench: &Bench,
        data: &Data,
        workers: u64,
        pinning: Pinning,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let words = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--workers",
            &workers.to_string(),
        ];
        let mut arguments: Vec<String> = words.map(str::to_owned).to_vec();
        arguments.extend(["--data".to_owned(), data.path().display().to_string()]);
        let server = Server::start(Launch {
            program: bench.callboard.clone(),
            arguments,
            environment: vec![("RUST_LOG".to_owned(), "error".to_owned())],
            directory: None,
            pinning,
            ready: Ready::Says,
        })?;
        let deadline = began + READY_TIMEOUT;
        while http::request("GET", &server.address, "/readyz")?.0 != 200 {
            if Instant::now() > deadline {
                return Err(Failure::new("the broker was not ready in time"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self {
            server,
            ready_after: began.elapsed(),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.server.address
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            cpu: self.server.usage().cpu,
            wake_ups: self.server.pid.map_or(0, wake_ups),
        }
    }

    /// Processor time since `mark`.
    pub(crate) fn cpu_since(&self, mark: Mark) -> Duration {
        self.server.usage().cpu.saturating_sub(mark.cpu)
    }

    /// Microseconds of processor for each of `count` since `mark`.
    pub(crate) fn cpu_us_each(&self, mark: Mark, count: u64) -> f64 {
        self.cpu_since(mark).as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// How often its threads were woken since `mark`, a second.
    pub(crate) fn wake_ups_per_s(&self, mark: Mark) -> f64 {
        let now = self.server.pid.map_or(0, wake_ups);
        now.saturating_sub(mark.wake_ups) as f64 / mark.at.elapsed().as_secs_f64()
    }

    /// Milliseconds of processor a second since `mark`.
    pub(crate) fn cpu_ms_per_s(&self, mark: Mark) -> f64 {
        self.cpu_since(mark).as_secs_f64() * 1e3 / mark.at.elapsed().as_secs_f64()
    }

    /// Resident memory once it no longer changes, bytes.
    pub(crate) fn settled_bytes(&self) -> f64 {
        let deadline = Instant::now() + SETTLE_MAX;
        let (mut last, mut since) = (self.server.usage().resident_bytes, Instant::now());
        while Instant::now() < deadline && since.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_millis(30));
            let now = self.server.usage().resident_bytes;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last as f64
    }
}

impl Mark {
    /// Wall-clock milliseconds since then, for each of `count`.
    pub(crate) fn ms_each(&self, count: u64) -> f64 {
        self.at.elapsed().as_secs_f64() * 1e3 / count.max(1) as f64
    }
}

/// How often the threads of a process have waited and gone on; 0 where the system does not say.
fn wake_ups(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let waits = threads.flatten().filter_map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse::<u64>().ok()
    });
    waits.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_waited_for_something() {
        let before = wake_ups(std::process::id());
        std::thread::sleep(Duration::from_millis(2));
        assert!(wake_ups(std::process::id()) > before);
    }
}
