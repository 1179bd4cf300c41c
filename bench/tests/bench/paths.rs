//! Where a comparison takes place, whose work it counts, and that nothing of it stays behind.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use ringlab_bench::processors::Processors;
use ringlab_bench::report::{Cell, Metric, Path, Report, Status, against};
use rustix::process::{Pid, Signal, kill_process};

use crate::labour;
use crate::support::{self, command, run, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        contenders_of_every_kind_serve_between_hosts,
        who_cannot_be_reached_between_hosts_is_told_why,
        without_the_right_to_make_hosts_there_is_loopback_and_the_reason,
        work_that_is_handed_to_the_other_side_is_counted_all_the_same,
        a_load_without_a_server_costs_the_servers_side_nothing,
        a_server_in_a_session_of_its_own_is_measured,
        a_server_that_goes_to_the_background_is_measured_and_ended,
        nothing_is_left_behind_however_it_ends,
        sockets_that_would_have_no_room_are_found_before_anything_is_measured,
        the_highest_rate_that_keeps_a_promise_is_found,
        a_promise_about_other_work_is_refused,
        several_invocations_are_one_report,
        several_invocations_end_together,
        charged_memory_is_more_than_the_processs_own,
    ]
}

/// What a comparison of one short round or more reports.
fn report(arguments: &[&str]) -> Report {
    let common = ["compare", "--duration", "100ms", "--json", "-"];
    let ran = run(&[&common, arguments].concat());
    against::read(&ran.stdout).unwrap_or_else(|_| panic!("{}\n{}", ran.stdout, ran.stderr))
}

fn this_program(words: &str) -> String {
    let program = env::current_exe().unwrap();
    format!("'{}' {words}", program.display())
}

fn entry<'c>(cell: &'c Cell, name: &str) -> &'c ringlab_bench::report::Entry {
    let mut entries = cell.entries.iter();
    entries.find(|entry| entry.contender == name).unwrap()
}

fn contenders_of_every_kind_serve_between_hosts() {
    let everywhere = format!("everywhere={}", this_program("labour {port}"));
    let engine = env!("CARGO_BIN_EXE_ringlab-bench");
    let there = format!("there='{engine}' serve -q --engine epoll --listen {{address}}:{{port}}");
    let contenders = ["uring", "peer:monoio", &everywhere, &there];
    let mut arguments = vec![
        "--path",
        "hosts",
        "--rounds",
        "1",
        "--work",
        "request-reply",
    ];
    arguments.extend(contenders.iter().flat_map(|it| ["--contender", it]));
    let report = report(&arguments);
    let [cell] = &report.cells[..] else {
        panic!("{report:?}");
    };
    assert_eq!(cell.work.path, Some(Path::Hosts));
    assert_eq!(cell.judged_by, Metric::ServerSide);
    for entry in &cell.entries {
        assert_eq!(entry.status, Status::Measured, "{}", entry.contender);
        let round = &entry.rounds[0];
        let side = round.server_side_us.unwrap();
        // Whatever else there is on this machine, the part is not more than the whole.
        assert!(side >= round.server_process_us * 0.9, "{round:?}");
    }
}

fn who_cannot_be_reached_between_hosts_is_told_why() {
    let engine = env!("CARGO_BIN_EXE_ringlab-bench");
    let here = format!("here='{engine}' serve -q --listen 127.0.0.1:{{port}}");
    let arguments = [
        "--path",
        "hosts",
        "--rounds",
        "1",
        "--work",
        "request-reply",
    ];
    let report = report(&[&arguments[..], &["--contender", &here]].concat());
    let status = format!("{:?}", entry(&report.cells[0], "here").status);
    assert!(status.contains("listen on all addresses"), "{status}");
}

fn without_the_right_to_make_hosts_there_is_loopback_and_the_reason() {
    // As root in a container has it.
    let ran = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", "--"])
        .arg(env!("CARGO_BIN_EXE_ringlab-bench"))
        .args([
            "compare",
            "--rounds",
            "1",
            "--duration",
            "60ms",
            "--json",
            "-",
        ])
        .args(["--contender", "epoll", "--work", "request-reply"])
        .output()
        .unwrap();
    let report = against::read(&String::from_utf8_lossy(&ran.stdout)).unwrap();
    let paths: Vec<_> = report.cells.iter().map(|cell| cell.work.path).collect();
    assert_eq!(paths, [Some(Path::Loopback)]);
    let warnings = report.environment.warnings.join("\n");
    assert!(warnings.contains("no path between hosts"), "{warnings}");
    assert!(warnings.contains("CAP_SYS_ADMIN"), "{warnings}");
}

fn work_that_is_handed_to_the_other_side_is_counted_all_the_same() {
    let allowed = Processors::allowed().unwrap();
    let (_, client) = allowed.split(1);
    if client.count() == 0 {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("helper.sock");
    labour::help_on(&socket, client.split(1).0);
    let own = format!("own={}", this_program("labour {port}"));
    let handed = this_program(&format!("labour {{port}} '{}'", socket.display()));
    let handed = format!("handed={handed}");
    let report = report(&[
        "--path",
        "loopback",
        "--rounds",
        "6",
        "--work",
        "request-reply,connections=4",
        "--baseline",
        &own,
        "--contender",
        &own,
        "--contender",
        &handed,
    ]);
    let cell = &report.cells[0];
    assert_eq!(cell.judged_by, Metric::BothSides);
    let ratio = |metric| {
        let ratio = entry(cell, "handed").ratio(metric).unwrap();
        ratio.estimate.unwrap().median
    };
    let [process, both] = [Metric::Process, Metric::BothSides].map(ratio);
    assert!(process < 0.6, "the process is cheaper: {process}");
    assert!((0.7..1.4).contains(&both), "the work is the same: {both}");
}

fn a_load_without_a_server_costs_the_servers_side_nothing() {
    let idle = report(&[
        "--rounds",
        "1",
        "--contender",
        "epoll",
        "--work",
        "idle,connections=10",
    ]);
    let look = idle.cells[0].idle_look.unwrap();
    let round = &idle.cells[0].entries[0].rounds[0];
    // Whatever else runs on this machine, ten idle connections do not keep a processor busy.
    let busy = round.server_side_us.unwrap() / (round.seconds * 1e6);
    assert!(busy <= 1.0 - look.server_busy.min(1.0), "{busy} {look:?}");
    assert!(
        round.server_process_us < 0.05 * round.seconds * 1e6,
        "{round:?}"
    );
}

fn a_server_in_a_session_of_its_own_is_measured() {
    let slow = this_program("faulty slow {port}");
    let wrapped = format!("wrapped=setsid --fork --wait {slow}");
    let report = report(&[
        "--path",
        "loopback",
        "--rounds",
        "1",
        "--contender",
        &wrapped,
        "--work",
        "request-reply,connections=1",
    ]);
    let entry = entry(&report.cells[0], "wrapped");
    assert_eq!(entry.status, Status::Measured);
    // It computes for 50 µs per request.
    let process = entry.medians.as_ref().unwrap().process_us.unwrap();
    assert!(process > 40.0, "{process} µs per request");
}

fn a_server_that_goes_to_the_background_is_measured_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let slow = this_program("faulty slow $0");
    let background = format!(
        "background=sh -c \"setsid {slow} & echo \\$! >'{}'; exit 0\" {{port}}",
        pid.display()
    );
    let report = report(&[
        "--path",
        "loopback",
        "--rounds",
        "1",
        "--contender",
        &background,
        "--work",
        "request-reply,connections=1",
    ]);
    let entry = entry(&report.cells[0], "background");
    assert_eq!(entry.status, Status::Measured);
    let process = entry.medians.as_ref().unwrap().process_us.unwrap();
    assert!(process > 40.0, "{process} µs per request");
    let pid = fs::read_to_string(pid).unwrap();
    support::wait_until("it has ended", || has_ended(pid.trim()));
}

/// Whether a process is no more, whoever has yet to take note of it.
fn has_ended(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        || !fs::exists(format!("/proc/{pid}")).unwrap()
}

/// The processes whose environment has this.
fn processes_with(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let names = processes.filter_map(|it| it.file_name().into_string().ok());
    names
        .filter(|name| name.parse::<u32>().is_ok() && !has_ended(name))
        .filter(|name| {
            let environment = fs::read(format!("/proc/{name}/environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|it| it == mark.as_bytes())
        })
        .collect()
}

fn nothing_is_left_behind_however_it_ends() {
    let mut random = fastrand::Rng::new();
    for turn in 0..6 {
        let directory = tempfile::tempdir().unwrap();
        let mark = format!("TMPDIR={}", directory.path().display());
        let child = command(&["compare", "--rounds", "3", "--duration", "60ms"])
            .args(["--contender", "uring", "--contender", "peer:compio"])
            .args(["--work", "churn", "--work", "idle,connections=50"])
            .args(["--work", "request-reply,transport=unix"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = support::Running(child);
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        // After so many servers have been seen to start.
        let mut servers = std::collections::HashSet::new();
        let enough = random.usize(1..12);
        support::wait_until("servers have come and gone", || {
            servers.extend(processes_with(&mark));
            servers.len() > enough || has_ended(&child.id().to_string())
        });
        let signal = [Signal::KILL, Signal::TERM, Signal::INT][turn % 3];
        kill_process(pid, signal).unwrap();
        child.end();
        support::wait_until("all processes have gone", || {
            processes_with(&mark).is_empty()
        });
        let left: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
        assert!(left.is_empty(), "{signal:?}: {left:?}");
    }
}

fn sockets_that_would_have_no_room_are_found_before_anything_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    let ran = command(&[
        "compare",
        "--work",
        "churn",
        "--work",
        "churn,transport=unix",
    ])
    .env("TMPDIR", &long)
    .output()
    .unwrap();
    let ran = support::ran(ran);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("set TMPDIR to a shorter one"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stdout.contains("requests/s"), "{}", ran.stdout);
}

fn the_highest_rate_that_keeps_a_promise_is_found() {
    let report = report(&[
        "--slo",
        "p50=50ms",
        "--rounds",
        "1",
        "--path",
        "loopback",
        "--contender",
        "epoll",
    ]);
    let cell = &report.cells[0];
    assert_eq!(cell.judged_by, Metric::Capacity);
    let rate = cell.entries[0].rounds[0].kept_rate.unwrap();
    assert!(rate > 100.0, "{rate}");
}

fn a_promise_about_other_work_is_refused() {
    let ran = run(&["compare", "--slo", "p99=1ms", "--work", "churn"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("request-reply"), "{}", ran.stderr);
}

fn several_invocations_are_one_report() {
    let report = report(&[
        "--invocations",
        "2",
        "--rounds",
        "6",
        "--path",
        "loopback",
        "--contender",
        "epoll",
        "--work",
        "request-reply",
    ]);
    let cell = &report.cells[0];
    assert_eq!((cell.invocations, cell.rounds), (2, 6));
    assert_eq!(cell.entries[0].rounds.len(), 12);
    let null = cell.entries.last().unwrap();
    let ratio = null.ratio(cell.judged_by).unwrap();
    assert!(ratio.between_invocations.is_some(), "{ratio:?}");
}

fn several_invocations_end_together() {
    for signal in [Signal::TERM, Signal::KILL] {
        let directory = tempfile::tempdir().unwrap();
        let mark = format!("TMPDIR={}", directory.path().display());
        let child = command(&["compare", "--preset", "standard", "--invocations", "3"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = support::Running(child);
        // Itself, an invocation, a keeper, a server.
        support::wait_until("a server runs", || {
            processes_with(&mark).len() >= 4 || has_ended(&child.id().to_string())
        });
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        child.end();
        support::wait_until("all processes have gone", || {
            processes_with(&mark).is_empty()
        });
    }
}

fn charged_memory_is_more_than_the_processs_own() {
    let report = report(&[
        "--rounds",
        "1",
        "--contender",
        "threads",
        "--work",
        "idle,connections=500",
    ]);
    let cell = &report.cells[0];
    if cell.judged_by == Metric::OwnMemory {
        // Nobody counts the kernel's memory here.
        return;
    }
    let round = &entry(cell, "threads").rounds[0];
    let [charged, own] = [round.memory_per_connection, round.own_memory_per_connection];
    // A thread's kernel stack alone takes 16 KiB.
    assert!(charged.unwrap() > own.unwrap() + 8_000.0, "{round:?}");
}
