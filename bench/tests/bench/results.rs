//! What loads leave behind: files that are whole, logs that say when; and what merge reads.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::faulty::{self, Fault, SLOW_GREETING};
use crate::load::wait_for_connections;
use crate::support::{self, Server, run, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        an_interval_log_starts_when_measuring_does,
        a_log_without_a_final_newline_is_whole,
        logs_with_absurd_figures_are_refused_at_once,
        a_log_that_cannot_be_written_leaves_the_one_before,
        a_log_is_written_though_the_result_cannot_be_shown,
        a_signal_that_was_ignored_stays_ignored,
        a_signal_that_was_blocked_is_not_any_more,
    ]
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringlab-bench");

/// Writes a log of a load on a server that is at `target`.
fn log(target: &str, path: &Path) {
    let arguments = [
        "load",
        "--requests",
        "100",
        "--target",
        target,
        "--interval-log",
    ];
    run(&[&arguments[..], &[path.to_str().unwrap()]].concat()).ended_with(0);
}

fn merge(path: &Path) -> support::Ran {
    run(&["merge", "--format", "json", path.to_str().unwrap()])
}

fn an_interval_log_starts_when_measuring_does() {
    let target = faulty::start(Fault::GreetSlowly).to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let began = SystemTime::now();
    log(&target, &path);
    let text = fs::read_to_string(&path).unwrap();
    let base = text
        .lines()
        .find_map(|line| line.strip_prefix("#[BaseTime: ")?.split(' ').next())
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs_f64)
        .unwrap();
    let since = SystemTime::UNIX_EPOCH + base;
    let passed = since.duration_since(began).unwrap();
    // It is told in milliseconds.
    assert!(
        passed + Duration::from_millis(1) >= SLOW_GREETING,
        "{passed:?}"
    );
    assert!(since <= SystemTime::now(), "{text}");
}

fn a_log_without_a_final_newline_is_whole() {
    let server = Server::start("epoll");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    log(&server.endpoint, &path);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    assert_eq!(merge(&path).json(0)["requests"], 100);
    fs::write(&path, text.replace('\n', "\r\n")).unwrap();
    assert_eq!(merge(&path).json(0)["requests"], 100);
}

/// A histogram of the format V2, uncompressed, that claims to have so many bytes of counts.
fn histogram(length: u32, digits: u32, highest: u64, counts: &[u8]) -> String {
    let mut bytes = Vec::new();
    for number in [0x1c84_9313, length, 0, digits] {
        bytes.extend(u32::to_be_bytes(number));
    }
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend(highest.to_be_bytes());
    bytes.extend(1_f64.to_be_bytes());
    bytes.extend(counts);
    BASE64_STANDARD.encode(bytes)
}

fn logs_with_absurd_figures_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let hour = 3_600_000_000_000;
    let sound = histogram(2, 3, hour, &[1, 2]);
    fs::write(&path, format!("0.0,1.0,1.0,{sound}\n")).unwrap();
    assert_eq!(merge(&path).json(0)["requests"], 1);
    let most = u64::MAX;
    for text in [
        format!("{most}.0,1.0,1.0,{sound}\n"),
        format!("1.0,{most}.9,1.0,{sound}\n"),
        format!("#[BaseTime: {most}.9 (seconds since epoch)]\n1.0,1.0,1.0,{sound}\n"),
        format!(
            "#[BaseTime: {}.0 (seconds)]\n1.0,1.0,1.0,{sound}\n",
            most / 2 + 1
        ),
        format!("99999999999999999999.0,1.0,1.0,{sound}\n"),
        format!("0.0,1.0,1.0,{}\n", histogram(u32::MAX, 3, hour, &[1, 2])),
        format!("0.0,1.0,1.0,{}\n", histogram(2, 200, hour, &[1, 2])),
        format!("0.0,1.0,1.0,{}\n", histogram(2, 3, 0, &[1, 2])),
        format!("0.0,1.0,1.0,{}\n", histogram(9, 3, hour, &[0xff; 9])),
        format!(
            "0.0,1.0,1.0,{}\n",
            histogram(9, 3, hour, &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255])
        ),
        format!("0.0,1.0,1.0,{}\n", &sound[..20]),
        format!("0.0,1.0,1.0,{}\n", "A".repeat(1 << 20)),
        "0.0,1.0,1.0,\n".to_owned(),
        "Tag=,,,\n".to_owned(),
        "#\n".repeat(1 << 20),
        "0".repeat(1 << 22),
        "\n".repeat(1 << 22),
    ] {
        fs::write(&path, &text).unwrap();
        let start = Instant::now();
        let ran = merge(&path);
        let text = &text[..text.len().min(200)];
        assert_eq!(ran.code, 1, "{text:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{text:?}: {}", ran.stderr);
        assert!(start.elapsed() < Duration::from_secs(20), "{text:?}");
    }
}

/// Names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| name(entry.unwrap())).collect()
}

fn a_log_that_cannot_be_written_leaves_the_one_before() {
    let server = Server::start("epoll");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "before").unwrap();
    // No file may have a byte more than none.
    let script =
        "ulimit -f 0; exec \"$0\" load --requests 100 --target \"$1\" --interval-log \"$2\"";
    let output = Command::new("sh")
        .args(["-c", script, PROGRAM, &server.endpoint])
        .arg(&path)
        .output();
    let ran = support::ran(output.unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("requests   100"), "{}", ran.stdout);
    assert!(ran.stderr.contains("cannot write"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(names(directory.path()), ["log"]);
}

fn a_log_is_written_though_the_result_cannot_be_shown() {
    let server = Server::start("epoll");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let script =
        "exec \"$0\" load --requests 100 --target \"$1\" --interval-log \"$2\" > /dev/full";
    let output = Command::new("sh")
        .args(["-c", script, PROGRAM, &server.endpoint])
        .arg(&path)
        .output();
    assert_eq!(support::ran(output.unwrap()).code, 1);
    assert_eq!(merge(&path).json(0)["requests"], 100);
}

/// Sends a signal to a load that env(1) has started with an option, as soon as it is connected, and
/// returns how it ended.
fn signalled(option: &str, signal: Signal, duration: &str) -> Value {
    let server = Server::start("epoll");
    let child = Command::new("env")
        .args([
            option,
            PROGRAM,
            "load",
            "--format",
            "json",
            "--warmup",
            "0s",
            "--duration",
        ])
        .args([duration, "--target", &server.endpoint])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    wait_for_connections(&server.endpoint);
    kill_process(pid, signal).unwrap();
    support::ran(child.wait_with_output().unwrap()).json(0)
}

fn a_signal_that_was_ignored_stays_ignored() {
    for (option, signal) in [
        ("--ignore-signal=HUP", Signal::HUP),
        ("--ignore-signal=INT", Signal::INT),
    ] {
        let summary = signalled(option, signal, "1s");
        assert_eq!(summary["interrupted"], false, "{option}");
    }
}

fn a_signal_that_was_blocked_is_not_any_more() {
    let summary = signalled("--block-signal=TERM", Signal::TERM, "1m");
    assert_eq!(summary["interrupted"], true);
}
