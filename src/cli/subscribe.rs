//! `callboard sub`: the records of a topic or a pattern, on standard output.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write as _},
    time::Duration,
};

use callboard_client::{
    Client, ConnectOptions, Event, From, Message, Overflow, Position, Subscribe, Subscription,
    SubscriptionEvent,
};
use callboard_protocol::{Offset, PartitionId};
use clap::{Args, ValueEnum};

use super::{Failure, address::ServerArgs, complain};

pub(crate) const EXAMPLES: &str = "\
Examples:
  callboard sub --topic orders
  callboard sub --topic orders --from earliest --count 10
  callboard sub --topic orders --from last:20
  callboard sub --topic orders --from time:2026-11-20T08:00:00Z
  callboard sub --topic orders --from offset:0=12,1=4
  callboard sub --topic 'orders.*.created' --payload-only | jq .total

A lost connection is taken up again where it was, without loss and without repeats.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowArg {
    /// Read on from the log and miss nothing
    Read,
    /// Jump to the newest record
    Skip,
    /// Only the newest record of each key
    Conflate,
}

#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Topic, or a pattern: `*` is one word, `#` any number of them
    #[arg(long, short)]
    topic: String,

    /// Where to begin: latest, earliest, last:COUNT, time:RFC3339 or offset:PARTITION=OFFSET,…
    #[arg(long, default_value = "latest", value_parser = parse_from)]
    from: From,

    /// End after so many records
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,

    /// Most records under way at once
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    credit: Option<u64>,

    /// What happens when this reader is slower than the topic
    #[arg(long, value_enum, default_value = "read")]
    overflow: OverflowArg,

    /// Refuse every other subscription of the topic, and to begin while there is one
    #[arg(long)]
    exclusive: bool,

    /// Print only the payload of each record
    #[arg(long)]
    payload_only: bool,
}

fn parse_from(text: &str) -> Result<From, String> {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    match (kind, value) {
        ("latest", "") => Ok(From::Latest),
        ("earliest", "") => Ok(From::Earliest),
        ("last", count) => count
            .parse()
            .map(From::Last)
            .map_err(|_| "write it as last:20".to_owned()),
        ("time", "") => Err("write it as time:2026-11-20T08:00:00Z".to_owned()),
        ("time", time) => Ok(From::Time(time.to_owned())),
        ("offset", offsets) => parse_offsets(offsets).ok_or_else(|| "write it as offset:0=12,1=4".to_owned()),
        _ => Err("it is latest, earliest, last:20, time:2026-11-20T08:00:00Z or offset:0=12,1=4".to_owned()),
    }
}

fn parse_offsets(text: &str) -> Option<From> {
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let (partition, offset) = pair.split_once('=')?;
        offsets.insert(
            PartitionId(partition.trim().parse().ok()?),
            Offset(offset.trim().parse().ok()?),
        );
    }
    Some(From::Offsets(Position { offsets, epoch: None }))
}

/// Prints records until it has printed as many as asked or is told to stop.
///
/// # Errors
/// [`Failure`] says why the subscription could not begin, or why it ended.
pub(crate) async fn run(args: SubscribeArgs) -> Result<(), Failure> {
    let url = args.server.web_socket()?;
    let client = Client::connect(&url, ConnectOptions::default())
        .await
        .map_err(|error| args.server.hint(&error))?;
    tokio::spawn(report(client.events()));
    let mut subscribe = Subscribe::topic(&args.topic)
        .from(args.from.clone())
        .with_overflow(match args.overflow {
            OverflowArg::Read => Overflow::Read,
            OverflowArg::Skip => Overflow::Skip,
            OverflowArg::Conflate => Overflow::Conflate,
        });
    if let Some(credit) = args.credit {
        subscribe = subscribe.with_credit(credit);
    }
    if args.exclusive {
        subscribe = subscribe.exclusive();
    }
    let subscription = client
        .subscribe(subscribe)
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    if subscription.subscribed().recovered == Some(false) {
        complain("some of the records asked for are gone; it begins at the first that is left");
    }
    let outcome = tokio::select! {
        outcome = print_all(&args, subscription) => outcome,
        signal = stop_signal() => signal,
    };
    // A broker that does not answer must not keep us from ending.
    let _ = tokio::time::timeout(Duration::from_secs(1), client.close()).await;
    outcome
}

async fn stop_signal() -> Result<(), Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Says on standard error what happens to the connection.
async fn report(mut events: tokio::sync::broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Disconnected { reason, pause }) => {
                complain(&format!(
                    "disconnected ({reason}); trying again in {} ms",
                    pause.as_millis()
                ));
            }
            Ok(Event::Reconnected) => complain("connected again"),
            Ok(Event::GoingAway { reason }) => complain(&format!("the broker goes away: {reason}")),
            Ok(Event::Refused(error)) => complain(&error.to_string()),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn print_all(args: &SubscribeArgs, mut subscription: Subscription) -> Result<(), Failure> {
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout());
    let mut left = args.count;
    while left != Some(0) {
        // What is there is written together; whoever waits at the other end gets it before we wait.
        let event = match subscription.try_next_event() {
            Some(event) => Some(event),
            None => {
                output.flush()?;
                subscription.next_event().await
            }
        };
        match event {
            Some(SubscriptionEvent::Record(record)) => {
                print(&mut output, &record, args.payload_only)?;
                left = left.map(|left| left - 1);
            }
            Some(SubscriptionEvent::Skipped(skipped)) => complain(&format!(
                "{} records of {} partition {} were left out ({})",
                skipped.count, skipped.topic, skipped.partition, skipped.reason
            )),
            Some(SubscriptionEvent::Resumed(subscribed)) => {
                let lost = subscribed
                    .topics
                    .values()
                    .any(|topic| topic.recovered == Some(false));
                if lost || subscribed.recovered == Some(false) {
                    complain("some records are gone since the connection was lost");
                }
            }
            Some(SubscriptionEvent::Ended { reason }) => {
                output.flush()?;
                return Err(Failure::new(format!("the subscription ended: {reason}")));
            }
            None => return Err(Failure::new("the subscription ended")),
        }
    }
    output.flush()?;
    Ok(())
}

fn print(output: &mut impl io::Write, record: &Message, payload_only: bool) -> Result<(), Failure> {
    if payload_only {
        match (&record.payload, &record.payload_base64) {
            (Some(payload), _) => output.write_all(payload.get().as_bytes())?,
            (None, Some(base64)) => write!(output, "\"{base64}\"")?,
            (None, None) => {}
        }
    } else {
        serde_json::to_writer(&mut *output, record).map_err(io::Error::from)?;
    }
    output.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_start_can_be_written() {
        assert_eq!(parse_from("latest"), Ok(From::Latest));
        assert_eq!(parse_from("earliest"), Ok(From::Earliest));
        assert_eq!(parse_from("last:20"), Ok(From::Last(20)));
        assert_eq!(
            parse_from("time:2026-11-20T08:00:00Z"),
            Ok(From::Time("2026-11-20T08:00:00Z".to_owned()))
        );
        let Ok(From::Offsets(position)) = parse_from("offset:0=12,3=4") else {
            panic!("not offsets")
        };
        let offsets: Vec<_> = position
            .offsets
            .iter()
            .map(|(partition, offset)| (partition.0, offset.0))
            .collect();
        assert_eq!(offsets, [(0, 12), (3, 4)]);
    }

    #[test]
    fn wrong_start_is_answered_with_a_right_one() {
        for text in [
            "",
            "first",
            "last:",
            "last:x",
            "time:",
            "offset:",
            "offset:0",
            "offset:a=1",
        ] {
            let error = parse_from(text).unwrap_err();
            assert!(error.contains(':'), "{text}: {error}");
        }
    }

    #[test]
    fn record_is_printed_byte_for_byte() {
        let line = r#"{"topic":"t","partition":3,"offset":17,"timestamp":5,"key":"c","payload":{"b":1.10,"a":999999996000000004}}"#;
        let record: Message = serde_json::from_str(line).unwrap();
        let mut output = Vec::new();
        print(&mut output, &record, false).unwrap();
        print(&mut output, &record, true).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            format!("{line}\n{{\"b\":1.10,\"a\":999999996000000004}}\n")
        );
    }
}
