//! What the command line accepts, refuses and explains; none of it depends on the engine.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};
use std::thread;

use libtest_mimic::Trial;
use ringlab::endpoint::Endpoint;
use ringlab::engine::Engine;
use ringlab::features::Feature;
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use serde_json::Value;

use crate::counters;
use crate::row;
use crate::support::{Client, Exit, Server, address, ringlab, unix_endpoint};

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 20] = [
        ("usage_errors_exit_with_2", usage_errors_exit_with_2),
        (
            "addresses_of_others_are_explained",
            addresses_of_others_are_explained,
        ),
        (
            "unix_sockets_have_the_mode_asked_for",
            unix_sockets_have_the_mode_asked_for,
        ),
        (
            "blocked_io_uring_is_explained",
            blocked_io_uring_is_explained,
        ),
        (
            "missing_io_uring_is_explained",
            missing_io_uring_is_explained,
        ),
        (
            "other_engines_run_without_io_uring",
            other_engines_run_without_io_uring,
        ),
        ("logs_are_json_on_request", logs_are_json_on_request),
        (
            "counters_are_fields_of_json_logs",
            counters::counters_are_fields_of_json_logs,
        ),
        (
            "sigusr1_does_not_disturb_the_start",
            counters::sigusr1_does_not_disturb_the_start,
        ),
        (
            "probe_shows_every_feature_and_engine",
            probe_shows_every_feature_and_engine,
        ),
        (
            "probe_is_right_where_io_uring_is_blocked",
            probe_is_right_where_io_uring_is_blocked,
        ),
        (
            "probe_is_right_where_io_uring_is_missing",
            probe_is_right_where_io_uring_is_missing,
        ),
        (
            "a_closed_stderr_does_not_disturb_the_service",
            a_closed_stderr_does_not_disturb,
        ),
        (
            "few_descriptors_leave_room_for_connections",
            few_descriptors_leave_room,
        ),
        (
            "servers_that_cannot_accept_do_not_start",
            servers_that_cannot_accept_do_not_start,
        ),
        ("zones_have_names", zones_have_names),
        (
            "client_fails_on_a_wrong_reply",
            client_fails_on_a_wrong_reply,
        ),
        (
            "client_fails_on_a_missing_reply",
            client_fails_on_a_missing_reply,
        ),
        (
            "client_waits_for_no_server_that_says_nothing",
            client_waits_for_no_server_that_says_nothing,
        ),
        ("client_waits_its_turn", client_waits_its_turn),
    ];
    row::trials_of_no_row("cli", cases)
}

pub(crate) fn run(args: &[&str]) -> Output {
    ringlab()
        .args(args)
        .output()
        .expect("ringlab can be started")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn usage_errors_exit_with_2() {
    for args in [
        &[][..],
        &["serve", "--engine", "fastest"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--listen", "127.0.0.1:70000"],
        &["serve", "--unix-mode", "1777"],
        &["serve", "--unix-mode", "rw"],
        &["serve", "--workers", "0"],
        &["serve", "--workers", "18446744073709551615"],
        &["serve", "--idle-timeout", "1us"],
        &["serve", "--max-connections", "-1"],
        &["serve", "--idle-timeout", "5"],
        &["serve", "--log-format", "xml"],
        &["serve", "--uring-features", "warp"],
        &["serve", "--uring-features", "sqpoll,defer-taskrun"],
        &["serve", "--uring-features", ""],
        &["serve", "--uring-entries", "0"],
        #[cfg(feature = "metrics")]
        &["serve", "--metrics", "unix:/metrics"],
        #[cfg(not(feature = "metrics"))]
        &["serve", "--metrics", "127.0.0.1:0"],
        &["probe", "--format", "xml"],
        &["client", "localhost"],
        &["client", "localhost", "9090", "-n", "0"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert_eq!(output.stdout, b"", "{args:?}");
        assert!(stderr(&output).contains("--help"), "{args:?}: {output:?}");
    }
}

fn addresses_of_others_are_explained() {
    // TEST-NET-1 of RFC 5737 belongs to no host.
    let output = run(&["serve", "--engine", "threads", "--listen", "192.0.2.1:0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("cannot listen on 192.0.2.1:0"),
        "{output:?}"
    );
}

fn unix_sockets_have_the_mode_asked_for() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path().join("socket");
    for (umask, options, expected) in [
        ("000", &[][..], 0o600),
        ("077", &["--unix-mode", "0660"], 0o660),
        ("000", &["--unix-mode", "0"], 0),
    ] {
        // The mode is the one asked for, whatever the umask.
        let umasked = format!("umask {umask} && exec \"$0\" \"$@\"");
        let server = Server::spawn(
            Command::new("sh")
                .args(["-c", &umasked, env!("CARGO_BIN_EXE_ringlab")])
                .args(["serve", "--engine", "threads", "--listen"])
                .arg(unix_endpoint(directory.path()))
                .args(options),
        );
        let mode = path.metadata().expect("the socket's file").mode() & 0o7777;
        assert_eq!(mode, expected, "{mode:o} instead of {expected:o}");
        server.stop();
    }
}

/// Runs `start` where the kernel answers the system calls with these numbers with `errno`, as under
/// the seccomp profile of a container. A filter applies to the thread that installs it and to what
/// that thread starts.
pub(crate) fn with_failing<T: Send>(
    calls: &[i64],
    errno: u32,
    start: impl FnOnce() -> T + Send,
) -> T {
    let filter = SeccompFilter::new(
        calls.iter().map(|&call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with seccomp"),
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a valid filter");
    thread::scope(|scope| {
        let filtered = scope.spawn(move || {
            seccompiler::apply_filter(&program).expect("filters are allowed");
            start()
        });
        filtered.join().expect("it does not panic")
    })
}

fn without_io_uring<T: Send>(errno: u32, start: impl FnOnce() -> T + Send) -> T {
    with_failing(&[libc::SYS_io_uring_setup], errno, start)
}

fn expect_explanation(errno: u32, cause: &str) {
    let output = without_io_uring(errno, || run(&["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let text = stderr(&output);
    assert!(
        text.contains("engine tokio-uring cannot run here"),
        "{text}"
    );
    for part in [
        cause,
        "remedy: ",
        "engines that run here: sequential, threads",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn blocked_io_uring_is_explained() {
    expect_explanation(1, "forbidden to this process by a seccomp filter");
}

fn missing_io_uring_is_explained() {
    expect_explanation(38, "hidden from this process by a seccomp filter");
}

fn other_engines_run_without_io_uring() {
    for engine in Engine::ALL {
        if engine.uses_io_uring() {
            continue;
        }
        let server = without_io_uring(1, || {
            let args = [
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--engine",
                engine.name(),
            ];
            Server::spawn(ringlab().args(args))
        });
        server.greeted().round_trip();
    }
}

fn probe_shows_every_feature_and_engine() {
    let text = run(&["probe"]);
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    let text = String::from_utf8(text.stdout).expect("valid UTF-8");
    let json = run(&["probe", "--format", "json"]);
    assert_eq!(json.status.code(), Some(0), "{json:?}");
    let json: Value = serde_json::from_slice(&json.stdout).expect("valid JSON");
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{line:?} is wider than a terminal"
        );
    }
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    assert!(text.contains(&release), "{text}");
    assert_eq!(json["kernel"]["release"], release);
    for feature in Feature::ALL {
        assert!(text.contains(feature.name()), "{text}");
        assert_eq!(json["features"][feature.name()]["since"], feature.since());
    }
    for engine in Engine::ALL {
        assert!(text.contains(engine.name()), "{text}");
        let runs = engine.availability().is_ok();
        assert_eq!(json["engines"][engine.name()]["runs"], runs);
    }
}

fn expect_probe(errno: u32, cause: &str) {
    let json = without_io_uring(errno, || run(&["probe", "--format", "json"]));
    assert_eq!(json.status.code(), Some(0), "{json:?}");
    let json: Value = serde_json::from_slice(&json.stdout).expect("valid JSON");
    assert_eq!(json["io_uring"]["available"], false);
    let explained = json["io_uring"]["cause"].as_str().expect("a cause");
    assert!(explained.contains(cause), "{explained}");
    assert!(json["io_uring"]["remedy"].is_string());
    for feature in Feature::ALL {
        let status = &json["features"][feature.name()];
        assert_eq!(status["status"], "switched off", "{status}");
        assert_eq!(status["auto"], false, "{status}");
        assert_eq!(status["cause"], explained);
    }
    for engine in Engine::ALL {
        let found = &json["engines"][engine.name()];
        assert_eq!(found["runs"], !engine.uses_io_uring(), "{found}");
    }
    let text = without_io_uring(errno, || run(&["probe"]));
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    let text = String::from_utf8(text.stdout).expect("valid UTF-8");
    assert!(text.contains("remedy: allow io_uring_setup"), "{text}");
}

fn probe_is_right_where_io_uring_is_blocked() {
    expect_probe(1, "forbidden to this process by a seccomp filter");
}

fn probe_is_right_where_io_uring_is_missing() {
    expect_probe(38, "hidden from this process by a seccomp filter");
}

fn logs_are_json_on_request() {
    let mut command: Command = ringlab();
    command.args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command.args(["--log-format", "json"]));
    let log = server.stop().log;
    assert!(log.contains("draining"), "{log}");
    for line in log.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(line.contains(r#""level":"INFO""#), "{line}");
    }
}

fn a_closed_stderr_does_not_disturb() {
    for engine in Engine::ALL {
        let mut child = ringlab()
            .args([
                "serve",
                "-v",
                "--listen",
                "127.0.0.1:0",
                "--engine",
                engine.name(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        drop(child.stderr.take());
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout can be read");
        let endpoint = line.trim_start_matches("listening on ").trim_end();
        let endpoint: Endpoint = endpoint.parse().expect("it announces an endpoint");
        let mut client = Client::connect(&endpoint).expect("the server listens");
        client.expect(b"*");
        // Is logged, and so are the drain and the workers' counters.
        client.reset();
        let mut client = Client::connect(&endpoint).expect("the server listens");
        client.expect(b"*");
        client.round_trip();
        drop(client);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it still runs");
        let status = child.wait().expect("it can be waited for");
        assert_eq!(status.code(), Some(0), "{engine}");
    }
}

/// Whatever the limit, a server that says that it listens serves somebody, and another one tells
/// what to do.
fn servers_that_cannot_accept_do_not_start() {
    for engine in Engine::ALL {
        let mut served = false;
        for limit in 12..40 {
            let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
            let mut command = Command::new("sh");
            command
                .args(["-c", &limited, env!("CARGO_BIN_EXE_ringlab"), "serve"])
                .args(["--workers", "1", "--listen", "127.0.0.1:0"])
                .args(["--engine", engine.name()]);
            match Server::try_spawn(&mut command) {
                Ok(server) => {
                    server.greeted().round_trip();
                    served = true;
                    break;
                }
                Err(Exit { code, log }) => {
                    assert_eq!(code, Some(1), "{limit}: {log}");
                    assert!(log.contains("ulimit -n"), "{limit}: {log}");
                }
            }
        }
        assert!(
            served,
            "{engine} needs more than 40 descriptors for a client"
        );
    }
}

/// A zone's name is read, and its number is what the rest knows.
fn zones_have_names() {
    let local = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    // Address, index, length of the prefix, scope, flags, name.
    let local = local.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let name = columns.get(5).filter(|_| line.starts_with("fe80"))?;
        let groups = columns[0].as_bytes().chunks(4);
        let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
        Some(format!("[{}%{name}]:0", groups.join(":")))
    });
    if let Some(listen) = local {
        let args = ["serve", "--engine", "threads", "--listen", &listen];
        let server = Server::spawn(ringlab().args(args));
        server.greeted().round_trip();
        server.stop();
    }
    // Nobody has this one.
    let listen = "[fe80::dead:beef%lo]:0";
    let output = run(&["serve", "--engine", "threads", "--listen", listen]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complaint = "cannot listen on [fe80::dead:beef%1]:0: ";
    assert!(stderr(&output).contains(complaint), "{output:?}");
    for listen in ["[fe80::1%nowhere]:0", "name.invalid:0"] {
        let output = run(&["serve", "--engine", "threads", "--listen", listen]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = "cannot find an address of";
        assert!(stderr(&output).contains(complaint), "{output:?}");
    }
}

fn few_descriptors_leave_room() {
    let limited = "ulimit -n 256 && exec \"$0\" serve --workers 1000 --listen 127.0.0.1:0";
    let mut command = Command::new("sh");
    let server = Server::spawn(command.args(["-c", limited, env!("CARGO_BIN_EXE_ringlab")]));
    let mut clients: Vec<_> = (0..64).map(|_| server.greeted()).collect();
    clients.iter_mut().for_each(Client::round_trip);
    drop(clients);
    let log = server.stop().log;
    assert!(log.contains("fewer workers than asked for"), "{log}");
}

/// `ringlab client` against a server that sends `replies` and closes.
fn client_of(replies: &'static [u8]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener
        .local_addr()
        .expect("a bound socket")
        .port()
        .to_string();
    let server = thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().expect("the client connects");
        stream.write_all(replies).expect("the client listens");
    });
    let output = run(&["client", "127.0.0.1", &port]);
    server.join().expect("the server does not panic");
    output
}

fn client_fails_on_a_wrong_reply() {
    for (replies, complaint) in [
        (&b"?"[..], "the greeting is b'?', not b'*'"),
        (
            b"*bcdbcuf23436bc1112",
            "the replies are b'bcdbcuf23436bc1112'",
        ),
    ] {
        let output = client_of(replies);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(complaint), "{output:?}");
    }
}

fn client_fails_on_a_missing_reply() {
    for (replies, complaint) in [
        (&b""[..], "the server closed before it greeted"),
        (b"*bcdbcuf", "the server closed after 7 of 18 replies"),
    ] {
        let output = client_of(replies);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(complaint), "{output:?}");
    }
}

fn client_waits_for_no_server_that_says_nothing() {
    let expect_complaint = |said: &[u8], complaint: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let client = thread::spawn(move || run(&["client", "127.0.0.1", &port.to_string()]));
        let (mut stream, _) = listener.accept().expect("the client connects");
        stream.write_all(said).expect("the client listens");
        let output = client.join().expect("it does not panic");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(complaint), "{output:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| expect_complaint(b"", "no greeting for 10 s"));
        scope.spawn(|| expect_complaint(b"*bcdb", "no reply for 10 s, after 4 of 18"));
    });
}

/// The last one is greeted after 11 seconds, and all the time the server is busy with the others.
fn client_waits_its_turn() {
    let args = ["serve", "--engine", "sequential", "--listen", "127.0.0.1:0"];
    let server = Server::spawn(ringlab().args(args));
    let port = address(&server.endpoint).port().to_string();
    // Brackets are what people write around an IPv6 address; a name does as well.
    let output = run(&["client", "127.1", &port, "-n", "6"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
