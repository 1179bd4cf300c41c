//! Latencies over time, in the interval log format of the HdrHistogram family.
//!
//! `HistogramLogProcessor` and <https://hdrhistogram.github.io/HdrHistogramJSDemo/logparser.html>
//! read it; [`Merged`] adds up logs of several machines.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{Interval, histogram};

/// Latencies are kept in nanoseconds and their maximum is shown in milliseconds, as is usual.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Writes a log.
///
/// # Errors
///
/// When the file cannot be created or written.
pub fn write(path: &Path, base: SystemTime, intervals: &[Interval]) -> Result<()> {
    let mut sorted: Vec<_> = intervals.iter().collect();
    sorted.sort_by_key(|interval| interval.start);
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[Latencies in nanoseconds, written by ringlab-bench]")
            .with_start_time(base)
            .with_base_time(base)
            .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
            .begin_log_with(&mut file, &mut serializer)?;
        for interval in sorted {
            log.write_histogram(&interval.latency, interval.start, interval.length, None)
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write the log {}", path.display()))
}

/// What several logs say together.
#[derive(Debug)]
pub struct Merged {
    /// All latencies, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Intervals read.
    pub intervals: usize,
    /// From the first interval's start to the last one's end.
    pub length: Duration,
    /// When the first began, since the Unix epoch.
    pub start: Duration,
}

impl Merged {
    /// Reads logs and adds them up.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is not an interval log.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut merged = Self {
            latency: histogram(),
            intervals: 0,
            length: Duration::ZERO,
            start: Duration::MAX,
        };
        let mut end = Duration::ZERO;
        for path in paths {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            merged
                .add(&text, &mut end)
                .with_context(|| format!("{} is not an interval log", path.display()))?;
        }
        if merged.intervals == 0 {
            bail!("the logs hold no interval");
        }
        merged.length = end.saturating_sub(merged.start);
        Ok(merged)
    }

    fn add(&mut self, text: &[u8], end: &mut Duration) -> Result<()> {
        let mut base = Duration::ZERO;
        let mut deserializer = Deserializer::new();
        for entry in IntervalLogIterator::new(text) {
            match entry.map_err(|error| anyhow!("{error:?}"))? {
                LogEntry::StartTime(_) => {}
                LogEntry::BaseTime(time) => base = time,
                LogEntry::Interval(interval) => {
                    let encoded = interval.encoded_histogram();
                    let latency: Histogram<u64> = decode(encoded, &mut deserializer)?;
                    self.latency.add(&latency).context("an odd histogram")?;
                    let start = base + interval.start_timestamp();
                    self.start = self.start.min(start);
                    *end = (*end).max(start + interval.duration());
                    self.intervals += 1;
                }
            }
        }
        Ok(())
    }

    /// The sum as one interval, to be written as a log.
    pub fn as_interval(&self) -> (SystemTime, Interval) {
        let interval = Interval {
            start: Duration::ZERO,
            length: self.length,
            latency: self.latency.clone(),
            counts: super::Counts::default(),
        };
        (SystemTime::UNIX_EPOCH + self.start, interval)
    }
}

fn decode(text: &str, deserializer: &mut Deserializer) -> Result<Histogram<u64>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    deserializer
        .deserialize(&mut &bytes[..])
        .map_err(|error| anyhow!("{error:?}"))
}
