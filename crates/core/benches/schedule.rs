//! What a record that is due later costs its partition, from being scheduled to being forgotten, among few and among
//! many that wait.

mod shapes;

use std::hint::black_box;

use callboard_core::schedule::{
    Schedules,
    log::{Entry, Scheduled},
};
use callboard_protocol::{Offset, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shapes::{BATCH, draft};

/// A time for the record with this number, mixed, within a thousand seconds of `now`.
fn due(now: u64, number: u64) -> Timestamp {
    Timestamp(now + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000)
}

struct Busy {
    schedules: Schedules,
    record: Vec<u8>,
    entry: Vec<u8>,
    now: u64,
    number: u64,
}

impl Busy {
    fn new(waiting: u64) -> Self {
        let batch = draft(0, false);
        let mut busy = Self {
            schedules: Schedules::new(Offset::ZERO),
            record: batch.records[..batch.entries[0].bytes as usize].to_vec(),
            entry: Vec::new(),
            now: 0,
            number: 0,
        };
        for _ in 0..waiting {
            busy.add();
        }
        busy
    }

    fn add(&mut self) {
        self.number += 1;
        let scheduled = Scheduled {
            at: Timestamp(self.now),
            due: due(self.now, self.number),
            record: &self.record,
        };
        self.entry.clear();
        let bytes = Entry::Scheduled(scheduled).encode(&mut self.entry);
        black_box(self.schedules.add(&scheduled, bytes));
    }

    /// Schedules a batch, and takes as many of those that are due first.
    fn turn(&mut self) {
        for _ in 0..BATCH {
            self.add();
        }
        let first = self.schedules.after(None).take(BATCH as usize);
        let (mut numbers, mut last) = (Vec::with_capacity(BATCH as usize), 0);
        for waiting in first {
            numbers.push(waiting.turn.number);
            last = waiting.turn.due.0;
        }
        self.now = self.now.max(last);
        numbers.sort_unstable();
        self.schedules.take(&numbers, 200);
        self.schedules.committed(self.schedules.next_place());
    }
}

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule and take a batch");
    group.throughput(Throughput::Elements(BATCH));
    for waiting in [1000, 100_000] {
        let mut busy = Busy::new(waiting);
        group.bench_function(BenchmarkId::new("waiting", waiting), |bencher| {
            bencher.iter(|| busy.turn());
        });
        assert_eq!(busy.schedules.len() as u64, waiting);
    }
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
