//! What the server refuses, closes or makes wait, and what that costs it.

use std::thread;
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::Server;

pub(crate) fn connections_beyond_the_limit_wait_in_the_backlog(row: &Row) {
    let server = Server::start(row, &["--max-connections", "3"]);
    let served = if row.concurrent() { 3 } else { 1 };
    let mut inside: Vec<_> = (0..served).map(|_| server.greeted()).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (left, waiting) in waiting.iter_mut().enumerate() {
        waiting.send(b"^waiting$");
        // By the time that this is answered, a greeting too many would have come.
        for client in inside.iter_mut().skip(left.min(served)) {
            client.round_trip();
        }
        waiting.expect_silence();
        if left < served {
            // Frees one place.
            inside[left].half_close();
            inside[left].expect_end();
        }
        if row.concurrent() {
            waiting.expect(b"*");
            waiting.expect(b"xbjujoh");
        }
        if !row.concurrent() {
            return;
        }
    }
}

pub(crate) fn idle_connections_are_closed(row: &Row) {
    let timeout = Duration::from_millis(300);
    let server = Server::start(row, &["--idle-timeout", "300ms"]);
    let start = Instant::now();
    let mut client = server.greeted();
    client.expect_end();
    assert!(
        start.elapsed() >= timeout,
        "closed after {:?}",
        start.elapsed()
    );

    let mut client = server.greeted();
    client.send(b"^unfinished");
    client.expect(b"vogjojtife");
    client.expect_end();
    let log = server.stop().log;
    assert!(log.contains("timed_out="), "{log}");
}

pub(crate) fn active_connections_are_not_idle(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "1s"]);
    let mut idle = server.greeted();
    let mut active = server.greeted();
    thread::scope(|scope| {
        let ended = scope.spawn(move || idle.expect_end());
        while !ended.is_finished() {
            active.round_trip();
        }
        ended.join().expect("an orderly end");
    });
    active.round_trip();
}

pub(crate) fn idle_timeout_zero_means_never(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "0"]);
    server.greeted().round_trip();
}

pub(crate) fn clients_that_never_read_cost_bounded_memory(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "2s"]);
    let others = |server: &Server| {
        let mut other = server.greeted();
        other.round_trip();
        other
    };
    drop(others(&server));
    let (descriptors, memory) = (server.descriptors(), server.memory());

    let count = if row.concurrent() { 16 } else { 1 };
    let server = &server;
    let stuck: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.greeted().with_small_receive_buffer();
                    client.send_until_stuck();
                    client
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("the server keeps the connection"))
            .collect()
    });
    // One buffer of the largest size each, and as much again for everything else that belongs to
    // a connection, a thread's stack included.
    let bound = count * 2 * ringlab::buffer::LARGEST + (1 << 20);
    let grown = server.memory().saturating_sub(memory);
    assert!(
        grown <= bound,
        "{count} clients cost {grown} bytes, more than {bound}"
    );
    if row.concurrent() {
        others(server).round_trip();
    }

    // They hold on, and the server lets go.
    server.wait_for_descriptors(descriptors);
    others(server).round_trip();
    drop(stuck);
}

pub(crate) fn exhausted_descriptors_recover(row: &Row) {
    let server = Server::start_with_descriptors(row, 64, &["--max-connections", "200"]);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_log("cannot accept connections for now");
    // As some leave, others take their places, until everybody has been served.
    for client in &mut clients {
        client.half_close();
    }
    for client in &mut clients {
        client.expect(b"*");
        client.expect_end();
    }
    server.greeted().round_trip();
}
