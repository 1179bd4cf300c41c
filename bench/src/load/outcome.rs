//! What came of a load.

use std::time::Duration;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failures::Failures;

/// The longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

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
    pub(super) fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// What came of a [`Plan`](super::Plan).
#[derive(Debug)]
pub struct Outcome {
    /// How long it went on before it was measured.
    pub warmup: Duration,
    /// Whether throughput had stopped changing by then; also if there was no warm-up to tell it.
    pub settled: bool,
    /// How long was measured: less than planned after an interruption.
    pub elapsed: Duration,
    /// What moved in that time.
    pub counts: Counts,
    /// Requests that were sent, or due, in that time, and answered after it: they are in `latency`,
    /// and not in `counts`.
    pub answered_later: u64,
    /// Latencies in nanoseconds of all requests that were sent, or due, in that time.
    ///
    /// In a closed loop they count from the send, in an open loop from when the request was due:
    /// a server that stalls is charged for all that could not be sent meanwhile. For
    /// [`Workload::Churn`](super::Workload::Churn) they are whole conversations, from connecting to
    /// the reply.
    pub latency: Histogram<u64>,
    /// How late the client itself was in an open loop, in nanoseconds: from when a request was due
    /// and its connection had room for it, to when it was written. Empty in a closed loop, where
    /// nothing is due.
    ///
    /// A latency that is not well above the lateness of the same quantile says nothing of the
    /// server.
    pub lateness: Histogram<u64>,
    /// How the requests of an open loop were spread over that time.
    pub spacing: Option<Spacing>,
    /// Processor time of the generating threads in that time.
    pub client_cpu: Duration,
    /// How long, of that time and summed up over the threads, they did nothing but look whether the
    /// next request of an open loop was due: to sleep would be to be late.
    pub waited: Duration,
    /// What went wrong, during warm-up, too.
    pub failures: Failures,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Outcome {
    pub(super) fn new() -> Self {
        Self {
            warmup: Duration::ZERO,
            settled: true,
            elapsed: Duration::ZERO,
            counts: Counts::default(),
            answered_later: 0,
            latency: histogram(),
            lateness: histogram(),
            spacing: None,
            client_cpu: Duration::ZERO,
            waited: Duration::ZERO,
            failures: Failures::default(),
            interrupted: false,
        }
    }

    /// Requests per second.
    pub fn throughput(&self) -> f64 {
        self.counts.completed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Times between requests, as they were asked for and as they were sent.
///
/// They differ when the server could not keep up, so that connections had no room for what was due,
/// or when the client could not; [`Outcome::lateness`] tells which.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spacing {
    /// What the plan says.
    pub asked: Gaps,
    /// What was done.
    pub sent: Gaps,
}

/// The times between each request and the next one of the same thread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gaps {
    /// Their mean in seconds, as if one thread had sent all requests.
    pub mean: f64,
    /// The coefficient of variation: 0 if requests are periodic, 1 if times are exponential.
    pub variation: f64,
}

/// A histogram for latencies in nanoseconds, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("bounds that are in order")
}
