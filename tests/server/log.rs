//! The log: whoever reads it, slowly or not at all, or cannot be written to, disturbs nobody.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::{Command, Output, Stdio};
use std::thread;

use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::cli::{stderr, with_failing};
use crate::row::{self, Row};
use crate::support::{Client, Server, logged, ringlab, serve_on_passed, wait_until};

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 6] = [
        ("lines_that_are_lost_are_counted", lines_that_are_lost),
        ("the_last_lines_of_many_workers_are_there", last_lines),
        ("every_line_is_json_if_one_is", every_line_is_json),
        ("what_rust_log_means_is_told", bad_rust_log),
        ("colours_are_for_who_wants_them", colours),
        ("a_full_disk_stops_nobody", full_disk),
    ];
    row::trials_of_no_row("log", cases)
}

/// A pipe that has no room left, and what is in it.
fn full_pipe() -> (PipeReader, PipeWriter, Vec<u8>) {
    let (reader, mut writer) = io::pipe().expect("pipes can be made");
    let mut noise = Vec::new();
    while has_room(&writer) {
        let line = [b'\n'; 4096];
        writer.write_all(&line).expect("it has room");
        noise.extend(line);
    }
    (reader, writer, noise)
}

fn has_room(pipe: &PipeWriter) -> bool {
    let mut pipe = [PollFd::new(pipe, PollFlags::OUT)];
    poll(&mut pipe, Some(&Timespec::default())).expect("pipes can be polled") > 0
}

fn read_to_end(mut reader: impl Read) -> String {
    let mut log = String::new();
    let read = reader.read_to_string(&mut log);
    read.expect("it ends with the server");
    log
}

pub(crate) fn a_log_that_nobody_reads_holds_up_nobody(row: &Row) {
    let (mut reader, writer, mut noise) = full_pipe();
    let server = Server::start_with_log(row, writer, &[]);
    for _ in 0..4 {
        server.greeted().reset();
        server.greeted().round_trip();
    }
    reader.read_exact(&mut noise).expect("it is there");
    // Who reads again finds what has waited.
    server.stop();
    let log = read_to_end(reader);
    assert!(!log.contains("log lines lost"), "{log}");
    assert_eq!(log.matches("connection failed").count(), 4, "{log}");
    assert!(log.contains("total_accepted=8"), "{log}");
}

pub(crate) fn a_log_that_is_read_slowly_holds_up_nobody_and_loses_nothing(row: &Row) {
    let (mut reader, writer, noise) = full_pipe();
    let server = Server::start_with_log(row, writer, &[]);
    let rounds = 12;
    for _ in 0..rounds {
        for _ in 0..3 {
            server.greeted().reset();
            server.greeted().round_trip();
        }
        // Room for a few lines, and never for all.
        reader.read_exact(&mut [0; 128]).expect("it is there");
    }
    let mut rest = vec![0; noise.len() - rounds * 128];
    reader.read_exact(&mut rest).expect("it is there");
    server.stop();
    let log = read_to_end(reader);
    assert!(!log.contains("log lines lost"), "{log}");
    assert_eq!(log.matches("connection failed").count(), rounds * 3);
}

pub(crate) fn a_log_that_nobody_reads_holds_up_no_exit(row: &Row) {
    for signals in 1..=2 {
        let (_reader, writer, _) = full_pipe();
        let server = Server::start_with_log(row, writer, &["--drain-timeout", "1h"]);
        let client = server.greeted();
        server.signal(Signal::TERM);
        if signals == 1 {
            drop(client);
            assert_eq!(server.exit().code, Some(0));
        } else {
            // One that comes before the first was seen is the same one.
            wait_until("the drain has begun", || {
                Client::connect(&server.endpoint).is_err()
            });
            server.signal(Signal::TERM);
            assert_eq!(server.exit().code, Some(1));
        }
    }
}

/// `ringlab serve` with an engine that runs everywhere.
fn serve(args: &[&str]) -> Command {
    let mut command = ringlab();
    command
        .args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"])
        .args(args);
    command
}

fn lines_that_are_lost() {
    const CLIENTS: usize = 5000;
    let (mut reader, writer, mut noise) = full_pipe();
    let row = &row::rows()[1];
    let server = Server::start_with_log(row, writer, &["--log-format", "json"]);
    drop(server.greeted());
    let before = server.descriptors();
    for _ in 0..CLIENTS {
        server.greeted().reset();
    }
    // Each has been logged by now, or lost.
    server.wait_for_descriptors(before);
    reader.read_exact(&mut noise).expect("it is there");
    // Until the loss is told there is room for nothing else, such as the drain.
    let mut reader = BufReader::new(reader);
    let mut log = String::new();
    while !log.contains("log lines lost") {
        let read = reader.read_line(&mut log);
        assert!(read.expect("it still runs") > 0, "nothing was lost");
    }
    let read = thread::spawn(move || read_to_end(reader));
    server.stop();
    log += &read.join().expect("the log can be read");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let told = lines
        .iter()
        .filter(|line| line["message"] == "connection failed");
    let lost: Vec<_> = lines
        .iter()
        .filter_map(|line| line["lost"].as_u64())
        .collect();
    let all = told.count() as u64 + lost.iter().sum::<u64>();
    assert_eq!(all, CLIENTS as u64, "lost {lost:?}");
    let last = lines.last().expect("a line");
    assert_eq!(last["message"], "all workers", "{last}");
}

fn last_lines() {
    // More than a pipe takes at once, unless there are descriptors for fewer.
    let server = Server::spawn(&mut serve(&["--workers", "500"]));
    let log = server.stop().log;
    let serving = log.split_once(" serving ").expect("it serves").1;
    let started = serving.split_once(" workers=").expect("by so many").1;
    let started = started.split_whitespace().next().expect("a number");
    let workers = logged(&log, "worker").len();
    assert_eq!(workers.to_string(), started, "{log}");
    assert!(workers > 100, "{log}");
    assert!(
        log.ends_with('\n') && log.contains("total_accepted=0"),
        "{log}"
    );
}

/// What is said on stderr is JSON, an object a line, and one of them has `message`.
fn expect_json(output: &Output, message: &str) {
    let log = stderr(output);
    let mut found = false;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{log}"));
        assert!(line["timestamp"].is_string(), "{log}");
        assert!(line["level"].is_string(), "{log}");
        found |= line["message"].as_str().expect(&log).contains(message);
    }
    assert!(found, "{message:?} is missing in {log}");
}

fn every_line_is_json() {
    let json = ["--log-format", "json"];
    for (args, code, message) in [
        // TEST-NET-1 of RFC 5737 belongs to no host.
        (&["--listen", "192.0.2.1:0"][..], 1, "cannot listen on 192"),
        (&["--listen", "nowhere"], 2, "nowhere"),
        (&["--engine", "fastest"], 2, "fastest"),
        (&["--workers", "0"], 2, "--workers"),
    ] {
        let args = [&["serve"], args, &json].concat();
        let output = ringlab().args(args).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        expect_json(&output, message);
    }
    let output = serve(&["--log-format=json", "--engine", "tokio"]).output();
    let output = output.expect("it can be started");
    assert_eq!(output.status.code(), Some(2), "--engine comes twice");
    expect_json(&output, "cannot be used multiple times");

    let mut passed = serve_on_passed(io::pipe().expect("pipes can be made").0, &["3<&0"]);
    let output = passed.args(json).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    expect_json(&output, "neither a TCP nor a Unix stream socket");

    let output = with_failing(&[libc::SYS_io_uring_setup], 1, || {
        let mut command = ringlab();
        command.arg("serve").args(json);
        command.output().expect("it can be started")
    });
    expect_json(&output, "remedy: ");
}

fn bad_rust_log() {
    for (rust_log, refused) in [("info,ringlab=loud", "`ringlab=loud`"), ("=,info", "`=`")] {
        for format in ["text", "json"] {
            let mut command = serve(&["--log-format", format]);
            let server = Server::spawn(command.env("RUST_LOG", rust_log));
            let log = server.stop().log;
            assert!(log.contains(refused), "{log}");
            // What is understood applies.
            assert!(log.contains("draining"), "{log}");
            let json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
            assert!(format == "text" || log.lines().all(json), "{log}");
        }
    }
}

/// What a server that is started and stopped again writes to a terminal.
fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("terminals can be made");
    grantpt(&terminal).expect("it is ours");
    unlockpt(&terminal).expect("it is ours");
    let path = ptsname(&terminal, Vec::new()).expect("it has a name");
    let path = path.to_str().expect("a path of the kernel's");
    let other = OpenOptions::new().read(true).write(true).open(path);
    let other = other.expect("it can be opened");
    let mut command = Command::new("sh");
    let server = Server::spawn(
        command
            .args(["-c", "exec \"$0\" \"$@\" 2>&0 </dev/null"])
            .arg(env!("CARGO_BIN_EXE_ringlab"))
            .args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"])
            .env_remove("RUST_LOG")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(Stdio::from(other)),
    );
    drop(command);
    let read = thread::spawn(move || {
        let mut log = Vec::new();
        // It ends with EIO when nobody has the other side any more.
        let _ = File::from(terminal).read_to_end(&mut log);
        String::from_utf8(log).expect("valid UTF-8")
    });
    server.stop();
    read.join().expect("the log can be read")
}

fn colours() {
    for (variables, coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let log = on_a_terminal(variables);
        assert!(log.contains("draining"), "{log:?}");
        assert_eq!(log.contains('\x1b'), coloured, "{variables:?}: {log:?}");
    }
}

fn full_disk() {
    let full = || {
        let full = OpenOptions::new().write(true).open("/dev/full");
        Stdio::from(full.expect("/dev/full is there"))
    };
    let closed = "127.0.0.1";
    for (args, code) in [
        (&["serve", "--listen", "192.0.2.1:0"][..], 1),
        (&["serve", "--listen", "nowhere"], 2),
        (&["serve", "--log-format", "json", "--listen", "x"], 2),
        // Nobody listens on port 1.
        (&["client", closed, "1"], 1),
        (&["probe", "--format", "xml"], 2),
        (&["probe"], 1),
        (&["--help"], 0),
    ] {
        let status = ringlab()
            .args(args)
            .env("RUST_LOG", "ringlab=loud")
            .stdout(full())
            .stderr(full())
            .status()
            .expect("it can be started");
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
    let row = &row::rows()[1];
    let full = OpenOptions::new().write(true).open("/dev/full");
    let server = Server::start_with_log(row, full.expect("/dev/full is there"), &[]);
    server.greeted().reset();
    server.greeted().round_trip();
    server.stop();
}
