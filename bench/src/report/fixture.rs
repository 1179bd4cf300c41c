//! Made-up reports with realistic figures, to test how reports are shown.

mod curves;

use std::collections::BTreeMap;

use super::environment::Environment;
use super::{
    Cell, Contender, Count, Counted, Entry, IdleLook, Metric, Path, Report, Round, Spread, Status,
    Step, StepKind, Transport, VERSION, Work,
};
use crate::compare::evaluate;
use crate::load::summary::Latency;
use crate::load::{Arrivals, Workload};
use crate::statistics::Verdict;

pub(crate) use curves::{connections, loads};

/// Rounds of every contender.
pub(crate) const ROUNDS: usize = 16;

/// How long one is, in seconds.
const SECONDS: f64 = 0.3;

/// The six engines: name, processor time and median latency per request in microseconds.
const ENGINES: [(&str, f64, f64); 6] = [
    ("epoll", 2.81, 222.0),
    ("sequential", 0.0, 0.0),
    ("threads", 4.63, 374.0),
    ("tokio", 2.82, 240.0),
    ("tokio-uring", 2.95, 231.0),
    ("uring", 2.63, 216.0),
];

/// Features of the ring, with the part of the processor time that is left with them.
const FEATURES: [(&str, f64); 9] = [
    ("multishot-accept", 1.0),
    ("provided-buffers", 1.03),
    ("multishot-recv", 0.95),
    ("direct-descriptors", 0.99),
    ("defer-taskrun", 0.91),
    ("coop-taskrun", 1.0),
    ("registered-ring", 0.985),
    ("no-sqarray", 1.0),
    ("bundles", 1.0),
];

/// Features that are not among the defaults.
const OTHERS: [(&str, f64); 3] = [("min-wait", 1.0), ("poll-first", 1.06), ("no-iowait", 0.97)];

/// What `ringlab-bench compare` might have found.
pub(crate) fn report() -> Report {
    of(vec![request_reply()])
}

/// A report of these pieces of work.
pub(crate) fn of(cells: Vec<Cell>) -> Report {
    let mut names: Vec<_> = cells
        .iter()
        .flat_map(|cell| &cell.entries)
        .map(|entry| entry.contender.clone())
        .collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let baseline = names.first().cloned().unwrap_or_default();
    let contender = |name: String| Contender {
        command: format!("ringlab serve -q --engine {name} --listen 127.0.0.1:0 --workers 1"),
        features: name
            .starts_with("uring")
            .then(|| "multishot-accept,defer-taskrun".to_owned()),
        name,
    };
    Report {
        version: VERSION,
        partial: false,
        started: "2026-11-23T10:57:22Z".to_owned(),
        seconds: 312.4,
        command: ["ringlab-bench", "compare", "--json", "out of box.json"]
            .map(str::to_owned)
            .into(),
        preset: "standard".to_owned(),
        baseline,
        environment: environment(),
        contenders: names.into_iter().map(contender).collect(),
        cells,
    }
}

fn environment() -> Environment {
    let table = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    };
    Environment {
        kernel: "6.12.48+deb13-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        processor: "AMD EPYC 7763 64-Core Processor".to_owned(),
        processors: 2,
        virtual_machine: true,
        mitigations: table(&[
            ("retbleed", "Mitigation: untrained return thunk"),
            ("spectre_v2", "Mitigation: Retpolines; IBPB: conditional"),
        ]),
        governor: Some("schedutil".to_owned()),
        congestion_control: Some("cubic".to_owned()),
        ring_features: "multishot-accept,provided-buffers,multishot-recv,defer-taskrun".to_owned(),
        versions: table(&[("io-uring", "0.7.15"), ("rustc", "1.95.0")]),
        server_processors: "0".to_owned(),
        client_processors: "1".to_owned(),
        idle_clock: Some("/proc/timer_list".to_owned()),
        load_average: Some(0.31),
        warnings: vec![
            "the frequency governor is schedutil: speed depends on what came before".to_owned(),
        ],
    }
}

fn work(workload: Workload) -> Work {
    Work {
        workload,
        transport: Transport::Tcp,
        path: Some(Path::Hosts),
        connections: 64,
        sizes: "32".to_owned(),
        pipeline: 1,
        rate: None,
        rate_of_baseline: None,
        arrivals: Arrivals::Exponential,
        promise: None,
        warmup_seconds: 0.06,
        seconds: SECONDS,
    }
}

/// Six engines at requests and replies, one of which was not asked to.
pub(crate) fn request_reply() -> Cell {
    let mut cell = cell("request-reply, 64 connections, TCP, 32 bytes", &ENGINES);
    let sequential = &mut cell.entries[1];
    sequential.rounds.clear();
    sequential.counted = None;
    sequential.status = Status::Skipped("serves one client at a time".to_owned());
    judge(cell)
}

/// The same over both paths, which disagree.
pub(crate) fn both_paths() -> Vec<Cell> {
    let mut hosts = request_reply();
    hosts.name = "request-reply, 64 connections, TCP between hosts, 32 bytes".to_owned();
    scale(&mut hosts, "tokio-uring", 0.85);
    let mut loopback = request_reply();
    loopback.name = "request-reply, 64 connections, TCP over loopback, 32 bytes".to_owned();
    loopback.work.path = Some(Path::Loopback);
    loopback.judged_by = Metric::BothSides;
    scale(&mut loopback, "uring", 1.0765);
    vec![judge(hosts), judge(loopback)]
}

/// What both sides did for a contender, so many times as much.
fn scale(cell: &mut Cell, contender: &str, factor: f64) {
    let entries = cell.entries.iter_mut();
    let entries = entries.filter(|entry| !entry.null && entry.contender == contender);
    for round in entries.flat_map(|entry| &mut entry.rounds) {
        round.server_side_us = round.server_side_us.map(|side| side * factor);
        round.client_side_us = round.client_side_us.map(|side| side * factor);
    }
}

/// An open loop.
pub(crate) fn paced() -> Cell {
    let mut cell = request_reply();
    cell.name =
        "request-reply, 64 connections, TCP between hosts, 32 bytes, at 25 % load".to_owned();
    cell.work.rate = Some(50_000.0);
    cell.work.rate_of_baseline = Some(0.25);
    judge(cell)
}

/// The same, in which one engine failed.
pub(crate) fn failing() -> Cell {
    let mut cell = request_reply();
    cell.name = "churn, 16 connections, TCP between hosts, 32 bytes".to_owned();
    cell.work.workload = Workload::Churn;
    cell.work.connections = 16;
    let threads = &mut cell.entries[2];
    threads.rounds.clear();
    threads.counted = None;
    threads.status = Status::Failed(
        "1 × wrong byte: got 0x62 instead of 0x63 at byte 17: it ended with signal: 11 (SIGSEGV)"
            .to_owned(),
    );
    cell.entries[4].counted = Some(Counted {
        context_switches: per_request(0.1),
        system_calls: Count::NotMeasured("perf_event_open: Permission denied".to_owned()),
    });
    judge(cell)
}

/// Idle connections, whose memory is judged.
pub(crate) fn idle() -> Cell {
    let name = "idle, 10000 connections, TCP";
    let mut cell = cell(name, &ENGINES);
    cell.work = work(Workload::Idle);
    cell.work.connections = 10_000;
    cell.judged_by = Metric::Memory;
    let sizes = [210.0, 0.0, 9216.0, 1331.0, 2250.0, 188.0, 210.5];
    for (entry, size) in cell.entries.iter_mut().zip(sizes) {
        entry.counted = None;
        for (index, round) in entry.rounds.iter_mut().enumerate() {
            round.latency_us = None;
            round.own_memory_per_connection = Some(size + (index % 3) as f64);
            round.memory_per_connection = Some(size + 1500.0 + (index % 3) as f64);
        }
    }
    let sequential = &mut cell.entries[1];
    sequential.rounds.clear();
    sequential.status = Status::Skipped("serves one client at a time".to_owned());
    judge(cell)
}

/// The engine uring with its features one by one.
pub(crate) fn ladder() -> Cell {
    const DEFAULTS: f64 = 2.6;
    const NOTHING: f64 = 3.05;
    let mut contenders = vec![("uring".to_owned(), DEFAULTS), ("epoll".to_owned(), 2.81)];
    let mut steps = Vec::new();
    let mut step = |feature: &str, kind, from: &str, to: &str| {
        steps.push(Step {
            feature: feature.to_owned(),
            kind,
            from: from.to_owned(),
            to: to.to_owned(),
            ratio: None,
            verdict: Verdict::NoDifferenceShown,
        });
    };
    let (mut from, mut cpu) = ("uring:none".to_owned(), NOTHING);
    contenders.push((from.clone(), cpu));
    for (index, (feature, part)) in FEATURES.into_iter().enumerate() {
        let is_last = index + 1 == FEATURES.len();
        let to = match is_last {
            true => "uring".to_owned(),
            false => format!("{from},+{feature}"),
        };
        step(feature, StepKind::Climb, &from, &to);
        cpu *= part;
        if !is_last {
            contenders.push((to.clone(), cpu));
        }
        from = to;
    }
    for (feature, part) in FEATURES {
        let to = format!("uring:-{feature}");
        step(feature, StepKind::Remove, "uring", &to);
        contenders.push((to, DEFAULTS / part));
    }
    for (feature, part) in OTHERS {
        let to = format!("uring:+{feature}");
        step(feature, StepKind::Add, "uring", &to);
        contenders.push((to, DEFAULTS * part));
    }
    let engines: Vec<_> = contenders
        .iter()
        .map(|(name, cpu)| (name.as_str(), *cpu, cpu * 80.0))
        .collect();
    let mut cell = cell("request-reply, 64 connections, TCP, 32 bytes", &engines);
    cell.steps = steps;
    judge(cell)
}

/// What was measured, yet without any judgement; the first contender once more at the end.
fn cell(name: &str, contenders: &[(&str, f64, f64)]) -> Cell {
    let mut random = fastrand::Rng::with_seed(1);
    let first = contenders.iter().take(1).map(|contender| (contender, true));
    let all = contenders.iter().map(|contender| (contender, false));
    let entries = all.chain(first).map(|(&(name, cpu, latency), null)| Entry {
        rounds: (0..ROUNDS)
            .map(|index| round(&mut random, index, cpu, latency))
            .collect(),
        counted: (!null).then_some(Counted {
            context_switches: per_request(0.01),
            system_calls: per_request(2.03),
        }),
        ..evaluate::entry(name, null)
    });
    Cell {
        name: name.to_owned(),
        work: work(Workload::RequestReply),
        judged_by: Metric::ServerSide,
        point: None,
        idle_look: Some(IdleLook {
            server_busy: 0.002,
            client_busy: 0.003,
        }),
        null: None,
        rounds: ROUNDS,
        invocations: 1,
        entries: entries.collect(),
        doubts: Vec::new(),
        steps: Vec::new(),
    }
}

fn per_request(count: f64) -> Count {
    Count::PerRequest(Spread {
        median: count,
        least: count * 0.98,
        most: count * 1.02,
    })
}

/// A round with noise of a per cent or so.
fn round(random: &mut fastrand::Rng, index: usize, cpu: f64, latency: f64) -> Round {
    let mut noisy = |value: f64| value * (1.0 + 0.03 * (random.f64() + random.f64() - 1.0));
    let cpu = noisy(cpu);
    let requests = (SECONDS * 1e6 / cpu.max(0.1)) as u64;
    let taken = cpu * requests as f64;
    Round {
        round: index,
        seconds: SECONDS,
        requests,
        latency_us: Some(Latency {
            p50: noisy(latency),
            p90: noisy(latency * 1.2),
            p99: noisy(latency * 1.6),
            p99_9: noisy(latency * 3.0),
            max: noisy(latency * 20.0),
        }),
        latencies: None,
        rate: None,
        lateness_us: None,
        spacing: None,
        kept_rate: None,
        server_side_us: Some(taken * 1.1),
        client_side_us: Some(taken * 0.9),
        server_process_us: taken,
        server_user_ticks_us: taken * 0.18,
        server_system_ticks_us: taken * 0.82,
        client_process_us: taken * 0.6,
        peak_memory: 5_300_000,
        memory_per_connection: None,
        own_memory_per_connection: None,
    }
}

/// With medians, ratios and verdicts.
pub(crate) fn judge(mut cell: Cell) -> Cell {
    for entry in &mut cell.entries {
        entry.ratios.clear();
    }
    evaluate::evaluate(&mut cell, 1, 1);
    cell
}
