//! Promises of a group log's encoding: what was pushed is replayed, and hurt bytes are noticed.

use callboard_core::{
    group_log::{Entry, EntryError, EntryWriter, entries},
    member::Generation,
};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use crate::random::Random;

const REASONS: [&str; 4] = ["", "not a number", "größer als 9", "\u{0}\n\"\\"];

/// A number of a random size, so that varints of every length come up.
fn number(random: &mut Random, bits_max: u64) -> u64 {
    let bits = 1 + random.below(bits_max);
    random.next() >> (64 - bits)
}

fn random_entry(random: &mut Random) -> Entry<'static> {
    let partition = PartitionId(number(random, 32) as u32);
    let offset = Offset(number(random, 52));
    let count = 1 + number(random, 51);
    match random.below(10) {
        0 => Entry::Snapshot,
        1 => Entry::Generation(Generation(number(random, 64))),
        2 => Entry::Position { partition, offset },
        3 => Entry::Taken {
            partition,
            from: offset,
            count,
            attempt: 1 + number(random, 31) as u32,
        },
        4 => Entry::Finished {
            partition,
            from: offset,
            count,
        },
        5 => Entry::Returned {
            partition,
            offset,
            due: Timestamp(number(random, 64)),
        },
        6 => Entry::Doomed {
            partition,
            offset,
            failed_at: Timestamp(number(random, 64)),
            reason: REASONS[random.below(4) as usize],
        },
        7 => Entry::Counters {
            acked: number(random, 64),
            dead_lettered: number(random, 64),
            redriven: number(random, 64),
        },
        8 => Entry::Redriven {
            partition,
            next: offset,
            count,
        },
        _ => Entry::Letters(number(random, 64)),
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Entry<'_>>, EntryError> {
    entries(bytes)?.collect()
}

fn written(all: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = EntryWriter::new();
    all.iter().for_each(|entry| writer.push(entry));
    let len_bytes_max = writer.len_bytes();
    let bytes = writer.finish();
    assert!(bytes.len() <= len_bytes_max, "len_bytes is an upper bound");
    assert!(writer.is_empty());
    bytes
}

fn taken(partition: u32, from: u64, count: u64, attempt: u32) -> Entry<'static> {
    Entry::Taken {
        partition: PartitionId(partition),
        from: Offset(from),
        count,
        attempt,
    }
}

fn finished(partition: u32, from: u64, count: u64) -> Entry<'static> {
    Entry::Finished {
        partition: PartitionId(partition),
        from: Offset(from),
        count,
    }
}

pub fn every_entry_comes_back_as_it_was_pushed() {
    for seed in 0..10_000 {
        let entry = random_entry(&mut Random::new(seed));
        let bytes = written(&[entry]);
        assert_eq!(read(&bytes), Ok(vec![entry]), "seed {seed}");
    }
}

pub fn runs_of_members_that_take_turns_are_merged() {
    let mut all = Vec::new();
    for turn in 0..100 {
        for member in 0..8 {
            all.push(taken(
                member % 2,
                u64::from(member) * 1000 + turn,
                1,
                1 + member / 4,
            ));
            all.push(finished(member % 2, u64::from(member) * 1000 + turn, 1));
        }
    }
    let mut expected: Vec<_> = (0..8)
        .map(|member| taken(member % 2, u64::from(member) * 1000, 100, 1 + member / 4))
        .collect();
    expected.extend((0..8).map(|member| finished(member % 2, u64::from(member) * 1000, 100)));
    assert_eq!(read(&written(&all)), Ok(expected));
}

pub fn runs_pass_no_entry_of_another_kind() {
    let returned = Entry::Returned {
        partition: PartitionId(0),
        offset: Offset(4),
        due: Timestamp(0),
    };
    let all = [
        taken(0, 4, 1, 1),
        returned,
        taken(0, 4, 1, 2),
        taken(0, 5, 1, 2),
        finished(0, 4, 1),
    ];
    let expected = vec![taken(0, 4, 1, 1), returned, taken(0, 4, 2, 2), finished(0, 4, 1)];
    assert_eq!(read(&written(&all)), Ok(expected));
}

/// Pushes random runs and others, and compares what each offset went through.
pub fn merging_changes_nothing_for_any_one_record() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut attempts = [0; 40];
        let mut all = Vec::new();
        for _ in 0..60 {
            let from = random.below(36) as usize;
            let count = 1 + random.below(4);
            let partition = PartitionId(0);
            if random.chance(1, 2) {
                all.push(finished(0, 100 + from as u64, count));
                continue;
            }
            if attempts[from] > 0 {
                all.push(Entry::Returned {
                    partition,
                    offset: Offset(from as u64),
                    due: Timestamp(0),
                });
            }
            attempts[from] += 1;
            all.push(taken(0, from as u64, 1, attempts[from]));
        }
        let bytes = written(&all);
        let back = read(&bytes).expect("what was just written");
        for offset in 0..140 {
            let touches = |entry: &&Entry<'_>| match **entry {
                Entry::Taken { from, count, .. } | Entry::Finished { from, count, .. } => {
                    (from.0..from.0 + count).contains(&offset)
                }
                Entry::Returned { offset: at, .. } => at.0 == offset,
                _ => false,
            };
            let story = |entries: &[Entry<'_>]| -> Vec<_> {
                let kind = |entry: &Entry<'_>| match *entry {
                    Entry::Taken { attempt, .. } => (1, attempt),
                    Entry::Finished { .. } => (2, 0),
                    _ => (3, 0),
                };
                entries.iter().filter(touches).map(kind).collect()
            };
            assert_eq!(story(&back), story(&all), "seed {seed}, offset {offset}");
        }
    }
}

pub fn hurt_entries_are_errors_and_never_a_panic() {
    for seed in 0..1000 {
        let mut random = Random::new(seed);
        let mut bytes = written(&(0..4).map(|_| random_entry(&mut random)).collect::<Vec<_>>());
        for cut in 1..bytes.len() {
            // A cut between two entries leaves whole ones; any other is noticed.
            if let Err(error) = read(&bytes[..cut]) {
                assert_eq!(error, EntryError::Truncated, "seed {seed}, cut at {cut}");
            }
        }
        let hurt = random.below(bytes.len() as u64) as usize;
        bytes[hurt] ^= 1 << random.below(8);
        let _ = read(&bytes);
        let _ = read(&random.bytes(20));
    }
    assert_eq!(read(&[]), Err(EntryError::Truncated));
    assert_eq!(read(&[2, 0]), Err(EntryError::Version(2)));
    assert_eq!(read(&[1, 10]), Err(EntryError::Kind(10)));
    let no_records = [1, 4, 0, 5, 0];
    assert_eq!(read(&no_records), Err(EntryError::Invalid));
    let attempt_0 = [1, 3, 0, 5, 1, 0];
    assert_eq!(read(&attempt_0), Err(EntryError::Invalid));
    let eleven_bytes = [&[1, 1][..], &[0xFF; 10], &[1]].concat();
    assert_eq!(read(&eleven_bytes), Err(EntryError::Invalid));
}

/// The examples of the document, byte by byte.
pub fn entries_are_encoded_as_documented() {
    let all = [
        taken(3, 300, 2, 1),
        finished(3, 300, 1),
        Entry::Doomed {
            partition: PartitionId(3),
            offset: Offset(301),
            failed_at: Timestamp(1000),
            reason: "no",
        },
    ];
    let expected = [
        &[1][..],
        &[3, 3, 0xAC, 0x02, 2, 1],
        &[4, 3, 0xAC, 0x02, 1],
        &[6, 3, 0xAD, 0x02, 0xE8, 0x07, 2, b'n', b'o'],
    ];
    assert_eq!(written(&all), expected.concat());
}
