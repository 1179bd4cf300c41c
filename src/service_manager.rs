//! What a service manager such as systemd wants to hear: how the service is doing.
//!
//! Without one, nothing of this happens.

use sd_notify::NotifyState;

use crate::endpoint::Endpoint;
use crate::engine::Engine;

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
