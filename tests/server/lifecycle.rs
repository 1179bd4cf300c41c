//! Start, drain, exit; and who else may listen meanwhile.

use std::io::{self};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::thread;

use rustix::process::Signal;

use crate::Row;
use crate::support::{Client, Server, ringlab, unix_endpoint, wait_until};

pub(crate) fn drain_lets_conversations_end(row: &Row) {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(row, &["--drain-timeout", "1h"]);
        let mut client = server.greeted();
        client.send(b"^before");
        client.expect(b"cfgpsf");
        server.signal(signal);
        server.wait_for_log("draining open=1");
        expect_refusal(&server);
        client.send(b"after$");
        client.expect(b"bgufs");
        client.half_close();
        client.expect_end();
        let exit = server.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
        assert!(!exit.log.contains("drain timeout passed"), "{}", exit.log);
    }
}

/// Nobody listens any more, once the drain has got that far.
fn expect_refusal(server: &Server) {
    wait_until("connections are refused", || {
        let refused = Client::connect(&server.endpoint)
            .map(drop)
            .map_err(|error| error.kind());
        refused == Err(io::ErrorKind::ConnectionRefused)
    });
}

pub(crate) fn drain_deadline_closes_the_rest(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "200ms"]);
    let count = if row.concurrent() { 5 } else { 1 };
    let mut clients: Vec<_> = (0..count).map(|_| server.greeted()).collect();
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
    }
    let exit = server.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    assert!(exit.log.contains(&format!("cut={count}")), "{}", exit.log);
}

pub(crate) fn drain_closes_each_connection_as_it_ends(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "1h"]);
    let mut clients: Vec<_> = (0..20).map(|_| server.greeted()).collect();
    let mut last = clients.pop().expect("twenty");
    server.signal(Signal::TERM);
    server.wait_for_log("draining open=20");
    for client in &clients {
        client.half_close();
    }
    // On either worker, although the other one may have somebody to wait for.
    clients.iter_mut().for_each(Client::expect_end);
    last.round_trip();
    last.half_close();
    last.expect_end();
    assert_eq!(server.exit().code, Some(0));
}

pub(crate) fn drain_deadline_closes_busy_connections(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "100ms"]);
    let clients: Vec<_> = (0..16).map(|_| server.greeted()).collect();
    server.signal(Signal::TERM);
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || while client.round_trip_unless_closed() {});
        }
    });
    let exit = server.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    assert!(exit.log.contains("cut=16"), "{}", exit.log);
}

pub(crate) fn drain_at_the_connection_limit(row: &Row) {
    let args = ["--max-connections", "1", "--drain-timeout", "200ms"];
    let server = Server::start(row, &args);
    let mut client = server.greeted();
    server.signal(Signal::TERM);
    client.expect_end();
    assert_eq!(server.exit().code, Some(0));
}

pub(crate) fn drain_timeout_zero_closes_at_once(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "0", "--idle-timeout", "0"]);
    let mut client = server.greeted();
    server.signal(Signal::TERM);
    client.expect_end();
    assert_eq!(server.exit().code, Some(0));
}

pub(crate) fn drain_deadline_closes_clients_that_do_not_read(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &unix_endpoint(directory.path())] {
        let args = ["--drain-timeout", "200ms", "--idle-timeout", "0"];
        let server = Server::start_on(row, listen, &args);
        let mut client = server.greeted().with_small_buffers();
        client.send_until_stuck();
        server.signal(Signal::TERM);
        let exit = server.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
        assert!(exit.log.contains("cut=1"), "{}", exit.log);
    }
}

pub(crate) fn drain_turns_away_who_waits_in_the_backlog(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &unix_endpoint(directory.path())] {
        let args = ["--max-connections", "1", "--drain-timeout", "1h"];
        let server = Server::start_on(row, listen, &args);
        let mut inside = server.greeted();
        let waiting = server.connect();
        server.signal(Signal::TERM);
        waiting.expect_to_be_turned_away();
        inside.round_trip();
        drop(inside);
        assert_eq!(server.exit().code, Some(0));
    }
}

pub(crate) fn second_signal_exits_at_once(row: &Row) {
    let server = Server::start(row, &["--drain-timeout", "1h"]);
    let client = server.greeted();
    server.signal(Signal::TERM);
    server.wait_for_log("draining open=1");
    server.signal(Signal::INT);
    assert_eq!(server.exit().code, Some(1));
    drop(client);
}

/// A server that is expected not to start.
fn try_to_serve(row: &Row, listen: &str) -> Output {
    ringlab()
        .args(["serve", "--listen", listen])
        .args(&row.args)
        .output()
        .expect("the server can be started")
}

fn expect_in_use(output: &Output, listen: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let log = String::from_utf8_lossy(&output.stderr);
    let complaint = format!("cannot listen on {listen}: address already in use");
    assert!(log.contains(&complaint), "{log}");
}

pub(crate) fn second_instance_is_refused(row: &Row) {
    let server = Server::start(row, &[]);
    let listen = server.endpoint.to_string();
    expect_in_use(&try_to_serve(row, &listen), &listen);
    server.greeted().round_trip();
}

pub(crate) fn restart_while_the_first_still_drains(row: &Row) {
    let first = Server::start(row, &["--drain-timeout", "1h"]);
    let mut client = first.greeted();
    first.signal(Signal::TERM);
    first.wait_for_log("draining open=1");
    expect_refusal(&first);
    let second = Server::start_on(row, &first.endpoint.to_string(), &[]);
    assert_eq!(second.endpoint, first.endpoint);
    second.greeted().round_trip();
    client.round_trip();
}

pub(crate) fn stale_unix_socket_is_replaced(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = unix_endpoint(directory.path());
    let path = directory.path().join("socket");
    // Closing the listener leaves the file, as a server that was killed does.
    drop(UnixListener::bind(&path).expect("a socket of its own"));
    let server = Server::start_on(row, &listen, &[]);
    server.greeted().round_trip();
    server.stop();
    assert!(!path.exists(), "the socket's file is still there");
}

pub(crate) fn unix_socket_in_use_is_left_alone(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let listen = unix_endpoint(directory.path());
    let server = Server::start_on(row, &listen, &[]);
    expect_in_use(&try_to_serve(row, &listen), &listen);
    server.greeted().round_trip();

    let path = directory.path().join("file");
    std::fs::write(&path, "precious").expect("a file in the way");
    let output = try_to_serve(row, &format!("unix:{}", path.display()));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        std::fs::read(&path).expect("it is still there"),
        b"precious"
    );
}
