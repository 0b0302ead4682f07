//! Promises of a shared group that show only with many records or several partitions.

use callboard_core::{
    group_log::EntryWriter,
    lease::{LeaseSettings, Leased, Nack, Ordering, SharedGroup, Take, Want},
    member::{Exclusive, MemberId},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};

const SETTINGS: LeaseSettings = LeaseSettings {
    attempts_max: 5,
    retry_backoff_ms: 1000,
    retry_backoff_ms_max: 60_000,
};
const LEASE_MS: u64 = 30_000;

/// A group that has `records` in each of so many partitions.
fn group(ordering: Ordering, partitions: u32, records: u64) -> SharedGroup {
    let mut group = SharedGroup::new(SETTINGS, ordering);
    for partition in (0..partitions).map(PartitionId) {
        group.open_partition(partition, Offset(0));
        group.set_end(partition, Offset(records));
    }
    group
}

fn join(group: &mut SharedGroup, member: u64, credit: u64) {
    let joined = group.join(MemberId(member), credit, LEASE_MS, Exclusive::No);
    assert_eq!(joined, Ok(()));
}

/// Hands out what is wanted next, and returns who got what.
fn read(group: &mut SharedGroup, now: u64, key: Option<u64>) -> Option<(Want, Vec<(Offset, Leased)>)> {
    let now = Timestamp(now);
    let want = group.want(now)?;
    let (partition, from, count) = match want {
        Want::Fresh {
            partition,
            from,
            count,
        } => (partition, from, count),
        Want::Again { partition, offset } => (partition, offset, 1),
    };
    let mut leases = Vec::new();
    for offset in (from.0..from.0 + count).map(Offset) {
        if let Take::Leased(leased) = group.take(now, partition, offset, key) {
            leases.push((offset, leased));
        }
    }
    Some((want, leases))
}

pub fn one_record_that_stays_out_holds_up_nothing() {
    const RECORDS: u64 = 50_000;
    let partition = PartitionId(0);
    let mut group = group(Ordering::BestEffort, 1, RECORDS);
    join(&mut group, 1, 100);
    let mut first = None;
    while let Some((_, leases)) = read(&mut group, 5, None) {
        for (offset, leased) in leases {
            if offset == Offset(0) {
                first = Some(leased);
            } else {
                let acked = group.ack(Timestamp(5), leased.member, leased.delivery);
                assert_eq!(acked, Ok((partition, offset)));
            }
        }
    }
    let first = first.expect("the first record was handed out");
    assert_eq!(group.floor(partition), Some(Offset(0)));
    assert_eq!(group.unfinished(partition), 1);
    let mut snapshot = EntryWriter::new();
    group.snapshot(&mut snapshot);
    assert!(
        snapshot.finish().len() < 64,
        "what is finished above the floor is one run"
    );
    assert_eq!(group.next_timeout(), Some(Timestamp(5 + LEASE_MS)));
    group.tick(Timestamp(4 + LEASE_MS));
    assert_eq!(group.leased(partition), 1, "its lease did not end early");
    let acked = group.ack(Timestamp(4 + LEASE_MS), first.member, first.delivery);
    assert_eq!(acked, Ok((partition, Offset(0))));
    assert_eq!(group.floor(partition), Some(Offset(RECORDS)));
}

pub fn lease_taken_after_the_clock_went_back_ends_in_its_time() {
    let mut group = group(Ordering::BestEffort, 1, 3);
    join(&mut group, 1, 1);
    read(&mut group, 1_000_000, None);
    group.add_credit(MemberId(1), 1);
    read(&mut group, 1000, None);
    group.add_credit(MemberId(1), 1);
    read(&mut group, 2000, None);
    assert_eq!(group.leased(PartitionId(0)), 3);
    assert_eq!(group.next_timeout(), Some(Timestamp(1000 + LEASE_MS)));
    for (ends, left) in [(1000, 2), (2000, 1), (1_000_000, 0)] {
        group.tick(Timestamp(ends + LEASE_MS - 1));
        assert_eq!(group.leased(PartitionId(0)), left + 1);
        group.tick(Timestamp(ends + LEASE_MS));
        assert_eq!(group.leased(PartitionId(0)), left);
    }
    let (_, leases) = read(&mut group, 2_000_000, None).expect("they come again");
    let (_, leased) = leases[0];
    let acked = group.ack(Timestamp(2_000_000), leased.member, leased.delivery);
    assert!(acked.is_ok());
    read(&mut group, 3000, None);
    assert_eq!(group.next_timeout(), Some(Timestamp(3000 + LEASE_MS)));
    group.tick(Timestamp(3000 + LEASE_MS));
    assert_eq!(
        group.leased(PartitionId(0)),
        0,
        "also the only lease of its member"
    );
}

pub fn partitions_take_turns() {
    let mut group = group(Ordering::BestEffort, 3, 10_000);
    join(&mut group, 1, 10);
    for _ in 0..5 {
        // Being sought gives a partition no second place in the queue.
        group.seek(Timestamp(5), PartitionId(1), Offset(0));
    }
    let mut served = [0; 3];
    for _ in 0..30 {
        let (want, leases) = read(&mut group, 5, None).expect("there are records and credit");
        let Want::Fresh { partition, .. } = want else {
            panic!("nothing comes again: {want:?}");
        };
        served[partition.0 as usize] += leases.len();
        for (_, leased) in leases {
            let acked = group.ack(Timestamp(5), leased.member, leased.delivery);
            assert!(acked.is_ok());
        }
    }
    assert_eq!(served, [100; 3]);
}

pub fn every_member_with_credit_gets_its_share() {
    let mut group = group(Ordering::BestEffort, 1, 100_000);
    let credits = [1, 3, 32, 33, 256, 256, 1000, 5];
    (1..)
        .zip(credits)
        .for_each(|(member, credit)| join(&mut group, member, credit));
    let mut got = [0; 8];
    let mut taken = 0;
    // Everybody acks at once, so credit never runs out and only turns decide.
    for offset in (0..80_000).map(Offset) {
        group.want(Timestamp(5));
        let Take::Leased(leased) = group.take(Timestamp(5), PartitionId(0), offset, None) else {
            panic!("everybody has credit");
        };
        got[leased.member.0 as usize - 1] += 1;
        taken += 1;
        let acked = group.ack(Timestamp(5), leased.member, leased.delivery);
        assert!(acked.is_ok());
        if taken % 256 == 0 {
            let (least, most) = (got.iter().min(), got.iter().max());
            let apart = most.zip(least).map(|(most, least)| most - least);
            assert!(apart <= Some(32), "after {taken}: {got:?}");
        }
    }
}

pub fn hot_key_is_held_back_only_up_to_a_bound() {
    const BOUND: u64 = 100_000;
    let mut group = group(Ordering::Key, 2, 3 * BOUND);
    join(&mut group, 1, 2000);
    let mut holders = Vec::new();
    while let Some((_, leases)) = read(&mut group, 5, Some(7)) {
        holders.extend(leases);
    }
    assert_eq!(holders.len(), 2, "one record of the key in each partition");
    for partition in [0, 1].map(PartitionId) {
        assert_eq!(group.leased(partition), 1);
        assert_eq!(group.waiting(partition), BOUND);
    }
    let (_, first) = holders[0];
    let nacked = group.nack(Timestamp(5), first.member, first.delivery, Nack::After(0));
    assert_eq!(nacked, Ok(None));
    let (want, leases) = read(&mut group, 5, Some(7)).expect("it comes again");
    assert!(matches!(want, Want::Again { .. }), "{want:?}");
    let (_, again) = leases[0];
    assert_eq!((again.attempt, group.want(Timestamp(5))), (2, None));
    let acked = group.ack(Timestamp(5), again.member, again.delivery);
    assert_eq!(acked.map(|(_, offset)| offset), Ok(Offset(0)));
    let (want, leases) = read(&mut group, 5, Some(7)).expect("the next of the key");
    assert!(
        matches!(
            want,
            Want::Again {
                offset: Offset(1),
                ..
            }
        ),
        "{want:?}"
    );
    assert_eq!(leases.len(), 1);
    let want = group.want(Timestamp(5));
    assert!(
        matches!(want, Some(Want::Fresh { count: 1, .. })),
        "there is room for one more: {want:?}"
    );
}

pub fn extensions_that_are_over_leave_no_timers() {
    let mut group = group(Ordering::BestEffort, 1, 1);
    join(&mut group, 1, 1);
    let (_, leases) = read(&mut group, 5, None).expect("there is a record");
    let (_, leased) = leases[0];
    for lease_ms in 1..100_000 {
        let extended = group.extend(Timestamp(5), leased.member, leased.delivery, 1_000_000 - lease_ms);
        assert_eq!(extended, Ok(()));
    }
    let acked = group.ack(Timestamp(5), leased.member, leased.delivery);
    assert!(acked.is_ok());
    let mut looks = 0;
    while let Some(timeout) = group.next_timeout() {
        group.tick(timeout);
        looks += 1;
    }
    assert!(looks < 200, "{looks} timers for one lease");
}

pub fn idle_group_is_small() {
    assert!(
        size_of::<SharedGroup>() <= 512,
        "there may be ten thousand: {}",
        size_of::<SharedGroup>()
    );
}
