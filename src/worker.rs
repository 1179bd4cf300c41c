//! What every engine is handed: the limits, the signal to stop, the counters.

use std::io;
use std::iter::{self, Sum};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::features::RingOptions;
use crate::shutdown::Shutdown;
use crate::socket_options::SocketOptions;

/// One worker's part of the server. An engine is a function over one of these, run on a thread of
/// its own; it shares nothing with other workers but the listening socket and a look at their
/// counters.
pub struct Worker {
    /// Counts from 0.
    pub index: usize,
    /// How many connections this worker may serve at once: its share of `--max-connections`.
    pub max_connections: usize,
    /// How long no byte may move on a connection, in either direction; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// For the engine `uring`.
    pub ring: RingOptions,
    /// Whether the listener is somebody else's as well, so that the drain cannot shut it down: an
    /// accept that is pending then goes on, and the engine must not leave it pending.
    pub inherited: bool,
    /// What to set on each accepted socket, if the listener does not hand it down.
    pub unsettled: Option<SocketOptions>,
    /// When to stop accepting, and when to close what is left.
    pub shutdown: Shutdown,
    /// What has happened so far, on this worker and on its peers, by index.
    pub crew: Arc<[Counters]>,
    /// To be called once the engine has everything that it needs to serve, before it accepts.
    pub ready: Box<dyn Fn() + Send + Sync>,
}

impl Worker {
    /// This worker's counters.
    pub fn counters(&self) -> &Counters {
        &self.crew[self.index]
    }

    /// Sets what a socket that was just accepted does not have from the listener. Each engine calls
    /// this before it receives.
    pub fn settle(&self, socket: impl AsFd) {
        if let Some(options) = self.unsettled {
            // A socket that refuses its options is served as it is.
            let _ = options.set_on(socket);
        }
    }

    /// The pauses to make before accepting the next connection; none, unless this worker serves
    /// clearly more than one of its peers. The first are no time at all: others on this worker run,
    /// and some of its connections may be over with it.
    ///
    /// The kernel wakes workers in turn when connections come one by one, but a burst goes to
    /// whoever is running, and would stay there. Peers that have time take what this one leaves,
    /// usually within the first millisecond. If none does, the connection waits for all sixteen.
    pub fn pauses_while_ahead(&self) -> impl Iterator<Item = Duration> {
        iter::repeat_n(Duration::ZERO, YIELDS)
            .chain(iter::repeat_n(PAUSE, PAUSES))
            .take_while(|_| self.is_ahead())
    }

    /// Whether this worker serves clearly more connections than one of its peers.
    fn is_ahead(&self) -> bool {
        let peers = self
            .crew
            .iter()
            .filter(|peer| !peer.stopped.load(Ordering::Relaxed));
        let fewest = peers.map(Counters::active).min().unwrap_or(0);
        // An eighth more keeps the busiest well within one and a half times the fewest, and small
        // differences are nobody's concern.
        self.counters().active() > fewest + fewest / 8 + 8
    }
}

/// How long a worker that is ahead leaves the next connection to its peers, and how often.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES: usize = 16;

/// How often others on the worker run before that. A task that finds that its client has gone
/// takes three turns: it greets, it waits for the client, it ends.
const YIELDS: usize = 4;

/// What happened on one worker's connections so far.
///
/// On a cache line of its own (two, for the prefetcher), so that workers do not slow each other.
/// What counts bytes has another one: peers look at `active` when they accept, and need not wait
/// for a line that changes with every message.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    limit: usize,
    active: AtomicUsize,
    accepted: AtomicU64,
    accept_waits: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    cut: AtomicU64,
    stopped: AtomicBool,
    /// What has been moved.
    pub traffic: Traffic,
}

/// Bytes that one worker has moved so far.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Traffic {
    /// From clients.
    pub received: Bytes,
    /// To clients, the greeting included: those that the kernel has taken.
    pub sent: Bytes,
}

/// A sum of bytes that any thread may read at any time.
#[derive(Debug, Default)]
pub struct Bytes(AtomicU64);

impl Bytes {
    /// Adds, on the only thread that adds to this sum: two plain instructions, where `fetch_add`
    /// is a locked one that costs more than everything else there is to count.
    pub fn add(&self, bytes: usize) {
        self.0.store(self.get() + bytes as u64, Ordering::Relaxed);
    }

    /// Adds, on one of several threads that do.
    pub fn add_shared(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client closed.
    Closed,
    /// No byte moved for the idle timeout.
    TimedOut,
    /// The socket failed: the client reset the connection, or the network did.
    Failed,
    /// The drain's deadline came first.
    Cut,
}

impl Counters {
    /// Nothing has happened yet on a worker that serves at most `limit` connections at once.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            active: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            accept_waits: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    /// A connection has been accepted. With the last one that the limit allows, the worker stops
    /// accepting.
    pub fn opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.active.fetch_add(1, Ordering::Relaxed) + 1 >= self.limit {
            self.accept_waits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that was accepted is closed.
    pub fn closed(&self, how: Ended) {
        match how {
            Ended::Closed => {}
            Ended::TimedOut => _ = self.timed_out.fetch_add(1, Ordering::Relaxed),
            Ended::Failed => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            Ended::Cut => _ = self.cut.fetch_add(1, Ordering::Relaxed),
        }
        // Whoever sees that it is closed sees everything that was counted for it.
        self.active.fetch_sub(1, Ordering::Release);
    }

    /// The worker is no more: it accepts nothing, so nobody need wait for it. If it has not stopped
    /// by itself, its connections have failed.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let left = self.active.swap(0, Ordering::Relaxed);
        self.failed.fetch_add(left as u64, Ordering::Relaxed);
    }

    /// The most connections that may be open at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Connections open now.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// All of them, each as it is at some moment during this call.
    pub fn count(&self) -> Count {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let active = self.active.load(Ordering::Acquire);
        Count {
            accepted: of(&self.accepted),
            active,
            limit: self.limit,
            at_limit: usize::from(active >= self.limit),
            accept_waits: of(&self.accept_waits),
            timed_out: of(&self.timed_out),
            failed: of(&self.failed),
            cut: of(&self.cut),
            received_bytes: self.traffic.received.get(),
            sent_bytes: self.traffic.sent.get(),
        }
    }
}

/// What [`Counters`] say, of one worker or summed up over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub active: usize,
    /// The most that may be.
    pub limit: usize,
    /// Workers at their limit now: they accept nobody until somebody leaves.
    pub at_limit: usize,
    /// How often a worker stopped accepting because it had reached its limit.
    pub accept_waits: u64,
    /// Connections closed by the idle timeout.
    pub timed_out: u64,
    /// Connections ended by a socket error, such as a reset by the client.
    pub failed: u64,
    /// Connections closed by the drain's deadline.
    pub cut: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent, greetings included.
    pub sent_bytes: u64,
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            accepted: sum.accepted + count.accepted,
            active: sum.active + count.active,
            limit: sum.limit + count.limit,
            at_limit: sum.at_limit + count.at_limit,
            accept_waits: sum.accept_waits + count.accept_waits,
            timed_out: sum.timed_out + count.timed_out,
            failed: sum.failed + count.failed,
            cut: sum.cut + count.cut,
            received_bytes: sum.received_bytes + count.received_bytes,
            sent_bytes: sum.sent_bytes + count.sent_bytes,
        })
    }
}

/// What an engine does when accepting has failed; see [`Accepting::failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The drain has begun, and the listener with it is shut down: accept no more.
    Stop,
    /// That one connection is gone: accept the next.
    Retry,
    /// Something is exhausted: give it this long to recover.
    Wait(Duration),
}

/// What to do about the errors of `accept(2)`, and of whatever else a new connection needs before
/// it can be served: no such error may end the service.
#[derive(Debug, Default)]
pub struct Accepting {
    /// Failures since the last success.
    failures: u32,
}

impl Accepting {
    const SHORTEST_WAIT: Duration = Duration::from_millis(10);
    /// How often the wait doubles while failures go on: up to 160 ms.
    const DOUBLINGS: u32 = 4;

    /// Decides how to go on after `error`. The first of a series is logged.
    pub fn failed(&mut self, error: &io::Error, shutdown: &Shutdown) -> OnFailure {
        if shutdown.drain.is_set() {
            return OnFailure::Stop;
        }
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // The client has gone already, or a signal arrived.
            Some(Errno::CONNABORTED | Errno::INTR) => return OnFailure::Retry,
            // Linux reports errors that are already pending on the new socket as accept's own;
            // accept(2) lists these and says to treat them like a retry.
            Some(
                Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH,
            ) => return OnFailure::Retry,
            // EMFILE, ENFILE: descriptors; ENOBUFS, ENOMEM: memory; EAGAIN: threads, for an engine
            // that needs one per connection. Anything unforeseen is met the same way: trying again
            // soon is the only answer that costs no connection.
            _ => {}
        }
        if self.failures == 0 {
            tracing::warn!(%error, "cannot accept connections for now; clients wait in the backlog");
        }
        let doublings = self.failures.min(Self::DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        OnFailure::Wait(Self::SHORTEST_WAIT * 2u32.pow(doublings))
    }

    /// A connection is being served: the series of failures, if there was one, is over.
    pub fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "accepting connections again");
            self.failures = 0;
        }
    }
}

/// [`Accepting`], and the limits, for an event loop: it must not sleep, so it is told when to come
/// back instead.
#[derive(Debug, Default)]
pub struct Door {
    accepting: Accepting,
    shut_until: Option<Instant>,
    /// Pauses made for the peers before the next connection.
    pauses: usize,
}

/// What an event loop does about the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Accept it; then ask again.
    Accept,
    /// Ask again after this time.
    Later(Duration),
    /// Ask again when a connection has closed.
    Full,
    /// The drain has begun: accept no more.
    Stop,
}

impl Door {
    /// Decides about the next connection while `open` of the worker's are open.
    pub fn next(&mut self, worker: &Worker, open: usize) -> Next {
        if worker.shutdown.drain.is_set() {
            return Next::Stop;
        }
        if open >= worker.max_connections {
            return Next::Full;
        }
        if let Some(until) = self.shut_until {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Next::Later(left);
            }
            self.shut_until = None;
        }
        if !worker.is_ahead() {
            self.pauses = 0;
        } else if self.pauses < PAUSES {
            self.pauses += 1;
            self.shut_for(PAUSE);
            return Next::Later(PAUSE);
        }
        Next::Accept
    }

    /// Accepting failed with `error`: the next connection may have to wait.
    pub fn failed(&mut self, error: &io::Error, shutdown: &Shutdown) {
        match self.accepting.failed(error, shutdown) {
            OnFailure::Stop | OnFailure::Retry => {}
            OnFailure::Wait(time) => self.shut_for(time),
        }
    }

    /// A connection is being served; for the next one the peers have their chance again.
    pub fn succeeded(&mut self) {
        self.accepting.succeeded();
        self.pauses = 0;
    }

    fn shut_for(&mut self, time: Duration) {
        self.shut_until = Some(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;

    fn failed_with(errno: Errno) -> (Accepting, OnFailure) {
        let mut accepting = Accepting::default();
        let next = accepting.failed(&errno.into(), &Shutdown::new().unwrap());
        (accepting, next)
    }

    #[test]
    fn a_connection_that_is_already_gone_costs_no_time() {
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO] {
            assert_eq!(failed_with(errno).1, OnFailure::Retry);
        }
    }

    #[test]
    fn exhausted_resources_are_given_a_little_more_time_with_every_failure() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::AGAIN,
        ] {
            let (mut accepting, first) = failed_with(errno);
            assert_eq!(first, OnFailure::Wait(Accepting::SHORTEST_WAIT));
            let mut last = first;
            for _ in 0..100 {
                last = accepting.failed(&errno.into(), &Shutdown::new().unwrap());
            }
            assert_eq!(last, OnFailure::Wait(Duration::from_millis(160)));
            accepting.succeeded();
            assert_eq!(accepting.failures, 0);
        }
    }

    fn worker(max_connections: usize, active: &[usize]) -> Worker {
        let crew: Vec<_> = active
            .iter()
            .map(|_| Counters::new(max_connections))
            .collect();
        for (counters, &active) in crew.iter().zip(active) {
            (0..active).for_each(|_| counters.opened());
        }
        Worker {
            index: 0,
            max_connections,
            idle_timeout: None,
            ring: RingOptions {
                features: Features::NONE,
                entries: 1,
            },
            inherited: false,
            unsettled: None,
            shutdown: Shutdown::new().unwrap(),
            crew: crew.into(),
            ready: Box::new(|| ()),
        }
    }

    #[test]
    fn counters_tell_how_connections_ended_and_how_often_the_limit_was_reached() {
        let counters = Counters::new(2);
        counters.opened();
        assert_eq!(counters.count().accept_waits, 0);
        counters.opened();
        assert_eq!(counters.count().at_limit, 1);
        counters.closed(Ended::TimedOut);
        assert_eq!(counters.count().at_limit, 0);
        counters.opened();
        counters.closed(Ended::Failed);
        counters.closed(Ended::Cut);
        counters.traffic.received.add(5);
        counters.traffic.received.add_shared(2);
        counters.traffic.sent.add(3);
        let expected = Count {
            accepted: 3,
            limit: 2,
            accept_waits: 2,
            timed_out: 1,
            failed: 1,
            cut: 1,
            received_bytes: 7,
            sent_bytes: 3,
            ..Count::default()
        };
        assert_eq!(counters.count(), expected);
        let both: Count = [expected, expected].into_iter().sum();
        assert_eq!((both.accepted, both.limit, both.sent_bytes), (6, 4, 6));
    }

    #[test]
    fn an_event_loop_accepts_up_to_the_limit_and_until_the_drain() {
        let worker = worker(10, &[9, 9]);
        let mut door = Door::default();
        assert_eq!(door.next(&worker, 9), Next::Accept);
        assert_eq!(door.next(&worker, 10), Next::Full);
        worker.shutdown.drain.set();
        assert_eq!(door.next(&worker, 9), Next::Stop);
    }

    #[test]
    fn an_event_loop_that_is_ahead_leaves_connections_to_its_peers_for_a_while() {
        let worker = worker(100, &[20, 5]);
        let mut door = Door::default();
        for _ in 0..PAUSES {
            assert_eq!(door.next(&worker, 20), Next::Later(PAUSE));
            door.shut_until = None;
        }
        // However often it asks: it does when it waits for a connection and when that has come.
        assert_eq!(door.next(&worker, 20), Next::Accept);
        assert_eq!(door.next(&worker, 20), Next::Accept);
        door.succeeded();
        assert_eq!(door.next(&worker, 20), Next::Later(PAUSE));
        assert!(matches!(door.next(&worker, 20), Next::Later(left) if left <= PAUSE));
    }

    #[test]
    fn a_worker_that_is_ahead_lets_others_run_and_then_sleeps() {
        let worker = worker(100, &[20, 5]);
        let pauses: Vec<_> = worker.pauses_while_ahead().collect();
        assert_eq!(pauses[..YIELDS], [Duration::ZERO; YIELDS]);
        assert_eq!(pauses[YIELDS..], [PAUSE; PAUSES]);
    }

    #[test]
    fn a_worker_pauses_no_more_once_its_connections_are_over() {
        let worker = worker(100, &[20, 5]);
        let mut pauses = worker.pauses_while_ahead();
        assert_eq!(pauses.next(), Some(Duration::ZERO));
        (0..10).for_each(|_| worker.counters().closed(Ended::Closed));
        assert_eq!(pauses.next(), None);
    }

    #[test]
    fn an_event_loop_waits_after_a_failure() {
        let worker = worker(100, &[0]);
        let mut door = Door::default();
        door.failed(&Errno::MFILE.into(), &worker.shutdown);
        assert!(matches!(door.next(&worker, 0), Next::Later(_)));
        door.shut_until = None;
        door.succeeded();
        assert_eq!(door.next(&worker, 0), Next::Accept);
    }

    #[test]
    fn any_failure_during_the_drain_ends_accepting() {
        let shutdown = Shutdown::new().unwrap();
        shutdown.drain.set();
        let next = Accepting::default().failed(&Errno::INVAL.into(), &shutdown);
        assert_eq!(next, OnFailure::Stop);
    }
}
