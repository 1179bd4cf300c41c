//! What is worth measuring: named selections of work and contenders.

use std::time::Duration;

use clap::ValueEnum;
use ringlab::engine::Engine;
use ringlab::features::{Choice, Feature, Features};

use super::contender::Contender;
use super::route::Route;
use crate::load::{Arrivals, Workload};
use crate::report::{Axis, Metric, Path, Point, Promise, Step, StepKind, Transport, Work};
use crate::statistics::Verdict;

/// A selection of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Requests and connections that come and go, for an answer in a minute and a half
    Quick,
    /// Every kind of work
    Standard,
    /// The engine uring with its features one by one, to see what each is worth
    Ladder,
    /// Streams, and pipelined requests
    Bulk,
    /// Connections that come and go
    Churn,
    /// From a twentieth of what the baseline bears to all of it: cost and latency over load
    Load,
    /// From 1 to 4,096 connections: cost over their number
    Connections,
    /// Requests at given rates, for latencies without coordinated omission
    Latency,
    /// Memory of idle connections
    Idle,
}

/// Parts of what the baseline bears.
const LOADS: [f64; 6] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9];

/// Numbers of connections.
const CONNECTIONS: [usize; 7] = [1, 4, 16, 64, 256, 1024, 4096];

/// A piece of work, and how much of it.
#[derive(Debug, Clone)]
pub struct CellPlan {
    /// What to do in one round.
    pub work: Work,
    /// What the verdict is about.
    pub judged_by: Metric,
    /// Where it lies on a curve.
    pub point: Option<Point>,
    /// How many rounds.
    pub rounds: usize,
    /// The only path for it, if that can be had.
    only: Option<Path>,
}

impl CellPlan {
    /// Requests and replies over as many connections.
    pub(super) fn request_reply(transport: Transport, connections: usize) -> Self {
        Self::of(Workload::RequestReply, transport, connections, "32")
    }

    /// Some work, with messages of `sizes` bytes.
    pub fn of(workload: Workload, transport: Transport, connections: usize, sizes: &str) -> Self {
        let plan = Self {
            work: Work {
                workload,
                transport,
                path: None,
                connections,
                sizes: sizes.to_owned(),
                pipeline: 1,
                rate: None,
                rate_of_baseline: None,
                arrivals: Arrivals::default(),
                promise: None,
                warmup_seconds: match workload {
                    Workload::Idle => 0.0,
                    _ => 0.06,
                },
                seconds: 0.3,
            },
            // Whose work that is depends on the path.
            judged_by: match workload {
                Workload::Idle => Metric::Memory,
                _ => Metric::ServerSide,
            },
            point: None,
            rounds: 16,
            only: None,
        };
        match workload {
            // Nothing is timed, so little needs repeating, and no path matters.
            Workload::Idle => plan.only(Path::Loopback).lasting(6, 0.1),
            _ => plan,
        }
    }

    fn pipelined(self, pipeline: usize) -> Self {
        self.with(|plan| plan.work.pipeline = pipeline)
    }

    fn idle(transport: Transport, connections: usize) -> Self {
        Self::of(Workload::Idle, transport, connections, "32")
    }

    /// At a rate that is this part of what the baseline bears.
    fn paced(self, part: f64) -> Self {
        self.with(|plan| plan.work.rate_of_baseline = Some(part))
    }

    fn at(self, over: Axis, at: Option<f64>) -> Self {
        self.with(|plan| plan.point = Some(Point { over, at }))
    }

    fn only(self, path: Path) -> Self {
        self.with(|plan| plan.only = Some(path))
    }

    fn lasting(self, rounds: usize, seconds: f64) -> Self {
        self.with(|plan| {
            plan.rounds = rounds;
            plan.work.seconds = seconds;
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
        }
    }

    /// The routes over which it is done; Unix sockets know none, and so any one will do.
    pub(super) fn routes<'r>(&self, routes: &'r [Route]) -> Vec<&'r Route> {
        let only = routes.iter().filter(|route| Some(route.path) == self.only);
        match self.work.transport {
            Transport::Unix => routes.iter().take(1).collect(),
            Transport::Tcp if self.only.is_none() => routes.iter().collect(),
            Transport::Tcp => only.chain(routes).take(1).collect(),
        }
    }

    /// Sets it on its path, where it is judged by the figure that no shift of work between server
    /// and client can bend: what the server's side does, if receiving is each side's own, and what
    /// both do where whoever sends does it. If sides cannot be told apart, only the server's
    /// process is left; likewise its own memory, where nobody counts the kernel's.
    pub(super) fn take(&mut self, path: Path, sides_are_known: bool, charges_are: bool) {
        let is_tcp = self.work.transport == Transport::Tcp;
        self.work.path = is_tcp.then_some(path);
        if self.judged_by == Metric::Memory && !charges_are {
            self.judged_by = Metric::OwnMemory;
        }
        if self.judged_by == Metric::ServerSide {
            self.judged_by = match self.work.path {
                _ if !sides_are_known => Metric::Process,
                Some(Path::Loopback) => Metric::BothSides,
                Some(Path::Hosts) | None => Metric::ServerSide,
            };
        }
    }

    /// Whether there is a rate to be found at which a promise is kept.
    pub(super) fn can_promise(&self) -> bool {
        self.work.workload == Workload::RequestReply && !self.work.is_paced()
    }

    /// Has the highest rate looked for that keeps a promise, each look taking half a second.
    pub(super) fn promise(&mut self, promise: Promise) {
        self.work.promise = Some(promise);
        self.judged_by = Metric::Capacity;
        (self.rounds, self.work.seconds) = (8, 0.5);
    }

    /// What is done, in words.
    pub fn name(&self) -> String {
        let Work {
            workload,
            transport,
            path,
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
        if let Some(path) = path {
            name += &format!(" {}", path.phrase());
        }
        if *workload != Workload::Idle {
            name += &format!(", {sizes} bytes");
        }
        if *pipeline > 1 {
            name += &format!(", {pipeline} in flight");
        }
        if let Some(part) = self.work.rate_of_baseline {
            name += &format!(", at {:.0} % load", part * 100.0);
        } else if let Some(promise) = self.work.promise {
            name += &format!(", {promise}");
        } else if let Some(rate) = self.work.rate {
            name += &format!(", at {rate:.0} requests/s");
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
            Self::Quick => [
                request_reply(Tcp, 64),
                of(Churn, Tcp, 16, "32"),
                request_reply(Tcp, 64).paced(0.25).only(Path::Hosts),
            ]
            .map(|plan| plan.lasting(8, 0.2))
            .into(),
            Self::Standard => vec![
                request_reply(Tcp, 1),
                request_reply(Tcp, 64),
                request_reply(Tcp, 64).paced(0.25),
                request_reply(Tcp, 1000),
                request_reply(Unix, 64),
                request_reply(Tcp, 64).pipelined(12),
                of(Stream, Tcp, 4, "4000"),
                of(Churn, Tcp, 16, "32"),
                CellPlan::idle(Tcp, 10_000),
            ],
            Self::Load => LOADS
                .into_iter()
                .map(Some)
                .chain([None])
                .map(|part| {
                    let plan = request_reply(Tcp, 64).lasting(8, 0.3);
                    let plan = plan.at(Axis::Load, part.map(|part| part * 100.0));
                    part.map_or(plan.clone(), |part| plan.paced(part))
                })
                .collect(),
            Self::Connections => CONNECTIONS
                .into_iter()
                .map(|connections| {
                    let plan = request_reply(Tcp, connections).lasting(8, 0.3);
                    plan.at(Axis::Connections, Some(connections as f64))
                })
                .collect(),
            Self::Ladder => vec![
                request_reply(Tcp, 64),
                of(Churn, Tcp, 16, "32"),
                of(Stream, Tcp, 4, "4000"),
            ],
            Self::Bulk => vec![
                of(Stream, Tcp, 4, "32"),
                of(Stream, Tcp, 4, "4000"),
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
                request_reply(Tcp, 1),
                request_reply(Tcp, 64).paced(0.2),
                request_reply(Tcp, 64).paced(0.5),
                request_reply(Tcp, 64).paced(0.8),
            ]
            .into_iter()
            .map(|plan| {
                plan.with(|plan| plan.judged_by = Metric::P50)
                    .lasting(10, 5.0)
            })
            .collect(),
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
            // Who serves one client at a time has little to do here.
            Self::Quick | Self::Load | Self::Connections => Engine::ALL
                .into_iter()
                .filter(|&engine| engine != Engine::Sequential)
                .map(Contender::engine)
                .collect(),
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
