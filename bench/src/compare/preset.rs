//! What is worth measuring: named selections of work and contenders.

use std::time::Duration;

use clap::ValueEnum;
use ringlab::engine::Engine;
use ringlab::features::{Choice, Feature, Features};

use super::contender::Contender;
use crate::load::Workload;
use crate::report::{Metric, Step, StepKind, Transport, Work};
use crate::statistics::Verdict;

/// A selection of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Two pieces of work, for an answer in less than a minute
    Quick,
    /// Every kind of work
    Standard,
    /// The engine uring with its features one by one, to see what each is worth
    Ladder,
    /// Streams, and pipelined requests
    Bulk,
    /// Connections that come and go
    Churn,
    /// Requests at fixed rates, for latencies without coordinated omission
    Latency,
    /// Memory of idle connections
    Idle,
}

/// A piece of work, and how much of it.
#[derive(Debug, Clone)]
pub struct CellPlan {
    /// What to do in one round.
    pub work: Work,
    /// What the verdict is about.
    pub judged_by: Metric,
    /// How many rounds.
    pub rounds: usize,
    /// For an open loop: its rate, as a part of what the baseline can do in a closed loop.
    pub rate_of_baseline: Option<f64>,
}

impl CellPlan {
    /// Requests and replies over as many connections.
    fn request_reply(transport: Transport, connections: usize) -> Self {
        Self::of(Workload::RequestReply, transport, connections, "32")
    }

    fn of(workload: Workload, transport: Transport, connections: usize, sizes: &str) -> Self {
        Self {
            work: Work {
                workload,
                transport,
                connections,
                sizes: sizes.to_owned(),
                pipeline: 1,
                rate: None,
                warmup_seconds: 0.06,
                seconds: 0.3,
            },
            judged_by: match workload {
                Workload::Idle => Metric::Memory,
                _ => Metric::Cpu,
            },
            rounds: 16,
            rate_of_baseline: None,
        }
    }

    fn pipelined(self, pipeline: usize) -> Self {
        self.with(|plan| plan.work.pipeline = pipeline)
    }

    fn idle(transport: Transport, connections: usize) -> Self {
        // Nothing is timed, so little needs repeating.
        Self::of(Workload::Idle, transport, connections, "32").with(|plan| {
            plan.rounds = 6;
            plan.work.warmup_seconds = 0.0;
            plan.work.seconds = 0.1;
        })
    }

    fn paced(connections: usize, part: f64) -> Self {
        Self::request_reply(Transport::Tcp, connections).with(|plan| {
            plan.judged_by = Metric::P99;
            plan.rate_of_baseline = Some(part);
            plan.work.warmup_seconds = 0.1;
            plan.work.seconds = 0.6;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Other numbers than the preset's.
    pub fn adjust(&mut self, rounds: Option<usize>, duration: Option<Duration>) {
        if let Some(rounds) = rounds {
            self.rounds = rounds;
        }
        if let Some(duration) = duration {
            self.work.seconds = duration.as_secs_f64();
            self.work.warmup_seconds = self.work.warmup_seconds.min(self.work.seconds);
        }
    }

    /// What is done, in words.
    pub fn name(&self) -> String {
        let Work {
            workload,
            transport,
            connections,
            sizes,
            pipeline,
            ..
        } = &self.work;
        let connections = match connections {
            1 => "1 connection".to_owned(),
            connections => format!("{connections} connections"),
        };
        let mut name = format!("{workload}, {connections}, {transport}");
        if *workload != Workload::Idle {
            name += &format!(", {sizes} bytes");
        }
        if *pipeline > 1 {
            name += &format!(", {pipeline} in flight");
        }
        if let Some(part) = self.rate_of_baseline {
            name += &format!(", open loop at {:.0} %", part * 100.0);
        }
        name
    }
}

impl Preset {
    /// The work.
    pub fn cells(self) -> Vec<CellPlan> {
        use Transport::{Tcp, Unix};
        use Workload::{Churn, Stream};
        let request_reply = CellPlan::request_reply;
        let of = CellPlan::of;
        match self {
            Self::Quick => [request_reply(Tcp, 64), of(Churn, Tcp, 16, "32")]
                .map(|plan| plan.with(|plan| plan.rounds = 10))
                .map(|plan| plan.with(|plan| plan.work.seconds = 0.2))
                .into(),
            Self::Standard => vec![
                request_reply(Tcp, 1),
                request_reply(Tcp, 64),
                request_reply(Tcp, 1000),
                request_reply(Unix, 64),
                request_reply(Tcp, 64).pipelined(16),
                CellPlan::paced(64, 0.5),
                of(Stream, Tcp, 4, "4096"),
                of(Churn, Tcp, 16, "32"),
                CellPlan::idle(Tcp, 10_000),
            ],
            Self::Ladder => vec![
                request_reply(Tcp, 64),
                of(Churn, Tcp, 16, "32"),
                of(Stream, Tcp, 4, "4096"),
            ],
            Self::Bulk => vec![
                of(Stream, Tcp, 4, "32"),
                of(Stream, Tcp, 4, "4096"),
                of(Stream, Tcp, 4, "65536"),
                of(Stream, Tcp, 64, "4096"),
                of(Stream, Unix, 4, "4096"),
                of(Workload::RequestReply, Tcp, 64, "32:90,4096:10").pipelined(16),
            ],
            Self::Churn => vec![
                of(Churn, Tcp, 1, "32"),
                of(Churn, Tcp, 16, "32"),
                of(Churn, Tcp, 256, "32"),
                of(Churn, Unix, 16, "32"),
            ],
            Self::Latency => vec![
                request_reply(Tcp, 1).with(|plan| plan.judged_by = Metric::P50),
                CellPlan::paced(64, 0.2),
                CellPlan::paced(64, 0.5),
                CellPlan::paced(64, 0.8),
            ],
            Self::Idle => vec![
                CellPlan::idle(Tcp, 1000),
                CellPlan::idle(Tcp, 10_000),
                CellPlan::idle(Unix, 10_000),
            ],
        }
    }

    /// Who takes part unless the command line says otherwise. `available` are the features of the
    /// ring that this kernel has.
    pub fn contenders(self, available: Features) -> Vec<Contender> {
        match self {
            Self::Ladder => {
                let mut contenders = vec![
                    Contender::engine(Engine::Uring),
                    Contender::engine(Engine::Epoll),
                ];
                for step in self.steps(available) {
                    for name in [step.from, step.to] {
                        if !contenders.iter().any(|contender| contender.name == name) {
                            let features = name.trim_start_matches("uring:");
                            contenders.push(Contender::uring(features));
                        }
                    }
                }
                contenders
            }
            _ => Engine::ALL.into_iter().map(Contender::engine).collect(),
        }
    }

    /// Whom the others are divided by.
    pub fn baseline(self) -> &'static str {
        match self {
            Self::Ladder => "uring",
            _ => "epoll",
        }
    }

    /// What features to tell the worth of.
    pub fn steps(self, available: Features) -> Vec<Step> {
        if self != Self::Ladder {
            return Vec::new();
        }
        let auto = Choice::AUTO.resolve(available).unwrap_or_default();
        let mut steps = climb(auto);
        let uring = || Engine::Uring.name().to_owned();
        for feature in auto.iter() {
            steps.push(step(
                feature,
                StepKind::Remove,
                uring(),
                format!("uring:-{feature}"),
            ));
        }
        let others = Feature::ALL
            .into_iter()
            .filter(|&feature| !auto.has(feature));
        for feature in others.filter(|&feature| available.has(feature)) {
            steps.push(step(
                feature,
                StepKind::Add,
                uring(),
                format!("uring:+{feature}"),
            ));
        }
        steps
    }
}

/// From no feature to the defaults, one at a time; each after what it needs.
fn climb(auto: Features) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut from = "uring:none".to_owned();
    let mut left: Vec<_> = auto.iter().collect();
    let mut taken = Features::NONE;
    while let Some(position) = left
        .iter()
        .position(|feature| feature.needs().is_none_or(|needed| taken.has(needed)))
    {
        let feature = left.remove(position);
        taken = taken.with(feature);
        let to = match left.is_empty() {
            true => Engine::Uring.name().to_owned(),
            false => format!("{from},+{feature}"),
        };
        steps.push(step(feature, StepKind::Climb, from, to.clone()));
        from = to;
    }
    steps
}

fn step(feature: Feature, kind: StepKind, from: String, to: String) -> Step {
    Step {
        feature: feature.name().to_owned(),
        kind,
        from,
        to,
        ratio: None,
        verdict: Verdict::NoDifferenceShown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_names_its_cells_differently() {
        for preset in Preset::value_variants() {
            let mut names: Vec<_> = preset.cells().iter().map(CellPlan::name).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{preset:?}");
        }
    }

    #[test]
    fn a_ladder_climbs_from_nothing_to_the_defaults() {
        let steps = Preset::Ladder.steps(Features::ALL);
        let climb: Vec<_> = steps
            .iter()
            .filter(|step| step.kind == StepKind::Climb)
            .collect();
        assert_eq!(climb[0].from, "uring:none");
        assert_eq!(climb.last().unwrap().to, "uring");
        for pair in climb.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
        let contenders = Preset::Ladder.contenders(Features::ALL);
        for step in &steps {
            for name in [&step.from, &step.to] {
                assert!(contenders.iter().any(|it| it.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn the_last_step_of_a_climb_has_the_features_that_are_the_defaults() {
        let steps = Preset::Ladder.steps(Features::ALL);
        let last = steps
            .iter()
            .rfind(|step| step.kind == StepKind::Climb)
            .unwrap();
        let features = format!(
            "{},+{}",
            last.from.trim_start_matches("uring:"),
            last.feature
        );
        let climbed: Choice = features.parse().unwrap();
        assert_eq!(
            climbed.resolve(Features::ALL).unwrap(),
            Choice::AUTO.resolve(Features::ALL).unwrap()
        );
    }

    #[test]
    fn without_io_uring_a_ladder_has_no_steps() {
        assert!(Preset::Ladder.steps(Features::NONE).is_empty());
    }
}
