//! From rounds to medians, ratios and verdicts.

use super::doubts;
use crate::load::summary::Latency;
use crate::report::{Cell, Entry, Medians, Metric, Ratio, Round, Work};
use crate::statistics::invocations::Invocations;
use crate::statistics::{Estimate, Null, Verdict, median, tails};

/// From here on a client counts as busy all the time, whatever the server does: what it cannot
/// send, nobody can serve.
const CLIENT_BUSY: f64 = 0.97;

/// An open loop that sends less than this part of what is due falls behind.
const ON_TIME: f64 = 0.98;

/// Fills in what follows from the rounds.
///
/// `servers` and `clients` are the processors of either side.
pub(crate) fn evaluate(cell: &mut Cell, servers: usize, clients: usize) {
    for entry in &mut cell.entries {
        entry.medians = medians(&entry.rounds, servers, clients);
        entry.client_saturated = entry.medians.as_ref().is_some_and(|medians| {
            let is_late = cell
                .work
                .rate
                .map(|rate| medians.requests_per_second < rate * ON_TIME);
            // In an open loop the client spins.
            is_late.unwrap_or(medians.client_busy > CLIENT_BUSY)
        });
    }
    compare_to_baseline(cell);
    take_steps(cell);
    cell.doubts = doubts::of(cell);
}

fn compare_to_baseline(cell: &mut Cell) {
    let ratios = |entry: &Entry| {
        let metrics = Metric::ALL
            .into_iter()
            .filter(|&it| says_something(&cell.work, it));
        let ratios = metrics.filter_map(|metric| ratio(cell, entry, metric));
        ratios.collect::<Vec<_>>()
    };
    let ratios: Vec<_> = cell.entries.iter().map(ratios).collect();
    for (entry, ratios) in cell.entries.iter_mut().zip(ratios).skip(1) {
        entry.ratios = ratios;
    }
    let null = cell.entries.iter().find(|entry| entry.null);
    let of_null = |metric| null.and_then(|entry| entry.ratio(metric)?.estimate);
    if cell.judged_by.quantile().is_some() {
        let judged = tails::judged([Metric::P99, Metric::P90, Metric::P50].map(of_null));
        let known = [Metric::P99, Metric::P90]
            .into_iter()
            .find(|metric| metric.quantile() == judged);
        cell.judged_by = known.unwrap_or(Metric::P50);
    }
    cell.null = of_null(cell.judged_by).as_ref().map(Null::of);
}

/// Whether a figure is one of its own: at a given rate, the throughput is given, and in a closed
/// loop over many connections it gives the latencies.
fn says_something(work: &Work, metric: Metric) -> bool {
    match metric {
        Metric::Time => !work.is_paced(),
        _ => metric.quantile().is_none() || work.has_latencies(),
    }
}

/// What the ratios come to; `None` if there are none.
fn ratio(cell: &Cell, entry: &Entry, metric: Metric) -> Option<Ratio> {
    let ratios = cell.ratios_of(entry, metric);
    (!ratios.is_empty()).then_some(())?;
    let estimates = cell.estimates_of(entry, metric);
    let invocations = Invocations::of(&estimates);
    let estimate = match &invocations {
        Some(invocations) => Some(invocations.estimate),
        None => estimates.first().copied(),
    };
    let verdict = estimate.as_ref().map(Verdict::of);
    Some(Ratio {
        metric,
        between_invocations: invocations.map(|invocations| invocations.between),
        visible: estimate.map(|ratio| ratio.visible()),
        estimate,
        verdict: verdict.unwrap_or(Verdict::NoDifferenceShown),
    })
}

/// What each step of a ladder is worth.
fn take_steps(cell: &mut Cell) {
    let find = |name: &str| {
        let mut entries = cell.entries.iter();
        entries.find(|entry| !entry.null && entry.contender == name)
    };
    let judged: Vec<_> = cell
        .steps
        .iter()
        .map(|step| {
            let (from, to) = find(&step.from).zip(find(&step.to))?;
            let metric = cell.judged_by;
            Estimate::of(&to.ratios_to(metric, |round| from.value(round, metric)))
        })
        .collect();
    for (step, ratio) in cell.steps.iter_mut().zip(judged) {
        step.verdict = ratio.map_or(Verdict::NoDifferenceShown, |ratio| Verdict::of(&ratio));
        step.ratio = ratio;
    }
}

fn medians(rounds: &[Round], servers: usize, clients: usize) -> Option<Medians> {
    if rounds.is_empty() {
        return None;
    }
    let of = |value: &dyn Fn(&Round) -> f64| {
        let values: Vec<_> = rounds.iter().map(value).collect();
        median(&values)
    };
    let maybe = |value: &dyn Fn(&Round) -> Option<f64>| {
        let values: Vec<_> = rounds.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let sum = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).sum::<f64>();
    let user = sum(&|round| round.server_user_ticks_us);
    let ticks = user + sum(&|round| round.server_system_ticks_us);
    let busy = |cpu: f64, round: &Round, processors: usize| {
        cpu / (round.seconds * 1e6 * processors as f64).max(1e-9)
    };
    let per_request = |time: fn(&Round) -> Option<f64>| {
        maybe(&|round| {
            let time = time(round)?;
            (round.requests > 0).then(|| time / round.requests as f64)
        })
    };
    Some(Medians {
        requests_per_second: of(&|round| round.requests as f64 / round.seconds.max(1e-9)),
        latency_us: latency(rounds),
        kept_rate: maybe(&|round| round.kept_rate),
        server_side_us: per_request(|round| round.server_side_us),
        client_side_us: per_request(|round| round.client_side_us),
        process_us: per_request(|round| Some(round.server_process_us)),
        user_share: (ticks > 0.0).then(|| user / ticks),
        client_process_us: per_request(|round| Some(round.client_process_us)),
        server_busy: of(&|round| {
            let side = round.server_side_us.unwrap_or(round.server_process_us);
            busy(side, round, servers)
        }),
        client_busy: of(&|round| busy(round.client_process_us, round, clients)),
        peak_memory: rounds.iter().map(|round| round.peak_memory).max()?,
        memory_per_connection: maybe(&|round| round.memory_per_connection),
        own_memory_per_connection: maybe(&|round| round.own_memory_per_connection),
    })
}

fn latency(rounds: &[Round]) -> Option<Latency> {
    let all: Vec<_> = rounds.iter().filter_map(|round| round.latency_us).collect();
    let of = |value: fn(&Latency) -> f64| {
        let values: Vec<_> = all.iter().map(value).collect();
        median(&values)
    };
    Some(Latency {
        p50: of(|latency| latency.p50),
        p90: of(|latency| latency.p90),
        p99: of(|latency| latency.p99),
        p99_9: of(|latency| latency.p99_9),
        max: all
            .iter()
            .map(|latency| latency.max)
            .max_by(f64::total_cmp)?,
    })
}

/// An entry in which nothing has been measured yet.
pub(crate) fn entry(contender: &str, null: bool) -> Entry {
    Entry {
        contender: contender.to_owned(),
        null,
        status: crate::report::Status::Measured,
        rounds: Vec::new(),
        medians: None,
        ratios: Vec::new(),
        counted: None,
        client_saturated: false,
        at_an_end: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::preset::Preset;
    use crate::report::{Step, StepKind};

    /// Rounds in which a request takes so many microseconds of the server, of 100 that pass.
    fn rounds(cpu: f64) -> Vec<Round> {
        let noise = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01];
        let rounds = noise.iter().enumerate();
        rounds
            .map(|(round, noise)| Round {
                round,
                seconds: 0.1,
                requests: 1000,
                latency_us: None,
                latencies: None,
                rate: None,
                lateness_us: None,
                spacing: None,
                kept_rate: None,
                server_side_us: Some(cpu * noise * 1000.0),
                client_side_us: Some(60_000.0),
                server_process_us: cpu * noise * 1000.0,
                server_user_ticks_us: 10_000.0,
                server_system_ticks_us: 30_000.0,
                client_process_us: 50_000.0,
                peak_memory: 1 << 20,
                memory_per_connection: None,
                own_memory_per_connection: None,
            })
            .collect()
    }

    fn cell(contenders: &[(&str, f64)]) -> Cell {
        let plan = &Preset::Quick.cells()[0];
        let mut entries: Vec<_> = contenders
            .iter()
            .map(|&(name, cpu)| Entry {
                rounds: rounds(cpu),
                ..entry(name, false)
            })
            .collect();
        let (baseline, cpu) = contenders[0];
        entries.push(Entry {
            rounds: rounds(cpu),
            ..entry(baseline, true)
        });
        Cell {
            name: plan.name(),
            work: plan.work.clone(),
            judged_by: Metric::ServerSide,
            point: None,
            idle_look: None,
            null: None,
            rounds: 8,
            invocations: 1,
            entries,
            doubts: Vec::new(),
            steps: Vec::new(),
        }
    }

    #[test]
    fn contenders_are_judged_by_their_ratio_to_the_baseline() {
        let mut cell = cell(&[("a", 10.0), ("b", 9.0), ("c", 11.0), ("d", 10.0)]);
        evaluate(&mut cell, 1, 1);
        let verdict = |index: usize| {
            cell.entries[index]
                .ratio(Metric::ServerSide)
                .unwrap()
                .verdict
        };
        assert_eq!(verdict(1), Verdict::Better);
        assert_eq!(verdict(2), Verdict::Worse);
        assert_eq!(verdict(3), Verdict::NoDifferenceShown);
        assert_eq!(verdict(4), Verdict::NoDifferenceShown);
        assert!(cell.entries[0].ratios.is_empty());
        let medians = cell.entries[0].medians.as_ref().unwrap();
        assert_eq!(medians.user_share, Some(0.25));
        assert!((medians.requests_per_second - 10_000.0).abs() < 0.01);
    }

    #[test]
    fn rounds_that_a_contender_missed_are_left_out() {
        let mut cell = cell(&[("a", 10.0), ("b", 9.0)]);
        cell.entries[1].rounds.remove(0);
        cell.entries[0].rounds.remove(7);
        let [first, second, ..] = &cell.entries[..] else {
            unreachable!()
        };
        let metric = Metric::ServerSide;
        let ratios = second.ratios_to(metric, |round| first.value(round, metric));
        assert_eq!(ratios.len(), 6);
    }

    #[test]
    fn a_client_at_its_limit_is_told_whatever_the_server_does() {
        let mut cell = cell(&[("a", 10.0)]);
        let mut is_saturated = |client: f64, server: f64| {
            for round in &mut cell.entries[0].rounds {
                (round.client_process_us, round.server_process_us) = (client, server);
            }
            evaluate(&mut cell, 1, 1);
            cell.entries[0].client_saturated
        };
        assert!(is_saturated(99_000.0, 50_000.0));
        assert!(is_saturated(99_000.0, 99_000.0));
        assert!(!is_saturated(50_000.0, 50_000.0));
    }

    #[test]
    fn a_step_is_the_ratio_of_the_contenders_on_either_side() {
        let mut cell = cell(&[("all", 10.0), ("none", 12.0), ("one", 11.0)]);
        cell.steps.push(Step {
            feature: "feature".to_owned(),
            kind: StepKind::Climb,
            from: "none".to_owned(),
            to: "one".to_owned(),
            ratio: None,
            verdict: Verdict::NoDifferenceShown,
        });
        evaluate(&mut cell, 1, 1);
        let ratio = cell.steps[0].ratio.unwrap();
        assert!((ratio.median - 11.0 / 12.0).abs() < 1e-9, "{ratio}");
        assert_eq!(cell.steps[0].verdict, Verdict::Better);
    }
}
