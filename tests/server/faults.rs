//! Clients that misbehave, and the connections beside theirs.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::Row;
use crate::support::{self, Server};

pub(crate) fn three_hundred_resets_in_mid_message(row: &Row) {
    let server = Server::start(row, &[]);
    let before = server.descriptors();
    for _ in 0..300 {
        let mut client = server.greeted();
        client.send(b"^in mid-mess");
        client.reset();
    }
    server.greeted().round_trip();
    server.wait_for_descriptors(before);
}

pub(crate) fn reset_with_replies_unread(row: &Row) {
    let server = Server::start(row, &[]);
    let before = server.descriptors();
    for _ in 0..4 {
        let mut client = server.greeted().with_small_buffers();
        client.send_until_stuck();
        client.reset();
    }
    server.greeted().round_trip();
    server.wait_for_descriptors(before);
}

pub(crate) fn clients_that_leave_before_they_are_accepted(row: &Row) {
    let server = Server::start(row, &["--max-connections", "1"]);
    let before = server.descriptors();
    let mut first = server.greeted();
    for _ in 0..50 {
        server.connect().reset();
        drop(server.connect());
    }
    first.round_trip();
    drop(first);
    server.greeted().round_trip();
    server.wait_for_descriptors(before);
}

pub(crate) fn late_completions_meet_no_new_connection(row: &Row) {
    let server = Server::start(row, &["--max-connections", "8"]);
    for round in 0..40 {
        // Eight that are owed replies, so that receives are being cancelled and sends wait, go
        // all at once. Those who take their places at once must not feel it.
        let leaving: Vec<_> = (0..8)
            .map(|_| {
                let mut client = server.greeted().with_small_buffers();
                client.send(b"^");
                client.send_some(&[b'x'; 1 << 20]);
                client
            })
            .collect();
        for client in leaving {
            if round % 2 == 0 {
                client.reset();
            }
        }
        let mut random = fastrand::Rng::with_seed(round);
        let input = support::random_input(20_000, &mut random);
        thread::scope(|scope| {
            for _ in 0..8 {
                let (server, input, mut random) = (&server, &input, random.fork());
                scope.spawn(move || server.greeted().verify(input, 5000, &mut random));
            }
        });
    }
}

pub(crate) fn interrupted_waits_lose_nothing(row: &Row) {
    let server = Server::start(row, &[]);
    let mut random = fastrand::Rng::with_seed(1);
    let input = support::random_input(row.enough(200_000), &mut random);
    thread::scope(|scope| {
        let verified = scope.spawn(|| server.greeted().verify(&input, 500, &mut random));
        // Continuing a stopped process makes its system calls fail with EINTR, see signal(7).
        while !verified.is_finished() {
            server.signal(Signal::STOP);
            server.signal(Signal::CONT);
        }
        verified.join().expect("every byte is right");
    });
    let mut client = server.greeted();
    for _ in 0..20 {
        server.signal(Signal::STOP);
        server.signal(Signal::CONT);
        client.round_trip();
    }
}

pub(crate) fn interruptions_do_not_put_off_the_idle_timeout(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "200ms"]);
    thread::scope(|scope| {
        let closed = scope.spawn(|| {
            server.greeted().expect_end();
            server.greeted().with_small_buffers().send_until_closed();
        });
        while !closed.is_finished() {
            server.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(10));
            server.signal(Signal::CONT);
            thread::sleep(Duration::from_millis(20));
        }
        closed.join().expect("the server closes both");
    });
}

pub(crate) fn what_comes_while_the_server_is_stopped_is_answered(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "3s"]);
    let mut client = server.greeted();
    // For longer than the timeout, and not for the first time.
    server.signal(Signal::STOP);
    server.signal(Signal::CONT);
    server.signal(Signal::STOP);
    client.send(b"^ringlab$");
    thread::sleep(Duration::from_millis(3200));
    server.signal(Signal::CONT);
    client.expect(b"sjohmbc");
}

pub(crate) fn interrupted_sends_lose_nothing(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    let mut client = server.greeted();
    // Of one message without an end, all but the opening byte comes back.
    let mut owed = client.send_until_stuck() - 1;
    // For who has closed its half, io_uring leaves the send that waits to a thread of the kernel's.
    client.half_close();
    for _ in 0..10 {
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(5));
        server.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(5));
    }
    while owed > 0 {
        let received = client.receive_some(owed).len();
        assert!(received > 0, "{owed} bytes are missing");
        owed -= received;
    }
    client.expect_end();
}
