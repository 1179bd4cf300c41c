//! Which processors a thread, or a process that it starts, may run on.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of processors, written as in `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processors(Vec<usize>);

impl Processors {
    /// Those that this thread may use.
    ///
    /// # Errors
    ///
    /// See `sched_getaffinity(2)`.
    pub fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        let all = 0..CpuSet::MAX_CPU;
        Ok(Self(all.filter(|&index| set.is_set(index)).collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The first `count` of them, and the others.
    pub fn split(&self, count: usize) -> (Self, Self) {
        let (first, others) = self.0.split_at(count.min(self.count()));
        (Self(first.to_vec()), Self(others.to_vec()))
    }

    /// Their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// The set as the kernel reads one: groups of 32 bits in hexadecimal, the highest first, with
    /// commas between them.
    pub fn mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let group = |group: usize| {
            let bits = self.iter().filter(|index| index / 32 == group);
            bits.fold(0u32, |mask, index| mask | 1 << (index % 32))
        };
        let groups: Vec<_> = (0..groups)
            .rev()
            .map(|it| format!("{:08x}", group(it)))
            .collect();
        groups.join(",")
    }

    /// Those in either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut indices = [self.0.clone(), other.0.clone()].concat();
        indices.sort_unstable();
        indices.dedup();
        Self(indices)
    }

    /// Whether one is in both sets.
    pub fn overlap(&self, other: &Self) -> bool {
        self.0.iter().any(|index| other.0.contains(index))
    }

    /// Runs this thread on them from now on, and the processes that it starts.
    ///
    /// # Errors
    ///
    /// When one of them does not exist, or may not be used here, see `sched_setaffinity(2)`; the
    /// kernel would make do with the others.
    pub fn pin(&self) -> Result<()> {
        let mut set = CpuSet::new();
        for &index in &self.0 {
            set.set(index);
        }
        let missing = match sched_setaffinity(None, &set) {
            Ok(()) => {
                let found = Self::allowed()?;
                self.0
                    .iter()
                    .copied()
                    .filter(|index| !found.0.contains(index))
                    .collect()
            }
            Err(Errno::INVAL) => self.0.clone(),
            Err(error) => return Err(error.into()),
        };
        if !missing.is_empty() {
            bail!(
                "there is no processor {} here, or it may not be used; see `cat \
                 /sys/devices/system/cpu/online` and `taskset -p $$`",
                Self(missing)
            );
        }
        Ok(())
    }

    /// Makes sure that threads could run on all of them, without moving this one.
    ///
    /// # Errors
    ///
    /// Those of [`Processors::pin`].
    pub fn check(&self) -> Result<()> {
        let checked = thread::scope(|scope| scope.spawn(|| self.pin()).join());
        checked
            .unwrap_or_else(|_| bail!("a thread has ended"))
            .with_context(|| format!("cannot run on processors {self}"))
    }

    /// Whether a processor of one set and one of the other are threads of the same core.
    pub fn share_a_core_with(&self, other: &Self) -> bool {
        self.0.iter().any(|&index| {
            let siblings =
                format!("/sys/devices/system/cpu/cpu{index}/topology/thread_siblings_list");
            let siblings = fs::read_to_string(siblings).unwrap_or_default();
            siblings
                .trim()
                .parse::<Self>()
                .is_ok_and(|siblings| siblings.overlap(other))
        })
    }
}

impl FromStr for Processors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut indices = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| text.trim().parse::<usize>().ok();
            match (parse(first), parse(last)) {
                (Some(first), Some(last)) if first <= last && last < CpuSet::MAX_CPU => {
                    indices.extend(first..=last);
                }
                _ => return Err("expected numbers and ranges of processors: 0,2-3".to_owned()),
            }
        }
        indices.sort_unstable();
        indices.dedup();
        Ok(Self(indices))
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        while let [first, ..] = *rest {
            let run = rest
                .iter()
                .zip(first..)
                .take_while(|&(&a, b)| a == b)
                .count();
            if rest.len() < self.0.len() {
                f.write_str(",")?;
            }
            match run {
                1 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{}", first + run - 1)?,
            }
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each() {
        for (text, mask) in [
            ("0", "00000001"),
            ("1,4-5", "00000032"),
            ("3,32,65", "00000002,00000001,00000008"),
        ] {
            assert_eq!(text.parse::<Processors>().unwrap().mask(), mask);
        }
    }

    #[test]
    fn processors_that_do_not_exist_are_refused() {
        let allowed = Processors::allowed().unwrap();
        allowed.check().unwrap();
        let mut beyond = allowed.clone();
        beyond.0.push(CpuSet::MAX_CPU - 1);
        for refused in [beyond.clone(), Processors(vec![CpuSet::MAX_CPU - 1])] {
            let error = format!("{:#}", refused.check().unwrap_err());
            let named = format!("no processor {}", CpuSet::MAX_CPU - 1);
            assert!(error.contains(&named), "{error}");
        }
        assert_eq!(Processors::allowed().unwrap(), allowed, "this thread stays");
    }

    #[test]
    fn sets_are_shown_as_they_are_written() {
        for text in ["0", "0,2", "0-3", "0,2-3,5"] {
            assert_eq!(text.parse::<Processors>().unwrap().to_string(), text);
        }
        for text in ["", "a", "3-1", "0,", "99999"] {
            assert!(text.parse::<Processors>().is_err(), "{text}");
        }
    }
}
