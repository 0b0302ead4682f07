//! What a partitioned group costs: a commit, and a member that comes and goes among few and among many.

use std::{collections::BTreeMap, hint::black_box};

use callboard_core::{
    group::{Event, Join, PartitionedGroup, Timing},
    member::{Exclusive, MemberId},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp(1_000_000);
const TIMING: Timing = Timing {
    rejoin_grace_ms: 5000,
    revoke_grace_ms: 1000,
};

/// Partitions of the topic, and members.
const SIZES: [(u32, u64); 3] = [(8, 4), (64, 16), (1024, 128)];

fn join(group: &mut PartitionedGroup, member: u64) {
    let starts = BTreeMap::new();
    let join = Join {
        member: MemberId(member),
        name: None,
        exclusive: Exclusive::No,
        starts: &starts,
    };
    group.join(NOW, join).expect("nobody is exclusive");
}

/// What the actor does with the events: it has members stop what they lose, until nothing more comes.
fn settle(group: &mut PartitionedGroup) {
    loop {
        let events = group.drain_events();
        if events.is_empty() {
            return;
        }
        for event in black_box(events) {
            if let Event::Revoked {
                member, partitions, ..
            } = event
            {
                for partition in partitions {
                    group.stopped(NOW, member, partition, None);
                }
            }
        }
    }
}

fn group(partitions: u32, members: u64) -> PartitionedGroup {
    let mut group = PartitionedGroup::new(TIMING);
    let firsts = (0..partitions).map(|partition| (PartitionId(partition), Offset::ZERO));
    group.set_partitions(NOW, &firsts.collect());
    for member in 0..members {
        join(&mut group, member);
        settle(&mut group);
    }
    group
}

fn rebalance(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("a member comes and goes");
    for (partitions, members) in SIZES {
        let mut group = group(partitions, members);
        let mut newest = members;
        let name = format!("{partitions} partitions, {members} members");
        benches.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                newest += 1;
                join(&mut group, newest);
                settle(&mut group);
                group.leave(NOW, MemberId(newest));
                settle(&mut group);
            });
        });
        let all_owned = (0..partitions).all(|partition| group.owner(PartitionId(partition)).is_some());
        assert!(all_owned, "every partition has an owner again");
    }
    benches.finish();
}

fn commit(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("commit one partition");
    for (partitions, members) in SIZES {
        let mut group = group(partitions, members);
        let partition = PartitionId(partitions / 2);
        let owner = group.owner(partition).expect("every partition has one");
        let mut next = 0;
        let name = format!("{partitions} partitions, {members} members");
        benches.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                next += 100;
                let offsets = BTreeMap::from([(partition, Offset(next))]);
                group.commit(NOW, owner, None, &offsets).expect("it owns it");
                black_box(group.drain_events())
            });
        });
        assert_eq!(group.committed(partition), Some(Offset(next)));
    }
    benches.finish();
}

criterion_group!(benches, rebalance, commit);
criterion_main!(benches);
