//! How good the statistics are, where the truth is known.
//!
//! A [`Machine`] makes up the rounds of a comparison: the speed of the machine, which all runs of a
//! time have in common, and noise of each run's own. [`experiments`] asks of many such comparisons
//! how often the intervals have the truth in them, how often a difference is called that is not
//! there, and how often one is found that is. The tests hold that to bounds; `cargo bench -p
//! ringlab-bench --bench method` prints all of it. [`candidates`] are the intervals that were not
//! chosen.

pub mod candidates;
pub mod experiments;

use fastrand::Rng;

use super::reference;

/// Runs in a round: the baseline, three contenders, the null contender.
const TURNS: usize = 5;

/// The turn of the contender that is looked at: next to the baseline, where drift within a round
/// hurts most.
const TURN: usize = 1;

/// What the noise is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Each run for itself, normal on the logarithmic scale.
    Lognormal,
    /// Each run for itself, Student's t with three degrees of freedom, of the same variance.
    HeavyTailed,
    /// Lognormal, and one run in twenty is disturbed: up to 30 % slower, never faster.
    Disturbed,
    /// Lognormal, and the machine's speed changes by a tenth, each run's being 0.95 of the one
    /// before and 0.05 new (AR(1)).
    Restless,
    /// Lognormal, and the machine becomes slower by 30 % from the first round to the last, within
    /// rounds, too.
    Slowing,
    /// Normal noise of the contender's own that lasts: a third of each round's is the one before's.
    /// No interval over rounds can know; [`Dependence`](super::dependence::Dependence) may.
    Lasting,
}

impl Noise {
    /// All that the interval is made for.
    pub const BEARABLE: [Self; 5] = [
        Self::Lognormal,
        Self::HeavyTailed,
        Self::Disturbed,
        Self::Restless,
        Self::Slowing,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lognormal => "lognormal",
            Self::HeavyTailed => "heavy tails",
            Self::Disturbed => "disturbed",
            Self::Restless => "restless machine",
            Self::Slowing => "slowing machine",
            Self::Lasting => "lasting",
        }
    }
}

/// A machine on which comparisons are made.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// What its noise is like.
    pub noise: Noise,
    /// The standard deviation of a run's own noise: 0.05 is 5 %.
    pub deviation: f64,
}

/// What a round has measured.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// The baseline's time.
    pub baseline: f64,
    /// The contender's.
    pub contender: f64,
    /// The baseline's, once more.
    pub null: f64,
}

impl Round {
    /// The contender's ratio to both runs of the baseline.
    pub fn ratio(&self) -> f64 {
        self.contender / reference(self.baseline, Some(self.null))
    }

    /// The null contender's.
    pub fn null_ratio(&self) -> f64 {
        self.null / self.baseline
    }
}

impl Machine {
    /// A comparison of so many rounds, in which the contender takes `effect` times as long.
    pub fn compare(&self, random: &mut Rng, rounds: usize, effect: f64) -> Vec<Round> {
        let mut speed = 0.1 * normal(random);
        let mut lasting = normal(random);
        let mut compared = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let mut times = [0.0; TURNS];
            for turn in 0..TURNS {
                // Every second round backwards.
                let who = [turn, TURNS - 1 - turn][round % 2];
                speed = match self.noise {
                    Noise::Restless => {
                        0.95 * speed + 0.1 * (1.0_f64 - 0.95 * 0.95).sqrt() * normal(random)
                    }
                    Noise::Slowing => 0.3 * (round * TURNS + turn) as f64 / (rounds * TURNS) as f64,
                    _ if turn == 0 => 0.1 * normal(random),
                    _ => speed,
                };
                times[who] = speed + self.run(random);
            }
            if self.noise == Noise::Lasting {
                let kept: f64 = 1.0 / 3.0;
                lasting = kept * lasting + (1.0 - kept * kept).sqrt() * normal(random);
                // As much as two runs differ otherwise, so that it is all that is seen.
                times[TURN] += 3.0 * self.deviation * lasting;
            }
            compared.push(Round {
                baseline: times[0].exp(),
                contender: times[TURN].exp() * effect,
                null: times[TURNS - 1].exp(),
            });
        }
        compared
    }

    /// A run's own noise.
    fn run(&self, random: &mut Rng) -> f64 {
        let own = match self.noise {
            Noise::HeavyTailed => student3(random) / 3.0_f64.sqrt(),
            _ => normal(random),
        };
        let is_disturbed = self.noise == Noise::Disturbed && random.u8(..20) == 0;
        let disturbance = if is_disturbed {
            0.3 * random.f64()
        } else {
            0.0
        };
        self.deviation * own + disturbance
    }
}

/// Normal, by Marsaglia's polar method.
pub(crate) fn normal(random: &mut Rng) -> f64 {
    loop {
        let [x, y] = [random.f64(), random.f64()].map(|it| 2.0 * it - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

/// Student's t with three degrees of freedom.
fn student3(random: &mut Rng) -> f64 {
    let squares: f64 = (0..3).map(|_| normal(random).powi(2)).sum();
    normal(random) / (squares / 3.0).sqrt()
}

/// The part of so many trials that are so, in per cent. The same seed each time.
pub(crate) fn per_cent(trials: usize, mut is_so: impl FnMut(&mut Rng) -> bool) -> f64 {
    let mut random = Rng::with_seed(1);
    let so = (0..trials).filter(|_| is_so(&mut random)).count();
    so as f64 * 100.0 / trials as f64
}

#[cfg(test)]
mod tests {
    use super::experiments::{self, Across};
    use super::*;
    use crate::statistics::Null;

    const QUIET: Machine = Machine {
        noise: Noise::Lognormal,
        deviation: 0.02,
    };

    const NOISY: Machine = Machine {
        deviation: 0.05,
        ..QUIET
    };

    #[test]
    fn the_interval_covers_the_truth_in_95_of_100_comparisons() {
        for noise in Noise::BEARABLE {
            for rounds in [6, 8, 10, 16] {
                let covered = experiments::coverage(Machine { noise, ..NOISY }, rounds, 500);
                let what = format!("{noise:?}, {rounds} rounds: {covered} %");
                assert!((93.0..=98.5).contains(&covered), "{what}");
            }
        }
    }

    #[test]
    fn a_difference_of_5_per_cent_is_found() {
        for effect in [0.95, 1.05] {
            let found = experiments::calls(QUIET, 16, effect, 500);
            assert!(found >= 99.0, "{effect}: {found} %");
            let found = experiments::calls(NOISY, 16, effect, 500);
            assert!(found >= 78.0, "{effect}: {found} %");
        }
    }

    #[test]
    fn equals_are_shown_equivalent_on_a_quiet_machine_and_never_called_different() {
        let shown = experiments::nulls(QUIET, 16, Null::Equivalent, 500);
        assert!(shown >= 90.0, "{shown} %");
        for deviation in [0.02, 0.05, 0.15] {
            let machine = Machine { deviation, ..QUIET };
            let cried = experiments::nulls(machine, 16, Null::Differs, 500);
            assert!(cried <= 1.5, "{deviation}: {cried} %");
        }
    }

    #[test]
    fn what_would_have_been_seen_is_seen_four_times_out_of_five() {
        for rounds in [6, 8, 16] {
            let (visible, found) = experiments::visible(NOISY, rounds, 1000);
            let what = format!("{rounds} rounds: {found} % of {visible}");
            assert!((76.0..=84.0).contains(&found), "{what}");
        }
    }

    #[test]
    fn drift_is_found_and_chance_is_not_called_drift() {
        for (rounds, drift) in [(8, 6.0), (16, 4.0)] {
            let called = experiments::alarms(NOISY, rounds, 0.0, 200);
            assert!(called < 5.0, "{rounds} rounds: {called} %");
            let found = experiments::alarms(NOISY, rounds, drift, 100);
            assert!(found > 90.0, "{rounds} rounds: {found} %");
        }
    }

    #[test]
    fn intervals_over_invocations_know_what_differs_between_them() {
        for between in [0.0, 0.02, 0.04] {
            let size = (8, 5);
            let covered =
                experiments::invocations_coverage(Across::Student, NOISY, between, size, 500);
            assert!((92.5..=98.0).contains(&covered), "{between}: {covered} %");
        }
        let covered = experiments::invocations_coverage(Across::One, NOISY, 0.04, (8, 5), 500);
        assert!(covered < 75.0, "{covered} %");
    }

    #[test]
    fn no_change_between_reports_is_not_called_one() {
        for between in [0.0, 0.04] {
            let called = experiments::changes(QUIET, between, (3, 3), 1.0, 200);
            assert!(called <= 7.5, "{between}: {called} %");
            // By rounds alone, the same binary has changed.
            let formerly = experiments::former_changes(QUIET, between, 200);
            assert!(between == 0.0 || formerly > 50.0, "{formerly} %");
        }
    }

    #[test]
    fn percentiles_of_equals_are_equal() {
        let (covered, reach) = experiments::tails(0.9, 8, (500, 20), 40);
        assert!(covered >= 85.0, "{covered} %");
        assert!(reach < 0.2, "± {reach}");
    }

    #[test]
    fn the_highest_rates_are_compared_with_an_interval_that_holds() {
        let found = experiments::search(1.1, 0.03, 8, 500);
        assert!((93.0..=98.5).contains(&found.coverage), "{found:?}");
        assert!(found.power > 90.0 && found.looks < 8.0, "{found:?}");
    }
}
