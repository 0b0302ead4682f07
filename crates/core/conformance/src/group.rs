//! Promises of partitioned groups: each documented case as a script. What a group does at random is in
//! `schedule`, and what an assignment must be like in `rules`.

use std::collections::BTreeMap;

use callboard_core::{
    group::{Event, Timing},
    group_log::Entry,
};
use callboard_protocol::{Offset, PartitionId};

use self::script::check;

mod naive;
mod rules;
mod schedule;
mod script;
pub use rules::{
    assignment_rules_hold_through_every_join_and_leave,
    assignment_rules_hold_through_random_joins_and_leaves, minimum_of_moves_is_computed_right,
};
pub use schedule::random_schedules_agree_with_the_naive_partitioned_group;

const TIMING: Timing = Timing {
    rejoin_grace_ms: 5000,
    revoke_grace_ms: 1000,
};

fn from_zero(partitions: u32) -> BTreeMap<PartitionId, Offset> {
    (0..partitions)
        .map(|partition| (PartitionId(partition), Offset::ZERO))
        .collect()
}

/// The entry that logs an event, if it is one to be logged.
fn entry(event: &Event) -> Option<Entry<'static>> {
    match *event {
        Event::Positioned { partition, offset } => Some(Entry::Position { partition, offset }),
        Event::Generation(generation) => Some(Entry::Generation(generation)),
        _ => None,
    }
}

pub fn first_member_gets_every_partition_where_it_asked() {
    check(
        "partitions 3; a joins from 0@7 2@9",
        "g1; a gains 0@7 1@0 2@9; at 0@7 1@0 2@9",
    );
    check(
        "partitions from 0@4 1@6; a joins from 1@8",
        "g1; a gains 0@4 1@8; at 0@4 1@8",
    );
}

pub fn partitions_that_stay_are_not_mentioned() {
    check(
        "partitions 4; a joins | b joins; a stops 2; a stops 3",
        "g2; a loses 2 3; g3; b gains 2@0; g4; b gains 3@0",
    );
}

pub fn extra_member_idles_and_is_told_once() {
    check(
        "partitions 1; a joins | b joins; c joins; wait 1",
        "b idles; c idles",
    );
    check("partitions 1; a joins; b joins | a leaves", "g2; b gains 0@0");
}

pub fn member_that_leaves_returns_its_partitions_at_once() {
    check(
        "partitions 2; a joins; b joins; a stops 1 | b leaves",
        "g4; a gains 1@0",
    );
    check(
        "partitions 2; a joins; a commits 0@5 | a leaves; b joins",
        "g2; b gains 0@5 1@0",
    );
}

pub fn partition_waits_for_what_is_out_to_be_committed() {
    check(
        "partitions 2; a joins; b joins; a stops 1 out 5 | a commits 1@4; a commits 1@5",
        "at 1@4; g3; b gains 1@5; at 1@5",
    );
    check(
        "partitions 2; a joins; b joins | a commits 1@5; a stops 1 out 5",
        "at 1@5; g3; b gains 1@5",
    );
}

pub fn partition_waits_for_its_grace_and_no_longer() {
    check(
        "partitions 2; a joins; b joins; a stops 1 out 5 | timeout; wait 999; timeout; wait 1; timeout; a commits 1@5",
        "in 1000; in 1; g3; b gains 1@0; none; not owner of 1",
    );
}

pub fn grace_that_is_over_waits_for_the_thread_to_stop() {
    check(
        "partitions 2; a joins; b joins | wait 5000; timeout; a commits 1@3; a stops 1 out 9",
        "none; at 1@3; g3; b gains 1@3",
    );
}

pub fn release_ends_the_grace() {
    check(
        "partitions 2; a joins; b joins; a stops 1 out 5 | a releases 1; a commits 1@5",
        "g3; b gains 1@0; not owner of 1",
    );
    check(
        "partitions 2; a joins; b joins | a releases 1; a stops 1 out 5",
        "g3; b gains 1@0",
    );
    check(
        "partitions 2; a joins; b joins | b releases 1; c releases 1",
        "not owner of 1; no member",
    );
}

pub fn released_partition_goes_to_another_if_the_balance_allows() {
    check(
        "partitions 1; a joins; b joins | a releases 0; a stops 0 out 3",
        "g2; a loses 0 at once; g3; b gains 0@0; a idles",
    );
    check(
        "partitions 2; a joins | a releases 1; a stops 1 out 3",
        "g2; a loses 1 at once; g3; a gains 1@0",
    );
}

pub fn commit_is_all_or_nothing() {
    check(
        "partitions 3; a joins; b joins; a stops 2 | a commits 0@3 2@4; a commits 0@3 1@4",
        "not owner of 2; at 0@3 1@4",
    );
    check(
        "partitions 1; a joins | b commits 0@3; a commits 9@3",
        "no member; not owner of 9",
    );
}

pub fn commit_below_the_committed_offset_changes_nothing() {
    check(
        "partitions 1; a joins; a commits 0@7 | a commits 0@3; a commits 0@7; a commits 0@8",
        "at 0@8",
    );
}

pub fn commit_of_a_generation_before_the_partition_came_back_is_stale() {
    check(
        "partitions 2; a joins; b joins; a stops 1; b leaves | a commits 1@9 in 1; a commits 0@5 1@9 in 3; \
         a commits 0@5 in 1; a commits 0@6 1@9 in 4; a commits 0@7 in 5",
        "stale 1 since 4; stale 1 since 4; at 0@5; at 0@6 1@9; stale 0 since 1",
    );
}

pub fn several_joins_before_the_hand_over_move_each_partition_once() {
    check(
        "partitions 6; a joins | b joins; c joins; a stops 3; a stops 4; a stops 5; a stops 2",
        "g2; a loses 3 4 5; g3; a loses 2; g4; b gains 3@0; g5; b gains 4@0; g6; c gains 5@0; g7; c gains 2@0",
    );
}

pub fn owner_keeps_more_rather_than_one_that_only_expects_it() {
    check(
        "partitions 4; b joins; a joins | c joins; b stops 2; b stops 3",
        "g3; a gains 2@0; g4; c gains 3@0",
    );
}

pub fn partition_comes_back_if_nobody_is_left_to_take_it() {
    check(
        "partitions 2; a joins; b joins | b leaves; a stops 1 out 5; a commits 1@5",
        "g3; a gains 1@5; at 1@5",
    );
}

pub fn lost_member_with_a_name_gets_its_partitions_back() {
    check(
        "partitions 4; a joins as x; b joins; a stops 2; a stops 3; a commits 0@6 | a is lost; timeout; wait 4999; c joins as x; wait 5000",
        "in 5000; g5; c gains 0@6 1@0",
    );
}

pub fn lost_member_that_does_not_come_back_leaves() {
    check(
        "partitions 2; a joins as x; b joins; a stops 1 | a is lost; wait 4999; wait 1",
        "g4; b gains 0@0",
    );
    check(
        "partitions 2; a joins as x | a is lost; a commits 0@3; wait 5000; b joins as x",
        "no member; g2; b gains 0@0 1@0",
    );
}

pub fn lost_member_without_a_name_leaves_at_once() {
    check(
        "partitions 2; a joins; b joins; a stops 1 | a is lost",
        "g4; b gains 0@0",
    );
}

pub fn lost_member_gains_nothing_and_gives_what_another_needs() {
    check(
        "partitions 4; a joins as x; b joins; a stops 2; a stops 3 | a is lost; b leaves; c joins; wait 5000",
        "g5; c gains 2@0 3@0; g6; c gains 0@0 1@0",
    );
    check(
        "partitions 4; a joins as x; a is lost | b joins",
        "g2; b gains 2@0 3@0",
    );
}

pub fn partition_being_taken_from_a_lost_member_moves_on_at_once() {
    check(
        "partitions 2; a joins as x; b joins; a stops 1 out 5 | a is lost",
        "g3; b gains 1@0",
    );
    check(
        "partitions 2; a joins as x; b joins | a is lost; a stops 1 out 5",
        "g3; b gains 1@0",
    );
}

pub fn newer_member_of_the_same_name_replaces_the_older() {
    check(
        "partitions 3; a joins as x; b joins; a stops 2 | c joins as x; a commits 0@3; a leaves",
        "a is replaced; g4; c gains 0@0 1@0; no member",
    );
}

pub fn exclusive_member_refuses_a_second() {
    check(
        "partitions 1; a joins alone | b joins; b joins alone",
        "conflict; conflict",
    );
    check(
        "partitions 1; a joins | b joins alone; a leaves; b joins alone",
        "conflict; g2; b gains 0@0",
    );
    check(
        "partitions 1; a joins as x alone | b joins as x alone; c joins as y",
        "a is replaced; g2; b gains 0@0; conflict",
    );
    check(
        "partitions 1; a joins as x alone; a is lost | b joins; wait 5000; b joins",
        "conflict; g2; b gains 0@0",
    );
}

pub fn seek_takes_the_partition_and_gives_it_back_elsewhere() {
    check(
        "partitions 2; a joins; a commits 1@9 | seek 1@2; a commits 1@10; a stops 1 out 12; a commits 1@10 in 1; a commits 1@3",
        "g2; a loses 1 at once; at 1@2; not owner of 1; g3; a gains 1@2; stale 1 since 3; at 1@3",
    );
}

pub fn seek_ends_the_grace_of_what_is_being_revoked() {
    check(
        "partitions 2; a joins; b joins; a stops 1 out 9 | seek 1@4; a commits 1@9",
        "g3; b gains 1@4; at 1@4; not owner of 1",
    );
}

pub fn seek_of_a_group_without_members_is_kept() {
    check(
        "partitions 2; a joins; a leaves | seek 0@5; b joins",
        "at 0@5; g2; b gains 0@5 1@0",
    );
}

pub fn partition_that_came_later_begins_with_its_first_record() {
    check(
        "partitions 1; a joins from 0@9 | partitions from 0@3 1@4; b joins from 1@8; a stops 1",
        "g2; a gains 1@4; at 1@4; g3; a loses 1; g4; b gains 1@4",
    );
    check(
        "partitions 1; a joins; b joins | partitions 2",
        "g2; b gains 1@0; at 1@0",
    );
}

pub fn stop_that_comes_late_or_twice_changes_nothing() {
    check(
        "partitions 2; a joins; b joins; a stops 1 | a stops 1; a stops 0; b stops 1; c stops 1; a stops 7; wait 5000; a commits 0@1",
        "at 0@1",
    );
}

pub fn group_goes_on_where_its_log_ends() {
    check(
        "partitions 3; a joins; a commits 0@5; seek 2@7; a stops 2; restart | partitions 3; b joins from 0@1",
        "g4; b gains 0@5 1@0 2@7",
    );
    check(
        "partitions 1; a joins; restart; partitions 1; restart | partitions 2; b joins from 1@9",
        "at 1@0; g2; b gains 0@0 1@0",
    );
}
