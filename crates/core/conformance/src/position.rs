//! Promises about where a subscription begins.

use callboard_core::position::{PartitionRange, Start, Tail, last_n, resume};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use crate::random::Random;

pub fn resume_goes_on_where_it_can_and_says_when_it_can_not() {
    let range = PartitionRange {
        partition: PartitionId(3),
        first: Offset(10),
        next: Offset(20),
    };
    for (asked, same_epoch, offset, recovered) in [
        (Some(10), true, 10, true),
        (Some(15), true, 15, true),
        (Some(20), true, 20, true),
        (Some(21), true, 20, false),
        (Some(9), true, 10, false),
        (Some(0), true, 10, false),
        (None, true, 10, true),
        (Some(15), false, 10, false),
        (Some(10), false, 10, false),
        (None, false, 10, false),
    ] {
        let start = resume(range, asked.map(Offset), same_epoch);
        let expected = Start {
            partition: PartitionId(3),
            offset: Offset(offset),
            recovered,
        };
        assert_eq!(start, expected, "asked {asked:?}, same epoch {same_epoch}");
    }
    // Retention has moved the beginning past an end that was read a moment earlier.
    let crossed = PartitionRange {
        first: Offset(21),
        ..range
    };
    assert_eq!(resume(crossed, Some(Offset(20)), true).offset, Offset(21));
}

/// Partitions with gaps in their offsets and few different timestamps, so that there are many ties.
fn random_tails(random: &mut Random) -> Vec<Tail> {
    let mut tails = Vec::new();
    for partition in 0..random.below(5) {
        let (mut offset, mut time) = (random.below(5), 0);
        let mut tail = Vec::new();
        for _ in 0..random.below(8) {
            tail.push((Offset(offset), Timestamp(time)));
            offset += 1 + random.below(3);
            time += random.below(3);
        }
        tails.push((PartitionId(partition as u32), Offset(offset), tail));
    }
    tails
}

pub fn last_n_is_the_newest_of_the_whole_topic() {
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let tails = random_tails(&mut random);
        let count = random.below(12);
        let mut newest: Vec<_> = tails
            .iter()
            .flat_map(|(partition, _, tail)| {
                let from_end = (0..tail.len()).rev();
                tail.iter()
                    .zip(from_end)
                    .map(|((offset, time), from_end)| (time.0, from_end, *partition, *offset))
            })
            .collect();
        newest.sort_by_key(|&(time, from_end, partition, _)| (u64::MAX - time, from_end, partition));
        newest.truncate(count as usize);

        let starts = last_n(count, &tails);
        assert_eq!(starts.len(), tails.len(), "seed {seed}");
        for ((partition, next, tail), start) in tails.iter().zip(&starts) {
            let expected = newest
                .iter()
                .filter(|taken| taken.2 == *partition)
                .map(|taken| taken.3)
                .min();
            assert_eq!(*start, (*partition, expected.unwrap_or(*next)), "seed {seed}");
            let given = tail.iter().filter(|(offset, _)| *offset >= start.1).count();
            assert_eq!(
                given,
                newest.iter().filter(|taken| taken.2 == *partition).count(),
                "seed {seed}"
            );
        }
        // More than asked of each partition changes nothing: the caller may read generously or exactly.
        let exact: Vec<_> = tails
            .iter()
            .map(|(partition, next, tail)| {
                (
                    *partition,
                    *next,
                    tail[tail.len().saturating_sub(count as usize)..].to_vec(),
                )
            })
            .collect();
        assert_eq!(last_n(count, &exact), starts, "seed {seed}");
    }
}
