//! `callboard pub`: records from arguments, files or standard input.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use callboard_client::{
    Ack, Client, ConnectOptions, Error, Event, Outcome, Publish, Published, Publisher, Reconnect,
    frame::RecordResult,
};
use callboard_protocol::{FrameId, PartitionId, Timestamp, json, time::parse_rfc3339};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{broadcast, mpsc};

use super::{
    Failure,
    address::ServerArgs,
    complain,
    input::{Format, Row, Source, field},
    table::thousands,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard pub --topic orders '{\"total\":12}'
  callboard pub --topic orders --key c42 '{\"total\":12}' '{\"total\":13}'
  callboard pub --topic stocks --key symbol --csv stocks.csv
  callboard pub --topic weather --key location --json weather.json
  callboard pub --exchange readings --routing-key plant.boiler.temp 21.5
  callboard pub --topic reminders --deliver-at 2026-11-20T08:00:00Z '{\"call\":\"Ada\"}'
  tail -f log.ndjson | callboard pub --topic log -

Every payload is JSON and passes byte for byte. A CSV row becomes an object: fields that are JSON
numbers stay the numbers they are, empty ones become null, all others strings.";

/// How many rows are read ahead of the connection.
const ROWS_AHEAD: usize = 1024;
/// Refusals beyond these are only counted.
const REFUSALS_SHOWN_MAX: u64 = 20;
/// Of so many records without acknowledgement the line is remembered.
const LINES_REMEMBERED: usize = 1 << 16;
/// Shorter files need no progress bar, bytes.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AckLevel {
    /// No answer; refusals are still reported
    None,
    /// Answered once it has an offset
    Accepted,
    /// Answered once it is as durable as its topic promises
    Durable,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    to: Destination,

    /// What the exchange routes the records by
    #[arg(long, value_name = "KEY", conflicts_with = "topic")]
    routing_key: Option<String>,

    /// Field of each record that it is routed by, with a file or standard input
    #[arg(
        long,
        value_name = "FIELD",
        requires = "exchange",
        conflicts_with = "routing_key"
    )]
    routing_key_field: Option<String>,

    /// JSON payloads; `-` or none reads one a line from standard input
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true, conflicts_with_all = ["file", "csv", "json"])]
    payloads: Vec<String>,

    /// File with one JSON value a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["csv", "json"])]
    file: Option<PathBuf>,

    /// CSV file with a header row; each row becomes an object
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    csv: Option<PathBuf>,

    /// File with one JSON array; each element becomes a record
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Key of the records; with a file or standard input the field to take it from
    #[arg(long, short, value_name = "KEY|FIELD")]
    key: Option<String>,

    /// Partition, whatever the key
    #[arg(long)]
    partition: Option<u32>,

    /// Header of every record; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,

    /// How long records live; 0 reaches only who is subscribed now
    #[arg(long, value_name = "MS")]
    ttl_ms: Option<u64>,

    /// Deliver the records so much later
    #[arg(long, value_name = "MS", conflicts_with = "deliver_at")]
    delay_ms: Option<u64>,

    /// Deliver the records at this time, as 2026-11-20T08:00:00Z; at once if it has passed
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    deliver_at: Option<Timestamp>,

    /// Field that names a record, so that a repeat is not stored again; unanswered records are then sent
    /// again after a lost connection
    #[arg(long, value_name = "FIELD")]
    message_id_field: Option<String>,

    /// When a record counts as published
    #[arg(long, value_enum, default_value = "durable")]
    ack: AckLevel,

    /// Most records without an answer
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,
}

/// Where the records go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Destination {
    /// Topic to publish to
    #[arg(long, short)]
    topic: Option<String>,

    /// Exchange to publish through
    #[arg(long, short)]
    exchange: Option<String>,
}

fn parse_moment(text: &str) -> Result<Timestamp, String> {
    parse_rfc3339(text).ok_or_else(|| "write it as 2026-11-20T08:00:00Z".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether `--key` is the key itself or the field to take it from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyMeaning {
    Key,
    Field,
}

impl PublishArgs {
    fn format(&self) -> Option<Format> {
        let reads_input = self.payloads.is_empty() || self.payloads == ["-"];
        match (&self.file, &self.csv, &self.json) {
            (Some(path), _, _) => Some(Format::Lines(path.clone())),
            (_, Some(path), _) => Some(Format::Csv(path.clone())),
            (_, _, Some(path)) => Some(Format::Array(path.clone())),
            (None, None, None) => reads_input.then(|| Format::Lines(PathBuf::from("-"))),
        }
    }

    /// The payload `text` with where it goes.
    fn addressed(&self, text: &str) -> Result<Publish, String> {
        let topic = self.to.topic.as_deref().unwrap_or_default();
        let record = Publish::json(topic, text).map_err(|error| error.to_string())?;
        let Some(exchange) = &self.to.exchange else {
            return Ok(record);
        };
        let routing_key = match (&self.routing_key, &self.routing_key_field) {
            (Some(key), _) => key.clone(),
            (None, Some(name)) => field(text, name)?.ok_or_else(|| format!("field {name} is null"))?,
            (None, None) => String::new(),
        };
        Ok(record.through(exchange, routing_key))
    }

    /// The record of one JSON text, or a sentence about why there is none.
    fn record(&self, text: &str, meaning: KeyMeaning) -> Result<Publish, String> {
        let mut record = self.addressed(text)?;
        record = record.with_ack(match self.ack {
            AckLevel::None => Ack::None,
            AckLevel::Accepted => Ack::Accepted,
            AckLevel::Durable => Ack::Durable,
        });
        let key = match (&self.key, meaning) {
            (None, _) => None,
            (Some(key), KeyMeaning::Key) => Some(key.clone()),
            (Some(name), KeyMeaning::Field) => field(text, name)?,
        };
        if let Some(key) = key {
            record = record.with_key(key);
        }
        if let Some(name) = &self.message_id_field {
            record =
                record.with_message_id(field(text, name)?.ok_or_else(|| format!("field {name} is null"))?);
        }
        if let Some(partition) = self.partition {
            record = record.with_partition(PartitionId(partition));
        }
        if let Some(ttl_ms) = self.ttl_ms {
            record = record.with_ttl_ms(ttl_ms);
        }
        if let Some(delay_ms) = self.delay_ms {
            record = record.with_delay(Duration::from_millis(delay_ms));
        }
        if let Some(moment) = self.deliver_at {
            record = record.with_deliver_at(moment);
        }
        for (name, value) in &self.headers {
            record = record.with_header(name, value);
        }
        Ok(record)
    }
}

/// A record on its way from the input to the connection.
struct Prepared {
    line: u64,
    record: Result<Publish, String>,
}

/// Publishes everything and says how it went.
///
/// # Errors
/// [`Failure::Reported`] if a record was refused, others if nothing could be done.
pub(crate) async fn run(args: PublishArgs) -> Result<(), Failure> {
    let args = Arc::new(args);
    let reconnect = if args.message_id_field.is_some() {
        Reconnect::default()
    } else {
        Reconnect::Never
    };
    let options = ConnectOptions {
        reconnect,
        ..ConnectOptions::default()
    };
    let (rows, progress) = open(&args)?;
    let url = args.server.web_socket()?;
    let client = Client::connect(&url, options)
        .await
        .map_err(|error| args.server.hint(&error))?;
    let mut sending = Sending {
        events: client.events(),
        publisher: client.publisher(usize::from(args.in_flight)),
        lines: VecDeque::new(),
        unacknowledged: VecDeque::new(),
        tally: Tally::default(),
        progress,
    };
    let started_at = Instant::now();
    let outcome = sending.send_all(rows).await;
    let mut tally = sending.finish(&client).await;
    client.close().await;
    if let Err(reason) = outcome {
        tally.failed += 1;
        complain(&reason);
    }
    tally.summary(started_at.elapsed())
}

/// Opens the input and starts a thread that reads it, so that a slow disk or terminal stops nothing else.
fn open(args: &Arc<PublishArgs>) -> Result<(mpsc::Receiver<Result<Prepared, String>>, ProgressBar), Failure> {
    let (sender, rows) = mpsc::channel(ROWS_AHEAD);
    let Some(format) = args.format() else {
        let args = Arc::clone(args);
        for payload in &args.payloads {
            if let Err(error) = json::check(payload) {
                let hint = serde_json::to_string(payload).unwrap_or_default();
                return Err(Failure::Usage(format!(
                    "{payload} is {error}; a text is written as '{hint}'"
                )));
            }
        }
        std::thread::spawn(move || {
            for (payload, line) in args.payloads.iter().zip(1..) {
                let record = args.record(payload, KeyMeaning::Key);
                if sender.blocking_send(Ok(Prepared { line, record })).is_err() {
                    return;
                }
            }
        });
        return Ok((rows, ProgressBar::hidden()));
    };
    let source = Source::open(format)?;
    let progress = progress_bar(&source);
    let args = Arc::clone(args);
    std::thread::spawn(move || {
        for row in source.rows() {
            let prepared = row.map(|Row { line, json }| Prepared {
                line,
                record: json.and_then(|text| args.record(&text, KeyMeaning::Field)),
            });
            if sender.blocking_send(prepared).is_err() {
                return;
            }
        }
    });
    Ok((rows, progress))
}

fn progress_bar(source: &Source) -> ProgressBar {
    let Some(total) = source.bytes_total.filter(|&total| total >= PROGRESS_BYTES_MIN) else {
        return ProgressBar::hidden();
    };
    // Hidden by the library itself where standard error is no terminal.
    let bar = ProgressBar::new(total);
    let style =
        ProgressStyle::with_template("{bar:32} {percent:>3}%  {bytes}/{total_bytes}  {msg}  {eta} left");
    bar.set_style(style.expect("the template is a constant that works"));
    let read = Arc::clone(&source.bytes_read);
    let watched = bar.downgrade();
    std::thread::spawn(move || {
        while let Some(bar) = watched.upgrade() {
            bar.set_position(read.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    bar
}

#[derive(Default)]
struct Tally {
    published: u64,
    duplicates: u64,
    failed: u64,
}

impl Tally {
    fn refuse(&mut self, progress: &ProgressBar, line: Option<u64>, reason: &str) {
        self.failed += 1;
        let place = line
            .map(|line| format!("record at line {line}: "))
            .unwrap_or_default();
        if self.failed <= REFUSALS_SHOWN_MAX {
            progress.suspend(|| complain(&format!("{place}{reason}")));
        } else if self.failed == REFUSALS_SHOWN_MAX + 1 {
            progress.suspend(|| complain("more records were refused; they are counted below"));
        }
    }

    fn summary(&self, elapsed: Duration) -> Result<(), Failure> {
        let seconds = elapsed.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for a person"
        )]
        let rate = (self.published as f64 / seconds.max(1e-6)) as u64;
        let mut text = format!(
            "published {} records in {seconds:.2} s ({} records/s)",
            thousands(self.published),
            thousands(rate)
        );
        if self.duplicates > 0 {
            text.push_str(&format!(
                ", {} of them were there already",
                thousands(self.duplicates)
            ));
        }
        if self.failed > 0 {
            text.push_str(&format!(", {} refused", thousands(self.failed)));
        }
        complain(&text);
        if self.failed > 0 {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

/// Prints what a record that is to be delivered later can be cancelled by, one line a topic.
fn print_schedules(published: &Published) {
    let alone = published.scheduled.as_deref().zip(published.deliver_at);
    let routed = published.routes.iter().filter_map(|route| match &route.result {
        RecordResult::Scheduled(scheduled) => {
            Some((Some(&*route.topic), &*scheduled.id, scheduled.deliver_at))
        }
        _ => None,
    });
    let alone = alone.map(|(id, deliver_at)| (None, id, deliver_at));
    for (topic, scheduled, deliver_at) in alone.into_iter().chain(routed) {
        let mut line = serde_json::json!({ "scheduled": scheduled, "deliver_at": deliver_at });
        if let Some(topic) = topic {
            line["topic"] = topic.into();
        }
        // The record is kept whether or not somebody reads this.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

struct Sending {
    publisher: Publisher,
    events: broadcast::Receiver<Event>,
    /// Lines of the records in flight, oldest first.
    lines: VecDeque<u64>,
    /// Frame ids and lines of records that get no answer, newest last.
    unacknowledged: VecDeque<(u64, u64)>,
    tally: Tally,
    progress: ProgressBar,
}

impl Sending {
    /// Sends until the input ends; an error says why it ended early.
    async fn send_all(&mut self, mut rows: mpsc::Receiver<Result<Prepared, String>>) -> Result<(), String> {
        loop {
            let prepared = match rows.try_recv() {
                Ok(prepared) => prepared,
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
                // With nothing to send it is time to look at answers.
                Err(mpsc::error::TryRecvError::Empty) if self.publisher.in_flight() > 0 => {
                    self.settle_oldest().await?;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Empty) => match rows.recv().await {
                    Some(prepared) => prepared,
                    None => return Ok(()),
                },
            };
            let Prepared { line, record } = prepared?;
            match record {
                Ok(record) => {
                    self.lines.push_back(line);
                    if let Some(outcome) = self.publisher.publish(&record).await {
                        self.settle(outcome)?;
                    }
                }
                Err(reason) => self.tally.refuse(&self.progress, Some(line), &reason),
            }
            self.take_events();
        }
    }

    async fn settle_oldest(&mut self) -> Result<(), String> {
        match self.publisher.next_outcome().await {
            Some(outcome) => self.settle(outcome),
            None => Ok(()),
        }
    }

    fn settle(&mut self, outcome: Result<Outcome, Error>) -> Result<(), String> {
        let line = self.lines.pop_front();
        match outcome {
            Ok(Outcome::Published(published)) => {
                self.tally.published += 1;
                self.tally.duplicates += u64::from(published.duplicate);
                print_schedules(&published);
            }
            Ok(Outcome::Sent { id }) => {
                self.tally.published += 1;
                self.unacknowledged.push_back((id, line.unwrap_or(0)));
                if self.unacknowledged.len() > LINES_REMEMBERED {
                    self.unacknowledged.pop_front();
                }
            }
            Err(Error::Closed) => return Err("the connection is gone; the rest was not sent".to_owned()),
            Err(error) => self.tally.refuse(&self.progress, line, &error.to_string()),
        }
        if self.tally.published.is_multiple_of(1024) {
            self.progress
                .set_message(format!("{} records", thousands(self.tally.published)));
        }
        Ok(())
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            let Event::Refused(error) = event else { continue };
            let Some(FrameId::Number(id)) = error.id else {
                continue;
            };
            let place = self.unacknowledged.binary_search_by_key(&id, |&(id, _)| id);
            self.tally.published = self.tally.published.saturating_sub(1);
            let line = place.ok().map(|place| self.unacknowledged[place].1);
            self.tally.refuse(&self.progress, line, &error.to_string());
        }
    }

    /// Waits for what is still in flight.
    async fn finish(mut self, client: &Client) -> Tally {
        while self.publisher.in_flight() > 0 {
            // After a lost connection each record in flight says so itself.
            if let Err(reason) = self.settle_oldest().await {
                self.tally.refuse(&self.progress, None, &reason);
            }
        }
        if !self.unacknowledged.is_empty() && client.ping().await.is_err() {
            self.tally.refuse(
                &self.progress,
                None,
                "the connection was lost; the last records may not have arrived",
            );
        }
        self.take_events();
        self.progress.finish_and_clear();
        self.tally
    }
}
