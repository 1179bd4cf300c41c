//! The comparison: contenders take turns at the same work, and what can be said is said.
//!
//! One server at a time runs, on processors of its own, restarted for every round: a process keeps
//! the layout of memory that it happened to get, which alone is worth some per cent. The rounds
//! alternate in direction (A B C, C B A), so that a drift of the machine favours nobody; the last
//! contender is the baseline once more, to show what differences appear between equals.

pub mod contender;
pub(crate) mod evaluate;
pub mod preset;
mod process;
mod system_calls;

use std::iter;
use std::mem;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use ringlab::features::Features;
use ringlab::probe::Report as Probe;

use crate::load::summary::Latency;
use crate::load::{self, Observer, Plan, Workload, summary};
use crate::processors::Processors;
use crate::report::environment::Environment;
use crate::report::{self, Cell, Count, Counted, Entry, Report, Round, Status};
use contender::Contender;
use preset::{CellPlan, Preset};
use process::{Cpu, Memory, Server};
use system_calls::SystemCalls;

/// How long a reply may take before the contender has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long system calls and context switches are counted.
const COUNTING: Duration = Duration::from_millis(200);

/// How long the baseline runs to find out what it can do.
const CALIBRATION: Duration = Duration::from_millis(500);

/// What to compare.
#[derive(Debug)]
pub struct Comparison {
    /// The work.
    pub preset: Preset,
    /// Who does it; the preset's if empty.
    pub contenders: Vec<Contender>,
    /// Whom to divide by; the preset's if `None`.
    pub baseline: Option<Contender>,
    /// Rounds of every piece of work; the preset's if `None`.
    pub rounds: Option<usize>,
    /// How long to measure in every round; the preset's if `None`.
    pub duration: Option<Duration>,
    /// Where servers run.
    pub server_processors: Processors,
    /// Where the client runs.
    pub client_processors: Processors,
    /// The command line, to be told in the report.
    pub command: Vec<String>,
}

/// Who wants to know how a comparison goes.
pub trait Progress {
    /// It begins: here is where, before anything is measured.
    fn begins(&mut self, _environment: &Environment, _rounds: usize) {}

    /// A contender's round begins.
    fn round(&mut self, _cell: &str, _contender: &str) {}

    /// A piece of work is done, or interrupted.
    fn cell(&mut self, _cell: &Cell) {}
}

/// Compares; `stop` ends it early, with what has been measured by then.
///
/// # Errors
///
/// When nothing can be measured at all. What goes wrong with a contender is in the report.
pub fn run(
    comparison: &Comparison,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Report> {
    let began = Instant::now();
    let probe = Probe::gather();
    let available = probe.available();
    let contenders = line_up(comparison, available)?;
    let environment = Environment::new(
        probe,
        &comparison.server_processors,
        &comparison.client_processors,
    );
    let directory = tempfile::tempdir().context("cannot create a directory for sockets")?;
    let mut plans = comparison.preset.cells();
    for plan in &mut plans {
        plan.adjust(comparison.rounds, comparison.duration);
    }
    let rounds = plans
        .iter()
        .map(|plan| plan.rounds * (contenders.len() + 1))
        .sum();
    progress.begins(&environment, rounds);

    let workers = comparison.server_processors.count();
    let mut report = Report {
        version: report::VERSION,
        partial: false,
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        seconds: 0.0,
        command: comparison.command.clone(),
        preset: name_of(comparison.preset),
        baseline: contenders[0].name.clone(),
        environment,
        contenders: contenders
            .iter()
            .map(|contender| report::Contender {
                name: contender.name.clone(),
                command: contender.command_line(plans[0].work.transport, workers),
                features: contender
                    .features()
                    .and_then(|choice| choice.resolve(available).ok())
                    .map(|features| features.to_string()),
            })
            .collect(),
        cells: Vec::new(),
    };
    let mut bench = Bench {
        comparison,
        contenders: &contenders,
        directory: directory.path(),
        progress,
        stop,
    };
    for plan in plans {
        if bench.is_stopped() {
            break;
        }
        let mut cell = bench.measure(plan);
        cell.steps = comparison.preset.steps(available);
        let clients = comparison.client_processors.count();
        evaluate::evaluate(&mut cell, workers, clients);
        bench.progress.cell(&cell);
        report.cells.push(cell);
    }
    report.partial = bench.is_stopped();
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn name_of(preset: Preset) -> String {
    use clap::ValueEnum;
    preset
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// All contenders, the baseline first, each once.
fn line_up(comparison: &Comparison, available: Features) -> Result<Vec<Contender>> {
    let mut contenders = comparison.contenders.clone();
    if contenders.is_empty() {
        contenders = comparison.preset.contenders(available);
    }
    let baseline = match &comparison.baseline {
        Some(baseline) => baseline.clone(),
        None => comparison
            .preset
            .baseline()
            .parse()
            .map_err(|error: String| anyhow!(error))?,
    };
    match contenders
        .iter()
        .position(|contender| contender.name == baseline.name)
    {
        Some(position) => contenders[..=position].rotate_right(1),
        None => contenders.insert(0, baseline.clone()),
    }
    for (index, contender) in contenders.iter().enumerate() {
        if contenders[..index]
            .iter()
            .any(|other| other.name == contender.name)
        {
            bail!(
                "two contenders are called {}; give them different names",
                contender.name
            );
        }
        if contender.name == baseline.name && *contender != baseline {
            bail!(
                "the baseline and another contender are called {}; give them different names",
                baseline.name
            );
        }
    }
    Ok(contenders)
}

/// What all measuring needs.
struct Bench<'a> {
    comparison: &'a Comparison,
    contenders: &'a [Contender],
    directory: &'a Path,
    progress: &'a mut dyn Progress,
    stop: &'a AtomicBool,
}

impl Bench<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Measures one piece of work with all contenders.
    fn measure(&mut self, mut plan: CellPlan) -> Cell {
        let name = plan.name();
        let baseline = &self.contenders[0];
        let mut entries: Vec<_> = self
            .contenders
            .iter()
            .map(|contender| (contender, evaluate::entry(&contender.name, false)))
            .chain(iter::once((
                baseline,
                evaluate::entry(&baseline.name, true),
            )))
            .collect();
        if let Err(error) = self.calibrate(&mut plan)
            && !self.is_stopped()
        {
            for (_, entry) in &mut entries {
                entry.status = Status::Skipped(format!("the baseline failed: {error:#}"));
            }
            entries[0].1.status = Status::Failed(format!("{error:#}"));
        }
        for (contender, entry) in &mut entries {
            if let Some(reason) = contender.excuse(&plan.work) {
                entry.status = Status::Skipped(reason.to_owned());
            }
        }
        for round in 0..plan.rounds {
            let mut order: Vec<_> = entries.iter_mut().collect();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for (contender, entry) in order {
                if self.is_stopped() {
                    break;
                }
                self.progress.round(&name, &entry.label());
                self.take_turn(contender, entry, &plan, round);
            }
        }
        for (contender, entry) in &mut entries {
            if !self.is_stopped() && entry.status == Status::Measured && !entry.null {
                entry.counted = self.count(contender, &plan);
            }
        }
        Cell {
            name,
            work: plan.work,
            judged_by: plan.judged_by,
            rounds: plan.rounds,
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
            steps: Vec::new(),
        }
    }

    /// One contender's part of one round.
    fn take_turn(&self, contender: &Contender, entry: &mut Entry, plan: &CellPlan, round: usize) {
        if entry.status != Status::Measured {
            return;
        }
        match self.round(contender, plan, round) {
            Ok(Some(measured)) => entry.rounds.push(measured),
            // Interrupted, which may show as an error of anything.
            Ok(None) => {}
            Err(_) if self.is_stopped() => {}
            Err(error) => entry.status = Status::Failed(format!("{error:#}")),
        }
    }

    /// Starts the server, puts it under load, ends it. `None` if that was interrupted.
    fn round(&self, contender: &Contender, plan: &CellPlan, round: usize) -> Result<Option<Round>> {
        let mut server = self.start(contender, plan)?;
        let before = server.memory()?;
        let load = self.load(&server, plan);
        let watch = Watch::new(&server);
        let outcome = load::run(&load, &watch, self.stop);
        let watched = watch.end();
        if self.is_stopped() {
            return Ok(None);
        }
        let outcome = check(outcome, &mut server)?;
        let (start, end) = watched?;
        server.require_one_process()?;
        let idle = plan.work.workload == Workload::Idle;
        let memory = end.memory.own.saturating_sub(before.own);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Ok(Some(Round {
            round,
            seconds: outcome.elapsed.as_secs_f64(),
            requests: outcome.counts.completed,
            latency_us: Latency::of(&outcome.latency),
            server_cpu_us: micros(end.cpu.total.saturating_sub(start.cpu.total)),
            server_user_ticks_us: micros(end.cpu.user.saturating_sub(start.cpu.user)),
            server_system_ticks_us: micros(end.cpu.system.saturating_sub(start.cpu.system)),
            client_cpu_us: micros(outcome.client_cpu),
            peak_memory: server.memory().unwrap_or(end.memory).peak,
            memory_per_connection: idle.then(|| memory as f64 / plan.work.connections as f64),
        }))
    }

    fn start(&self, contender: &Contender, plan: &CellPlan) -> Result<Server> {
        let Comparison {
            server_processors,
            client_processors,
            ..
        } = self.comparison;
        let transport = plan.work.transport;
        let server = Server::start(contender, transport, server_processors, self.directory);
        client_processors
            .pin()
            .with_context(|| format!("cannot run on processors {client_processors}"))?;
        server
    }

    fn load(&self, server: &Server, plan: &CellPlan) -> Plan {
        let work = &plan.work;
        let processors = &self.comparison.client_processors;
        Plan {
            target: server.endpoint.clone(),
            workload: work.workload,
            connections: work.connections,
            sizes: work.sizes.parse().expect("a preset's sizes"),
            pipeline: work.pipeline,
            rate: work.rate,
            warmup: Duration::from_secs_f64(work.warmup_seconds),
            duration: Duration::from_secs_f64(work.seconds),
            requests: None,
            timeout: TIMEOUT,
            threads: NonZeroUsize::new(processors.count()).unwrap_or(NonZeroUsize::MIN),
            processors: Some(processors.clone()),
            seed: 1,
        }
    }

    /// Finds the rate of an open loop: a part of what the baseline can do.
    fn calibrate(&self, plan: &mut CellPlan) -> Result<()> {
        let Some(part) = plan.rate_of_baseline else {
            return Ok(());
        };
        let mut server = self.start(&self.contenders[0], plan)?;
        let mut load = self.load(&server, plan);
        load.duration = CALIBRATION;
        let outcome = load::run(&load, &(), self.stop);
        let outcome = check(outcome, &mut server)?;
        // Rounded, for people.
        plan.work.rate = Some((outcome.throughput() * part / 100.0).round().max(1.0) * 100.0);
        Ok(())
    }

    /// Counts what costs time to count.
    fn count(&self, contender: &Contender, plan: &CellPlan) -> Option<Counted> {
        if plan.work.workload == Workload::Idle {
            return None;
        }
        let server = self.start(contender, plan).ok()?;
        let mut load = self.load(&server, plan);
        (load.warmup, load.duration) = (Duration::ZERO, COUNTING.min(load.duration));
        let counting = Counting::new(&server);
        let outcome = load::run(&load, &counting, self.stop).ok()?;
        let system_calls = counting.end();
        let switches = server.end().ok()?;
        let requests = outcome.counts.completed.max(1) as f64;
        let per_request = |count: u64| Count::PerRequest(count as f64 / requests);
        Some(Counted {
            context_switches: per_request(switches),
            system_calls: system_calls.map_or_else(Count::NotMeasured, per_request),
        })
    }
}

/// Whether a load went well; if not, what the server has to say.
fn check(outcome: Result<load::Outcome>, server: &mut Server) -> Result<load::Outcome> {
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

/// What a server has used when measuring begins and ends.
struct Watch<'a> {
    server: &'a Server,
    marks: Mutex<Vec<Result<Mark>>>,
}

struct Mark {
    cpu: Cpu,
    memory: Memory,
}

impl<'a> Watch<'a> {
    fn new(server: &'a Server) -> Self {
        Self {
            server,
            marks: Mutex::default(),
        }
    }

    fn mark(&self) {
        let mark = || {
            Ok(Mark {
                cpu: self.server.cpu()?,
                memory: self.server.memory()?,
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

/// Counts a server's system calls while a load is measured.
struct Counting<'a> {
    server: &'a Server,
    state: Mutex<CountingState>,
}

/// How far counting has come.
#[derive(Default)]
enum CountingState {
    #[default]
    NotYet,
    Running(Result<SystemCalls, String>),
    Done(Result<u64, String>),
}

impl<'a> Counting<'a> {
    fn new(server: &'a Server) -> Self {
        Self {
            server,
            state: Mutex::default(),
        }
    }

    fn end(self) -> Result<u64, String> {
        match self.state.into_inner() {
            Ok(CountingState::Done(count)) => count,
            _ => Err("nothing was measured".to_owned()),
        }
    }
}

impl Observer for Counting<'_> {
    fn measuring(&self) {
        if let Ok(mut state) = self.state.lock() {
            *state = CountingState::Running(SystemCalls::of(self.server.pid()));
        }
    }

    fn measured(&self) {
        if let Ok(mut state) = self.state.lock()
            && let CountingState::Running(calls) = mem::take(&mut *state)
        {
            *state = CountingState::Done(calls.and_then(|mut calls| {
                calls
                    .count()
                    .map_err(|error| format!("counting failed: {error}"))
            }));
        }
    }
}
