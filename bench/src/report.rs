//! What `ringlab-bench compare` has measured: the form that is written as JSON, read back for
//! `--against`, and shown as a table and as a page.
//!
//! The JSON schema is made from these types and their documentation, and checked in as
//! `bench/report.schema.json`; `ringlab-bench schema` prints it.

pub mod against;
pub mod environment;
#[cfg(test)]
mod fixture;
pub mod html;
mod plot;
mod standing;
pub mod text;
mod words;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load::Workload;
use crate::load::summary::Latency;
use crate::statistics::{Estimate, Verdict};
use environment::Environment;

/// The version of this form; it changes when a reader would have to.
pub const VERSION: u32 = 1;

/// A comparison of servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// Whether it was interrupted: what follows is what had been measured by then.
    pub partial: bool,
    /// When it began, in UTC as of RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The preset: which work, and how much of it.
    pub preset: String,
    /// The contender that the others are divided by.
    pub baseline: String,
    /// Where it was measured.
    pub environment: Environment,
    /// Who was measured, the baseline first.
    pub contenders: Vec<Contender>,
    /// What was measured, one piece of work each.
    pub cells: Vec<Cell>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contender {
    /// Its name in this report.
    pub name: String,
    /// Its command line, for the first piece of work.
    pub command: String,
    /// The features of the ring that it uses, for the engine `uring`.
    pub features: Option<String>,
}

/// A piece of work, and how each contender did it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// What is done, in words, unique in this report.
    pub name: String,
    /// What is done, in figures.
    pub work: Work,
    /// What the verdict is about.
    pub judged_by: Metric,
    /// The rounds planned.
    pub rounds: usize,
    /// How each contender did, the baseline first; last the null contender, which is the baseline
    /// once more and shows what differences appear between equals.
    pub entries: Vec<Entry>,
    /// What features of the ring are worth, for the preset `ladder`; otherwise empty.
    pub steps: Vec<Step>,
}

/// What one feature of the ring is worth, by the metric that the cell is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The feature's name.
    pub feature: String,
    /// Where the step starts.
    pub kind: StepKind,
    /// The contender without the step.
    pub from: String,
    /// The contender with it.
    pub to: String,
    /// The ratio of the second to the first, round by round; `None` from too few rounds.
    pub ratio: Option<Estimate>,
    /// What it says.
    pub verdict: Verdict,
}

/// Where a [`Step`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// The feature is added to those of the step before; the first is added to none, and with the
    /// last the defaults are complete.
    Climb,
    /// The feature is taken from the defaults.
    Remove,
    /// The feature, which is not among the defaults, is added to them.
    Add,
}

/// A piece of work, as the load generator is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// What each connection does.
    pub workload: Workload,
    /// What connections are made of.
    pub transport: Transport,
    /// Connections at once.
    pub connections: usize,
    /// Sizes of messages in bytes, with weights.
    pub sizes: String,
    /// Requests that a connection may have in flight.
    pub pipeline: usize,
    /// Requests per second, if they are sent at fixed times (open loop).
    pub rate: Option<f64>,
    /// Seconds under load before anything is measured, in every round.
    pub warmup_seconds: f64,
    /// Seconds measured in every round.
    pub seconds: f64,
}

/// What connections are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP over the loopback device.
    Tcp,
    /// Unix stream sockets.
    Unix,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix",
        })
    }
}

/// A figure by which servers are compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Processor time of the server per request.
    Cpu,
    /// Time per request, the inverse of the throughput.
    Time,
    /// The median latency.
    P50,
    /// The latency that one of a hundred requests exceeds.
    P99,
    /// Memory of the server's own per idle connection.
    Memory,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Time, Self::P50, Self::P99, Self::Memory];

    /// What the ratio is a ratio of, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "server CPU per request",
            Self::Time => "time per request",
            Self::P50 => "median latency",
            Self::P99 => "p99 latency",
            Self::Memory => "memory per idle connection",
        }
    }

    /// The same in a column's heading.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cpu => "CPU ratio",
            Self::Time => "time ratio",
            Self::P50 => "p50 ratio",
            Self::P99 => "p99 ratio",
            Self::Memory => "memory ratio",
        }
    }

    /// A verdict in words that fit.
    pub fn words(self, verdict: Verdict) -> &'static str {
        match (verdict, self) {
            (Verdict::Faster, Self::Memory) => "smaller",
            (Verdict::Slower, Self::Memory) => "larger",
            (Verdict::Faster, _) => "faster",
            (Verdict::Slower, _) => "slower",
            (Verdict::NoDifferenceShown, _) => "no difference shown",
        }
    }
}

/// How one contender did one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name; of the null contender the baseline's.
    pub contender: String,
    /// Whether this is the null contender.
    pub null: bool,
    /// Whether it did it, and if not why.
    pub status: Status,
    /// Every round that it did.
    pub rounds: Vec<Round>,
    /// Medians over the rounds; `None` without any.
    pub medians: Option<Medians>,
    /// Ratios to the baseline, round by round.
    pub ratios: Vec<Ratio>,
    /// Counted in a pass that is not timed.
    pub counted: Option<Counted>,
    /// The client, not this server, was at its limit: the throughput says nothing about it.
    pub client_saturated: bool,
}

impl Entry {
    /// The ratio by one metric.
    pub fn ratio(&self, metric: Metric) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.metric == metric)
    }

    /// Ratios to another contender's rounds, of those that both have.
    pub fn ratios_to(&self, others: &[Round], metric: Metric) -> Vec<f64> {
        let ratio = |round: &Round| {
            let other = others.iter().find(|other| other.round == round.round)?;
            let ratio = round.value(metric)? / other.value(metric)?;
            ratio.is_finite().then_some(ratio)
        };
        self.rounds.iter().filter_map(ratio).collect()
    }

    /// The name in tables.
    pub fn label(&self) -> String {
        match self.null {
            true => format!("{} (null)", self.contender),
            false => self.contender.clone(),
        }
    }
}

/// Whether a contender did its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "is", content = "why")]
pub enum Status {
    /// It did.
    Measured,
    /// It was not asked to, for this reason.
    Skipped(String),
    /// It failed to start, died, or answered wrongly.
    Failed(String),
}

/// One round of one contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// Which one, counted from 0; the rounds of the same number belong together.
    pub round: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// Requests answered in that time.
    pub requests: u64,
    /// Their latencies.
    pub latency_us: Option<Latency>,
    /// Processor time of the server in that time, in microseconds, by its process's CPU clock.
    pub server_cpu_us: f64,
    /// Of the same, what the kernel's clock ticks saw in user mode, in microseconds. Ticks are
    /// some milliseconds, so this is only good as a sum over many rounds.
    pub server_user_ticks_us: f64,
    /// What they saw in kernel mode.
    pub server_system_ticks_us: f64,
    /// Processor time of the client's threads in that time, in microseconds.
    pub client_cpu_us: f64,
    /// The most memory that the server has had resident (VmHWM), in bytes.
    pub peak_memory: u64,
    /// Memory of the server's own (RssAnon) per idle connection, in bytes; where connections were
    /// idle.
    pub memory_per_connection: Option<f64>,
}

impl Round {
    /// The figure for a metric, less being better. `None` if the round has none.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let requests = self.requests as f64;
        match metric {
            _ if self.requests == 0 && metric != Metric::Memory => None,
            Metric::Cpu => Some(self.server_cpu_us / requests),
            Metric::Time => Some(self.seconds * 1e6 / requests),
            Metric::P50 => self.latency_us.map(|latency| latency.p50),
            Metric::P99 => self.latency_us.map(|latency| latency.p99),
            Metric::Memory => self.memory_per_connection,
        }
    }
}

/// Medians over all rounds of one contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Medians {
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Latencies: of each percentile the median over the rounds, of the maximum the largest.
    pub latency_us: Option<Latency>,
    /// Processor time of the server per request, in microseconds.
    pub cpu_us: Option<f64>,
    /// The part of it that is user mode, by clock ticks over all rounds.
    pub cpu_user_share: Option<f64>,
    /// Processor time of the client per request, in microseconds.
    pub client_cpu_us: Option<f64>,
    /// The part of the measured time that the server's processors were running it.
    pub server_busy: f64,
    /// The part of the measured time that the client's threads were running.
    pub client_busy: f64,
    /// The most memory that the server has had resident, in bytes.
    pub peak_memory: u64,
    /// Memory of the server's own per idle connection, in bytes.
    pub memory_per_connection: Option<f64>,
}

/// A ratio to the baseline; below 1 is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// Of what.
    pub metric: Metric,
    /// The median of the ratios of the rounds, with its interval of 95 %; `None` from too few
    /// rounds.
    pub estimate: Option<Estimate>,
    /// What it says.
    pub verdict: Verdict,
    /// If it says nothing: how many more rounds would probably settle it, unless thousands.
    pub rounds_to_settle: Option<usize>,
}

/// What was counted in a pass of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Context switches of the server per request, from its start to its end.
    pub context_switches: Count,
    /// System calls of the server per request, under load.
    pub system_calls: Count,
}

/// A number, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Per request.
    PerRequest(f64),
    /// Why it was not measured.
    NotMeasured(String),
}

impl Report {
    /// Whether every contender did its work.
    pub fn is_clean(&self) -> bool {
        let mut entries = self.cells.iter().flat_map(|cell| &cell.entries);
        !entries.any(|entry| matches!(entry.status, Status::Failed(_)))
    }
}

/// The JSON schema of a [`Report`].
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text + "\n"
}
