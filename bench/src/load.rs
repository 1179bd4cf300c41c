//! A load generator for servers of the protocol.
//!
//! A [`Plan`] says what to do, [`run`] does it and tells an [`Observer`] how it goes, the
//! [`Outcome`] is what came of it. Every byte that comes back is compared with what the protocol's
//! reference replies.
//!
//! Each thread is one epoll loop over connections of its own: a send and a receive per request and
//! nothing else. What that costs is told with every result; over loopback TCP it is about what the
//! best server costs, for the kernel does most of the work, and charges the sender for much of what
//! the receiver causes.
//!
//! Nothing outlasts its time: connecting takes the timeout at most (and a millisecond for each
//! connection), and so does waiting for what is not answered when the time is over.

mod arrivals;
mod connection;
mod course;
mod failures;
mod gathered;
mod generator;
pub mod interval_log;
mod outcome;
mod phase;
mod plan;
pub mod summary;
mod warm_up;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};
use ringlab::threads;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::tape::Tape;
use arrivals::Schedule;
use gathered::Spread;
use phase::Shared;

pub use failures::{Failure, Failures};
pub use generator::INTERVAL;
pub use outcome::{Counts, Gaps, Interval, Outcome, Spacing, histogram};
pub use phase::Observer;
pub use plan::{Arrivals, Plan, WINDOW, Workload};

/// Generates the load; `stop` ends it early.
///
/// # Errors
///
/// When it cannot begin: too few descriptors, or not one connection can be opened. What goes wrong
/// later is counted in the outcome.
pub fn run(plan: &Plan, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
    raise_descriptor_limit(plan.connections)?;
    let tape = Tape::new(&plan.sizes, plan.seed);
    let shared = Shared::new(plan, &tape, observer, stop);
    let mut outcome = Outcome::new();
    let count = plan.threads.get().min(plan.connections);
    let mut spread = Spread::default();
    thread::scope(|scope| {
        let (intervals, arriving) = mpsc::channel();
        let generators: io::Result<Vec<_>> = (0..count)
            .map(|index| {
                let (shared, intervals) = (&shared, intervals.clone());
                threads::named(format!("load-{index}")).spawn_scoped(scope, move || {
                    let share = course::run(shared, index, count, intervals);
                    if share.is_err() {
                        shared.fail();
                    }
                    share
                })
            })
            .collect();
        // Or those that there are would wait for the others.
        if generators.is_err() {
            shared.fail();
        }
        let generators = generators.context("cannot start a thread")?;
        drop(intervals);
        for interval in arriving {
            outcome.counts.add(interval.counts);
            outcome.latency.add(&interval.latency)?;
            observer.interval(&interval);
        }
        for generator in generators {
            let share = generator.join().expect("a generator does not panic")?;
            outcome.warmup = outcome.warmup.max(share.warmup);
            outcome.elapsed = outcome.elapsed.max(share.elapsed);
            outcome.client_cpu += share.cpu;
            outcome.waited += share.waited;
            outcome.failures.add(share.failures);
            outcome.answered_later += share.answered_later;
            outcome.lateness.add(&share.lateness)?;
            spread.join(share.spread);
        }
        anyhow::Ok(())
    })?;
    if shared.opened() == 0
        && let Some((failure, example)) = outcome.failures.first()
    {
        bail!(
            "no connection to {} could be opened: {failure}: {example}",
            plan.target
        );
    }
    outcome.settled = shared.is_settled();
    outcome.spacing = Schedule::asked(plan).and_then(|asked| {
        let sent = spread.gaps(asked.mean)?;
        Some(Spacing { asked, sent })
    });
    outcome.interrupted = stop.load(Ordering::Relaxed);
    Ok(outcome)
}

/// Makes room for as many sockets, as far as this process may.
fn raise_descriptor_limit(connections: usize) -> Result<()> {
    /// Standard streams, epoll, logs and what an embedding program holds.
    const OTHERS: u64 = 64;
    let needed = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|most| most < needed) {
        bail!(
            "{connections} connections need {needed} descriptors, and this process may have {}; \
             raise the limit with `ulimit -Hn` or open fewer connections",
            limit.maximum.unwrap_or_default()
        );
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit on descriptors")
}
