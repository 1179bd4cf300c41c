//! The features of io_uring that the engine `uring` can use: their names, since when they exist,
//! and how a user chooses among them.
//!
//! A choice is written as a comma list, read from left to right. It starts from `auto`, which is
//! what this kernel has of the features that are on by default, or from `none`; `+name` (or
//! `name`) asks for a feature and `-name` switches one off.

use std::fmt;
use std::str::FromStr;

/// A feature of io_uring that newer kernels have and older ones lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// One submission accepts connection after connection (Linux 5.19).
    MultishotAccept,
    /// Receives take their buffer from a ring of provided buffers when data is there (5.19).
    ProvidedBuffers,
    /// One submission receives again and again, into provided buffers (6.0).
    MultishotRecv,
    /// Connections live in the ring's own file table and never become descriptors of the process
    /// (5.15; the kernel picks their places since 5.19, and closes one whatever is pending on
    /// others since 6.13).
    DirectDescriptors,
    /// Completion work runs when this thread waits for it, and at no other time (6.1); comes with
    /// the promise that only one thread submits (SINGLE_ISSUER, 6.0).
    DeferTaskrun,
    /// Completion work waits for this thread's next system call instead of interrupting it (5.19).
    CoopTaskrun,
    /// The kernel finds the ring without looking up its descriptor (5.18).
    RegisteredRing,
    /// The submission queue has no index array between it and the kernel (6.6).
    NoSqarray,
    /// One completion for as many provided buffers as the data fills (6.10).
    Bundles,
    /// A provided buffer is used up piece by piece instead of one receive each (6.12).
    IncrementalBuffers,
    /// Waiting may last a little longer for more completions at once (6.12).
    MinWait,
    /// A receive waits for readiness first instead of trying at once (5.19).
    PollFirst,
    /// Waiting for completions does not count as waiting for I/O, as which an idle server would
    /// show; nor does the processor raise its frequency for it (6.15).
    NoIowait,
    /// Waiting polls the network device for a while (6.9, with CONFIG_NET_RX_BUSY_POLL).
    Napi,
    /// A kernel thread takes submissions without a system call (5.11 without privileges).
    Sqpoll,
}

use Feature::{
    Bundles, CoopTaskrun, DeferTaskrun, DirectDescriptors, IncrementalBuffers, MinWait,
    MultishotAccept, MultishotRecv, Napi, NoIowait, NoSqarray, PollFirst, ProvidedBuffers,
    RegisteredRing, Sqpoll,
};

impl Feature {
    /// All of them, those that are on by default first.
    pub const ALL: [Self; 15] = [
        MultishotAccept,
        ProvidedBuffers,
        MultishotRecv,
        DirectDescriptors,
        DeferTaskrun,
        CoopTaskrun,
        RegisteredRing,
        NoSqarray,
        NoIowait,
        Bundles,
        IncrementalBuffers,
        MinWait,
        PollFirst,
        Napi,
        Sqpoll,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            MultishotAccept => "multishot-accept",
            ProvidedBuffers => "provided-buffers",
            MultishotRecv => "multishot-recv",
            DirectDescriptors => "direct-descriptors",
            DeferTaskrun => "defer-taskrun",
            CoopTaskrun => "coop-taskrun",
            RegisteredRing => "registered-ring",
            NoSqarray => "no-sqarray",
            Bundles => "bundles",
            IncrementalBuffers => "incremental-buffers",
            MinWait => "min-wait",
            PollFirst => "poll-first",
            NoIowait => "no-iowait",
            Napi => "napi",
            Sqpoll => "sqpoll",
        }
    }

    /// The Linux release that brought what ringlab uses of it. Distributions backport, so this
    /// explains an absence and never decides about a presence.
    pub const fn since(self) -> &'static str {
        match self {
            Sqpoll => "5.11",
            RegisteredRing => "5.18",
            MultishotAccept | ProvidedBuffers | CoopTaskrun | PollFirst => "5.19",
            MultishotRecv => "6.0",
            DeferTaskrun => "6.1",
            NoSqarray => "6.6",
            Napi => "6.9",
            Bundles => "6.10",
            IncrementalBuffers | MinWait => "6.12",
            DirectDescriptors => "6.13",
            NoIowait => "6.15",
        }
    }

    /// Whether `auto` uses it where the kernel has it. The others have not measured as a gain on
    /// loopback, or want something of the machine (a network device, a spare processor).
    pub const fn is_default(self) -> bool {
        !matches!(
            self,
            Bundles | IncrementalBuffers | MinWait | PollFirst | Napi | Sqpoll
        )
    }

    /// What this feature is nothing without.
    pub const fn needs(self) -> Option<Self> {
        match self {
            MultishotRecv | Bundles | IncrementalBuffers => Some(ProvidedBuffers),
            _ => None,
        }
    }

    /// Whether the two cannot be had in one ring: the kernel refuses them, or one replaces the
    /// other, or kernels have mixed them up (incremental buffers in bundles), or a client can bring
    /// about that they go wrong: the kernel's thread takes work that it is given for a signal, and
    /// receives no urgent data meanwhile, which a multishot receive does not try again.
    const fn excludes(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Sqpoll, DeferTaskrun | CoopTaskrun | MultishotRecv)
                | (MultishotRecv, Sqpoll)
                | (DeferTaskrun, Sqpoll | CoopTaskrun)
                | (CoopTaskrun, Sqpoll | DeferTaskrun)
                | (Bundles, IncrementalBuffers)
                | (IncrementalBuffers, Bundles)
        )
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.name() == name)
            .ok_or_else(|| {
                format!(
                    "there is no feature `{name}`; the features are {}",
                    Features::ALL
                )
            })
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);

    /// Whether `feature` is one of them.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// These and `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// These but not `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u32))
    }

    /// These, and what they are nothing without.
    #[must_use]
    pub fn with_needed(self) -> Self {
        self.iter()
            .filter_map(Feature::needs)
            .fold(self, Self::with)
    }

    /// One after the other, in the order of [`Feature::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL
            .into_iter()
            .filter(move |&feature| self.has(feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

/// A comma list, or `none`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        for (index, feature) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{feature}")?;
        }
        Ok(())
    }
}

/// What a user wants, whatever the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Whether what is not mentioned is for the kernel to decide, or off.
    auto: bool,
    /// Asked for by name.
    on: Features,
    /// Switched off by name.
    off: Features,
}

impl Choice {
    /// What the kernel has of the features that are on by default.
    pub const AUTO: Self = Self {
        auto: true,
        on: Features::NONE,
        off: Features::NONE,
    };

    /// Whether `feature` was asked for by name.
    pub const fn asks_for(self, feature: Feature) -> bool {
        self.on.has(feature)
    }

    /// Whether `feature` is used if it can be had.
    pub const fn welcomes(self, feature: Feature) -> bool {
        self.on.has(feature) || self.auto && feature.is_default() && !self.off.has(feature)
    }

    /// What to use on a kernel that has `available`.
    ///
    /// # Errors
    ///
    /// When something was asked for that this kernel lacks.
    pub fn resolve(self, available: Features) -> Result<Features, String> {
        // With what these need, which the user may not have asked for by name.
        let missing = self.on.iter().filter(|&feature| !available.has(feature));
        let missing: Vec<_> = missing
            .map(|feature| format!("{feature} (since Linux {})", feature.since()))
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "--uring-features asks for what this kernel lacks: {}; see `ringlab probe` for \
                 what can be had",
                missing.join(", ")
            ));
        }
        let mut features = self.on;
        if self.auto {
            features = Feature::ALL
                .into_iter()
                .filter(|&feature| self.welcomes(feature) && available.has(feature))
                .filter(|&feature| !self.on.iter().any(|asked| asked.excludes(feature)))
                .fold(features, Features::with);
        }
        let is_complete =
            |feature: &Feature| feature.needs().is_none_or(|needed| features.has(needed));
        features = features.iter().filter(is_complete).collect();
        if features.has(DeferTaskrun) {
            // The one is the fallback of the other.
            features = features.without(CoopTaskrun);
        }
        Ok(features)
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut choice = Self::AUTO;
        for (index, item) in text.split(',').map(str::trim).enumerate() {
            match item {
                "auto" | "none" if index == 0 => choice.auto = item == "auto",
                "auto" | "none" => return Err(format!("`{item}` can only come first")),
                _ => match item.strip_prefix('-') {
                    Some(name) => {
                        let feature = name.parse()?;
                        choice.off = choice.off.with(feature);
                        choice.on = choice.on.without(feature);
                    }
                    None => {
                        let feature = item.strip_prefix('+').unwrap_or(item).parse()?;
                        choice.on = choice.on.with(feature);
                        choice.off = choice.off.without(feature);
                    }
                },
            }
        }
        for feature in choice.on.iter() {
            if let Some(needed) = feature.needs().filter(|&needed| choice.off.has(needed)) {
                return Err(format!("{feature} is nothing without {needed}"));
            }
            if let Some(other) = choice.on.iter().find(|&other| feature.excludes(other)) {
                return Err(format!("{feature} and {other} cannot be had together"));
            }
        }
        choice.on = choice.on.with_needed();
        Ok(choice)
    }
}

/// How the engine `uring` sets up its rings.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// What to use; the kernel has all of it.
    pub features: Features,
    /// Entries of the submission queue, see `io_uring_setup(2)`.
    pub entries: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, available: Features) -> String {
        let choice: Choice = text.parse().unwrap();
        choice.resolve(available).unwrap().to_string()
    }

    #[test]
    fn auto_takes_what_the_kernel_has_of_the_defaults() {
        assert_eq!(
            resolved("auto", Features::ALL),
            "multishot-accept,provided-buffers,multishot-recv,direct-descriptors,defer-taskrun,\
             registered-ring,no-sqarray,no-iowait"
        );
        assert_eq!(resolved("auto", Features::NONE), "none");
        let linux_5_19 = Features::ALL
            .iter()
            .filter(|feature| feature.since() <= "5.19");
        assert_eq!(
            resolved("auto", linux_5_19.collect()),
            "multishot-accept,provided-buffers,coop-taskrun,registered-ring"
        );
    }

    #[test]
    fn features_are_switched_off_with_all_that_is_nothing_without_them() {
        assert_eq!(
            resolved("-provided-buffers,-defer-taskrun", Features::ALL),
            "multishot-accept,direct-descriptors,coop-taskrun,registered-ring,no-sqarray,\
             no-iowait"
        );
    }

    #[test]
    fn none_is_where_a_ladder_starts() {
        assert_eq!(resolved("none", Features::ALL), "none");
        assert_eq!(
            resolved("none,+multishot-recv,registered-ring", Features::ALL),
            "provided-buffers,multishot-recv,registered-ring"
        );
    }

    #[test]
    fn a_polling_kernel_thread_replaces_deferred_work() {
        assert_eq!(resolved("none,+sqpoll", Features::ALL), "sqpoll");
        let features = resolved("+sqpoll", Features::ALL);
        assert!(!features.contains("taskrun"), "{features}");
    }

    #[test]
    fn what_is_asked_for_replaces_what_excludes_it() {
        let features = resolved("+coop-taskrun", Features::ALL);
        assert!(features.contains("coop-taskrun"), "{features}");
        assert!(!features.contains("defer-taskrun"), "{features}");
    }

    #[test]
    fn the_last_word_on_a_feature_counts() {
        assert_eq!(resolved("none,+bundles,-bundles", Features::ALL), "none");
    }

    #[test]
    fn what_the_kernel_lacks_is_said_with_the_release_that_has_it() {
        let choice: Choice = "+bundles".parse().unwrap();
        let error = choice.resolve(Features::ALL.without(Bundles)).unwrap_err();
        assert!(error.contains("bundles (since Linux 6.10)"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "fast",
            "--bundles",
            "bundles,none",
            "auto,,bundles",
            "+multishot-recv,-provided-buffers",
            "sqpoll,defer-taskrun",
            "coop-taskrun,defer-taskrun",
            "bundles,incremental-buffers",
        ] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
