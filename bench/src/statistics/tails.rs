//! Percentiles of the latencies of all rounds.
//!
//! The p99 of a round is decided by its few worst moments, so the median of the rounds' p99 says
//! how a good round ends, not what one request in a hundred has to wait. Here the rounds' histograms
//! are one, and the interval comes from drawing rounds: what stalls, stalls a round's requests
//! together, so requests are no independent witnesses, but rounds are.

use hdrhistogram::Histogram;

use super::estimate::{Estimate, MISSES};
use super::{FEWEST_ROUNDS, student};
use statrs::distribution::{ContinuousCDF, Normal};

/// How often the bootstrap draws.
const RESAMPLES: usize = 2000;

/// How far the null contender's interval may reach from 1 for a percentile to be judged by.
pub const JUDGED_WITHIN: f64 = 0.2;

/// The percentiles that may be judged by, from the one that says most.
pub const QUANTILES: [f64; 3] = [0.99, 0.9, 0.5];

/// The highest of [`QUANTILES`] of which the null contender's ratio has an interval within
/// [`JUDGED_WITHIN`]: above it, the comparison does not know equals for equals. `nulls` has that
/// ratio for each.
pub fn judged(nulls: [Option<Estimate>; 3]) -> Option<f64> {
    let reach = 1.0 + JUDGED_WITHIN;
    let is_steady = |null: &Estimate| null.low >= 1.0 / reach && null.high <= reach;
    let steady = |(quantile, null): (f64, Option<Estimate>)| {
        null.as_ref().is_some_and(is_steady).then_some(quantile)
    };
    QUANTILES.into_iter().zip(nulls).find_map(steady)
}

/// The latencies of some rounds, ready to be asked for the quantile of any choice of them.
#[derive(Debug, Clone)]
pub struct Tails {
    /// All values that were recorded in any round.
    values: Vec<u64>,
    /// For each round, and each of these values, how many of its latencies were at most that.
    up_to: Vec<Vec<u64>>,
}

impl Tails {
    /// From one histogram a round.
    pub fn of(rounds: &[Histogram<u64>]) -> Self {
        let mut values: Vec<_> = rounds
            .iter()
            .flat_map(|round| round.iter_recorded().map(|it| it.value_iterated_to()))
            .collect();
        values.sort_unstable();
        values.dedup();
        let up_to = rounds.iter().map(|round| {
            let mut recorded = round.iter_recorded().peekable();
            let mut count = 0;
            let below = |&value: &u64| {
                while let Some(it) = recorded.next_if(|it| it.value_iterated_to() <= value) {
                    count += it.count_at_value();
                }
                count
            };
            values.iter().map(below).collect()
        });
        Self {
            up_to: up_to.collect(),
            values,
        }
    }

    /// The quantile of the rounds with these numbers together, as
    /// [`Histogram::value_at_quantile`] has it. `None` if nothing was recorded.
    pub fn quantile(&self, quantile: f64, rounds: &[usize]) -> Option<u64> {
        let up_to = |index: usize| -> u64 {
            let rounds = rounds.iter();
            rounds.map(|&round| self.up_to[round][index]).sum()
        };
        let all = up_to(self.values.len().checked_sub(1)?);
        let wanted = ((all as f64 * quantile).ceil() as u64).max(1);
        let (mut from, mut to) = (0, self.values.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if up_to(middle) < wanted {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        self.values.get(from).copied()
    }

    /// The ratio of this quantile to that of `others`, of which each round belongs to the round of
    /// the same number here. `None` if there are fewer than [`FEWEST_ROUNDS`], or nothing in them.
    ///
    /// The bootstrap draws whole rounds, the same of both, so that what disturbed a round of both
    /// still cancels, and takes percentiles that are as much further out as Student's are than the
    /// normal ones: as they are, they are too narrow with few rounds (Hesterberg, *What Teachers
    /// Should Know About the Bootstrap*, The American Statistician 69, 2015, section 4.2).
    pub fn ratio(&self, others: &Self, quantile: f64) -> Option<Estimate> {
        let count = self.up_to.len().min(others.up_to.len());
        if count < FEWEST_ROUNDS {
            return None;
        }
        let ratio = |rounds: &[usize]| {
            let value = self.quantile(quantile, rounds)?;
            let other = others.quantile(quantile, rounds)?;
            (other > 0).then(|| value as f64 / other as f64)
        };
        // The same data always give the same interval.
        let mut random = fastrand::Rng::with_seed(1);
        let mut rounds: Vec<_> = (0..count).collect();
        let median = ratio(&rounds)?;
        let mut draw = || {
            rounds.fill_with(|| random.usize(..count));
            ratio(&rounds)
        };
        let mut ratios: Vec<_> = (0..RESAMPLES).filter_map(|_| draw()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let last = ratios.len().checked_sub(1)?;
        let outside = (tail(count) * last as f64) as usize;
        Some(Estimate {
            median,
            low: ratios[outside].min(median),
            high: ratios[last - outside].max(median),
        })
    }
}

/// What the bootstrap leaves out at each end.
fn tail(rounds: usize) -> f64 {
    let rounds = rounds as f64;
    let reach = student(MISSES / 2.0, rounds - 1.0) * (rounds / (rounds - 1.0)).sqrt();
    Normal::standard().cdf(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies of a few hundred microseconds, in nanoseconds, of which one in `rare` is ten times
    /// as long.
    fn round(random: &mut fastrand::Rng, slower: f64, rare: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        for _ in 0..5000 {
            let stall = if random.u64(..rare) == 0 { 10.0 } else { 1.0 };
            let latency = slower * stall * (200_000.0 + 100_000.0 * random.f64());
            histogram.record(latency as u64).unwrap();
        }
        histogram
    }

    #[test]
    fn quantiles_are_those_of_the_histograms_added_up() {
        let mut random = fastrand::Rng::with_seed(1);
        let rounds: Vec<_> = (1..9).map(|it| round(&mut random, 1.0, 40 * it)).collect();
        let tails = Tails::of(&rounds);
        let picked = [0, 0, 3, 7, 7, 7];
        let mut sum = Histogram::<u64>::new(3).unwrap();
        for index in picked {
            sum.add(&rounds[index]).unwrap();
        }
        for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let found = tails.quantile(quantile, &picked).unwrap();
            let expected = sum.value_at_quantile(quantile);
            assert!(
                sum.equivalent(found, expected),
                "{quantile}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn a_server_that_is_slower_in_every_round_is_called_slower() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut rounds = |slower| -> Tails {
            let rounds: Vec<_> = (0..16).map(|_| round(&mut random, slower, 60)).collect();
            Tails::of(&rounds)
        };
        let (baseline, slower) = (rounds(1.0), rounds(1.3));
        for quantile in QUANTILES {
            let ratio = slower.ratio(&baseline, quantile).unwrap();
            assert!(ratio.low > 1.15 && ratio.high < 1.45, "{quantile}: {ratio}");
        }
    }

    #[test]
    fn the_highest_percentile_that_knows_equals_is_judged() {
        let around = |reach| Some(Estimate::around(0.0, reach));
        assert_eq!(judged([around(0.1), around(0.1), around(0.1)]), Some(0.99));
        assert_eq!(judged([around(0.3), around(0.1), around(0.1)]), Some(0.9));
        assert_eq!(judged([None, around(0.3), around(0.1)]), Some(0.5));
        assert_eq!(judged([around(0.3), around(0.3), None]), None);
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        let empty = Tails::of(&vec![Histogram::new(3).unwrap(); 8]);
        assert_eq!(empty.quantile(0.5, &[0, 1]), None);
        assert_eq!(empty.ratio(&empty, 0.5), None);
        assert_eq!(Tails::of(&[]).ratio(&empty, 0.5), None);
    }
}
