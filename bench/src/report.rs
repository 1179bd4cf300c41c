//! What `ringlab-bench compare` has measured: the form that is written as JSON, read back for
//! `--against`, and shown as a table and as a page.
//!
//! The JSON schema is made from these types and their documentation, and checked in as
//! `bench/report.schema.json`; `ringlab-bench schema` prints it.

pub mod against;
pub mod environment;
#[cfg(test)]
pub(crate) mod fixture;
pub mod html;
mod latencies;
mod paths;
mod plot;
mod standing;
pub mod text;
mod words;

use std::fmt;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load::summary::{Latency, microseconds};
use crate::load::{Arrivals, Spacing, Workload};
use crate::statistics::tails::Tails;
use crate::statistics::{Estimate, Null, Verdict, median, reference};
use environment::Environment;
pub use latencies::Latencies;

/// The version of this form; it changes when a reader would have to.
pub const VERSION: u32 = 2;

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
    /// Where this lies on a curve, for the presets `load` and `connections`.
    pub point: Option<Point>,
    /// What else used the processors, in the idle look before; `None` if their idle time cannot be
    /// read.
    pub idle_look: Option<IdleLook>,
    /// What the null contender says, by what the cell is judged by: whether equals came out equal.
    /// `None` from too few rounds.
    pub null: Option<Null>,
    /// The rounds planned, in each invocation.
    pub rounds: usize,
    /// How many invocations of the comparison these figures are from; their rounds are numbered
    /// one after the other.
    pub invocations: usize,
    /// How each contender did, the baseline first; last the null contender, which is the baseline
    /// once more and shows what differences appear between equals.
    pub entries: Vec<Entry>,
    /// Why not to believe it, as far as its own figures tell.
    pub doubts: Vec<Doubt>,
    /// What features of the ring are worth, for the preset `ladder`; otherwise empty.
    pub steps: Vec<Step>,
}

/// A reason not to believe a piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doubt {
    /// Whether nobody should read a verdict without it.
    pub grave: bool,
    /// In a sentence.
    pub text: String,
}

/// A place on a curve: of cost, or of latency, over something.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Over what.
    pub over: Axis,
    /// How much of it; `None` for the closed loop, in which the load is whatever the server bears.
    pub at: Option<f64>,
}

/// What a curve goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Requests per second, in per cent of what the baseline bears.
    Load,
    /// Connections at once.
    Connections,
}

/// What the processors of the two sides did while neither a server nor a client was there. It is
/// taken off what they do in the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleLook {
    /// The part of their time that the server's processors were busy.
    pub server_busy: f64,
    /// The part of their time that the client's were.
    pub client_busy: f64,
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
    /// What lies between server and client; Unix sockets know no path.
    pub path: Option<Path>,
    /// Connections at once.
    pub connections: usize,
    /// Sizes of messages in bytes, with weights.
    pub sizes: String,
    /// Requests that a connection may have in flight.
    pub pipeline: usize,
    /// Requests per second, if they are sent when they are due, whatever the replies do (open
    /// loop). Where it is a part of what the baseline bears, which is found anew in every round:
    /// the median over the rounds.
    pub rate: Option<f64>,
    /// The rate as a part of what the baseline bears in a closed loop.
    pub rate_of_baseline: Option<f64>,
    /// When requests are due, in an open loop.
    pub arrivals: Arrivals,
    /// A promise about latencies: then the highest rate that keeps it is looked for.
    pub promise: Option<Promise>,
    /// Seconds under load before anything is measured, in every round.
    pub warmup_seconds: f64,
    /// Seconds measured in every round.
    pub seconds: f64,
}

impl Cell {
    /// What an entry's ratios come to, in each invocation by itself; of percentiles, which are
    /// those of all its rounds together, likewise. Invocations of too few rounds are left out.
    pub fn estimates_of(&self, entry: &Entry, metric: Metric) -> Vec<Estimate> {
        let invocations = (0..self.invocations).map(|invocation| {
            let first = invocation * self.rounds;
            let is_in = |round: usize| (first..first + self.rounds).contains(&round);
            match metric.quantile() {
                Some(quantile) => self.tail_of(entry, quantile, is_in),
                None => Estimate::of(&self.ratios_in(entry, metric, is_in)),
            }
        });
        invocations.flatten().collect()
    }

    /// The ratio of a quantile of an entry's latencies to that of the baseline's, from all rounds
    /// for which `is_in` holds.
    fn tail_of(
        &self,
        entry: &Entry,
        quantile: f64,
        is_in: impl Fn(usize) -> bool,
    ) -> Option<Estimate> {
        let baseline = self.entries.first()?;
        let null = self.entries.iter().find(|other| other.null && !entry.null);
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for round in entry.rounds.iter().filter(|round| is_in(round.round)) {
            let own = round.latencies.as_ref().and_then(Latencies::histogram);
            let once = baseline.latencies(round.round);
            let again = null.and_then(|null| null.latencies(round.round));
            let other = match (once, again) {
                (Some(mut once), Some(again)) => once.add(again).is_ok().then_some(once),
                (once, again) => once.or(again),
            };
            if let Some((own, other)) = own.zip(other) {
                ours.push(own);
                others.push(other);
            }
        }
        Tails::of(&ours).ratio(&Tails::of(&others), quantile)
    }

    /// An entry's figure in each round, divided by the geometric mean of what the baseline's two
    /// runs had in it; the null contender's by the other one's.
    pub fn ratios_of(&self, entry: &Entry, metric: Metric) -> Vec<f64> {
        self.ratios_in(entry, metric, |_| true)
    }

    fn ratios_in(&self, entry: &Entry, metric: Metric, is_in: impl Fn(usize) -> bool) -> Vec<f64> {
        let Some(baseline) = self.entries.first() else {
            return Vec::new();
        };
        let null = self.entries.iter().find(|other| other.null && !entry.null);
        entry.ratios_to(metric, |round| {
            is_in(round).then_some(())?;
            let again = null.and_then(|null| null.value(round, metric));
            let once = baseline.value(round, metric).or(again)?;
            Some(reference(once, again))
        })
    }
}

/// That a part of all requests is answered in some time: a service-level objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// The part, as in 0.99.
    pub quantile: f64,
    /// The time, in microseconds.
    pub limit_us: f64,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_cent = self.quantile * 100.0;
        // What floating point adds.
        let per_cent = (per_cent * 1e6).round() / 1e6;
        write!(f, "p{per_cent} within {}", microseconds(self.limit_us))
    }
}

impl Work {
    /// Whether latencies say something of their own: in a closed loop over many connections they
    /// are the number of connections divided by the throughput.
    pub fn has_latencies(&self) -> bool {
        let is_request_reply = self.workload == Workload::RequestReply;
        is_request_reply && (self.is_paced() || self.connections * self.pipeline == 1)
    }

    /// Whether requests are sent when they are due, whatever the replies do.
    pub fn is_paced(&self) -> bool {
        self.rate.is_some() || self.rate_of_baseline.is_some()
    }
}

/// What connections are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
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

/// What lies between server and client.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Two network namespaces and a veth pair, each end's receiving done by its own side
    Hosts,
    /// The loopback device, where whoever sends does the other's receiving
    Loopback,
}

impl Path {
    /// In a sentence about connections: "64 connections between hosts".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Hosts => "between hosts",
            Self::Loopback => "over loopback",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hosts => "hosts",
            Self::Loopback => "loopback",
        })
    }
}

/// A figure by which servers are compared; of each, less is better.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// What the server's processors did per request, whoever is charged for it.
    ServerSide,
    /// What the server's and the client's processors did per request.
    BothSides,
    /// Processor time of the server's processes per request.
    Process,
    /// Time per request, the inverse of the throughput.
    Time,
    /// Time per request at the highest rate that keeps a promise, the inverse of that rate.
    Capacity,
    /// The median latency.
    P50,
    /// The latency that one of ten requests exceeds.
    P90,
    /// The latency that one of a hundred requests exceeds.
    P99,
    /// Memory that the kernel charges the server for, its own and the kernel's, per idle
    /// connection.
    Memory,
    /// Memory of the server's processes per idle connection.
    OwnMemory,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::ServerSide,
        Self::BothSides,
        Self::Process,
        Self::Time,
        Self::Capacity,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::Memory,
        Self::OwnMemory,
    ];

    /// What the ratio is a ratio of, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerSide => "processor time of the server’s side per request",
            Self::BothSides => "processor time of both sides per request",
            Self::Process => "processor time of the server’s process per request",
            Self::Time => "time per request",
            Self::Capacity => "time per request at the highest rate that keeps the promise",
            Self::P50 => "median latency",
            Self::P90 => "p90 latency",
            Self::P99 => "p99 latency",
            Self::Memory => "memory per idle connection",
            Self::OwnMemory => "memory of the server’s process per idle connection",
        }
    }

    /// The same in a column's heading.
    pub fn short(self) -> &'static str {
        match self {
            Self::ServerSide => "server side",
            Self::BothSides => "both sides",
            Self::Process => "process",
            Self::Time => "time ratio",
            Self::Capacity => "1/rate ratio",
            Self::P50 => "p50 ratio",
            Self::P90 => "p90 ratio",
            Self::P99 => "p99 ratio",
            Self::Memory => "memory ratio",
            Self::OwnMemory => "own memory",
        }
    }

    /// The quantile of latencies that it is, if it is one.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }

    /// What is compared, of which there may be several figures.
    pub fn quantity(self) -> Quantity {
        match self {
            Self::ServerSide | Self::BothSides | Self::Process => Quantity::Cost,
            Self::Time | Self::P50 | Self::P90 | Self::P99 => Quantity::Speed,
            Self::Capacity => Quantity::Capacity,
            Self::Memory | Self::OwnMemory => Quantity::Memory,
        }
    }

    /// A verdict in words that fit.
    pub fn words(self, verdict: Verdict) -> &'static str {
        match (verdict, self.quantity()) {
            (Verdict::Better, Quantity::Cost) => "cheaper",
            (Verdict::Worse, Quantity::Cost) => "dearer",
            (Verdict::Better, Quantity::Speed) => "faster",
            (Verdict::Worse, Quantity::Speed) => "slower",
            (Verdict::Better, Quantity::Capacity) => "bears more",
            (Verdict::Worse, Quantity::Capacity) => "bears less",
            (Verdict::Better, Quantity::Memory) => "smaller",
            (Verdict::Worse, Quantity::Memory) => "larger",
            (Verdict::NoDifferenceShown, _) => "no difference shown",
        }
    }
}

/// What a verdict can be about; verdicts about different ones do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Processor time.
    Cost,
    /// Time that passes.
    Speed,
    /// The load that a promise allows.
    Capacity,
    /// Memory.
    Memory,
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
    /// The client was at its limit, whatever the server did: the throughput says nothing of it.
    pub client_saturated: bool,
    /// Where a promise is kept, but at a rate that is an end of what was looked at: the true one may
    /// lie beyond.
    pub at_an_end: bool,
}

impl Entry {
    /// The ratio by one metric.
    pub fn ratio(&self, metric: Metric) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.metric == metric)
    }

    /// Round by round, the ratios to what `to` has for the round of that number.
    pub fn ratios_to(&self, metric: Metric, to: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
        let ratio = |round: &Round| {
            let ratio = round.value(metric)? / to(round.round)?;
            ratio.is_finite().then_some(ratio)
        };
        self.rounds.iter().filter_map(ratio).collect()
    }

    /// The figure of the round with this number, if it was done and has one.
    pub fn value(&self, round: usize, metric: Metric) -> Option<f64> {
        let mut rounds = self.rounds.iter();
        rounds.find(|it| it.round == round)?.value(metric)
    }

    /// The latencies of the round with this number.
    fn latencies(&self, round: usize) -> Option<Histogram<u64>> {
        let round = self.rounds.iter().find(|it| it.round == round)?;
        round.latencies.as_ref()?.histogram()
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
    /// All of them, where they say more than the throughput does: in an open loop, and on one
    /// connection.
    pub latencies: Option<Latencies>,
    /// Requests due per second, in an open loop.
    pub rate: Option<f64>,
    /// How late the client itself sent them.
    pub lateness_us: Option<Latency>,
    /// How they were spread over the time.
    pub spacing: Option<Spacing>,
    /// The highest rate that kept the promise, in requests per second, where one was looked for.
    pub kept_rate: Option<f64>,
    /// How long the server's processors were busy in that time, in microseconds, less what they
    /// were in the idle look; `None` if their idle time cannot be read.
    pub server_side_us: Option<f64>,
    /// Likewise the client's, without the time in which an open loop's client did nothing but wait
    /// for the next request to be due.
    pub client_side_us: Option<f64>,
    /// Processor time of the server's processes in that time, in microseconds, by their CPU
    /// clocks.
    pub server_process_us: f64,
    /// Of the same, what the kernel's clock ticks saw in user mode, in microseconds. Ticks are
    /// some milliseconds, so this is only good as a sum over many rounds.
    pub server_user_ticks_us: f64,
    /// What they saw in kernel mode.
    pub server_system_ticks_us: f64,
    /// Processor time of the client's threads in that time, in microseconds.
    pub client_process_us: f64,
    /// The most memory that the server has had resident (VmHWM), in bytes.
    pub peak_memory: u64,
    /// Memory that the server's control group is charged for per idle connection, in bytes: its own
    /// and the kernel's. `None` where connections were not idle, or nobody could see to it.
    pub memory_per_connection: Option<f64>,
    /// Memory of the server's own (RssAnon) per idle connection, in bytes; where connections were
    /// idle.
    pub own_memory_per_connection: Option<f64>,
}

impl Round {
    /// One in which nothing has happened yet.
    pub(crate) fn nothing(round: usize) -> Self {
        Self {
            round,
            seconds: 0.0,
            requests: 0,
            latency_us: None,
            latencies: None,
            rate: None,
            lateness_us: None,
            spacing: None,
            kept_rate: None,
            server_side_us: None,
            client_side_us: None,
            server_process_us: 0.0,
            server_user_ticks_us: 0.0,
            server_system_ticks_us: 0.0,
            client_process_us: 0.0,
            peak_memory: 0,
            memory_per_connection: None,
            own_memory_per_connection: None,
        }
    }

    /// The figure for a metric, less being better. `None` if the round has none.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let requests = self.requests as f64;
        match metric {
            _ if self.requests == 0 && metric.quantity() != Quantity::Memory => None,
            Metric::ServerSide => Some(self.server_side_us? / requests),
            Metric::BothSides => Some((self.server_side_us? + self.client_side_us?) / requests),
            Metric::Process => Some(self.server_process_us / requests),
            Metric::Time => Some(self.seconds * 1e6 / requests),
            Metric::Capacity => self.kept_rate.map(|rate| 1e6 / rate),
            Metric::P50 => self.latency_us.map(|latency| latency.p50),
            Metric::P90 => self.latency_us.map(|latency| latency.p90),
            Metric::P99 => self.latency_us.map(|latency| latency.p99),
            Metric::Memory => self.memory_per_connection,
            Metric::OwnMemory => self.own_memory_per_connection,
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
    /// The highest rate that kept the promise, in requests per second.
    pub kept_rate: Option<f64>,
    /// What the server's side did per request, in microseconds.
    pub server_side_us: Option<f64>,
    /// What the client's side did per request, in microseconds.
    pub client_side_us: Option<f64>,
    /// Processor time of the server's processes per request, in microseconds.
    pub process_us: Option<f64>,
    /// The part of it that is user mode, by clock ticks over all rounds.
    pub user_share: Option<f64>,
    /// Processor time of the client's threads per request, in microseconds.
    pub client_process_us: Option<f64>,
    /// The part of the measured time that the server's processors were busy: its side, or if that
    /// is unknown its processes.
    pub server_busy: f64,
    /// The part of the measured time that the client's threads were running.
    pub client_busy: f64,
    /// The most memory that the server has had resident, in bytes.
    pub peak_memory: u64,
    /// Memory that the server is charged for per idle connection, in bytes.
    pub memory_per_connection: Option<f64>,
    /// Memory of the server's own per idle connection, in bytes.
    pub own_memory_per_connection: Option<f64>,
}

/// A ratio to the baseline; below 1 is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// Of what.
    pub metric: Metric,
    /// What the ratios of the rounds come to, with an interval of 95 %; `None` from too few rounds.
    /// In each round a contender is divided by the geometric mean of the baseline's two runs, the
    /// null contender by the other one.
    pub estimate: Option<Estimate>,
    /// How much the true ratio differs from one invocation of the comparison to the next, as a
    /// part of it; `None` of a single one.
    pub between_invocations: Option<f64>,
    /// What it says.
    pub verdict: Verdict,
    /// How far from 1 a true ratio would have to be to be seen, four times out of five, with noise
    /// as it was.
    pub visible: Option<f64>,
}

/// What was counted under loads of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Context switches of the server.
    pub context_switches: Count,
    /// System calls of the server.
    pub system_calls: Count,
}

/// Numbers, or the reason why there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Per request.
    PerRequest(Spread),
    /// Why it was not measured.
    NotMeasured(String),
}

/// What was found several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&values),
            least: *values.first()?,
            most: *values.last()?,
        })
    }
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
