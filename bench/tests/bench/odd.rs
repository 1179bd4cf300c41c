//! Loads on servers, and in places, that are odd: they end in time, and their figures agree.

use std::env;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::faulty::{self, FAULTS, Fault};
use crate::support::{self, Server, command, run, trials};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = trials![
        any_workload_ends_in_time_on_any_odd_server,
        replies_that_trickle_do_not_outlast_the_timeout,
        a_server_that_greets_nobody_in_time_is_left,
        what_an_open_loop_owes_takes_no_memory_and_is_counted,
        a_byte_too_many_does_not_undo_the_reply_before_it,
        a_stream_waits_for_replies_when_its_window_is_full,
        names_are_looked_up_and_all_their_addresses_tried,
        processors_that_do_not_exist_are_not_made_do_without,
    ];
    trials.extend([
        in_a_namespace(
            "connections_leave_no_time_wait",
            connections_leave_no_time_wait,
        ),
        in_a_namespace(
            "a_connection_to_itself_is_let_go",
            a_connection_to_itself_is_let_go,
        ),
    ]);
    trials
}

/// A test that needs a network of its own.
fn in_a_namespace(name: &str, test: fn()) -> Trial {
    let can = Command::new("unshare").args(["--net", "true"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    let trial = support::trial(name, test);
    match can || env::var_os("CI").is_some() {
        true => trial,
        false => Trial::test(format!("{name} (without unshare --net: be root)"), || {
            Err(Failed::without_message())
        })
        .with_ignored_flag(true),
    }
}

const WORKLOADS: [&str; 4] = ["request-reply", "stream", "churn", "idle"];

/// How long the loads here may take at most, on a machine that has much else to do: their durations
/// and timeouts make no second.
const ENOUGH: Duration = Duration::from_secs(20);

/// A load of a moment, with what makes it different from others.
struct Moment {
    fault: (&'static str, Fault),
    workload: &'static str,
    options: Vec<&'static str>,
}

impl Moment {
    /// The load number `seed`: the first ones are all workloads on all servers.
    fn of(seed: usize) -> Self {
        let fault = FAULTS[seed % FAULTS.len()];
        let workload = WORKLOADS[seed / FAULTS.len() % WORKLOADS.len()];
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let mut options = Vec::new();
        let mut some = |choices: &[&'static [&'static str]]| {
            let choice = random.usize(0..=choices.len());
            options.extend(choices.get(choice).copied().unwrap_or_default());
        };
        some(&[&["--threads", "2"], &["--threads", "3"]]);
        some(&[&["--requests", "7"], &["--requests", "3000"]]);
        some(&[
            &["--size", "1"],
            &["--size", "1000"],
            &["--size", "1:9,70000:1"],
        ]);
        match workload {
            "request-reply" => {
                some(&[&["--pipeline", "5"], &["--pipeline", "500"]]);
                some(&[
                    &["--rate", "50"],
                    &["--rate", "5000", "--arrivals", "periodic"],
                    &["--rate", "5000000"],
                ]);
            }
            "stream" => some(&[&["--window", "1"], &["--window", "100000"]]),
            _ => {}
        }
        if workload == "idle" {
            options.retain(|option| *option != "--requests" && *option != "7" && *option != "3000");
        }
        Self {
            fault,
            workload,
            options,
        }
    }

    fn run(&self) {
        let target = match self.fault.1 {
            // It would take this process along.
            Fault::Die => return,
            fault => faulty::start(fault).to_string(),
        };
        let common = [
            "load",
            "--format",
            "json",
            "--connections",
            "3",
            "--warmup",
            "0s",
            "--duration",
            "100ms",
            "--timeout",
            "400ms",
            "--target",
            &target,
            "--workload",
            self.workload,
        ];
        let start = Instant::now();
        let ran = run(&[&common[..], &self.options].concat());
        let elapsed = start.elapsed();
        let told = format!(
            "{} on {} with {:?} after {elapsed:?}: {}{}",
            self.workload, self.fault.0, self.options, ran.stdout, ran.stderr
        );
        assert!(elapsed < ENOUGH, "{told}");
        assert!(matches!(ran.code, 0 | 1), "{told}");
        if ran.stdout.is_empty() {
            assert!(
                ran.stderr.starts_with("ringlab-bench: no connection"),
                "{told}"
            );
            return;
        }
        let summary = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{told}"));
        assert!(agrees(&summary, ran.code), "{told}");
    }
}

/// Whether the figures of a run without warm-up agree with each other.
fn agrees(summary: &Value, code: i32) -> bool {
    let count = |name: &str| summary[name].as_u64().unwrap();
    let answered = count("requests") + count("answered_later");
    let has_failed = !summary["failures"].as_array().unwrap().is_empty();
    has_failed == (code != 0)
        && summary["latency_us"].is_null() == (answered == 0)
        && count("bytes_received") >= count("requests")
        && count("bytes_sent")
            >= if summary["workload"] == "idle" {
                0
            } else {
                count("requests")
            }
}

fn any_workload_ends_in_time_on_any_odd_server() {
    let all = FAULTS.len() * WORKLOADS.len();
    let end = env::var("RINGLAB_FUZZ_SECONDS").ok().map(|seconds| {
        let seconds = seconds.parse().expect("RINGLAB_FUZZ_SECONDS is a number");
        Instant::now() + Duration::from_secs(seconds)
    });
    let mut seed = 0;
    while seed < all || end.is_some_and(|end| Instant::now() < end) {
        // They wait most of the time.
        thread::scope(|scope| {
            for seed in seed..seed + 10 {
                scope.spawn(move || Moment::of(seed).run());
            }
        });
        seed += 10;
    }
}

/// Runs a load without warm-up.
fn load(target: &str, arguments: &[&str]) -> support::Ran {
    let common = [
        "load", "--format", "json", "--warmup", "0s", "--target", target,
    ];
    run(&[&common, arguments].concat())
}

fn failure(summary: &Value) -> (&str, u64, &str) {
    let failure = &summary["failures"][0];
    let text = |name: &str| failure[name].as_str().unwrap_or_default();
    let count = failure["count"].as_u64().unwrap_or_default();
    (text("kind"), count, text("example"))
}

fn replies_that_trickle_do_not_outlast_the_timeout() {
    let target = faulty::start(Fault::Trickle).to_string();
    for workload in ["request-reply", "stream", "churn", "idle"] {
        // Each reply takes 500 s.
        let arguments = [
            "--size",
            "10000",
            "--connections",
            "2",
            "--workload",
            workload,
        ];
        let times = ["--duration", "100ms", "--timeout", "500ms"];
        let start = Instant::now();
        let summary = load(&target, &[&arguments[..], &times].concat()).json(1);
        assert!(start.elapsed() < ENOUGH, "{workload}");
        let (kind, count, example) = failure(&summary);
        assert_eq!((kind, count), ("timeout", 2), "{workload}: {example}");
    }
}

fn a_server_that_greets_nobody_in_time_is_left() {
    let target = faulty::start(Fault::Mute).to_string();
    let arguments = ["--connections", "1000", "--timeout", "2s"];
    let start = Instant::now();
    let ran = load(
        &target,
        &[&arguments[..], &["--duration", "100ms"]].concat(),
    );
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("before the greeting"), "{}", ran.stderr);
    assert!(start.elapsed() < ENOUGH);
}

fn what_an_open_loop_owes_takes_no_memory_and_is_counted() {
    let server = Server::start("epoll");
    for arrivals in ["exponential", "periodic"] {
        let child = command(&[
            "load",
            "--format",
            "json",
            "--warmup",
            "0s",
            "--target",
            &server.endpoint,
            "--rate",
            "20000000",
            "--arrivals",
            arrivals,
            "--duration",
            "1s",
            "--timeout",
            "200ms",
            "--threads",
            "2",
            "--connections",
            "4",
        ]);
        let mut child = { child }.stdout(Stdio::piped()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        support::wait_until("it has ended", || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes = line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok());
            peak = peak.max(kilobytes.unwrap_or(0_u64));
            thread::sleep(Duration::from_millis(5));
            child.try_wait().unwrap().is_some()
        });
        let summary = support::ran(child.wait_with_output().unwrap()).json(1);
        assert!((1..50_000).contains(&peak), "{peak} kB");
        let (kind, owed, example) = failure(&summary);
        assert_eq!(kind, "timeout");
        // All of what was due, and neither sent nor answered; and not one connection's part of it.
        let answered = summary["requests"].as_u64().unwrap();
        let due = summary["seconds"].as_f64().unwrap() * 2e7;
        let ratio = (owed + answered) as f64 / due;
        assert!(
            (0.9..1.1).contains(&ratio),
            "{owed} and {answered} of {due}"
        );
        assert!(example.contains("were due"), "{example}");
    }
}

fn a_byte_too_many_does_not_undo_the_reply_before_it() {
    let target = faulty::start(Fault::Extra).to_string();
    let arguments = ["--connections", "4", "--duration", "200ms"];
    let summary = load(&target, &arguments).json(1);
    assert!(agrees(&summary, 1), "{summary}");
    assert!(summary["requests"].as_u64().unwrap() >= 4, "{summary}");
    assert_eq!(failure(&summary).0, "wrong-bytes");
}

fn a_stream_waits_for_replies_when_its_window_is_full() {
    const MESSAGE: u64 = 1002;
    let target = faulty::start(Fault::Sink).to_string();
    let common = [
        "--workload",
        "stream",
        "--size",
        "1000",
        "--connections",
        "3",
    ];
    let times = [
        "--duration",
        "100ms",
        "--timeout",
        "100ms",
        "--requests",
        "100000",
    ];
    for window in ["1", "50000", "1000000"] {
        let arguments = [&common[..], &times, &["--window", window]].concat();
        let summary = load(&target, &arguments).json(1);
        let sent = summary["bytes_sent"].as_u64().unwrap() / 3;
        let window: u64 = window.parse().unwrap();
        assert!(
            (window..window + MESSAGE).contains(&sent),
            "{sent} of {window}"
        );
    }
}

fn names_are_looked_up_and_all_their_addresses_tried() {
    // Whatever else localhost is, nobody listens there.
    let server = Server::start("epoll");
    let port = server.endpoint.rsplit(':').next().unwrap();
    let summary = load(&format!("localhost:{port}"), &["--requests", "100"]).json(0);
    assert_eq!(summary["requests"], 100);
    assert_eq!(
        summary["target"], server.endpoint,
        "where it was in the end"
    );

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for (target, reason) in [
        (format!("localhost:{port}"), "is the server running there?"),
        ("name.invalid:9090".to_owned(), "name.invalid"),
        ("[fe80::1%nosuch]:9090".to_owned(), "fe80::1%nosuch"),
    ] {
        let ran = load(&target, &["--requests", "1", "--timeout", "1s"]);
        assert_eq!(ran.code, 1, "{target}");
        assert!(ran.stderr.contains(reason), "{target}: {}", ran.stderr);
    }
}

fn processors_that_do_not_exist_are_not_made_do_without() {
    let server = Server::start("epoll");
    for processors in ["0,1000", "1000-1001"] {
        let arguments = ["--requests", "10", "--processors", processors];
        let ran = load(&server.endpoint, &arguments);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(ran.stderr.contains("no processor 1000"), "{}", ran.stderr);
    }
    load(&server.endpoint, &["--requests", "10", "--processors", "0"]).json(0);
}

/// Runs a script in a network of its own, in which `$0` is the program.
fn alone(script: &str) -> support::Ran {
    let script = format!("ip link set lo up && {script}");
    let output = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-ec",
            &script,
            env!("CARGO_BIN_EXE_ringlab-bench"),
        ])
        .output();
    support::ran(output.unwrap())
}

fn connections_leave_no_time_wait() {
    for engine in ["epoll", "uring"] {
        let ran = alone(&format!(
            "\"$0\" serve -q --engine {engine} --workers 1 --listen 127.0.0.1:9090 > /dev/null &
             trap 'kill $!' EXIT
             until \"$0\" load --target 127.0.0.1:9090 --requests 1 > /dev/null 2>&1; do :; done
             \"$0\" load --target 127.0.0.1:9090 --workload churn --connections 4 \\
                 --requests 10000 --format json > /dev/null
             cat /proc/net/tcp"
        ));
        let table = ran.ended_with(0);
        // The fourth column of proc_net(5) is the state: 06 is TIME_WAIT.
        let state = |line: &str| {
            line.split_whitespace()
                .nth(3)
                .unwrap_or_default()
                .to_owned()
        };
        let left = table.lines().filter(|line| state(line) == "06").count();
        assert_eq!(left, 0, "{engine}: {table}");
    }
}

fn a_connection_to_itself_is_let_go() {
    let start = Instant::now();
    let ran = alone(
        "echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range
         \"$0\" load --target 127.0.0.1:40004 --connections 100 --timeout 1m --duration 1s",
    );
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("is the server running"),
        "{}",
        ran.stderr
    );
    assert!(
        start.elapsed() < ENOUGH,
        "a socket waited for its own greeting"
    );
}
