//! Whether the rounds are independent witnesses, as every interval takes them to be.
//!
//! Rounds of which each resembles the one before say less than their number; a ratio that drifts
//! has no one true value. Both show in the order of the ratios and in nothing else, so both are
//! tested against what other orders of the same ratios would show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FEWEST_ROUNDS;

/// How often the order is called remarkable though it is chance. Less than 5 %, for a restless
/// machine makes neighbours a little alike.
pub const FALSE_ALARMS: f64 = 0.04;

/// How many other orders are looked at, at most.
const ORDERS: u32 = 1999;

/// After so many that are as remarkable, none can be shown: the order is not.
const ENOUGH: u32 = 80;

/// What is remarkable about the order of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dependence {
    /// The ratio rises or falls from the first round to the last.
    Drift,
    /// Rounds resemble the one before.
    Alike,
    /// Rounds differ from the one before more than from others: they alternate.
    Alternate,
}

impl Dependence {
    /// Looks for it in one ratio a round, in the order in which they were measured, as one of
    /// `among` series of which none is to raise a false alarm. `None` if there is none to be seen,
    /// which is no proof where there are few rounds or many series.
    ///
    /// Two statistics of the ranks, each divided by its standard deviation: Spearman's correlation
    /// with the number of the round, and the sum of the products of neighbours, which is von
    /// Neumann's ratio of the ranks (Bartels, *The Rank Version of von Neumann's Ratio Test for
    /// Randomness*, JASA 77, 1982) but for its ends. The larger is compared with the larger of the
    /// two in random orders, which holds the rate of false alarms for both together (Westfall and
    /// Young, *Resampling-Based Multiple Testing*, 1993), with any noise; the drawing stops when it
    /// is clear (Besag and Clifford, *Sequential Monte Carlo p-Values*, Biometrika 78, 1991).
    ///
    /// What it cannot see: anything but the plainest drift in fewer than ten rounds, and what
    /// comes and goes with a period of about four rounds, whose neighbours are neither alike nor
    /// unlike.
    pub fn of(ratios: &[f64], among: usize) -> Option<Self> {
        let mut ranks = centered_ranks(ratios);
        let is_constant = ranks.iter().all(|&rank| rank == 0.0);
        if ratios.len() < FEWEST_ROUNDS || is_constant {
            return None;
        }
        let measured = Order::of(&ranks);
        let mut random = fastrand::Rng::with_seed(1);
        let mut as_remarkable = 1;
        let mut looked = 1;
        while looked <= ORDERS && as_remarkable < ENOUGH {
            random.shuffle(&mut ranks);
            looked += 1;
            // Other orders may come to the same sum by other roundings.
            if Order::of(&ranks).remarkable() >= measured.remarkable() - 1e-9 {
                as_remarkable += 1;
            }
        }
        let probability = f64::from(as_remarkable) / f64::from(looked);
        (probability <= FALSE_ALARMS / among.max(1) as f64).then(|| measured.what())
    }
}

/// What an order shows, in standard deviations.
struct Order {
    trend: f64,
    serial: f64,
}

impl Order {
    fn of(ranks: &[f64]) -> Self {
        let count = ranks.len() as f64;
        let middle = (count - 1.0) / 2.0;
        let squares: f64 = ranks.iter().map(|rank| rank * rank).sum();
        let positions = count * (count * count - 1.0) / 12.0;
        let rounds = ranks.iter().enumerate();
        let along = rounds.map(|(round, rank)| rank * (round as f64 - middle));
        let neighbours = ranks.windows(2).map(|pair| pair[0] * pair[1]);
        let trend = along.sum::<f64>() / (squares * positions).sqrt();
        let serial = neighbours.sum::<f64>() / squares;
        // Wald and Wolfowitz, An Exact Test for Randomness in the Non-Parametric Case Based on
        // Serial Correlation, Annals of Mathematical Statistics 14, 1943: the mean exactly, the
        // variance to the first order, which the comparison with other orders makes good.
        Self {
            trend: trend * (count - 1.0).sqrt(),
            serial: (serial + 1.0 / count) * count.sqrt(),
        }
    }

    fn remarkable(&self) -> f64 {
        self.trend.abs().max(self.serial.abs())
    }

    fn what(&self) -> Dependence {
        if self.trend.abs() >= self.serial.abs() {
            Dependence::Drift
        } else if self.serial > 0.0 {
            Dependence::Alike
        } else {
            Dependence::Alternate
        }
    }
}

/// For each value its rank, counted from the middle one; equal values share theirs.
fn centered_ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let less = values.iter().filter(|other| *other < value).count();
        let greater = values.iter().filter(|other| *other > value).count();
        (less as f64 - greater as f64) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_from_the_others() {
        let of = |value: fn(u8) -> f64| {
            let ratios: Vec<_> = (0..16).map(value).collect();
            Dependence::of(&ratios, 1)
        };
        assert_eq!(of(f64::from), Some(Dependence::Drift));
        assert_eq!(
            of(|round| -f64::from(round).powi(3)),
            Some(Dependence::Drift)
        );
        let hill = of(|round| (f64::from(round) / 5.0).sin());
        assert_eq!(hill, Some(Dependence::Alike));
        let turns = of(|round| f64::from(round % 2) + f64::from(round * 7 % 16) / 99.0);
        assert_eq!(turns, Some(Dependence::Alternate));
        assert_eq!(of(|_| 1.0), None);
        assert_eq!(of(|round| f64::from(round * 7 % 16)), None);
    }

    #[test]
    fn among_many_series_only_the_plainest_is_called() {
        let drift = [1.0, 1.1, 1.3, 1.2, 1.15, 1.4, 1.25, 1.5];
        assert_eq!(Dependence::of(&drift, 1), Some(Dependence::Drift));
        assert_eq!(Dependence::of(&drift, 30), None);
        let plain: Vec<_> = (0..16).map(f64::from).collect();
        assert!(Dependence::of(&drift, 1).is_some() || Dependence::of(&drift, 100).is_none());
        assert_eq!(Dependence::of(&plain, 30), Some(Dependence::Drift));
    }
}
