//! What ends a command early, and what does not.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// A flag that SIGINT, SIGTERM or SIGHUP sets. A second one does no more: what the first has ended
/// is over within seconds, and its results would be lost.
///
/// One that was ignored when the process began stays ignored: `nohup` means it, and so does a shell
/// that puts a job into the background. One that was blocked is not any more: whoever started this
/// process forgot to.
pub(super) fn until_interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    let mut wanted = SigSet::empty();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        flag::register(signal, Arc::clone(&stop)).context("cannot handle signals")?;
        wanted.add(Signal::try_from(signal)?);
    }
    wanted.thread_unblock().context("cannot unblock signals")?;
    Ok(stop)
}

/// The signals that this process ignores, as a mask; see `proc_pid_status(5)`.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default()
}

/// Has a write beyond the limit on the size of files (RLIMIT_FSIZE) fail, as one to a full disk
/// does, instead of ending the process.
pub(super) fn outlive_failed_writes() -> Result<()> {
    // A handler, because what is ignored would be by the processes started from here, too.
    flag::register(SIGXFSZ, Arc::default()).context("cannot handle signals")?;
    Ok(())
}
