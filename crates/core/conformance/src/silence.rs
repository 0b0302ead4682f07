//! Promises about sources that fall silent.

use callboard_core::silence::{News, Silence};
use callboard_protocol::Timestamp;

use crate::random::Random;

pub fn silence_is_told_once_and_so_is_its_end() {
    let mut silence = Silence::new(Timestamp(1000), 100);
    assert_eq!(silence.next_timeout(None), Some(Timestamp(1100)));
    assert_eq!(silence.look(Timestamp(1099), None), None);
    assert_eq!(
        silence.look(Timestamp(1107), None),
        Some(News::Silent { silent_ms: 107 })
    );
    assert_eq!(
        silence.next_timeout(None),
        None,
        "nothing can happen but a record"
    );
    assert_eq!(silence.look(Timestamp(9000), None), None);
    assert_eq!(silence.heard_now(Timestamp(9100)), Some(News::Back));
    assert_eq!(silence.heard_now(Timestamp(9101)), None);
    let last = Some(Timestamp(9101));
    assert_eq!(silence.next_timeout(last), Some(Timestamp(9201)));
    assert_eq!(silence.look(Timestamp(9200), last), None);
    assert_eq!(
        silence.look(Timestamp(9201), last),
        Some(News::Silent { silent_ms: 100 })
    );
}

pub fn records_before_it_was_listened_to_do_not_count() {
    let mut silence = Silence::new(Timestamp(5000), 100);
    let last = Some(Timestamp(10));
    assert_eq!(silence.look(Timestamp(5050), last), None);
    assert_eq!(
        silence.look(Timestamp(5100), last),
        Some(News::Silent { silent_ms: 100 })
    );
    silence.set_after(Timestamp(5200), 300);
    assert!(silence.is_silent(), "another patience is no record");
    assert_eq!(silence.heard_now(Timestamp(5300)), Some(News::Back));
    silence.set_after(Timestamp(5400), 200);
    assert_eq!(silence.next_timeout(last), Some(Timestamp(5600)));
    silence.set_after(Timestamp(5500), 200);
    assert_eq!(
        silence.next_timeout(last),
        Some(Timestamp(5600)),
        "the same is no change"
    );
}

/// Whoever looks whenever it asks to be looked at is told of each pause that is long enough, and of no other.
pub fn every_long_pause_is_told_and_no_short_one() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let after_ms = 100 + random.below(1000);
        let mut now = Timestamp(1_000_000);
        let mut silence = Silence::new(now, after_ms);
        let mut last = None;
        for _ in 0..50 {
            let pause_ms = random.below(2 * after_ms);
            let record = now.plus_ms(pause_ms);
            let mut told = 0;
            while let Some(due) = silence.next_timeout(last).filter(|due| *due <= record) {
                told += u64::from(silence.look(due, last).is_some());
            }
            assert_eq!(told, u64::from(pause_ms >= after_ms), "seed {seed}");
            let back = silence.heard_now(record);
            assert_eq!(back.is_some(), told == 1, "seed {seed}");
            (now, last) = (record, Some(record));
        }
    }
}
