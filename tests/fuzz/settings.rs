//! What the environment says about how long to fuzz, and from which seed on.

use std::env;
use std::time::Duration;

/// How long: `RINGLAB_FUZZ_SECONDS`, or as long as `usual`.
pub(crate) fn time(usual: Duration) -> Duration {
    from_env("RINGLAB_FUZZ_SECONDS").map_or(usual, Duration::from_secs)
}

/// The seed to start with: `RINGLAB_FUZZ_SEED`, or 0.
pub(crate) fn first_seed() -> u64 {
    from_env("RINGLAB_FUZZ_SEED").unwrap_or(0)
}

fn from_env(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}
