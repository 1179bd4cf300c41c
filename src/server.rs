//! A server from start to end: bind, start workers, wait for the signal, drain, report.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use socket2::Socket;

use crate::address::Address;
use crate::diagnosis;
use crate::endpoint::{Endpoint, Listening, UNIX_MODE};
use crate::engine::{Engine, uring};
use crate::features::{Choice, Feature, Features, RingOptions};
#[cfg(feature = "metrics")]
use crate::metrics::{self, Exporter};
use crate::probe::Status;
use crate::service_manager;
use crate::shutdown::Shutdown;
use crate::signals;
use crate::threads;
use crate::worker::{Count, Counters, Worker};

/// What to serve, and within which limits.
#[derive(Debug, Clone)]
pub struct Config {
    /// The model of I/O.
    pub engine: Engine,
    /// Where to listen. `None`: on the socket that a service manager has passed, else on
    /// [`Endpoint::DEFAULT`].
    pub listen: Option<Address>,
    /// The mode of a Unix socket's file, at most 0777.
    pub unix_mode: u32,
    /// How many workers; at least 1. Fewer are started if the engine or the limit on connections
    /// has no use for as many.
    pub workers: usize,
    /// How many connections at once; at least 1. `None`: what the descriptor limit allows, at most
    /// [`MOST_CONNECTIONS`].
    pub max_connections: Option<usize>,
    /// How long a connection may be idle; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long connections may go on after the first signal.
    pub drain_timeout: Duration,
    /// For the engine `uring`: what to use of what the kernel has.
    pub uring_features: Choice,
    /// For the engine `uring`: entries of the submission queue.
    pub uring_entries: u32,
    /// Where to serve metrics; port 0 lets the kernel pick one.
    #[cfg(feature = "metrics")]
    pub metrics: Option<Address>,
}

/// The most connections that are accepted unless asked for more.
pub const MOST_CONNECTIONS: usize = 65_536;

/// Descriptors that are not connections: the standard streams, the listener, signals.
const DESCRIPTORS_OF_PROCESS: usize = 24;

/// Descriptors of one worker: its listener, its ring, its epoll instances, its events.
const DESCRIPTORS_PER_WORKER: usize = 12;

/// Serves until SIGTERM or SIGINT and to the end of the drain that follows. A second signal exits
/// the process. SIGUSR1 has the counters logged, at any time.
///
/// `announce` receives one line, `listening on ENDPOINT`, as soon as clients can connect, and the
/// service manager hears of it; see [`service_manager`].
///
/// # Errors
///
/// When the server cannot start: the engine does not run here, the address cannot be had or the
/// socket that was passed not be used, a worker cannot be set up. When a worker failed in
/// mid-service; the others served on.
pub fn serve(config: &Config, announce: &mut dyn Write) -> Result<()> {
    try_to_serve(config, announce).map_err(with_remedy)
}

fn try_to_serve(config: &Config, announce: &mut dyn Write) -> Result<()> {
    // First, while the descriptors from 3 on can only be those that were passed.
    let passed = service_manager::passed_socket()?;
    // Before anything that takes time: SIGUSR1 would end a process that does not handle it.
    let to_handle = signals::to_handle(&[SIGUSR1, SIGTERM, SIGINT])?;
    let early = to_handle.iter().filter(|&&signal| signal == SIGUSR1);
    let signals = Signals::new(early).context("cannot handle signals")?;
    let engine = config.engine;
    let limit = raise_descriptor_limit();
    if let Err(unavailable) = engine.availability() {
        bail!(cannot_run(engine, &unavailable));
    }
    let unix = match &passed {
        Some(socket) => socket.local_addr()?.is_unix(),
        None => config.listen.as_ref().is_some_and(Address::is_unix),
    };
    let ring = ring_options(config, unix, unix || passed.is_some())?;
    let (workers, max_connections) = size(config, limit);

    let (events, inbox) = mpsc::channel();
    let listening = listen(config, passed)?;
    #[cfg(feature = "metrics")]
    let exporter = config.metrics.as_ref().map(Exporter::bind).transpose()?;
    // The shares add up to `max_connections`.
    let crew: Arc<[Counters]> = (0..workers)
        .map(|index| max_connections / workers + usize::from(index < max_connections % workers))
        .map(Counters::new)
        .collect();
    forward_signals(signals, to_handle, events.clone(), Arc::clone(&crew))
        .context("cannot handle signals")?;
    let mut server = Server {
        engine,
        shutdown: Shutdown::new().context("cannot create a pipe")?,
        crew,
        running: 0,
        failures: Vec::new(),
        inbox,
    };
    server.start_workers(&listening, config.idle_timeout, ring, &events)?;

    tracing::info!(
        %engine,
        endpoint = %listening.endpoint,
        workers,
        max_connections,
        "serving"
    );
    #[cfg(feature = "metrics")]
    if let Some(exporter) = exporter {
        tracing::info!(endpoint = %exporter.address, "metrics");
        exporter
            .start(engine, Arc::clone(&server.crew))
            .context("cannot serve metrics")?;
    }
    leave_room(&listening.socket)?;
    // Whoever started the server may have closed the pipe; that is no reason not to serve.
    let _ = writeln!(announce, "listening on {}", listening.endpoint);
    let _ = announce.flush();
    service_manager::ready(engine, &listening.endpoint);

    let signal = server.wait_for_signal();
    server.drain(signal, listening, config.drain_timeout);
    server.report()
}

/// Begins to listen, and tells what does not apply.
fn listen(config: &Config, passed: Option<Socket>) -> Result<Listening> {
    let unix = config.listen.as_ref().is_some_and(Address::is_unix);
    if config.unix_mode != UNIX_MODE && !unix {
        tracing::warn!("--unix-mode is for a Unix socket that --listen names");
    }
    let options = config.engine.socket_options();
    match (passed, &config.listen) {
        (Some(socket), None) => Listening::inherit(socket, options.nodelay)
            .context("cannot serve on the socket that was passed (LISTEN_FDS)"),
        // To ignore either would leave its clients without a server.
        (Some(_), Some(address)) => bail!(
            "--listen {address} was given, and a socket was passed (LISTEN_FDS), but a server \
             has one; leave out --listen or the socket unit"
        ),
        (None, Some(address)) => address.listen(options, config.unix_mode),
        (None, None) => Endpoint::DEFAULT.listen(options, config.unix_mode),
    }
}

/// Everything that the waiting server hears.
enum Event {
    /// A worker can serve.
    Ready,
    /// The worker with this index is no more.
    Stopped(usize, Result<()>),
    /// The process was sent this signal, which ends it.
    Signal(i32),
}

struct Server {
    engine: Engine,
    shutdown: Shutdown,
    crew: Arc<[Counters]>,
    /// Workers that have not stopped.
    running: usize,
    /// Why workers stopped that should not have.
    failures: Vec<anyhow::Error>,
    inbox: Receiver<Event>,
}

impl Server {
    /// Starts the workers and waits until each can serve.
    fn start_workers(
        &mut self,
        listening: &Listening,
        idle_timeout: Option<Duration>,
        ring: RingOptions,
        events: &Sender<Event>,
    ) -> Result<()> {
        let workers = self.crew.len();
        for index in 0..workers {
            let ready = events.clone();
            let worker = Worker {
                index,
                max_connections: self.crew[index].limit(),
                idle_timeout,
                ring,
                inherited: listening.inherited,
                unsettled: listening
                    .hands_nothing_down()
                    .then(|| self.engine.socket_options()),
                shutdown: self.shutdown.clone(),
                crew: Arc::clone(&self.crew),
                ready: Box::new(move || {
                    // Nobody listens any more when the server has given up starting.
                    let _ = ready.send(Event::Ready);
                }),
            };
            let listener = listening
                .socket
                .try_clone()
                .context("cannot share the listener")?;
            spawn_worker(self.engine, worker, listener, events.clone())?;
            self.running += 1;
        }
        let mut ready = 0;
        while ready < workers {
            match self.inbox.recv()? {
                Event::Ready => ready += 1,
                Event::Stopped(index, Err(error)) => {
                    return Err(error.context(format!("worker {index} cannot start")));
                }
                Event::Stopped(index, Ok(())) => bail!("worker {index} stopped while starting"),
                Event::Signal(_) => bail!("interrupted while starting"),
            }
        }
        Ok(())
    }

    /// Returns at the first signal, or when no worker is left.
    fn wait_for_signal(&mut self) -> Option<i32> {
        while self.running > 0 {
            match self.inbox.recv() {
                Ok(Event::Signal(signal)) => return Some(signal),
                Ok(Event::Stopped(index, result)) => self.stopped(index, result),
                Ok(Event::Ready) => {}
                Err(RecvError) => return None,
            }
        }
        None
    }

    /// Closes the listener, gives the open connections until the deadline, and closes the rest.
    fn drain(&mut self, signal: Option<i32>, listening: Listening, timeout: Duration) {
        self.shutdown.drain.set();
        // Pending accepts fail now. This comes second, so that whoever sees one fail finds the
        // reason.
        listening.close();
        let deadline = Instant::now().checked_add(timeout);
        let signal = signal.map_or("none", signal_name);
        let open = self.active();
        tracing::info!(open, ?timeout, signal, "draining");
        service_manager::stopping(open);

        while self.running > 0 {
            let event = match deadline.filter(|_| !self.shutdown.cut.is_set()) {
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.inbox.recv_timeout(left)
                }
                None => self.inbox.recv().map_err(RecvTimeoutError::from),
            };
            match event {
                Ok(Event::Signal(_) | Event::Ready) => {}
                Ok(Event::Stopped(index, result)) => self.stopped(index, result),
                Err(RecvTimeoutError::Timeout) => {
                    let cut = self.active();
                    self.shutdown.cut.set();
                    tracing::warn!(cut, "drain timeout passed, closing the connections left");
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn stopped(&mut self, index: usize, result: Result<()>) {
        self.running -= 1;
        self.crew[index].stop();
        if let Err(error) = result {
            tracing::error!(
                worker = index,
                error = format!("{error:#}"),
                "worker failed"
            );
            self.failures
                .push(error.context(format!("worker {index} failed")));
        }
    }

    fn active(&self) -> usize {
        self.crew.iter().map(Counters::active).sum()
    }

    fn report(self) -> Result<()> {
        log_counters(&self.crew, "worker done");
        self.failures.into_iter().next().map_or(Ok(()), Err)
    }
}

/// A line for each worker, and one for all. The fields of that one have names of their own, so
/// that whoever adds up the workers' does not count everything twice.
fn log_counters(crew: &[Counters], message: &str) {
    let counts: Vec<_> = crew.iter().map(Counters::count).collect();
    for (worker, count) in counts.iter().enumerate() {
        tracing::info!(
            worker,
            accepted = count.accepted,
            timed_out = count.timed_out,
            failed = count.failed,
            cut = count.cut,
            active = count.active,
            limit = count.limit,
            at_limit = count.at_limit,
            accept_waits = count.accept_waits,
            received_bytes = count.received_bytes,
            sent_bytes = count.sent_bytes,
            "{message}"
        );
    }
    let total: Count = counts.into_iter().sum();
    tracing::info!(
        total_accepted = total.accepted,
        total_timed_out = total.timed_out,
        total_failed = total.failed,
        total_cut = total.cut,
        total_active = total.active,
        total_limit = total.limit,
        total_at_limit = total.at_limit,
        total_accept_waits = total.accept_waits,
        total_received_bytes = total.received_bytes,
        total_sent_bytes = total.sent_bytes,
        "all workers"
    );
}

/// Runs one worker on a thread of its own, and tells how it stopped.
fn spawn_worker(
    engine: Engine,
    worker: Worker,
    listener: Socket,
    events: Sender<Event>,
) -> Result<()> {
    let index = worker.index;
    threads::named(format!("worker-{index}"))
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| engine.run(worker, listener)))
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
                .map_err(|error| match error.raw_os_error() {
                    Some(_) if engine.uses_io_uring() => {
                        anyhow!(cannot_run(engine, &diagnosis::explain(&error)))
                    }
                    _ => error.into(),
                });
            // Nobody listens any more when the server has given up starting.
            let _ = events.send(Event::Stopped(index, result));
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// Passes SIGTERM and SIGINT on from now on, where they are `to_handle`; the second one exits the
/// process. At each SIGUSR1 the counters are logged.
fn forward_signals(
    mut signals: Signals,
    to_handle: Vec<i32>,
    events: Sender<Event>,
    crew: Arc<[Counters]>,
) -> Result<()> {
    for signal in to_handle {
        signals.add_signal(signal)?;
    }
    threads::named("signals").spawn(move || {
        let mut ending = false;
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => log_counters(&crew, "worker"),
                // Not a word: that would have to wait for whoever reads the log.
                _ if ending => std::process::exit(1),
                _ => {
                    ending = true;
                    let _ = events.send(Event::Signal(signal));
                }
            }
        }
    })?;
    Ok(())
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        _ => "unexpected",
    }
}

fn cannot_run(engine: Engine, unavailable: &diagnosis::Unavailable) -> String {
    let others: Vec<_> = Engine::without_io_uring().map(Engine::name).collect();
    format!(
        "engine {engine} cannot run here: {unavailable}\n  engines that run here: {}",
        others.join(", ")
    )
}

/// Decides which features of io_uring the engine `uring` uses, for a `unix` socket or for TCP, and
/// tells. With `unsettled`, accepted sockets do not have their options from the listener.
fn ring_options(config: &Config, unix: bool, unsettled: bool) -> Result<RingOptions> {
    let entries = config.uring_entries;
    if config.engine != Engine::Uring {
        if config.uring_features != Choice::AUTO {
            tracing::warn!(engine = %config.engine, "--uring-features is for the engine uring");
        }
        let features = Features::NONE;
        return Ok(RingOptions { features, entries });
    }
    let choice = config.uring_features;
    let mut available = Features::NONE;
    for feature in Feature::ALL {
        match Status::of(feature) {
            Status::Available => available = available.with(feature),
            Status::SwitchedOff(cause) if choice.asks_for(feature) => {
                bail!("--uring-features asks for {feature}, which cannot be used here: {cause}");
            }
            Status::SwitchedOff(cause) if choice.welcomes(feature) => {
                tracing::warn!(%feature, cause, "going on without a feature of io_uring");
            }
            Status::SwitchedOff(_) | Status::Missing => {}
        }
    }
    let mut features = choice.resolve(available).map_err(anyhow::Error::msg)?;
    if unix && features.has(Feature::MultishotRecv) {
        // Some kernels miss the end of a Unix stream then, in a race that no trial can settle:
        // <https://github.com/axboe/liburing/issues/1549>, and Linux 7.2 still.
        features = features.without(Feature::MultishotRecv);
        if choice.asks_for(Feature::MultishotRecv) {
            tracing::warn!("multishot-recv is not for Unix sockets, whose end it can miss");
        }
    }
    if features.has(Feature::IncrementalBuffers) && !features.has(Feature::MultishotRecv) {
        // Of a receive that a thread of the kernel's has taken, the kernel counts the buffer as
        // used, whatever becomes of it (seen on 6.12 and 6.18): clients with urgent data can bring
        // about that others wait for one. A multishot receive is never left to a thread.
        features = features.without(Feature::IncrementalBuffers);
        if choice.asks_for(Feature::IncrementalBuffers) {
            tracing::warn!(
                "incremental-buffers are for multishot receives, of which there are none"
            );
        }
    }
    if unsettled && features.has(Feature::DirectDescriptors) {
        // Without a descriptor, there is no setting options.
        features = features.without(Feature::DirectDescriptors);
        if choice.asks_for(Feature::DirectDescriptors) {
            tracing::warn!("direct-descriptors are not for Unix sockets, nor for passed ones");
        }
    }
    uring::try_features(features).map_err(|error| match error.raw_os_error() {
        // There is memory for each, and not for all.
        Some(errno) if Errno::from_raw_os_error(errno) == Errno::NOMEM => {
            anyhow!(cannot_run(config.engine, &diagnosis::explain(&error)))
        }
        _ => anyhow::Error::new(error).context(format!(
            "features that work one by one do not work together: {features}; use fewer"
        )),
    })?;
    tracing::info!(%features, entries, "io_uring");
    Ok(RingOptions { features, entries })
}

/// What to do when descriptors are short.
const RAISE_DESCRIPTORS: &str = "raise their limit (ulimit -n, systemd: LimitNOFILE=)";

/// How many workers to start, and for how many connections altogether.
fn size(config: &Config, descriptor_limit: usize) -> (usize, usize) {
    let engine = config.engine;
    let mut workers = config.workers.min(engine.max_workers());
    // Workers are there for connections, so they get half of the descriptors at most.
    let affordable = (descriptor_limit / 2 / DESCRIPTORS_PER_WORKER).max(1);
    if workers > affordable {
        tracing::warn!(
            asked = workers,
            workers = affordable,
            "fewer workers than asked for, descriptors are short; {RAISE_DESCRIPTORS}"
        );
        workers = affordable;
    }

    let reserved = DESCRIPTORS_OF_PROCESS + DESCRIPTORS_PER_WORKER * workers;
    #[cfg(feature = "metrics")]
    let reserved = reserved + config.metrics.as_ref().map_or(0, |_| metrics::DESCRIPTORS);
    let affordable = descriptor_limit.saturating_sub(reserved).max(1);
    let bearable = engine.max_connections();
    let asked = config.max_connections;
    if let Some(asked) = asked.filter(|&asked| asked > affordable) {
        tracing::warn!(
            asked,
            affordable,
            "descriptors may run out before that many connections; {RAISE_DESCRIPTORS}"
        );
    }
    if let Some(asked) = asked.filter(|&asked| asked > bearable) {
        tracing::warn!(
            asked,
            max_connections = bearable,
            "fewer connections than asked for, engine {engine} cannot bear more; raise sysctl \
             vm.max_map_count or use another engine"
        );
    }
    let max_connections = asked
        .unwrap_or(affordable.min(MOST_CONNECTIONS))
        .min(bearable)
        .min(engine.most_at_once().saturating_mul(workers));
    // Every worker has room for at least one connection.
    (workers.min(max_connections), max_connections)
}

/// Makes sure that a connection could be accepted: a server that can accept nobody should not say
/// that it listens.
fn leave_room(any: &Socket) -> Result<()> {
    any.try_clone()
        .map(drop)
        .context("no file descriptor is left to accept a connection")
}

/// Adds what can be done about `error` where descriptors were short and nobody has said it yet.
fn with_remedy(error: anyhow::Error) -> anyhow::Error {
    let short = error.chain().any(|cause| {
        let errno = cause.downcast_ref().and_then(Errno::from_io_error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE))
    });
    if short {
        anyhow!("{error:#}\n  remedy: {RAISE_DESCRIPTORS}, or use fewer --workers")
    } else {
        error
    }
}

/// Raises the soft limit on descriptors to the hard one and returns what is in force.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the descriptor limit");
        }
    }
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
}
