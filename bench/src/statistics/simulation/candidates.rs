//! Intervals for a ratio that were tried and not chosen, beside the one that was.

use fastrand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::super::estimate::MISSES;
use super::super::{Estimate, mean, median, student, variance};

const RESAMPLES: usize = 1000;

/// A way from ratios to an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// The median, with percentiles of its bootstrap.
    MedianPercentiles,
    /// The mean of the logarithms, with Student's t.
    Student,
    /// The mean of the logarithms, with the bootstrap's percentiles corrected for bias and skewness
    /// (BCa; Efron, *Better Bootstrap Confidence Intervals*, JASA 82, 1987).
    Bca,
    /// [`Estimate`].
    SignedRanks,
}

impl Candidate {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::MedianPercentiles,
        Self::Student,
        Self::Bca,
        Self::SignedRanks,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::MedianPercentiles => "median, bootstrap",
            Self::Student => "mean, Student's t",
            Self::Bca => "mean, BCa bootstrap",
            Self::SignedRanks => "Hodges-Lehmann, signed ranks",
        }
    }

    /// The interval. `random` is for the bootstrap.
    pub fn interval(self, random: &mut Rng, ratios: &[f64]) -> Option<Estimate> {
        let logs: Vec<_> = ratios.iter().map(|ratio| ratio.ln()).collect();
        match self {
            Self::MedianPercentiles => {
                let medians = bootstrap(random, &logs, median);
                let ends = [MISSES / 2.0, 1.0 - MISSES / 2.0].map(|at| percentile(&medians, at));
                Some(between(median(&logs), ends))
            }
            Self::Student => {
                let count = logs.len() as f64;
                let quantile = student(1.0 - MISSES / 2.0, count - 1.0);
                let reach = quantile * (variance(&logs) / count).sqrt();
                Some(Estimate::around(mean(&logs), reach))
            }
            Self::Bca => Some(bca(random, &logs)),
            Self::SignedRanks => Estimate::of(ratios),
        }
    }
}

fn between(median: f64, [low, high]: [f64; 2]) -> Estimate {
    Estimate { median, low, high }.exp()
}

/// A statistic of samples drawn with replacement, sorted.
fn bootstrap(random: &mut Rng, values: &[f64], statistic: fn(&[f64]) -> f64) -> Vec<f64> {
    let mut sample = values.to_vec();
    let mut draw = || {
        sample.fill_with(|| values[random.usize(..values.len())]);
        statistic(&sample)
    };
    let mut drawn: Vec<_> = (0..RESAMPLES).map(|_| draw()).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    drawn
}

fn percentile(sorted: &[f64], at: f64) -> f64 {
    let last = sorted.len() - 1;
    sorted[((at * sorted.len() as f64) as usize).min(last)]
}

fn bca(random: &mut Rng, logs: &[f64]) -> Estimate {
    let normal = Normal::standard();
    let drawn = bootstrap(random, logs, mean);
    let center = mean(logs);
    let below = drawn.iter().filter(|&&it| it < center).count();
    let bias = normal.inverse_cdf((below as f64 + 0.5) / (RESAMPLES as f64 + 1.0));
    // Of a mean, the acceleration by the jackknife is its skewness.
    let moment = |power| -> f64 { logs.iter().map(|it| (it - center).powi(power)).sum() };
    let acceleration = moment(3) / (6.0 * moment(2).powf(1.5));
    let end = |tail: f64| {
        let shifted = bias + normal.inverse_cdf(tail);
        let at = normal.cdf(bias + shifted / (1.0 - acceleration * shifted));
        percentile(&drawn, at)
    };
    between(center, [end(MISSES / 2.0), end(1.0 - MISSES / 2.0)])
}
