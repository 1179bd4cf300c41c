//! How far a run has come, and how its threads go from one phase to the next together.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::outcome::Interval;
use super::plan::Plan;
use crate::tape::Tape;

/// Who wants to know how a load goes.
pub trait Observer: Sync {
    /// The warm-up is over, and measuring begins as soon as this returns: called by one of the
    /// generating threads, so the less it does the better. The time it takes is not measured.
    fn measuring(&self) {}

    /// The measured time is over, called likewise; replies may still be on their way.
    fn measured(&self) {}

    /// What one interval of measuring has brought, called by the thread that called
    /// [`run`](super::run).
    fn interval(&self, _interval: &Interval) {}
}

impl Observer for () {}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are being opened.
    Opening,
    /// Under load, not measured.
    WarmingUp,
    /// Under load, since the given time.
    Measuring(Instant),
    /// Nothing new begins; what was begun in the given time is still measured.
    Finishing(Instant, Instant),
}

impl Phase {
    /// Whether the latency of a request that counts from `since` is measured.
    pub(super) fn counts(self, since: Instant) -> bool {
        match self {
            Self::Opening | Self::WarmingUp => false,
            Self::Measuring(start) => since >= start,
            Self::Finishing(start, end) => (start..end).contains(&since),
        }
    }

    pub(super) fn is_measuring(self) -> bool {
        matches!(self, Self::Measuring(_))
    }
}

/// What the threads of one run share.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) tape: &'a Tape,
    pub(super) observer: &'a dyn Observer,
    stop: &'a AtomicBool,
    /// Whether a thread could not go on, so that the others must not wait for it.
    failed: AtomicBool,
    /// Threads whose connections are open, as far as they can be.
    ready: AtomicUsize,
    /// Connections that are.
    opened: AtomicUsize,
    /// When all threads were ready, and the load began.
    start: OnceLock<Instant>,
    /// Requests answered since then, as threads have told during the warm-up.
    answered: AtomicU64,
    /// When measuring began.
    measuring: OnceLock<Instant>,
    /// Whether the warm-up ended because throughput had settled.
    settled: AtomicBool,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        tape: &'a Tape,
        observer: &'a dyn Observer,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            plan,
            tape,
            observer,
            stop,
            failed: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            start: OnceLock::new(),
            answered: AtomicU64::new(0),
            measuring: OnceLock::new(),
            settled: AtomicBool::new(true),
        }
    }

    /// A thread could not go on.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// A thread has opened its connections, so many of them.
    pub(super) fn is_ready(&self, opened: usize) {
        self.opened.fetch_add(opened, Ordering::SeqCst);
        self.ready.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn are_ready(&self, threads: usize) -> bool {
        self.ready.load(Ordering::SeqCst) >= threads
    }

    /// Connections that all threads together have opened.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// When the load begins: now, if this thread is the first.
    pub(super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// Requests answered by all threads, of which this one has not yet told `more`.
    pub(super) fn answered(&self, more: u64) -> u64 {
        self.answered.fetch_add(more, Ordering::Relaxed) + more
    }

    /// When measuring began, if it has.
    pub(super) fn measuring(&self) -> Option<Instant> {
        self.measuring.get().copied()
    }

    /// Begins to measure, for all threads.
    pub(super) fn measure(&self, is_settled: bool) -> Instant {
        self.settled.store(is_settled, Ordering::Relaxed);
        self.observer.measuring();
        *self.measuring.get_or_init(Instant::now)
    }

    /// Whether the warm-up ended because throughput had settled.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }
}
