//! Under a service manager: it hears what the server does.

use std::os::unix::net::UnixDatagram;

use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::support::{PATIENCE, Server, ringlab};

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 2] = [
        ("it_hears_of_readiness_and_of_the_drain", notifications),
        ("it_may_be_deaf", nobody_to_notify),
    ];
    cases
        .into_iter()
        .map(|(name, run)| {
            Trial::test(format!("service_manager::{name}"), move || {
                run();
                Ok(())
            })
        })
        .collect()
}

fn notifications() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path().join("notify");
    let inbox = UnixDatagram::bind(&path).expect("a socket of its own");
    inbox.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let receive = || {
        let mut message = [0; 4096];
        let length = inbox.recv(&mut message).expect("a notification");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let server = Server::spawn(ringlab().env("NOTIFY_SOCKET", &path).args([
        "serve",
        "--engine",
        "threads",
        "--listen",
        "127.0.0.1:0",
    ]));
    let ready = format!("READY=1\nSTATUS=threads serves on {}\n", server.endpoint);
    assert_eq!(receive(), ready);
    let client = server.greeted();
    server.signal(Signal::TERM);
    assert_eq!(
        receive(),
        "STOPPING=1\nSTATUS=draining, 1 connections open\n"
    );
    drop(client);
    assert_eq!(server.exit().code, Some(0));
}

fn nobody_to_notify() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let server = Server::spawn(
        ringlab()
            .env("NOTIFY_SOCKET", directory.path().join("notify"))
            .args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"]),
    );
    server.greeted().round_trip();
    let log = server.stop().log;
    assert!(log.contains("cannot notify the service manager"), "{log}");
}
