//! What `callboard-core` and the pure parts of `callboard-protocol` promise, each promise a scenario.
//!
//! A scenario is a function that panics when the promise is broken. It has no clock, threads, files or
//! true randomness, so that the same function runs as a native test and, compiled to WebAssembly, as an
//! export that Node calls (`xtask/wasm/run.mjs`). Seeds are fixed: a failure names its seed and comes
//! again. A new scenario is a `pub fn` in its module and a line in the list below.

pub mod exchange;
pub mod group;
pub mod group_log;
pub mod lease;
pub mod partition;
pub mod pattern;
pub mod position;
mod random;
pub mod record;
pub mod schedule;
pub mod silence;
pub mod subscription;
pub mod time;
pub mod topic;
#[cfg(target_arch = "wasm32")]
mod wasm;

/// Makes a native test and a WebAssembly export of each scenario.
macro_rules! scenarios {
    ($($module:ident: $($name:ident)*;)*) => {
        #[cfg(test)]
        mod native {
            $($(
                #[test]
                fn $name() {
                    crate::$module::$name();
                }
            )*)*
        }

        #[cfg(target_arch = "wasm32")]
        mod exported {
            $($(
                #[unsafe(no_mangle)]
                extern "C" fn $name() {
                    crate::wasm::keep_panic_message();
                    crate::$module::$name();
                }
            )*)*
        }
    };
}

scenarios! {
    exchange:
        topic_matching_agrees_with_the_naive_matcher
        wildcards_of_exchanges_mean_what_amqp_says
        longest_keys_are_routed
        many_hashes_do_not_make_routing_slow
        random_exchanges_agree_with_the_naive_ones
        cycles_of_exchanges_are_refused_however_they_close
        alternates_are_asked_in_turn_until_a_topic_is_reached
        topics_reached_by_several_ways_count_once
        keys_are_checked_by_the_kind_of_exchange
        kept_exchanges_that_contradict_each_other_are_told_and_left_out
        binding_ids_have_one_spelling;
    group:
        assignment_rules_hold_through_every_join_and_leave
        assignment_rules_hold_through_random_joins_and_leaves
        minimum_of_moves_is_computed_right
        first_member_gets_every_partition_where_it_asked
        partitions_that_stay_are_not_mentioned
        extra_member_idles_and_is_told_once
        member_that_leaves_returns_its_partitions_at_once
        partition_waits_for_what_is_out_to_be_committed
        partition_waits_for_its_grace_and_no_longer
        grace_that_is_over_waits_for_the_thread_to_stop
        release_ends_the_grace
        released_partition_goes_to_another_if_the_balance_allows
        commit_is_all_or_nothing
        commit_below_the_committed_offset_changes_nothing
        commit_of_a_generation_before_the_partition_came_back_is_stale
        several_joins_before_the_hand_over_move_each_partition_once
        owner_keeps_more_rather_than_one_that_only_expects_it
        partition_comes_back_if_nobody_is_left_to_take_it
        lost_member_with_a_name_gets_its_partitions_back
        lost_member_that_does_not_come_back_leaves
        lost_member_without_a_name_leaves_at_once
        lost_member_gains_nothing_and_gives_what_another_needs
        partition_being_taken_from_a_lost_member_moves_on_at_once
        newer_member_of_the_same_name_replaces_the_older
        exclusive_member_refuses_a_second
        seek_takes_the_partition_and_gives_it_back_elsewhere
        seek_ends_the_grace_of_what_is_being_revoked
        seek_of_a_group_without_members_is_kept
        partition_that_came_later_begins_with_its_first_record
        stop_that_comes_late_or_twice_changes_nothing
        group_goes_on_where_its_log_ends
        random_schedules_agree_with_the_naive_partitioned_group;
    group_log:
        every_entry_comes_back_as_it_was_pushed
        runs_of_members_that_take_turns_are_merged
        runs_pass_no_entry_of_another_kind
        merging_changes_nothing_for_any_one_record
        hurt_entries_are_errors_and_never_a_panic
        entries_are_encoded_as_documented;
    lease:
        random_schedules_of_leases_agree_with_the_naive_group
        random_schedules_in_key_order_agree_with_the_naive_group
        one_record_that_stays_out_holds_up_nothing
        lease_taken_after_the_clock_went_back_ends_in_its_time
        partitions_take_turns
        every_member_with_credit_gets_its_share
        hot_key_is_held_back_only_up_to_a_bound
        extensions_that_are_over_leave_no_timers
        idle_group_is_small
        acked_record_is_finished_and_the_floor_waits_for_those_before
        expired_lease_is_retried_at_once_then_dead_lettered
        lease_can_not_be_settled_from_its_end_on
        extended_lease_ends_later_or_earlier
        nacked_record_waits_longer_each_time_up_to_a_maximum
        nack_says_when_or_that_it_is_dead
        member_that_leaves_gives_its_leases_back_at_once
        retired_member_settles_what_it_has_and_gets_nothing
        credit_bounds_what_is_out
        few_records_are_spread_and_turns_are_fair
        exclusive_member_is_alone
        key_is_out_once_and_keeps_its_order
        dead_record_lets_its_key_go_on
        delayed_record_blocks_its_key_after_a_restart
        clean_restart_keeps_attempts_and_waits
        crash_forgets_attempts_that_were_not_flushed_and_adds_none
        last_attempt_that_was_out_at_a_restart_is_dead
        doomed_record_is_known_again_until_it_is_buried
        snapshot_stands_for_everything_before_it
        seek_ends_leases_and_forgets_attempts
        passed_over_records_are_finished
        record_held_back_and_then_passed_over_blocks_nobody
        passed_over_holder_lets_its_key_go_on
        counters_survive_restarts;
    partition:
        random_schedules_agree_with_the_naive_partition
        plain_draft_becomes_the_batch_without_a_copy
        stored_records_close_the_gaps_of_refused_ones
        repeat_of_a_failed_record_is_stored
        window_of_zero_ignores_message_ids
        repeat_is_answered_even_when_the_topic_is_full
        record_bytes_max_bounds_content_and_not_its_encoding
        empty_draft_stores_nothing
        ids_beyond_the_bound_are_refused_until_the_window_passes;
    pattern:
        matching_agrees_with_the_naive_matcher
        many_hashes_do_not_make_matching_slow
        many_patterns_find_what_each_alone_matches
        literal_prefix_of_a_pattern_is_its_words_before_the_first_wildcard
        patterns_are_spelt_as_names_with_whole_word_wildcards
        internal_topics_match_only_patterns_that_say_so;
    position:
        resume_goes_on_where_it_can_and_says_when_it_can_not
        last_n_is_the_newest_of_the_whole_topic;
    record:
        records_come_out_as_they_went_in
        every_flipped_bit_is_noticed
        every_cut_is_noticed
        hurt_length_near_the_address_space_is_refused
        unknown_flag_is_corrupt
        batch_from_an_offset_is_the_rest_of_it;
    schedule:
        random_schedules_are_delivered_once_through_crashes
        log_that_is_mostly_done_is_moved_and_cut
        record_is_due_at_its_time_and_not_before
        number_that_was_forgotten_names_no_other_entry
        message_id_is_known_while_its_record_waits_and_inside_its_window
        schedule_entries_come_back_as_they_were_written
        schedule_entries_are_encoded_as_documented
        hurt_schedule_entries_are_errors_and_never_a_panic;
    silence:
        silence_is_told_once_and_so_is_its_end
        records_before_it_was_listened_to_do_not_count
        every_long_pause_is_told_and_no_short_one;
    subscription:
        reader_sees_every_record_once_in_order
        skipper_sees_or_is_told_of_every_record
        page_older_than_the_latest_offer_is_not_the_end
        page_read_before_something_was_missed_is_not_the_end
        credit_bounds_what_is_given
        batch_half_read_is_read_on_and_not_pushed
        subscription_is_small
        conflate_agrees_with_the_naive_one;
    time:
        formatted_moments_are_read_back
        known_moments_are_read
        what_is_no_moment_is_refused;
    topic:
        hash_is_xxh64
        keys_land_where_the_document_says
        keys_spread_evenly_over_partitions
        configuration_comes_back_from_its_json
        configuration_takes_defaults_for_what_is_not_given
        dead_letters_of_each_group_have_a_topic
        invalid_configuration_is_refused_by_its_field
        patch_changes_only_what_it_names
        patch_that_would_lose_records_is_a_conflict
        durability_is_ordered_weakest_first;
}
