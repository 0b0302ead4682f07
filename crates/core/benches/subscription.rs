//! What a committed batch costs for each subscriber that is offered it, and what leaving out all but the newest
//! record of each key costs.

mod shapes;

use std::hint::black_box;

use callboard_core::{
    record::Batch,
    subscription::{Offer, Overflow, Subscription, conflate},
};
use callboard_protocol::{Offset, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shapes::{BATCH, draft};

fn offer(criterion: &mut Criterion) {
    const SUBSCRIBERS: usize = 1000;
    let mut group = criterion.benchmark_group("offer");
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    for (name, credit) in [("no credit asked", None), ("credit", Some(u64::MAX))] {
        let mut end = Offset::ZERO;
        let mut subscriptions = vec![Subscription::new(end, Overflow::Read, credit); SUBSCRIBERS];
        for subscription in &mut subscriptions {
            subscription.advance(end, 0, end);
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (base, next) = (end, end.plus(BATCH));
                for subscription in black_box(&mut subscriptions) {
                    let offer = subscription.offer(base, next, BATCH, true);
                    assert_eq!(offer, Offer::Push);
                }
                end = next;
            });
        });
    }
    group.finish();
}

fn newest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conflate");
    for batches in [1, 100] {
        let all: Vec<Batch> = (0..batches)
            .map(|batch| Batch {
                base_offset: Offset(batch * BATCH),
                timestamp: Timestamp(0),
                count: BATCH as u32,
                records: draft(batch * BATCH, false).records.into(),
            })
            .collect();
        // A thousand customers, each a hundred times and never more than once in a batch.
        assert_eq!(conflate(&all).len() as u64, (batches * BATCH).min(1000));
        group.throughput(Throughput::Elements(batches * BATCH));
        group.bench_function(BenchmarkId::new("records", batches * BATCH), |bencher| {
            bencher.iter(|| black_box(conflate(black_box(&all))));
        });
    }
    group.finish();
}

criterion_group!(benches, offer, newest);
criterion_main!(benches);
