//! Promises of a shared group, each a script and what must be seen of it; random schedules are in
//! `schedule`.
//!
//! A script's commands are played against a group with one partition, whose clock stands at 0. What is
//! seen is who got which offset (`a got 3`, and `x2` for its second attempt), what died, and what a
//! command was answered if that is more than yes.

mod load;
mod model;
mod schedule;

use std::fmt::Write as _;

use callboard_core::{
    group_log::{EntryWriter, entries},
    lease::{Cause, Dead, LeaseSettings, Nack, Ordering, SettleError, SharedGroup, Take, Want},
    member::{Exclusive, GroupError, MemberId},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};

pub use self::{
    load::{
        every_member_with_credit_gets_its_share, extensions_that_are_over_leave_no_timers,
        hot_key_is_held_back_only_up_to_a_bound, idle_group_is_small,
        lease_taken_after_the_clock_went_back_ends_in_its_time, one_record_that_stays_out_holds_up_nothing,
        partitions_take_turns,
    },
    schedule::{
        random_schedules_in_key_order_agree_with_the_naive_group,
        random_schedules_of_leases_agree_with_the_naive_group,
    },
};

const PARTITION: PartitionId = PartitionId(0);
const SETTINGS: LeaseSettings = LeaseSettings {
    attempts_max: 3,
    retry_backoff_ms: 1000,
    retry_backoff_ms_max: 3000,
};

/// A group with one partition, as a script plays it.
struct Play {
    group: SharedGroup,
    settings: LeaseSettings,
    ordering: Ordering,
    now: Timestamp,
    /// The key of each record.
    records: Vec<Option<u64>>,
    /// The records of the group's log.
    log: Vec<Vec<u8>>,
    seen: String,
}

fn member(name: &str) -> MemberId {
    MemberId(name.as_bytes()[0].into())
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

impl Play {
    fn new() -> Self {
        let mut group = SharedGroup::new(SETTINGS, Ordering::BestEffort);
        group.open_partition(PARTITION, Offset(0));
        Self {
            group,
            settings: SETTINGS,
            ordering: Ordering::BestEffort,
            now: Timestamp(0),
            records: Vec::new(),
            log: Vec::new(),
            seen: String::new(),
        }
    }

    fn see(&mut self, what: &str) {
        let comma = if self.seen.is_empty() { "" } else { ", " };
        write!(self.seen, "{comma}{what}").expect("strings take everything");
    }

    fn command(&mut self, words: &[&str]) {
        match *words {
            ["by-key"] => {
                self.ordering = Ordering::Key;
                self.group = SharedGroup::new(self.settings, self.ordering);
                self.group.open_partition(PARTITION, Offset(0));
            }
            ["attempts", max] => {
                self.settings.attempts_max = number(max) as u32;
                self.group.set_settings(self.settings);
            }
            ["publish", ref keys @ ..] => {
                let key = |key: &&str| (*key != "-").then(|| u64::from(key.as_bytes()[0]));
                self.records.extend(keys.iter().map(key));
                let end = Offset(self.records.len() as u64);
                self.group.set_end(PARTITION, end);
            }
            ["join", name, credit] => self.join(name, credit, Exclusive::No),
            ["join", name, credit, "exclusive"] => self.join(name, credit, Exclusive::Yes),
            ["deliver"] => self.deliver(),
            ["credit", name, add] => self.group.add_credit(member(name), number(add)),
            ["full", name] => self.group.set_ready(member(name), false),
            ["ready", name] => self.group.set_ready(member(name), true),
            ["retire", name] => self.group.retire(self.now, member(name)),
            ["leave", name] => self.group.leave(self.now, member(name)),
            ["tick", ms] => {
                self.now = self.now.plus_ms(number(ms));
                self.group.tick(self.now);
            }
            ["seek", offset] => self.group.seek(self.now, PARTITION, Offset(number(offset))),
            ["pass", from, next] => {
                self.group
                    .pass_over(PARTITION, Offset(number(from)), Offset(number(next)));
            }
            ["bury", offset] => self.group.buried(PARTITION, Offset(number(offset))),
            ["flush"] => self.flush(),
            ["snapshot"] => {
                self.group.log().finish();
                let mut out = EntryWriter::new();
                self.group.snapshot(&mut out);
                self.log = vec![out.finish()];
            }
            ["restart"] => {
                self.flush();
                self.restore();
            }
            ["crash"] => self.restore(),
            ["state"] => self.state(),
            _ => self.settle(words),
        }
        for dead in self.group.drain_dead() {
            self.see_dead(&dead);
        }
    }

    fn settle(&mut self, words: &[&str]) {
        let [verb, name, delivery, rest @ ..] = words else {
            panic!("no such command: {words:?}");
        };
        let (member, delivery) = (member(name), number(delivery));
        let nack = |group: &mut SharedGroup, now, nack| group.nack(now, member, delivery, nack);
        let answer = match (*verb, rest) {
            ("ack", []) => self.group.ack(self.now, member, delivery).map(|_| None),
            ("extend", [ms]) => {
                let extended = self.group.extend(self.now, member, delivery, number(ms));
                extended.map(|()| None)
            }
            ("nack", []) => nack(&mut self.group, self.now, Nack::Backoff),
            ("nack", ["dead"]) => nack(&mut self.group, self.now, Nack::DeadLetter),
            ("nack", [ms]) => nack(&mut self.group, self.now, Nack::After(number(ms))),
            _ => panic!("no such command: {words:?}"),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(dead)) => self.see_dead(&dead),
            Err(SettleError::UnknownDelivery) => self.see("unknown"),
            Err(SettleError::LeaseExpired) => self.see("expired"),
        }
    }

    fn join(&mut self, name: &str, credit: &str, exclusive: Exclusive) {
        let joined = self.group.join(member(name), number(credit), 30_000, exclusive);
        if let Err(GroupError::Conflict(_)) = joined {
            self.see("conflict");
        }
    }

    /// Reads what the group wants until it wants nothing more.
    fn deliver(&mut self) {
        while let Some(want) = self.group.want(self.now) {
            let (from, count) = match want {
                Want::Fresh { from, count, .. } => (from.0, count),
                Want::Again { offset, .. } => (offset.0, 1),
            };
            for offset in from..from + count {
                let key = self.records[offset as usize];
                if let Take::Leased(leased) = self.group.take(self.now, PARTITION, Offset(offset), key) {
                    let name = char::from(leased.member.0 as u8);
                    let attempt = match leased.attempt {
                        1 => String::new(),
                        attempt => format!(" x{attempt}"),
                    };
                    self.see(&format!("{name} got {offset}{attempt}"));
                }
            }
        }
    }

    fn see_dead(&mut self, dead: &Dead) {
        let cause = match dead.cause {
            Cause::Nacked => "nacked",
            Cause::Expired => "expired",
            Cause::Gone => "gone",
        };
        self.see(&format!("{} dead after {} {cause}", dead.offset, dead.attempts));
        self.group.doom(dead, self.now, cause);
    }

    fn flush(&mut self) {
        let record = self.group.log().finish();
        if !record.is_empty() {
            self.log.push(record);
        }
    }

    fn restore(&mut self) {
        self.group = SharedGroup::new(self.settings, self.ordering);
        for record in &self.log {
            for entry in entries(record).expect("what the group wrote") {
                self.group.apply(&entry.expect("what the group wrote"));
            }
        }
        self.group.restored(self.now);
        self.group.set_end(PARTITION, Offset(self.records.len() as u64));
        for (_, offset, attempts, _, reason) in self.group.doomed().collect::<Vec<_>>() {
            let comma = if self.seen.is_empty() { "" } else { ", " };
            write!(self.seen, "{comma}{offset} doomed after {attempts} {reason}")
                .expect("strings take everything");
        }
    }

    fn state(&mut self) {
        let floor = self.group.floor(PARTITION).expect("it is open");
        let state = format!(
            "floor {floor} unfinished {} leased {} waiting {}",
            self.group.unfinished(PARTITION),
            self.group.leased(PARTITION),
            self.group.waiting(PARTITION)
        );
        self.see(&state);
    }
}

/// Plays a script and compares what is seen.
fn check(script: &str, expected: &str) {
    let mut play = Play::new();
    for command in script.split(';') {
        let words: Vec<_> = command.split_whitespace().collect();
        play.command(&words);
    }
    assert_eq!(play.seen, expected, "{script}");
}

pub fn acked_record_is_finished_and_the_floor_waits_for_those_before() {
    check(
        "publish - - -; join a 9; deliver; state; ack a 2; state; ack a 1; state; ack a 1; ack a 7",
        "a got 0, a got 1, a got 2, floor 0 unfinished 3 leased 3 waiting 0, \
         floor 0 unfinished 2 leased 2 waiting 0, floor 2 unfinished 1 leased 1 waiting 0, unknown, unknown",
    );
}

pub fn expired_lease_is_retried_at_once_then_dead_lettered() {
    check(
        "attempts 2; publish -; join a 1; deliver; tick 29999; deliver; tick 1; deliver; tick 30000; deliver; state",
        "a got 0, a got 0 x2, 0 dead after 2 expired, floor 0 unfinished 1 leased 0 waiting 0",
    );
}

pub fn lease_can_not_be_settled_from_its_end_on() {
    check(
        "publish - -; join a 9; deliver; tick 30000; ack a 1; nack a 1; extend a 1 100; deliver; ack a 4",
        "a got 0, a got 1, expired, expired, expired, a got 0 x2, a got 1 x2",
    );
}

pub fn extended_lease_ends_later_or_earlier() {
    check(
        "publish - - -; join a 3; deliver; extend a 1 40000; extend a 2 10000; tick 10000; deliver; \
         tick 20000; deliver; tick 10000; deliver; ack a 1",
        "a got 0, a got 1, a got 2, a got 1 x2, a got 2 x2, a got 0 x2, a got 1 x3, expired",
    );
}

pub fn nacked_record_waits_longer_each_time_up_to_a_maximum() {
    check(
        "attempts 9; publish -; join a 1; deliver; nack a 1; tick 999; deliver; tick 1; deliver; \
         nack a 2; tick 1999; deliver; tick 1; deliver; nack a 3; tick 2999; deliver; tick 1; deliver",
        "a got 0, a got 0 x2, a got 0 x3, a got 0 x4",
    );
}

pub fn nack_says_when_or_that_it_is_dead() {
    check(
        "publish - -; join a 1; deliver; nack a 1 0; deliver; nack a 2 500; deliver; nack a 3 dead; tick 500; \
         deliver; nack a 4; state; bury 0; bury 1; state",
        "a got 0, a got 0 x2, a got 1, 1 dead after 1 nacked, a got 0 x3, 0 dead after 3 nacked, \
         floor 0 unfinished 2 leased 0 waiting 0, floor 2 unfinished 0 leased 0 waiting 0",
    );
}

pub fn member_that_leaves_gives_its_leases_back_at_once() {
    check(
        "attempts 2; publish - -; join a 2; deliver; join b 1; leave a; deliver; leave b; join c 9; deliver; ack a 1",
        "a got 0, a got 1, b got 0 x2, 0 dead after 2 gone, c got 1 x2, unknown",
    );
}

pub fn retired_member_settles_what_it_has_and_gets_nothing() {
    check(
        "publish - - -; join a 2; deliver; retire a; ack a 1; deliver; tick 30000; ack a 2; join b 1 exclusive; deliver",
        "a got 0, a got 1, unknown, b got 1 x2",
    );
}

pub fn credit_bounds_what_is_out() {
    check(
        "publish - - - - -; join a 2; deliver; ack a 1; deliver; credit a 1; deliver; full a; ack a 2; deliver; \
         ready a; deliver",
        "a got 0, a got 1, a got 2, a got 3, a got 4",
    );
}

pub fn few_records_are_spread_and_turns_are_fair() {
    check(
        "join a 9; join b 9; join c 9; publish - - -; deliver; publish - - - - - -; deliver; publish -; deliver",
        "a got 0, b got 1, c got 2, a got 3, a got 4, b got 5, b got 6, c got 7, c got 8, a got 9",
    );
}

pub fn exclusive_member_is_alone() {
    check(
        "join a 1 exclusive; join b 1; leave a; join b 1; join c 1 exclusive; join b 1",
        "conflict, conflict, conflict",
    );
}

pub fn key_is_out_once_and_keeps_its_order() {
    check(
        "by-key; publish a a b a -; join x 9; deliver; ack x 1; deliver; nack x 4 100; deliver; tick 100; deliver; \
         ack x 5; deliver",
        "x got 0, x got 2, x got 4, x got 1, x got 1 x2, x got 3",
    );
}

pub fn dead_record_lets_its_key_go_on() {
    check(
        "by-key; publish a a; join x 9; deliver; nack x 1 dead; deliver",
        "x got 0, 0 dead after 1 nacked, x got 1",
    );
}

pub fn delayed_record_blocks_its_key_after_a_restart() {
    check(
        "by-key; publish a b a; join x 9; deliver; nack x 1 100; restart; publish a b; join y 9; deliver; tick 100; \
         deliver; ack y 2; deliver",
        "x got 0, x got 1, y got 1 x2, y got 0 x2, y got 2",
    );
}

pub fn clean_restart_keeps_attempts_and_waits() {
    check(
        "publish - - - -; join a 9; deliver; ack a 2; nack a 3 500; restart; state; join b 9; deliver; tick 500; deliver",
        "a got 0, a got 1, a got 2, a got 3, floor 0 unfinished 3 leased 0 waiting 3, \
         b got 0 x2, b got 3 x2, b got 2 x2",
    );
}

pub fn crash_forgets_attempts_that_were_not_flushed_and_adds_none() {
    check(
        "publish - -; join a 1; deliver; flush; ack a 1; deliver; crash; join b 9; deliver",
        "a got 0, a got 1, b got 0 x2, b got 1",
    );
}

pub fn last_attempt_that_was_out_at_a_restart_is_dead() {
    check(
        "attempts 1; publish - -; join a 1; deliver; restart; join b 9; deliver",
        "a got 0, 0 dead after 1 gone, b got 1",
    );
}

pub fn doomed_record_is_known_again_until_it_is_buried() {
    check(
        "publish - -; join a 9; deliver; nack a 1 dead; nack a 2 dead; bury 1; restart; snapshot; crash; \
         bury 0; restart; state",
        "a got 0, a got 1, 0 dead after 1 nacked, 1 dead after 1 nacked, 0 doomed after 1 nacked, \
         0 doomed after 1 nacked, floor 2 unfinished 0 leased 0 waiting 0",
    );
}

pub fn snapshot_stands_for_everything_before_it() {
    check(
        "publish - - - - -; join a 4; deliver; ack a 2; nack a 3 0; nack a 4 900; snapshot; crash; join b 9; deliver; \
         tick 900; deliver; state",
        "a got 0, a got 1, a got 2, a got 3, b got 0 x2, b got 2 x2, b got 4, b got 3 x2, \
         floor 0 unfinished 4 leased 4 waiting 0",
    );
}

pub fn seek_ends_leases_and_forgets_attempts() {
    check(
        "publish - - - -; join a 3; deliver; ack a 1; nack a 2 100; seek 1; ack a 3; state; deliver; seek 3; \
         deliver; state; restart; state; join b 9; deliver",
        "a got 0, a got 1, a got 2, expired, floor 1 unfinished 3 leased 0 waiting 0, a got 1, a got 2, a got 3, \
         a got 3, floor 3 unfinished 1 leased 1 waiting 0, floor 3 unfinished 1 leased 0 waiting 1, b got 3 x2",
    );
}

pub fn passed_over_records_are_finished() {
    check(
        "publish - - - - - -; pass 0 2; join a 2; deliver; nack a 1 0; pass 2 5; state; deliver; ack a 2; state; restart; \
         state",
        "a got 2, a got 3, floor 3 unfinished 2 leased 1 waiting 0, a got 5, floor 5 unfinished 1 leased 1 waiting 0, \
         floor 5 unfinished 1 leased 0 waiting 1",
    );
}

pub fn record_held_back_and_then_passed_over_blocks_nobody() {
    check(
        "by-key; publish a a a; join x 9; deliver; pass 1 2; ack x 1; deliver; nack x 2 0; pass 2 3; state",
        "x got 0, x got 2, floor 3 unfinished 0 leased 0 waiting 0",
    );
}

pub fn passed_over_holder_lets_its_key_go_on() {
    check(
        "by-key; publish a a; join x 9; deliver; nack x 1 100; deliver; pass 0 1; deliver; tick 100; deliver; state",
        "x got 0, x got 1, floor 1 unfinished 1 leased 1 waiting 0",
    );
}

pub fn counters_survive_restarts() {
    let mut play = Play::new();
    let script = "publish - - - -; join a 9; deliver; ack a 1; nack a 2 dead; bury 1; nack a 3 0; pass 2 3; ack a 4; restart; \
                  snapshot; crash";
    for command in script.split(';') {
        play.command(&command.split_whitespace().collect::<Vec<_>>());
    }
    play.group.set_letters(4);
    play.group.redriven(PARTITION, Offset(9), 0);
    play.group.set_letters(5);
    assert_eq!(
        play.group.redriven_next(PARTITION),
        None,
        "those were of another topic"
    );
    play.group.redriven(PARTITION, Offset(7), 3);
    play.group.set_letters(5);
    play.command(&["restart"]);
    play.command(&["snapshot"]);
    play.command(&["crash"]);
    let counters = play.group.counters();
    assert_eq!(
        (counters.acked, counters.dead_lettered, counters.redriven),
        (2, 1, 3)
    );
    assert_eq!(play.group.redriven_next(PARTITION), Some(Offset(7)));
}
