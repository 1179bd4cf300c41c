//! What a ratio to the baseline says, and what the baseline's ratio to itself does.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Estimate;

/// How far the baseline's ratio to itself may be from 1, in either direction, for two servers to
/// count as equal.
pub const MARGIN: f64 = 0.03;

/// What a ratio to the baseline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Better than the baseline.
    Better,
    /// Worse than the baseline.
    Worse,
    /// The measurement does not tell them apart, which does not say that they are equal.
    NoDifferenceShown,
}

impl Verdict {
    /// Judges a ratio of which less is better: a difference is shown if the interval excludes 1.
    pub fn of(ratio: &Estimate) -> Self {
        if ratio.high < 1.0 {
            Self::Better
        } else if ratio.low > 1.0 {
            Self::Worse
        } else {
            Self::NoDifferenceShown
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifferenceShown => "no difference shown",
        })
    }
}

/// What the baseline's ratio to itself says of the comparison.
///
/// This is a test of equivalence, by inclusion of the interval (Schuirmann, *A Comparison of the Two
/// One-Sided Tests Procedure*, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987): that no
/// difference is shown between two equals proves nothing if none could have been. It vetoes no
/// verdict, whose interval has the noise in it already. Nor is it alarmed by each interval that
/// happens to exclude 1, as one in twenty does: a report has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Null {
    /// Two equals came out equal: the interval is within [`MARGIN`] of 1.
    Equivalent,
    /// The interval reaches beyond that, and has some of it: too noisy to say.
    NotShown,
    /// The interval is beyond [`MARGIN`]: something other than the server makes a difference.
    Differs,
}

impl Null {
    /// Judges the ratio of the baseline's second run to its first.
    pub fn of(ratio: &Estimate) -> Self {
        // In logarithms the same distance either way.
        let (least, most) = (1.0 / (1.0 + MARGIN), 1.0 + MARGIN);
        if ratio.low >= least && ratio.high <= most {
            Self::Equivalent
        } else if ratio.high < least || ratio.low > most {
            Self::Differs
        } else {
            Self::NotShown
        }
    }
}

impl fmt::Display for Null {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equivalent => "equivalent",
            Self::NotShown => "too noisy to be shown equivalent",
            Self::Differs => "differs from itself",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(low: f64, high: f64) -> Estimate {
        let median = f64::midpoint(low, high);
        Estimate { median, low, high }
    }

    #[test]
    fn a_difference_is_shown_if_the_interval_excludes_1() {
        assert_eq!(Verdict::of(&estimate(0.90, 0.99)), Verdict::Better);
        assert_eq!(Verdict::of(&estimate(1.01, 1.10)), Verdict::Worse);
        for (low, high) in [(0.99, 1.01), (1.0, 1.1), (0.9, 1.0)] {
            let verdict = Verdict::of(&estimate(low, high));
            assert_eq!(verdict, Verdict::NoDifferenceShown, "[{low}, {high}]");
        }
    }

    #[test]
    fn equals_are_equivalent_only_if_a_difference_could_have_been_seen() {
        assert_eq!(Null::of(&estimate(0.98, 1.02)), Null::Equivalent);
        // Small, however sure it is.
        assert_eq!(Null::of(&estimate(1.01, 1.02)), Null::Equivalent);
        assert_eq!(Null::of(&estimate(0.9, 1.1)), Null::NotShown);
        assert_eq!(Null::of(&estimate(1.01, 1.05)), Null::NotShown);
        assert_eq!(Null::of(&estimate(1.04, 1.05)), Null::Differs);
        assert_eq!(Null::of(&estimate(0.90, 0.95)), Null::Differs);
    }
}
