//! Latencies over time, in the interval log format of the HdrHistogram family.
//!
//! `HistogramLogProcessor` and <https://hdrhistogram.github.io/HdrHistogramJSDemo/logparser.html>
//! read it; [`Merged`] adds up logs of several machines.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{Interval, histogram};

/// Latencies are kept in nanoseconds and their maximum is shown in milliseconds, as is usual.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// The bytes that a histogram in a log may have. One of hours in nanoseconds, to five digits, has
/// less.
const LARGEST: usize = 1 << 24;

/// Requests that no log has seen.
const MOST: u64 = 1 << 56;

/// The contents of a log.
///
/// # Errors
///
/// When an interval cannot be written in the format.
pub fn contents(base: SystemTime, intervals: &[Interval]) -> Result<Vec<u8>> {
    let mut sorted: Vec<_> = intervals.iter().collect();
    sorted.sort_by_key(|interval| interval.start);
    let mut contents = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Latencies in nanoseconds, written by ringlab-bench]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
        .begin_log_with(&mut contents, &mut serializer)?;
    for interval in sorted {
        log.write_histogram(&interval.latency, interval.start, interval.length, None)
            .map_err(|error| anyhow!("{error:?}"))?;
    }
    Ok(contents)
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
        // Line by line, because the parser looks for what a line lacks in all that follow, and
        // wants the last one to be ended like the others.
        let mut ended = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            ended.clear();
            ended.extend_from_slice(line);
            ended.push(b'\n');
            for entry in IntervalLogIterator::new(&ended) {
                entry
                    .map_err(|_| anyhow!("neither a comment nor an interval"))
                    .and_then(|entry| self.add_entry(&entry, &mut base, end, &mut deserializer))
                    .with_context(|| format!("line {}", number + 1))?;
            }
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        entry: &LogEntry<'_>,
        base: &mut Duration,
        end: &mut Duration,
        deserializer: &mut Deserializer,
    ) -> Result<()> {
        let interval = match entry {
            LogEntry::StartTime(_) => return Ok(()),
            LogEntry::BaseTime(time) => {
                *base = *time;
                return Ok(());
            }
            LogEntry::Interval(interval) => interval,
        };
        let start = base.checked_add(interval.start_timestamp());
        let ended = start.and_then(|start| start.checked_add(interval.duration()));
        let is_known = |time: &Duration| SystemTime::UNIX_EPOCH.checked_add(*time).is_some();
        let (start, ended) = start
            .zip(ended.filter(is_known))
            .context("a time beyond all times")?;
        let latency = decode(interval.encoded_histogram(), deserializer)?;
        let requests = self.latency.len().saturating_add(latency.len());
        ensure!(requests < MOST, "more requests than there can be");
        self.latency.add(&latency).context("an odd histogram")?;
        self.start = self.start.min(start);
        *end = (*end).max(ended);
        self.intervals += 1;
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

/// A histogram in the format V2 of the HdrHistogram family, compressed or not.
///
/// What it says of its own size is checked before memory is had for it.
fn decode(text: &str, deserializer: &mut Deserializer) -> Result<Histogram<u64>> {
    /// What the format begins with, as numbers: <https://github.com/HdrHistogram/HdrHistogram_c>.
    const COMPRESSED: u32 = 0x1c84_9314;
    /// Cookie, length of the payload, offset, digits, lowest and highest value, ratio.
    const HEADER: usize = 40;
    ensure!(text.len() < LARGEST, "a histogram that is too long");
    let mut bytes = BASE64_STANDARD.decode(text)?;
    let number = |bytes: &[u8], at: usize| {
        let four = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_be_bytes(*four))
    };
    if number(&bytes, 0) == Some(COMPRESSED) {
        let mut inflated = Vec::new();
        ZlibDecoder::new(bytes.get(8..).unwrap_or_default())
            .take(LARGEST as u64)
            .read_to_end(&mut inflated)
            .context("a histogram that is not whole")?;
        bytes = inflated;
    }
    let payload = bytes
        .get(HEADER..)
        .context("a histogram that is not whole")?;
    let length = number(&bytes, 4).unwrap_or(u32::MAX) as usize;
    ensure!(length <= payload.len(), "a histogram that is not whole");
    // Seven bits a byte, and the eighth says that more follow.
    let is_absurd = |digits: &[u8]| digits.iter().all(|byte| byte & 0x80 != 0);
    ensure!(
        !payload.windows(8).any(is_absurd),
        "a count beyond all counts"
    );
    deserializer
        .deserialize(&mut &bytes[..])
        .map_err(|error| anyhow!("{error}"))
}
