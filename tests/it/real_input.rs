//! Real files go in by the command line and come out byte for byte, in the order of each key.
//!
//! The files are those of the npm package `vega-datasets`. What is expected of them is worked out here from
//! the files themselves, not by the code that published them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::value::RawValue;

use crate::process::Broker;

/// Partitions of each topic, so that keys are spread.
const PARTITIONS: u32 = 4;

fn datasets() -> PathBuf {
    PathBuf::from(std::env::var_os("CALLBOARD_DATASETS").unwrap())
}

/// Runs `callboard` against a broker and returns what it printed.
fn callboard(broker: &Broker, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_callboard"))
        .args(arguments)
        .env("CALLBOARD_SERVER", format!("ws://{}/ws", broker.address()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Payloads in order, by key.
type ByKey = BTreeMap<String, Vec<String>>;

/// Publishes a file, kills the broker, starts it again and reads everything back.
fn round_trip(form: &str, file: &Path, key: &str, expected: &ByKey) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let partitions = PARTITIONS.to_string();
    callboard(&broker, &["topic", "create", "real", "--partitions", &partitions]);
    callboard(
        &broker,
        &[
            "pub",
            "--topic",
            "real",
            "--key",
            key,
            form,
            file.to_str().unwrap(),
        ],
    );
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let count = expected.values().map(Vec::len).sum::<usize>().to_string();
    let printed = callboard(
        &broker,
        &["sub", "--topic", "real", "--from", "earliest", "--count", &count],
    );
    let mut found = ByKey::new();
    let mut partition_of: BTreeMap<String, String> = BTreeMap::new();
    for line in printed.lines() {
        let record: BTreeMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
        let key: String = serde_json::from_str(record["key"].get()).unwrap();
        let partition = record["partition"].get().to_owned();
        assert_eq!(
            partition_of
                .entry(key.clone())
                .or_insert_with(|| partition.clone()),
            &partition
        );
        found
            .entry(key)
            .or_default()
            .push(record["payload"].get().to_owned());
    }
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (key, payloads) in expected {
        assert!(&found[key] == payloads, "the records of {key:?} differ");
    }
}

/// What a table without quotes becomes: an object a row, with numbers as they stand.
fn rows(file: &Path, key: &str) -> ByKey {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let key = names.iter().position(|name| *name == key).unwrap();
    let mut rows = ByKey::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let values: Vec<&str> = line.split(',').collect();
        let members = names.iter().zip(&values).map(|(name, value)| match *value {
            "" => format!(r#""{name}":null"#),
            number if number.parse::<f64>().is_ok() => format!(r#""{name}":{number}"#),
            text => format!(r#""{name}":"{text}""#),
        });
        let row = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        rows.entry(values[key].to_owned()).or_default().push(row);
    }
    rows
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the data of the npm package vega-datasets"]
fn stock_prices_go_in_and_come_out() {
    let file = datasets().join("stocks.csv");
    let expected = rows(&file, "symbol");
    assert_eq!(expected.len(), 5, "five companies");
    round_trip("--csv", &file, "symbol", &expected);
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the data of the npm package vega-datasets"]
fn weather_goes_in_and_comes_out() {
    let file = datasets().join("weather.csv");
    let expected = rows(&file, "location");
    assert_eq!(expected.len(), 2, "two cities");
    round_trip("--csv", &file, "location", &expected);
}

#[test]
#[ignore = "needs CALLBOARD_DATASETS: the data of the npm package vega-datasets"]
fn twenty_thousand_flights_go_in_and_come_out() {
    let file = datasets().join("flights-20k.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let elements: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
    let mut expected = ByKey::new();
    for element in &elements {
        let origin = serde_json::from_str::<serde_json::Value>(element.get()).unwrap()["origin"].clone();
        expected
            .entry(origin.as_str().unwrap().to_owned())
            .or_default()
            .push(element.get().to_owned());
    }
    assert_eq!(elements.len(), 20_000);
    round_trip("--json", &file, "origin", &expected);
}
