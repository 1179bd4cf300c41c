//! What load to generate.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use ringlab::endpoint::Endpoint;
use serde::{Deserialize, Serialize};

use crate::processors::Processors;
use crate::tape::Mix;

/// Bytes that a stream may have unanswered on each connection, unless somebody wants it otherwise.
///
/// Several times what the fastest server takes off a socket in one turn, so that none ever waits
/// for the client, and a fraction of what the sockets would hold: a stream's latency is this window
/// divided by the throughput, and without one it would be the size of the kernel's buffers.
pub const WINDOW: usize = 512 * 1024;

/// What clients do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Send a message, wait for its reply, and so on
    RequestReply,
    /// Send messages one after the other for as long as the window and the socket take them
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

/// How the requests of an open loop are spread over time.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Independent of each other, as those of many users are: with exponential times in between
    #[default]
    Exponential,
    /// Evenly, which beats with whatever else is periodic
    Periodic,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exponential => "exponential",
            Self::Periodic => "periodic",
        })
    }
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
    /// Bytes of requests after which a connection begins no more before replies have come, for
    /// [`Workload::Stream`]: see [`WINDOW`].
    pub window: usize,
    /// Requests per second over all connections, sent when they are due whatever the replies do
    /// (open loop). Without it the next request leaves when a reply has come (closed loop).
    pub rate: Option<f64>,
    /// When those are due.
    pub arrivals: Arrivals,
    /// How long to go on at least before anything is counted; zero for no warm-up at all.
    pub warmup: Duration,
    /// How long to go on at most, as long as throughput still changes from one moment to the next.
    /// What is shorter than `warmup` means exactly that.
    pub warmup_limit: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// Stop after so many requests, if that comes first; those of the warm-up count.
    pub requests: Option<u64>,
    /// How long a connection may take to be greeted, and a reply to move on; how long to wait, when
    /// the time is over, for all that is not answered. Nothing lasts longer.
    pub timeout: Duration,
    /// Threads, each with its share of the connections.
    pub threads: NonZeroUsize,
    /// Where the threads run; anywhere if `None`.
    pub processors: Option<Processors>,
    /// For the contents and the order of messages, and the times of arrivals.
    pub seed: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan for tests to change.
    pub(in crate::load) fn plan() -> Plan {
        Plan {
            target: Endpoint::DEFAULT,
            workload: Workload::RequestReply,
            connections: 1,
            sizes: Mix::of(32),
            pipeline: 1,
            window: WINDOW,
            rate: None,
            arrivals: Arrivals::Exponential,
            warmup: Duration::ZERO,
            warmup_limit: Duration::ZERO,
            duration: Duration::from_secs(1),
            requests: None,
            timeout: Duration::from_secs(1),
            threads: NonZeroUsize::MIN,
            processors: None,
            seed: 1,
        }
    }
}
