//! Exchanges and scheduled records from the command line.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::stored;
use crate::{process::PROGRAM, support::Broker};

fn run(broker: &Broker, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env("CALLBOARD_SERVER", broker.ws_url())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a command that must succeed prints, one JSON value a line.
fn printed(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let output = run(broker, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a command that must fail complains of.
fn complaint(broker: &Broker, arguments: &[&str], exit_code: i32) -> String {
    let output = run(broker, arguments);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(exit_code),
        "{arguments:?}: {complaint}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
    complaint
}

#[test]
fn exchanges_are_managed_from_the_command_line() {
    let broker = Broker::start();
    printed(&broker, &["exchange", "create", "lost", "--type", "fanout"]);
    let made = printed(
        &broker,
        &[
            "exchange",
            "create",
            "readings",
            "--type",
            "topic",
            "--alternate",
            "lost",
        ],
    );
    assert_eq!(
        (&made[0]["type"], &made[0]["alternate"]),
        (&json!("topic"), &json!("lost"))
    );
    let bound = printed(
        &broker,
        &[
            "exchange",
            "bind",
            "readings",
            "--topic",
            "plant",
            "--routing-key",
            "plant.#",
        ],
    );
    printed(
        &broker,
        &[
            "exchange",
            "bind",
            "readings",
            "--to-exchange",
            "lost",
            "--routing-key",
            "*.copy",
        ],
    );
    let listed = printed(&broker, &["exchange", "bindings", "readings"]);
    assert_eq!((listed.len(), &listed[0]), (2, &bound[0]));
    let routed = printed(&broker, &["exchange", "route", "readings", "plant.boiler"]);
    assert_eq!(routed[0]["routes"], json!([{"topic": "plant"}]));
    printed(
        &broker,
        &[
            "pub",
            "--exchange",
            "readings",
            "--routing-key",
            "plant.boiler",
            "1",
            "2",
        ],
    );
    assert_eq!(stored(&broker, "plant"), 2);
    let lost = complaint(
        &broker,
        &["pub", "--exchange", "readings", "--routing-key", "ship", "3"],
        1,
    );
    assert!(lost.contains("unroutable"), "{lost}");
    let known = printed(&broker, &["exchange", "unroutable"]);
    assert_eq!((known.len(), &known[0]["routing_key"]), (1, &json!("ship")));
    let described = printed(&broker, &["exchange", "describe", "readings"]);
    assert_eq!(
        (&described[0]["bindings"], &described[0]["unroutable"]),
        (&json!(2), &json!(1))
    );
    printed(
        &broker,
        &["exchange", "unbind", "readings", bound[0]["id"].as_str().unwrap()],
    );
    let unbind = [
        "exchange",
        "unbind",
        "readings",
        "--to-exchange",
        "lost",
        "--routing-key",
        "*.copy",
    ];
    printed(&broker, &unbind);
    assert!(complaint(&broker, &unbind, 1).contains("no such binding"));
    assert_eq!(
        printed(&broker, &["exchange", "bindings", "readings"]),
        [json!(null); 0]
    );
    printed(&broker, &["exchange", "delete", "readings"]);
    assert_eq!(printed(&broker, &["exchange", "list"]).len(), 1);
    let gone = complaint(&broker, &["exchange", "describe", "readings"], 1);
    assert!(gone.contains("exchange_not_found"), "{gone}");
    complaint(&broker, &["pub", "--topic", "t", "--exchange", "e", "1"], 2);
    complaint(&broker, &["pub", "--topic", "t", "--routing-key", "k", "1"], 2);
}

#[test]
fn rows_of_a_file_are_routed_by_one_of_their_fields() {
    let broker = Broker::start();
    printed(&broker, &["exchange", "create", "e", "--type", "direct"]);
    for topic in ["MSFT", "AAPL"] {
        printed(
            &broker,
            &["exchange", "bind", "e", "--topic", topic, "--routing-key", topic],
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let csv = directory.path().join("stocks.csv");
    std::fs::write(&csv, "symbol,price\nMSFT,39.810\nAAPL,25.94\nMSFT,36.350\n").unwrap();
    let file = csv.to_str().unwrap();
    printed(
        &broker,
        &[
            "pub",
            "--exchange",
            "e",
            "--routing-key-field",
            "symbol",
            "--csv",
            file,
        ],
    );
    assert_eq!((stored(&broker, "MSFT"), stored(&broker, "AAPL")), (2, 1));
}

#[test]
fn later_records_are_published_listed_and_cancelled() {
    let broker = Broker::start();
    let said = printed(
        &broker,
        &[
            "pub",
            "-t",
            "later",
            "--delay-ms",
            "3600000",
            r#"{"n": 1.10}"#,
            "2",
        ],
    );
    assert_eq!(said.len(), 2);
    let at = ["pub", "-t", "later", "--deliver-at", "2099-01-01T00:00:00Z", "3"];
    assert_eq!(printed(&broker, &at)[0]["deliver_at"], 4_070_908_800_000u64);
    let listed = printed(&broker, &["scheduled", "list", "later"]);
    let ids: Vec<_> = listed.iter().map(|record| &record["id"]).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[..2], [&said[0]["scheduled"], &said[1]["scheduled"]]);
    let id = ids[0].as_str().unwrap();
    printed(&broker, &["scheduled", "cancel", "later", id]);
    complaint(&broker, &["scheduled", "cancel", "later", id], 1);
    assert_eq!(
        printed(&broker, &["scheduled", "list", "later", "--limit", "1"]).len(),
        1
    );
    assert_eq!(printed(&broker, &["scheduled", "list", "later"]).len(), 2);
    assert_eq!(stored(&broker, "later"), 0);
    complaint(&broker, &["pub", "-t", "t", "--deliver-at", "tomorrow", "1"], 2);
    // What is due has no schedule any more when it is delivered.
    printed(&broker, &["pub", "-t", "soon", "--delay-ms", "1", "7"]);
    let came = printed(
        &broker,
        &["sub", "-t", "soon", "--from", "earliest", "--count", "1"],
    );
    assert_eq!(came[0]["payload"], 7);
}
