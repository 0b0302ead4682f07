//! What reading client frames costs: a publish, a batch of them, and the same payloads in the shapes that JSON has.
//!
//! The scanner borrows from the text and builds nothing, so bytes a second are the measure.

use std::{fmt::Write as _, hint::black_box};

use callboard_protocol::client::ClientFrame;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn publish(payload: &str) -> String {
    format!(
        r#"{{"type":"publish","topic":"orders.eu.created","id":100017,"ack":"accepted","key":"customer-119","payload":{payload}}}"#
    )
}

/// An order of 128 bytes, as in the benchmarks of the broker.
const ORDER: &str = r#"{"order":"o-000017","customer":10119,"total":117.50,"currency":"EUR","paid":true,"items":[151,17,4],"note":"ring twice, please"}"#;

/// Frames, one a line, with what they are.
fn frames() -> Vec<(&'static str, String)> {
    let text = "ring twice, and leave it with the neighbours if nobody opens. ".repeat(16);
    let mut numbers = String::from("[");
    for number in 0..200 {
        let _ = write!(numbers, "{}.25,", 1000 + number);
    }
    numbers.push_str("0]");
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    vec![
        ("one publish", publish(ORDER)),
        ("100 publishes, one a line", vec![publish(ORDER); 100].join("\n")),
        ("1 KB of text", publish(&format!("\"{text}\""))),
        ("1 KB of text with escapes", publish(&format!("\"{}\"", text.replace(' ', "\\u00a0")))),
        ("1.5 KB of numbers", publish(&numbers)),
        ("100 levels", publish(&nested)),
        (
            "100 acks, one a line",
            vec![r#"{"type":"ack","deliveries":[99123]}"#; 100].join("\n"),
        ),
        (
            "one subscribe",
            r#"{"type":"subscribe","id":6,"topic":"orders","group":"billing","mode":"partitioned","credit":256}"#
                .to_owned(),
        ),
    ]
}

fn scanner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for (name, text) in frames() {
        assert!(
            text.lines().all(|line| ClientFrame::decode(line).is_ok()),
            "{name}"
        );
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for line in black_box(text.as_str()).lines() {
                    black_box(ClientFrame::decode(line)).expect("the frame is good");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
