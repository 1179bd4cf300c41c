//! What is asked of simulated comparisons. All parts are in per cent of the trials.

use fastrand::Rng;
use hdrhistogram::Histogram;

use super::super::dependence::Dependence;
use super::super::invocations::{Change, Invocations};
use super::super::search::Search;
use super::super::tails::Tails;
use super::super::{Estimate, Null, Verdict, mean, median};
use super::candidates::Candidate;
use super::{Machine, Round, normal, per_cent};

/// How often the interval has the true ratio in it.
pub fn coverage(machine: Machine, rounds: usize, trials: usize) -> f64 {
    100.0 - calls(machine, rounds, 1.0, trials)
}

/// How often a difference is called if the contender takes `effect` times as long: with 1 the
/// false positives, otherwise the power, where the wrong direction does not count.
pub fn calls(machine: Machine, rounds: usize, effect: f64, trials: usize) -> f64 {
    per_cent(trials, |random| {
        let ratios = ratios(&machine.compare(random, rounds, effect));
        Estimate::of(&ratios).is_some_and(|it| is_found(&it, effect))
    })
}

/// The same with another interval, and with ratios to both runs of the baseline or to the first.
pub fn candidate_calls(
    (candidate, to_both): (Candidate, bool),
    machine: Machine,
    rounds: usize,
    effect: f64,
    trials: usize,
) -> f64 {
    let mut bootstrap = Rng::with_seed(2);
    per_cent(trials, |random| {
        let compared = machine.compare(random, rounds, effect);
        let ratios: Vec<_> = match to_both {
            true => ratios(&compared),
            false => compared
                .iter()
                .map(|it| it.contender / it.baseline)
                .collect(),
        };
        let interval = candidate.interval(&mut bootstrap, &ratios);
        interval.is_some_and(|it| is_found(&it, effect))
    })
}

/// What was done before: the bootstrap of the median over ratios to the baseline's first run, and
/// nothing called that is within the null contender's interval.
pub fn former_calls(machine: Machine, rounds: usize, effect: f64, trials: usize) -> f64 {
    let mut bootstrap = Rng::with_seed(2);
    per_cent(trials, |random| {
        let compared = machine.compare(random, rounds, effect);
        let mut interval = |ratio: fn(&Round) -> f64| {
            let ratios: Vec<_> = compared.iter().map(ratio).collect();
            Candidate::MedianPercentiles.interval(&mut bootstrap, &ratios)
        };
        let contender = interval(|it| it.contender / it.baseline);
        let null = interval(Round::null_ratio);
        contender.zip(null).is_some_and(|(ratio, null)| {
            let is_outside = ratio.median < null.low.min(1.0) || ratio.median > null.high.max(1.0);
            is_outside && is_found(&ratio, effect)
        })
    })
}

fn ratios(compared: &[Round]) -> Vec<f64> {
    compared.iter().map(Round::ratio).collect()
}

fn is_found(interval: &Estimate, effect: f64) -> bool {
    match Verdict::of(interval) {
        Verdict::Better => effect <= 1.0,
        Verdict::Worse => effect >= 1.0,
        Verdict::NoDifferenceShown => false,
    }
}

/// How often the null contender comes out so, being equal.
pub fn nulls(machine: Machine, rounds: usize, null: Null, trials: usize) -> f64 {
    per_cent(trials, |random| {
        let compared = machine.compare(random, rounds, 1.0);
        let ratios: Vec<_> = compared.iter().map(Round::null_ratio).collect();
        Estimate::of(&ratios).is_some_and(|it| Null::of(&it) == null)
    })
}

/// The difference that comparisons without any say would have been seen, in the median over them,
/// and how often one as large is called.
pub fn visible(machine: Machine, rounds: usize, trials: usize) -> (f64, f64) {
    let mut random = Rng::with_seed(3);
    let mut one = || {
        let ratios = ratios(&machine.compare(&mut random, rounds, 1.0));
        Estimate::of(&ratios).map(|it| it.visible())
    };
    let said: Vec<_> = (0..trials).filter_map(|_| one()).collect();
    let visible = median(&said);
    (visible, calls(machine, rounds, 1.0 + visible, trials))
}

/// How often rounds are called dependent or drifting while the ratio drifts by so many standard
/// deviations of its noise from the first round to the last. Zero has the false alarms.
pub fn alarms(machine: Machine, rounds: usize, drift: f64, trials: usize) -> f64 {
    // Of a ratio to two runs.
    let deviation = machine.deviation * 1.5_f64.sqrt();
    per_cent(trials, |random| {
        let mut ratios = ratios(&machine.compare(random, rounds, 1.0));
        for (round, ratio) in ratios.iter_mut().enumerate() {
            *ratio *= (drift * deviation * round as f64 / (rounds - 1) as f64).exp();
        }
        Dependence::of(&ratios, 1).is_some()
    })
}

/// The estimates of some invocations of the same comparison, whose true ratios vary by the
/// standard deviation `between`.
fn invoke(
    random: &mut Rng,
    machine: Machine,
    between: f64,
    rounds: usize,
    invocations: usize,
) -> Vec<Estimate> {
    let one = |_| {
        let effect = (between * normal(random)).exp();
        Estimate::of(&ratios(&machine.compare(random, rounds, effect)))
    };
    (0..invocations).filter_map(one).collect()
}

/// How an interval over invocations is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Of the first invocation alone.
    One,
    /// Of all rounds of all invocations as if they were one's.
    Pooled,
    /// By DerSimonian and Laird, with the normal distribution.
    DerSimonianLaird,
    /// [`Invocations`].
    Student,
}

/// How often the interval has the true ratio in it.
pub fn invocations_coverage(
    across: Across,
    machine: Machine,
    between: f64,
    (rounds, invocations): (usize, usize),
    trials: usize,
) -> f64 {
    per_cent(trials, |random| {
        if across == Across::Pooled {
            let mut pooled = Vec::new();
            for _ in 0..invocations {
                let effect = (between * normal(random)).exp();
                pooled.extend(ratios(&machine.compare(random, rounds, effect)));
            }
            return Estimate::of(&pooled).is_some_and(|it| it.covers(1.0));
        }
        let estimates = invoke(random, machine, between, rounds, invocations);
        match across {
            Across::DerSimonianLaird => dersimonian_laird(&estimates).covers(1.0),
            Across::One | Across::Pooled => estimates[0].covers(1.0),
            Across::Student => {
                Invocations::of(&estimates).is_some_and(|it| it.estimate.covers(1.0))
            }
        }
    })
}

/// Random effects with weights and the normal distribution (DerSimonian and Laird, *Meta-Analysis
/// in Clinical Trials*, Controlled Clinical Trials 7, 1986).
fn dersimonian_laird(estimates: &[Estimate]) -> Estimate {
    let logs: Vec<_> = estimates.iter().map(|it| it.median.ln()).collect();
    let variances: Vec<_> = estimates
        .iter()
        .map(|it| ((it.high / it.low).ln() / 2.0 / 1.96).powi(2))
        .collect();
    let weigh = |between: f64| -> (f64, f64) {
        let weights: Vec<_> = variances.iter().map(|it| 1.0 / (it + between)).collect();
        let sum: f64 = weights.iter().sum();
        let weighted = weights.iter().zip(&logs).map(|(weight, log)| weight * log);
        (weighted.sum::<f64>() / sum, sum)
    };
    let (fixed, sum) = weigh(0.0);
    let squares: f64 = variances.iter().map(|it| 1.0 / it / it).sum();
    let spread: f64 = variances
        .iter()
        .zip(&logs)
        .map(|(variance, log)| (log - fixed).powi(2) / variance)
        .sum();
    let between = (spread - (logs.len() as f64 - 1.0)) / (sum - squares / sum);
    let (center, sum) = weigh(between.max(0.0));
    Estimate::around(center, 1.96 / sum.sqrt())
}

/// How often a change by `effect` is called between two measurements of so many invocations each.
/// With 1 the false positives.
pub fn changes(
    machine: Machine,
    between: f64,
    (now, then): (usize, usize),
    effect: f64,
    trials: usize,
) -> f64 {
    per_cent(trials, |random| {
        let then = invoke(random, machine, between, 16, then);
        let mut now = invoke(random, machine, between, 16, now);
        for estimate in &mut now {
            estimate.median *= effect;
        }
        match Change::of(&now, &then) {
            Some(Change::Judged { quotient, .. }) => is_found(&quotient, effect),
            _ => false,
        }
    })
}

/// The same by what each interval says, as before: one invocation each, by rounds alone.
pub fn former_changes(machine: Machine, between: f64, trials: usize) -> f64 {
    per_cent(trials, |random| {
        let now = invoke(random, machine, between, 16, 1);
        let then = invoke(random, machine, between, 16, 1);
        Change::of(&now, &then).is_some_and(|it| !it.quotient().covers(1.0))
    })
}

/// Of a percentile's ratio between equals: how often the interval has 1 in it, and in the median
/// how far it reaches.
///
/// Latencies are those of a queue, exponential around 200 µs; in one round of four the machine
/// stalls, and so many in a thousand requests wait up to 5 ms.
pub fn tails(
    quantile: f64,
    rounds: usize,
    (requests, stalled): (u64, u64),
    trials: usize,
) -> (f64, f64) {
    let mut reaches = Vec::new();
    let covered = per_cent(trials, |random| {
        let mut all = || {
            let rounds: Vec<_> = (0..rounds)
                .map(|_| latencies(random, requests, stalled))
                .collect();
            Tails::of(&rounds)
        };
        let (one, other) = (all(), all());
        let ratio = one.ratio(&other, quantile);
        reaches.extend(ratio.map(|it| (it.high / it.low).sqrt() - 1.0));
        ratio.is_some_and(|it| it.covers(1.0))
    });
    (covered, median(&reaches))
}

fn latencies(random: &mut Rng, requests: u64, stalled: u64) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are allowed");
    let speed = (0.03 * normal(random)).exp();
    let stalled = match random.u8(..4) {
        0 => stalled,
        _ => 0,
    };
    for _ in 0..requests {
        let mut latency = -200_000.0 * speed * random.f64().max(1e-12).ln();
        if random.u64(..1000) < stalled {
            latency += 5e6 * random.f64();
        }
        histogram
            .record(latency as u64 + 1000)
            .expect("it grows as needed");
    }
    histogram
}

/// How well the highest rates are compared.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// How often the interval has the true ratio in it.
    pub coverage: f64,
    /// How often it excludes 1.
    pub power: f64,
    /// How far it reaches, in the median.
    pub reach: f64,
    /// Looks at each contender, in the mean over rounds.
    pub looks: f64,
}

/// Searches for the rates of a baseline and of a contender that can do `effect` times as much.
///
/// A look keeps the promise by a logistic chance that falls from three quarters to a quarter within
/// 2.2 × `width` of the rate; the machine's speed changes by a tenth from round to round.
pub fn search(effect: f64, width: f64, rounds: usize, trials: usize) -> Found {
    let (mut reaches, mut looks) = (Vec::new(), Vec::new());
    let mut calls = 0;
    let covered = per_cent(trials, |random| {
        let limit = 100_000.0 * (1.0 + random.f64());
        let limits = [limit, limit, limit * effect];
        let mut searches = [(); 3].map(|()| Search::new(2_000.0, 1_000_000.0, random.u64(..)));
        for round in 0..rounds {
            let machine = (0.1 * normal(random)).exp();
            for (search, limit) in searches.iter_mut().zip(limits) {
                if round > 0 {
                    search.start_round();
                }
                let mut looked = 0.0;
                while !search.is_round_over() {
                    let beyond = (search.next_rate() / (limit * machine)).ln() / width;
                    search.observe(random.f64() < 1.0 / (1.0 + beyond.exp()));
                    looked += 1.0;
                }
                looks.push(looked);
            }
        }
        let [baseline, null, contender] = searches.each_ref().map(Search::rates);
        let compared = baseline.iter().zip(&null).zip(&contender);
        let ratios: Vec<_> = compared
            .map(|((baseline, null), contender)| contender / (baseline * null).sqrt())
            .collect();
        let ratio = Estimate::of(&ratios);
        reaches.extend(ratio.map(|it| (it.high / it.low).sqrt() - 1.0));
        calls += usize::from(ratio.is_some_and(|it| !it.covers(1.0)));
        ratio.is_some_and(|it| it.covers(effect))
    });
    Found {
        coverage: covered,
        power: calls as f64 * 100.0 / trials as f64,
        reach: median(&reaches),
        looks: mean(&looks),
    }
}
