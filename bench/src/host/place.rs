//! Where a server or a client runs.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

/// The network namespace of the thread that reads it, see `network_namespaces(7)`.
pub(super) const OWN_NETWORK: &str = "/proc/thread-self/ns/net";

/// One end of a path: a network, and an address in it that the other end reaches.
#[derive(Debug, Clone)]
pub struct Place {
    address: IpAddr,
    /// `None` for the network that this program was started in.
    network: Option<Arc<File>>,
}

impl Place {
    /// The machine as this program finds it, reached over its loopback device.
    pub fn here() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            network: None,
        }
    }

    /// In a network namespace, which lives at least as long as this.
    pub(super) fn within(network: File, address: IpAddr) -> Self {
        Self {
            address,
            network: Some(Arc::new(network)),
        }
    }

    /// Where a server here is reached from the other end.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Moves this thread here; threads and processes that it starts meanwhile begin here, too.
    ///
    /// # Errors
    ///
    /// See `setns(2)`.
    pub fn enter(&self) -> Result<Visit> {
        let Some(network) = &self.network else {
            return Ok(Visit { home: None });
        };
        let home = File::open(OWN_NETWORK).context("cannot open the network namespace")?;
        join(network).context("cannot enter a network namespace")?;
        Ok(Visit { home: Some(home) })
    }
}

/// A thread's stay at a [`Place`]; dropped, the thread is back where it was.
#[derive(Debug)]
#[must_use]
pub struct Visit {
    home: Option<File>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // The thread has been there, with the rights that it still has.
            let returned = join(home);
            debug_assert!(returned.is_ok(), "{returned:?}");
        }
    }
}

/// Moves this thread into a network namespace.
pub(super) fn join(network: &File) -> io::Result<()> {
    Ok(setns(network, CloneFlags::CLONE_NEWNET)?)
}
