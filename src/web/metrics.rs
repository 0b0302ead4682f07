//! `/metrics`: what an operator watches, in the text format of OpenMetrics.
//!
//! Everything is read when it is asked for; nothing here is on a record's way.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    actors::{
        Shared,
        gateway::{self, SessionInfo, webhooks::WebhookInfo},
        push::NoticeCounts,
    },
    web::problem::Problem,
};

/// Topics that get series of their own; with more of them only the sums are given, because every series
/// costs the one who collects.
const TOPICS_MAX: usize = 1000;
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What this process counts by itself.
#[derive(Debug)]
pub struct Telemetry {
    started: Instant,
    answers: [AtomicU64; CLASSES.len()],
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            answers: Default::default(),
        }
    }
}

impl Telemetry {
    /// Counts an answer.
    pub fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.answers[class - 1].fetch_add(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`
pub async fn metrics(shared: Data<Shared>, telemetry: Data<Telemetry>) -> Result<HttpResponse, Problem> {
    let sessions = gateway::sessions(&shared).await;
    let snapshot = Snapshot {
        shared: shared.into_inner(),
        telemetry: telemetry.into_inner(),
        sessions,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to memory does not fail");
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

struct Snapshot {
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
    sessions: Vec<SessionInfo>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// What one topic has.
struct TopicNumbers {
    name: String,
    partitions: u64,
    records: u64,
    bytes: u64,
    kept_bytes: u64,
    scheduled: u64,
    lag: BTreeMap<String, u64>,
}

impl Snapshot {
    fn topics(&self) -> Vec<TopicNumbers> {
        let topic = |topic: &Arc<crate::actors::directory::Topic>| {
            let mut numbers = TopicNumbers {
                name: topic.name.to_string(),
                partitions: 0,
                records: 0,
                bytes: 0,
                kept_bytes: 0,
                scheduled: gateway::schedules::count(topic),
                lag: gateway::lag(topic),
            };
            for part in topic.partitions().iter() {
                let (records, bytes) = part.meter.totals();
                numbers.partitions += 1;
                numbers.records += records;
                numbers.bytes += bytes;
                numbers.kept_bytes += part.log().map_or(0, |log| log.bytes());
            }
            numbers
        };
        self.shared.directory.all().iter().map(topic).collect()
    }

    fn process(&self, series: &mut Series<'_>) -> fmt::Result {
        let uptime = self.telemetry.started.elapsed().as_secs_f64();
        series.gauge(
            "callboard_uptime_seconds",
            "Time since the broker started",
            uptime,
        )?;
        let ready = i64::from(self.shared.is_ready());
        series.gauge("callboard_ready", "1 when every topic can be used", ready)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        series.family(
            "callboard_build_info",
            "The version that runs",
            MetricType::Gauge,
            |encoder| ConstGauge::new(1_i64).encode(encoder.encode_family(&version)?),
        )?;
        let help = "Answers to HTTP requests by class of status";
        series.family("callboard_http_answers", help, MetricType::Counter, |encoder| {
            for (class, count) in CLASSES.iter().zip(&self.telemetry.answers) {
                let label = [("class", *class)];
                let count = ConstCounter::new(count.load(Ordering::Relaxed));
                count.encode(encoder.encode_family(&label)?)?;
            }
            Ok(())
        })?;
        if let Some(usage) = usage() {
            let help = "Processor time of this process, user and system";
            series.counter("process_cpu_seconds", help, usage.cpu_seconds)?;
            let help = "Memory of this process that is resident";
            series.gauge("process_resident_memory_bytes", help, usage.resident_bytes as f64)?;
            let help = "Open files and sockets of this process";
            series.gauge("process_open_fds", help, usage.open_files as f64)?;
        }
        Ok(())
    }

    fn connected(&self, series: &mut Series<'_>) -> fmt::Result {
        let sum = |of: fn(&SessionInfo) -> usize| self.sessions.iter().map(of).sum::<usize>() as f64;
        let count = self.sessions.len() as f64;
        series.gauge("callboard_sessions", "WebSocket sessions", count)?;
        let help = "Subscribed partitions that sessions read from the log because they are slower";
        series.gauge(
            "callboard_session_partitions_behind",
            help,
            sum(|session| session.behind),
        )?;
        let help = "Bytes that wait for the sockets of sessions";
        series.gauge(
            "callboard_session_buffered_bytes",
            help,
            sum(|session| session.buffered_bytes),
        )?;
        let help = "Bytes of records of sessions that wait to be stored";
        series.gauge(
            "callboard_session_in_flight_bytes",
            help,
            sum(|session| session.in_flight_bytes),
        )
    }

    fn stored(&self, series: &mut Series<'_>) -> fmt::Result {
        let topics = self.topics();
        // What comes in by itself, when somebody only connects, would hide what clients send.
        let own = |topic: &&TopicNumbers| !topic.name.starts_with('$');
        let sum = |of: fn(&TopicNumbers) -> u64| topics.iter().filter(own).map(of).sum::<u64>();
        let count = topics.iter().filter(own).count();
        let help = "Topics without the broker's own, which begin with $";
        series.gauge("callboard_topics", help, count as f64)?;
        series.gauge(
            "callboard_partitions",
            "Partitions of these topics",
            sum(|topic| topic.partitions) as f64,
        )?;
        series.gauge(
            "callboard_scheduled_records",
            "Records that are due later",
            sum(|topic| topic.scheduled) as f64,
        )?;
        let (gone_records, gone_bytes) = self.shared.directory.gone_totals();
        let records = gone_records + sum(|topic| topic.records);
        series.counter("callboard_records_in", "Records that came in", records)?;
        let bytes = gone_bytes + sum(|topic| topic.bytes);
        series.counter(
            "callboard_record_bytes_in",
            "Bytes of records that came in",
            bytes,
        )?;
        let kept = topics.iter().map(|topic| topic.kept_bytes).sum::<u64>() as f64;
        let help = "Bytes of records that are kept, also in the broker's own topics";
        series.gauge("callboard_kept_bytes", help, kept)?;
        if topics.len() <= TOPICS_MAX {
            by_topic(series, &topics)?;
            by_group(series, &topics)?;
        }
        Ok(())
    }
}

fn by_topic(series: &mut Series<'_>, topics: &[TopicNumbers]) -> fmt::Result {
    let mut each = |name, help, kind, of: fn(&TopicNumbers) -> u64| {
        series.family(name, help, kind, |encoder| {
            for topic in topics {
                let label = [("topic", topic.name.as_str())];
                let encoder = encoder.encode_family(&label)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(of(topic)).encode(encoder)?,
                    _ => ConstGauge::new(of(topic) as f64).encode(encoder)?,
                }
            }
            Ok(())
        })
    };
    let counter = MetricType::Counter;
    each(
        "callboard_topic_records_in",
        "Records that came into a topic",
        counter,
        |topic| topic.records,
    )?;
    let help = "Bytes of records that came into a topic";
    each("callboard_topic_record_bytes_in", help, counter, |topic| {
        topic.bytes
    })?;
    let help = "Bytes of records that a topic keeps";
    each("callboard_topic_kept_bytes", help, MetricType::Gauge, |topic| {
        topic.kept_bytes
    })
}

fn by_group(series: &mut Series<'_>, topics: &[TopicNumbers]) -> fmt::Result {
    let help = "Records that a group has not finished";
    series.family(
        "callboard_group_lag_records",
        help,
        MetricType::Gauge,
        |encoder| {
            for topic in topics {
                for (group, lag) in &topic.lag {
                    let labels = [("topic", topic.name.as_str()), ("group", group)];
                    let encoder = encoder.encode_family(&labels)?;
                    ConstGauge::new(*lag as f64).encode(encoder)?;
                }
            }
            Ok(())
        },
    )
}

/// There are never so many webhooks that series of their own would cost too much.
fn webhooks(series: &mut Series<'_>, all: &[WebhookInfo]) -> fmt::Result {
    let help = "Webhooks by state";
    series.family("callboard_webhooks", help, MetricType::Gauge, |encoder| {
        for state in ["active", "paused", "disabled"] {
            let count = all.iter().filter(|webhook| webhook.state == state).count();
            let label = [("state", state)];
            ConstGauge::new(count as f64).encode(encoder.encode_family(&label)?)?;
        }
        Ok(())
    })?;
    let help = "Calls of webhooks that have ended";
    series.family("callboard_webhook_calls", help, MetricType::Counter, |encoder| {
        for webhook in all {
            for (outcome, count) in [("success", webhook.succeeded), ("failure", webhook.failed)] {
                let labels = [
                    ("webhook", webhook.id.as_str()),
                    ("topic", &webhook.topic),
                    ("group", &webhook.group),
                    ("outcome", outcome),
                ];
                ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    })
}

fn notices(series: &mut Series<'_>, counts: NoticeCounts) -> fmt::Result {
    let help = "Notices by URL that wait or are under way";
    series.gauge("callboard_notices_waiting", help, counts.waiting as f64)?;
    let help = "Notices by URL that have come to an end";
    series.family("callboard_notices", help, MetricType::Counter, |encoder| {
        for (outcome, count) in [
            ("delivered", counts.delivered),
            ("failed", counts.failed),
            ("dropped", counts.dropped),
        ] {
            let label = [("outcome", outcome)];
            ConstCounter::new(count).encode(encoder.encode_family(&label)?)?;
        }
        Ok(())
    })
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut series = Series(encoder);
        self.process(&mut series)?;
        self.connected(&mut series)?;
        self.stored(&mut series)?;
        webhooks(&mut series, &gateway::webhooks::list(&self.shared))?;
        notices(&mut series, self.shared.push().notice_counts())
    }
}

/// Writes one series after another.
struct Series<'a>(DescriptorEncoder<'a>);

impl Series<'_> {
    fn gauge<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn counter<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
    {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }
}

struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_files: usize,
}

/// What the system says of this process; `None` where it does not say it this way.
///
/// Source: proc(5), `/proc/self/stat` and `/proc/self/statm`.
fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, which may have spaces; it ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf only reads a constant of the system.
    let (ticks, page_bytes) = unsafe {
        (
            libc::sysconf(libc::_SC_CLK_TCK),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    Some(Usage {
        cpu_seconds: (user + system) as f64 / ticks as f64,
        resident_bytes: pages * page_bytes as u64,
        open_files: std::fs::read_dir("/proc/self/fd").ok()?.count(),
    })
}
