//! System calls and context switches of other processes, counted by the kernel.
//!
//! Counting costs a process some ten nanoseconds a call; `strace` would cost it microseconds and
//! change what it does: a server that is slower finds more to do when it looks.

use std::fs;
use std::io;

use perf_event::events::{Event, Software, Tracepoint};
use perf_event::{Builder, Counter};
use rustix::io::Errno;
use rustix::process::Pid;

/// Where tracefs is mounted: on its own, or below debugfs as on kernels before 4.1.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Counters on every thread of some processes, and on those that these will start.
#[derive(Debug)]
pub struct Calls {
    system_calls: Vec<Counter>,
    context_switches: Vec<Counter>,
}

/// What has been counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// System calls.
    pub system_calls: u64,
    /// Context switches, whether the thread waited or was made to.
    pub context_switches: u64,
}

impl Calls {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// In words, what is missing and how to have it.
    pub fn of(processes: &[Pid]) -> Result<Self, String> {
        let id = TRACEFS.iter().map(|directory| {
            fs::read_to_string(format!("{directory}/events/raw_syscalls/sys_enter/id"))
        });
        let id = id.reduce(io::Result::or).and_then(Result::ok);
        let id = id.and_then(|id| id.trim().parse().ok()).ok_or(
            "the tracepoint raw_syscalls/sys_enter cannot be read: it needs root, and tracefs \
             mounted on /sys/kernel/tracing",
        )?;
        let threads = processes.iter().flat_map(|process| {
            let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
            let threads = threads.into_iter().flatten().flatten();
            threads.filter_map(|thread| thread.file_name().to_string_lossy().parse().ok())
        });
        let mut calls = Self {
            system_calls: Vec::new(),
            context_switches: Vec::new(),
        };
        for thread in threads {
            let system_calls = counter(thread, Tracepoint::with_id(id));
            let context_switches = counter(thread, Software::CONTEXT_SWITCHES);
            match system_calls.and_then(|calls| Ok((calls, context_switches?))) {
                Ok((system, switches)) => {
                    calls.system_calls.push(system);
                    calls.context_switches.push(switches);
                }
                // The thread has ended since it was listed.
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => {
                    return Err(format!(
                        "perf_event_open(2) is refused ({error}): it needs root, or CAP_PERFMON \
                         and kernel.perf_event_paranoid of at most 1"
                    ));
                }
            }
        }
        Ok(calls)
    }

    /// How many there have been by now.
    ///
    /// # Errors
    ///
    /// See `read(2)`.
    pub fn count(&mut self) -> io::Result<Counts> {
        let sum = |counters: &mut [Counter]| -> io::Result<u64> {
            counters.iter_mut().map(Counter::read).sum()
        };
        Ok(Counts {
            system_calls: sum(&mut self.system_calls)?,
            context_switches: sum(&mut self.context_switches)?,
        })
    }
}

fn counter(thread: i32, event: impl Event) -> io::Result<Counter> {
    let mut counter = Builder::new(event)
        .observe_pid(thread)
        .any_cpu()
        .inherit(true)
        .include_kernel()
        .build()?;
    counter.enable()?;
    Ok(counter)
}
