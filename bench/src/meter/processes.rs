//! What processes have used, summed up.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::process::Pid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::processors::Processors;

/// Processor time that processes have used since they began, with that of their threads and
/// children that have ended and been waited for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// By their CPU clocks, to the nanosecond; of children that have ended, by clock ticks.
    pub total: Duration,
    /// By the kernel's clock ticks.
    pub user: Duration,
    /// Likewise.
    pub system: Duration,
}

/// What processes have in memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that was ever resident.
    pub peak: u64,
    /// Resident and their own: no file's, not shared.
    pub own: u64,
}

/// More threads than these are not brought up to date one by one: few of them can be running.
const MANY: usize = 64;

impl Cpu {
    /// What these have used by now.
    ///
    /// # Errors
    ///
    /// When one of them has ended.
    pub fn of(processes: &[Pid]) -> Result<Self> {
        let mut sum = Self::default();
        for &process in processes {
            let cpu = of_one(process)?;
            sum.total += cpu.total;
            sum.user += cpu.user;
            sum.system += cpu.system;
        }
        Ok(sum)
    }

    /// What was used since an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

fn of_one(process: Pid) -> Result<Cpu> {
    bring_up_to_date(process);
    let pid = nix::unistd::Pid::from_raw(process.as_raw_nonzero().get());
    let clock = clock_getcpuclockid(pid).context("cannot find a server's CPU clock")?;
    let own = clock_gettime(clock).context("cannot read a server's CPU clock")?;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // See proc_pid_stat(5): the name, in parentheses, may hold anything.
    let mut fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let mut ticks = |skip| -> Option<Duration> {
        let ticks: u64 = fields.nth(skip)?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    };
    let times = [11, 0, 0, 0].map(&mut ticks);
    let [
        Some(user),
        Some(system),
        Some(children_user),
        Some(children_system),
    ] = times
    else {
        anyhow::bail!("{path} is odd");
    };
    Ok(Cpu {
        total: Duration::from(own) + children_user + children_system,
        user: user + children_user,
        system: system + children_system,
    })
}

/// Has the kernel charge the threads of a process for what they have just been doing.
///
/// A process's CPU clock, read from outside, lacks what a thread has used since the kernel last
/// charged it, which it does at a switch and at a tick: up to 4 ms. It also does when a running
/// thread's set of processors changes, so that is changed and at once changed back.
fn bring_up_to_date(process: Pid) {
    let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let threads: Vec<_> = threads.into_iter().flatten().flatten().collect();
    if threads.len() > MANY {
        return;
    }
    for thread in threads {
        let id = thread
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else {
            continue;
        };
        // A thread that has ended, or is somebody else's, is as it is.
        let Ok(set) = sched_getaffinity(Some(id)) else {
            continue;
        };
        let other = ONLINE.iter().flat_map(Processors::iter);
        let Some(other) = other.into_iter().find(|&it| !set.is_set(it)) else {
            continue;
        };
        let mut more = set;
        more.set(other);
        if sched_setaffinity(Some(id), &more).is_ok() {
            let _ = sched_setaffinity(Some(id), &set);
        }
    }
}

/// The processors that run, which do not change while one measures.
static ONLINE: LazyLock<Option<Processors>> = LazyLock::new(|| {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    list.trim().parse().ok()
});

impl Memory {
    /// What these have.
    ///
    /// # Errors
    ///
    /// When one of them has ended.
    pub fn of(processes: &[Pid]) -> Result<Self> {
        let mut sum = Self::default();
        for process in processes {
            let path = format!("/proc/{}/status", process.as_raw_nonzero());
            let status =
                fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                let kilobytes = line.split_whitespace().nth(1)?;
                Some(kilobytes.parse::<u64>().ok()? * 1024)
            };
            let found = field("VmHWM").zip(field("RssAnon"));
            let (peak, own) = found.with_context(|| format!("{path} is odd"))?;
            sum.peak += peak;
            sum.own += own;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_read_from_outside_is_up_to_date() {
        // On a processor of its own, as servers are, and where there is another.
        let Some(online) = ONLINE.as_ref().filter(|online| online.count() > 1) else {
            return;
        };
        let (first, _) = online.split(1);
        std::thread::scope(|scope| {
            let (done, end) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                first.pin().unwrap();
                while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
            });
            let us = [rustix::process::getpid()];
            let mut last = Cpu::of(&us).unwrap().total;
            let mut steps = Vec::new();
            for _ in 0..200 {
                let now = Cpu::of(&us).unwrap().total;
                steps.push(now - last);
                last = now;
            }
            drop(done);
            assert!(steps.iter().all(|step| !step.is_zero()), "{steps:?}");
        });
    }
}
