//! Waiting for a descriptor, with a deadline that signals do not put off.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether `descriptor` is ready for `what`, or in error, before `time` has passed: all of it,
/// however often poll(2) is interrupted.
///
/// # Errors
///
/// Those of poll(2), but not EINTR.
pub(crate) fn ready_within(
    descriptor: impl AsFd,
    what: PollFlags,
    time: Duration,
) -> io::Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&descriptor, what)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
