//! What a load has brought, for people and for scripts.

use std::fmt;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Arrivals, Failure, Outcome, Plan, Spacing, Workload};

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// Nine of ten were at most this.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Percentiles of a histogram of nanoseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50,
            p90,
            p99,
            p99_9,
            max,
        } = *self;
        let [p50, p90, p99, p99_9, max] = [p50, p90, p99, p99_9, max].map(microseconds);
        write!(
            f,
            "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max}"
        )
    }
}

/// A time in microseconds, to three digits.
pub fn microseconds(time: f64) -> String {
    match time {
        time if time >= 1e6 => format!("{} s", digits(time / 1e6)),
        time if time >= 1e3 => format!("{} ms", digits(time / 1e3)),
        time => format!("{} µs", digits(time)),
    }
}

/// Three digits of a number that is not negative.
pub fn digits(number: f64) -> String {
    match number {
        number if number >= 99.95 => format!("{number:.0}"),
        number if number >= 9.995 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

/// A whole number, in groups of three digits.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A kind of failure, how often it happened, and what one of them looked like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureCount {
    /// What kind.
    pub kind: Failure,
    /// How many.
    pub count: u64,
    /// One of them, in words.
    pub example: String,
}

/// A run of `ringlab-bench load`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The server.
    pub target: String,
    /// What each connection did.
    pub workload: Workload,
    /// Connections at once.
    pub connections: usize,
    /// Sizes of messages in bytes, with weights.
    pub sizes: String,
    /// Requests that a connection might have in flight.
    pub pipeline: usize,
    /// Bytes that a connection of a stream might have unanswered.
    pub window: Option<usize>,
    /// Requests per second asked for (open loop).
    pub rate: Option<f64>,
    /// How they were to be spread over time.
    pub arrivals: Option<Arrivals>,
    /// How long it went on in seconds before it was measured.
    pub warmup_seconds: f64,
    /// Whether throughput had settled by then.
    pub settled: bool,
    /// Measured time in seconds, without warm-up.
    pub seconds: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Requests answered in that time, every byte as it must be.
    pub requests: u64,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Requests of that time that were answered after it: they are among the latencies, and not
    /// among the requests.
    pub answered_later: u64,
    /// Bytes sent in that time.
    pub bytes_sent: u64,
    /// Bytes received in that time.
    pub bytes_received: u64,
    /// Latencies; in an open loop from when requests were due.
    pub latency_us: Option<Latency>,
    /// How late the client was in an open loop to send what was due and had room.
    pub lateness_us: Option<Latency>,
    /// Times between requests in an open loop.
    pub spacing: Option<Spacing>,
    /// Processor time that the client took per request, in microseconds.
    pub client_cpu_us_per_request: f64,
    /// The part of the measured time that the client's threads were running.
    pub client_busy: f64,
    /// The client's threads.
    pub threads: usize,
    /// What went wrong.
    pub failures: Vec<FailureCount>,
}

impl Summary {
    /// Of one run.
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let seconds = outcome.elapsed.as_secs_f64();
        let cpu = outcome.client_cpu.as_secs_f64();
        let threads = plan.threads.get().min(plan.connections);
        Self {
            target: plan.target.to_string(),
            workload: plan.workload,
            connections: plan.connections,
            sizes: plan.sizes.to_string(),
            pipeline: plan.pipeline,
            window: (plan.workload == Workload::Stream).then_some(plan.window),
            rate: plan.rate,
            arrivals: plan.rate.and(Some(plan.arrivals)),
            warmup_seconds: outcome.warmup.as_secs_f64(),
            settled: outcome.settled,
            seconds,
            interrupted: outcome.interrupted,
            requests: outcome.counts.completed,
            requests_per_second: outcome.throughput(),
            answered_later: outcome.answered_later,
            bytes_sent: outcome.counts.sent,
            bytes_received: outcome.counts.received,
            latency_us: Latency::of(&outcome.latency),
            lateness_us: Latency::of(&outcome.lateness),
            spacing: outcome.spacing,
            client_cpu_us_per_request: cpu * 1e6 / outcome.counts.completed.max(1) as f64,
            client_busy: cpu / (seconds * threads as f64).max(1e-9),
            threads,
            failures: failures(outcome),
        }
    }
}

/// What went wrong in a run, by kind.
pub fn failures(outcome: &Outcome) -> Vec<FailureCount> {
    let failures = outcome.failures.iter();
    failures
        .map(|(kind, count, example)| FailureCount {
            kind,
            count,
            example: example.to_owned(),
        })
        .collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            workload,
            connections,
            sizes,
            ..
        } = self;
        writeln!(f, "target     {target}")?;
        write!(f, "workload   {workload}, {connections} connections")?;
        match workload {
            Workload::RequestReply => {
                write!(f, ", messages of {sizes} bytes")?;
                if self.pipeline > 1 {
                    write!(f, ", {} in flight on each", self.pipeline)?;
                }
                if let Some((rate, arrivals)) = self.rate.zip(self.arrivals) {
                    write!(f, ", {} due per second, {arrivals}", thousands(rate))?;
                }
            }
            Workload::Stream | Workload::Churn => write!(f, ", messages of {sizes} bytes")?,
            Workload::Idle => {}
        }
        let cut = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        let cold = if self.settled {
            ""
        } else {
            ", while throughput was still changing"
        };
        writeln!(f, "\nmeasured   {:.2} s{cold}{cut}", self.seconds)?;
        writeln!(
            f,
            "requests   {} ({} per second), every reply verified",
            thousands(self.requests as f64),
            thousands(self.requests_per_second)
        )?;
        let rate = |bytes: u64| digits(bytes as f64 / self.seconds.max(1e-9) / 1e6);
        writeln!(
            f,
            "bytes      {} MB/s sent, {} MB/s received",
            rate(self.bytes_sent),
            rate(self.bytes_received)
        )?;
        if let Some(latency) = &self.latency_us {
            writeln!(f, "latency    {latency}")?;
        } else if self.requests > 0 {
            writeln!(f, "latency    none: what was answered had been sent before")?;
        }
        // Otherwise the two lines above speak of the same requests, or nearly.
        if self.answered_later > self.requests / 100 {
            let later = thousands(self.answered_later as f64);
            writeln!(
                f,
                "           {later} of these answered after the measured time"
            )?;
        }
        if let Some(lateness) = &self.lateness_us {
            writeln!(f, "lateness   {lateness}")?;
        }
        let threads = match self.threads {
            1 => "its thread".to_owned(),
            threads => format!("its {threads} threads"),
        };
        writeln!(
            f,
            "client     {} of processor time per request, {threads} {:.0} % busy",
            microseconds(self.client_cpu_us_per_request),
            self.client_busy * 100.0
        )?;
        if self.failures.is_empty() {
            writeln!(f, "failures   none")?;
        }
        for (index, failure) in self.failures.iter().enumerate() {
            let label = if index == 0 { "failures" } else { "" };
            let FailureCount {
                kind,
                count,
                example,
            } = failure;
            writeln!(f, "{label:10} {count} × {kind}: {example}")?;
        }
        Ok(())
    }
}
