//! Promises of scheduled records: nothing early, nothing lost, nothing twice, also where the log was cut, its
//! entries were moved, or a crash kept only a part of what was written last.

mod model;

use callboard_core::{
    record::RecordParts,
    schedule::{
        Schedules,
        log::{Entry, EntryError, Scheduled},
    },
};
use callboard_protocol::{Offset, Timestamp};

use self::model::Play;
use crate::random::Random;

/// An encoded record.
fn record(message_id: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let parts = RecordParts {
        message_id,
        payload,
        ..RecordParts::default()
    };
    parts.encode(&mut bytes);
    bytes
}

fn scheduled(at: u64, due: u64, record: &[u8]) -> Scheduled<'_> {
    Scheduled {
        at: Timestamp(at),
        due: Timestamp(due),
        record,
    }
}

/// The numbers of those that are due.
fn due(schedules: &Schedules, now: u64) -> Vec<u64> {
    schedules
        .due(Timestamp(now))
        .map(|waiting| waiting.turn.number)
        .collect()
}

pub fn random_schedules_are_delivered_once_through_crashes() {
    for seed in 0..3000 {
        let mut play = Play::new(seed);
        for _ in 0..80 {
            play.step();
        }
        play.finish();
    }
}

/// Of many large records all but a few are done: the log gives their space back although the few stay.
pub fn log_that_is_mostly_done_is_moved_and_cut() {
    const RECORD_BYTES: usize = 10_000;
    let large = record(None, &vec![b'1'; RECORD_BYTES]);
    let mut schedules = Schedules::new(Offset::ZERO);
    let mut span_max = 0;
    for round in 0..2000_u64 {
        // One in a hundred is due at the end of time.
        let due_at = if round % 100 == 0 { u64::MAX } else { round };
        let bytes = large.len() as u32;
        schedules.add(&scheduled(round, due_at, &large), bytes);
        let numbers = due(&schedules, round);
        if !numbers.is_empty() {
            schedules.take(&numbers, 20);
        }
        let to_move = schedules.to_move();
        let moved: Vec<_> = to_move
            .iter()
            .map(|waiting| (waiting.turn.number, waiting.bytes))
            .collect();
        if !moved.is_empty() {
            assert_eq!(schedules.cut(), to_move[0].place, "the oldest go first");
            schedules.relocate(&moved);
            assert!(schedules.to_move().is_empty(), "one move at a time");
        }
        schedules.committed(schedules.next_place());
        span_max = span_max.max(schedules.next_place().since(schedules.cut()));
    }
    assert_eq!(schedules.len(), 20, "those that wait");
    let span_bytes = span_max * RECORD_BYTES as u64 / 2;
    assert!(span_bytes < 4 << 20, "{span_max} entries were kept at once");
    assert_eq!(due(&schedules, u64::MAX).len(), 20);
}

pub fn record_is_due_at_its_time_and_not_before() {
    let payload = record(None, b"1");
    let mut schedules = Schedules::new(Offset(7));
    assert_eq!(schedules.next_due(), None);
    let bytes = payload.len() as u32;
    let late = schedules.add(&scheduled(0, 500, &payload), bytes);
    let soon = schedules.add(&scheduled(0, 400, &payload), bytes);
    let same = schedules.add(&scheduled(0, 400, &payload), bytes);
    assert_eq!(
        (late.turn.number, soon.turn.number, same.turn.number),
        (7, 8, 9),
        "the number is the place"
    );
    assert_eq!(schedules.next_due(), Some(Timestamp(400)));
    assert!(due(&schedules, 399).is_empty());
    assert_eq!(due(&schedules, 400), [8, 9]);
    assert_eq!(due(&schedules, 500), [8, 9, 7]);
    schedules.take(&[8, 9], 3);
    assert_eq!(
        due(&schedules, 500),
        [7],
        "what is on its way does not come again"
    );
    assert_eq!(schedules.cut(), Offset(7));
    schedules.take(&[7], 3);
    assert_eq!(
        schedules.cut(),
        Offset(7),
        "until it is committed, it may have to come again"
    );
    schedules.committed(Offset(12));
    assert_eq!(schedules.cut(), Offset(12));
    assert!(schedules.is_empty());
}

/// A moved entry may lie where the number of a forgotten record points.
pub fn number_that_was_forgotten_names_no_other_entry() {
    let payload = record(None, b"1");
    let mut schedules = Schedules::new(Offset::ZERO);
    let entry = scheduled(0, 10, &payload);
    schedules.add(&entry, 10);
    assert_eq!(schedules.relocate(&[(0, 10)]), Offset(1));
    schedules.committed(Offset(2));
    assert_eq!(schedules.cut(), Offset(1));
    assert_eq!(schedules.get(1), None, "1 is a place and no number");
    schedules.take(&[1], 3);
    schedules.committed(Offset(3));
    let kept = schedules.get(0).expect("it still waits");
    assert_eq!((kept.place, kept.turn.due), (Offset(1), Timestamp(10)));
}

pub fn message_id_is_known_while_its_record_waits_and_inside_its_window() {
    let payload = record(Some("a"), b"1");
    let mut schedules = Schedules::new(Offset::ZERO);
    let bytes = payload.len() as u32;
    let first = schedules.add(&scheduled(1000, 90_000, &payload), bytes);
    let known = |schedules: &Schedules, now| {
        schedules
            .repeated(b"a", Timestamp(now), 100)
            .map(|it| it.turn.number)
    };
    assert_eq!(known(&schedules, 1099), Some(0));
    assert_eq!(known(&schedules, 1100), None);
    let second = schedules.add(&scheduled(1100, 90_001, &payload), bytes);
    assert_eq!(known(&schedules, 1100), Some(second.turn.number));
    // The older one is moved, and the log is replayed: the newer one still has the name.
    let mut again = Schedules::new(Offset::ZERO);
    again.replay(
        first.place,
        bytes,
        &Entry::Scheduled(scheduled(1000, 90_000, &payload)),
    );
    again.replay(
        second.place,
        bytes,
        &Entry::Scheduled(scheduled(1100, 90_001, &payload)),
    );
    let moved = Entry::Moved {
        number: 0,
        scheduled: scheduled(1000, 90_000, &payload),
    };
    again.replay(Offset(2), bytes, &moved);
    assert_eq!(known(&again, 1199), Some(second.turn.number));
    schedules.take(&[second.turn.number], 3);
    assert_eq!(known(&schedules, 1100), None, "it is on its way");
}

fn written(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = entry.encode(&mut bytes);
    assert_eq!(length as usize, bytes.len());
    bytes
}

fn payload_of(written: &[u8]) -> Vec<u8> {
    let (parts, size) = RecordParts::decode(written).expect("an entry is a record of its log");
    assert!(parts.binary && size == written.len());
    parts.payload.to_vec()
}

/// A number of a random size, so that varints of every length come up.
fn number(random: &mut Random, bits_max: u64) -> u64 {
    let bits = 1 + random.below(bits_max);
    random.next() >> (64 - bits)
}

fn with_random_entry<T>(random: &mut Random, use_it: impl FnOnce(&Entry<'_>) -> T) -> T {
    let count = random.below(40);
    let payload = random.bytes(count);
    let record = record(random.chance(1, 2).then_some("id"), &payload);
    let scheduled = scheduled(number(random, 64), number(random, 64), &record);
    let mut numbers: Vec<u64> = (0..random.below(9)).map(|_| number(random, 53)).collect();
    numbers.sort_unstable();
    let entry = match random.below(4) {
        0 => Entry::Scheduled(scheduled),
        1 => Entry::Moved {
            number: number(random, 53),
            scheduled,
        },
        2 => Entry::Done(numbers),
        _ => Entry::Cancelled(numbers),
    };
    use_it(&entry)
}

pub fn schedule_entries_come_back_as_they_were_written() {
    for seed in 0..10_000 {
        with_random_entry(&mut Random::new(seed), |entry| {
            let payload = payload_of(&written(entry));
            assert_eq!(Entry::decode(&payload).as_ref(), Ok(entry), "seed {seed}");
        });
    }
}

/// The examples of the document, byte by byte.
pub fn schedule_entries_are_encoded_as_documented() {
    let record = record(None, b"7");
    let entry = Entry::Scheduled(scheduled(1000, 2500, &record));
    let expected = [&[1, 1, 0xE8, 0x07, 0xC4, 0x13], &record[..]].concat();
    assert_eq!(payload_of(&written(&entry)), expected);
    let entry = Entry::Moved {
        number: 300,
        scheduled: scheduled(1000, 2500, &record),
    };
    let expected = [&[1, 2, 0xAC, 0x02, 0xE8, 0x07, 0xC4, 0x13], &record[..]].concat();
    assert_eq!(payload_of(&written(&entry)), expected);
    assert_eq!(
        payload_of(&written(&Entry::Done(vec![300, 301, 305]))),
        [1, 3, 0xAC, 0x02, 1, 4]
    );
    assert_eq!(payload_of(&written(&Entry::Cancelled(vec![0]))), [1, 4, 0]);
}

pub fn hurt_schedule_entries_are_errors_and_never_a_panic() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut payload = with_random_entry(&mut random, |entry| payload_of(&written(entry)));
        for cut in 0..payload.len() {
            // Numbers that are cut between two are fewer numbers; any other cut is noticed.
            if let Ok(entry) = Entry::decode(&payload[..cut]) {
                assert!(entry.scheduled().is_none(), "seed {seed}, cut at {cut}");
            }
        }
        let hurt = random.below(payload.len() as u64) as usize;
        payload[hurt] ^= 1 << random.below(8);
        let _ = Entry::decode(&payload);
        let _ = Entry::decode(&random.bytes(20));
    }
    assert_eq!(Entry::decode(&[]), Err(EntryError::Truncated));
    assert_eq!(Entry::decode(&[1]), Err(EntryError::Truncated));
    assert_eq!(Entry::decode(&[2, 1]), Err(EntryError::Version(2)));
    assert_eq!(Entry::decode(&[1, 5]), Err(EntryError::Kind(5)));
    assert_eq!(Entry::decode(&[1, 1, 5, 6, 1]), Err(EntryError::Invalid));
    let beyond_safe = [&[1, 3][..], &[0xFF; 8], &[1]].concat();
    assert_eq!(Entry::decode(&beyond_safe), Err(EntryError::Invalid));
}
