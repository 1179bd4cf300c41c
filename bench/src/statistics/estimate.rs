//! A ratio, and where the true one is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The part of all intervals that may miss the truth.
pub(crate) const MISSES: f64 = 0.05;

/// How often a difference of [`Estimate::visible`] is seen.
pub const POWER: f64 = 0.8;

/// The fewest rounds from which anything is concluded: with five, each interval of the signed ranks
/// misses more than 5 %.
pub const FEWEST_ROUNDS: usize = 6;

/// From here on the signed ranks are as good as normal.
const EXACT_ROUNDS: usize = 50;

/// From here on rounds are pooled in groups, for [`walsh_averages`] grow with their square.
const MOST_ROUNDS: usize = 1024;

/// What the contenders of a round are divided by: the geometric mean of the baseline's two runs in
/// it, or of one run alone if the other has failed. Dividing by one run adds that run's noise to the
/// contender's; by two, half of it.
///
/// The null contender is the second run, so its own ratio is to the first run alone.
pub fn reference(baseline: f64, null: Option<f64>) -> f64 {
    null.map_or(baseline, |null| (baseline * null).sqrt())
}

/// A ratio, and where the true one is with a confidence of 95 %.
///
/// It is the Hodges-Lehmann estimate (Hodges and Lehmann, *Estimates of Location Based on Rank
/// Tests*, Annals of Mathematical Statistics 34, 1963) of the ratios' logarithms, with the interval
/// that goes with it, which has all the values that Wilcoxon's signed-rank test does not reject
/// (Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 3rd ed., 2014, sections 3.2
/// and 3.3). It covers what it says for any symmetric noise, however heavy its tails, at any number
/// of rounds, because the test's distribution is exact; and where noise is normal it costs 5 % of
/// the rounds, where the median costs a third.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The median of the means of any two rounds' ratios, on the logarithmic scale.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Estimate {
    /// From one ratio a round. `None` if there are fewer than [`FEWEST_ROUNDS`]; what is not above
    /// zero is no ratio, and left out.
    pub fn of(ratios: &[f64]) -> Option<Self> {
        let ratios = ratios.iter().filter(|ratio| ratio.is_normal());
        let logs = ratios.filter(|&&ratio| ratio > 0.0).map(|ratio| ratio.ln());
        Self::of_differences(&logs.collect::<Vec<_>>()).map(Self::exp)
    }

    /// The same of differences, in whatever unit they have: the interval may reach below zero.
    pub fn of_differences(differences: &[f64]) -> Option<Self> {
        let finite = differences.iter().copied().filter(|it| it.is_finite());
        let finite: Vec<_> = finite.collect();
        let size = finite.len().div_ceil(MOST_ROUNDS).max(1);
        let groups = finite.chunks_exact(size);
        let values: Vec<_> = groups.map(super::mean).collect();
        if values.len() < FEWEST_ROUNDS {
            return None;
        }
        let averages = walsh_averages(&values);
        let outside = ranks_outside(values.len(), MISSES / 2.0);
        Some(Self {
            median: super::median(&averages),
            low: averages[outside],
            high: averages[averages.len() - 1 - outside],
        })
    }

    /// A median with the same distance to both ends, on the logarithmic scale.
    pub(crate) fn around(log: f64, reach: f64) -> Self {
        Self {
            median: log,
            low: log - reach,
            high: log + reach,
        }
        .exp()
    }

    pub(crate) fn exp(self) -> Self {
        let Self { median, low, high } = self;
        Self {
            median: median.exp(),
            low: low.exp(),
            high: high.exp(),
        }
    }

    /// Whether `value` is inside the interval.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// How far from 1 a true ratio has to be for a measurement as noisy as this one to show it
    /// four times out of five ([`POWER`]): 0.03 says "differences from 3 % on".
    ///
    /// That is the minimal detectable effect (Bloom, *Minimum Detectable Effects*, Evaluation
    /// Review 19, 1995): the interval's half width must be exceeded, and by as much more as the
    /// estimate may fall short in all but a fifth of the cases. What was measured does not enter,
    /// only its noise: "power" computed from the observed effect is the p-value in other words
    /// (Hoenig and Heisey, *The Abuse of Power*, The American Statistician 55, 2001).
    pub fn visible(&self) -> f64 {
        let normal = Normal::standard();
        let more = normal.inverse_cdf(POWER) / normal.inverse_cdf(1.0 - MISSES / 2.0);
        let reach = (self.high / self.low).ln() / 2.0;
        (reach * (1.0 + more)).exp() - 1.0
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A large ratio is known to fewer places.
        let show = |value: f64| match value {
            value if value >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.3}"),
        };
        let [median, low, high] = [self.median, self.low, self.high].map(show);
        write!(f, "{median} [{low}, {high}]")
    }
}

/// The means of any two of the values, and of each with itself, sorted.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let pairs = values.iter().enumerate();
    let mut averages: Vec<_> = pairs
        .flat_map(|(index, value)| {
            let others = values[index..].iter();
            others.map(move |other| f64::midpoint(*value, *other))
        })
        .collect();
    averages.sort_unstable_by(f64::total_cmp);
    averages
}

/// How many of the Walsh averages may be left out at each end, so that no more than `tail` of the
/// distribution of Wilcoxon's statistic is: its lower quantile.
fn ranks_outside(rounds: usize, tail: f64) -> usize {
    if rounds > EXACT_ROUNDS {
        let count = rounds as f64;
        let mean = count * (count + 1.0) / 4.0;
        let deviation = (mean * (2.0 * count + 1.0) / 6.0).sqrt();
        let quantile = Normal::standard().inverse_cdf(tail);
        return (mean + quantile * deviation - 0.5).max(0.0) as usize;
    }
    // Of all signs that the ranks 1, 2, … could have, each as likely, the part whose positive ranks
    // add up to so much.
    let mut chances = vec![1.0];
    for rank in 1..=rounds {
        let mut next = vec![0.0; chances.len() + rank];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += chance / 2.0;
            next[sum + rank] += chance / 2.0;
        }
        chances = next;
    }
    let mut below = 0.0;
    let is_tail = |chance: &&f64| {
        below += **chance;
        below <= tail
    };
    // The statistic is the number of averages above zero: if it is unlikely to be so small, that
    // many may be left out. Zero is among the values counted.
    chances.iter().take_while(is_tail).count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranks_are_those_of_the_tables() {
        // Hollander, Wolfe and Chicken, table A.4: the largest value with 2.5 % or less below.
        for (rounds, outside) in [(6, 0), (7, 2), (8, 3), (10, 8), (16, 29), (20, 52)] {
            assert_eq!(ranks_outside(rounds, 0.025), outside, "{rounds} rounds");
        }
        // No step where the exact distribution ends.
        let steps: Vec<_> = (48..54)
            .map(|rounds| ranks_outside(rounds, 0.025))
            .collect();
        assert!(
            steps
                .windows(2)
                .all(|pair| (14..=24).contains(&(pair[1] - pair[0]))),
            "{steps:?}"
        );
    }

    #[test]
    fn one_disturbed_round_moves_little() {
        let ratios = [0.99, 1.0, 1.01, 0.98, 1.02, 1.0, 0.99, 1.01];
        let quiet = Estimate::of(&ratios).unwrap();
        let disturbed = Estimate::of(&[&ratios[..7], &[9.0]].concat()).unwrap();
        assert!(
            (quiet.median - disturbed.median).abs() < 0.01,
            "{quiet} {disturbed}"
        );
    }

    #[test]
    fn too_few_rounds_say_nothing() {
        assert_eq!(Estimate::of(&[1.0; FEWEST_ROUNDS - 1]), None);
        let certain = Estimate::of(&[2.0; FEWEST_ROUNDS]).unwrap();
        assert!(certain.high - certain.low < 1e-12 && certain.covers(certain.median));
        // What is no ratio is no round.
        assert_eq!(
            Estimate::of(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, -1.0, f64::NAN]),
            None
        );
    }

    #[test]
    fn thousands_of_rounds_take_little_memory() {
        let ratios: Vec<_> = (0..60_000)
            .map(|round| 1.0 + f64::from(round % 7) / 100.0)
            .collect();
        let estimate = Estimate::of(&ratios).unwrap();
        assert!((estimate.median - 1.03).abs() < 0.001, "{estimate}");
    }

    #[test]
    fn both_runs_of_the_baseline_count_the_same() {
        assert_eq!(reference(4.0, Some(9.0)), 6.0);
        assert_eq!(reference(4.0, None), 4.0);
    }
}
