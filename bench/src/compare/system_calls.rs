//! The system calls of another process, counted by the kernel's tracepoint.
//!
//! Counting costs the process some ten nanoseconds a call; `strace` would cost it microseconds and
//! change what it does: a server that is slower finds more to do when it looks.

use std::fs;
use std::io;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where tracefs is mounted: on its own, or below debugfs as on kernels before 4.1.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Counters on every thread of a process, and on those that these will start.
#[derive(Debug)]
pub(super) struct SystemCalls(Vec<Counter>);

impl SystemCalls {
    /// Begins to count.
    ///
    /// The error says what is missing.
    pub(super) fn of(pid: i32) -> Result<Self, String> {
        let id = TRACEFS.iter().map(|directory| {
            fs::read_to_string(format!("{directory}/events/raw_syscalls/sys_enter/id"))
        });
        let id = id.reduce(io::Result::or).and_then(Result::ok);
        let id = id.and_then(|id| id.trim().parse().ok()).ok_or(
            "the tracepoint raw_syscalls/sys_enter cannot be read: it needs root, and tracefs \
             mounted on /sys/kernel/tracing",
        )?;
        let event = Tracepoint::with_id(id);
        let refused = |error: io::Error| {
            format!(
                "perf_event_open(2) is refused ({error}): it needs root, or CAP_PERFMON and \
                 kernel.perf_event_paranoid of at most 1"
            )
        };
        let threads =
            fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        let mut counters = Vec::new();
        for thread in threads.flatten() {
            let Ok(thread) = thread.file_name().to_string_lossy().parse() else {
                continue;
            };
            let counter = Builder::new(event)
                .observe_pid(thread)
                .any_cpu()
                .inherit(true)
                .include_kernel()
                .build();
            let mut counter = counter.map_err(refused)?;
            counter.enable().map_err(refused)?;
            counters.push(counter);
        }
        Ok(Self(counters))
    }

    /// How many there have been by now.
    pub(super) fn count(&mut self) -> io::Result<u64> {
        self.0.iter_mut().map(Counter::read).sum()
    }
}
