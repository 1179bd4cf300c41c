//! Clients that try to keep what is the server's: its threads, its connections, its memory.

use std::thread;

use ringlab::engine::Engine;
use rustix::process::Signal;

use crate::Row;
use crate::support::{self, Client, Server};

/// Threads of the kernel's that each of two workers may have.
const MOST_KERNEL_THREADS: usize = 2 * 4;

pub(crate) fn urgent_bytes_are_part_of_the_conversation(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &support::unix_endpoint(directory.path())] {
        let server = Server::start_on(row, listen, &[]);
        let mut client = server.greeted();
        for _ in 0..20 {
            client.send(b"^a");
            client.send_urgent(b"b");
            client.send(b"c$ignored");
            client.expect(b"bcd");
            // The mark of the one is where the other is.
            client.send_urgent(b"^");
            client.send_urgent(b"x");
            client.send_urgent(b"$");
            client.expect(b"y");
        }
        client.half_close();
        client.expect_end();
    }
}

pub(crate) fn urgent_bytes_cost_no_threads(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for listen in ["127.0.0.1:0", &support::unix_endpoint(directory.path())] {
        let server = Server::start_on(row, listen, &[]);
        let count = if row.concurrent() { 40 } else { 1 };
        let others = if row.concurrent() { 2 } else { 0 };
        send_urgent_bytes(&server, count, others);
    }
}

/// So many clients send more urgent bytes than the kernel has patience for, each of which wakes
/// the server once. It serves the others meanwhile, and the clients afterwards.
pub(crate) fn send_urgent_bytes(server: &Server, count: usize, others: usize) {
    let before = server.descriptors();
    let mut clients: Vec<_> = (0..count).map(|_| server.greeted()).collect();
    let mut others: Vec<_> = (0..others).map(|_| server.greeted()).collect();
    for _ in 0..200 {
        for client in &mut clients {
            client.send_urgent(b"!");
        }
        others.iter_mut().for_each(Client::round_trip);
    }
    expect_few_kernel_threads(server);
    clients.iter_mut().for_each(Client::round_trip);
    drop((clients, others));
    server.wait_for_descriptors(before);
}

pub(crate) fn half_closed_clients_that_never_read_cost_no_threads(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::start_on(row, &support::unix_endpoint(directory.path()), &[]);
    let mut other = server.greeted();
    let clients: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.greeted();
                    // Of one message without an end, all but the opening byte comes back.
                    let owed = client.send_until_stuck() - 1;
                    client.half_close();
                    (client, owed)
                })
            })
            .collect();
        let clients = clients.into_iter();
        clients
            .map(|client| client.join().expect("the server keeps the connection"))
            .collect()
    });
    for _ in 0..20 {
        other.round_trip();
    }
    expect_few_kernel_threads(&server);
    // That there are few does not keep the kernel's threads from serving everybody.
    for (mut client, mut owed) in clients {
        while owed > 0 {
            let received = client.receive_some(owed).len();
            assert!(received > 0, "{owed} bytes are missing");
            owed -= received;
        }
        client.expect_end();
    }
}

fn expect_few_kernel_threads(server: &Server) {
    let threads = server.kernel_threads();
    assert!(
        threads <= MOST_KERNEL_THREADS,
        "{threads} threads of the kernel's"
    );
}

pub(crate) fn resets_before_the_server_looks_leave_nothing(row: &Row) {
    let options = ["--idle-timeout", "0", "--drain-timeout", "1h"];
    let server = Server::start(row, &options);
    if row.engine == Engine::Sequential {
        reset_before_it_looks(&server, 1);
    } else {
        reset_before_it_looks(&server, 20);
    }
    // Nobody is waited for.
    server.stop();
}

/// Clients send something that may need no reply, and are gone before the server runs.
pub(crate) fn reset_before_it_looks(server: &Server, count: usize) {
    let before = server.descriptors();
    for last_words in [&b"xx"[..], b"^", b"$^xx", b""] {
        for urgent in [false, true] {
            for half_closes in [false, true] {
                let mut clients: Vec<_> = (0..count).map(|_| server.greeted()).collect();
                server.signal(Signal::STOP);
                for client in &mut clients {
                    client.send(last_words);
                    if urgent {
                        client.send_urgent(b"!");
                    }
                    if half_closes {
                        client.half_close();
                    }
                }
                clients.into_iter().for_each(Client::reset);
                server.signal(Signal::CONT);
                server.wait_for_descriptors(before);
                server.wait_for_counter("active", 0);
            }
        }
    }
}
