//! The contract of [`Store`](rookery::store::Store): what every store must answer, whatever it is
//! made of.
//!
//! A store joins with one `contract!` line that says how to open an empty one. Each test of the
//! list runs against it under its own name, as `lmdb::order::limits_take_the_newest`, and so does
//! the comparison with the model.

mod cluster;
mod counts;
mod cql_server;
mod deletion;
mod expiry;
mod feeds;
mod filters;
mod lost_answers;
mod migration;
mod order;
mod paging;
mod privacy;
mod property;
mod records;
mod shapes;
mod subject;
mod tables;
mod taps;
mod universe;
mod vanishing;
mod versions;
mod writes;

use std::path::Path;

use rookery::{
    config,
    store::{
        lmdb::{Access, Lmdb},
        memory::Memory,
    },
};
use subject::Subject;

fn lmdb(path: &Path, config: &config::Lmdb) -> Lmdb {
    Lmdb::open(path, config, Access::Exclusive).unwrap()
}

/// Every bound as tight as it goes, so that paging and sweeping show.
fn small_pages() -> config::Lmdb {
    config::Lmdb { page_bytes: 1, page_entries: 3, sweep_batch: 1, readers: 1, ..config::Lmdb::default() }
}

/// The same for the cluster store, and partitions that are split after two rows.
fn cql_small_pages() -> config::Scylla {
    config::Scylla {
        page_bytes: 1_000,
        page_rows: 2,
        partition_rows: 2,
        sweep_batch: 1,
        ..cql_server::patient()
    }
}

macro_rules! contract {
    ($store:ident, $open:expr) => {
        contract! { @list $store, $open;
            counts {
                ignore_limits
                count_an_event_once
                respect_the_window_and_empty_lists
                estimate_authors_for_one_tag_filter
            }
            deletion {
                removes_what_its_author_names
                of_a_strangers_event_has_no_effect
                of_requests_has_no_effect
                counts_before_the_event_arrives
                by_address_reaches_up_to_its_time
                by_address_before_the_versions_arrive
                by_address_is_for_the_owner
                keeps_the_greatest_mark_of_an_address
                of_a_winner_brings_nothing_back
                of_a_winner_yet_unseen_takes_the_older_version
                reaches_gift_wraps_of_their_recipient
                in_one_batch_with_its_event
                ignores_malformed_targets
                refused_changes_nothing
            }
            expiry {
                hides_at_the_second
                refuses_what_is_over
                sweeps
                of_a_winner_brings_nothing_back
                reads_the_first_number
                of_a_request_leaves_its_marks
            }
            filters {
                by_id
                by_author
                by_kind
                by_tag
                by_any_tag_of_a_name
                by_window
                with_all_conditions
                with_several_tags
                with_many_values
                that_are_empty
                lists_that_are_empty
            }
            order {
                is_newest_first_then_lowest_id
                does_not_depend_on_arrival
                limits_take_the_newest
                limits_at_the_exact_number_say_finish
                the_hint_says_more_only_of_what_was_not_sent
                limit_zero_says_nothing
                the_limit_is_that_of_the_query
                the_boundary_second_is_completed
                the_boundary_has_a_cap
                several_filters_are_one_answer
                each_filter_has_its_own_limit
                hundreds_of_filters_are_one_answer
                no_filter_is_no_event
            }
            paging {
                goes_through_everything_once
                continues_after_any_event
                continues_filters_at_their_own_pace
                of_many_ids_and_values_come_to_the_end
                stays_exact_while_others_write
            }
            privacy {
                shows_private_kinds_to_their_parties
                counts_for_the_viewer
                hidden_events_use_up_no_limit
                activity_is_found_by_those_who_name_it
                activity_is_for_those_whom_its_author_has_chosen
                circles_are_read_from_the_newest_lists
            }
            records {
                are_read_as_they_were_written
                are_written_over_the_version_that_was_seen
                are_removed_once
                are_listed_in_the_order_of_their_keys
                that_are_large_are_fewer_a_page
                expire
                that_do_not_fit_are_refused
                are_won_by_one_at_a_time
            }
            shapes {
                texts_come_back_byte_for_byte
                tags_without_a_value_are_not_found
                long_values_are_told_apart
                values_that_look_like_ids
                upper_case_letters_are_other_letters
                times_at_the_ends
                identifiers_of_any_shape
            }
            vanishing {
                takes_what_is_older
                takes_gift_wraps_to_the_author
                refuses_it_coming_back
                extends_with_a_later_request
                spares_requests_to_vanish
                in_one_batch
                can_not_be_undone
            }
            versions {
                the_newest_wins_in_any_order
                are_found_while_they_are_replaced
                the_lowest_id_wins_a_tie
                of_addresses_are_kept_apart
                without_an_identifier_share_the_empty_one
                in_one_batch
                of_regular_kinds_do_not_exist
            }
            writes {
                answer_each_event_in_order
                are_refused_for_the_first_reason
                twice_are_duplicates
                twice_in_one_batch_are_duplicates
                number_what_they_store
                at_the_same_time
                of_nothing
            }
            property {
                agrees_with_the_model
            }
        }
    };
    (@list $store:ident, $open:expr; $($module:ident { $($test:ident)* })*) => {
        mod $store {
            use super::*;

            fn open() -> Subject {
                ($open)()
            }
            $(mod $module {
                $(#[test]
                fn $test() {
                    crate::$module::$test(super::open);
                })*
            })*
        }
    };
}

contract!(lmdb, || Subject::in_folder(|path| lmdb(path, &config::Lmdb::default())));
contract!(lmdb_by_small_pages, || Subject::in_folder(|path| lmdb(path, &small_pages())));
contract!(cql, || cql_server::open(cql_server::patient()));
contract!(cql_by_small_pages, || cql_server::open(cql_small_pages()));
contract!(feeds_of_memory, || Subject::new(feeds::Warm::over(Memory::new(), 128 * 1024)));
contract!(feeds_by_single_events, || Subject::new(feeds::Warm::over(Memory::with_page(1), 1)));
contract!(memory, || Subject::new(Memory::new()));
contract!(memory_by_single_events, || Subject::new(Memory::with_page(1)));
