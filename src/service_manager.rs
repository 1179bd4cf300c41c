//! What a service manager such as systemd hands over and wants to hear: a socket that listens
//! already, and how the service is doing.
//!
//! Without one, nothing of this happens.

use std::env;

use anyhow::{Result, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
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

/// Clients can connect.
pub fn ready(engine: Engine, endpoint: &Endpoint) {
    let status = format!("{engine} serves on {endpoint}");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The drain has begun, with so many connections open.
pub fn stopping(open: usize) {
    let status = format!("draining, {open} connections open");
    notify(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// See `sd_notify(3)`; NOTIFY_SOCKET says where to.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
