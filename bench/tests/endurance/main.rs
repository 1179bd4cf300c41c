//! What a server must bear for as long as it runs: crowds, hostile clients, signals, crashes.
//!
//! Every trial prints its figures. By default each is small, a minute or two for all, and looks for
//! defects only. `RINGLAB_ENDURANCE=full` is the real thing, for a quiet machine and a release
//! build, and also holds the figures against their bounds:
//!
//! ```sh
//! RINGLAB_ENDURANCE=full cargo test --release -p ringlab-bench --test endurance -- --test-threads 1
//! ```
//!
//! That takes some two hours: an hour of it the soak, ten minutes for each engine, and another one
//! the hostile crowd. A number in the place of `full` is for how many seconds that crowd stays,
//! and leaves the rest as it is: add the filter `hostile_crowd`.

mod crowd;
mod hostile;
mod server;
mod signals;
mod soak;
#[path = "../../../tests/server/sockets.rs"]
mod sockets;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use ringlab::engine::Engine;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Whether figures must keep to their bounds: not in a debug build beside other tests.
    strict: bool,
    /// Connections on which hardly anything comes.
    slow: usize,
    /// For how long.
    slow_time: Duration,
    /// Connections on which nothing is read.
    deaf: usize,
    /// Connections that are reset, in a second.
    resets: u64,
    /// For how long.
    reset_time: Duration,
    /// How often a server under load is ended, in each way.
    ends: usize,
    /// How long a stopped server sleeps.
    stopped: Duration,
    /// How long a ring that is too small is under load.
    overflow: Duration,
    /// How long everything happens at once.
    soak: Duration,
    /// Connections on which urgent data comes.
    urgent: usize,
    /// How long a hostile crowd stays.
    hostile: Duration,
    /// How long others are watched without one.
    undisturbed: Duration,
}

const SMALL: Scale = Scale {
    strict: false,
    slow: 1000,
    slow_time: Duration::from_secs(1),
    deaf: 100,
    resets: 5000,
    reset_time: Duration::from_secs(1),
    ends: 3,
    stopped: Duration::from_millis(1500),
    overflow: Duration::from_secs(1),
    soak: Duration::from_secs(3),
    urgent: 40,
    hostile: Duration::from_secs(3),
    undisturbed: Duration::from_secs(1),
};

const FULL: Scale = Scale {
    strict: true,
    slow: 10_000,
    slow_time: Duration::from_secs(20),
    deaf: 1000,
    resets: 20_000,
    reset_time: Duration::from_secs(30),
    ends: 20,
    stopped: Duration::from_secs(5),
    overflow: Duration::from_secs(10),
    soak: Duration::from_secs(600),
    urgent: 5000,
    hostile: Duration::from_secs(600),
    undisturbed: Duration::from_secs(20),
};

/// A trial: its name, whether engines must serve several clients at once for it, what happens.
type Case = (&'static str, bool, fn(Engine, &Scale));

const CASES: &[Case] = &[
    ("slowloris", true, crowd::slowloris),
    (
        "clients_that_never_read",
        true,
        crowd::clients_that_never_read,
    ),
    ("hostile_crowd", true, hostile::hostile_crowd),
    ("connects_and_resets", false, crowd::connects_and_resets),
    (
        "terminated_under_load",
        true,
        signals::terminated_under_load,
    ),
    ("killed_under_load", true, signals::killed_under_load),
    (
        "stopped_and_continued",
        true,
        signals::stopped_and_continued,
    ),
    ("soak", false, soak::soak),
];

fn main() -> ExitCode {
    let scale = match env::var("RINGLAB_ENDURANCE").as_deref() {
        Ok("full") => FULL,
        Ok(seconds) => seconds.parse().map_or(SMALL, |seconds| Scale {
            hostile: Duration::from_secs(seconds),
            urgent: FULL.urgent,
            ..SMALL
        }),
        Err(_) => SMALL,
    };
    ringlab::server::raise_descriptor_limit();
    let mut trials = Vec::new();
    for engine in Engine::ALL {
        for &(name, concurrently, run) in CASES {
            if concurrently && engine == Engine::Sequential {
                continue;
            }
            trials.push(Trial::test(format!("{engine}::{name}"), move || {
                run(engine, &scale);
                Ok(())
            }));
        }
    }
    trials.push(Trial::test("uring::rings_that_overflow", move || {
        crowd::rings_that_overflow(&scale);
        Ok(())
    }));
    trials.push(Trial::ignorable_test("threads::threads_refused", || {
        if !rustix::process::geteuid().is_root() {
            return Ok(Completion::ignored_with(
                "needs root, to run as somebody who runs nothing else",
            ));
        }
        crowd::threads_refused();
        Ok(Completion::Completed)
    }));
    trials.push(Trial::test("uring::locked_memory_refused", || {
        crowd::locked_memory_refused();
        Ok(())
    }));
    let mut arguments = Arguments::from_args();
    // Each keeps both of two processors busy for much of its time.
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, trials).exit_code()
}
