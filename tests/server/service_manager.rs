//! Under a service manager: sockets that listen already, and word of what the server does.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Command;

use libtest_mimic::Trial;
use ringlab::endpoint::Endpoint;
use rustix::io::retry_on_intr;
use rustix::process::Signal;
use socket2::SockRef;

use crate::row::{self, Row};
use crate::support::{self, Client, PATIENCE, Server, ringlab, serve_on_passed};

pub(crate) fn trials() -> Vec<Trial> {
    let cases: [(&str, fn()); 4] = [
        ("sockets_for_others_are_ignored", sockets_for_others),
        ("sockets_that_cannot_be_served_are_explained", bad_sockets),
        ("it_hears_of_readiness_and_of_the_drain", notifications),
        ("it_may_be_deaf", nobody_to_notify),
    ];
    row::trials_of_no_row("service_manager", cases)
}

/// A socket as a service manager keeps it for its services.
struct Kept {
    socket: OwnedFd,
    endpoint: Endpoint,
}

impl Kept {
    /// One for TCP and one for Unix streams.
    fn each(directory: &std::path::Path) -> [Self; 2] {
        let path = directory.join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("a bound socket");
        let unix = UnixListener::bind(&path).expect("a socket of its own");
        [
            (tcp.into(), Endpoint::Tcp(address)),
            (unix.into(), Endpoint::Unix(path)),
        ]
        .map(|(socket, endpoint)| Self { socket, endpoint })
    }

    /// Starts this row's engine with two workers.
    fn start(&self, row: &Row, args: &[&str]) -> Server {
        let server = Server::spawn(
            serve_on_passed(self.duplicate(), &["3<&0"])
                .args(["--workers", "2", "-v"])
                .args(&row.args)
                .args(args),
        );
        assert_eq!(server.endpoint, self.endpoint);
        server
    }

    fn duplicate(&self) -> OwnedFd {
        self.socket.try_clone().expect("descriptors are left")
    }

    fn connect(&self) -> Client {
        Client::connect(&self.endpoint).expect("the socket always listens")
    }
}

pub(crate) fn passed_sockets_are_served_by_one_server_after_the_other(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for kept in Kept::each(directory.path()) {
        let socket = SockRef::from(&kept.socket);
        // As some have it; not all engines can use it like that.
        socket.set_nonblocking(true).expect("a valid socket");

        let mut early = kept.connect();
        let first = kept.start(row, &["--drain-timeout", "1h"]);
        early.expect(b"*");
        early.round_trip();
        if let Endpoint::Tcp(_) = kept.endpoint {
            let nodelay = socket.tcp_nodelay().expect("a TCP socket");
            assert_eq!(nodelay, row.engine.nodelay());
        }
        first.signal(Signal::TERM);
        first.wait_for_log("draining open=1");
        let mut late = kept.connect();
        early.round_trip();
        early.half_close();
        early.expect_end();

        let second = kept.start(row, &[]);
        late.expect(b"*");
        late.round_trip();
        drop(late);
        let exit = first.exit();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
        assert!(!exit.log.contains("cannot accept"), "{}", exit.log);
        if let Endpoint::Unix(_) = kept.endpoint {
            // Nor where --listen names it.
            assert!(!exit.log.contains("multishot-recv"), "{}", exit.log);
        }
        let accepted: usize = support::logged(&exit.log, "accepted").iter().sum();
        // A worker may take one more before it hears of the drain, and then it is served like any
        // other.
        assert!((1..=2).contains(&accepted), "{}", exit.log);

        second.stop();
        // It still listens, and a Unix socket still has its file.
        let _waiting = kept.connect();
    }
}

pub(crate) fn passed_sockets_are_shared_by_the_workers(row: &Row) {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    for kept in Kept::each(directory.path()) {
        // What waits already is nobody's burst.
        let server = kept.start(row, &[]);
        let mut clients: Vec<_> = (0..100).map(|_| kept.connect()).collect();
        for client in &mut clients {
            client.expect(b"*");
            client.round_trip();
        }
        drop(clients);
        let accepted = support::logged(&server.stop().log, "accepted");
        assert_eq!(accepted.iter().sum::<usize>(), 100);
        assert!(accepted.iter().all(|&count| count > 25), "{accepted:?}");
    }
}

fn sockets_for_others() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let passed = listener.local_addr().expect("a bound socket");
    let server = Server::spawn(
        ringlab()
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", "1")
            .args(["serve", "--engine", "threads", "--listen", "127.0.0.1:0"]),
    );
    assert_ne!(server.endpoint, Endpoint::Tcp(passed));
    server.greeted().round_trip();
}

fn expect_complaint(command: &mut Command, complaint: &str) {
    let output = command.output().expect("the shell can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains(complaint), "{complaint:?} is missing in {log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn bad_sockets() {
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    expect_complaint(
        &mut serve_on_passed(listener(), &["3<&0", "4<&0"]),
        "2 sockets were passed",
    );
    expect_complaint(
        serve_on_passed(listener(), &["3<&0"]).args(["--listen", "127.0.0.1:0"]),
        "--listen 127.0.0.1:0 was given, and a socket was passed",
    );
    expect_complaint(
        &mut serve_on_passed(listener(), &["3<&-"]),
        "neither a TCP nor a Unix stream socket",
    );
    expect_complaint(
        ringlab().arg("serve").env("LISTEN_FDS", "2147483647"),
        "LISTEN_FDS is not the number of sockets",
    );
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    expect_complaint(
        &mut serve_on_passed(datagrams, &["3<&0"]),
        "neither a TCP nor a Unix stream socket",
    );
    let listener = listener();
    let address = listener.local_addr().expect("a bound socket");
    let connection = TcpStream::connect(address).expect("somebody listens");
    expect_complaint(
        &mut serve_on_passed(connection, &["3<&0"]),
        "does not listen",
    );
    let name = format!("ringlab-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let nameless = UnixListener::bind_addr(&address).expect("a name of its own");
    expect_complaint(
        &mut serve_on_passed(nameless, &["3<&0"]),
        "it has no path; abstract Unix sockets are not served",
    );
}

fn notifications() {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let path = directory.path().join("notify");
    let inbox = UnixDatagram::bind(&path).expect("a socket of its own");
    expect_notifications(&inbox, path.to_str().expect("a path of this test"));

    // As systemd gives it to a container.
    let name = format!("ringlab-test-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let inbox = UnixDatagram::bind_addr(&address).expect("a name of its own");
    expect_notifications(&inbox, &format!("@{name}"));
}

fn expect_notifications(inbox: &UnixDatagram, socket: &str) {
    inbox.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let receive = || {
        let mut message = [0; 4096];
        let received = retry_on_intr(|| rustix::io::read(inbox, &mut message[..]));
        let length = received.expect("a notification");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let server = Server::spawn(ringlab().env("NOTIFY_SOCKET", socket).args([
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
    let path = directory.path().join("notify");
    let path = path.to_str().expect("a path of this test");
    let long = format!("@{}", "x".repeat(200));
    for socket in [path, "@ringlab-test-nobody", &long, "relative", "@", ""] {
        let server = Server::spawn(ringlab().env("NOTIFY_SOCKET", socket).args([
            "serve",
            "--engine",
            "threads",
            "--listen",
            "127.0.0.1:0",
        ]));
        server.greeted().round_trip();
        let log = server.stop().log;
        assert!(log.contains("cannot notify the service manager"), "{log}");
    }
}
