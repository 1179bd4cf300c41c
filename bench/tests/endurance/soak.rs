//! Everything at once, for a long time.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use ringlab::engine::Engine;
use ringlab_bench::load::{self, Plan, Workload};
use ringlab_bench::tape::Mix;

use crate::Scale;
use crate::server::{Server, plan};

/// How often the server is looked at.
const SAMPLES: u32 = 100;

/// The most that memory may grow in a full soak, in bytes for each connection that came and went.
/// Whatever is forgotten of a connection, or of its requests, is larger. An allocator that still
/// finds its size is not.
const MOST_GROWTH: f64 = 1.0;

/// The same in bytes, however few they were: some pages of stacks and arenas are first needed late.
const SLACK: f64 = 65_536.0;

/// All workloads at once: memory and descriptors stay where they are, and nothing fails.
pub(crate) fn soak(engine: Engine, scale: &Scale) {
    // Some of its clients are idle all the time.
    let server = Server::start(engine, &["--idle-timeout", "0"]);
    let descriptors = server.descriptors();
    let plans: Vec<_> = works(engine)
        .into_iter()
        .map(|(workload, connections, pipeline, sizes)| Plan {
            connections,
            pipeline,
            sizes: sizes.parse::<Mix>().unwrap(),
            ..plan(&server.endpoint, workload, scale.soak)
        })
        .collect();
    let mut samples = Vec::new();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let loads: Vec<_> = plans
            .iter()
            .map(|plan| scope.spawn(|| load::run(plan, &(), &AtomicBool::new(false)).unwrap()))
            .collect();
        let start = Instant::now();
        // The first tenth is for everything to find its size.
        while start.elapsed() < scale.soak {
            thread::sleep(scale.soak / SAMPLES);
            if start.elapsed() > scale.soak / 10 && start.elapsed() < scale.soak {
                let minutes = start.elapsed().as_secs_f64() / 60.0;
                samples.push((minutes, server.memory() as f64, server.descriptors() as f64));
            }
        }
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    let memory = slope(
        samples
            .iter()
            .map(|&(minutes, memory, _)| (minutes, memory)),
    );
    let open = slope(samples.iter().map(|&(minutes, _, open)| (minutes, open)));
    let requests: u64 = outcomes
        .iter()
        .map(|outcome| outcome.counts.completed)
        .sum();
    let connections: u64 = plans
        .iter()
        .zip(&outcomes)
        .filter(|(plan, _)| plan.workload == Workload::Churn)
        .map(|(_, outcome)| outcome.counts.completed)
        .sum();
    let growth = memory * scale.soak.as_secs_f64() / 60.0;
    let each = growth / connections as f64;
    println!(
        "{engine}: {requests} verified requests in {:?}; memory {:.0} KiB, growing by {:.1} KiB a \
         minute, {each:.2} bytes for each of {connections} connections; descriptors by {open:.2} a \
         minute",
        scale.soak,
        samples.last().map_or(0.0, |last| last.1 / 1024.0),
        memory / 1024.0
    );
    for outcome in &outcomes {
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        assert!(outcome.counts.completed > 0);
    }
    if scale.strict {
        let most = SLACK + connections as f64 * MOST_GROWTH;
        assert!(growth <= most, "{growth} bytes");
        assert!(open.abs() <= 1.0, "{open} descriptors a minute");
    }
    server.wait_for_descriptors(descriptors);
}

/// What clients do at the same time, on how many connections, with how many requests in flight on
/// each, of which sizes.
///
/// The second is as much of a stream as every kernel bears for long: without a bound on what is in
/// flight, some stop a connection for good, see the README.
fn works(engine: Engine) -> Vec<(Workload, usize, usize, &'static str)> {
    if engine == Engine::Sequential {
        return vec![(Workload::Churn, 2, 1, "32")];
    }
    vec![
        (Workload::RequestReply, 32, 1, "32:80,1000:15,20000:5"),
        (Workload::RequestReply, 4, 1024, "4096"),
        (Workload::Churn, 8, 1, "32"),
        (Workload::Idle, 200, 1, "32"),
    ]
}

/// The slope of the line through points by least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|(x, _)| x), mean(|(_, y)| y));
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        above += (x - x_mean) * (y - y_mean);
        below += (x - x_mean).powi(2);
    }
    above / below
}
