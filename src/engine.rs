//! The engines: the same protocol, limits and shutdown over different models of I/O.
//!
//! Every engine is one function, `run`, over one [`Worker`], so that two of the files below can be
//! read side by side and every difference is a difference of I/O model.

mod blocking;
mod epoll;
mod sequential;
mod signal;
mod threads;
mod tokio;
mod tokio_uring;
pub(crate) mod uring;

use std::fmt;
use std::io;
use std::time::Duration;

use clap::ValueEnum;

use socket2::Socket;

use crate::diagnosis::{self, Unavailable};
use crate::socket_options::SocketOptions;
use crate::worker::Worker;

/// For how long a receive or send may keep a thread of the kernel's.
///
/// An operation of io_uring waits without one, until it has been woken in vain too often (by every
/// wake-up before Linux 6.0, by 128 of them since): then a thread takes it and blocks in it. Clients
/// can bring that about, with urgent data that waits behind a hole, or by closing their half of a
/// connection on which a send waits, because that never ceases to be news. The thread gives up after
/// this time, which the kernel rounds up to a tick of its clock, and the operation fails with EAGAIN.
/// The engine then waits for readiness instead, which needs no thread.
const KERNEL_THREAD_PATIENCE: Duration = Duration::from_millis(1);

/// How many such threads one worker may have at once.
const MOST_KERNEL_THREADS: u32 = 4;

/// A model of concurrency and I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Engine {
    /// Blocking, one client at a time, a send per reply byte: the tutorial's first server
    Sequential,
    /// Blocking, a thread per connection
    Threads,
    /// Readiness: one epoll loop, a buffer for all connections
    Epoll,
    /// Readiness: a task per connection, through tokio
    Tokio,
    /// Completion: io_uring, a task per connection, owned buffers
    TokioUring,
    /// Completion: io_uring, one loop over the raw ring, with the features of new kernels
    Uring,
}

impl Engine {
    /// All of them, from the oldest model to the newest.
    pub const ALL: [Self; 6] = [
        Self::Sequential,
        Self::Threads,
        Self::Epoll,
        Self::Tokio,
        Self::TokioUring,
        Self::Uring,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Threads => "threads",
            Self::Epoll => "epoll",
            Self::Tokio => "tokio",
            Self::TokioUring => "tokio-uring",
            Self::Uring => "uring",
        }
    }

    /// Whether this engine runs on this machine, found by trying.
    ///
    /// # Errors
    ///
    /// Why it does not, and what to do about it.
    pub fn availability(self) -> Result<(), Unavailable> {
        match self {
            Self::Sequential | Self::Threads | Self::Epoll | Self::Tokio => Ok(()),
            Self::TokioUring => tokio_uring::try_out().map_err(|error| diagnosis::explain(&error)),
            Self::Uring => {
                uring::try_without_features().map_err(|error| diagnosis::explain(&error))
            }
        }
    }

    /// Those that run wherever Linux does. What keeps one engine from its ring, a limit on memory
    /// for one, would keep another from its own.
    pub fn without_io_uring() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|engine| !matches!(engine, Self::TokioUring | Self::Uring))
    }

    /// How many connections one worker serves at once, whatever the limits.
    pub const fn most_at_once(self) -> usize {
        match self {
            Self::Sequential => 1,
            _ => usize::MAX,
        }
    }

    /// How many connections its model can bear on this machine, beyond what descriptors allow.
    pub fn max_connections(self) -> usize {
        match self {
            Self::Threads => threads::max_connections(),
            _ => usize::MAX,
        }
    }

    /// The most workers that make sense.
    pub const fn max_workers(self) -> usize {
        match self {
            Self::Sequential => 1,
            _ => usize::MAX,
        }
    }

    /// Whether it needs io_uring, so that its failures are explained by what forbids that.
    pub const fn uses_io_uring(self) -> bool {
        matches!(self, Self::TokioUring | Self::Uring)
    }

    /// Whether its sockets have Nagle's algorithm switched off (TCP_NODELAY).
    pub const fn nodelay(self) -> bool {
        !matches!(self, Self::Sequential)
    }

    /// What its connections' sockets are set to.
    pub fn socket_options(self) -> SocketOptions {
        SocketOptions {
            nodelay: self.nodelay(),
            patience: self.uses_io_uring().then_some(KERNEL_THREAD_PATIENCE),
        }
    }

    /// Serves what `listener` accepts until the worker's shutdown, on the calling thread.
    ///
    /// The listener is in blocking mode and shared by all workers: whoever of them has room takes
    /// the next connection. It is shut down when the drain begins, which makes a blocking accept
    /// that is pending on it fail; unless it is [inherited](Worker::inherited).
    ///
    /// # Errors
    ///
    /// When the engine cannot be set up. Nothing that happens to a connection is an error.
    pub fn run(self, worker: Worker, listener: Socket) -> io::Result<()> {
        match self {
            Self::Sequential => sequential::run(worker, listener),
            Self::Threads => threads::run(worker, listener),
            Self::Epoll => epoll::run(worker, listener),
            Self::Tokio => tokio::run(worker, listener),
            Self::TokioUring => tokio_uring::run(worker, listener),
            Self::Uring => uring::run(worker, listener),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_one_name() {
        assert_eq!(Engine::value_variants(), Engine::ALL);
        for engine in Engine::ALL {
            let value = engine.to_possible_value().unwrap();
            assert_eq!(value.get_name(), engine.name());
        }
    }
}
