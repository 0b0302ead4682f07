//! What core decides, for a batch at a time.

use std::hint::black_box;

use callboard_core::{
    exchange::{Binding, BindingId, Destination, Exchange, Exchanges, Routes},
    group_log::EntryWriter,
    lease::{LeaseSettings, Ordering, SharedGroup, Take, Want},
    member::{Exclusive, MemberId},
    partition::{Admission, AdmitLimits, Draft, Partition},
};
use callboard_instructions::records::{self, BATCH, MessageIds, NOW, OFFSET};
use callboard_protocol::{ExchangeKind, ExchangeName, Offset, PartitionId, TopicName};
use gungraun::{library_benchmark, library_benchmark_group};

const LIMITS: AdmitLimits = AdmitLimits {
    dedup_window_ms: 120_000,
    records_max: None,
    record_bytes_max: 1 << 20,
    kept: 0,
};

/// A partition that has taken a batch before, and the next one.
fn admitting(ids: MessageIds) -> (Partition, Draft) {
    let mut partition = Partition::new(Offset(OFFSET), NOW);
    partition.admit(NOW, records::draft(MessageIds::None), &LIMITS);
    partition.commit(Offset(OFFSET + BATCH));
    (partition, records::draft(ids))
}

// Offsets for a batch, and that it is committed.
#[library_benchmark]
#[bench::batch(args = (MessageIds::None), setup = admitting)]
#[bench::batch_with_message_ids(args = (MessageIds::Each), setup = admitting)]
fn admit((mut partition, draft): (Partition, Draft)) -> (Partition, Admission) {
    let admission = partition.admit(NOW, black_box(draft), &LIMITS);
    partition.commit(partition.next_offset());
    assert_eq!(partition.visible_next(), Offset(OFFSET + 2 * BATCH));
    (partition, admission)
}

const PARTITION: PartitionId = PartitionId(0);
const WORKER: MemberId = MemberId(1);

/// A group with a worker that has leased and acked a few batches before.
fn leasing(ordering: Ordering) -> SharedGroup {
    let settings = LeaseSettings {
        attempts_max: 5,
        retry_backoff_ms: 1000,
        retry_backoff_ms_max: 60_000,
    };
    let mut group = SharedGroup::new(settings, ordering);
    group.open_partition(PARTITION, Offset(OFFSET));
    group
        .join(WORKER, 256, 30_000, Exclusive::No)
        .expect("it is the first");
    for _ in 0..4 {
        lease_and_ack(&mut group);
    }
    group
}

fn lease_and_ack(group: &mut SharedGroup) {
    let end = group.floor(PARTITION).map_or(OFFSET, |floor| floor.0) + BATCH;
    group.set_end(PARTITION, Offset(end));
    let mut deliveries = Vec::with_capacity(BATCH as usize);
    while let Some(Want::Fresh { from, count, .. }) = group.want(NOW) {
        for offset in from.0..from.0 + count {
            let key = offset * 7 % 1000;
            match group.take(NOW, PARTITION, Offset(offset), Some(key)) {
                Take::Leased(leased) => deliveries.push(leased.delivery),
                Take::Held | Take::Full => unreachable!("it is free, and there is credit"),
            }
        }
    }
    for delivery in deliveries {
        group.ack(NOW, WORKER, delivery).expect("it is out");
    }
    // What the group's log is given, so that it does not pile up.
    *group.log() = EntryWriter::new();
    assert_eq!(group.floor(PARTITION), Some(Offset(end)));
}

// Each record of 50 batches leased, and each acked: so many because a map with a random seed is tidied up now and
// then, and has to be so about equally often in each run.
#[library_benchmark]
#[bench::of_50_batches(args = (Ordering::BestEffort), setup = leasing)]
#[bench::of_50_batches_in_order_of_keys(args = (Ordering::Key), setup = leasing)]
fn lease(mut group: SharedGroup) -> SharedGroup {
    for _ in 0..50 {
        lease_and_ack(&mut group);
    }
    group
}

/// An exchange with a thousand bindings, and keys that each reach one topic or two.
fn bound(kind: ExchangeKind) -> (Exchanges, Vec<String>) {
    let name = ExchangeName::parse("readings").expect("a good name");
    let mut exchanges = Exchanges::default();
    let exchange = Exchange {
        name: name.clone(),
        kind,
        alternate: None,
    };
    exchanges.declare(exchange).expect("it is new");
    for number in 0..1000 {
        let routing_key = match (kind, number % 3) {
            (ExchangeKind::Topic, 1) => format!("plant.*.sensor-{number}.#"),
            (ExchangeKind::Topic, 2) => format!("#.sensor-{number}"),
            _ => format!("plant.line-{}.sensor-{number}", number % 10),
        };
        let topic = TopicName::parse(&format!("topic-{number}")).expect("a good name");
        let binding = Binding {
            id: BindingId(number),
            exchange: name.clone(),
            to: Destination::Topic(topic),
            routing_key: routing_key.into(),
        };
        exchanges.bind(binding).expect("the key is good");
    }
    let keys = (0..BATCH).map(|number| format!("plant.line-{}.sensor-{}", number * 9 % 10, number * 9));
    (exchanges, keys.collect())
}

// Where each key of a batch leads.
#[library_benchmark]
#[bench::direct(args = (ExchangeKind::Direct), setup = bound)]
#[bench::topic(args = (ExchangeKind::Topic), setup = bound)]
fn route((exchanges, keys): (Exchanges, Vec<String>)) -> (Exchanges, Vec<Routes>) {
    let route = |key: &String| exchanges.route("readings", key).expect("it is there");
    let routes: Vec<Routes> = keys.iter().map(route).collect();
    assert!(routes.iter().all(|routes| !routes.topics.is_empty()));
    (exchanges, routes)
}

library_benchmark_group!(name = decide, benchmarks = [admit, lease, route]);
