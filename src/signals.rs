//! What whoever started the process has made of its signals: some are blocked, which hides them,
//! and some ignored, which is a wish.

use std::fs;
use std::io;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::low_level::signal_name;

/// Prepares the process to handle `signals`: call it before the first thread is started that
/// should not have them blocked. Returns those that may be handled.
///
/// Blocked signals are unblocked, for this thread and those that it starts: a mask is inherited
/// (see `signal(7)`), from whoever waited for a signal of its own and forgot, and a server that
/// cannot hear SIGTERM has to be killed. Ignored ones stay ignored, as `nohup(1)` and a shell's
/// background jobs want it.
///
/// # Errors
///
/// When one of them is no signal.
pub fn to_handle(signals: &[i32]) -> io::Result<Vec<i32>> {
    let mut blocked = SigSet::empty();
    for &signal in signals {
        blocked.add(Signal::try_from(signal)?);
    }
    blocked.thread_unblock()?;
    let ignored = ignored();
    let is_ignored = |signal: i32| ignored & (1 << (signal - 1)) != 0;
    for &signal in signals.iter().filter(|&&signal| is_ignored(signal)) {
        let signal = signal_name(signal).unwrap_or("unknown");
        tracing::info!(signal, "ignored since the start, and further on");
    }
    let to_handle = signals.iter().filter(|&&signal| !is_ignored(signal));
    Ok(to_handle.copied().collect())
}

/// The signals that this process ignores, a bit for each from 1 on; see `proc_pid_status(5)`.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
