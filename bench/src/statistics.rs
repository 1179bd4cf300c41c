//! What a series of measurements allows to be said.
//!
//! The machine's speed drifts by tens of per cent within minutes, so nothing is ever said about a
//! single figure. Contenders take turns; in each round a contender's figure is divided by the
//! baseline's of the same round, which cancels what both had to suffer; and of these ratios the
//! median is taken, which no single disturbed round can move, with an interval by the bootstrap
//! (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13), which assumes
//! nothing about how the noise is distributed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the bootstrap draws.
const RESAMPLES: usize = 2000;

/// What an interval leaves out at each end, in a hundred: 95 % are inside.
const TAIL: f64 = 2.5;

/// The fewest rounds from which anything is concluded: the median of fewer has no interval of 95 %.
pub const FEWEST_ROUNDS: usize = 6;

/// More rounds than these would be another measurement.
const MOST_ROUNDS: f64 = 10_000.0;

/// The median; of an even number the mean of the middle two. Zero of none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if below.len() > middle.saturating_sub(1) && !values.len().is_multiple_of(2) {
        return upper;
    }
    let lower = values[..middle].iter().copied().max_by(f64::total_cmp);
    lower.map_or(upper, |lower| f64::midpoint(lower, upper))
}

/// A median, and where the true one is with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The median of what was measured.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Estimate {
    /// From one value a round. `None` if there are fewer than [`FEWEST_ROUNDS`].
    pub fn of(values: &[f64]) -> Option<Self> {
        Self::by(values.len(), |picked| {
            let resample: Vec<_> = picked.iter().map(|&index| values[index]).collect();
            median(&resample)
        })
    }

    /// The quotient of the medians of two series that were not measured in the same rounds.
    pub fn of_quotient(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let mut random = fastrand::Rng::with_seed(2);
        let length = denominators.len();
        (length >= FEWEST_ROUNDS).then_some(())?;
        let estimate = Self::by(numerators.len(), |picked| {
            let above: Vec<_> = picked.iter().map(|&index| numerators[index]).collect();
            let below: Vec<_> = (0..length)
                .map(|_| denominators[random.usize(..length)])
                .collect();
            median(&above) / median(&below)
        })?;
        Some(Self {
            median: median(numerators) / median(denominators),
            ..estimate
        })
    }

    /// By drawing rounds with replacement; the first draw is all of them, once each.
    fn by(rounds: usize, mut statistic: impl FnMut(&[usize]) -> f64) -> Option<Self> {
        if rounds < FEWEST_ROUNDS {
            return None;
        }
        // The same data always give the same interval.
        let mut random = fastrand::Rng::with_seed(1);
        let mut picked: Vec<_> = (0..rounds).collect();
        let median = statistic(&picked);
        let mut medians: Vec<_> = (0..RESAMPLES)
            .map(|_| {
                picked.fill_with(|| random.usize(..rounds));
                statistic(&picked)
            })
            .collect();
        medians.sort_unstable_by(f64::total_cmp);
        let tail = (RESAMPLES as f64 * TAIL / 100.0) as usize;
        Some(Self {
            median,
            low: medians[tail],
            high: medians[RESAMPLES - 1 - tail],
        })
    }

    /// Whether `value` is inside the interval.
    pub fn covers(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
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

/// What a ratio to the baseline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Better than the baseline.
    Faster,
    /// Worse than the baseline.
    Slower,
    /// The measurement does not tell them apart, which does not say that they are equal.
    NoDifferenceShown,
}

impl Verdict {
    /// Judges a ratio of which less is better.
    ///
    /// A difference is shown if the interval excludes 1 and the median is further from 1 than the
    /// interval of `null` reaches, the baseline measured against itself in the same rounds: what
    /// appears between two equal servers proves nothing about different ones.
    pub fn of(ratio: &Estimate, null: Option<&Estimate>) -> Self {
        let (low, high) = null.map_or((1.0, 1.0), |null| (null.low.min(1.0), null.high.max(1.0)));
        if ratio.high < 1.0 && ratio.median < low {
            Self::Faster
        } else if ratio.low > 1.0 && ratio.median > high {
            Self::Slower
        } else {
            Self::NoDifferenceShown
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifferenceShown => "no difference shown",
        })
    }
}

/// How many more rounds would settle a ratio that `rounds` have not: would make the interval as
/// narrow as the effect is large, if that is what it seems. `None` if the interval excludes 1
/// already, or if it would take thousands.
pub fn rounds_to_settle(ratio: &Estimate, rounds: usize) -> Option<usize> {
    if !ratio.covers(1.0) {
        return None;
    }
    let effect = (ratio.median - 1.0).abs();
    // The side that reaches over 1.
    let reach = if ratio.median < 1.0 {
        ratio.high - ratio.median
    } else {
        ratio.median - ratio.low
    };
    // An interval narrows with the square root of the number of rounds.
    let needed = rounds as f64 * (reach / effect).powi(2);
    (needed < MOST_ROUNDS).then(|| (needed.ceil() as usize).saturating_sub(rounds).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise as it is here: some per cent either way, and now and then a disturbed round.
    fn noisy(random: &mut fastrand::Rng) -> f64 {
        // Twelve uniform numbers make a normal one.
        let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let disturbance = if random.u8(..100) < 5 {
            0.3 * random.f64()
        } else {
            0.0
        };
        (0.02 * normal + disturbance).exp()
    }

    /// Ratios of `rounds` rounds between two servers of which one takes `effect` times as long.
    fn ratios(random: &mut fastrand::Rng, rounds: usize, effect: f64) -> Vec<f64> {
        (0..rounds)
            .map(|_| {
                // What both have to suffer.
                let machine = 0.6 + random.f64();
                effect * machine * noisy(random) / (machine * noisy(random))
            })
            .collect()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), 6.0);
    }

    #[test]
    fn the_interval_covers_the_truth_in_95_of_100_null_runs() {
        for rounds in [10, 16] {
            let mut random = fastrand::Rng::with_seed(rounds as u64);
            let covered = (0..1000)
                .filter(|_| {
                    let estimate = Estimate::of(&ratios(&mut random, rounds, 1.0));
                    estimate.is_some_and(|estimate| estimate.covers(1.0))
                })
                .count();
            println!("{rounds} rounds: {covered} of 1000");
            assert!(
                (920..=980).contains(&covered),
                "{rounds} rounds: {covered} of 1000"
            );
        }
    }

    #[test]
    fn an_effect_of_5_per_cent_is_found() {
        let mut random = fastrand::Rng::with_seed(5);
        for (effect, verdict) in [(0.95, Verdict::Faster), (1.05, Verdict::Slower)] {
            let found = (0..500)
                .filter(|_| {
                    let null = Estimate::of(&ratios(&mut random, 16, 1.0));
                    let ratio = Estimate::of(&ratios(&mut random, 16, effect)).unwrap();
                    Verdict::of(&ratio, null.as_ref()) == verdict
                })
                .count();
            println!("{effect}: {found} of 500");
            assert!(found >= 475, "{effect}: {found} of 500");
        }
    }

    #[test]
    fn no_effect_is_not_called_one() {
        let mut random = fastrand::Rng::with_seed(0);
        let called = (0..1000)
            .filter(|_| {
                let null = Estimate::of(&ratios(&mut random, 16, 1.0));
                let ratio = Estimate::of(&ratios(&mut random, 16, 1.0)).unwrap();
                Verdict::of(&ratio, null.as_ref()) != Verdict::NoDifferenceShown
            })
            .count();
        println!("{called} of 1000");
        assert!(called <= 50, "{called} of 1000");
    }

    #[test]
    fn rounds_that_would_settle_it_grow_with_the_square() {
        let estimate = |median, low, high| Estimate { median, low, high };
        // Twice as wide as the effect: four times the rounds.
        assert_eq!(rounds_to_settle(&estimate(0.98, 0.94, 1.02), 10), Some(30));
        assert_eq!(rounds_to_settle(&estimate(1.02, 0.98, 1.06), 10), Some(30));
        assert_eq!(rounds_to_settle(&estimate(0.98, 0.97, 0.99), 10), None);
        assert_eq!(rounds_to_settle(&estimate(1.0, 0.97, 1.03), 10), None);
    }

    #[test]
    fn too_few_rounds_say_nothing() {
        assert_eq!(Estimate::of(&[1.0; FEWEST_ROUNDS - 1]), None);
        assert!(Estimate::of(&[1.0; FEWEST_ROUNDS]).is_some());
    }

    #[test]
    fn a_quotient_of_two_series_has_an_interval_of_its_own() {
        let mut random = fastrand::Rng::with_seed(7);
        let covered = (0..1000)
            .filter(|_| {
                let above = ratios(&mut random, 16, 0.9);
                let below = ratios(&mut random, 16, 1.0);
                Estimate::of_quotient(&above, &below).unwrap().covers(0.9)
            })
            .count();
        println!("{covered} of 1000");
        assert!((920..=990).contains(&covered), "{covered} of 1000");
    }
}
