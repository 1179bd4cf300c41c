//! What the server counts, and how it tells.

use ringlab::framing::Framer;

use crate::Row;
use crate::support::{self, Exit, Server, last_logged};

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
