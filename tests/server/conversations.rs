//! What well-behaved clients say, and what they hear.

use std::process::Output;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::Row;
use crate::support::{self, Server, address, random_input, ringlab};

pub(crate) fn greeting(row: &Row) {
    let server = Server::start(row, &[]);
    let mut client = server.greeted();
    client.half_close();
    client.expect_end();
}

pub(crate) fn tutorial_conversation(row: &Row) {
    let server = Server::start(row, &[]);
    let mut client = server.greeted();
    for (sent, replies) in [
        (&b"^abc$de^abte$f"[..], &b"bcdbcuf"[..]),
        (b"xyz^123", b"234"),
        (b"25$^ab0000$abab", b"36bc1111"),
    ] {
        client.send(sent);
        client.expect(replies);
    }
    client.half_close();
    client.expect_end();
}

pub(crate) fn one_byte_at_a_time(row: &Row) {
    let server = Server::start(row, &[]);
    let mut client = server.greeted();
    for (sent, reply) in [
        (b"a", &b""[..]),
        (b"^", b""),
        (b"a", b"b"),
        (b"^", b"_"),
        (b"\xFF", b"\0"),
        (b"$", b""),
        (b"a", b""),
        (b"^", b""),
        (b"z", b"{"),
    ] {
        client.send(sent);
        client.expect(reply);
    }
    client.half_close();
    client.expect_end();
}

pub(crate) fn random_segmentation(row: &Row) {
    let server = Server::start(row, &[]);
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let input = random_input(40_000, &mut random);
        let largest = [1, 7, 100, 5000][seed as usize % 4].max(input.len() / 4000);
        server.greeted().verify(&input, largest, &mut random);
    }
}

pub(crate) fn half_close_after_a_mebibyte(row: &Row) {
    let server = Server::start(row, &[]);
    let mut random = fastrand::Rng::with_seed(1);
    let input = random_input(1 << 20, &mut random);
    server.greeted().verify(&input, 1 << 20, &mut random);
}

pub(crate) fn half_close_without_input(row: &Row) {
    let server = Server::start(row, &[]);
    let mut client = server.connect();
    client.half_close();
    client.expect(b"*");
    client.expect_end();
}

pub(crate) fn sixty_four_verified_streams_at_once(row: &Row) {
    let server = Server::start(row, &[]);
    let server = &server;
    thread::scope(|scope| {
        for seed in 0..64 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let input = random_input(row.enough(30_000), &mut random);
                server.greeted().verify(&input, 3000, &mut random);
            });
        }
    });
}

pub(crate) fn two_thousand_connections_at_once(row: &Row) {
    let server = Server::start(row, &[]);
    let before = server.descriptors();
    let mut clients: Vec<_> = (0..2000).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.expect(b"*");
    }
    for client in &mut clients {
        client.send(b"^all at once$");
    }
    for client in &mut clients {
        client.expect(b"bmm!bu!podf");
    }
    drop(clients);
    server.wait_for_descriptors(before);
}

pub(crate) fn ipv6(row: &Row) {
    let server = Server::start_on(row, "[::1]:0", &[]);
    assert!(address(&server.endpoint).is_ipv6());
    server.greeted().round_trip();
}

pub(crate) fn unix_socket(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    let mut random = fastrand::Rng::with_seed(1);
    let input = random_input(200_000, &mut random);
    server.greeted().verify(&input, 5000, &mut random);
}

/// `ringlab client` with three connections.
fn three_clients(server: &Server) -> Output {
    let address = address(&server.endpoint);
    let output = ringlab()
        .args([
            "client",
            &address.ip().to_string(),
            &address.port().to_string(),
            "-n",
            "3",
        ])
        .output()
        .expect("the client can be started");
    assert!(output.status.success(), "{output:?}");
    output
}

fn elapsed(output: &Output) -> Duration {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let seconds = stdout
        .strip_prefix("Elapsed: ")
        .and_then(|rest| rest.strip_suffix('\n'));
    let seconds = seconds.unwrap_or_else(|| panic!("stdout is {stdout:?}"));
    Duration::from_secs_f64(seconds.parse().expect("a number"))
}

pub(crate) fn tutorial_client(row: &Row) {
    let server = Server::start(row, &[]);
    let output = three_clients(&server);
    let in_turn = if row.concurrent() { 1 } else { 3 };
    // Two pauses of a second and one of 0.2 s are the client's own.
    assert!(elapsed(&output) >= in_turn * Duration::from_millis(2200));
    let log = String::from_utf8_lossy(&output.stderr);
    for client in 0..3 {
        for step in [" connected...", " sending b'xyz^123'", " disconnecting"] {
            assert!(log.contains(&format!(":conn{client}{step}\n")), "{log}");
        }
    }
}

pub(crate) fn one_client_after_the_other(row: &Row) {
    let server = Server::start(row, &[]);
    let mut first = server.greeted();
    let mut second = server.connect();
    let mut third = server.connect();
    first.round_trip();
    second.expect_silence();
    drop(first);
    second.expect(b"*");
    second.round_trip();
    third.expect_silence();
    drop(second);
    third.expect(b"*");
    third.round_trip();
}

pub(crate) fn conversations_over_before_the_server_looks(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &support::unix_endpoint(directory.path())] {
        over_before_it_looks(&Server::start_on(row, listen, &[]));
    }
}

/// Connects, sends and closes the sending side, and only then lets the server run.
pub(crate) fn over_before_it_looks(server: &Server) {
    server.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(b"^abc$de^abte$f");
        client.half_close();
    }
    server.signal(Signal::CONT);
    for client in &mut clients {
        client.expect(b"*bcdbcuf");
        client.expect_end();
    }
}
