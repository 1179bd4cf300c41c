//! The choice of a path, and the proof that it may be taken.

use std::sync::LazyLock;

use super::State;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use super::{portable, reference};

/// A way through the machine. All give the same replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// A byte at a time: the definition of what the others must do.
    Reference,
    /// Delimiters as bit masks, replies packed by moves from a table; on any processor.
    Portable,
    /// Delimiters as bit masks, replies packed by table look-up and byte shuffle (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Delimiters as bit masks, replies packed by one instruction (AVX-512 BW and VBMI2).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// All that this architecture has, from the simplest to the fastest.
    pub const ALL: &'static [Self] = &[
        Self::Reference,
        Self::Portable,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// A name for benchmarks and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor has what the path needs.
    pub fn is_available(self) -> bool {
        match self {
            Self::Reference | Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("popcnt")
            }
        }
    }

    /// From how many bytes on it is faster than the reference.
    const fn shortest(self) -> usize {
        match self {
            Self::Reference => 0,
            Self::Portable => 64,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 64,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 20,
        }
    }

    pub(super) fn runnable(self) -> Option<Runnable> {
        self.is_available().then_some(Runnable(self))
    }
}

/// A path that this processor has what it needs for: only [`Path::runnable`] makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Runnable(Path);

impl Runnable {
    /// The fastest, found once.
    pub(super) fn best() -> Self {
        static BEST: LazyLock<Runnable> = LazyLock::new(|| {
            let runnable = Path::ALL.iter().rev().find_map(|path| path.runnable());
            runnable.unwrap_or(Runnable(Path::Portable))
        });
        *BEST
    }

    #[inline]
    pub(super) fn feed(self, buf: &mut [u8], state: State) -> (usize, State) {
        // A vector that is mostly empty costs more than it saves.
        let path = if buf.len() < self.0.shortest() {
            Path::Reference
        } else {
            self.0
        };
        match path {
            Path::Reference => reference::feed(buf, state),
            Path::Portable => portable::feed(buf, state),
            // SAFETY: `path` is `self.0` here, for which `is_available` has found the features that
            // the function is compiled for, or there would be no such `Runnable`.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe { avx2::feed(buf, state) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => unsafe { avx512::feed(buf, state) },
        }
    }
}
