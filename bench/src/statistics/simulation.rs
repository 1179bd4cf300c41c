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
