//! `ringlab-bench load` and `ringlab-bench merge`.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::faulty::{self, Fault, STALL};
use crate::support::{self, Server, command, run, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        every_workload_is_answered_and_verified_over_tcp_and_unix_sockets,
        sizes_mix_and_requests_are_pipelined,
        a_load_ends_after_as_many_requests_as_it_is_told,
        a_warm_up_that_uses_up_all_requests_is_an_error,
        several_threads_share_connections_and_requests,
        an_open_loop_sends_what_is_due,
        a_result_is_shown_to_people_and_to_scripts,
        one_wrong_byte_in_a_million_is_caught,
        a_reply_that_comes_twice_is_caught,
        a_server_that_greets_otherwise_is_caught,
        resets_early_closes_and_timeouts_are_counted_by_kind,
        a_server_that_is_not_there_is_said_to_be,
        a_stall_of_200_ms_shows_in_the_open_loop,
        the_same_stall_does_not_show_in_a_closed_loop,
        interval_logs_of_several_runs_are_merged,
        what_is_no_interval_log_is_refused,
        an_interrupted_load_tells_what_it_has_measured,
        connections_beyond_the_descriptor_limit_are_refused_with_a_remedy,
        wrong_usage_exits_with_code_2,
    ]
}

/// Runs a load of some requests against a target.
fn load(target: &str, arguments: &[&str]) -> support::Ran {
    let common = [
        "load", "--format", "json", "--warmup", "0s", "--target", target,
    ];
    run(&[&common, arguments].concat())
}

/// How often each kind of failure was counted.
fn failures(summary: &Value) -> Vec<(&str, u64)> {
    let failures = summary["failures"].as_array().unwrap().iter();
    failures
        .map(|failure| {
            let count = failure["count"].as_u64().unwrap();
            (failure["kind"].as_str().unwrap(), count)
        })
        .collect()
}

fn every_workload_is_answered_and_verified_over_tcp_and_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    for endpoint in ["127.0.0.1:0", "[::1]:0", &socket] {
        let server = Server::listen("epoll", endpoint);
        for workload in ["request-reply", "stream", "churn"] {
            let arguments = [
                "--workload",
                workload,
                "--requests",
                "3000",
                "--connections",
                "20",
            ];
            let summary = load(&server.endpoint, &arguments).json(0);
            assert_eq!(summary["requests"], 3000, "{workload}");
            assert_eq!(summary["failures"], json!([]), "{workload}");
        }
        let arguments = [
            "--workload",
            "idle",
            "--duration",
            "50ms",
            "--connections",
            "100",
        ];
        let summary = load(&server.endpoint, &arguments).json(0);
        assert_eq!(summary["requests"], 100, "each shows that it lives");
    }
}

fn sizes_mix_and_requests_are_pipelined() {
    let server = Server::start("uring");
    let arguments = ["--size", "1:10,32:80,4096:9,300000:1", "--pipeline", "50"];
    let summary = load(
        &server.endpoint,
        &[&arguments[..], &["--requests", "5000"]].concat(),
    );
    let summary = summary.json(0);
    assert_eq!(summary["requests"], 5000);
    assert!(summary["bytes_received"].as_u64().unwrap() > 5000 * 3000);
}

fn a_load_ends_after_as_many_requests_as_it_is_told() {
    let server = Server::start("threads");
    for requests in ["1", "2", "1001"] {
        let summary = load(&server.endpoint, &["--requests", requests]).json(0);
        assert_eq!(summary["requests"].to_string(), requests);
    }
    // One that is told nothing else does not spend them on a warm-up, and who has none to send
    // sends none.
    let arguments = ["--format", "json", "--workload", "churn", "--threads", "2"];
    let arguments = [&arguments[..], &["--requests", "1", "--target"]].concat();
    let summary = run(&[&["load"], &arguments[..], &[&server.endpoint]].concat()).json(0);
    assert_eq!(summary["requests"], 1);
}

fn a_warm_up_that_uses_up_all_requests_is_an_error() {
    let server = Server::start("threads");
    let arguments = ["load", "--warmup", "60s", "--requests", "10", "--target"];
    let ran = run(&[&arguments[..], &[&server.endpoint]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("leave out --warmup"), "{}", ran.stderr);
}

fn several_threads_share_connections_and_requests() {
    let server = Server::start("epoll");
    let arguments = ["--threads", "3", "--connections", "7", "--requests", "1000"];
    let summary = load(&server.endpoint, &arguments).json(0);
    assert_eq!(summary["requests"], 1000);
    assert_eq!(summary["threads"], 3);
}

fn an_open_loop_sends_what_is_due() {
    let server = Server::start("epoll");
    let arguments = [
        "--rate",
        "2000",
        "--duration",
        "500ms",
        "--connections",
        "10",
    ];
    let summary = load(&server.endpoint, &arguments).json(0);
    let requests = summary["requests"].as_u64().unwrap();
    // A machine that stands still at the end leaves some of them unanswered by then.
    assert!((500..=1001).contains(&requests), "{requests} of 1000");
}

fn a_result_is_shown_to_people_and_to_scripts() {
    let server = Server::start("epoll");
    let text = run(&[
        "load",
        "--target",
        &server.endpoint,
        "--requests",
        "100",
        "--warmup",
        "0s",
    ]);
    let text = text.ended_with(0);
    for label in [
        "target", "workload", "measured", "requests", "latency", "client", "failures",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(label)),
            "{label}: {text}"
        );
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let summary = load(&server.endpoint, &["--requests", "100"]).json(0);
    let latency = &summary["latency_us"];
    let mut before = 0.0;
    for percentile in ["p50", "p90", "p99", "p99.9", "max"] {
        let value = latency[percentile].as_f64().unwrap();
        assert!(value >= before, "{latency}");
        before = value;
    }
}

fn one_wrong_byte_in_a_million_is_caught() {
    let target = faulty::start(Fault::Corrupt).to_string();
    let arguments = ["--size", "1000", "--requests", "1500"];
    let summary = load(&target, &arguments).json(1);
    assert_eq!(failures(&summary), [("wrong-bytes", 1)]);
}

fn a_reply_that_comes_twice_is_caught() {
    let target = faulty::start(Fault::Repeat).to_string();
    let summary = load(&target, &["--requests", "2000"]).json(1);
    assert_eq!(failures(&summary), [("wrong-bytes", 1)]);
}

fn a_server_that_greets_otherwise_is_caught() {
    let target = faulty::start(Fault::Rude).to_string();
    let ran = load(&target, &["--requests", "10"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("in place of the greeting"),
        "{}",
        ran.stderr
    );
}

fn resets_early_closes_and_timeouts_are_counted_by_kind() {
    for (fault, kind, timeout) in [
        (Fault::Reset, "reset", "1m"),
        (Fault::Close, "closed", "1m"),
        (Fault::Silent, "timeout", "3s"),
    ] {
        let target = faulty::start(fault).to_string();
        let arguments = [
            "--requests",
            "1000",
            "--connections",
            "4",
            "--timeout",
            timeout,
        ];
        let summary = load(&target, &arguments).json(1);
        assert_eq!(failures(&summary), [(kind, 1)]);
        // The others went on.
        assert_eq!(summary["requests"], 999);
    }
}

fn a_server_that_is_not_there_is_said_to_be() {
    for workload in ["request-reply", "churn"] {
        // Port 1 is nobody's.
        let ran = load("127.0.0.1:1", &["--workload", workload]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.stderr.contains("is the server running there?"),
            "{}",
            ran.stderr
        );
    }
}

/// The latencies of a run of requests over 8 connections, among which there is a stall.
fn latencies_around_a_stall(arguments: &[&str]) -> (f64, f64) {
    let target = faulty::start(Fault::Stall).to_string();
    let common = ["--connections", "8"];
    let summary = load(&target, &[&common, arguments].concat()).json(0);
    let latency = |name: &str| summary["latency_us"][name].as_f64().unwrap() / 1000.0;
    (latency("p99.9"), latency("max"))
}

fn a_stall_of_200_ms_shows_in_the_open_loop() {
    // Of 8,000 requests some 800 are due during the stall: those due in its first half wait for at
    // least half of it, so they are far more than one in a thousand.
    let (p99_9, _) = latencies_around_a_stall(&["--rate", "4000", "--duration", "2s"]);
    assert!(p99_9 >= STALL.as_millis() as f64 / 2.0, "{p99_9} ms");
}

fn the_same_stall_does_not_show_in_a_closed_loop() {
    // It sends nothing during the stall: 8 requests, one of each connection, are all that it sees.
    let (p99_9, max) = latencies_around_a_stall(&["--requests", "40000"]);
    let stall = STALL.as_millis() as f64;
    assert!(max >= stall * 0.99, "{max} ms");
    assert!(p99_9 < stall / 2.0, "{p99_9} ms");
}

fn interval_logs_of_several_runs_are_merged() {
    let server = Server::start("epoll");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (first, second, sum) = (path("first.hlog"), path("second.hlog"), path("sum.hlog"));
    for (log, requests) in [(&first, "1000"), (&second, "234")] {
        let summary = load(
            &server.endpoint,
            &["--requests", requests, "--interval-log", log],
        );
        summary.json(0);
    }
    let merged = run(&[
        "merge", &first, &second, "--output", &sum, "--format", "json",
    ])
    .json(0);
    assert_eq!(merged["requests"], 1234);
    let again = run(&["merge", &sum, "--format", "json"]).json(0);
    assert_eq!(again["latency_us"], merged["latency_us"]);
    let text = run(&["merge", &first]).ended_with(0);
    assert!(text.contains("requests   1,000"), "{text}");
}

fn what_is_no_interval_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for text in ["", "#[StartTime: 0]\n", "0,1,2,nonsense\n", "hello"] {
        std::fs::write(&path, text).unwrap();
        let ran = run(&["merge", path.to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{text:?}: {}", ran.stdout);
    }
    assert_eq!(run(&["merge", "/nonexistent"]).code, 1);
}

fn an_interrupted_load_tells_what_it_has_measured() {
    let server = Server::start("epoll");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let common = [
        "load",
        "--format",
        "json",
        "--warmup",
        "0s",
        "--duration",
        "1m",
    ];
    let target = [
        "--target",
        &server.endpoint,
        "--interval-log",
        log.to_str().unwrap(),
    ];
    let child = command(&[&common[..], &target].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    // It may not listen to signals before it has connected.
    wait_for_connections(&server.endpoint);
    kill_process(pid, Signal::INT).unwrap();
    let summary = support::ran(child.wait_with_output().unwrap()).json(0);
    assert_eq!(summary["interrupted"], true);
    assert!(summary["seconds"].as_f64().unwrap() < 60.0);
    assert!(log.exists());
}

/// Waits until somebody else is connected to a server.
pub(crate) fn wait_for_connections(endpoint: &str) {
    let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
    let remote = format!(":{port:04X} 01 ");
    support::wait_until("it is connected", || {
        std::fs::read_to_string("/proc/net/tcp")
            .unwrap()
            .contains(&remote)
    });
}

fn connections_beyond_the_descriptor_limit_are_refused_with_a_remedy() {
    let script = format!(
        "ulimit -n 100; exec {} load --target 127.0.0.1:1 --connections 200",
        env!("CARGO_BIN_EXE_ringlab-bench")
    );
    let ran = support::ran(Command::new("sh").args(["-c", &script]).output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("ulimit"), "{}", ran.stderr);
}

fn wrong_usage_exits_with_code_2() {
    for arguments in [
        &["load"][..],
        &["load", "--target", "nowhere"],
        &["load", "--target", "127.0.0.1:1", "--size", "0"],
        &[
            "load",
            "--target",
            "127.0.0.1:1",
            "--workload",
            "churn",
            "--rate",
            "5",
        ],
        &[
            "load",
            "--target",
            "127.0.0.1:1",
            "--workload",
            "stream",
            "--pipeline",
            "5",
        ],
        &[
            "load",
            "--target",
            "127.0.0.1:1",
            "--workload",
            "idle",
            "--requests",
            "5",
        ],
        &["load", "--target", "127.0.0.1:1", "--processors", "a"],
        &["load", "--target", "127.0.0.1:1", "--duration", "1 year"],
        &["compare", "--contender", "nobody"],
        &["compare", "--contender", "mine=./server"],
        &["compare", "--preset", "nothing"],
        &["merge"],
        &["nothing"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
}
