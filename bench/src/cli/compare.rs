//! `ringlab-bench compare`: servers take turns, and what follows.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget};
use ringlab::threads;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::arguments::duration;
use super::signals::until_interrupted;
use super::terminal::{print, style};
use crate::compare::contender::Contender;
use crate::compare::preset::{CellPlan, Preset};
use crate::compare::{self, Comparison, Progress, invocations};
use crate::load::Arrivals;
use crate::output::{self, Output};
use crate::processors::Processors;
use crate::report::environment::Environment;
use crate::report::{self, Cell, Promise, Report, against, html, text};

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Preset::Quick)]
    preset: Preset,

    /// A piece of work instead of a preset's:
    /// `request-reply,connections=256,size=1024,transport=unix,pipeline=4,rate=25%` or the like,
    /// all but the first optional, with a rate also as requests per second; repeatable
    #[arg(long, value_name = "SPEC")]
    work: Vec<CellPlan>,

    /// Find the highest rate that keeps this, such as p99=1ms, instead of measuring at one rate;
    /// with `--work` of what, otherwise of request-reply on 64 connections
    #[arg(long, value_name = "pN=TIME")]
    slo: Option<Promise>,

    /// What lies between server and client; where the network namespaces that `hosts` takes cannot
    /// be had, it is loopback
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "hosts,loopback"
    )]
    path: Vec<report::Path>,

    /// When the requests of open loops are due
    #[arg(long, value_enum, default_value_t)]
    arrivals: Arrivals,

    /// A server to measure: an engine of ringlab's, `uring:FEATURES` as in `serve
    /// --uring-features`, `peer:monoio`, `peer:compio`, or `NAME=COMMAND` for any server of the
    /// protocol, with `{port}` in it, and `{address}` unless it listens on all; repeatable
    /// [default: the preset's, usually the six engines]
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

    /// Run the whole comparison so often, each time in a process of its own, and have what differs
    /// between them in the intervals: for whatever is published
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1000))]
    invocations: u16,

    /// This process belongs to another, and ends with it
    #[arg(long, hide = true)]
    one_of_several: bool,

    /// Where servers run, with a worker on each: `0,2-3` [default: the first processor]
    #[arg(long, value_name = "LIST")]
    server_processors: Option<Processors>,

    /// Where the client runs, with a thread on each [default: the next one, or two if there are]
    #[arg(long, value_name = "LIST")]
    client_processors: Option<Processors>,

    /// Write every round and the environment to a file, or in place of the tables to standard
    /// output (`-`); see `ringlab-bench schema`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page with plots, one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Compare with an earlier run's JSON
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

impl Compare {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.one_of_several {
            set_parent_process_death_signal(Some(Signal::TERM))
                .context("cannot ask to end with whoever started this (prctl(2))")?;
        }
        let earlier = self.against.as_deref().map(read_report).transpose()?;
        let outputs = Outputs::new(self.json.as_deref(), self.html.as_deref())?;
        if self.invocations > 1 {
            return self.run_several(&outputs, earlier.as_ref());
        }
        let (server_processors, client_processors) = self.processors()?;
        let comparison = Comparison {
            preset: self.preset,
            work: self.work,
            promise: self.slo,
            paths: distinct(self.path),
            arrivals: self.arrivals,
            contenders: self.contender,
            baseline: self.baseline,
            rounds: self.rounds.map(usize::from),
            duration: self.duration,
            server_processors,
            client_processors,
            command: words(env::args_os()),
        };
        let stop = until_interrupted()?;
        let mut show = Show::new(outputs.is_quiet);
        let report = compare::run(&comparison, &mut show, &stop)?;
        show.end()?;
        outputs.finish(&report, earlier.as_ref())
    }

    /// Runs the comparison several times, and pools what came of it.
    fn run_several(&self, outputs: &Outputs, earlier: Option<&Report>) -> Result<ExitCode> {
        let stop = until_interrupted()?;
        let mut reports = Vec::new();
        for invocation in 1..=self.invocations {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let of = self.invocations;
            outputs.print(&format!("invocation {invocation} of {of}\n"))?;
            let ran = invoke(&stop).context("cannot run this program once more")?;
            match against::read(&String::from_utf8_lossy(&ran.stdout)) {
                Ok(report) => reports.push(report),
                Err(_) if stop.load(Ordering::Relaxed) => {}
                Err(error) => {
                    return Err(error.context(format!("an invocation ended with {}", ran.status)));
                }
            }
        }
        let mut report = invocations::pool(reports).context("nothing was measured")?;
        report.command = words(env::args_os());
        report.partial |= stop.load(Ordering::Relaxed);
        outputs.print(&text::environment(&report.environment))?;
        for cell in &report.cells {
            outputs.print(&text::cell(cell))?;
        }
        outputs.finish(&report, earlier)
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

/// Each once, in the order given.
fn distinct(paths: Vec<report::Path>) -> Vec<report::Path> {
    let mut seen = Vec::new();
    for path in paths {
        if !seen.contains(&path) {
            seen.push(path);
        }
    }
    seen
}

/// Runs this comparison once, in a process of its own. What ends this process early ends that one,
/// too, with what it has measured by then.
fn invoke(stop: &AtomicBool) -> io::Result<process::Output> {
    let mut child = process::Command::new("/proc/self/exe")
        .args(without(env::args_os().skip(1), &ONCE))
        .args(["--json", STDOUT, "--one-of-several"])
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_child(&child);
    let mut stdout = child.stdout.take();
    let reader = threads::named("report").spawn(move || {
        let mut text = Vec::new();
        let read = stdout.as_mut().map(|stdout| stdout.read_to_end(&mut text));
        read.unwrap_or(Ok(0)).map(|_| text)
    })?;
    let mut is_told = false;
    while !reader.is_finished() {
        if stop.load(Ordering::Relaxed) && !is_told {
            is_told = kill_process(pid, Signal::TERM).is_ok();
        }
        thread::sleep(LOOK);
    }
    let stdout = reader.join().unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(process::Output {
        status: child.wait()?,
        stdout,
        stderr: Vec::new(),
    })
}

/// How often to look whether an invocation has ended, or is to.
const LOOK: Duration = Duration::from_millis(20);

/// What stands for standard output in place of a file.
const STDOUT: &str = "-";

/// Where results go.
struct Outputs {
    json: Option<Output>,
    html: Option<Output>,
    /// Whether JSON takes the place of all that people read on standard output.
    is_quiet: bool,
}

impl Outputs {
    fn new(json: Option<&Path>, html: Option<&Path>) -> Result<Self> {
        let is_quiet = json.is_some_and(|path| path == Path::new(STDOUT));
        let json = json.filter(|_| !is_quiet);
        Ok(Self {
            json: json.map(Output::new).transpose()?,
            html: html.map(Output::new).transpose()?,
            is_quiet,
        })
    }

    fn print(&self, text: &str) -> Result<()> {
        match self.is_quiet {
            true => Ok(()),
            false => print(text),
        }
    }

    /// Tells how it went, and writes the report as JSON and as a page: each, whatever becomes of
    /// the others.
    fn finish(&self, report: &Report, earlier: Option<&Report>) -> Result<ExitCode> {
        let json = serde_json::to_string_pretty(report)? + "\n";
        let against = earlier.map(|earlier| against::text(report, earlier));
        let closing = text::closing(report) + &against.unwrap_or_default();
        output::all([
            match self.is_quiet {
                true => print(&json),
                false => print(&closing),
            },
            self.json
                .as_ref()
                .map_or(Ok(()), |file| file.write(json.as_bytes())),
            self.html
                .as_ref()
                .map_or(Ok(()), |file| file.write(html::render(report).as_bytes())),
        ])?;
        Ok(match report.is_clean() && !report.partial {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// Options that are for all invocations together.
const ONCE: [&str; 4] = ["--invocations", "--json", "--html", "--against"];

/// A command line without some options and their values.
fn without(
    arguments: impl Iterator<Item = OsString>,
    options: &[&str],
) -> impl Iterator<Item = OsString> {
    let mut is_value = false;
    arguments.filter(move |argument| {
        if std::mem::take(&mut is_value) {
            return false;
        }
        let bytes = argument.as_encoded_bytes();
        let name = bytes.split(|&byte| byte == b'=').next().unwrap_or(bytes);
        let is_option = options.iter().any(|option| option.as_bytes() == name);
        is_value = is_option && name.len() == bytes.len();
        !is_option
    })
}

/// A command line to be told in a report, which is text.
fn words(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

fn read_report(path: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    against::read(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Shows how a comparison goes, and each piece of work when it is done.
struct Show {
    progress: ProgressBar,
    /// Whether the tables are not shown.
    is_quiet: bool,
    /// What kept them from being shown.
    error: Option<anyhow::Error>,
}

impl Show {
    fn new(is_quiet: bool) -> Self {
        let progress = ProgressBar::new(0);
        progress.set_draw_target(ProgressDrawTarget::stderr());
        progress.set_style(style("{bar:24} {pos} of {len}, {eta} left  {wide_msg}"));
        Self {
            progress,
            is_quiet,
            error: None,
        }
    }

    fn print(&mut self, text: &str) {
        if self.is_quiet {
            return;
        }
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
