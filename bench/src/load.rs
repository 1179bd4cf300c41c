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

mod connection;
mod failures;
mod generator;
pub mod interval_log;
pub mod summary;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use ringlab::endpoint::Endpoint;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::processors::Processors;
use crate::tape::{Mix, Tape};

pub use failures::{Failure, Failures};

/// The longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often threads hand over what they have measured.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What clients do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Send a message, wait for its reply, and so on
    RequestReply,
    /// Send messages one after the other for as long as the socket takes them
    Stream,
    /// Connect, be greeted, send a message, receive its reply, close, and so on
    Churn,
    /// Hold connections open; at the end a message on each shows that it lives
    Idle,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestReply => "request-reply",
            Self::Stream => "stream",
            Self::Churn => "churn",
            Self::Idle => "idle",
        })
    }
}

/// When the requests of an open loop are due.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At random, independently of each other, as those of many clients are
    #[default]
    Exponential,
    /// Evenly spaced
    Periodic,
}

/// A load to generate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Endpoint,
    /// What each connection does.
    pub workload: Workload,
    /// Connections at once.
    pub connections: usize,
    /// Sizes of messages.
    pub sizes: Mix,
    /// Requests that a connection may have in flight, for [`Workload::RequestReply`].
    pub pipeline: usize,
    /// Requests per second over all connections, sent when they are due whatever the replies do
    /// (open loop). Without it the next request leaves when a reply has come (closed loop).
    pub rate: Option<f64>,
    /// How long to go on before anything is counted.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// Stop after so many requests, if that comes first; those of the warm-up count.
    pub requests: Option<u64>,
    /// How long a connection may take to be greeted, and a reply to move on.
    pub timeout: Duration,
    /// Threads, each with its share of the connections.
    pub threads: NonZeroUsize,
    /// Where the threads run; anywhere if `None`.
    pub processors: Option<Processors>,
    /// For the contents and the order of messages.
    pub seed: u64,
}

/// Who wants to know how a load goes.
pub trait Observer: Sync {
    /// The warm-up is over: called by one of the generating threads, so the less it does the
    /// better. The time it takes is not measured.
    fn measuring(&self) {}

    /// The measured time is over, called likewise; replies may still be on their way.
    fn measured(&self) {}

    /// What one interval of measuring has brought, called by the thread that called [`run`].
    fn interval(&self, _interval: &Interval) {}
}

impl Observer for () {}

/// What was measured in a part of the time, by one thread.
#[derive(Debug)]
pub struct Interval {
    /// From the start of measuring to the start of the interval.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// What was counted.
    pub counts: Counts,
}

/// What has moved while it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests whose reply has arrived, and was right.
    pub completed: u64,
    /// Bytes of requests.
    pub sent: u64,
    /// Bytes of replies.
    pub received: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// What came of a [`Plan`].
#[derive(Debug)]
pub struct Outcome {
    /// How long was measured: less than planned after an interruption.
    pub elapsed: Duration,
    /// What moved in that time.
    pub counts: Counts,
    /// Latencies in nanoseconds of all requests that were sent, or due, in that time.
    ///
    /// In a closed loop they count from the send, in an open loop from when the request was due:
    /// a server that stalls is charged for all that could not be sent meanwhile. For
    /// [`Workload::Churn`] they are whole conversations, from connecting to the reply.
    pub latency: Histogram<u64>,
    /// Processor time of the generating threads in that time.
    pub client_cpu: Duration,
    /// What went wrong, during warm-up, too.
    pub failures: Failures,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Outcome {
    /// Requests per second.
    pub fn throughput(&self) -> f64 {
        self.counts.completed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A histogram for latencies in nanoseconds, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("bounds that are in order")
}

/// What the threads of one run share.
struct Shared<'a> {
    plan: &'a Plan,
    tape: &'a Tape,
    observer: &'a dyn Observer,
    stop: &'a AtomicBool,
    /// Whether a thread could not go on, so that the others must not wait for it.
    failed: AtomicBool,
    /// Threads whose connections are open.
    ready: AtomicUsize,
    /// When all were, and the load began.
    start: OnceLock<Instant>,
}

/// Generates the load; `stop` ends it early.
///
/// # Errors
///
/// When it cannot begin: too few descriptors, or not one connection can be opened. What goes wrong
/// later is counted in the outcome.
pub fn run(plan: &Plan, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
    raise_descriptor_limit(plan.connections)?;
    let tape = Tape::new(&plan.sizes, plan.seed);
    let shared = Shared {
        plan,
        tape: &tape,
        observer,
        stop,
        failed: AtomicBool::new(false),
        ready: AtomicUsize::new(0),
        start: OnceLock::new(),
    };
    let mut outcome = Outcome {
        elapsed: Duration::ZERO,
        counts: Counts::default(),
        latency: histogram(),
        client_cpu: Duration::ZERO,
        failures: Failures::default(),
        interrupted: false,
    };
    let threads = plan.threads.get().min(plan.connections);
    let mut opened = 0;
    thread::scope(|scope| {
        let (intervals, arriving) = mpsc::channel();
        let generators: Vec<_> = (0..threads)
            .map(|index| {
                let (shared, intervals) = (&shared, intervals.clone());
                scope.spawn(move || {
                    let share = generator::run(shared, index, threads, intervals);
                    shared.failed.fetch_or(share.is_err(), Ordering::Relaxed);
                    share
                })
            })
            .collect();
        drop(intervals);
        for interval in arriving {
            outcome.counts.add(interval.counts);
            outcome.latency.add(&interval.latency)?;
            observer.interval(&interval);
        }
        for generator in generators {
            let share = generator.join().expect("a generator does not panic")?;
            outcome.elapsed = outcome.elapsed.max(share.elapsed);
            outcome.client_cpu += share.cpu;
            outcome.failures.add(share.failures);
            opened += share.opened;
        }
        anyhow::Ok(())
    })?;
    if opened == 0
        && let Some((failure, example)) = outcome.failures.first()
    {
        bail!(
            "no connection to {} could be opened: {failure}: {example}",
            plan.target
        );
    }
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
