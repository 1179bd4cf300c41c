//! Conversations with the real binary over real sockets: every engine, every case.
//!
//! A case is a function that is handed a row, and a row is an engine with its options. A new
//! engine appears here by itself; a variant of one is one more line in [`rows`].

mod cli;
mod conversations;
mod counters;
mod faults;
mod hostile;
mod lifecycle;
mod limits;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod row;
mod service_manager;
mod signals;
mod support;
mod unix_sockets;
mod uring;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use ringlab::engine::Engine;

use self::row::{Row, rows, trial};

/// Which rows a case is for.
#[derive(Clone, Copy)]
enum For {
    All,
    Concurrent,
    Sequential,
}

impl For {
    fn covers(self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Concurrent => row.concurrent(),
            Self::Sequential => row.engine == Engine::Sequential,
        }
    }
}

/// A case: its name, whom it is for, and what happens.
type Case = (&'static str, For, fn(&Row));

/// Lists functions as cases under their own names.
macro_rules! cases {
    ($($(#[$only:meta])? $module:ident::$case:ident for $rows:ident,)*) => {
        [$($(#[$only])? (stringify!($case), For::$rows, $module::$case as fn(&Row))),*]
    };
}

const CASES: &[Case] = &cases![
    conversations::greeting for All,
    conversations::tutorial_conversation for All,
    conversations::one_byte_at_a_time for All,
    conversations::random_segmentation for All,
    conversations::half_close_after_a_mebibyte for All,
    conversations::half_close_without_input for All,
    conversations::sixty_four_verified_streams_at_once for All,
    conversations::two_thousand_connections_at_once for Concurrent,
    conversations::conversations_over_before_the_server_looks for All,
    conversations::ipv6 for All,
    conversations::unix_socket for All,
    conversations::tutorial_client for All,
    conversations::one_client_after_the_other for Sequential,
    limits::connections_beyond_the_limit_wait_in_the_backlog for All,
    limits::bursts_of_connections_are_spread_over_the_workers for Concurrent,
    limits::a_worker_that_is_ahead_of_its_peers_serves_who_comes for Concurrent,
    limits::idle_connections_are_closed for All,
    limits::active_connections_are_not_idle for Concurrent,
    limits::idle_connections_hold_no_large_buffers for Concurrent,
    limits::clients_that_never_read_cost_bounded_memory for All,
    limits::clients_that_never_read_are_closed for All,
    limits::exhausted_descriptors_recover for Concurrent,
    limits::clients_that_never_read_hold_nothing_that_others_need for Concurrent,
    limits::clients_that_read_late_get_everything for All,
    limits::clients_that_have_read_cost_no_more_memory for Concurrent,
    limits::idle_connections_may_wake_up_as_they_are_closed for Concurrent,
    limits::servers_start_with_few_descriptors_open for All,
    limits::everybody_at_once_is_answered for Concurrent,
    faults::three_hundred_resets_in_mid_message for All,
    faults::reset_with_replies_unread for All,
    faults::clients_that_leave_before_they_are_accepted for All,
    faults::late_completions_meet_no_new_connection for Concurrent,
    faults::interrupted_waits_lose_nothing for All,
    faults::interruptions_do_not_put_off_the_idle_timeout for All,
    faults::what_comes_while_the_server_is_stopped_is_answered for All,
    faults::interrupted_sends_lose_nothing for All,
    hostile::urgent_bytes_are_part_of_the_conversation for All,
    hostile::urgent_bytes_cost_no_threads for All,
    hostile::half_closed_clients_that_never_read_cost_no_threads for Concurrent,
    hostile::resets_before_the_server_looks_leave_nothing for All,
    counters::every_byte_is_counted for All,
    counters::every_end_is_counted for All,
    counters::waiting_at_the_limit_is_counted for All,
    counters::sigusr1_disturbs_neither_service_nor_drain for All,
    #[cfg(feature = "metrics")]
    metrics::metrics_say_what_the_log_says for All,
    #[cfg(feature = "metrics")]
    metrics::hostile_scrapers_disturb_neither_service_nor_exit for All,
    log::a_log_that_nobody_reads_holds_up_nobody for All,
    log::a_log_that_is_read_slowly_holds_up_nobody_and_loses_nothing for All,
    log::a_log_that_nobody_reads_holds_up_no_exit for All,
    lifecycle::drain_lets_conversations_end for All,
    lifecycle::drain_deadline_closes_the_rest for All,
    lifecycle::drain_timeout_zero_closes_at_once for All,
    lifecycle::drain_closes_each_connection_as_it_ends for Concurrent,
    lifecycle::drain_deadline_closes_busy_connections for Concurrent,
    lifecycle::drain_deadline_closes_clients_that_do_not_read for All,
    lifecycle::drain_at_the_connection_limit for All,
    lifecycle::drain_turns_away_who_waits_in_the_backlog for All,
    lifecycle::second_signal_exits_at_once for All,
    lifecycle::second_instance_is_refused for All,
    lifecycle::restart_while_the_first_still_drains for All,
    lifecycle::stale_unix_socket_is_replaced for All,
    lifecycle::unix_socket_in_use_is_left_alone for All,
    service_manager::passed_sockets_are_served_by_one_server_after_the_other for All,
    service_manager::passed_sockets_are_shared_by_the_workers for Concurrent,
];

fn main() -> ExitCode {
    support::raise_descriptor_limit();
    let mut trials = cli::trials();
    trials.extend(log::trials());
    trials.extend(service_manager::trials());
    trials.extend(signals::trials());
    trials.extend(unix_sockets::trials());
    #[cfg(feature = "metrics")]
    trials.extend(metrics::trials());
    for row in rows() {
        for &(name, rows, run) in CASES {
            if rows.covers(&row) {
                let row = row.clone();
                let name = format!("{}::{name}", row.name);
                trials.push(trial(name, row.engine, move || run(&row)));
            }
        }
    }
    for (name, run) in uring::cases() {
        trials.push(trial(format!("uring::{name}"), Engine::Uring, run));
    }
    let mut arguments = Arguments::from_args();
    // Most cases wait for a timeout of the server's most of the time.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit_code()
}
