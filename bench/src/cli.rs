//! The command line: parsed here, then lifted into what the commands themselves understand.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringlab::endpoint::Endpoint;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::compare::contender::Contender;
use crate::compare::preset::Preset;
use crate::compare::{self, Comparison, Progress};
use crate::load::interval_log::{self, Merged};
use crate::load::summary::{Latency, Summary, microseconds, thousands};
use crate::load::{self, Interval, Observer, Plan, Workload};
use crate::peers::Peer;
use crate::processors::Processors;
use crate::report::environment::Environment;
use crate::report::{self, Cell, Report, against, html, text};
use crate::tape::Mix;

/// How long a load goes on before it is measured, unless somebody wants it otherwise.
const WARM_UP: Duration = Duration::from_secs(1);

/// Load for servers of ringlab's protocol, and their comparison
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send load to a server, verify every byte of its replies, and tell how it did
    Load(Load),
    /// Let servers take turns at the same work, and tell which is faster, with error bars
    Compare(Compare),
    /// Add up the latencies in interval logs, such as several machines have written
    Merge(Merge),
    /// Show the JSON schema of the reports that `compare --json` writes
    Schema,
    /// Serve with one of ringlab's engines: the same as `ringlab serve`
    #[command(disable_help_flag = true)]
    Serve {
        /// See `ringlab serve --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Serve on another runtime, to compare with
    Peer {
        /// The runtime
        peer: Peer,

        /// Where to listen: `ADDRESS:PORT` (port 0 picks one), `[IPV6]:PORT`, or `unix:PATH`
        #[arg(long, value_name = "ENDPOINT", default_value = "127.0.0.1:9090")]
        listen: Endpoint,

        /// Threads, each with a runtime of its own
        #[arg(long, value_name = "N", default_value_t = 1,
            value_parser = value_parser!(u16).range(1..=1024))]
        workers: u16,
    },
}

#[derive(Debug, Args)]
struct Load {
    /// The server: `ADDRESS:PORT`, `[IPV6]:PORT`, or `unix:PATH`
    #[arg(long, value_name = "ENDPOINT")]
    target: Endpoint,

    /// What each connection does
    #[arg(long, value_enum, default_value_t = Workload::RequestReply)]
    workload: Workload,

    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Bytes of a message, or sizes with weights: `32:90,4096:10`
    #[arg(long, value_name = "BYTES", default_value = "32")]
    size: Mix,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// How long to go on before that [default: 1s, or nothing with --requests]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warmup: Option<Duration>,

    /// End after so many requests, those before the measurement included, if that comes first
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// Requests that each connection may have in flight
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = value_parser!(u32).range(1..=65_536))]
    pipeline: u32,

    /// Requests per second over all connections, due at fixed times whatever the server does (open
    /// loop), with latencies counted from when they were due; the client's threads then spin
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// How long a connection may wait for its greeting, or for the next byte of a reply
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,

    /// Threads that send, each with its share of the connections [default: half the processors]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Where these run: `0,2-3` [default: anywhere]
    #[arg(long, value_name = "LIST")]
    processors: Option<Processors>,

    /// For the contents and order of messages
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Write the latencies of every second to a log in HdrHistogram's interval format
    #[arg(long, value_name = "FILE")]
    interval_log: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Compare {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Preset::Quick)]
    preset: Preset,

    /// A server to measure: an engine of ringlab's, `uring:FEATURES` as in `serve
    /// --uring-features`, `peer:monoio`, `peer:compio`, or `NAME=COMMAND` with `{port}` in it for
    /// any server of the protocol; repeatable [default: the preset's, usually the six engines]
    #[arg(long, value_name = "SPEC")]
    contender: Vec<Contender>,

    /// The contender that the others are divided by [default: epoll; for `ladder` uring]
    #[arg(long, value_name = "SPEC")]
    baseline: Option<Contender>,

    /// Rounds of every piece of work [default: the preset's]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=10_000))]
    rounds: Option<u16>,

    /// How long to measure in every round [default: the preset's]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,

    /// Where servers run, with a worker on each: `0,2-3` [default: the first processor]
    #[arg(long, value_name = "LIST")]
    server_processors: Option<Processors>,

    /// Where the client runs, with a thread on each [default: the next one, or two if there are]
    #[arg(long, value_name = "LIST")]
    client_processors: Option<Processors>,

    /// Write every round and the environment to a file; see `ringlab-bench schema`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page with plots, one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Compare with an earlier run's JSON
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Merge {
    /// Interval logs
    #[arg(value_name = "FILE", required = true)]
    logs: Vec<PathBuf>,

    /// Write the sum as a log of one interval
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// Parses a command line, the program's name first, and does what it says. Wrong usage exits the
/// process with code 2.
///
/// # Errors
///
/// Whatever kept the command from doing it.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    match Cli::parse_from(arguments).command {
        Command::Load(load) => load.run(),
        Command::Compare(compare) => compare.run(),
        Command::Merge(merge) => merge.run(),
        Command::Schema => {
            print(&report::schema())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve { arguments } => {
            let ringlab = ["ringlab", "serve"].map(OsString::from);
            ringlab::cli::run(ringlab.into_iter().chain(arguments))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Peer {
            peer,
            listen,
            workers,
        } => {
            peer.serve(&listen, workers.into())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Load {
    fn run(self) -> Result<ExitCode> {
        self.check();
        let Self {
            format,
            interval_log,
            ..
        } = &self;
        let plan = self.plan();
        if let Some(path) = interval_log {
            can_be_written(path)?;
        }
        let stop = until_interrupted()?;
        let base = SystemTime::now();
        let watch = Watch::new(&plan, interval_log.is_some());
        let outcome = load::run(&plan, &watch, &stop)?;
        let intervals = watch.end();
        let summary = Summary::of(&plan, &outcome);
        print(&match format {
            Format::Text => summary.to_string(),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&summary)?),
        })?;
        if let Some(path) = interval_log {
            interval_log::write(path, base + plan.warmup, &intervals)?;
        }
        if plan.requests.is_some() && outcome.counts.completed == 0 && !outcome.interrupted {
            bail!("the warm-up has used up all requests: leave out --warmup, or allow more");
        }
        Ok(match outcome.failures.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// Refuses options that have nothing to do with the workload.
    fn check(&self) {
        let request_reply = self.workload == Workload::RequestReply;
        let misplaced = [
            ("--rate", self.rate.is_some()),
            ("--pipeline", self.pipeline > 1),
        ];
        for (option, is_given) in misplaced {
            if is_given && !request_reply {
                wrong_usage(format!("{option} goes with --workload request-reply only"));
            }
        }
        if self.requests.is_some() && self.workload == Workload::Idle {
            wrong_usage("--requests does not go with --workload idle");
        }
    }

    fn plan(&self) -> Plan {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or(processors / 2, usize::from);
        Plan {
            target: self.target.clone(),
            workload: self.workload,
            connections: self.connections as usize,
            sizes: self.size.clone(),
            pipeline: self.pipeline as usize,
            rate: self.rate,
            warmup: self.warmup.unwrap_or(match self.requests {
                Some(_) => Duration::ZERO,
                None => WARM_UP,
            }),
            duration: self.duration,
            requests: self.requests,
            timeout: self.timeout,
            threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
            processors: self.processors.clone(),
            seed: self.seed,
        }
    }
}

impl Compare {
    fn run(self) -> Result<ExitCode> {
        let earlier = self.against.as_deref().map(read_report).transpose()?;
        for path in [&self.json, &self.html].into_iter().flatten() {
            can_be_written(path)?;
        }
        let (server_processors, client_processors) = self.processors()?;
        let comparison = Comparison {
            preset: self.preset,
            contenders: self.contender,
            baseline: self.baseline,
            rounds: self.rounds.map(usize::from),
            duration: self.duration,
            server_processors,
            client_processors,
            command: env::args().collect(),
        };
        let stop = until_interrupted()?;
        let mut show = Show::new();
        let report = compare::run(&comparison, &mut show, &stop)?;
        show.end()?;
        print(&text::closing(&report))?;
        if let Some(earlier) = &earlier {
            print(&against::text(&report, earlier))?;
        }
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, &html::render(&report))?;
        }
        Ok(match report.is_clean() && !report.partial {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// Where servers and the client run.
    fn processors(&self) -> Result<(Processors, Processors)> {
        let allowed = Processors::allowed().context("cannot tell the processors available")?;
        let (first, others) = allowed.split(1);
        let server = self.server_processors.clone().unwrap_or(first);
        let client = match &self.client_processors {
            Some(client) => client.clone(),
            None if others.count() == 0 => allowed.clone(),
            None => others.split(2).0,
        };
        for processors in [&server, &client] {
            // Or a typing error would come to light in the middle.
            processors
                .pin()
                .with_context(|| format!("cannot run on processors {processors}"))?;
        }
        allowed.pin()?;
        Ok((server, client))
    }
}

fn read_report(path: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    against::read(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Makes sure of it before minutes are spent on what could then not be written. What is there stays
/// until there is something better.
fn can_be_written(path: &Path) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Shows how a comparison goes, and each piece of work when it is done.
struct Show {
    progress: ProgressBar,
    /// What kept the tables from being shown.
    error: Option<anyhow::Error>,
}

impl Show {
    fn new() -> Self {
        let progress = ProgressBar::new(0);
        progress.set_draw_target(ProgressDrawTarget::stderr());
        progress.set_style(style("{bar:24} {pos} of {len}, {eta} left  {wide_msg}"));
        Self {
            progress,
            error: None,
        }
    }

    fn print(&mut self, text: &str) {
        if let Err(error) = self.progress.suspend(|| print(text)) {
            self.error.get_or_insert(error);
        }
    }

    fn end(self) -> Result<()> {
        self.progress.finish_and_clear();
        self.error.map_or(Ok(()), Err)
    }
}

impl Progress for Show {
    fn begins(&mut self, environment: &Environment, rounds: usize) {
        self.progress.set_length(rounds as u64);
        self.print(&text::environment(environment));
    }

    fn round(&mut self, cell: &str, contender: &str) {
        self.progress.set_message(format!("{cell}: {contender}"));
        self.progress.inc(1);
    }

    fn cell(&mut self, cell: &Cell) {
        self.print(&text::cell(cell));
    }
}

impl Merge {
    fn run(self) -> Result<ExitCode> {
        let merged = Merged::read(&self.logs)?;
        if let Some(path) = &self.output {
            let (base, interval) = merged.as_interval();
            interval_log::write(path, base, &[interval])?;
        }
        let latency = Latency::of(&merged.latency);
        let (files, count) = (self.logs.len(), merged.latency.len());
        print(&match self.format {
            Format::Text => {
                let Merged {
                    intervals, length, ..
                } = merged;
                let latency = latency.map_or("none".to_owned(), |latency| latency.to_string());
                format!(
                    "intervals  {intervals} in {files} logs, {:.2} s from first to last\n\
                     requests   {}\nlatency    {latency}\n",
                    length.as_secs_f64(),
                    thousands(count as f64),
                )
            }
            Format::Json => {
                let value = serde_json::json!({
                    "logs": files,
                    "intervals": merged.intervals,
                    "seconds": merged.length.as_secs_f64(),
                    "requests": count,
                    "latency_us": latency,
                });
                format!("{value:#}\n")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows how a load goes, and keeps what the interval log needs.
struct Watch {
    progress: ProgressBar,
    /// `None` if there is no log.
    kept: Option<Mutex<Vec<Interval>>>,
}

impl Watch {
    fn new(plan: &Plan, keep: bool) -> Self {
        let progress = ProgressBar::new(plan.duration.as_secs());
        progress.set_draw_target(ProgressDrawTarget::stderr());
        progress.set_style(style("{bar:30} {pos} of {len} s  {msg}"));
        progress.set_message("opening connections");
        if io::stderr().is_terminal() {
            progress.enable_steady_tick(Duration::from_millis(250));
        }
        Self {
            progress,
            kept: keep.then(Mutex::default),
        }
    }

    fn end(self) -> Vec<Interval> {
        self.progress.finish_and_clear();
        let kept = self.kept.and_then(|kept| kept.into_inner().ok());
        kept.unwrap_or_default()
    }
}

impl Observer for Watch {
    fn interval(&self, interval: &Interval) {
        let seconds = interval.length.as_secs_f64().max(1e-9);
        let rate = interval.counts.completed as f64 / seconds;
        let p99 = interval.latency.value_at_quantile(0.99) as f64 / 1000.0;
        let position = interval.start + interval.length;
        self.progress
            .set_position(position.as_secs_f64().round() as u64);
        self.progress.set_message(format!(
            "{} requests per second, p99 {}",
            thousands(rate),
            microseconds(p99)
        ));
        if let Some(kept) = &self.kept
            && let Ok(mut kept) = kept.lock()
        {
            kept.push(Interval {
                latency: interval.latency.clone(),
                ..*interval
            });
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A flag that SIGINT, SIGTERM or SIGHUP sets; the second one ends the process.
fn until_interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

/// Writes to standard output, where a reader may have seen enough.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the result"),
    }
}

/// Ends the process with code 2.
fn wrong_usage(message: impl std::fmt::Display) -> ! {
    Cli::command()
        .error(clap::error::ErrorKind::ArgumentConflict, message)
        .exit()
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = ringlab::cli::duration(text)?;
    match duration <= Duration::from_secs(7 * 24 * 3600) {
        true => Ok(duration),
        false => Err("a week is the longest".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(rate) if (0.01..=1e8).contains(&rate) => Ok(rate),
        _ => bail!("expected requests per second, from 0.01 to 100000000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
