//! The command line against a real broker: what goes in comes out, byte for byte, and exit codes hold.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::{
    process::{PROGRAM, launch, serve_on},
    socket::Socket,
    support::until,
};

/// A broker of its own, killed when it is dropped.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(listen: &str, data: &Path) -> Self {
        let (child, address) = launch(&mut serve_on(listen, data, &[""; 0]));
        Self { child, address }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env("CALLBOARD_SERVER", format!("ws://{}/ws", self.address));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn table_goes_in_and_comes_out_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    let csv = directory.path().join("stocks.csv");
    std::fs::write(
        &csv,
        "symbol,price,note\nMSFT,39.810,\nAAPL,007,\"a \"\"b\"\"\"\nMSFT,999999996000000004,x\n",
    )
    .unwrap();
    broker.printed(&[
        "pub",
        "--topic",
        "stocks",
        "--key",
        "symbol",
        "--csv",
        csv.to_str().unwrap(),
    ]);
    let payloads = broker.printed(&[
        "sub",
        "-t",
        "stocks",
        "--from",
        "earliest",
        "--count",
        "3",
        "--payload-only",
    ]);
    let expected = [
        r#"{"symbol":"MSFT","price":39.810,"note":null}"#,
        r#"{"symbol":"AAPL","price":"007","note":"a \"b\""}"#,
        r#"{"symbol":"MSFT","price":999999996000000004,"note":"x"}"#,
    ];
    assert_eq!(payloads.lines().collect::<Vec<_>>(), expected);
    let record = broker.printed(&["sub", "-t", "stocks", "--from", "last:1", "--count", "1"]);
    assert!(
        record.contains(r#""offset":2,"#) && record.contains(r#""key":"MSFT""#),
        "{record}"
    );
}

#[test]
fn array_and_lines_keep_every_element() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    let elements: Vec<String> = (0..5000)
        .map(|number| format!("{{\"v\": 1.{number}0, \"i\":{number}}}"))
        .collect();
    let (array, lines) = (directory.path().join("a.json"), directory.path().join("l.ndjson"));
    std::fs::write(&array, format!("[{}]", elements.join(",\n "))).unwrap();
    std::fs::write(&lines, elements.join("\n")).unwrap();
    for (topic, option, file) in [("array", "--json", &array), ("lines", "--file", &lines)] {
        broker.printed(&[
            "pub",
            "--topic",
            topic,
            "--key",
            "i",
            option,
            file.to_str().unwrap(),
        ]);
        let payloads = broker.printed(&[
            "sub",
            "-t",
            topic,
            "--from",
            "earliest",
            "--count",
            "5000",
            "--payload-only",
        ]);
        assert!(payloads.lines().eq(elements.iter()), "{topic}");
    }
}

#[test]
fn refused_record_is_named_by_its_line_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    let mut publishing = broker
        .command(&["pub", "--topic", "t", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    publishing
        .stdin
        .take()
        .unwrap()
        .write_all(b"1\n{oops\n3\n")
        .unwrap();
    let output = publishing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 2"), "{said}");
    assert_eq!(
        broker.printed(&[
            "sub",
            "-t",
            "t",
            "--from",
            "earliest",
            "--count",
            "2",
            "--payload-only"
        ]),
        "1\n3\n"
    );
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    broker.printed(&["pub", "--topic", "t", "1", "2", "3"]);
    let mut reading = broker
        .command(&["sub", "--topic", "t", "--from", "earliest"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    let mut output = reading.stdout.take().unwrap();
    output.read_exact(&mut first).unwrap();
    drop(output);
    // Each more record is a chance to notice that nobody reads.
    let status = loop {
        broker.printed(&["pub", "--topic", "t", "4"]);
        if let Some(status) = reading.try_wait().unwrap() {
            break status;
        }
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn subscriber_goes_on_after_the_broker_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut broker = Broker::start("127.0.0.1:0", &data);
    let listen = broker.address.clone();
    broker.printed(&["pub", "--topic", "t", "1", "2"]);
    let mut reading = broker
        .command(&[
            "sub",
            "--topic",
            "t",
            "--from",
            "earliest",
            "--count",
            "4",
            "--payload-only",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reading.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(
        [lines.next(), lines.next()],
        [Some("1".to_owned()), Some("2".to_owned())]
    );
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    let broker = Broker::start(&listen, &data);
    broker.printed(&["pub", "--topic", "t", "3", "4"]);
    assert_eq!(
        [lines.next(), lines.next()],
        [Some("3".to_owned()), Some("4".to_owned())]
    );
    assert!(reading.wait().unwrap().success());
}

#[test]
fn topics_are_made_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    let created = broker.printed(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--set",
        "ttl_ms=5000",
    ]);
    assert!(created.contains(r#""ttl_ms":5000"#), "{created}");
    let again = broker.run(&["topic", "create", "orders"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("topic_exists"));
    broker.printed(&["topic", "config", "orders", "--set", "ttl_ms=null"]);
    assert!(
        broker
            .printed(&["topic", "describe", "orders"])
            .contains(r#""ttl_ms":null"#)
    );
    let listed = || -> usize {
        let list = broker.printed(&["topic", "list"]);
        // One is the broker's own.
        assert!(list.contains(r#""name":"$events""#), "{list}");
        list.lines().count() - 1
    };
    assert_eq!(listed(), 1);
    broker.printed(&["topic", "delete", "orders"]);
    assert_eq!(listed(), 0);
}

#[test]
fn groups_are_listed_sought_redriven_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start("127.0.0.1:0", &directory.path().join("data"));
    broker.printed(&["pub", "--topic", "jobs", "1", "2"]);
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&broker.printed(arguments)).unwrap()
    };
    assert_eq!(broker.printed(&["group", "list", "jobs"]), "");
    let missing = broker.run(&["group", "describe", "jobs", "workers"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("not_subscribed"));

    let mut worker = Socket::connect(&broker.address);
    let join = r#"{"type":"subscribe","id":1,"topic":"jobs","group":"workers","mode":"shared"}"#;
    assert_eq!(worker.ask(join)["type"], "subscribed");
    for _ in 0..2 {
        let job = worker.frame();
        let nack = serde_json::json!({"type": "nack", "deliveries": [job["delivery"]], "dead_letter": true});
        worker.send(&nack.to_string());
    }
    // Both are in the dead letters when the group says so.
    until("the dead letters", || {
        (json(&["group", "list", "jobs"])["dead_letters"] == 2).then_some(())
    });
    let moved = json(&["group", "redrive", "jobs", "workers", "--limit", "1"]);
    assert_eq!(moved, serde_json::json!({"redriven": 1, "dead_letters": 1}));
    assert_eq!(worker.frame()["offset"], 2);

    let sought = json(&["group", "seek", "jobs", "workers", "--offset", "0=1"]);
    assert_eq!(sought["partitions"][0]["committed"], 1);
    let sought = json(&["group", "seek", "jobs", "workers", "--latest"]);
    assert_eq!(
        (&sought["lag"], &sought["partitions"][0]["committed"]),
        (&0.into(), &3.into())
    );
    assert_eq!(json(&["group", "describe", "jobs", "workers"])["mode"], "shared");
    broker.printed(&["group", "delete", "jobs", "workers"]);
    assert_eq!(broker.printed(&["group", "list", "jobs"]), "");
}

#[test]
fn wrong_usage_and_failure_have_their_own_exit_codes() {
    let code = |arguments: &[&str]| {
        Command::new(PROGRAM)
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(code(&["sub"]), Some(2));
    assert_eq!(code(&["pub", "--topic", "t", "not json"]), Some(2));
    assert_eq!(code(&["serve", "--store", "postgres://x"]), Some(2));
    assert_eq!(
        code(&["sub", "--topic", "t", "--server", "ws://127.0.0.1:1/ws"]),
        Some(1)
    );
    assert_eq!(code(&["completions", "bash"]), Some(0));
}

#[test]
fn bench_measures_both_servers_and_prints_a_ratio() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "fanout",
        "--limit",
        "--subscribers",
        "3",
        "--in-flight",
        "8",
        "--seconds",
        "1",
        "--ndjson",
    ];
    let mut command = Command::new(PROGRAM);
    let output = command
        .args(arguments)
        .arg("--data")
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("callboard / bare"),
        "{said}"
    );
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(sample["count"].as_u64().unwrap() > 0, "{line}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn bench_of_groups_counts_what_the_broker_counts_and_prints_the_ratio_to_ingest() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, more) in [
        ("queue", ["--workers", "3"].as_slice()),
        (
            "group",
            &["--members", "3", "--partitions", "4", "--commit-every", "10"],
        ),
    ] {
        let mut command = Command::new(PROGRAM);
        command
            .args(["bench", kind, "--publishers", "2", "--in-flight", "32"])
            .args([
                "--credit",
                "64",
                "--backlog",
                "500",
                "--seconds",
                "0.5",
                "--ndjson",
            ])
            .args(more)
            .arg("--data")
            .arg(directory.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("to ingest"), "{said}");
        let samples = String::from_utf8(output.stdout).unwrap();
        assert_eq!(samples.lines().count(), 2, "{samples}");
        for line in samples.lines() {
            let sample: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(sample["count"].as_u64().unwrap() > 0, "{line}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
