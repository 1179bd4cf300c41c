//! Whole conversations with the real binary, many at once, made from numbered seeds: every engine,
//! and clients that stall, leave, reset, or never had anything to say.
//!
//! A round is a server and what a seed makes happen to it. Clients take turns on one thread; each
//! follows a script of its own, and compares every byte that it receives with the reference. In
//! the end nothing may be left of them in the server, which must serve the next client and exit as
//! it should.
//!
//! The rows share 5 seconds; `RINGLAB_FUZZ_SECONDS` sets another time, and `RINGLAB_FUZZ_SEED` the
//! seed to start with. A failure tells the command that repeats the round.

mod conversation;
#[allow(dead_code, reason = "tests/server uses the rest")]
#[path = "../server/row.rs"]
mod row;
mod script;
#[path = "../fuzz/settings.rs"]
mod settings;
#[allow(dead_code, reason = "tests/server uses the rest")]
#[path = "../server/support.rs"]
mod support;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use ringlab::engine::Engine;
use ringlab::features::Features;
use ringlab::probe::Report;
use rustix::event::{Timespec, poll};
use rustix::process::Signal;

use self::conversation::{Conversation, Due};
use self::row::{Row, rows, trial};
use self::script::{Course, Ending, Listen, Script};
use self::support::{Exit, PATIENCE, Server, ringlab, unix_endpoint};

/// How long a turn lasts at most in which nothing happens.
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000,
};

/// The row that takes any of the features that the kernel has.
const ANY_FEATURES: &str = "uring-any-features";

fn main() -> ExitCode {
    support::raise_descriptor_limit();
    let mut arguments = Arguments::from_args();
    // Rounds are about time. Two at once would compete for it and be harder to repeat.
    arguments.test_threads.get_or_insert(1);
    let mut rows = rows();
    rows.push(Row {
        name: ANY_FEATURES,
        engine: Engine::Uring,
        args: vec!["--engine", "uring"],
    });
    let is_chosen = |row: &&Row| match &arguments.filter {
        Some(filter) if arguments.exact => row.name == filter,
        Some(filter) => row.name.contains(filter.as_str()),
        None => true,
    };
    let chosen = rows.iter().filter(is_chosen).count().max(1);
    let share = settings::time(Duration::from_secs(5)) / u32::try_from(chosen).unwrap_or(1);
    let trials = rows
        .into_iter()
        .map(|row| trial(row.name.to_owned(), row.engine, move || fuzz(&row, share)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Round after round until the time is over.
fn fuzz(row: &Row, time: Duration) {
    let available = (row.name == ANY_FEATURES).then(|| Report::gather().available());
    let first = settings::first_seed();
    let start = Instant::now();
    let mut conversations = 0;
    let mut seed = first;
    loop {
        let _repeat = Repeat { row, seed };
        conversations += round(row, available, seed);
        seed += 1;
        if start.elapsed() >= time {
            break;
        }
    }
    println!(
        "{}: {conversations} conversations in {:.1?}, {} rounds from seed {first} on",
        row.name,
        start.elapsed(),
        seed - first,
    );
}

/// Tells how to repeat a round that panics.
struct Repeat<'a> {
    row: &'a Row,
    seed: u64,
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { row, seed } = self;
            eprintln!(
                "to repeat it: RINGLAB_FUZZ_SECONDS=0 RINGLAB_FUZZ_SEED={seed} \
                 cargo test --test fuzz_conversations -- --exact {}",
                row.name
            );
        }
    }
}

/// One server, from start to end. Returns how many conversations it had.
fn round(row: &Row, available: Option<Features>, seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let clients = random.usize(row.enough(50)..row.enough(200));
    let course = Course::new(row, clients, available, &mut random);
    let scripts = (0..clients).map(|_| Script::new(&mut random, |usual| row.enough(usual)));
    let mut conversations: Vec<_> = scripts
        .enumerate()
        .map(|(number, script)| Conversation::new(number, script))
        .collect();

    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = match course.listen {
        Listen::V4 => "127.0.0.1:0".to_owned(),
        Listen::V6 => "[::1]:0".to_owned(),
        Listen::Unix => unix_endpoint(directory.path()),
    };
    let server = Server::spawn(
        ringlab()
            .args(["serve", "-v", "--listen", &listen])
            .args(&row.args)
            .args(&course.args),
    );
    let before = server.descriptors();
    let stopped = converse(&server, &course, &mut conversations);
    let exit = if stopped {
        server.exit()
    } else {
        expect_to_be_as_before(&server, before, &course);
        server.stop()
    };
    expect_clean(&exit, &course);
    clients
}

/// Lets everybody follow their script to its end. Returns whether SIGTERM came before that.
fn converse(server: &Server, course: &Course, conversations: &mut [Conversation]) -> bool {
    let mut due = if course.impatient {
        Due::Beginning
    } else {
        Due::Everything
    };
    let mut stopped = false;
    let mut moved = Instant::now();
    for turn in 0.. {
        for stop in &course.stops {
            if turn == stop.start {
                server.signal(Signal::STOP);
            } else if turn == stop.end {
                server.signal(Signal::CONT);
            }
        }
        match course.ending {
            Ending::Drain(when) | Ending::Cut(when) if when == turn => {
                due = match course.ending {
                    Ending::Drain(_) if !course.impatient => Due::EverythingOrNothing,
                    _ => Due::Beginning,
                };
                server.signal(Signal::TERM);
                stopped = true;
            }
            _ => {}
        }
        let mut any = false;
        for conversation in &mut *conversations {
            any |= conversation.turn(&server.endpoint, due);
        }
        if conversations.iter().all(Conversation::is_over) {
            break;
        }
        if any {
            moved = Instant::now();
        } else {
            assert!(
                moved.elapsed() < PATIENCE,
                "nothing moves: {}",
                left(conversations)
            );
            wait(conversations);
        }
    }
    // In case that the last stop was to take longer.
    server.signal(Signal::CONT);
    stopped
}

fn left(conversations: &[Conversation]) -> String {
    let left = conversations
        .iter()
        .filter(|conversation| !conversation.is_over());
    left.map(|conversation| format!("\n  {conversation}"))
        .collect()
}

fn wait(conversations: &[Conversation]) {
    let mut fds: Vec<_> = conversations
        .iter()
        .filter_map(Conversation::poll_fd)
        .collect();
    // Whatever it says, the next turn finds out.
    let _ = poll(&mut fds, Some(&TURN));
}

/// Nothing is left of anybody, and the next one is served.
fn expect_to_be_as_before(server: &Server, descriptors: usize, course: &Course) {
    server.wait_for_descriptors(descriptors);
    let mut next = server.greeted();
    // An impatient server may close before it has seen a message.
    if !course.impatient {
        next.round_trip();
    }
}

/// However it ended, the server is not at fault.
fn expect_clean(exit: &Exit, course: &Course) {
    let Exit { code, log } = exit;
    assert_eq!(*code, Some(0), "{log}");
    for fault in ["panicked", "worker failed"] {
        assert!(!log.contains(fault), "{log}");
    }
    // Nobody had to be cut off, unless that was the plan.
    let cut = matches!(course.ending, Ending::Cut(_));
    assert!(cut || !log.contains("drain timeout passed"), "{log}");
}
