//! What a batch of 100 records costs at the single writer of its partition: encoding, admission, and the look at
//! message ids when few and when many are remembered.

mod shapes;

use std::hint::black_box;

use callboard_core::partition::{AdmitLimits, Partition};
use callboard_protocol::{Offset, Timestamp};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shapes::{BATCH, draft};

const WINDOW_MS: u64 = 120_000;
const LIMITS: AdmitLimits = AdmitLimits {
    dedup_window_ms: WINDOW_MS,
    records_max: None,
    record_bytes_max: 1 << 20,
    kept: 0,
};

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("a batch", |bencher| {
        bencher.iter(|| black_box(draft(black_box(0), false)));
    });
    group.finish();
}

fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit and commit");
    group.throughput(Throughput::Elements(BATCH));
    let mut partition = Partition::new(Offset::ZERO, Timestamp(0));
    let plain = draft(0, false);
    group.bench_function("no ids", |bencher| {
        bencher.iter_batched(
            || plain.clone(),
            |draft| {
                let admission = partition.admit(Timestamp(1), draft, &LIMITS);
                partition.commit(partition.next_offset());
                admission
            },
            BatchSize::SmallInput,
        );
    });
    for remembered in [1000, 100_000] {
        // One millisecond a batch, so that as many leave the window as come.
        let step_ms = WINDOW_MS * BATCH / remembered;
        let (mut partition, mut now, mut first) = (Partition::new(Offset::ZERO, Timestamp(0)), 0, 0);
        let mut next = || {
            first += BATCH;
            draft(first, true)
        };
        let mut take = |partition: &mut Partition, draft| {
            now += step_ms;
            let admission = partition.admit(Timestamp(now), draft, &LIMITS);
            partition.commit(partition.next_offset());
            admission
        };
        for _ in 0..remembered / BATCH {
            let draft = next();
            take(&mut partition, draft);
        }
        group.bench_function(BenchmarkId::new("ids remembered", remembered), |bencher| {
            bencher.iter_batched(
                &mut next,
                |draft| take(&mut partition, draft),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, encode, admit);
criterion_main!(benches);
