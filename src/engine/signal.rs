//! The shutdown's events, as tasks of the two tokio-based engines wait for them.

use std::future::pending;
use std::io;

use tokio::net::unix::pipe;

use crate::shutdown::Event;

/// An [`Event`] that tasks can wait for.
pub(super) struct Signal(pipe::Receiver);

impl Signal {
    /// To be called within the runtime whose tasks will wait.
    pub(super) fn new(event: &Event) -> io::Result<Self> {
        pipe::Receiver::from_owned_fd(event.try_clone_fd()?).map(Self)
    }

    /// Returns when the event has happened.
    pub(super) async fn given(&self) {
        // Fails only when the runtime is shutting down, which ends this task too.
        if self.0.readable().await.is_err() {
            pending::<()>().await;
        }
    }
}
