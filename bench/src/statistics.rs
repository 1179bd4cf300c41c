//! What a series of measurements allows to be said.
//!
//! The machine's speed drifts by tens of per cent within minutes, so nothing is ever said about a
//! single figure. Contenders take turns; in each round a contender's figure is divided by the
//! [`reference`](fn@reference) of that round, which is what the baseline did in it, twice; that
//! cancels what all had to suffer.
//!
//! - [`estimate`]: what these ratios come to, with an interval, and what would have been seen.
//! - [`verdict`]: what that says, and whether two equals came out equal.
//! - [`dependence`]: whether the rounds are the independent witnesses that the interval takes them
//!   for.
//! - [`invocations`]: what differs from one run of the whole comparison to the next, which no number
//!   of rounds within one can show.
//! - [`tails`]: percentiles of the latencies of all rounds.
//! - [`search`]: the highest rate that keeps a promise.
//! - [`simulation`]: how good all this is, where the truth is known. `cargo bench -p
//!   ringlab-bench --bench method` prints its tables.

pub mod dependence;
pub mod estimate;
pub mod invocations;
#[cfg(test)]
mod properties;
pub mod search;
pub mod simulation;
pub mod tails;
pub mod verdict;

pub use estimate::{Estimate, FEWEST_ROUNDS, reference};
pub use verdict::{Null, Verdict};

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

/// The mean; not a number of none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The variance of a sample: the sum of squares over one less than their number.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean).powi(2));
    squares.sum::<f64>() / (values.len() as f64 - 1.0)
}

/// The quantile of Student's t distribution with so many degrees of freedom.
pub(crate) fn student(probability: f64, freedom: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
    if freedom.is_infinite() {
        return Normal::standard().inverse_cdf(probability);
    }
    // Refused without a degree of freedom: then anything is possible.
    StudentsT::new(0.0, 1.0, freedom)
        .map_or(f64::INFINITY, |student| student.inverse_cdf(probability))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), 6.0);
    }

    #[test]
    fn quantiles_of_student_are_those_of_the_tables() {
        for (probability, freedom, quantile) in [
            (0.975, 2.0, 4.3027),
            (0.975, 15.0, 2.1314),
            (0.8, 7.0, 0.8960),
            (0.975, f64::INFINITY, 1.9600),
        ] {
            let found = student(probability, freedom);
            assert!((found - quantile).abs() < 1e-3, "{found}, not {quantile}");
        }
        assert_eq!(student(0.975, 0.0), f64::INFINITY);
    }
}
