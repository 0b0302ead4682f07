//! Files that people really have, through the real command line: what goes in comes out, byte-equal and in
//! order per key, over the socket and over REST, and also when the broker is killed in the middle.
//!
//! The files are those of the npm package `vega-datasets`. They are read here by other code than the command
//! line's own, so that both would have to be wrong in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{process::Broker, socket::get};

/// Payloads of each key in their order.
type ByKey = BTreeMap<String, Vec<String>>;

/// One record as `callboard sub` prints it and as REST has it in its pages.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    partition: u32,
    offset: u64,
    key: String,
    payload: Box<RawValue>,
}

/// What REST answers to a read.
#[derive(Debug, Deserialize)]
struct Page {
    next_offset: u64,
    messages: Vec<Record>,
}

/// The text of a file of the data sets.
fn data_set(name: &str) -> (PathBuf, String) {
    let directory = std::env::var_os("CALLBOARD_DATASETS").expect("CALLBOARD_DATASETS is the data directory");
    let path = PathBuf::from(directory).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

/// The objects that the rows of a table stand for. Only for files without quoted fields.
fn rows(csv: &str) -> Vec<String> {
    assert!(!csv.contains('"'), "this file needs a better reader");
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let member = |(name, field): (&&str, &str)| {
        let value = match serde_json::from_str::<serde_json::Number>(field) {
            Ok(_) => field.to_owned(),
            Err(_) if field.is_empty() => "null".to_owned(),
            Err(_) => serde_json::to_string(field).unwrap(),
        };
        format!("\"{name}\":{value}")
    };
    lines
        .map(|line| {
            let members: Vec<String> = names.iter().zip(line.split(',')).map(member).collect();
            assert_eq!(members.len(), names.len(), "{line}");
            format!("{{{}}}", members.join(","))
        })
        .collect()
}

/// The elements of an array, each with its own bytes.
fn elements(json: &str) -> Vec<String> {
    let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap();
    elements.iter().map(|element| element.get().to_owned()).collect()
}

fn by_key(payloads: &[String], field: &str) -> ByKey {
    let mut keys = ByKey::new();
    for payload in payloads {
        let value: Value = serde_json::from_str(payload).unwrap();
        let key = value[field].as_str().unwrap().to_owned();
        keys.entry(key).or_default().push(payload.clone());
    }
    keys
}

/// The command line, speaking to a broker.
fn command(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command
        .args(arguments)
        .env("CALLBOARD_SERVER", format!("ws://{}/ws", broker.address()))
        .stdin(Stdio::null());
    command
}

fn succeed(broker: &Broker, arguments: &[&str]) -> Output {
    let output = command(broker, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output
}

/// The first `count` records of a topic, as the command line prints them.
fn subscribed(broker: &Broker, topic: &str, count: usize) -> Vec<Record> {
    let count = count.to_string();
    let output = succeed(
        broker,
        &["sub", "--topic", topic, "--from", "earliest", "--count", &count],
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// All records of a partition, page by page over REST.
fn read_over_rest(broker: &Broker, topic: &str, partition: u32) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut offset = 0;
    loop {
        let path =
            format!("/api/v1/topics/{topic}/partitions/{partition}/messages?offset={offset}&limit=500");
        let page: Page = serde_json::from_str(&get(broker.address(), &path)).unwrap();
        if page.messages.is_empty() {
            return records;
        }
        offset = page.next_offset;
        records.extend(page.messages);
    }
}

/// Checks that the offsets of each partition are 0, 1, 2 …, and that each key has one partition; returns the
/// payloads by key.
fn in_order(records: &[Record]) -> ByKey {
    let mut next_offsets: BTreeMap<u32, u64> = BTreeMap::new();
    let mut partitions: BTreeMap<&str, u32> = BTreeMap::new();
    let mut keys = ByKey::new();
    for record in records {
        let next = next_offsets.entry(record.partition).or_default();
        assert_eq!(record.offset, *next, "in partition {}", record.partition);
        *next += 1;
        let partition = *partitions.entry(&record.key).or_insert(record.partition);
        assert_eq!(partition, record.partition, "of key {}", record.key);
        keys.entry(record.key.clone())
            .or_default()
            .push(record.payload.get().to_owned());
    }
    keys
}

/// Sends a file through a broker and compares what comes out with what is in it.
fn goes_in_and_comes_out(option: &str, name: &str, field: &str, partitions: u32) {
    let (path, text) = data_set(name);
    let expected = match option {
        "--csv" => rows(&text),
        _ => elements(&text),
    };
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    succeed(
        &broker,
        &["topic", "create", "data", "--partitions", &partitions.to_string()],
    );
    let path = path.to_str().unwrap();
    let published = succeed(&broker, &["pub", "--topic", "data", "--key", field, option, path]);
    assert_eq!(acknowledged(&published), expected.len());

    let keys = by_key(&expected, field);
    let records = subscribed(&broker, "data", expected.len());
    assert_eq!(in_order(&records), keys);
    let used: BTreeSet<u32> = records.iter().map(|record| record.partition).collect();
    assert!(
        used.len() > 1 && used.iter().all(|&partition| partition < partitions),
        "{used:?}"
    );

    let mut read: Vec<Record> = Vec::new();
    for partition in 0..partitions {
        let records = read_over_rest(&broker, "data", partition);
        read.extend(records.into_iter().map(|record| Record { partition, ..record }));
    }
    assert_eq!(in_order(&read), keys);
}

/// How many records `callboard pub` says were answered.
fn acknowledged(output: &Output) -> usize {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("published "));
    let (count, _) = line.expect(&said).1.split_once(" records").expect(&said);
    let digits: String = count.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect(&said)
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the directory `data` of the npm package vega-datasets"]
fn stock_prices_come_out_byte_for_byte_per_symbol() {
    goes_in_and_comes_out("--csv", "stocks.csv", "symbol", 4);
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the directory `data` of the npm package vega-datasets"]
fn weather_comes_out_byte_for_byte_per_kind_and_place() {
    goes_in_and_comes_out("--csv", "seattle-weather.csv", "weather", 3);
    goes_in_and_comes_out("--csv", "weather.csv", "location", 8);
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the directory `data` of the npm package vega-datasets"]
fn flights_come_out_byte_for_byte_per_airport() {
    goes_in_and_comes_out("--json", "flights-20k.json", "origin", 6);
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the directory `data` of the npm package vega-datasets"]
fn flights_that_were_acked_or_shown_survive_kill_9_in_the_middle() {
    const SHOWN: usize = 1_000;
    let (_, text) = data_set("flights-20k.json");
    let expected = elements(&text);
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    succeed(&broker, &["topic", "create", "flights"]);
    let mut publishing = command(
        &broker,
        &["pub", "--topic", "flights", "--key", "origin", "--json", "-"],
    )
    .stdin(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut following = command(
        &broker,
        &[
            "sub",
            "--topic",
            "flights",
            "--from",
            "earliest",
            "--payload-only",
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    // Half of the file and no more until the broker is dead: it cannot be through with it before.
    let mut input = publishing.stdin.take().unwrap();
    let first_half = text.as_bytes()[..text.len() / 2].to_vec();
    let feeding = std::thread::spawn(move || input.write_all(&first_half).map(|()| input));
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let shown: Vec<String> = lines.take(SHOWN).map(Result::unwrap).collect();
    broker.kill();
    // It may have ended at once and closed its input.
    drop(feeding.join().unwrap());
    let published = publishing.wait_with_output().unwrap();
    assert_eq!(published.status.code(), Some(1));
    following.kill().unwrap();
    following.wait().unwrap();

    let broker = Broker::start(data.path(), &[]);
    let kept = read_over_rest(&broker, "flights", 0);
    let stored = kept.len();
    let promised = acknowledged(&published).max(SHOWN);
    assert!(
        promised <= stored && stored < expected.len(),
        "{stored} of {promised}"
    );
    assert_eq!(shown, expected[..SHOWN]);
    // One partition, so the answers came in the order of the file: what was acked is its beginning.
    assert_eq!(in_order(&kept), by_key(&expected[..stored], "origin"));
}
