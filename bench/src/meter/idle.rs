//! What processors have done: the time that has passed, less the time that they were idle.
//!
//! A side's work is all that its processors do: its process, and what the kernel does for it in
//! interrupts, softirqs and threads of its own, which nobody is charged for or somebody else is.
//! The kernel counts a processor's idle time to the nanosecond (`idle_sleeptime` and
//! `iowait_sleeptime` in `/proc/timer_list`, for root); the same number stands in `/proc/stat`, for
//! everyone, in steps of a clock tick. (The other columns there are samples taken by the timer
//! interrupt, and say little of a processor that is mostly idle.)

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use perf_event::events::Software;
use perf_event::{Builder, Counter};

use crate::processors::Processors;

const TIMER_LIST: &str = "/proc/timer_list";
const STAT: &str = "/proc/stat";

/// Where idle times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `/proc/timer_list`, to the nanosecond.
    TimerList,
    /// `/proc/stat`, in steps of a clock tick, 10 ms nearly everywhere.
    Stat,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimerList => TIMER_LIST,
            Self::Stat => STAT,
        })
    }
}

/// A clock of the idle time of some processors.
#[derive(Debug)]
pub struct IdleClock {
    source: Source,
    /// One on each processor. To read it interrupts that processor, which ends an idle spell of
    /// its, so that the spell is counted: `/proc/timer_list` knows only of those that are over.
    interrupts: Vec<Counter>,
}

/// What the clock showed.
#[derive(Debug, Clone)]
pub struct Reading {
    at: Instant,
    /// By the processor's number.
    idle: Vec<Option<Duration>>,
}

impl IdleClock {
    /// The best that can be had for these processors.
    pub fn new(processors: &Processors) -> Self {
        let interrupts = processors.iter().map(|processor| {
            Builder::new(Software::DUMMY)
                .any_pid()
                .one_cpu(processor)
                .enabled(true)
                .build()
        });
        let interrupts = interrupts.collect::<Result<Vec<_>, _>>();
        let is_readable = fs::read_to_string(TIMER_LIST)
            .is_ok_and(|text| of_timer_list(&text).iter().any(Option::is_some));
        match interrupts {
            Ok(interrupts) if is_readable => Self {
                source: Source::TimerList,
                interrupts,
            },
            _ => Self {
                source: Source::Stat,
                interrupts: Vec::new(),
            },
        }
    }

    /// Where it reads.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Reads it, which takes a tenth of a millisecond on a small machine.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn read(&mut self) -> Result<Reading> {
        for counter in &mut self.interrupts {
            counter
                .read()
                .context("cannot interrupt a processor (perf_event_open(2))")?;
        }
        let path = self.source.to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Reading {
            at: Instant::now(),
            idle: match self.source {
                Source::TimerList => of_timer_list(&text),
                Source::Stat => of_stat(&text),
            },
        })
    }
}

impl Reading {
    /// How long these processors were busy, summed up, since an earlier reading. `None` if one of
    /// them is unknown.
    pub fn busy_since(&self, earlier: &Self, processors: &Processors) -> Option<Duration> {
        let passed = self.since(earlier);
        let busy = processors.iter().map(|processor| {
            let idle = |reading: &Self| reading.idle.get(processor).copied().flatten();
            let idle = idle(self)?.saturating_sub(idle(earlier)?);
            Some(passed.saturating_sub(idle))
        });
        busy.sum()
    }

    /// The time between the two.
    pub fn since(&self, earlier: &Self) -> Duration {
        self.at.saturating_duration_since(earlier.at)
    }
}

/// By processor, what `/proc/timer_list` has: lines `cpu: N`, and below each `.NAME : N nsecs`.
fn of_timer_list(text: &str) -> Vec<Option<Duration>> {
    let mut idle = Vec::new();
    let mut processor = None;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("cpu: ") {
            processor = number.trim().parse::<usize>().ok();
        } else if let Some((name, value)) = line.split_once(':')
            && matches!(name.trim(), ".idle_sleeptime" | ".iowait_sleeptime")
            && let Some(processor) = processor
        {
            let nanoseconds = value.split_whitespace().next();
            let time = nanoseconds.and_then(|text| text.parse().ok());
            add(&mut idle, processor, time.map(Duration::from_nanos));
        }
    }
    idle
}

/// By processor, what `/proc/stat` has: lines `cpuN` whose fourth and fifth figures are idle time
/// and that of it which waited for a disk, see `proc_stat(5)`.
fn of_stat(text: &str) -> Vec<Option<Duration>> {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut idle = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.strip_prefix("cpu"));
        let Some(processor) = number.and_then(|number| number.parse().ok()) else {
            continue;
        };
        let ticks: Vec<u64> = words
            .skip(3)
            .take(2)
            .filter_map(|it| it.parse().ok())
            .collect();
        let seconds = ticks.iter().sum::<u64>() as f64 / per_second as f64;
        add(&mut idle, processor, Some(Duration::from_secs_f64(seconds)));
    }
    idle
}

fn add(idle: &mut Vec<Option<Duration>>, processor: usize, time: Option<Duration>) {
    if idle.len() <= processor {
        idle.resize(processor + 1, None);
    }
    idle[processor] = time.map(|time| idle[processor].unwrap_or_default() + time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_times_of_the_timer_list_are_those_of_both_kinds() {
        let text = "now at 7 nsecs\n\ncpu: 0\n .index: 0\n  .idle_sleeptime : 86541518510 nsecs\n  \
                    .iowait_sleeptime: 1658820923 nsecs\ncpu: 2\n  .idle_sleeptime : 1 nsecs\n";
        let idle = of_timer_list(text);
        let nanoseconds = |time: Option<Duration>| time.map(|time| time.as_nanos());
        assert_eq!(nanoseconds(idle[0]), Some(88_200_339_433));
        assert_eq!(idle[1], None);
        assert_eq!(nanoseconds(idle[2]), Some(1));
        assert_eq!(of_timer_list("now at 7 nsecs\ncpu: 0\n"), []);
    }

    #[test]
    fn idle_times_of_the_statistics_are_those_of_both_kinds() {
        let text = "cpu  1 2 3 4 5 6\ncpu0 1 2 3 400 5 6\ncpu1 1 2 3 7 0 6\nintr 8\n";
        let idle = of_stat(text);
        let tick = Duration::from_secs(1) / rustix::param::clock_ticks_per_second() as u32;
        assert_eq!(idle, [Some(tick * 405), Some(tick * 7)]);
    }

    #[test]
    fn both_sources_agree() {
        let all = Processors::allowed().unwrap();
        let mut fine = IdleClock::new(&all);
        let mut coarse = IdleClock {
            source: Source::Stat,
            interrupts: Vec::new(),
        };
        if fine.source() == Source::Stat {
            return;
        }
        let before = (fine.read().unwrap(), coarse.read().unwrap());
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            std::thread::yield_now();
        }
        let after = (fine.read().unwrap(), coarse.read().unwrap());
        let fine = after.0.busy_since(&before.0, &all).unwrap();
        let coarse = after.1.busy_since(&before.1, &all).unwrap();
        // Two ticks for each processor, and what passed between the two readings.
        let most = Duration::from_millis(25) * all.count() as u32;
        assert!(fine.abs_diff(coarse) < most, "{fine:?} {coarse:?}");
        assert!(fine > Duration::from_millis(200), "{fine:?}");
    }
}
