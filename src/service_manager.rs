//! What a service manager such as systemd hands over and wants to hear: a socket that listens
//! already, and how the service is doing.
//!
//! Without one, nothing of this happens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::{Result, bail};
use listenfd::ListenFd;
use socket2::Socket;

use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// The listening socket that was passed to this process, if one was; see `sd_listen_fds(3)`.
///
/// It takes LISTEN_FDS and LISTEN_PID out of the environment, so it is to be called once, before
/// any other thread is started and any descriptor opened. A number of sockets without LISTEN_PID is
/// taken to be for this process.
///
/// # Errors
///
/// When it is not exactly one, or none that listens for TCP or Unix streams.
pub fn passed_socket() -> Result<Option<Socket>> {
    // A list is made of as many as it says.
    if env::var("LISTEN_FDS").is_ok_and(|count| count.len() > 4) {
        bail!("LISTEN_FDS is not the number of sockets that were passed");
    }
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(None),
        1 => {}
        several => bail!(
            "{several} sockets were passed (LISTEN_FDS), and a server has one; give its socket \
             unit a single ListenStream="
        ),
    }
    // What is refused stays where it is for the next attempt.
    let taken = match passed.take_tcp_listener(0) {
        Ok(taken) => taken.map(Socket::from),
        Err(_) => passed
            .take_unix_listener(0)
            .ok()
            .flatten()
            .map(Socket::from),
    };
    let Some(socket) = taken else {
        bail!(
            "what was passed (LISTEN_FDS) is neither a TCP nor a Unix stream socket; socket \
             units need ListenStream="
        );
    };
    if !socket.is_listener()? {
        bail!(
            "the socket that was passed (LISTEN_FDS) does not listen; socket units need \
             Accept=no"
        );
    }
    Ok(Some(socket))
}

/// How long a service manager may take to make room for a notification.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients can connect.
pub fn ready(engine: Engine, endpoint: &Endpoint) {
    notify(&format!(
        "READY=1\nSTATUS={engine} serves on {}\n",
        // A path may have anything in it, and a line is an assignment.
        endpoint.to_string().escape_debug()
    ));
}

/// The drain has begun, with so many connections open.
pub fn stopping(open: usize) {
    notify(&format!(
        "STOPPING=1\nSTATUS=draining, {open} connections open\n"
    ));
}

/// See `sd_notify(3)`; NOTIFY_SOCKET says where to.
fn notify(assignments: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, assignments.as_bytes())
    {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Sends a datagram to a path or, behind an `@`, to a name in the abstract namespace of `unix(7)`,
/// which containers can be given where they see no common path.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "NOTIFY_SOCKET is neither an absolute path nor @NAME",
            ));
        }
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.send_to_addr(message, &address)?;
    Ok(())
}
