//! What the server counts, and how it tells.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringlab::framing::Framer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Row;
use crate::support::{self, Exit, Server, last_logged, ringlab};

/// What the log says at exit of all workers together. Checks that it is the sum of what it says of
/// each.
pub(crate) fn total(exit: &Exit, name: &str) -> usize {
    let lines = exit.log.lines().filter(|line| line.contains("worker done"));
    let each: usize = lines.map(|line| last_logged(line, name)).sum();
    let total = last_logged(&exit.log, &format!("total_{name}"));
    assert_eq!(each, total, "{name} in\n{}", exit.log);
    total
}

fn expect_totals(exit: &Exit, expected: &[(&str, usize)]) {
    for &(name, value) in expected {
        assert_eq!(total(exit, name), value, "{name} in\n{}", exit.log);
    }
}

pub(crate) fn every_byte_is_counted(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &support::unix_endpoint(directory.path())] {
        let server = Server::start_on(row, listen, &[]);
        let (mut accepted, mut received, mut sent) = (0, 0, 0);
        let mut count = |input: usize, replies: usize| {
            accepted += 1;
            received += input;
            sent += 1 + replies;
        };
        let mut silent = server.greeted();
        silent.half_close();
        silent.expect_end();
        count(0, 0);
        for (largest, length) in [(3, 3_000), (5_000, 200_000), (1 << 20, 500_000)] {
            let mut random = fastrand::Rng::with_seed(length as u64);
            let input = support::random_input(row.enough(length), &mut random);
            let replies = Framer::new().feed(&mut input.clone());
            server.greeted().verify(&input, largest, &mut random);
            count(input.len(), replies);
        }
        // Replies for which the socket has no room for a while, and so in parts. TCP has so much
        // room that it would take too many calls of a byte each.
        if row.concurrent() || listen != "127.0.0.1:0" {
            let mut client = server.greeted();
            let input = client.send_until_stuck();
            client.half_close();
            client.expect_only(|byte| byte == b'y' || byte == b'_');
            // Of one message without an end, all but the opening byte comes back.
            count(input, input - 1);
        }

        expect_totals(
            &server.stop(),
            &[
                ("accepted", accepted),
                ("received_bytes", received),
                ("sent_bytes", sent),
                ("active", 0),
                ("timed_out", 0),
                ("failed", 0),
                ("cut", 0),
            ],
        );
    }
}

pub(crate) fn every_end_is_counted(row: &Row) {
    let impatient = Server::start(row, &["--idle-timeout", "100ms"]);
    impatient.greeted().expect_end();
    expect_totals(
        &impatient.stop(),
        &[("accepted", 1), ("timed_out", 1), ("failed", 0), ("cut", 0)],
    );

    let server = Server::start(row, &["--idle-timeout", "0", "--drain-timeout", "0"]);
    let mut orderly = server.greeted();
    orderly.round_trip();
    orderly.half_close();
    orderly.expect_end();
    for _ in 0..3 {
        let mut client = server.greeted();
        client.send(b"^in mid-message");
        client.reset();
    }
    server.wait_for_counter("failed", 3);
    let mut rest = vec![server.greeted()];
    if row.concurrent() {
        rest.push(server.greeted());
    }
    server.wait_for_counter("active", rest.len());
    server.signal(Signal::TERM);
    let exit = server.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    expect_totals(
        &exit,
        &[
            ("accepted", 4 + rest.len()),
            ("active", 0),
            ("timed_out", 0),
            ("failed", 3),
            ("cut", rest.len()),
        ],
    );
}

pub(crate) fn waiting_at_the_limit_is_counted(row: &Row) {
    let server = Server::start(row, &["--max-connections", "1"]);
    assert_eq!(server.counter("limit"), 1);
    assert_eq!(server.counter("at_limit"), 0);
    for earlier in [0, 2, 4] {
        let mut inside = server.greeted();
        assert_eq!(server.counter("at_limit"), 1);
        assert_eq!(server.counter("accept_waits"), earlier + 1);
        let mut waiting = server.connect();
        waiting.half_close();
        inside.round_trip();
        waiting.expect_silence();
        drop(inside);
        waiting.expect(b"*");
        waiting.expect_end();
        server.wait_for_counter("at_limit", 0);
        assert_eq!(server.counter("accept_waits"), earlier + 2);
    }
}

pub(crate) fn sigusr1_disturbs_neither_service_nor_drain(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "1h"]);
    let mut random = fastrand::Rng::with_seed(1);
    let input = support::random_input(row.enough(200_000), &mut random);
    thread::scope(|scope| {
        let verified = scope.spawn(|| server.greeted().verify(&input, 500, &mut random));
        while !verified.is_finished() {
            server.signal(Signal::USR1);
            thread::sleep(Duration::from_millis(1));
        }
        verified.join().expect("every byte is right");
    });
    let mut client = server.greeted();
    server.signal(Signal::TERM);
    // The one before may not have been closed yet.
    server.wait_for_log("draining open=");
    for _ in 0..20 {
        server.signal(Signal::USR1);
        client.round_trip();
    }
    server.wait_for_counter("active", 1);
    client.half_close();
    client.expect_end();
    let exit = server.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    let received = input.len() + 20 * b"^ringlab$".len();
    expect_totals(&exit, &[("accepted", 2), ("received_bytes", received)]);
}

/// Whether a process handles SIGUSR1 by now, see proc_pid_status(5).
fn handles_sigusr1(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it still runs");
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .expect("proc_pid_status(5) has SigCgt");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
    caught >> (Signal::USR1.as_raw() - 1) & 1 == 1
}

pub(crate) fn sigusr1_does_not_disturb_the_start() {
    for row in crate::rows() {
        if row.engine.availability().is_err() {
            continue;
        }
        let mut child: Child = ringlab()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(&row.args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let (pid, process) = (child.id(), Pid::from_child(&child));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        let started = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let begun = Instant::now();
                while !started.load(Ordering::Relaxed) {
                    if begun.elapsed() > support::PATIENCE {
                        kill_process(process, Signal::KILL).expect("it still runs");
                    } else if handles_sigusr1(pid) {
                        kill_process(process, Signal::USR1).expect("it still runs");
                    }
                    // A process that does nothing but handle signals never gets anywhere.
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let read = stdout.read_line(&mut line);
            started.store(true, Ordering::Relaxed);
            read.expect("stdout can be read");
        });
        assert!(line.starts_with("listening on "), "{}: {line:?}", row.name);
        kill_process(process, Signal::TERM).expect("it still runs");
        let status = child.wait().expect("it can be waited for");
        assert_eq!(status.code(), Some(0), "{}", row.name);
    }
}

pub(crate) fn counters_are_fields_of_json_logs() {
    let mut command = ringlab();
    command.args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command.args(["--workers", "2", "--log-format", "json"]));
    let mut client = server.greeted();
    client.round_trip();
    drop(client);
    let log = server.stop().log;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let sum = |name: &str| -> u64 {
        let values = lines.iter().filter_map(|line| line[name].as_u64());
        values.sum()
    };
    for (name, value) in [
        ("accepted", 1),
        ("active", 0),
        ("accept_waits", 0),
        ("at_limit", 0),
        ("timed_out", 0),
        ("failed", 0),
        ("cut", 0),
        ("received_bytes", 9),
        ("sent_bytes", 8),
    ] {
        assert_eq!(sum(name), value, "{name} in\n{log}");
        assert_eq!(sum(&format!("total_{name}")), value, "{name} in\n{log}");
    }
    assert_eq!(sum("limit"), sum("total_limit"), "{log}");
}
