//! `ringlab-bench load`: one machine's load, and how it went.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget};
use ringlab::endpoint::Endpoint;

use super::arguments::{duration, rate, wrong_usage};
use super::files::can_be_written;
use super::signals::until_interrupted;
use super::terminal::{Format, print, style};
use crate::load::summary::{Summary, microseconds, thousands};
use crate::load::{self, Interval, Observer, Plan, Workload, interval_log};
use crate::processors::Processors;
use crate::tape::Mix;

/// How long a load goes on before it is measured, unless somebody wants it otherwise.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Load {
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

impl Load {
    pub(super) fn run(self) -> Result<ExitCode> {
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
                wrong_usage::<Self>(
                    "load",
                    format!("{option} goes with --workload request-reply only"),
                );
            }
        }
        if self.requests.is_some() && self.workload == Workload::Idle {
            wrong_usage::<Self>("load", "--requests does not go with --workload idle");
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
