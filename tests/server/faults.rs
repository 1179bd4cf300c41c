//! Clients that misbehave, and the connections beside theirs.

use crate::Row;
use crate::support::Server;

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
        let mut client = server.greeted().with_small_receive_buffer();
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
