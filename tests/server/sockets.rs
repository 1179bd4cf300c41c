//! The sockets of a server as the kernel lists them, because those in a ring's file table are no
//! descriptors of the process.

use std::fs;
use std::net::SocketAddr;

use ringlab::endpoint::Endpoint;

/// How many connections somebody still holds on the server's side.
pub(crate) fn held(endpoint: &Endpoint) -> usize {
    match endpoint {
        Endpoint::Tcp(address) => held_tcp(address),
        Endpoint::Unix(path) => {
            let path = path.to_str().expect("a path of this test");
            list("/proc/net/unix")
                .lines()
                .filter(|line| line.ends_with(path) && !is_listener(line))
                .count()
        }
    }
}

/// Columns as `proc_net(5)` has them: number, local address, remote address, state.
fn held_tcp(address: &SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let port = format!(":{:04X}", address.port());
    list(if address.is_ipv6() {
        "/proc/net/tcp6"
    } else {
        "/proc/net/tcp"
    })
    .lines()
    .filter(|line| {
        let columns: Vec<_> = line.split_whitespace().take(4).collect();
        matches!(columns[..], [_, local, _, ESTABLISHED | CLOSE_WAIT] if local.ends_with(&port))
    })
    .count()
}

/// Columns: number, reference count, protocol, flags, of which one is `__SO_ACCEPTCON`.
fn is_listener(line: &str) -> bool {
    line.split_whitespace().nth(3) == Some("00010000")
}

fn list(path: &str) -> String {
    fs::read_to_string(path).expect("proc is mounted")
}
