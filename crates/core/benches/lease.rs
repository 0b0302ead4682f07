//! What a shared group costs: leasing and acking a batch while others are out, and leases that end.

use std::hint::black_box;

use callboard_core::{
    group_log::EntryWriter,
    lease::{LeaseSettings, Ordering, SharedGroup, Take, Want},
    member::{Exclusive, MemberId},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PARTITION: PartitionId = PartitionId(0);
const WORKER: MemberId = MemberId(1);
const HOLDER: MemberId = MemberId(2);
const BATCH: u64 = 100;
const LEASE_MS: u64 = 30_000;
const NOW: Timestamp = Timestamp(1_000_000);
const SETTINGS: LeaseSettings = LeaseSettings {
    attempts_max: 5,
    retry_backoff_ms: 1000,
    retry_backoff_ms_max: 60_000,
};

/// A group in which so many records are out at a member that does not settle them.
fn group(ordering: Ordering, out: u64) -> SharedGroup {
    let mut group = SharedGroup::new(SETTINGS, ordering);
    group.open_partition(PARTITION, Offset(0));
    group
        .join(HOLDER, out, LEASE_MS, Exclusive::No)
        .expect("it is new");
    group.set_end(PARTITION, Offset(out));
    take(&mut group);
    group
        .join(WORKER, BATCH, LEASE_MS, Exclusive::No)
        .expect("it is new");
    group
}

/// Hands out what there is; returns the deliveries.
fn take(group: &mut SharedGroup) -> Vec<u64> {
    let mut deliveries = Vec::new();
    while let Some(want) = group.want(NOW) {
        let (from, count) = match want {
            Want::Fresh { from, count, .. } => (from.0, count),
            Want::Again { offset, .. } => (offset.0, 1),
        };
        for offset in from..from + count {
            // Each has a key of its own, so that the order of keys holds nothing back; the group takes 0 for 1.
            if let Take::Leased(leased) = group.take(NOW, PARTITION, Offset(offset), Some(offset + 1)) {
                deliveries.push(leased.delivery);
            }
        }
    }
    deliveries
}

fn take_and_ack(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("take and ack a batch");
    benches.throughput(Throughput::Elements(BATCH));
    for (name, ordering) in [
        ("any order", Ordering::BestEffort),
        ("order of keys", Ordering::Key),
    ] {
        for out in [0, 10_000] {
            let mut group = group(ordering, out);
            let mut end = out;
            benches.bench_function(BenchmarkId::new(name, format!("{out} out")), |bencher| {
                bencher.iter(|| {
                    end += BATCH;
                    group.set_end(PARTITION, Offset(end));
                    let deliveries = take(&mut group);
                    assert_eq!(deliveries.len() as u64, BATCH);
                    for delivery in deliveries {
                        group.ack(NOW, WORKER, black_box(delivery)).expect("it is out");
                    }
                    // What goes to the group's log.
                    *group.log() = EntryWriter::new();
                });
            });
        }
    }
    benches.finish();
}

fn expire(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("leases end at once");
    for out in [100, 10_000] {
        benches.throughput(Throughput::Elements(out));
        benches.bench_function(BenchmarkId::from_parameter(out), |bencher| {
            bencher.iter_batched(
                || group(Ordering::BestEffort, out),
                |mut group| {
                    group.tick(NOW.plus_ms(LEASE_MS));
                    assert_eq!(group.leased(PARTITION), 0);
                    group
                },
                BatchSize::LargeInput,
            );
        });
    }
    benches.finish();
}

criterion_group!(benches, take_and_ack, expire);
criterion_main!(benches);
