//! The idle timeout, counted in sweeps instead of read from clocks.
//!
//! A worker looks at all its connections eight times in a timeout. Moving a byte resets a
//! connection's count, a sweep raises it, and enough sweeps in a row make it idle. That keeps
//! timers and clocks off the data path, and when the whole process has been stopped for a while,
//! that while counts as one sweep: its clients are not all found idle at once.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Sweeps in a timeout.
const SWEEPS: u8 = 8;

/// The time between two sweeps.
pub fn period(timeout: Duration) -> Duration {
    (timeout / u32::from(SWEEPS)).max(Duration::from_millis(1))
}

/// How long one connection has been quiet, in sweeps.
///
/// Atomic only so that tasks can share it with whoever sweeps: a relaxed store is a plain one.
#[derive(Debug, Default)]
pub struct Quiet(AtomicU8);

impl Quiet {
    /// A byte has moved, in either direction. A byte of a reply has moved when the kernel has
    /// taken it into the socket's send buffer.
    pub fn moved(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Counts a sweep, and tells whether the connection is idle.
    ///
    /// The first sweep may come at once after a byte, so it takes one more than there are in a
    /// timeout: a connection is never closed early, and late by at most an eighth of the timeout
    /// (or a few milliseconds, if that is longer).
    pub fn sweep(&self) -> bool {
        let sweeps = self.0.load(Ordering::Relaxed).saturating_add(1);
        self.0.store(sweeps, Ordering::Relaxed);
        self.is_idle()
    }

    /// Whether the last sweep found the connection idle, and no byte has moved since.
    pub fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) > SWEEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_after_a_whole_timeout_without_a_byte() {
        let quiet = Quiet::default();
        for _ in 0..3 {
            for _ in 0..SWEEPS {
                assert!(!quiet.sweep());
            }
            quiet.moved();
        }
        for _ in 0..SWEEPS {
            assert!(!quiet.sweep());
        }
        assert!(quiet.sweep());
        assert!(quiet.is_idle());
    }
}
