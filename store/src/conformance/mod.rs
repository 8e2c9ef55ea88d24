//! The promises of every backend, each stated once. Each case runs on each backend, with default bounds and with tiny
//! ones.
//!
//! [`CASES`] is the one list; a case added there is added to all. With tiny bounds (see [`tiny`])
//! every hand-over, from memtable to index, from tail to storage, from slice to slice, is taken all
//! the time, and seeded pauses change the order of tasks.

mod appends;
mod conditions;
mod groups;
mod namespaces;
mod quotas;
mod reads;
mod replacements;
mod self_tests;
mod subscriptions;
pub(crate) mod support;
mod tokens;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

pub use support::World;

use crate::settings::Settings;
use crate::storage::Backend;
use crate::testing::tell;

/// Makes databases for the cases.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty database.
    async fn create(&self) -> Box<dyn Database>;
}

/// A database under test.
#[async_trait]
pub trait Database: Send + Sync {
    /// A backend on it; called again after an earlier one was closed.
    async fn open(&self) -> Arc<dyn Backend>;

    /// Whether it outlives its backend.
    fn is_durable(&self) -> bool;

    /// Checks the database at the end of a case.
    async fn end(&self) {}
}

/// One promise.
pub struct Case {
    /// The promise, in short.
    pub name: &'static str,
    /// Tries to break it; panics if that succeeds.
    pub run: for<'a> fn(&'a mut World) -> BoxFuture<'a, ()>,
}

macro_rules! cases {
    ($($module:ident: $($name:ident),* $(,)?;)*) => {
        /// Every promise.
        pub const CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($module), "::", stringify!($name)),
                run: |world| Box::pin($module::$name(world)),
            },
        )*)*];
    };
}

cases! {
    appends:
        positions_are_dense,
        versions_are_checked,
        one_of_many_wins_each_round,
        expectations_have_words,
        all_conflicts_are_told,
        an_append_is_all_or_nothing,
        a_repeated_id_returns_the_original,
        a_repeated_id_with_something_else_conflicts,
        a_repeated_batch_returns_the_original,
        parallel_appends_lose_nothing,
        answered_positions_are_those_that_are_read,
        ids_are_checked_after_a_restart,
        text_comes_back_byte_for_byte,
        a_correlation_that_no_stream_can_have_is_written,
        time_never_goes_back,
        an_import_keeps_positions_and_times,
        an_import_that_does_not_fit_changes_nothing,
        a_log_without_a_position_left_refuses_writes_and_is_read,
        a_stream_without_a_position_left_refuses_its_own_writes_alone;
    conditions:
        a_condition_fails_if_a_message_matches,
        all_failed_conditions_and_streams_are_told,
        a_position_above_the_head_fails,
        messages_of_the_same_append_do_not_count,
        a_repeated_append_is_not_checked_again,
        one_of_many_wins_under_conditions_that_exclude_each_other,
        conditions_agree_with_a_plain_model;
    groups:
        a_member_reads_up_to_the_head_and_goes_on_from_its_checkpoint,
        a_page_gives_each_partition_its_share,
        a_read_that_waits_is_woken_by_a_message_of_its_partitions,
        a_member_that_leaves_hands_over_at_once,
        a_read_beside_the_join_that_replaces_its_member_says_so,
        a_lease_that_ends_frees_partitions_without_a_call,
        calls_that_come_at_once_are_all_stored,
        an_append_with_a_checkpoint_happens_once,
        a_stale_epoch_fails_its_own_append_alone,
        a_repeated_append_asks_for_no_epoch,
        a_parked_stream_comes_again_and_flows,
        a_read_beside_a_reset_gives_nothing_twice,
        what_waits_for_a_group_ends_with_it,
        a_call_meets_only_the_group_that_it_may_touch,
        groups_take_epochs_at_once,
        a_replaced_log_keeps_or_drops_its_groups_as_asked,
        a_reset_is_on_record,
        a_reset_to_the_group_itself_changes_only_its_epochs,
        a_stream_is_parked_at_a_marker,
        markers_find_no_room_among_parked_streams,
        a_read_that_waits_passes_a_marker_once_what_precedes_it_is_handled,
        members_call_different_servers;
    reads:
        a_stream_is_read_by_position,
        a_stream_is_read_by_global_position,
        pages_say_how_far_they_are_complete,
        a_category_is_its_streams,
        several_categories_are_merged,
        groups_split_a_category,
        types_and_correlation_filter,
        backward_reads_mirror_forward_ones,
        a_backward_read_looks_behind_what_does_not_match,
        the_last_message_of_a_type,
        long_pages_come_in_chunks,
        a_read_waits_for_a_message,
        a_message_is_found_by_its_id,
        a_time_stands_for_a_position,
        times_that_descend_are_found_between,
        reads_agree_with_a_plain_model,
        tailing_readers_see_no_position_appear_below;
    subscriptions:
        history_then_live_without_a_gap,
        each_kind_begins_where_it_is_told,
        who_reads_a_stream_is_poked_about_it,
        a_slow_subscriber_loses_nothing,
        above_the_head_is_said,
        heartbeats_tell_how_far,
        pokes_are_coalesced_to_the_newest,
        heartbeats_come_while_pokes_are_gathered,
        a_wait_that_is_given_up_loses_no_poke,
        what_follows_a_poke_closely_goes_out_together;
    namespaces:
        names_are_unique,
        a_deleted_namespace_leaves_nothing,
        a_deletion_ends_subscriptions,
        nothing_is_written_to_what_was_deleted,
        a_namespace_is_not_mistaken_for_an_earlier_one_of_its_name,
        tokens_open_their_own_namespace,
        a_token_of_a_name_that_cannot_be_opens_nothing,
        counts_are_exact,
        streams_are_listed_in_pages,
        categories_are_listed_in_pages,
        a_reopened_database_has_everything;
    tokens:
        a_token_is_created_once,
        a_namespace_has_a_bounded_number_of_tokens,
        a_revoked_token_ends_at_once_and_for_good,
        a_rotated_token_lasts_for_its_grace,
        a_rotation_is_repeated_without_a_second_token,
        a_repeated_rotation_brings_the_end_forward_and_never_back,
        a_token_expires_by_the_clock,
        the_last_administrator_stays,
        a_lost_administrator_is_recovered,
        tokens_go_with_their_namespace,
        tokens_stay_when_the_namespace_is_replaced,
        tokens_are_kept,
        the_hour_of_the_last_use_is_noted,
        what_is_noted_about_a_namespace_is_changed,
        a_protected_namespace_is_neither_deleted_nor_replaced;
    quotas:
        messages_are_bounded_exactly,
        parallel_appends_fill_a_quota_and_no_more,
        positions_that_an_import_leaves_out_count_for_nothing,
        bytes_are_bounded;
    replacements:
        a_replacement_takes_the_place_when_it_is_whole,
        nothing_is_written_to_what_was_replaced,
        one_of_nothing_empties_the_namespace,
        one_that_is_given_up_changes_nothing,
        writes_are_refused_meanwhile,
        a_deletion_overtakes_a_replacement,
        what_was_set_meanwhile_is_kept,
        a_namespace_that_is_protected_meanwhile_stays,
        the_quota_of_the_end_holds_for_a_replacement;
    self_tests:
        servers_share_one_log_that_no_client_sees,
        their_log_begins_anew_once_it_is_long;
}

/// Bounds so small that everything overflows all the time.
pub fn tiny(seed: u64) -> Settings {
    Settings {
        queue_appends: 2,
        batch_messages: 3,
        tail_messages: 4,
        version_cache: 2,
        slice_rows: 2,
        page_bytes: 64,
        poke_bytes: 150,
        poke_gap: Duration::ZERO,
        pause_seed: Some(seed),
        poll_interval: Duration::from_millis(50),
        ..Settings::default()
    }
}

/// Runs every case, each on a database of its own, and panics at the end if one failed.
///
/// # Panics
/// Naming the cases that failed; with tiny bounds, also the seed that makes them fail again.
pub async fn run(harness: &dyn Harness, settings: &Settings) {
    run_where(harness, settings, |_| true).await;
}

/// Runs the cases whose names are wanted, as [`run`] does.
///
/// # Panics
/// As [`run`].
pub async fn run_where(harness: &dyn Harness, settings: &Settings, is_wanted: impl Fn(&str) -> bool) {
    let only = std::env::var("EVENTODB_TEST_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&only) && is_wanted(case.name)) {
        let started = std::time::Instant::now();
        let mut world = World::new(harness.create().await, settings.clone()).await;
        let outcome = AssertUnwindSafe(tokio::time::timeout(support::PATIENCE, (case.run)(&mut world)));
        let outcome = outcome.catch_unwind().await;
        world.close().await;
        let verdict = match outcome {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED: it never ended",
            Err(_) => "FAILED",
        };
        tell(&format!("{:60} {verdict} {:?}", case.name, started.elapsed()));
        if verdict != "ok" {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "failed (seed {:?}): {failed:?}", settings.pause_seed);
}
