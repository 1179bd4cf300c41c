//! What differs from one run of the whole comparison to the next.
//!
//! A build, an order of allocations, a placement in caches: some of what a measurement depends on
//! is drawn once for an invocation, and all its rounds have it in common. Their interval knows
//! nothing of it, and is too narrow for anything said of the server rather than of that invocation
//! (Kalibera and Jones, *Rigorous Benchmarking in Reasonable Time*, ISMM 2013; Mytkowicz et al.,
//! *Producing Wrong Data Without Doing Anything Obviously Wrong*, ASPLOS 2009).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, MISSES};
use super::{Verdict, mean, student, variance};

/// What several invocations come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Invocations {
    /// How many.
    pub invocations: usize,
    /// The ratio, with an interval that holds for an invocation not made yet, too.
    pub estimate: Estimate,
    /// The standard deviation of the true ratio from one invocation to the next, as a part of it:
    /// 0.02 is 2 %. Zero if the rounds explain all that differs.
    pub between: f64,
}

impl Invocations {
    /// From the estimate of each. `None` from fewer than two.
    ///
    /// Random effects (Higgins, Thompson and Spiegelhalter, *A Re-evaluation of Random-Effects
    /// Meta-Analysis*, JRSS A 172, 2009) with the same weight for each, for all have as many rounds:
    /// then the interval by Hartung, Knapp, Sidik and Jonkman is Student's on the logarithms of the
    /// estimates, with one degree of freedom fewer than there are invocations.
    pub fn of(estimates: &[Estimate]) -> Option<Self> {
        let count = estimates.len() as f64;
        if estimates.len() < 2 {
            return None;
        }
        let logs = logs(estimates);
        let reach = quantile(count - 1.0) * (variance(&logs) / count).sqrt();
        // By moments, as DerSimonian and Laird have it.
        let within: Vec<_> = estimates.iter().map(|it| error(it).powi(2)).collect();
        let between = (variance(&logs) - mean(&within)).max(0.0).sqrt();
        Some(Self {
            invocations: estimates.len(),
            estimate: Estimate::around(mean(&logs), reach),
            between: between.exp_m1(),
        })
    }
}

/// What can be said of two measurements of the same, of which each had its own invocations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Change {
    /// There were invocations enough to know how much they differ without any change.
    Judged {
        /// The ratio now divided by the ratio then, with the variation between invocations in its
        /// interval.
        quotient: Estimate,
        /// What it says.
        verdict: Verdict,
    },
    /// One invocation each: whether they differ by more than two invocations of the same do is
    /// anybody's guess.
    CannotTell {
        /// The ratio now divided by the ratio then. Its interval has the variation between rounds
        /// only, which is not enough to judge by.
        quotient: Estimate,
    },
}

impl Change {
    /// From the estimates of each invocation now and then. `None` if either has none.
    ///
    /// Student's test of two samples with a common variance, on the logarithms: the machine is the
    /// same, or nothing should be compared, and a common variance has the degrees of freedom of
    /// both. One invocation on either side is enough if the other has two or more.
    pub fn of(now: &[Estimate], then: &[Estimate]) -> Option<Self> {
        let (logs_now, logs_then) = (logs(now), logs(then));
        let (count, earlier) = (now.len() as f64, then.len() as f64);
        if now.is_empty() || then.is_empty() {
            return None;
        }
        let difference = mean(&logs_now) - mean(&logs_then);
        let freedom = count + earlier - 2.0;
        if freedom < 1.0 {
            let reach = quantile(f64::INFINITY) * error(&now[0]).hypot(error(&then[0]));
            let quotient = Estimate::around(difference, reach);
            return Some(Self::CannotTell { quotient });
        }
        let squares = |logs: &[f64]| match logs.len() {
            1 => 0.0,
            count => variance(logs) * (count as f64 - 1.0),
        };
        let common = (squares(&logs_now) + squares(&logs_then)) / freedom;
        let reach = quantile(freedom) * (common * (1.0 / count + 1.0 / earlier)).sqrt();
        let quotient = Estimate::around(difference, reach);
        Some(Self::Judged {
            quotient,
            verdict: Verdict::of(&quotient),
        })
    }

    /// The ratio now divided by the ratio then.
    pub fn quotient(&self) -> &Estimate {
        match self {
            Self::Judged { quotient, .. } | Self::CannotTell { quotient } => quotient,
        }
    }
}

fn logs(estimates: &[Estimate]) -> Vec<f64> {
    estimates.iter().map(|it| it.median.ln()).collect()
}

/// The standard error of an estimate's logarithm, as its interval tells it.
fn error(estimate: &Estimate) -> f64 {
    (estimate.high / estimate.low).ln() / 2.0 / quantile(f64::INFINITY)
}

/// How many standard errors an interval reaches.
fn quantile(freedom: f64) -> f64 {
    student(1.0 - MISSES / 2.0, freedom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(ratios: &[f64]) -> Vec<Estimate> {
        let ratios = ratios.iter();
        ratios
            .map(|ratio| Estimate::around(ratio.ln(), 0.01))
            .collect()
    }

    #[test]
    fn invocations_that_differ_widen_the_interval() {
        let alike = Invocations::of(&around(&[0.90, 0.901, 0.899])).unwrap();
        assert!(alike.estimate.high < 0.91, "{alike:?}");
        assert_eq!(alike.between, 0.0);
        let unlike = Invocations::of(&around(&[0.86, 0.90, 0.94])).unwrap();
        assert!(unlike.estimate.low < 0.82, "{unlike:?}");
        assert!((0.03..0.05).contains(&unlike.between), "{unlike:?}");
        assert_eq!(Invocations::of(&around(&[0.9])), None);
    }

    #[test]
    fn one_invocation_each_cannot_tell_a_change() {
        let change = Change::of(&around(&[0.9]), &around(&[1.1])).unwrap();
        assert!(matches!(change, Change::CannotTell { .. }), "{change:?}");
        assert!(change.quotient().high < 0.84, "{change:?}");
    }

    #[test]
    fn a_change_is_measured_by_what_differs_without_one() {
        let then = around(&[1.00, 1.02, 0.98]);
        let verdict = |now: &[f64]| match Change::of(&around(now), &then) {
            Some(Change::Judged { verdict, .. }) => Some(verdict),
            _ => None,
        };
        assert_eq!(verdict(&[0.80, 0.82, 0.81]), Some(Verdict::Better));
        assert_eq!(
            verdict(&[0.97, 1.01, 1.03]),
            Some(Verdict::NoDifferenceShown)
        );
        assert_eq!(verdict(&[1.03]), Some(Verdict::NoDifferenceShown));
        assert_eq!(verdict(&[1.3]), Some(Verdict::Worse));
        assert_eq!(verdict(&[]), None);
    }
}
