//! What the socket of a connection is set to, so that a client can do no harm through it.
//!
//! Over TCP, Linux hands these options down from the socket that listens, which saves system calls
//! for each connection. A Unix socket hands nothing down, and who has waited in the backlog of a
//! socket that was passed to this process has them from whoever had it before: there, each
//! connection is [settled](crate::worker::Worker::settle) as it is accepted.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_oobinline, set_socket_timeout};

/// The options that depend on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Whether Nagle's algorithm is off (TCP_NODELAY).
    pub nodelay: bool,
    /// How long a call that blocks may do so (SO_RCVTIMEO, SO_SNDTIMEO); `None`: for ever, or as
    /// the engine sets it by itself.
    pub patience: Option<Duration>,
}

impl SocketOptions {
    /// Sets what connections inherit from this socket, or one of them has; TCP_NODELAY apart,
    /// which Unix sockets do not have.
    ///
    /// Urgent bytes are part of the conversation (SO_OOBINLINE, as RFC 6093 wants it). Left out of
    /// it, each would wake whoever receives and bring nothing.
    ///
    /// # Errors
    ///
    /// See `setsockopt(2)`.
    pub fn set_on(self, socket: impl AsFd) -> io::Result<()> {
        set_socket_oobinline(&socket, true)?;
        if self.patience.is_some() {
            set_socket_timeout(&socket, Timeout::Recv, self.patience)?;
            set_socket_timeout(&socket, Timeout::Send, self.patience)?;
        }
        Ok(())
    }
}
