//! `ringlab-bench load`: one machine's load, and how it went.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget};
use ringlab::address::Address;
use ringlab::endpoint::Endpoint;

use super::arguments::{duration, rate, wrong_usage};
use super::signals::until_interrupted;
use super::terminal::{Format, print, style};
use crate::load::summary::{Summary, microseconds, thousands};
use crate::load::{self, Arrivals, Interval, Observer, Plan, Workload, interval_log};
use crate::output::{self, Output};
use crate::processors::Processors;
use crate::tape::Mix;

/// How long a load goes on before it is measured, unless somebody wants it otherwise.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Load {
    /// The server: `ADDRESS:PORT`, `NAME:PORT`, `[IPV6]:PORT`, or `unix:PATH`
    #[arg(long, value_name = "ADDRESS")]
    target: Address,

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

    /// How long to go on before that, and up to twice as long if throughput has not settled by then
    /// [default: 1s, or nothing with --requests]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warmup: Option<Duration>,

    /// End after so many requests, those before the measurement included, if that comes first
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// Requests that each connection may have in flight
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = value_parser!(u32).range(1..=65_536))]
    pipeline: u32,

    /// Bytes that each connection of a stream may have unanswered
    /// [default: 524288]
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u32).range(1..=1 << 30))]
    window: Option<u32>,

    /// Requests per second over all connections, sent when they are due whatever the server does
    /// (open loop), with latencies counted from then; the client's threads then spin
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// When those are due [default: exponential]
    #[arg(long, value_enum, requires = "rate")]
    arrivals: Option<Arrivals>,

    /// How long a connection may wait for its greeting, or for the next byte of a reply; and how
    /// long to wait for all replies when the time is over
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

impl Load {
    pub(super) fn run(self) -> Result<ExitCode> {
        self.check();
        if let Some(processors) = &self.processors {
            processors.check()?;
        }
        let log = self.interval_log.as_deref().map(Output::new).transpose()?;
        let stop = until_interrupted()?;
        let (plan, outcome, watch) = self.target.connect(|target| {
            let plan = self.plan(target.clone());
            let watch = Watch::new(&plan, log.is_some());
            let outcome = load::run(&plan, &watch, &stop)?;
            Ok((plan, outcome, watch))
        })?;
        let summary = Summary::of(&plan, &outcome);
        let (began, intervals) = watch.end();
        let logged = log.map_or(Ok(()), |log| {
            log.write(&interval_log::contents(began, &intervals)?)
        });
        let printed = print(&match self.format {
            Format::Text => summary.to_string(),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&summary)?),
        });
        output::all([logged, printed])?;
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
        use Workload::{RequestReply, Stream};
        for (option, is_given, workload) in [
            ("--rate", self.rate.is_some(), RequestReply),
            ("--pipeline", self.pipeline > 1, RequestReply),
            ("--window", self.window.is_some(), Stream),
        ] {
            if is_given && self.workload != workload {
                let text = format!("{option} goes with --workload {workload} only");
                wrong_usage::<Self>("load", text);
            }
        }
        if self.requests.is_some() && self.workload == Workload::Idle {
            wrong_usage::<Self>("load", "--requests does not go with --workload idle");
        }
    }

    fn plan(&self, target: Endpoint) -> Plan {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or(processors / 2, usize::from);
        let warmup = self.warmup.unwrap_or(match self.requests {
            Some(_) => Duration::ZERO,
            None => WARM_UP,
        });
        Plan {
            target,
            workload: self.workload,
            connections: self.connections as usize,
            sizes: self.size.clone(),
            pipeline: self.pipeline as usize,
            window: self.window.map_or(load::WINDOW, |window| window as usize),
            rate: self.rate,
            arrivals: self.arrivals.unwrap_or_default(),
            warmup,
            warmup_limit: warmup * 2,
            duration: self.duration,
            requests: self.requests,
            timeout: self.timeout,
            threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
            processors: self.processors.clone(),
            seed: self.seed,
        }
    }
}

/// Shows how a load goes, and keeps what the interval log needs.
struct Watch {
    progress: ProgressBar,
    /// When measuring began.
    began: Mutex<SystemTime>,
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
            began: Mutex::new(SystemTime::now()),
            kept: keep.then(Mutex::default),
        }
    }

    /// When measuring began, and what was kept of it.
    fn end(self) -> (SystemTime, Vec<Interval>) {
        self.progress.finish_and_clear();
        let began = self
            .began
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.and_then(|kept| kept.into_inner().ok());
        (began, kept.unwrap_or_default())
    }
}

impl Observer for Watch {
    fn measuring(&self) {
        if let Ok(mut began) = self.began.lock() {
            *began = SystemTime::now();
        }
    }

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
