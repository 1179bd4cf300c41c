//! What the server refuses, closes or makes wait, and what that costs it.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use ringlab::buffer;
use ringlab::engine::Engine;
use ringlab::framing::Framer;
use rustix::process::Signal;

use crate::Row;
use crate::support::{self, Client, Server};

pub(crate) fn connections_beyond_the_limit_wait_in_the_backlog(row: &Row) {
    let server = Server::start(row, &["--max-connections", "3"]);
    let served = if row.concurrent() { 3 } else { 1 };
    let mut inside: Vec<_> = (0..served).map(|_| server.greeted()).collect();
    let mut waiting: VecDeque<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(b"^waiting$");
    }
    while !waiting.is_empty() {
        // By the time that these are answered, a greeting too many would have come.
        for client in &mut inside {
            client.round_trip();
        }
        for client in &mut waiting {
            client.expect_silence();
        }
        // One leaves, and the one that has waited longest takes the place.
        let mut leaving = inside.remove(0);
        leaving.half_close();
        leaving.expect_end();
        drop(leaving);
        let mut next = waiting.pop_front().expect("somebody waits");
        next.expect(b"*xbjujoh");
        inside.push(next);
    }
}

pub(crate) fn bursts_of_connections_are_spread_over_the_workers(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &support::unix_endpoint(directory.path())] {
        let server = Server::start_on(row, listen, &[]);
        let mut clients: Vec<_> = (0..1000).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.expect(b"*");
        }
        drop(clients);
        let accepted = support::logged(&server.stop().log, "accepted");
        assert_eq!(accepted.len(), 2, "two workers");
        assert_eq!(accepted.iter().sum::<usize>(), 1000);
        let busiest = accepted.iter().max().expect("two workers");
        let fewest = accepted.iter().min().expect("two workers");
        assert!(busiest * 2 <= fewest * 3, "{accepted:?}");
    }
}

pub(crate) fn a_worker_that_is_ahead_of_its_peers_serves_who_comes(row: &Row) {
    for ahead in 0..2 {
        let server = Server::start(row, &[]);
        let mut clients = [Vec::new(), Vec::new()];
        let mut accepted = vec![0, 0];
        for _ in 0..40 {
            let client = server.greeted();
            let now = server.counters("accepted");
            clients[usize::from(now[1] > accepted[1])].push(client);
            accepted = now;
        }
        clients[1 - ahead].clear();
        support::wait_until("one worker has no connection", || {
            server.counters("active")[1 - ahead] == 0
        });
        // Nothing else happens that could wake the one or the other.
        for _ in 0..3 {
            server.greeted().round_trip();
        }
    }
}

pub(crate) fn idle_connections_are_closed(row: &Row) {
    let patient = Server::start(row, &["--idle-timeout", "0"]);
    let mut never = patient.greeted();

    let sent: [(_, &[u8], &[u8]); 2] = [
        ("300ms", b"", b""),
        // Time enough for a message.
        ("3s", b"^unfinished", b"vogjojtife"),
    ];
    for (timeout, message, reply) in sent {
        let server = Server::start(row, &["--idle-timeout", timeout]);
        let start = Instant::now();
        let mut client = server.greeted();
        client.send(message);
        client.expect(reply);
        client.expect_end();
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
        let log = server.stop().log;
        assert_eq!(support::last_logged(&log, "total_timed_out"), 1, "{log}");
        assert_eq!(support::last_logged(&log, "total_failed"), 0, "{log}");
    }

    // 0 means never.
    never.round_trip();
}

pub(crate) fn active_connections_are_not_idle(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "3s"]);
    let mut idle = server.greeted();
    let mut active = server.greeted();
    thread::scope(|scope| {
        let ended = scope.spawn(move || idle.expect_end());
        while !ended.is_finished() {
            active.round_trip();
            thread::sleep(Duration::from_millis(2));
        }
        ended.join().expect("an orderly end");
    });
    active.round_trip();
}

pub(crate) fn idle_connections_hold_no_large_buffers(row: &Row) {
    let server = Server::start(row, &[]);
    drop(server.greeted());
    let before = server.memory();
    let message = [&b"^"[..], &[b'x'; 60_000], b"$"].concat();
    let reply = [b'y'; 60_000];
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = server.greeted();
            for _ in 0..3 {
                client.send(&message);
                client.expect(&reply);
            }
            client
        })
        .collect();
    let each = server.memory().saturating_sub(before) / clients.len();
    // A thread has a stack, too, of which an unoptimised build uses some 20 KiB. One buffer of the
    // largest size would exceed either bound.
    let others = match row.engine {
        Engine::Threads => 44 * 1024,
        // The provided buffers, which all share.
        Engine::Uring => 8 * 1024 + (2 << 20) / clients.len(),
        _ => 8 * 1024,
    };
    let bound = buffer::WAITING + others;
    assert!(
        each <= bound,
        "{each} bytes for an idle connection, more than {bound}"
    );
}

/// So many clients, each on a thread of its own while it gets to where the test needs it.
fn all_at_once(count: usize, client: impl Fn() -> Client + Sync) -> Vec<Client> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(&client)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("the server keeps the connection"))
            .collect()
    })
}

pub(crate) fn clients_that_never_read_cost_bounded_memory(row: &Row) {
    // Both workers have room for their share of the clients, and for one more.
    let count = if row.concurrent() { 16 } else { 1 };
    let places = if row.concurrent() { count + 2 } else { 1 };
    let limit = places.to_string();
    let server = Server::start(row, &["--max-connections", &limit]);
    let others = |server: &Server| {
        let mut other = server.greeted();
        other.round_trip();
        other
    };
    drop(others(&server));
    let memory = server.memory();

    let server = &server;
    let stuck = all_at_once(count, || {
        let mut client = server.greeted().with_small_buffers();
        client.send_until_stuck();
        client
    });
    // One buffer of the largest size each, and as much again for everything else that belongs to
    // a connection, a thread's stack included.
    let each = 2 * buffer::LARGEST;
    let shared = match row.engine {
        // Every worker's provided buffers.
        Engine::Uring => 2 * (2 << 20),
        _ => 0,
    };
    let bound = count * each + shared + (1 << 20);
    let grown = server.memory().saturating_sub(memory);
    assert!(
        grown <= bound,
        "{count} clients cost {grown} bytes, more than {bound}"
    );
    if row.concurrent() {
        others(server).round_trip();
    }
    drop(stuck);
    let mut next: Vec<_> = (0..places).map(|_| server.connect()).collect();
    for client in &mut next {
        client.expect(b"*");
    }
}

pub(crate) fn clients_that_never_read_are_closed(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "3s", "--max-connections", "1"]);
    drop(server.greeted());
    let mut stuck = server.greeted().with_small_buffers();
    stuck.send_until_stuck();
    // It holds on, and the server lets go.
    server.greeted().round_trip();
    drop(stuck);
}

pub(crate) fn clients_that_never_read_hold_nothing_that_others_need(row: &Row) {
    // A Unix socket has little room, so that many clients can be stuck without much memory.
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    let mut active: Vec<_> = (0..8).map(|_| server.greeted()).collect();
    let server = &server;
    // More than there are provided buffers at first, and each of them owed a reply.
    let stuck = all_at_once(100, || {
        let mut client = server.greeted();
        client.send_until_stuck();
        client
    });
    for client in &mut active {
        client.send(&[&b"^"[..], &[b'x'; 60_000], b"$"].concat());
        client.expect(&[b'y'; 60_000]);
    }
    // Once they do read, they get it all. Each has begun a message and not ended it.
    for mut client in stuck {
        client.half_close();
        client.expect_only(|byte| byte == b'y' || byte == b'_');
    }
}

pub(crate) fn clients_that_read_late_get_everything(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let input = support::random_input(row.enough(3 << 20), &mut random);
        let mut expected = input.clone();
        let length = Framer::new().feed(&mut expected);
        expected.truncate(length);

        let mut client = server.greeted();
        let (mut sent, mut received) = (0, 0);
        // Again and again as much as can be sent, which ends with a server that cannot send, and
        // then a part of what has come back.
        while sent < input.len() {
            sent += client.send_some(&input[sent..]);
            let piece = client.receive_some(random.usize(1..100_000));
            assert!(expected[received..].starts_with(&piece), "a wrong byte");
            received += piece.len();
        }
        client.half_close();
        client.expect(&expected[received..]);
        client.expect_end();
    }
}

pub(crate) fn clients_that_have_read_cost_no_more_memory(row: &Row) {
    const CLIENTS: usize = 60;
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    let server = &server;
    let stuck_and_relieved = || {
        let mut client = server.greeted();
        // Of one message without an end, all but the opening byte comes back.
        let mut owed = client.send_until_stuck() - 1;
        while owed > 0 {
            owed -= client.receive_some(owed).len();
        }
        for _ in 0..2 {
            client.send(b"x");
            client.expect(b"y");
        }
        client
    };
    // The allocator keeps what the first ones needed, and has it for the others: unless the first
    // ones still do.
    let first = all_at_once(CLIENTS, stuck_and_relieved);
    let before = server.memory();
    let second = all_at_once(CLIENTS, stuck_and_relieved);
    let each = server.memory().saturating_sub(before) / CLIENTS;
    let bound = buffer::LARGEST + buffer::LARGEST / 2;
    assert!(each <= bound, "{each} bytes each, more than {bound}");
    drop((first, second));
}

pub(crate) fn idle_connections_may_wake_up_as_they_are_closed(row: &Row) {
    let server = Server::start(row, &["--idle-timeout", "40ms"]);
    for round in 0..40 {
        let mut client = server.greeted();
        // Whether the server finds the byte or the timeout first is its business; here it often
        // finds both at once.
        thread::sleep(Duration::from_millis(38 + round % 8));
        server.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(6));
        client.send_some(b"^x$");
        server.signal(Signal::CONT);
    }
    server.greeted();
    server.stop();
}

pub(crate) fn servers_start_with_few_descriptors_open(row: &Row) {
    let server = Server::start(row, &[]);
    let open = server.descriptors();
    assert!(open <= 32, "{open} descriptors");
}

pub(crate) fn everybody_at_once_is_answered(row: &Row) {
    let server = Server::start(row, &[]);
    let mut clients: Vec<_> = (0..300).map(|_| server.greeted()).collect();
    let message = [&b"^"[..], &[b'x'; 6000], b"$"].concat();
    // Everything is there before the server looks: more than it has provided buffers for, and
    // more completions than a ring holds.
    for _ in 0..3 {
        server.signal(Signal::STOP);
        for client in &mut clients {
            client.send(&message);
        }
        server.signal(Signal::CONT);
        for client in &mut clients {
            client.expect(&[b'y'; 6000]);
        }
    }
    clients.iter_mut().for_each(Client::round_trip);
}

pub(crate) fn exhausted_descriptors_recover(row: &Row) {
    // More clients than two workers can have, each with a file table of its own of 64 places.
    let server = Server::start_with_descriptors(row, 64, &["--max-connections", "400"]);
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
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
