//! The comparison: contenders take turns at the same work, and what can be said is said.
//!
//! One server at a time runs, on processors of its own, restarted for every round: a process keeps
//! the layout of memory that it happened to get, which alone is worth some per cent. The rounds
//! alternate in direction (A B C, C B A), so that a drift of the machine favours nobody; the last
//! contender is the baseline once more, to show what differences appear between equals.
//!
//! Every piece of work is done over each path that was asked for; see [`Path`] for what they are,
//! and [`Metric`](crate::report::Metric) for whose work is judged.

mod cell;
pub mod contender;
mod counting;
mod doubts;
pub(crate) mod evaluate;
pub mod invocations;
pub mod preset;
mod promise;
mod route;
mod turn;
mod work;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use ringlab::features::Features;
use ringlab::probe::Report as Probe;

use crate::load::Arrivals;
use crate::meter::control_group::Hierarchy;
use crate::meter::idle::{IdleClock, Source};
use crate::processors::Processors;
use crate::report::environment::Environment;
use crate::report::{self, Cell, Path, Promise, Report, Transport};
use cell::Bench;
use contender::Contender;
use preset::{CellPlan, Preset};
use route::Route;

/// What to compare.
#[derive(Debug)]
pub struct Comparison {
    /// The work, unless `work` has any.
    pub preset: Preset,
    /// Pieces of work instead of the preset's.
    pub work: Vec<CellPlan>,
    /// Who does it; the preset's if empty.
    pub contenders: Vec<Contender>,
    /// Whom to divide by; the preset's if `None`.
    pub baseline: Option<Contender>,
    /// What lies between server and client.
    pub paths: Vec<Path>,
    /// A promise of which to find the highest rate that keeps it, instead of measuring at one rate.
    pub promise: Option<Promise>,
    /// When the requests of open loops are due.
    pub arrivals: Arrivals,
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

/// Where everything happens.
pub(crate) struct Field<'a> {
    comparison: &'a Comparison,
    /// `None` if the two sides share a processor, and so cannot be told apart.
    clock: Option<&'a Mutex<IdleClock>>,
    /// `None` if memory is charged for nowhere, or this process may not see to it.
    hierarchy: Option<&'a Hierarchy>,
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
    for plan in &comparison.work {
        if comparison.promise.is_some() && !plan.can_promise() {
            bail!(
                "a promise is kept at some rate: --slo goes with work that is request-reply and \
                 has no rate, unlike {}",
                plan.name()
            );
        }
    }
    let Comparison {
        server_processors,
        client_processors,
        ..
    } = comparison;
    let mut environment = Environment::new(probe, server_processors, client_processors);
    let (routes, warnings) = route::routes(&comparison.paths, server_processors, client_processors);
    environment.warnings.extend(warnings);
    let clock = clock(server_processors, client_processors, &mut environment);
    let hierarchy = Hierarchy::find();
    let field = Field {
        comparison,
        clock: clock.as_ref(),
        hierarchy: hierarchy.as_ref(),
    };
    let plans = plans(comparison, &routes, &field);
    let rounds = plans
        .iter()
        .map(|(plan, _)| plan.rounds * (contenders.len() + 1))
        .sum();
    if plans
        .iter()
        .any(|(plan, _)| plan.work.transport == Transport::Unix)
    {
        sockets_have_room()?;
    }
    progress.begins(&environment, rounds);

    let workers = server_processors.count();
    let mut report = Report {
        version: report::VERSION,
        partial: false,
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        seconds: 0.0,
        command: comparison.command.clone(),
        preset: name_of(comparison),
        baseline: contenders[0].name.clone(),
        environment,
        contenders: contenders
            .iter()
            .map(|contender| report::Contender {
                name: contender.name.clone(),
                command: contender.command_line(workers),
                features: contender
                    .features()
                    .and_then(|choice| choice.resolve(available).ok())
                    .map(|features| features.to_string()),
            })
            .collect(),
        cells: Vec::new(),
    };
    let mut bench = Bench {
        field,
        contenders: &contenders,
        progress,
        stop,
    };
    for (plan, route) in plans {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut cell = bench.measure(plan, route);
        cell.steps = comparison.preset.steps(available);
        let clients = client_processors.count();
        evaluate::evaluate(&mut cell, workers, clients);
        bench.progress.cell(&cell);
        report.cells.push(cell);
    }
    report.partial = stop.load(Ordering::Relaxed);
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn name_of(comparison: &Comparison) -> String {
    use clap::ValueEnum;
    if !comparison.work.is_empty() || comparison.promise.is_some() {
        return "work".to_owned();
    }
    comparison
        .preset
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Makes sure that a Unix socket can be where temporary files are.
fn sockets_have_room() -> Result<()> {
    let socket = turn::socket_directory().join(contender::SOCKET);
    let address = socket2::SockAddr::unix(&socket).with_context(|| {
        format!(
            "the path of a Unix socket, {}, would be too long: set TMPDIR to a shorter one",
            socket.display()
        )
    });
    let directory = tempfile::tempdir().context("cannot create a directory for sockets");
    address.and(directory).map(drop)
}

/// A clock of both sides' processors, if there is a way to tell what each side does.
fn clock(
    server: &Processors,
    client: &Processors,
    environment: &mut Environment,
) -> Option<Mutex<IdleClock>> {
    if server.overlap(client) {
        return None;
    }
    let clock = IdleClock::new(&server.union(client));
    environment.idle_clock = Some(clock.source().to_string());
    if clock.source() == Source::Stat {
        environment.warnings.push(
            "idle times are known in steps of 10 ms only (/proc/timer_list takes root): what the \
             sides do is known to some per cent of a round of 0.3 s; make rounds longer \
             (--duration 2s)"
                .to_owned(),
        );
    }
    Some(Mutex::new(clock))
}

/// Each piece of work over each path, and the way there.
fn plans<'r>(
    comparison: &Comparison,
    routes: &'r [Route],
    field: &Field<'_>,
) -> Vec<(CellPlan, &'r Route)> {
    let cells = match &comparison.work[..] {
        [] if comparison.promise.is_some() => vec![CellPlan::request_reply(Transport::Tcp, 64)],
        [] => comparison.preset.cells(),
        work => work.to_vec(),
    };
    let mut plans: Vec<(CellPlan, &Route)> = Vec::new();
    for cell in cells {
        for route in cell.routes(routes) {
            let mut plan = cell.clone();
            if let Some(promise) = comparison.promise {
                plan.promise(promise);
            }
            plan.adjust(comparison.rounds, comparison.duration);
            plan.work.arrivals = comparison.arrivals;
            plan.take(route.path, field.clock.is_some(), field.hierarchy.is_some());
            plans.push((plan, route));
        }
    }
    plans
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
