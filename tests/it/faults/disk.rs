//! The data directory: one owner, and a disk that is full for a while.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    process::{Broker, PATIENCE, serve},
    socket::Socket,
};

#[test]
fn second_process_on_a_data_directory_ends_and_says_why() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let second = serve(data.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains(&*data.path().to_string_lossy()),
        "it does not name the directory: {said}"
    );
    assert_eq!(
        broker
            .connect()
            .ask(r#"{"type":"publish","id":1,"topic":"t","payload":1}"#)["offset"],
        0
    );
}

/// A directory on a disk of a few MiB that this test may fill.
fn small_disk() -> PathBuf {
    PathBuf::from(std::env::var_os("CALLBOARD_SMALL_DISK").unwrap())
}

/// Takes nearly all space that is left.
fn fill(path: &Path) {
    let mut size = 64 << 20;
    let mut bytes = Vec::new();
    // Halves what it asks for until not even a page fits.
    while size >= 4096 {
        let mut larger = bytes.clone();
        larger.resize(bytes.len() + size, b'x');
        match std::fs::write(path, &larger) {
            Ok(()) => bytes = larger,
            Err(_) => size /= 2,
        }
    }
    std::fs::write(path, &bytes).unwrap();
}

fn publish(client: &mut Socket, payload: &str) -> Value {
    client.ask(&format!(
        r#"{{"type":"publish","id":1,"topic":"t","payload":"{payload}"}}"#
    ))
}

#[test]
#[ignore = "needs CALLBOARD_SMALL_DISK: a directory on a disk of a few MiB"]
fn full_disk_is_told_reads_go_on_and_space_ends_it() {
    let data = small_disk().join("data");
    let filler = small_disk().join("filler");
    let options = ["--journal-file-bytes", "1048576"];
    let broker = Broker::start(&data, &options);
    let mut client = broker.connect();
    let payload = "p".repeat(100_000);
    let mut acked = Vec::new();
    acked.push(publish(&mut client, &payload)["offset"].as_u64().unwrap());
    fill(&filler);
    let refusal = loop {
        let reply = publish(&mut client, &payload);
        match reply["offset"].as_u64() {
            Some(offset) => acked.push(offset),
            None => break reply,
        }
        assert!(acked.len() < 1_000, "the disk takes more than it has");
    };
    assert_eq!(refusal["code"], "storage_failed", "{refusal}");
    assert_eq!(refusal["retryable"], true);
    assert_eq!(fetched(&mut client).len(), acked.len(), "reads go on");

    std::fs::remove_file(&filler).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = publish(&mut client, "there is space again");
        if let Some(offset) = reply["offset"].as_u64() {
            acked.push(offset);
            break;
        }
        assert!(Instant::now() < deadline, "still refused: {reply}");
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.kill();
    let broker = Broker::start(&data, &options);
    let offsets: Vec<u64> = (0..acked.len() as u64).collect();
    assert_eq!(acked, offsets, "offsets are dense");
    assert_eq!(fetched(&mut broker.connect()), offsets, "what was acked is there");
}

fn fetched(client: &mut Socket) -> Vec<u64> {
    let mut offsets = Vec::new();
    loop {
        let from = offsets.len();
        let page = client.ask(&format!(
            r#"{{"type":"fetch","id":2,"topic":"t","partition":0,"offset":{from}}}"#
        ));
        let records = page["messages"].as_array().unwrap();
        if records.is_empty() {
            return offsets;
        }
        offsets.extend(records.iter().map(|record| record["offset"].as_u64().unwrap()));
    }
}
