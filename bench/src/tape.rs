//! What connections send and what must come back, made once and shared by all of them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ringlab::framing::{Framer, Path};

/// The largest message that a mix may hold, in bytes.
const LARGEST: usize = 1 << 20;

/// The bytes of messages that a tape aims at: more of them would only wear out the caches.
const LENGTH: usize = 1 << 20;

/// The bytes that a mix may need before each of its sizes occurs as often as its weight says.
const MOST: usize = 64 << 20;

/// Sizes of messages and how often each occurs: `32`, or `32:90,4096:10`.
///
/// A size is the number of bytes between `^` and `$`, which is the length of the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Size in bytes, weight.
    parts: Vec<(usize, u32)>,
}

impl Mix {
    /// Messages of one size, in bytes.
    pub fn of(size: usize) -> Self {
        Self {
            parts: vec![(size, 1)],
        }
    }

    /// The sum of all weights.
    fn total(&self) -> usize {
        self.parts.iter().map(|&(_, weight)| weight as usize).sum()
    }

    /// How many messages it takes until the rarest size occurs once.
    fn fewest(&self) -> usize {
        let rarest = self.parts.iter().map(|&(_, weight)| weight).min();
        self.total().div_ceil(rarest.unwrap_or(1) as usize)
    }

    /// Sizes in the proportion of their weights, as exactly as `count` of them allow.
    fn sizes(&self, count: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        for &(size, weight) in &self.parts {
            let share = (count * weight as usize).div_ceil(self.total());
            sizes.extend((0..share).map(|_| size));
        }
        sizes
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let size = size.trim().parse().ok();
            let size = size.filter(|size| (1..=LARGEST).contains(size));
            let weight = weight.trim().parse().ok();
            let weight = weight.filter(|weight| (1..=10_000).contains(weight));
            size.zip(weight).ok_or_else(|| {
                format!(
                    "`{part}`: expected SIZE or SIZE:WEIGHT, sizes from 1 to {LARGEST} bytes, \
                     weights from 1 to 10000, such as 32 or 32:90,4096:10"
                )
            })
        };
        let parts = text.split(',').map(part).collect::<Result<_, _>>()?;
        let mix = Self { parts };
        let bytes = mix
            .parts
            .iter()
            .map(|&(size, weight)| size * weight as usize);
        if bytes.sum::<usize>() / mix.total() > MOST / mix.fewest() {
            return Err(format!(
                "`{text}`: one of the rarest takes more than {} MiB of the others; use weights \
                 that differ less",
                MOST >> 20
            ));
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(size, _)] = self.parts[..] {
            return size.fmt(f);
        }
        for (index, (size, weight)) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{size}:{weight}")?;
        }
        Ok(())
    }
}

/// A cycle of requests, with the reply that the protocol's reference gives to each.
///
/// A request is one message. Connections walk along the tape, each from a place of its own, and
/// start over at its end; so nothing is made while a measurement runs, and to verify a reply is to
/// compare memory. Every message has content of its own: a reply that is lost, doubled, out of
/// order or somebody else's does not match.
#[derive(Debug)]
pub struct Tape {
    requests: Vec<u8>,
    replies: Vec<u8>,
    /// Where each request ends in `requests`, and its reply in `replies`.
    ends: Vec<(usize, usize)>,
}

impl Tape {
    /// A tape of messages from `mix` in random order; the same for the same seed.
    pub fn new(mix: &Mix, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sizes = mix.sizes(mix.fewest().max(100));
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        if mix.parts.len() == 1 {
            sizes.truncate(4);
        }
        let enough = (LENGTH / mean).min(4096);
        if sizes.len() < enough {
            sizes = mix.sizes(enough);
        }
        random.shuffle(&mut sizes);

        let (mut requests, mut replies, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut reference = Framer::with_path(Path::Reference).expect("runs everywhere");
        for size in sizes {
            let start = requests.len();
            requests.push(b'^');
            requests.extend((0..size).map(|_| match random.u8(..) {
                b'$' => b'0',
                byte => byte,
            }));
            requests.push(b'$');
            let mut message = requests[start..].to_vec();
            let replied = reference.feed(&mut message);
            replies.extend_from_slice(&message[..replied]);
            ends.push((requests.len(), replies.len()));
        }
        Self {
            requests,
            replies,
            ends,
        }
    }

    /// Requests on the tape.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing on the tape: never.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The request after `index`; the first again after the last.
    pub fn after(&self, index: usize) -> usize {
        if index + 1 == self.len() {
            0
        } else {
            index + 1
        }
    }

    /// Where a request lies among the bytes to send.
    pub fn request(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        start..self.ends[index].0
    }

    /// Where its reply lies among the bytes to receive.
    pub fn reply(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        start..self.ends[index].1
    }

    /// The bytes to send.
    pub fn requests(&self) -> &[u8] {
        &self.requests
    }

    /// The bytes to receive.
    pub fn replies(&self) -> &[u8] {
        &self.replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_shown_as_they_are_written() {
        for text in ["32", "1048576", "32:90,4096:10"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        for text in ["", "0", "1048577", "32:", "32:0", "32,,64", "a:b", "-1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tape_holds_every_size_in_its_proportion() {
        let tape = Tape::new(&"32:90,4096:10".parse().unwrap(), 1);
        let count = |size| {
            (0..tape.len())
                .filter(|&i| tape.reply(i).len() == size)
                .count()
        };
        assert_eq!(count(32) + count(4096), tape.len());
        let share = count(32) as f64 / tape.len() as f64;
        assert!((share - 0.9).abs() < 0.001, "{share}");
    }

    #[test]
    fn rare_sizes_are_as_rare_as_they_should_be() {
        let tape = Tape::new(&"32:9999,1048576:1".parse().unwrap(), 1);
        let large = (0..tape.len()).filter(|&i| tape.reply(i).len() > 32);
        assert_eq!((large.count(), tape.len()), (1, 10_000));
        assert!("1048576:9999,32:1".parse::<Mix>().is_err());
    }

    #[test]
    fn every_message_is_answered_byte_by_byte_plus_one() {
        let tape = Tape::new(&Mix::of(32), 1);
        for index in 0..tape.len() {
            let request = &tape.requests()[tape.request(index)];
            let reply = &tape.replies()[tape.reply(index)];
            let expected: Vec<_> = request[1..33].iter().map(|b| b.wrapping_add(1)).collect();
            assert_eq!(reply, expected);
        }
        assert_eq!(tape.request(tape.after(tape.len() - 1)).start, 0);
    }

    #[test]
    fn large_messages_are_few() {
        let tape = Tape::new(&Mix::of(LARGEST), 1);
        assert_eq!(tape.len(), 4);
    }
}
