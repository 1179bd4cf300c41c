//! One contender's part of one round: a server is started, put under load, looked at, ended.

use std::env;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use super::Field;
use super::contender::Contender;
use super::preset::CellPlan;
use super::route::Route;
use crate::host;
use crate::host::server::{Server, free_port};
use crate::load::summary::{self, Latency};
use crate::load::{self, Observer, Outcome, Plan, Workload};
use crate::meter::idle::Reading;
use crate::meter::processes::{Cpu, Memory};
use crate::processors::Processors;
use crate::report::{IdleLook, Latencies, Round, Transport};

/// How long a reply may take before the contender has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to get warm.
const WARM_UP_LIMIT: Duration = Duration::from_millis(500);

/// What a turn is about.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) field: &'a Field<'a>,
    pub(super) contender: &'a Contender,
    pub(super) route: &'a Route,
    pub(super) plan: &'a CellPlan,
    pub(super) stop: &'a AtomicBool,
}

impl Turn<'_> {
    /// Takes it. `None` if it was interrupted.
    ///
    /// `idle_look` is what the sides did without us.
    pub(super) fn take(&self, round: usize, idle_look: Option<IdleLook>) -> Result<Option<Round>> {
        let mut server = self.start()?;
        let processes = server.processes();
        let before = Memory::of(&processes)?;
        let watch = Watch {
            field: self.field,
            control_group: server.control_group.clone(),
            processes: &processes,
            marks: Mutex::default(),
        };
        let charged_before = watch.charged();
        let load = self.load(&server);
        let outcome = self.run(&load, &watch);
        let watched = watch.end();
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let outcome = check(outcome, &mut server)?;
        let (start, end) = watched?;
        if let Some(late) = server
            .processes()
            .iter()
            .find(|pid| !processes.contains(pid))
        {
            bail!(
                "it started process {late} while it was measured, of whose work nothing is known: \
                 have it start all that it needs before it serves"
            );
        }
        let idle = self.plan.work.workload == Workload::Idle;
        let per_connection = |before: u64, after: u64| {
            after.saturating_sub(before) as f64 / self.plan.work.connections as f64
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let cpu = end.cpu.since(&start.cpu);
        let sides = self.sides(&start, &end, &outcome, idle_look);
        let peak = Memory::of(&processes).map_or(end.memory.peak, |memory| memory.peak);
        Ok(Some(Round {
            round,
            seconds: outcome.elapsed.as_secs_f64(),
            requests: outcome.counts.completed,
            latency_us: Latency::of(&outcome.latency),
            latencies: self
                .plan
                .work
                .has_latencies()
                .then(|| Latencies::of(&outcome.latency))
                .flatten(),
            rate: load.rate,
            lateness_us: Latency::of(&outcome.lateness),
            spacing: outcome.spacing,
            kept_rate: None,
            server_side_us: sides.map(|[server, _]| micros(server)),
            client_side_us: sides.map(|[_, client]| micros(client)),
            server_process_us: micros(cpu.total),
            server_user_ticks_us: micros(cpu.user),
            server_system_ticks_us: micros(cpu.system),
            client_process_us: micros(outcome.client_cpu),
            peak_memory: peak,
            memory_per_connection: charged_before
                .zip(end.charged)
                .map(|(before, after)| per_connection(before, after)),
            own_memory_per_connection: idle.then(|| per_connection(before.own, end.memory.own)),
        }))
    }

    /// Starts the server.
    pub(super) fn start(&self) -> Result<Server> {
        let Self { field, route, .. } = self;
        let comparison = field.comparison;
        let transport = self.plan.work.transport;
        let port = match transport {
            Transport::Tcp => free_port(&route.server)?,
            Transport::Unix => 0,
        };
        let workers = comparison.server_processors.count();
        let directory = (transport == Transport::Unix).then(socket_directory);
        let address = route.server.address();
        let mut invocation = self.contender.invocation(workers, directory, address, port);
        if let Some(hierarchy) = field.hierarchy
            && self.plan.work.workload == Workload::Idle
        {
            invocation.control_group = Some(hierarchy.group());
        }
        let processors = &comparison.server_processors;
        let server = Server::start(&invocation, &route.server, &route.client, processors);
        let processors = &comparison.client_processors;
        processors
            .pin()
            .with_context(|| format!("cannot run on processors {processors}"))?;
        server
    }

    /// The load for it.
    pub(super) fn load(&self, server: &Server) -> Plan {
        let work = &self.plan.work;
        let processors = &self.field.comparison.client_processors;
        Plan {
            target: server.endpoint.clone(),
            workload: work.workload,
            connections: work.connections,
            sizes: work.sizes.parse().expect("a preset's sizes"),
            pipeline: work.pipeline,
            window: load::WINDOW,
            rate: work.rate,
            arrivals: work.arrivals,
            warmup: Duration::from_secs_f64(work.warmup_seconds),
            warmup_limit: WARM_UP_LIMIT,
            duration: Duration::from_secs_f64(work.seconds),
            requests: None,
            timeout: TIMEOUT,
            threads: NonZeroUsize::new(processors.count()).unwrap_or(NonZeroUsize::MIN),
            processors: Some(processors.clone()),
            seed: 1,
        }
    }

    /// Generates a load from the client's end of the route.
    pub(super) fn run(&self, load: &Plan, observer: &dyn Observer) -> Result<Outcome> {
        let _visit = self.route.client.enter()?;
        load::run(load, observer, self.stop)
    }

    /// What the server's side and the client's did, less what they do without us.
    fn sides(
        &self,
        start: &Mark,
        end: &Mark,
        outcome: &Outcome,
        look: Option<IdleLook>,
    ) -> Option<[Duration; 2]> {
        let comparison = self.field.comparison;
        let (before, after) = (start.reading.as_ref()?, end.reading.as_ref()?);
        let look = look?;
        let passed = after.since(before);
        let side = |processors: &Processors, others: f64, own: Duration| {
            let busy = after.busy_since(before, processors)?;
            let others = passed.mul_f64(others * processors.count() as f64);
            // What others used before, they cannot have used where this is all that is left.
            Some(busy.saturating_sub(others).max(own.min(busy)))
        };
        let server = &comparison.server_processors;
        let client = &comparison.client_processors;
        let used = end.cpu.since(&start.cpu).total;
        let client = side(client, look.client_busy, outcome.client_cpu)?;
        Some([
            side(server, look.server_busy, used)?,
            client.saturating_sub(outcome.waited),
        ])
    }
}

/// A directory that is not there yet, for the socket of one server.
pub(super) fn socket_directory() -> PathBuf {
    env::temp_dir().join(host::unique_name())
}

/// Whether a load went well; if not, what the server has to say.
pub(super) fn check(outcome: Result<Outcome>, server: &mut Server) -> Result<Outcome> {
    let outcome = outcome.map_err(|error| server.explain(&format!("{error:#}")))?;
    if let Some(failure) = summary::failures(&outcome).first() {
        let summary::FailureCount {
            kind,
            count,
            example,
        } = failure;
        return Err(server.explain(&format!("{count} × {kind}: {example}")));
    }
    Ok(outcome)
}

/// What has been used when measuring begins and ends.
struct Watch<'a> {
    field: &'a Field<'a>,
    control_group: Option<PathBuf>,
    processes: &'a [Pid],
    marks: Mutex<Vec<Result<Mark>>>,
}

struct Mark {
    reading: Option<Reading>,
    cpu: Cpu,
    memory: Memory,
    charged: Option<u64>,
}

impl Watch<'_> {
    /// What the kernel charges the server for, in bytes, if it is in a group of its own.
    fn charged(&self) -> Option<u64> {
        let hierarchy = self.field.hierarchy?;
        hierarchy.charged(self.control_group.as_deref()?).ok()
    }
    fn mark(&self) {
        let mark = || {
            let clock = self.field.clock.and_then(|clock| clock.lock().ok());
            Ok(Mark {
                reading: clock.map(|mut clock| clock.read()).transpose()?,
                cpu: Cpu::of(self.processes)?,
                memory: Memory::of(self.processes)?,
                charged: self.charged(),
            })
        };
        if let Ok(mut marks) = self.marks.lock() {
            marks.push(mark());
        }
    }

    fn end(self) -> Result<(Mark, Mark)> {
        let marks = self.marks.into_inner().unwrap_or_default();
        let mut marks = marks.into_iter();
        match (marks.next(), marks.next()) {
            (Some(start), Some(end)) => Ok((start?, end?)),
            _ => bail!("nothing was measured"),
        }
    }
}

impl Observer for Watch<'_> {
    fn measuring(&self) {
        self.mark();
    }

    fn measured(&self) {
        self.mark();
    }
}
